//! The program under test as a black box: variables and arguments go in; a token file, output and
//! an exit code come out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::check_schema;
use crate::dex::Dex;
use crate::fake_dex::FakeDex;
use crate::log_events;
use crate::prebuilt;
use crate::process::{PATIENCE, Process, Stream, killed_with_parent};
use crate::projected_volume::ProjectedVolume;

/// Every secret of a test contains this word, so that one search finds each that leaks.
pub const CANARY: &str = "canary";

/// The program: `SIDECAR_BIN` if that is set, else the debug build of this workspace.
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
            let this = std::env::current_exe().expect("/proc/self/exe");
            let directory = this.parent().expect("a parent directory");
            let is_test = directory.ends_with("deps");
            let directory = if is_test { directory.parent().expect("a profile") } else { directory };
            let mut build = prebuilt::cargo();
            build.args(["build", "--quiet", "--package", "dexsidecar"]);
            if directory.ends_with("release") {
                build.arg("--release");
            }
            build.arg("--target-dir").arg(directory.parent().expect("a target directory"));
            let built = build.status().expect("cargo runs");
            assert!(built.success(), "dexsidecar cannot be built");
            directory.join("dexsidecar")
        })
        .clone()
}

/// The program as it ships, static and optimised: `SIDECAR_BIN` if that is set, else the result of
/// `cargo xtask build`.
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
            let printed = String::from_utf8_lossy(&built.stdout).into_owned();
            printed.lines().last().expect("the path of the program").into()
        })
        .clone()
}

/// The variables and arguments of a sidecar, with a directory of its own for the output. Nothing of
/// this process's environment is in it.
#[derive(Debug)]
pub struct Setup {
    variables: BTreeMap<String, String>,
    arguments: Vec<String>,
    directory: TempDir,
    /// The program and its first arguments; none is the program that is built for tests.
    program: Option<Vec<PathBuf>>,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// Variables for an exchange that succeeds, except for the endpoint and the subject token.
    ///
    /// # Panics
    /// Without a temporary directory.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let output = directory.path().join("token").to_str().expect("UTF-8").to_owned();
        Self { variables: BTreeMap::new(), arguments: vec![], directory, program: None }
            .set("dex_access_token_file", output)
            .set("dex_basic_auth", "user:")
            .set("dex_connector_id", "k3s")
            .set("dex_grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .set("dex_scope", "openid profile federated:id")
            .set("dex_requested_token_type", "urn:ietf:params:oauth:token-type:access_token")
            .set("dex_subject_token_type", "urn:ietf:params:oauth:token-type:id_token")
            .set("DEXSIDECAR_TERMINATION_LOG", "/dev/null")
            // Everything is logged, so that every line is searched for secrets.
            .set("DEXSIDECAR_LOG", "debug")
            // Events, codes and fields are stable; messages are not.
            .set("DEXSIDECAR_LOG_FORMAT", "json")
    }

    /// Sets a variable.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// Reads this configuration file, and has no variable of a token.
    ///
    /// # Panics
    /// When the path is not UTF-8.
    #[must_use]
    pub fn with_config(mut self, file: &Path) -> Self {
        self.variables.retain(|name, _| !name.starts_with("dex_"));
        self.set("DEXSIDECAR_CONFIG", file.to_str().expect("UTF-8"))
    }

    /// Adds arguments, split at spaces.
    #[must_use]
    pub fn arguments(mut self, line: &str) -> Self {
        self.arguments.extend(line.split_ascii_whitespace().map(str::to_owned));
        self
    }

    /// Runs this program with these first arguments instead of the program that is built for tests.
    #[must_use]
    pub fn program(mut self, words: &[&Path]) -> Self {
        self.program = Some(words.iter().map(|&word| word.to_owned()).collect());
        self
    }

    /// Reads the subject token from this volume.
    #[must_use]
    pub fn subject(self, volume: &ProjectedVolume) -> Self {
        let path = volume.token().to_str().expect("UTF-8").to_owned();
        self.set("dex_file_subject_token", path)
    }

    /// Exchanges at this Dex, over HTTPS with its own CA.
    #[must_use]
    pub fn at(self, dex: &Dex) -> Self {
        let ca = dex.ca_file().to_str().expect("UTF-8").to_owned();
        self.set("dex_endpoint", dex.endpoint()).set("DEXSIDECAR_CA_FILE", ca)
    }

    /// Exchanges at this fake Dex.
    #[must_use]
    pub fn at_fake(self, dex: &FakeDex) -> Self {
        let public = self.variables.get("dex_basic_auth").is_some_and(|client| client == "user:");
        let setup = self.set("dex_endpoint", dex.url());
        // The fake accepts every client, so that each test has a secret that may leak.
        if public { setup.set("dex_basic_auth", "user:canary-secret") } else { setup }
    }

