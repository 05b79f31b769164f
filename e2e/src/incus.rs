//! A real Incus that trusts Dex: a server that nobody has to install.

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
use crate::process::{PATIENCE, Process, tied};
use crate::sandbox::ADDRESS;

/// A server that runs, or is to run again.
pub struct Incus {
    root: PathBuf,
    folder: TempDir,
    port: u16,
    /// The CA of the Dex that it trusts.
    dex_ca: PathBuf,
    process: Option<Process>,
}

impl Incus {
    /// Fetches it, so that [`Self::start`] works without the network.
    ///
    /// # Errors
    /// What is missing.
    pub fn prepare() -> Result<(), String> {
        INCUS.unpacked().map(|_| ())
    }

    /// Starts it inside, on the address that pods reach, trusting tokens of this Dex for client and audience `incus`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(dex: &Dex) -> Self {
        // Its socket's path has a limit, and it keeps its state there.
        let folder = tempfile::Builder::new().prefix("i").tempdir().expect("a temporary folder");
        let root = prebuilt::packages(&INCUS);
        let mut incus = Self { root, folder, port: free_port(), dex_ca: dex.ca_file(), process: None };
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

    /// Where its API is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{ADDRESS}:{}", self.port)
    }

    /// Its certificate, which it signed itself.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.crt")
    }

    /// Ends it; its state stays.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it (again).
    ///
    /// # Panics
    /// When it does not come up.
    pub fn resume(&mut self) {
        let mut command = tied(&self.root.join("usr/libexec/incus/incusd"));
        self.environment(&mut command).arg("--verbose");
        let mut process = Process::start("incusd", command);
        let start = Instant::now();
        let mut ready = Command::new(self.root.join("usr/libexec/incus/incusd"));
        self.environment(&mut ready).args(["waitready", "--timeout", "60"]);
        let ready = ready.output().expect("it was unpacked");
        assert!(
            ready.status.success() && process.runs() && start.elapsed() < PATIENCE,
            "Incus does not come up: {}\n{}",
            String::from_utf8_lossy(&ready.stderr),
            process.output()
        );
        self.process = Some(process);
    }

    /// What it says of a pod's app that asks who it is, with its token or without one: `auth`, and the user's name. It answers
    /// 200 to anybody; this is what counts.
    #[must_use]
    pub fn asked_by(&self, pod: &Pod<'_>, with_token: bool) -> String {
        let token = "-H \"Authorization: Bearer $(cat /var/run/secrets/dex/token)\"";
        let token = if with_token { token } else { "" };
        let script = format!("curl -sS -k --max-time 10 {token} {}/1.0", self.url());
        let answer = match pod.exec("app", &["sh", "-c", &script]) {
            Ok(answer) => answer,
            Err(why) => return why,
        };
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let said = |name: &str| answer["metadata"][name].as_str().unwrap_or("nothing").to_owned();
        format!("auth: {}\nauth_user_name: {}\n", said("auth"), said("auth_user_name"))
    }

    fn client(&self, arguments: &[&str]) {
        let mut command = Command::new(self.root.join("usr/bin/incus"));
        let output = self.environment(&mut command).args(arguments).output().expect("it was unpacked");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "incus {}: {error}", arguments.join(" "));
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let at = |path: &str| self.root.join(path).display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let conf = self.folder.path().join("conf");
        let _ = fs::create_dir(&conf);
        command
            .env(
                "LD_LIBRARY_PATH",
                format!("{}:{}", at("usr/lib/x86_64-linux-gnu"), at("lib/x86_64-linux-gnu")),
            )
            .env("PATH", format!("{path}:{}:{}", at("usr/bin"), at("bin")))
            .env("INCUS_DIR", self.folder.path())
            .env("INCUS_CONF", conf)
            .env("INCUS_SKIP_INSTANCE_TYPES", "1")
            .env("SSL_CERT_FILE", &self.dex_ca)
            .env_remove("SSL_CERT_DIR")
    }
}
