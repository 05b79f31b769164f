//! What all tests share: a real Dex at `https://dex.example.com/dex`, the subject token, and tokens
//! with one flaw each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dexsidecar_e2e::consumer_page::{Page, Transcript};
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::dex_error_table::TokenRequest;
use dexsidecar_e2e::fake_api_server::FakeApiServer;
use dexsidecar_e2e::process::{PATIENCE, Process, killed_with_parent};
use dexsidecar_e2e::sidecar::program;
use dexsidecar_e2e::signing_key::{claims, now};
use dexsidecar_e2e::token_verifier::TokenVerifier;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] =
    &[test!(the_verifier_of_these_tests_accepts_a_valid_token_only, &[])];

/// The host of Dex, which /etc/hosts has.
const HOST: &str = "dex.example.com";
/// The issuer in the pages.
pub(crate) const ISSUER: &str = "https://dex.example.com/dex";
/// The CA file in the pages.
pub(crate) const CA_FILE: &str = "/etc/dex/ca.crt";
/// The directory on PATH of the commands in the pages.
pub(crate) const BIN: &str = "/run/bin";
/// PATH of the programs and commands in the pages.
const PATH: &str = "/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The home directory of the commands in the pages.
pub(crate) const HOME: &str = "/run/home";

/// The clients of Dex: one for each consumer. [`DexSetup`] has `incus`.
const CLIENTS: [&str; 11] = [
    "app",
    "curl",
    "envoy",
    "git",
    "incus",
    "kubernetes",
    "oauth2-proxy",
    "openbao",
    "otel",
    "prometheus",
    "vmauth",
];

/// What all tests share.
pub(crate) struct World {
    issuer: FakeApiServer,
    pub(crate) dex: Dex,
    /// For each client a token that was signed by another key and is valid for a day.
    other_key: BTreeMap<&'static str, String>,
    /// For each client a token of the present key that expires soon.
    expiring: BTreeMap<&'static str, String>,
}

/// A kind of token that a consumer is asked with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Valid,
    Missing,
    Expired,
    OtherAudience,
    OtherKey,
}

impl World {
    /// Starts Dex, and writes the files that the pages name.
    pub(crate) fn start() -> Self {
        let issuer = FakeApiServer::start();
        let public = |id: &str| json!({"id": id, "name": id, "public": true});
        let setup = DexSetup {
            host: Some(HOST),
            clients: CLIENTS.iter().filter(|id| **id != "incus").map(|id| public(id)).collect(),
            ..DexSetup::default()
        };
        let mut dex = Dex::start(&issuer, &setup);
        let of_each = |dex: &Dex| CLIENTS.iter().map(|id| (*id, issue(dex, &issuer, id))).collect();
        let other_key = of_each(&dex);
        // Dex keeps its keys in memory, so the tokens from now on have another one.
        dex.stop();
        dex.configure(&issuer, &DexSetup { lifetime: "20s".to_owned(), ..setup });
        dex.resume();
        let expiring = of_each(&dex);
        write(CA_FILE, &fs::read(dex.ca_file()).expect("a CA file"));
        write("/run/secrets/subject/token", issuer.token(3_600).as_bytes());
        fs::create_dir_all(BIN).expect("/run is empty");
        fs::copy(program(), Path::new(BIN).join("dexsidecar")).expect("the program was built");
        Self { issuer, dex, other_key, expiring }
    }

    /// Starts another Dex, which trusts the subject token, too.
    pub(crate) fn another_dex(&self, setup: &DexSetup) -> Dex {
        Dex::start(&self.issuer, setup)
    }

    /// A token for this client, issued now.
    pub(crate) fn issue(&self, client: &str) -> String {
        issue(&self.dex, &self.issuer, client)
    }

    /// A token of this kind for this client. Waits until it has expired if that is its flaw.
    pub(crate) fn token(&self, kind: Kind, client: &str) -> Option<String> {
        match kind {
            Kind::Valid => Some(self.issue(client)),
            Kind::Missing => None,
            Kind::Expired => {
                let token = self.expiring[client].clone();
                until_expired(&token);
                Some(token)
            }
            Kind::OtherAudience => Some(self.issue("app")),
            Kind::OtherKey => Some(self.other_key[client].clone()),
        }
    }

    /// The answers of a server to a token of each kind, as a table for its page. `ask` gives the
    /// answer to one token. An expired token may be accepted for a moment longer, from a cache.
    pub(crate) fn answers(
        &self,
        client: &str,
        accepted: &str,
        mut ask: impl FnMut(Option<&str>) -> String,
    ) -> String {
        let mut table = "| token | answer |\n|---|---|\n".to_owned();
        let rows = [
            (Kind::Valid, "valid"),
            (Kind::Missing, "none"),
            (Kind::Expired, "expired"),
            (Kind::OtherAudience, "issued for another audience"),
            (Kind::OtherKey, "signed by another key"),
        ];
        for (kind, name) in rows {
            let token = self.token(kind, client);
            let start = Instant::now();
            let mut answer = ask(token.as_deref());
            while kind == Kind::Expired && answer == accepted && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(500));
                answer = ask(token.as_deref());
            }
            assert_eq!(answer == accepted, kind == Kind::Valid, "{client}, {kind:?}: {answer}");
            table += &format!("| {name} | {answer} |\n");
        }
        table
    }

    /// A server that checks tokens for this audience.
    pub(crate) fn verifier(
        &self,
        address: &str,
        audience: &'static str,
        body: &'static str,
    ) -> TokenVerifier {
        let keys = self.dex.get("/dex/keys").expect("Dex answers").json();
        TokenVerifier::start(address, ISSUER.to_owned(), audience, keys, body)
    }
}

