//! The real program under test, as a black box: variables and arguments in, a file, output and an exit code out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::check_schema;
use crate::dex::Dex;
use crate::endpoint::Endpoint;
use crate::prebuilt;
use crate::process::{Process, tied};
use crate::volume::Volume;

/// Every secret of a test has this in it, so that one search finds any that leaks.
pub const CANARY: &str = "canary";

/// The program: `SIDECAR_BIN` if that is set, else built from this workspace.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            if let Some(given) = std::env::var_os("SIDECAR_BIN") {
                return given.into();
            }
            // target/<profile>/deps/<this test>, or target/<profile>/<this program>
            let this = std::env::current_exe().expect("a program knows where it is");
            let folder = this.parent().expect("it is in a folder");
            let folder = if folder.ends_with("deps") { folder.parent().expect("a profile") } else { folder };
            let mut build = prebuilt::cargo();
            build.args(["build", "--quiet", "--package", "dexsidecar"]);
            if folder.ends_with("release") {
                build.arg("--release");
            }
            build.arg("--target-dir").arg(folder.parent().expect("a target folder"));
            let built = build.status().expect("cargo runs");
            assert!(built.success(), "dexsidecar cannot be built");
            folder.join("dexsidecar")
        })
        .clone()
}

/// The program as it ships, static and small: `SIDECAR_BIN` if that is set, else what `cargo xtask build` makes.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn shipped() -> PathBuf {
    static SHIPPED: OnceLock<PathBuf> = OnceLock::new();
    SHIPPED
        .get_or_init(|| {
            if let Some(given) = std::env::var_os("SIDECAR_BIN") {
                return given.into();
            }
            let built = prebuilt::cargo().args(["xtask", "build"]).output().expect("cargo runs");
            assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
            let said = String::from_utf8_lossy(&built.stdout).into_owned();
            said.lines().last().expect("it says where it is").into()
        })
        .clone()
}

/// A sidecar to be: it begins with an empty environment and a folder of its own for the output.
#[derive(Debug)]
pub struct Setup {
    variables: BTreeMap<String, String>,
    arguments: Vec<String>,
    folder: TempDir,
    /// The program, and what comes before its first argument.
    program: Option<Vec<PathBuf>>,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// The variables of a good exchange, without endpoint and subject token.
    ///
    /// # Panics
    /// Without a temporary folder.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = folder.path().join("token").to_str().expect("UTF-8").to_owned();
        Self { variables: BTreeMap::new(), arguments: vec![], folder, program: None }
            .set("dex_access_token_file", output)
            .set("dex_basic_auth", "user:")
            .set("dex_connector_id", "k3s")
            .set("dex_grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .set("dex_scope", "openid profile federated:id")
            .set("dex_requested_token_type", "urn:ietf:params:oauth:token-type:access_token")
            .set("dex_subject_token_type", "urn:ietf:params:oauth:token-type:id_token")
            .set("DEXSIDECAR_TERMINATION_LOG", "/dev/null")
            // As talkative as can be: all that it says is searched for secrets.
            .set("DEXSIDECAR_LOG", "debug")
            // Events and codes are stable, and messages are not.
            .set("DEXSIDECAR_LOG_FORMAT", "json")
    }

    /// Sets a variable.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// Adds arguments, split at spaces.
    #[must_use]
    pub fn arguments(mut self, line: &str) -> Self {
        self.arguments.extend(line.split_ascii_whitespace().map(str::to_owned));
        self
    }

    /// Runs this instead of the program that is built for tests: a path, and what comes before the first argument.
    #[must_use]
    pub fn program(mut self, words: &[&Path]) -> Self {
        self.program = Some(words.iter().map(|&word| word.to_owned()).collect());
        self
    }

    /// Reads the subject token from this volume.
    #[must_use]
    pub fn subject(self, volume: &Volume) -> Self {
        let path = volume.token().to_str().expect("UTF-8").to_owned();
        self.set("dex_file_subject_token", path)
    }

    /// Exchanges at this Dex, over https with its own CA.
    #[must_use]
    pub fn at(self, dex: &Dex) -> Self {
        let ca = dex.ca_file().to_str().expect("UTF-8").to_owned();
        self.set("dex_endpoint", dex.endpoint()).set("DEXSIDECAR_CA_FILE", ca)
    }

    /// Exchanges at this stand-in.
    #[must_use]
    pub fn at_stand_in(self, endpoint: &Endpoint) -> Self {
        let public = self.variables.get("dex_basic_auth").is_some_and(|client| client == "user:");
        let setup = self.set("dex_endpoint", endpoint.url());
        // The stand-in does not care who asks, so that a secret can be looked for in each test.
        if public { setup.set("dex_basic_auth", "user:canary-secret") } else { setup }
    }

