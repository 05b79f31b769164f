//! A real Dex with the connector of the README and with clients of every kind.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::{Authority, Certificate};
use crate::dex_error_table::TokenRequest;
use crate::dex_version::{PINNED, Version};
use crate::fake_api_server::{ClusterIssuer, ISSUER};
use crate::prebuilt;
use crate::process::{PATIENCE, Process, killed_with_parent};
use crate::raw_http::{self, Reply};

/// The secret of the confidential client `private+app`. It has each character that encoding may
/// change.
pub const SECRET: &str = "a%b c+d:canary";

/// The default port of https.
const HTTPS: u16 = 443;

/// The parts of Dex's configuration that tests vary.
#[derive(Clone, Debug)]
pub struct DexSetup {
    /// The version to start.
    pub version: Version,
    /// Environment variables of the process, such as Dex's feature flags.
    pub environment: Vec<(&'static str, &'static str)>,
    /// `expiry.idTokens`, the lifetime of issued tokens.
    pub lifetime: String,
    /// The connector has `issuerAlias`. Without it Dex expects the issuer's own URL in tokens.
    pub issuer_alias: bool,
    /// There are two mock connectors, which Dex can always open.
    pub mock_connectors: bool,
    /// `oauth2.grantTypes` lists token exchange.
    pub token_exchange: bool,
    /// The certificate for https. By default it is a valid one of this Dex's CA.
    pub certificate: Option<Certificate>,
    /// The connector `k3s` is the one in the original's README, with `insecureSkipVerify`.
    pub connector_of_the_original: bool,
    /// The address to listen on.
    pub address: Ipv4Addr,
    /// The host in the issuer URL, which then has the default port of https. It must lead to
    /// [`Self::address`]. By default the URL has that address and a free port.
    pub host: Option<&'static str>,
    /// Further entries of `staticClients`.
    pub clients: Vec<Value>,
    /// `expiry.signingKeys`, by default Dex's own six hours. Dex checks every 30 s whether a
    /// rotation is due.
    pub key_rotation: Option<String>,
    /// Settings of the connector that replace the usual ones. Null removes a setting.
    pub connector: Value,
    /// Further entries of `connectors`.
    pub connectors: Vec<Value>,
}

impl Default for DexSetup {
    fn default() -> Self {
        Self {
            version: PINNED,
            environment: vec![],
            lifetime: "24h".to_owned(),
            issuer_alias: true,
            mock_connectors: true,
            token_exchange: true,
            certificate: None,
            connector_of_the_original: false,
            address: Ipv4Addr::LOCALHOST,
            host: None,
            clients: vec![],
            key_rotation: None,
            connector: json!({}),
            connectors: vec![],
        }
    }
}

/// A Dex that runs, or is stopped for now.
pub struct Dex {
    program: PathBuf,
    environment: Vec<(&'static str, &'static str)>,
    directory: TempDir,
    authority: Authority,
    address: Ipv4Addr,
    host: Option<&'static str>,
    ports: (u16, u16),
    /// The port of Dex's Prometheus metrics.
    metrics_port: u16,
    process: Option<Process>,
    /// The log of earlier processes.
    earlier_log: String,
}

impl Dex {
    /// Builds it, so that [`Self::start`] needs no network.
    ///
    /// # Errors
    /// If Go is missing or the build fails.
    pub fn prepare() -> Result<(), String> {
        PINNED.program.built().map(|_| ())
    }

    /// Builds it unless it is in the cache, and starts it. It serves https, and http for the
    /// requests of the tests themselves.
    ///
    /// # Panics
    /// If Go is missing or Dex does not start.
    #[must_use]
    pub fn start(issuer: &impl ClusterIssuer, setup: &DexSetup) -> Self {
        let mut dex = Self::configured(issuer, setup);
        dex.resume();
        dex
    }

    /// Starts it with a configuration with which it exits. It can be configured and resumed
    /// afterwards.
    ///
    /// # Panics
    /// If Go is missing, and if Dex does not exit, or exits with 0.
    #[must_use]
    pub fn start_expecting_exit(issuer: &impl ClusterIssuer, setup: &DexSetup) -> Self {
        let mut dex = Self::configured(issuer, setup);
        let mut process = Process::start("dex", dex.command());
        let status = process.wait();
        assert!(!status.success(), "Dex exits with {status}\n{}", process.output());
        dex.earlier_log = process.output();
        dex
    }