/// Exchanges the subject token for a token of this client.
fn issue(dex: &Dex, issuer: &FakeApiServer, client: &str) -> String {
    let subject = issuer.token(600);
    let reply = dex.request_token(
        &TokenRequest::exchange_of(&subject)
            .by(&format!("{client}:"))
            .with(&[("connector_id", "kubernetes")]),
    );
    let token = reply.json()["access_token"].as_str().map(str::to_owned);
    token.unwrap_or_else(|| panic!("{client}: {}", reply.status))
}

/// A transcript whose commands find the programs of the pages on PATH, and have these variables.
pub(crate) fn transcript(variables: &[(&str, &str)]) -> Transcript {
    fs::create_dir_all(HOME).expect("/run is writable");
    Transcript::with(&[&[("PATH", PATH), ("HOME", HOME)], variables].concat())
}

/// Puts a program on PATH under this name.
pub(crate) fn install(name: &str, program: &Path) {
    let _ = std::os::unix::fs::symlink(program, Path::new(BIN).join(name));
}

/// The configuration file of a page with no output, as on a machine where no dexsidecar runs.
pub(crate) fn without_outputs(config: &str) -> String {
    config.split_once("    outputs:\n").expect("the outputs come last").0.to_owned()
}

/// The one token that `dexsidecar token` has cached below this `XDG_RUNTIME_DIR`.
pub(crate) fn cached_token(runtime: &Path) -> String {
    let files = fs::read_dir(runtime.join("dexsidecar")).expect("the cache").flatten();
    let files: Vec<_> = files.map(|entry| entry.path()).collect();
    let is_token = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "token");
    let tokens: Vec<_> = files.iter().filter(is_token).collect();
    assert_eq!(tokens.len(), 1, "{files:?}");
    fs::read_to_string(tokens[0]).expect("a token")
}

/// Writes a file and its directory.
pub(crate) fn write(path: &str, content: &[u8]) {
    fs::create_dir_all(Path::new(path).parent().expect("an absolute path")).expect("a writable directory");
    fs::write(path, content).expect("a writable directory");
}

/// Waits until a token has expired.
pub(crate) fn until_expired(token: &str) {
    let expires = claims(token)["exp"].as_u64().expect("a token of Dex expires");
    until("a token of 20 s has expired", || expires < now());
}

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "this never happened: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Starts a program that ends with the test. Its environment has PATH and these variables only.
pub(crate) fn start(name: &str, program: &Path, arguments: &str, variables: &[(&str, &str)]) -> Process {
    let mut command = killed_with_parent(program);
    command.args(arguments.split_ascii_whitespace()).env_clear().env("PATH", PATH);
    command.envs(variables.iter().copied());
    Process::start(name, command)
}

/// A running dexsidecar with the configuration of a page.
pub(crate) struct Sidecar {
    pub(crate) process: Process,
    /// The first output.
    output: PathBuf,
    _directory: TempDir,
}

impl Sidecar {
    /// Writes the files of a page, and starts dexsidecar with one of them.
    pub(crate) fn start(page: &Page, file: &str) -> Self {
        page.write_files();
        Self::start_with(page, file, |config| config.to_owned())
    }

    /// Starts dexsidecar with a changed copy of a file of a page.
    pub(crate) fn start_with(page: &Page, file: &str, change: impl Fn(&str) -> String) -> Self {
        let config = change(page.file(file));
        let document: Value = serde_saphyr::from_str(&config).expect("YAML");
        let path = document["tokens"][0]["outputs"][0]["path"].as_str().expect("a path");
        let output = PathBuf::from(path);
        fs::create_dir_all(output.parent().expect("an absolute path")).expect("/run is writable");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("config.yaml");
        fs::write(&file, config).expect("a temporary directory");
        let mut command = killed_with_parent(&program());
        command.env_clear().arg("--config").arg(file).envs([
            // Everything is logged, so that every line is searched for secrets.
            ("DEXSIDECAR_LOG", "debug"),
            ("DEXSIDECAR_LOG_FORMAT", "json"),
            ("DEXSIDECAR_TERMINATION_LOG", "/dev/null"),
        ]);
        Self { process: Process::start("dexsidecar", command), output, _directory: directory }
    }

    /// Waits for a token in the first output that is not this one.
    pub(crate) fn until_another_token(&mut self, than: &str) -> String {
        let output = self.output.clone();
        let read = || fs::read_to_string(&output).ok().filter(|token| token != than);
        self.process.until("another token is on disk", |_| read().is_some());
        read().expect("a token file")
    }
}

fn the_verifier_of_these_tests_accepts_a_valid_token_only(world: &World) {
    let verifier = world.verifier("127.0.0.1:9199", "curl", "hello\n");
    let table = world.answers("curl", "200", |token| http_status("http://127.0.0.1:9199/", token));
    assert_eq!(table.matches("| 401 |").count(), 4, "{table}");
    assert_eq!(
        verifier.refusals(),
        ["no token", "expired", "another audience", "unknown signing key"],
        "each flaw is the reason of the refusal"
    );
}

/// The status of a GET request of curl with this token.
pub(crate) fn http_status(url: &str, token: Option<&str>) -> String {
    let mut command = Command::new("curl");
    command.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "30", "--insecure"]);
    if let Some(token) = token {
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let output = command.arg(url).output().expect("curl is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
