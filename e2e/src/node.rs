//! A real node: kubelet, containerd and runc, in namespaces of their own, with images and no registry. Each trap that this
//! avoids was fallen into once.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dexsidecar_fetch::counterparts::{CONTAINERD, KUBELET};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app_image;
use crate::control_plane::ControlPlane;
use crate::dex::{Dex, free_port};
use crate::image::Image;
use crate::issuer::ClusterIssuer as _;
use crate::prebuilt;
use crate::process::{PATIENCE, Process, tied};
use crate::sandbox::{self, ADDRESS, BRIDGE};
use crate::wire;

/// Says inside where the sidecar's image is.
pub const IMAGE: &str = "DEXSIDECAR_E2E_IMAGE";

/// The sidecar's image, inside.
///
/// # Panics
/// Outside.
#[must_use]
pub fn image() -> PathBuf {
    std::env::var_os(IMAGE).expect("it was made outside, and is named inside").into()
}

/// A cluster of one node.
pub struct Node {
    /// Its control plane.
    pub plane: ControlPlane,
    folder: TempDir,
    runtime: PathBuf,
    // The kubelet ends before containerd does.
    kubelet: Option<Process>,
    containerd: Option<Process>,
    /// `kubectl proxy`, to ask often and cheaply.
    proxy: (u16, Process),
}

impl Node {
    /// Builds and fetches what it and a Dex need, so that both start without the network and without cargo. Gives the
    /// sidecar's image, which [`IMAGE`] is to name inside.
    ///
    /// # Errors
    /// What is missing.
    pub fn prepare() -> Result<PathBuf, String> {
        CONTAINERD.unpacked()?;
        KUBELET.built()?;
        Dex::prepare()?;
        ControlPlane::prepare();
        let _ = app_image::root();
        Ok(Image::of_this_workspace(&["--amd64"]).archive)
    }

    /// Starts all of it, inside; the node is ready then, and knows the images of the app and of the sidecar.
    ///
    /// # Panics
    /// When something does not come up: with what it said.
    #[must_use]
    pub fn start() -> Self {
        let mut plane = ControlPlane::start_at(ADDRESS);
        plane.start_controllers();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = prebuilt::packages(&CONTAINERD);
        let proxy = proxy(&plane);
        let mut node = Self { plane, folder, runtime, kubelet: None, containerd: None, proxy };
        node.start_containerd();
        let app = app_image::app(node.folder.path());
        node.import(&app);
        node.import(&image());
        node.start_kubelet();
        node
    }

