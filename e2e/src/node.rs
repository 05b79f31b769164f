//! A real node: kubelet, containerd and runc in their own namespaces. Images are imported, since
//! there is no registry.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dexsidecar_fetch::counterparts::{CONTAINERD, CONTAINERD_SHIM, CTR, KUBELET, RUNC};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app_image;
use crate::control_plane::ControlPlane;
use crate::dex::Dex;
use crate::fake_api_server::ClusterIssuer as _;
use crate::image::Image;
use crate::prebuilt;
use crate::process::{PATIENCE, Process, killed_with_parent};
use crate::raw_http;
use crate::sandbox::{self, ADDRESS, BRIDGE};

/// The environment variable with the path of the sidecar's image, set inside the sandbox.
pub const IMAGE: &str = "DEXSIDECAR_E2E_IMAGE";

/// The path of the sidecar's image, inside the sandbox.
///
/// # Panics
/// Outside the sandbox.
#[must_use]
pub fn sidecar_image() -> PathBuf {
    std::env::var_os(IMAGE).expect("it is set inside the sandbox").into()
}

/// A cluster of one node.
pub struct Node {
    /// The control plane.
    pub plane: ControlPlane,
    directory: TempDir,
    runtime: PathBuf,
    // Fields are dropped in this order: the kubelet stops before containerd.
    kubelet: Mutex<Option<Process>>,
    containerd: Option<Process>,
    /// The port and the process of `kubectl proxy`, through which objects are read without starting
    /// a kubectl for each.
    proxy: (u16, Process),
}

impl Node {
    /// Builds and fetches what a node and a Dex need, so that both start without network and cargo.
    /// Gives the path of the sidecar's image, for [`IMAGE`].
    ///
    /// # Errors
    /// Names what is missing.
    pub fn prepare() -> Result<PathBuf, String> {
        RUNC.unpacked()?;
        for program in [CONTAINERD, CONTAINERD_SHIM, CTR] {
            program.built()?;
        }
        KUBELET.built()?;
        Dex::prepare()?;
        ControlPlane::prepare();
        let _ = app_image::root();
        Ok(Image::build_workspace(&["--amd64"]).archive)
    }

    /// Starts control plane and node inside the sandbox, waits until the node is ready, and imports
    /// the images of app and sidecar.
    ///
    /// # Panics
    /// If something does not start: with its output.
    #[must_use]
    pub fn start() -> Self {
        let mut plane = ControlPlane::start_at(ADDRESS);
        plane.start_controllers();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let runtime = prebuilt::packages(&RUNC);
        let proxy = plane.proxy();
        let mut node = Self { plane, directory, runtime, kubelet: Mutex::default(), containerd: None, proxy };
        node.start_containerd();
        let app = app_image::write_app(node.directory.path());
        node.import(&app);
        node.import(&sidecar_image());
        node.start_kubelet();
        node
    }

    /// Imports the images of an archive.
    ///
    /// # Panics
    /// If containerd does not accept it.
    pub fn import(&self, archive: &Path) {
        let output = self.ctr(&["images", "import", &archive.display().to_string()]).output();
        let output = output.expect("ctr was built");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A command of `ctr`, the client of containerd.
    #[must_use]
    pub fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(prebuilt::program(&CTR));
        command.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io"]).args(arguments);
        command
    }

    /// The output of kubelet, containerd and the controllers.
    #[must_use]
    pub fn output(&self) -> String {
        let output = |process: &Option<Process>| process.as_ref().map_or_else(String::new, Process::output);
        format!(
            "-- kubelet\n{}-- containerd\n{}-- controllers\n{}",
            output(&self.kubelet()),
            output(&self.containerd),
            self.plane.controllers_output()
        )
    }