    /// The output file.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.variables
            .get("dex_access_token_file")
            .map_or_else(|| self.folder.path().join("token"), PathBuf::from)
    }

    /// A folder of this sidecar's own.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The variables as `NAME=value`, as `env` takes them.
    #[must_use]
    pub fn assignments(&self) -> Vec<String> {
        self.variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// The variables as lines that a shell understands.
    #[must_use]
    pub fn environment(&self) -> Vec<String> {
        self.variables.iter().map(|(name, value)| format!("{name}='{value}'")).collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let words = self.program.clone().unwrap_or_else(|| vec![program()]);
        let mut command = tied(&words[0]);
        command.args(&words[1..]).env_clear().envs(&self.variables).args(arguments).args(&self.arguments);
        command
    }

    /// Starts it: `run`, as the original, without a command.
    #[must_use]
    pub fn run(self) -> Sidecar {
        let process = Process::start("dexsidecar", self.command(&[]));
        Sidecar { process, setup: self }
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started, or prints a secret to standard error (or, unless it is `token`, to standard output).
    #[must_use]
    pub fn done(&self, arguments: &[&str]) -> Done {
        let output = self.command(arguments).output().expect("the program can be started");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
        let done =
            Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert_no_secret(&done.stderr);
        if arguments.first() != Some(&"token") {
            assert_no_secret(&done.stdout);
        }
        done
    }
}

/// What a command came to.
#[derive(Clone, Debug)]
pub struct Done {
    /// The exit code; nothing when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    /// Its process.
    pub process: Process,
    setup: Setup,
}

impl Sidecar {
    /// The output file.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.setup.output()
    }

    /// How it was set up, for further commands in the same environment.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The token on disk, if there is one.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        fs::read_to_string(self.output()).ok()
    }

    /// Waits for a token on disk.
    ///
    /// # Panics
    /// When none comes.
    pub fn until_token(&mut self) -> String {
        self.until_another_token("")
    }

    /// Waits for a token on disk that is not this one.
    ///
    /// # Panics
    /// When none comes.
    pub fn until_another_token(&mut self, than: &str) -> String {
        let output = self.output();
        let read = || fs::read_to_string(&output).ok().filter(|token| token != than);
        self.process.until("another token is on disk", |_| read().is_some());
        read().expect("it was there a moment ago")
    }

    /// Ends it at once, as a node that runs out of memory does, and starts it again as it was set up.
    pub fn kill_and_run_again(&mut self) {
        self.process.kill();
        assert_no_secret(&self.process.output());
        self.process = Process::start("dexsidecar", self.setup.command(&[]));
    }

    /// Ends it as the kubelet does, and gives its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.process.signal(Signal::TERM);
        self.process.ended().code()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.process.kill();
        let token = self.token().filter(|token| token.len() > 20 && !std::thread::panicking());
        if let Some(token) = token {
            assert!(
                !self.process.output().contains(&token[token.len() - 20..]),
                "the issued token is in the output"
            );
        }
    }
}

/// Runs a script in a mount namespace of its own, as its root, and gives what it printed.
///
/// # Panics
/// Without user namespaces, when the script fails, or when it printed a secret.
#[must_use]
pub fn in_namespace(script: &str) -> String {
    let words = ["--user", "--map-root-user", "--mount", "sh", "-ec", script];
    let output = Command::new("unshare").args(words).output().expect("unshare is there (util-linux)");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "unshare with user namespaces (util-linux): {printed}{said}");
    assert_no_secret(&printed);
    assert_no_secret(&said);
    printed
}

/// No secret is in this text: neither as it is, nor inside a JSON Web Token.
///
/// # Panics
/// When one is.
pub fn assert_no_secret(text: &str) {
    assert!(!text.contains(CANARY), "a secret is in the output:\n{text}");
    let token = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
        .find(|word| word.len() > 60 && word.starts_with("eyJ"));
    assert!(token.is_none(), "a token is in the output:\n{text}");
}

/// The report of `check --json`, held to docs/check.schema.json.
///
/// # Panics
/// When it is not JSON, or not what the schema says.
#[must_use]
pub fn report(setup: &Setup) -> Value {
    let done = setup.done(&["check", "--json"]);
    let report = serde_json::from_str(&done.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", done.stdout, done.stderr));
    check_schema::assert_valid(&report);
    report
}

/// The step of a report that failed.
#[must_use]
pub fn failed_step(report: &Value) -> Value {
    let steps = report["steps"].as_array().cloned().unwrap_or_default();
    steps.into_iter().find(|step| step["status"] == "fail").unwrap_or(Value::Null)
}