    /// Imports the images of an archive.
    ///
    /// # Panics
    /// When containerd refuses it.
    pub fn import(&self, archive: &Path) {
        let output = self.ctr(&["images", "import", &archive.display().to_string()]).output();
        let output = output.expect("ctr was unpacked");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// containerd's own client.
    #[must_use]
    pub fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.runtime.join("usr/bin/ctr"));
        command.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io"]).args(arguments);
        command
    }

    /// What the kubelet, containerd and the controllers have printed.
    #[must_use]
    pub fn output(&self) -> String {
        let said = |process: &Option<Process>| process.as_ref().map_or_else(String::new, Process::output);
        format!(
            "-- kubelet\n{}-- containerd\n{}-- controllers\n{}",
            said(&self.kubelet),
            said(&self.containerd),
            self.plane.controllers_output()
        )
    }

    /// An object by its path; null when it is not there.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        self.text(path).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// What the API server says at a path; nothing when it is not there.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let address = (Ipv4Addr::LOCALHOST, self.proxy.0).into();
        let reply = wire::ask(address, &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"))?;
        (reply.status == 200).then_some(reply.body)
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// When it does not happen.
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
    /// What the API server said.
    pub fn apply(&self, namespace: &str, object: &Value) -> Result<String, String> {
        self.plane.apply(&object.to_string(), &["--namespace", namespace])
    }

    /// Makes a namespace with the ServiceAccount `app` and the CA of a Dex as config map `dex-ca`. Pods in it are held to the
    /// restricted Pod Security Standard, or to none.
    pub fn namespace(&self, name: &str, restricted: bool, dex: &Dex) {
        let standard = if restricted { "restricted" } else { "privileged" };
        self.plane.kubectl(&["create", "namespace", name]);
        let label = format!("pod-security.kubernetes.io/enforce={standard}");
        self.plane.kubectl(&["label", "namespace", name, &label]);
        self.plane.kubectl(&["--namespace", name, "create", "serviceaccount", "app"]);
        let file = format!("--from-file=ca.pem={}", dex.ca_file().display());
        self.plane.kubectl(&["--namespace", name, "create", "configmap", "dex-ca", &file]);
    }

    /// The folder of a container's memory cgroup.
    #[must_use]
    pub fn cgroup_of(&self, container: &str) -> Option<PathBuf> {
        let own = sandbox::cgroup();
        let version_1 = Path::new("/sys/fs/cgroup/memory").join(&own[1..]);
        let version_2 = Path::new("/sys/fs/cgroup").join(&own[1..]);
        find(if version_1.exists() { &version_1 } else { &version_2 }, container)
    }

    fn start_containerd(&mut self) {
        let (runtime, folder) = (self.runtime.display(), self.folder.path().display());
        let config = format!(
            r#"
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{app}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{runtime}/usr/lib/cni"
    conf_dir = "{folder}/cni"
"#,
            socket = self.socket().display(),
            app = app_image::APP,
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
        fs::create_dir(self.folder.path().join("cni")).expect("the folder can be written to");
        self.write("cni/10-pods.conflist", &network.to_string());
        let mut command = tied(&self.runtime.join("usr/bin/containerd"));
        self.with_tools(&mut command).arg("--config").arg(self.folder.path().join("containerd.toml"));
        let mut process = Process::start("containerd", command);
        let up = || self.ctr(&["version"]).output().is_ok_and(|output| output.status.success());
        process.until("containerd answers", |_| up());
        self.containerd = Some(process);
    }

    fn start_kubelet(&mut self) {
        let serving = self.plane.authority().server(&["node", &ADDRESS.to_string()]);
        for folder in ["plugins", "kubelet"] {
            fs::create_dir(self.folder.path().join(folder)).expect("the folder can be written to");
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
            "resolvConf": self.folder.path().join("resolv.conf"),
            "seccompDefault": true,
            "tlsCertFile": serving.certificate,
            "tlsPrivateKeyFile": serving.key,
            "volumePluginDir": self.folder.path().join("plugins")
        });
        self.write("kubelet.json", &config.to_string());
        let role = "--clusterrole=system:kubelet-api-admin";
        self.plane.kubectl(&["create", "clusterrolebinding", "kubelet-api", role, "--user=kube-apiserver"]);
        let mut command = tied(&prebuilt::program(&KUBELET));
        self.with_tools(&mut command)
            .arg("--config")
            .arg(self.folder.path().join("kubelet.json"))
            .arg("--kubeconfig")
            .arg(self.plane.kubelet_kubeconfig())
            .args(["--root-dir=/var/lib/kubelet", "--hostname-override=node"])
            .arg(format!("--node-ip={ADDRESS}"));
        let mut process = Process::start("kubelet", command);
        let start = Instant::now();
        while !self.is_ready() {
            let alive = process.runs();
            assert!(
                alive && start.elapsed() < PATIENCE,
                "the node is not ready\n{}{}",
                process.output(),
                self.output()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        self.kubelet = Some(process);
    }

    fn is_ready(&self) -> bool {
        let node = self.get("/api/v1/nodes/node");
        let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        // Until the controllers have taken the taints away nothing is scheduled.
        node["spec"].is_object()
            && node["spec"]["taints"].is_null()
            && node["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(ready))
    }

    /// Programs and libraries of the unpacked packages, before the system's.
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
        fs::write(self.folder.path().join(name), content).expect("the folder can be written to");
    }
}

fn proxy(plane: &ControlPlane) -> (u16, Process) {
    let port = free_port();
    let mut command = tied(plane.kubectl_program());
    command.arg("--kubeconfig").arg(plane.kubeconfig()).args(["proxy", "--port", &port.to_string()]);
    let mut process = Process::start("kubectl proxy", command);
    process.until_said("Starting to serve", 1);
    (port, process)
}

/// The folder of this name, at any depth.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let folders = fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir());
    folders.into_iter().find_map(|path| if path.ends_with(name) { Some(path) } else { find(&path, name) })
}
