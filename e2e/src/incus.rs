//! A real Incus server that trusts Dex. It is unpacked from Debian packages, not installed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use dexsidecar_fetch::counterparts::INCUS;
use serde_json::Value;
use tempfile::TempDir;

use crate::dex::{Dex, free_port};
use crate::pod::Pod;
use crate::prebuilt;
use crate::process::{PATIENCE, Process, killed_with_parent};
use crate::sandbox::ADDRESS;

/// A server that runs, or is stopped for now.
pub struct Incus {
    root: PathBuf,
    directory: TempDir,
    port: u16,
    /// The CA of the Dex that it trusts.
    dex_ca: PathBuf,
    process: Option<Process>,
}

impl Incus {
    /// Fetches it, so that [`Self::start`] needs no network.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn prepare() -> Result<(), String> {
        INCUS.unpacked().map(|_| ())
    }

    /// Starts it inside the sandbox, on the address that pods reach. It trusts tokens of this Dex
    /// for the client and audience `incus`.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(dex: &Dex) -> Self {
        Self::start_at(dex, free_port())
    }

    /// The same with this port.
    #[must_use]
    pub fn start_at(dex: &Dex, port: u16) -> Self {
        // A short prefix, since the path of the socket in it must be short.
        let directory = tempfile::Builder::new().prefix("i").tempdir().expect("a temporary directory");
        let root = prebuilt::packages(&INCUS);
        let mut incus = Self { root, directory, port, dex_ca: dex.ca_file(), process: None };
        incus.resume();
        let issuer = dex.issuer();
        let address = format!("core.https_address={ADDRESS}:{}", incus.port);
        incus.client(&[
            "config",
            "set",
            &address,
            &format!("oidc.issuer={issuer}"),
            "oidc.client.id=incus",
            "oidc.audience=incus",
            "oidc.claim=name",
        ]);
        incus
    }

    /// The URL of its API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{ADDRESS}:{}", self.port)
    }

    /// The file of its self-signed certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("server.crt")
    }

    /// Stops it. Its state is kept.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it (again).
    ///
    /// # Panics
    /// If it does not start.
    pub fn resume(&mut self) {
        let mut command = killed_with_parent(&self.root.join("usr/libexec/incus/incusd"));
        self.environment(&mut command).arg("--verbose");
        let mut process = Process::start("incusd", command);
        let start = Instant::now();
        let mut ready = Command::new(self.root.join("usr/libexec/incus/incusd"));
        self.environment(&mut ready).args(["waitready", "--timeout", "60"]);
        let ready = ready.output().expect("it was unpacked");
        assert!(
            ready.status.success() && process.is_running() && start.elapsed() < PATIENCE,
            "Incus does not start: {}\n{}",
            String::from_utf8_lossy(&ready.stderr),
            process.output()
        );
        self.process = Some(process);
    }

    /// How it authenticates the app of a pod, with its token or without one: `auth` and the user's
    /// name. It responds with 200 in both cases.
    #[must_use]
    pub fn authentication_of(&self, pod: &Pod<'_>, with_token: bool) -> String {
        let token = "-H \"Authorization: Bearer $(cat /var/run/secrets/dex/token)\"";
        let token = if with_token { token } else { "" };
        let script = format!("curl -sS -k --max-time 10 {token} {}/1.0", self.url());
        let answer = match pod.exec("app", &["sh", "-c", &script]) {
            Ok(answer) => answer,
            Err(why) => return why,
        };
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let member = |name: &str| answer["metadata"][name].as_str().unwrap_or("none").to_owned();
        format!("auth: {}\nauth_user_name: {}\n", member("auth"), member("auth_user_name"))
    }

    /// The path of its command line, which runs with [`Self::libraries`].
    #[must_use]
    pub fn client_program(&self) -> PathBuf {
        self.root.join("usr/bin/incus")
    }

    /// The value of `LD_LIBRARY_PATH` for its programs.
    #[must_use]
    pub fn libraries(&self) -> String {
        let at = |path: &str| self.root.join(path).display().to_string();
        format!("{}:{}", at("usr/lib/x86_64-linux-gnu"), at("lib/x86_64-linux-gnu"))
    }

    fn client(&self, arguments: &[&str]) {
        let mut command = Command::new(self.client_program());
        let output = self.environment(&mut command).args(arguments).output().expect("it was unpacked");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "incus {}: {error}", arguments.join(" "));
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let at = |path: &str| self.root.join(path).display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let conf = self.directory.path().join("conf");
        let _ = fs::create_dir(&conf);
        command
            .env("LD_LIBRARY_PATH", self.libraries())
            .env("PATH", format!("{path}:{}:{}", at("usr/bin"), at("bin")))
            .env("INCUS_DIR", self.directory.path())
            .env("INCUS_CONF", conf)
            .env("INCUS_SKIP_INSTANCE_TYPES", "1")
            .env("SSL_CERT_FILE", &self.dex_ca)
            .env_remove("SSL_CERT_DIR")
    }
}
