//! A real Dex, with the connector that the README tells users to set up and clients of every kind.

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
use crate::dex_error_table::Question;
use crate::dex_version::{PINNED, Version};
use crate::issuer::{ClusterIssuer, ISSUER};
use crate::prebuilt;
use crate::process::{PATIENCE, Process, tied};
use crate::wire::{self, Reply};

/// The secret of the confidential client `private+app`: everything that encoding can get wrong.
pub const SECRET: &str = "a%b c+d:canary";

/// Dex's configuration, to be varied before it starts.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The version that is started.
    pub version: Version,
    /// Environment variables of the process: Dex's feature flags.
    pub environment: Vec<(&'static str, &'static str)>,
    /// `expiry.idTokens`.
    pub lifetime: String,
    /// `issuerAlias` of the connector; without it Dex expects the issuer's own URL in tokens.
    pub alias: bool,
    /// Two mock connectors beside those of the cluster. They can always be opened.
    pub mocks: bool,
    /// `oauth2.grantTypes` lists token exchange.
    pub exchange: bool,
    /// A certificate for https other than a good one of the own CA.
    pub certificate: Option<Certificate>,
    /// The connector `k3s` as the original's README prints it, certificate unchecked and all.
    pub as_printed: bool,
    /// Where it listens.
    pub address: Ipv4Addr,
    /// Clients besides the usual ones, as `staticClients` has them.
    pub clients: Vec<Value>,
    /// `expiry.signingKeys`, if it is not Dex's own six hours. Dex looks each half minute.
    pub rotation: Option<String>,
    /// Settings of the connector, put over the usual ones; null takes one away.
    pub connector: Value,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            version: PINNED,
            environment: vec![],
            lifetime: "24h".to_owned(),
            alias: true,
            mocks: true,
            exchange: true,
            certificate: None,
            as_printed: false,
            address: Ipv4Addr::LOCALHOST,
            clients: vec![],
            rotation: None,
            connector: json!({}),
        }
    }
}

/// A Dex that runs, or is to run again.
pub struct Dex {
    program: PathBuf,
    environment: Vec<(&'static str, &'static str)>,
    folder: TempDir,
    authority: Authority,
    address: Ipv4Addr,
    ports: (u16, u16),
    /// The port of Dex's Prometheus metrics.
    metrics_port: u16,
    process: Option<Process>,
    /// What earlier processes printed.
    before: String,
}

impl Dex {
    /// Builds it, so that [`Self::start`] works without the network.
    ///
    /// # Errors
    /// Without Go; when the build fails.
    pub fn prepare() -> Result<(), String> {
        PINNED.program.built().map(|_| ())
    }

    /// Builds it if need be, and starts it with https and, for the tests' own questions, http.
    ///
    /// # Panics
    /// Without Go; when Dex does not come up.
    #[must_use]
    pub fn start(issuer: &impl ClusterIssuer, setup: &Setup) -> Self {
        let mut dex = Self::configured(issuer, setup);
        dex.resume();
        dex
    }

    /// Starts it with a configuration with which it exits. It can be configured anew and resumed.
    ///
    /// # Panics
    /// Without Go; when Dex does not exit by itself, or exits with 0.
    #[must_use]
    pub fn start_expecting_exit(issuer: &impl ClusterIssuer, setup: &Setup) -> Self {
        let mut dex = Self::configured(issuer, setup);
        let mut process = Process::start("dex", dex.command());
        let status = process.ended();
        assert!(!status.success(), "Dex exits with {status}\n{}", process.output());
        dex.before = process.output();
        dex
    }

    fn configured(issuer: &impl ClusterIssuer, setup: &Setup) -> Self {
        let dex = Self {
            program: prebuilt::program(&setup.version.program),
            environment: setup.environment.clone(),
            folder: tempfile::tempdir().expect("a temporary folder"),
            authority: Authority::new(),
            address: setup.address,
            ports: (free_port(), free_port()),
            metrics_port: free_port(),
            process: None,
            before: String::new(),
        };
        dex.configure(issuer, setup);
        dex
    }

    fn command(&self) -> Command {
        let mut command = tied(&self.program);
        command.arg("serve").arg(self.folder.path().join("dex.yaml")).envs(self.environment.iter().copied());
        command
    }

