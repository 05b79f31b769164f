//! A real Dex, with the connector that the README tells users to set up and clients of every kind.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::{Authority, Certificate};
use crate::go::{self, Program};
use crate::issuer::{ClusterIssuer, ISSUER};
use crate::process::{PATIENCE, Process, tied};
use crate::wire;

/// The secret of the confidential client `private+app`: everything that encoding can get wrong.
pub const SECRET: &str = "a%b c+d:canary";

const PROGRAM: Program =
    Program { name: "dex", module: "dex", package: "github.com/dexidp/dex/cmd/dex", link: "" };

/// Dex's configuration, to be varied before it starts.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `expiry.idTokens`.
    pub lifetime: String,
    /// `issuerAlias` of the connector; without it Dex expects the issuer's own URL in tokens.
    pub alias: bool,
    /// `oauth2.grantTypes` lists token exchange.
    pub exchange: bool,
    /// A certificate for https other than a good one of the own CA.
    pub certificate: Option<Certificate>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { lifetime: "24h".to_owned(), alias: true, exchange: true, certificate: None }
    }
}

/// A Dex that runs, or is to run again.
pub struct Dex {
    program: PathBuf,
    folder: TempDir,
    authority: Authority,
    ports: (u16, u16),
    process: Option<Process>,
    /// What earlier processes printed.
    before: String,
}

impl Dex {
    /// Builds it if need be, and starts it with https and, for the tests' own questions, http.
    ///
    /// # Panics
    /// Without Go; when Dex does not come up.
    #[must_use]
    pub fn start(issuer: &impl ClusterIssuer, setup: &Setup) -> Self {
        let program = go::program(&PROGRAM);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = (free_port(), free_port());
        let mut dex = Self {
            program,
            folder,
            authority: Authority::new(),
            ports,
            process: None,
            before: String::new(),
        };
        dex.configure(issuer, setup);
        dex.resume();
        dex
    }

    /// The token endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}/dex/token", self.ports.0)
    }

    /// The token endpoint in plain http.
    #[must_use]
    pub fn plain_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/dex/token", self.ports.1)
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

    /// What Dex has printed in its life, all processes together.
    #[must_use]
    pub fn log(&self) -> String {
        format!("{}{}", self.before, self.process.as_ref().map_or_else(String::new, Process::output))
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
        let mut command = tied(&self.program);
        command.arg("serve").arg(self.folder.path().join("dex.yaml"));
        let mut process = Process::start("dex", command);
        let start = Instant::now();
        while self.get("/dex/healthz").is_none_or(|(status, _)| status != 200) {
            assert!(
                process.runs() && start.elapsed() < PATIENCE,
                "Dex does not come up\n{}",
                process.output()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
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
        let certificate = setup.certificate.clone().unwrap_or_else(|| self.authority.server(&[]));
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
        let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
        let grants = if setup.exchange { json!([exchange]) } else { json!(["authorization_code"]) };
        let (https, http) = self.ports;
        let config = json!({
            "issuer": format!("https://127.0.0.1:{https}/dex"),
            "storage": {"type": "memory"},
            "web": {
                "https": format!("127.0.0.1:{https}"),
                "http": format!("127.0.0.1:{http}"),
                "tlsCert": certificate.certificate,
                "tlsKey": certificate.key
            },
            "oauth2": {"grantTypes": grants},
            "expiry": {"idTokens": setup.lifetime},
            "connectors": [
                {"type": "oidc", "id": "k3s", "name": "kubernetes", "config": connector},
                {"type": "mockCallback", "id": "mock", "name": "mock", "config": {}},
                {"type": "mockPassword", "id": "password", "name": "password",
                 "config": {"username": "u", "password": "canary"}}
            ],
            "staticClients": [
                {"id": "user", "name": "the client of the original's README", "public": true},
                {"id": "incus", "name": "incus", "public": true},
                {"id": "private+app", "name": "confidential", "secret": SECRET}
            ]
        });
        // JSON is YAML.
        fs::write(self.folder.path().join("dex.yaml"), config.to_string())
            .expect("the folder can be written to");
    }

    /// An exchange asked for by hand, in plain http: the fields of a good one for this subject token, with `changed`
    /// put over them, and the client in Basic as it is. Gives status, head and body.
    ///
    /// # Panics
    /// When Dex does not answer.
    #[must_use]
    pub fn ask(&self, subject: &str, client: &str, changed: &[(&str, &str)]) -> (u16, String, Value) {
        let mut fields = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("connector_id", "k3s"),
            ("scope", "openid profile federated:id"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
            ("subject_token", subject),
        ];
        for change in changed {
            fields.retain(|(name, _)| name != &change.0);
            fields.push(*change);
        }
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let basic = STANDARD.encode(client);
        let request = format!(
            "POST /dex/token HTTP/1.1\r\nHost: dex\r\nAuthorization: Basic {basic}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, text) = self.talk(&request).expect("Dex answers");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        (status, head.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// A document, in plain http: status and whole answer; nothing when Dex is not there.
    #[must_use]
    pub fn get(&self, target: &str) -> Option<(u16, String)> {
        self.talk(&format!("GET {target} HTTP/1.1\r\nHost: dex\r\nConnection: close\r\n\r\n"))
    }

    fn talk(&self, request: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports.1)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, text))
    }
}

/// A port that was free a moment ago.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A refusal as Dex sends it, for the stand-in.
#[must_use]
pub fn refusal(status: u16, error: &str, description: &str) -> Vec<u8> {
    let mut body = json!({"error": error});
    if !description.is_empty() {
        body["error_description"] = description.into();
    }
    let reason = match status {
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        _ => "500 Internal Server Error",
    };
    wire::answer(reason, &[("Content-Type", "application/json")], &body.to_string())
}