    fn configured(issuer: &impl ClusterIssuer, setup: &DexSetup) -> Self {
        let dex = Self {
            program: prebuilt::program(&setup.version.program),
            environment: setup.environment.clone(),
            directory: tempfile::tempdir().expect("a temporary directory"),
            authority: Authority::new(),
            address: setup.address,
            host: setup.host,
            ports: (setup.host.map_or_else(free_port, |_| HTTPS), free_port()),
            metrics_port: free_port(),
            process: None,
            earlier_log: String::new(),
        };
        dex.configure(issuer, setup);
        dex
    }

    fn command(&self) -> Command {
        let mut command = killed_with_parent(&self.program);
        command
            .arg("serve")
            .arg(self.directory.path().join("dex.yaml"))
            .envs(self.environment.iter().copied());
        command
    }

    /// Its issuer URL.
    #[must_use]
    pub fn issuer(&self) -> String {
        match self.host {
            Some(host) => format!("https://{host}/dex"),
            None => format!("https://{}:{}/dex", self.address, self.ports.0),
        }
    }

    /// The token endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}/token", self.issuer())
    }

    /// The token endpoint over plain http.
    #[must_use]
    pub fn http_endpoint(&self) -> String {
        format!("http://{}:{}/dex/token", self.address, self.ports.1)
    }

    /// The file of the CA that signs its certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.authority.file()
    }

    /// The CA that signs its certificate.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Replaces the files of CA and certificate by others, and lets the running Dex reload them.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn renew_authority(&mut self) {
        self.authority.renew();
        let _ = self.authority.server(&[&self.address.to_string()]);
        self.signal(Signal::HUP);
    }

    /// The log of this Dex, with that of its earlier processes.
    #[must_use]
    pub fn log(&self) -> String {
        format!("{}{}", self.earlier_log, self.process.as_ref().map_or_else(String::new, Process::output))
    }

    /// Waits until its log contains a text. Dex logs a refusal before it responds, but another
    /// thread reads its output.
    ///
    /// # Panics
    /// If that does not happen.
    pub fn until_logged(&self, text: &str) {
        let start = Instant::now();
        while !self.log().contains(text) {
            assert!(start.elapsed() < PATIENCE, "Dex does not log {text:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the process. Its storage is memory, so its keys are lost.
    pub fn stop(&mut self) {
        self.earlier_log = self.log();
        self.process = None;
    }

    /// Starts it (again), on the same ports and with the configuration on disk.
    ///
    /// # Panics
    /// If it does not start.
    pub fn resume(&mut self) {
        let mut process = Process::start("dex", self.command());
        let start = Instant::now();
        while self.get("/dex/healthz").is_none_or(|reply| reply.status != 200) {
            assert!(
                process.is_running() && start.elapsed() < PATIENCE,
                "Dex does not start\n{}",
                process.output()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        self.process = Some(process);
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Writes the configuration. It takes effect when Dex is started.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn configure(&self, issuer: &impl ClusterIssuer, setup: &DexSetup) {
        let address = setup.address.to_string();
        let names = [Some(&*address), setup.host].into_iter().flatten().collect::<Vec<_>>();
        let certificate = setup.certificate.clone().unwrap_or_else(|| self.authority.server(&names));
        let mut connector = json!({
            "issuer": issuer.url(),
            "rootCAs": [issuer.ca_file()],
            "scopes": ["openid"],
            "userNameKey": "sub",
            "getUserInfo": false
        });
        if setup.issuer_alias {
            connector["issuerAlias"] = ISSUER.into();
        }
        if let (Some(connector), Some(more)) = (connector.as_object_mut(), setup.connector.as_object()) {
            connector.extend(more.clone());
            connector.retain(|_, value| !value.is_null());
        }
        let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
        let grants = if setup.token_exchange { json!([exchange]) } else { json!(["authorization_code"]) };
        let of_the_original = json!({
            "issuer": issuer.url(),
            "clientID": "dex",
            "scopes": ["openid", "federated:id"],
            "userNameKey": "sub",
            "getUserInfo": false,
            "issuerAlias": ISSUER,
            "insecureSkipVerify": true
        });
        let k3s = if setup.connector_of_the_original { &of_the_original } else { &connector };
        let (https, http) = self.ports;
        let address = self.address;
        let mut config = json!({
            "issuer": self.issuer(),
            "storage": {"type": "memory"},
            "web": {
                "https": format!("{address}:{https}"),
                "http": format!("{address}:{http}"),
                "tlsCert": certificate.certificate,
                "tlsKey": certificate.key
            },
            "telemetry": {"http": format!("{address}:{}", self.metrics_port)},
            "oauth2": {"grantTypes": grants},
            "expiry": {"idTokens": setup.lifetime},
            "connectors": [
                {"type": "oidc", "id": "k3s", "name": "kubernetes", "config": k3s},
                {"type": "oidc", "id": "kubernetes", "name": "the connector of the README", "config": connector}
            ],
            "staticClients": [
                {"id": "user", "name": "the client of the original's README", "public": true},
                {"id": "incus", "name": "incus", "public": true},
                {"id": "private+app", "name": "confidential", "secret": SECRET},
                {"id": "target", "name": "trusts user", "secret": "canary-target", "trustedPeers": ["user"]}
            ]
        });
        if let Some(connectors) = config["connectors"].as_array_mut().filter(|_| setup.mock_connectors) {
            connectors.push(json!({"type": "mockCallback", "id": "mock", "name": "mock", "config": {}}));
            connectors.push(json!({
                "type": "mockPassword",
                "id": "password",
                "name": "password",
                "config": {"username": "u", "password": "canary"}
            }));
        }
        if let Some(connectors) = config["connectors"].as_array_mut() {
            connectors.extend(setup.connectors.clone());
        }
        if let Some(clients) = config["staticClients"].as_array_mut() {
            clients.extend(setup.clients.clone());
        }
        if let Some(rotation) = &setup.key_rotation {
            config["expiry"]["signingKeys"] = rotation.as_str().into();
        }
        // JSON is YAML.
        fs::write(self.directory.path().join("dex.yaml"), config.to_string())
            .expect("the temporary directory is writable");
    }

    /// Sends a request to the token endpoint over plain http.
    ///
    /// # Panics
    /// If Dex does not respond.
    #[must_use]
    pub fn request_token(&self, request: &TokenRequest<'_>) -> Reply {
        raw_http::send(self.http_address(), &request.to_http()).expect("Dex responds")
    }

    /// Fetches a document over plain http; nothing if Dex is not running.
    #[must_use]
    pub fn get(&self, target: &str) -> Option<Reply> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: dex\r\nConnection: close\r\n\r\n");
        raw_http::send(self.http_address(), &request)
    }

    /// The number of requests for a path below the issuer, such as `/keys`, that this process has
    /// served, by its own metrics.
    ///
    /// # Panics
    /// If Dex does not respond.
    #[must_use]
    pub fn requests_served(&self, path: &str) -> u64 {
        let request = "GET /metrics HTTP/1.0\r\nHost: dex\r\n\r\n";
        let metrics =
            raw_http::send((self.address, self.metrics_port).into(), request).expect("Dex responds").body;
        let label = format!("handler=\"{path}\"");
        let counts = metrics
            .lines()
            .filter(|line| line.starts_with("http_requests_total{") && line.contains(&label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        counts.sum()
    }

    fn http_address(&self) -> SocketAddr {
        (self.address, self.ports.1).into()
    }
}

/// A port that was free a moment ago on every address. It lies below the kernel's ephemeral ports,
/// so that no outgoing connection takes it.
///
/// # Panics
/// If no port is free.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const PORTS: std::ops::Range<u32> = 21_000..30_000;
    let count = PORTS.end - PORTS.start;
    // Programs that run at the same time start at different ports.
    let begin = std::process::id().wrapping_mul(97) % count;
    (0..count)
        .map(|_| PORTS.start + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % count)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok())
        .expect("a free port")
}