    /// The path of the token file.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.variables
            .get("dex_access_token_file")
            .map_or_else(|| self.directory.path().join("token"), PathBuf::from)
    }

    /// A temporary directory of this sidecar. The token file is in it unless a variable says
    /// otherwise.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The variables as arguments of `env`: `NAME=value`.
    #[must_use]
    pub fn assignments(&self) -> Vec<String> {
        self.variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// The variables as words of a shell: `NAME='value'`.
    #[must_use]
    pub fn environment(&self) -> Vec<String> {
        self.variables.iter().map(|(name, value)| format!("{name}='{value}'")).collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let words = self.program.clone().unwrap_or_else(|| vec![program()]);
        let mut command = killed_with_parent(&words[0]);
        command.args(&words[1..]).env_clear().envs(&self.variables).args(arguments).args(&self.arguments);
        command
    }

    /// Starts `run`, without naming it, as users of the original do.
    #[must_use]
    pub fn run(self) -> Sidecar {
        let process = Process::start("dexsidecar", self.command(&[]));
        Sidecar { process, setup: self }
    }

    /// Runs `once` until it has written a token or logs its first failure. After a failure it is
    /// ended with SIGTERM, and its exit code is 1: no timeout could be both short and long enough.
    ///
    /// # Panics
    /// When it cannot be started, time runs out, or it prints a secret.
    #[must_use]
    pub fn once_until_failure(&self) -> Completed {
        let mut process = Process::start("dexsidecar", self.command(&["once"]));
        let start = Instant::now();
        let code = loop {
            if let Some(code) = process.wait_within(Duration::from_millis(20)) {
                break code;
            }
            if process.logged("attempt_failed") > 0 {
                process.signal_program(Signal::TERM);
                break process.wait().code();
            }
            assert!(start.elapsed() < PATIENCE, "neither a token nor a failure\n{}", process.timeline());
        };
        let text = |from: Stream| {
            let lines = process.lines().into_iter().filter(|line| line.from == from);
            lines.fold(String::new(), |text, line| text + &line.text + "\n")
        };
        Completed { code, stdout: text(Stream::Output), stderr: text(Stream::Error) }
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started, or prints a secret. Only `token` prints one, to standard output.
    #[must_use]
    pub fn execute(&self, arguments: &[&str]) -> Completed {
        let output = self.command(arguments).output().expect("the program can be started");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
        let completed = Completed {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert_no_secret(&completed.stderr);
        if arguments.first() != Some(&"token") {
            assert_no_secret(&completed.stdout);
        }
        completed
    }
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Completed {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Completed {
    /// The log lines in JSON that a selector picks (see [`log_events`]).
    #[must_use]
    pub fn events(&self, selector: &str) -> Vec<Value> {
        log_events::select(&self.stderr, selector)
    }

    /// The number of log lines that a selector picks.
    #[must_use]
    pub fn logged(&self, selector: &str) -> usize {
        self.events(selector).len()
    }
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    /// Its process.
    pub process: Process,
    setup: Setup,
}

impl Sidecar {
    /// The path of the token file.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.setup.output()
    }

    /// Its set-up, for further commands with the same variables.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The content of the token file, if there is one.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        fs::read_to_string(self.output()).ok()
    }

    /// Waits for a token file.
    ///
    /// # Panics
    /// When time runs out.
    pub fn until_token(&mut self) -> String {
        self.until_another_token("")
    }

    /// Waits for a token file with another content than this.
    ///
    /// # Panics
    /// When time runs out.
    pub fn until_another_token(&mut self, than: &str) -> String {
        let output = self.output();
        let read = || fs::read_to_string(&output).ok().filter(|token| token != than);
        self.process.until("another token is on disk", |_| read().is_some());
        read().expect("a token file")
    }

    /// Kills it, as a node that runs out of memory does, and starts it again with the same set-up.
    pub fn kill_and_run_again(&mut self) {
        self.process.kill();
        assert_no_secret(&self.process.output());
        self.process = Process::start("dexsidecar", self.setup.command(&[]));
    }

    /// Ends it with SIGTERM, as the kubelet does, and returns its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.process.signal(Signal::TERM);
        self.process.wait().code()
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

/// Runs a script as root of a mount namespace of its own, and returns its standard output.
///
/// # Panics
/// Without user namespaces, when the script fails, or when it prints a secret.
#[must_use]
pub fn in_namespace(script: &str) -> String {
    let words = ["--user", "--map-root-user", "--mount", "sh", "-ec", script];
    let output = Command::new("unshare").args(words).output().expect("unshare is there (util-linux)");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "unshare with user namespaces (util-linux): {printed}{errors}");
    assert_no_secret(&printed);
    assert_no_secret(&errors);
    printed
}

/// Asserts that a text contains neither a secret of a test nor a JSON Web Token.
///
/// # Panics
/// When it does.
pub fn assert_no_secret(text: &str) {
    assert!(!text.contains(CANARY), "a secret is in the output:\n{text}");
    let token = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
        .find(|word| word.len() > 60 && word.starts_with("eyJ"));
    assert!(token.is_none(), "a token is in the output:\n{text}");
}

/// The report of `check --json`, which must match docs/check.schema.json.
///
/// # Panics
/// When it is not JSON, or does not match the schema.
#[must_use]
pub fn report(setup: &Setup) -> Value {
    let check = setup.execute(&["check", "--json"]);
    let report = serde_json::from_str(&check.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", check.stdout, check.stderr));
    check_schema::assert_valid(&report);
    report
}

/// The failed step of a report; null when none failed.
#[must_use]
pub fn failed_step(report: &Value) -> Value {
    let steps = report["steps"].as_array().cloned().unwrap_or_default();
    steps.into_iter().find(|step| step["status"] == "fail").unwrap_or(Value::Null)
}
