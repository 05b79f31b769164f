//! A real control plane: etcd and kube-apiserver, which issues ServiceAccount tokens
//! (TokenRequest), and kubectl. It is set up as the README describes.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dexsidecar_fetch::counterparts::{API_SERVER, CONTROLLER_MANAGER, ETCD, KUBECTL, SCHEDULER};
use rcgen::KeyPair;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::dex::free_port;
use crate::fake_api_server::{ClusterIssuer, ISSUER};
use crate::prebuilt;
use crate::process::{PATIENCE, Process, killed_with_parent};

/// The token of the cluster's administrator.
const ADMIN: &str = "canary-admin";
/// The token of the node's kubelet.
const KUBELET: &str = "canary-kubelet";

/// The controllers of pods and of the workloads that create them.
const CONTROLLERS_USED: &str = "daemonset-controller,deployment-controller,job-controller,\
                                node-lifecycle-controller,replicaset-controller,\
                                root-ca-certificate-publisher-controller,serviceaccount-controller,\
                                statefulset-controller";

/// The parts of a control plane that tests vary.
#[derive(Clone, Debug)]
pub struct PlaneSetup {
    /// The address that the API server listens on.
    pub address: Ipv4Addr,
    /// The port of the API server, by default a free one.
    pub port: Option<u16>,
    /// Further names in the API server's certificate.
    pub names: Vec<&'static str>,
    /// Further arguments of the API server.
    pub arguments: Vec<&'static str>,
    /// Further environment variables of the API server.
    pub environment: Vec<(&'static str, &'static str)>,
}

impl Default for PlaneSetup {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST,
            port: None,
            names: vec![],
            arguments: vec![],
            environment: vec![],
        }
    }
}

/// A running control plane.
pub struct ControlPlane {
    directory: TempDir,
    authority: Authority,
    setup: PlaneSetup,
    port: u16,
    etcd_port: u16,
    kubectl: PathBuf,
    // Fields are dropped in this order: clients stop before their servers.
    controllers: Vec<Process>,
    api_server: Option<Process>,
    _etcd: Process,
}