    /// What it calls itself.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("https://{}:{}/dex", self.address, self.ports.0)
    }

    /// The token endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}/token", self.issuer())
    }

    /// The token endpoint in plain http.
    #[must_use]
    pub fn plain_endpoint(&self) -> String {
        format!("http://{}:{}/dex/token", self.address, self.ports.1)
    }

    /// The CA to trust for https.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.authority.file()
    }

    /// The CA itself, to make certificates of.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Puts another CA and a certificate of it over the files of the first, and has Dex read them: the process stays.
    ///
    /// # Panics
    /// When the temporary folder is gone.
    pub fn renew_authority(&mut self) {
        self.authority.renew();
        let _ = self.authority.server(&[&self.address.to_string()]);
        self.signal(Signal::HUP);
    }

    /// What Dex has printed in its life, all processes together.
    #[must_use]
    pub fn log(&self) -> String {
        format!("{}{}", self.before, self.process.as_ref().map_or_else(String::new, Process::output))
    }

    /// Waits until its log has these words. Dex logs a refusal before it answers, but its output is read by another thread.
    ///
    /// # Panics
    /// When it never has them.
    pub fn until_logged(&self, words: &str) {
        let start = Instant::now();
        while !self.log().contains(words) {
            assert!(start.elapsed() < PATIENCE, "Dex's log does not have {words:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the process at once. With memory storage its keys are lost.
    pub fn stop(&mut self) {
        self.before = self.log();
        self.process = None;
    }

    /// Starts it (again), on the same ports and with the configuration there is.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn resume(&mut self) {
        let mut process = Process::start("dex", self.command());
        let start = Instant::now();
        while self.get("/dex/healthz").is_none_or(|reply| reply.status != 200) {
            assert!(
                process.runs() && start.elapsed() < PATIENCE,
                "Dex does not come up\n{}",
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

    /// Writes the configuration; it holds from the next start.
    ///
    /// # Panics
    /// When the temporary folder is gone.
    pub fn configure(&self, issuer: &impl ClusterIssuer, setup: &Setup) {
        let certificate =
            setup.certificate.clone().unwrap_or_else(|| self.authority.server(&[&setup.address.to_string()]));
        let mut connector = json!({
            "issuer": issuer.url(),
            "rootCAs": [issuer.ca_file()],
            "scopes": ["openid"],
            "userNameKey": "sub",
            "getUserInfo": false
        });
        if setup.alias {
            connector["issuerAlias"] = ISSUER.into();
        }
        if let (Some(connector), Some(more)) = (connector.as_object_mut(), setup.connector.as_object()) {
            connector.extend(more.clone());
            connector.retain(|_, value| !value.is_null());
        }
        let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
        let grants = if setup.exchange { json!([exchange]) } else { json!(["authorization_code"]) };
        let as_printed = json!({
            "issuer": issuer.url(),
            "clientID": "dex",
            "scopes": ["openid", "federated:id"],
            "userNameKey": "sub",
            "getUserInfo": false,
            "issuerAlias": ISSUER,
            "insecureSkipVerify": true
        });
        let k3s = if setup.as_printed { &as_printed } else { &connector };
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
                {"type": "oidc", "id": "kubernetes", "name": "as our README has it", "config": connector}
            ],
            "staticClients": [
                {"id": "user", "name": "the client of the original's README", "public": true},
                {"id": "incus", "name": "incus", "public": true},
                {"id": "private+app", "name": "confidential", "secret": SECRET},
                {"id": "target", "name": "trusts user", "secret": "canary-target", "trustedPeers": ["user"]}
            ]
        });
        if let Some(connectors) = config["connectors"].as_array_mut().filter(|_| setup.mocks) {
            connectors.push(json!({"type": "mockCallback", "id": "mock", "name": "mock", "config": {}}));
            connectors.push(json!({
                "type": "mockPassword",
                "id": "password",
                "name": "password",
                "config": {"username": "u", "password": "canary"}
            }));
        }
        if let Some(clients) = config["staticClients"].as_array_mut() {
            clients.extend(setup.clients.clone());
        }
        if let Some(rotation) = &setup.rotation {
            config["expiry"]["signingKeys"] = rotation.as_str().into();
        }
        // JSON is YAML.
        fs::write(self.folder.path().join("dex.yaml"), config.to_string())
            .expect("the folder can be written to");
    }

    /// Asks a question in plain http.
    ///
    /// # Panics
    /// When Dex does not answer.
    #[must_use]
    pub fn ask(&self, question: &Question<'_>) -> Reply {
        wire::ask(self.plain_address(), &question.request()).expect("Dex answers")
    }

    /// A document, in plain http; nothing when Dex is not there.
    #[must_use]
    pub fn get(&self, target: &str) -> Option<Reply> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: dex\r\nConnection: close\r\n\r\n");
        wire::ask(self.plain_address(), &request)
    }

    /// How many requests for a path below the issuer this process has answered, as `/keys`, by its own metrics.
    ///
    /// # Panics
    /// When Dex does not answer.
    #[must_use]
    pub fn answered(&self, path: &str) -> u64 {
        let request = "GET /metrics HTTP/1.0\r\nHost: dex\r\n\r\n";
        let metrics = wire::ask((self.address, self.metrics_port).into(), request).expect("Dex answers").body;
        let label = format!("handler=\"{path}\"");
        let counts = metrics
            .lines()
            .filter(|line| line.starts_with("http_requests_total{") && line.contains(&label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        counts.sum()
    }

    fn plain_address(&self) -> SocketAddr {
        (self.address, self.ports.1).into()
    }
}

/// A port that was free a moment ago on every address, below those that the kernel gives to whoever asks for any: a connection
/// that begins in the next moment does not take it.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    static TURN: AtomicU32 = AtomicU32::new(0);
    const PORTS: std::ops::Range<u32> = 21_000..30_000;
    let count = PORTS.end - PORTS.start;
    // Programs that run side by side begin at different places.
    let begin = std::process::id().wrapping_mul(97) % count;
    (0..count)
        .map(|_| PORTS.start + (begin + TURN.fetch_add(1, Ordering::Relaxed)) % count)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok())
        .expect("a free port")
}