    /// The object at a path of the API; null if there is none.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        self.text(path).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// The text at a path of the API; nothing if there is none.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let address = (Ipv4Addr::LOCALHOST, self.proxy.0).into();
        let reply = raw_http::send(address, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"))?;
        (reply.status == 200).then_some(reply.body)
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// If it does not hold in time.
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE, "this never happened: {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Applies an object in a namespace.
    ///
    /// # Errors
    /// The output of kubectl, if the API server refuses the object.
    pub fn apply(&self, namespace: &str, object: &Value) -> Result<String, String> {
        self.plane.apply(&object.to_string(), &["--namespace", namespace])
    }

    /// Creates a namespace with the ServiceAccount `app` and with a Dex's CA in the ConfigMap
    /// `dex-ca`. It enforces the Pod Security Standard `restricted` or `privileged`.
    pub fn namespace(&self, name: &str, restricted: bool, dex: &Dex) {
        let standard = if restricted { "restricted" } else { "privileged" };
        self.plane.kubectl(&["create", "namespace", name]);
        let label = format!("pod-security.kubernetes.io/enforce={standard}");
        self.plane.kubectl(&["label", "namespace", name, &label]);
        self.plane.kubectl(&["--namespace", name, "create", "serviceaccount", "app"]);
        let file = format!("--from-file=ca.pem={}", dex.ca_file().display());
        self.plane.kubectl(&["--namespace", name, "create", "configmap", "dex-ca", &file]);
    }

    /// The directory of a container's memory cgroup.
    #[must_use]
    pub fn cgroup_of(&self, container: &str) -> Option<PathBuf> {
        let own = sandbox::cgroup();
        let version_1 = Path::new("/sys/fs/cgroup/memory").join(&own[1..]);
        let version_2 = Path::new("/sys/fs/cgroup").join(&own[1..]);
        find(if version_1.exists() { &version_1 } else { &version_2 }, container)
    }

    fn start_containerd(&mut self) {
        let (runtime, directory) = (self.runtime.display(), self.directory.path().display());
        let config = format!(
            r#"
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.nri.v1.nri",
]
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{app}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      runtime_path = "{shim}"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = "{runtime}/usr/sbin/runc"
        SystemdCgroup = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{runtime}/usr/lib/cni"]
    conf_dir = "{directory}/cni"
"#,
            socket = self.socket().display(),
            app = app_image::APP,
            shim = prebuilt::program(&CONTAINERD_SHIM).display(),
        );
        let network = json!({
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [{
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": false,
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni",
                    "ranges": [[{"subnet": "10.88.0.0/24", "rangeStart": "10.88.0.10"}]]
                }
            }]
        });
        self.write("containerd.toml", &config);
        fs::create_dir(self.directory.path().join("cni")).expect("the temporary directory is writable");
        self.write("cni/10-pods.conflist", &network.to_string());
        let mut command = killed_with_parent(&prebuilt::program(&CONTAINERD));
        self.with_tools(&mut command).arg("--config").arg(self.directory.path().join("containerd.toml"));
        let mut process = Process::start("containerd", command);
        let up = || self.ctr(&["version"]).output().is_ok_and(|output| output.status.success());
        process.until("containerd answers", |_| up());
        self.containerd = Some(process);
    }

    /// Ends the kubelet and starts it again: pods go on meanwhile.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart_kubelet(&self) {
        *self.kubelet() = None;
        self.run_kubelet();
    }

    fn kubelet(&self) -> MutexGuard<'_, Option<Process>> {
        self.kubelet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_kubelet(&self) {
        let serving = self.plane.authority().server(&["node", &ADDRESS.to_string()]);
        for name in ["plugins", "kubelet"] {
            fs::create_dir(self.directory.path().join(name)).expect("the temporary directory is writable");
        }
        self.write("resolv.conf", "");
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": self.plane.ca_file()}
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": sandbox::cgroup(),
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "enableServer": true,
            "evictionHard": {
                "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
                "imagefs.available": "0%", "imagefs.inodesFree": "0%"
            },
            "failCgroupV1": false,
            "failSwapOn": false,
            "healthzPort": 0,
            "imageGCHighThresholdPercent": 100,
            "makeIPTablesUtilChains": false,
            "nodeStatusUpdateFrequency": "2s",
            "podLogsDir": "/var/log/pods",
            "protectKernelDefaults": true,
            "resolvConf": self.directory.path().join("resolv.conf"),
            "seccompDefault": true,
            "tlsCertFile": serving.certificate,
            "tlsPrivateKeyFile": serving.key,
            "volumePluginDir": self.directory.path().join("plugins")
        });
        self.write("kubelet.json", &config.to_string());
        let role = "--clusterrole=system:kubelet-api-admin";
        self.plane.kubectl(&["create", "clusterrolebinding", "kubelet-api", role, "--user=kube-apiserver"]);
        self.run_kubelet();
    }

    fn run_kubelet(&self) {
        let mut command = killed_with_parent(&prebuilt::program(&KUBELET));
        self.with_tools(&mut command)
            .arg("--config")
            .arg(self.directory.path().join("kubelet.json"))
            .arg("--kubeconfig")
            .arg(self.plane.kubelet_kubeconfig())
            .args(["--root-dir=/var/lib/kubelet", "--hostname-override=node"])
            .arg(format!("--node-ip={ADDRESS}"));
        let mut process = Process::start("kubelet", command);
        let start = Instant::now();
        while !self.is_ready() {
            let alive = process.is_running();
            assert!(
                alive && start.elapsed() < PATIENCE,
                "the node is not ready\n{}{}",
                process.output(),
                self.output()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        *self.kubelet() = Some(process);
    }

    fn is_ready(&self) -> bool {
        let node = self.get("/api/v1/nodes/node");
        let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        // Nothing is scheduled until the controllers have removed the taints.
        node["spec"].is_object()
            && node["spec"]["taints"].is_null()
            && node["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(ready))
    }

    /// Lets a command prefer the programs and libraries of the unpacked packages to the system's.
    fn with_tools<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{0}/usr/bin:{0}/usr/sbin:{path}", self.runtime.display());
        let libraries = self.runtime.join("usr/lib/x86_64-linux-gnu");
        command.env("PATH", path).env("LD_LIBRARY_PATH", libraries)
    }

    fn socket(&self) -> PathBuf {
        "/run/containerd.sock".into()
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.directory.path().join(name), content).expect("the temporary directory is writable");
    }
}

/// The directory with this name, at any depth.
fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let directories = fs::read_dir(directory)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir());
    directories.into_iter().find_map(|path| if path.ends_with(name) { Some(path) } else { find(&path, name) })
}