impl ControlPlane {
    /// Builds it unless it is in the cache, starts it on loopback and allows anonymous access to
    /// the issuer's keys, which Dex needs.
    ///
    /// # Panics
    /// If Go is missing or it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(PlaneSetup::default())
    }

    /// Builds its programs, so that [`Self::start`] and [`Self::start_controllers`] need no
    /// network.
    ///
    /// # Panics
    /// If Go is missing.
    pub fn prepare() {
        for program in [ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER, KUBECTL] {
            let _ = prebuilt::program(&program);
        }
    }

    /// As [`Self::start`], at an address that pods can reach.
    #[must_use]
    pub fn start_at(address: Ipv4Addr) -> Self {
        Self::start_with(PlaneSetup { address, ..PlaneSetup::default() })
    }

    /// As [`Self::start`], with this set-up.
    #[must_use]
    pub fn start_with(setup: PlaneSetup) -> Self {
        let (etcd, kubectl) = (prebuilt::program(&ETCD), prebuilt::program(&KUBECTL));
        let _ = prebuilt::program(&API_SERVER);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (etcd_port, peer_port) = (free_port(), free_port());
        let mut command = killed_with_parent(&etcd);
        let [client, peer] = [etcd_port, peer_port].map(|port| format!("http://127.0.0.1:{port}"));
        command
            .arg("--data-dir")
            .arg(directory.path().join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"]);
        let etcd = Process::start("etcd", command);
        let mut plane = Self {
            directory,
            authority: Authority::new(),
            port: setup.port.unwrap_or_else(free_port),
            setup,
            etcd_port,
            kubectl,
            controllers: vec![],
            api_server: None,
            _etcd: etcd,
        };
        plane.write_kubeconfig();
        plane.rotate_key();
        plane.resume();
        let role = "--clusterrole=system:service-account-issuer-discovery";
        plane.kubectl(&[
            "create",
            "clusterrolebinding",
            "dex-discovery",
            role,
            "--group=system:unauthenticated",
        ]);
        plane.kubectl(&["create", "serviceaccount", "app"]);
        plane
    }

    /// Runs kubectl as the administrator and gives its standard output.
    ///
    /// # Panics
    /// If kubectl fails: with its standard error.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.kubectl_command().args(arguments).output().expect("kubectl was built");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {}: {error}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A kubectl command with this cluster's kubeconfig.
    #[must_use]
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(self.path("kubeconfig"));
        command
    }

    /// Starts `kubectl proxy`, through which requests need no kubectl of their own. Gives its port.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn proxy(&self) -> (u16, Process) {
        let port = free_port();
        let mut command = killed_with_parent(&self.kubectl);
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(["proxy", "--port", &port.to_string()]);
        let mut process = Process::start("kubectl proxy", command);
        process.until_line("Starting to serve", 1);
        (port, process)
    }

    /// A token of the ServiceAccount `app` with the audience `dex`. Its lifetime is at least ten
    /// minutes.
    #[must_use]
    pub fn token(&self, seconds: u64) -> String {
        let duration = format!("{seconds}s");
        self.kubectl(&["create", "token", "app", "--audience", "dex", "--duration", &duration])
            .trim()
            .to_owned()
    }

    /// Replaces the signing key; the API server uses the new one when it is started again. The old
    /// key is not published then and its tokens are not accepted.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn rotate_key(&self) {
        let key = KeyPair::generate().expect("ring makes keys");
        fs::write(self.path("sa.key"), key.serialize_pem()).expect("the temporary directory is writable");
        fs::write(self.path("sa.pub"), key.public_key_pem()).expect("the temporary directory is writable");
    }

    /// Stops the API server. etcd keeps running.
    pub fn stop(&mut self) {
        self.api_server = None;
    }

    /// Starts the API server (again) and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn resume(&mut self) {
        let mut command = killed_with_parent(&prebuilt::program(&API_SERVER));
        let address = self.setup.address.to_string();
        let names = [&["kubernetes.default.svc", &*address], &*self.setup.names].concat();
        let serving = self.authority.server(&names);
        let (url, client) = (self.url(), self.authority.client("kube-apiserver"));
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .arg(format!("--service-account-issuer={ISSUER}"))
            .arg(format!("--service-account-jwks-uri={url}/openid/v1/jwks"))
            .args(self.file("service-account-signing-key-file", "sa.key"))
            .args(self.file("service-account-key-file", "sa.pub"))
            .args(self.file("token-auth-file", "tokens.csv"))
            .arg("--client-ca-file")
            .arg(self.authority.file())
            .arg("--tls-cert-file")
            .arg(serving.certificate)
            .arg("--tls-private-key-file")
            .arg(serving.key)
            .arg("--kubelet-certificate-authority")
            .arg(self.authority.file())
            .arg("--kubelet-client-certificate")
            .arg(client.certificate)
            .arg("--kubelet-client-key")
            .arg(client.key)
            .args(["--kubelet-preferred-address-types=InternalIP", "--authorization-mode=Node,RBAC"])
            .arg(format!("--bind-address={address}"))
            .arg("--service-cluster-ip-range=10.96.0.0/24")
            .arg(format!("--secure-port={}", self.port))
            .args(&self.setup.arguments)
            .envs(self.setup.environment.iter().copied());
        let mut process = Process::start("kube-apiserver", command);
        let start = Instant::now();
        while !self.is_ready() {
            assert!(
                process.is_running() && start.elapsed() < PATIENCE,
                "kube-apiserver:\n{}",
                process.output()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        self.api_server = Some(process);
    }

    /// Starts the scheduler, and the controllers of pods and of the workloads that create them.
    pub fn start_controllers(&mut self) {
        let mut controllers = killed_with_parent(&prebuilt::program(&CONTROLLER_MANAGER));
        controllers
            .args(["--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0"])
            .arg(format!("--controllers={CONTROLLERS_USED}"))
            .arg("--root-ca-file")
            .arg(self.authority.file());
        let mut scheduler = killed_with_parent(&prebuilt::program(&SCHEDULER));
        scheduler.args(["--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0"]);
        for (name, mut command) in [("kube-controller-manager", controllers), ("kube-scheduler", scheduler)] {
            command.arg("--kubeconfig").arg(self.path("kubeconfig"));
            self.controllers.push(Process::start(name, command));
        }
    }

    /// The output of the scheduler and of the controllers.
    #[must_use]
    pub fn controllers_output(&self) -> String {
        self.controllers.iter().map(Process::output).collect()
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// The kubelet's kubeconfig, for the user `system:node:node`.
    ///
    /// # Panics
    /// If the file cannot be written.
    #[must_use]
    pub fn kubelet_kubeconfig(&self) -> PathBuf {
        let path = self.path("kubelet.kubeconfig");
        fs::write(&path, self.config_of(KUBELET)).expect("the temporary directory is writable");
        path
    }

    /// The CA of this control plane.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The path of kubectl.
    #[must_use]
    pub fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// Applies a manifest and gives the output of kubectl, with warnings.
    ///
    /// # Errors
    /// The output of kubectl, if the API server refuses the manifest.
    ///
    /// # Panics
    /// If kubectl cannot be started.
    pub fn apply(&self, manifest: &str, flags: &[&str]) -> Result<String, String> {
        let path = tempfile::NamedTempFile::new().expect("a temporary directory");
        fs::write(path.path(), manifest).expect("the temporary file is writable");
        let mut command = self.kubectl_command();
        let output =
            command.args(["apply", "-f"]).arg(path.path()).args(flags).output().expect("kubectl was built");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let printed = text(output.stdout) + &text(output.stderr);
        if output.status.success() { Ok(printed) } else { Err(printed) }
    }

    /// Sends the API server a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.api_server {
            process.signal(signal);
        }
    }

    fn is_ready(&self) -> bool {
        let asked = self.kubectl_command().args(["get", "--raw", "/readyz", "--request-timeout=2s"]).output();
        // The API server is ready before it has created the default roles.
        let role = ["get", "clusterrole", "system:service-account-issuer-discovery", "--request-timeout=2s"];
        asked.is_ok_and(|output| output.status.success())
            && self.kubectl_command().args(role).output().is_ok_and(|output| output.status.success())
    }

    fn config_of(&self, token: &str) -> String {
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": self.url(), "certificate-authority": self.ca_file()}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x"
        });
        config.to_string()
    }

    fn write_kubeconfig(&self) {
        fs::write(self.path("kubeconfig"), self.config_of(ADMIN))
            .expect("the temporary directory is writable");
        let lines =
            format!("{ADMIN},admin,1,\"system:masters\"\n{KUBELET},system:node:node,2,\"system:nodes\"\n");
        fs::write(self.path("tokens.csv"), lines).expect("the temporary directory is writable");
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }

    fn file(&self, flag: &str, name: &str) -> [String; 2] {
        [format!("--{flag}"), self.path(name).display().to_string()]
    }
}

impl ClusterIssuer for ControlPlane {
    fn url(&self) -> String {
        format!("https://{}:{}", self.setup.address, self.port)
    }

    fn ca_file(&self) -> PathBuf {
        self.authority.file()
    }
}
