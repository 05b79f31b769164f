//! Pods on the node: a manifest to be varied, and what becomes of it.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app_image::APP;
use crate::dex::Dex;
use crate::doc_manifests;
use crate::node::Node;
use crate::sidecar::assert_no_secret;

/// Nothing that a pod does takes longer, unless it never happens.
const PATIENCE: Duration = Duration::from_secs(90);

/// A pod's manifest.
#[derive(Clone, Debug)]
pub struct Manifest(pub Value);

impl Manifest {
    /// The pod of docs/kubernetes.md, with this name, the app's image, and this Dex and its CA.
    #[must_use]
    pub fn hardened(name: &str, dex: &Dex) -> Self {
        Self::of(doc_manifests::hardened_pod(), name, dex)
    }

    /// The same with the README's pod.
    #[must_use]
    pub fn of_the_readme(name: &str, dex: &Dex) -> Self {
        Self::of(doc_manifests::readme_pod(), name, dex)
    }

    fn of(mut pod: Value, name: &str, dex: &Dex) -> Self {
        pod["metadata"]["name"] = name.into();
        pod["spec"]["containers"][0]["image"] = APP.into();
        // A container that is told to end does not need the half minute that it may have.
        pod["spec"]["terminationGracePeriodSeconds"] = 1.into();
        Self(pod).env("dex_endpoint", &dex.endpoint()).with_ca()
    }

    /// The CA of Dex, from the config map `dex-ca`, and the setting that names it.
    #[must_use]
    pub fn with_ca(mut self) -> Self {
        self.mount("dex-ca", json!({"configMap": {"name": "dex-ca"}}), "/etc/dex");
        self.env("DEXSIDECAR_CA_FILE", "/etc/dex/ca.pem")
    }

    /// Sets a variable of the sidecar.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let variables = self.sidecar()["env"].as_array_mut().expect("a list of variables");
        variables.retain(|variable| variable["name"] != name);
        variables.push(json!({"name": name, "value": value}));
        self
    }

    /// What the app does, by its shell.
    #[must_use]
    pub fn app(mut self, script: &str) -> Self {
        self.0["spec"]["containers"][0]["command"] = json!(["sh", "-c", script]);
        self
    }

    /// Whatever else.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.0);
        self
    }

    /// The sidecar's container.
    ///
    /// # Panics
    /// When the pod has no init container.
    pub fn sidecar(&mut self) -> &mut Value {
        &mut self.0["spec"]["initContainers"][0]
    }

    /// Mounts a volume into the sidecar.
    ///
    /// # Panics
    /// When the manifest has neither volumes nor mounts.
    pub fn mount(&mut self, name: &str, volume: Value, path: &str) {
        let mut volume = volume;
        volume["name"] = name.into();
        self.0["spec"]["volumes"].as_array_mut().expect("a list of volumes").push(volume);
        let mounts = self.sidecar()["volumeMounts"].as_array_mut().expect("a list of mounts");
        mounts.push(json!({"name": name, "mountPath": path, "readOnly": true}));
    }
}

/// A pod that was applied; removed when dropped.
pub struct Pod<'a> {
    node: &'a Node,
    namespace: String,
    name: String,
}

impl<'a> Pod<'a> {
    /// Applies a manifest.
    ///
    /// # Panics
    /// When the API server refuses it.
    #[must_use]
    pub fn apply(node: &'a Node, namespace: &str, manifest: &Manifest) -> Self {
        node.apply(namespace, &manifest.0).unwrap_or_else(|why| panic!("{why}"));
        Self::named(node, namespace, manifest.0["metadata"]["name"].as_str().expect("a name"))
    }

    /// One that something else made, a Job say.
    #[must_use]
    pub fn named(node: &'a Node, namespace: &str, name: &str) -> Self {
        Self { node, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The pod as the API server has it; null when it is gone.
    #[must_use]
    pub fn now(&self) -> Value {
        self.node.get(&format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name))
    }

    /// Waits until something holds of it, and gives it as it is then.
    ///
    /// # Panics
    /// When that does not happen: with all that is known.
    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let pod = self.now();
            if holds(&pod) {
                return pod;
            }
            assert!(start.elapsed() < PATIENCE, "this never happened: {what}\n{}", self.told());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the app runs.
    pub fn until_running(&self) -> Value {
        self.until("the app runs", |pod| app(pod)["state"]["running"].is_object())
    }

    /// Waits until a container has said something.
    ///
    /// # Panics
    /// When it does not.
    pub fn until_said(&self, container: &str, words: &str) -> String {
        let start = Instant::now();
        loop {
            let log = self.log(container);
            if log.contains(words) {
                return log;
            }
            assert!(start.elapsed() < PATIENCE, "{container} never says {words:?}\n{}", self.told());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What a container has printed; and before its last restart, if it has been restarted.
    #[must_use]
    pub fn log(&self, container: &str) -> String {
        let path =
            format!("/api/v1/namespaces/{}/pods/{}/log?container={container}", self.namespace, self.name);
        let before = self.node.text(&format!("{path}&previous=true")).unwrap_or_default();
        let log = before + &self.node.text(&path).unwrap_or_default();
        if container == "dexsidecar" {
            assert_no_secret(&log);
        }
        log
    }

    /// Runs a command of kubectl in the pod's namespace; gives standard output and the exit code.
    ///
    /// # Panics
    /// When kubectl cannot be started.
    pub fn kubectl_run(&self, arguments: &[String]) -> (String, Option<i32>) {
        let output = self.kubectl().args(arguments).output().expect("kubectl was built");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    }

    /// Runs a command in a container; gives what it printed, or standard error with its exit code.
    ///
    /// # Errors
    /// When the command ends with another code than 0.
    ///
    /// # Panics
    /// When kubectl cannot be started.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<String, String> {
        let mut kubectl = self.kubectl();
        kubectl.args(["exec", &self.name, "--container", container, "--"]).args(command);
        let output = kubectl.output().expect("kubectl was built");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(format!("{}{}", text(output.stdout), text(output.stderr)))
        }
    }

    /// The token, as the app reads it.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn token(&self) -> String {
        self.exec("app", &["cat", "/var/run/secrets/dex/token"])
            .unwrap_or_else(|why| panic!("{why}\n{}", self.told()))
    }

    /// `kubectl describe pod`.
    ///
    /// # Panics
    /// When kubectl cannot be started.
    #[must_use]
    pub fn described(&self) -> String {
        let output =
            self.kubectl().args(["describe", "pod", &self.name]).output().expect("kubectl was built");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Everything that helps to understand what went wrong.
    #[must_use]
    pub fn told(&self) -> String {
        let logs = self.log("dexsidecar") + &self.log("app");
        format!("{}-- logs\n{logs}", self.described())
    }

    /// A number from the pod's memory cgroup; nothing where it cannot be read.
    #[must_use]
    pub fn memory(&self, container: &str, file: &str) -> Option<u64> {
        let pod = self.now();
        let id = status(&pod, container)["containerID"].as_str()?.strip_prefix("containerd://")?.to_owned();
        let folder = self.node.cgroup_of(&id)?;
        fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
    }

    /// The pid of a container's process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self, container: &str) -> u32 {
        let pod = self.now();
        let id = status(&pod, container)["containerID"].as_str().expect("it runs").to_owned();
        let id = id.trim_start_matches("containerd://");
        let output = self.node.ctr(&["tasks", "ls"]).output().expect("ctr was unpacked");
        let tasks = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = tasks.lines().find(|line| line.starts_with(id)).expect("it runs");
        line.split_ascii_whitespace().nth(1).and_then(|pid| pid.parse().ok()).expect("a pid")
    }

    fn kubectl(&self) -> Command {
        let mut command = self.node.plane.kubectl_command();
        command.args(["--namespace", &self.namespace]);
        command
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let flags = ["delete", "pod", &self.name, "--ignore-not-found", "--wait=false", "--grace-period=1"];
        let _ = self.kubectl().args(flags).output();
    }
}

/// The status of a container, init containers among them; null while there is none.
#[must_use]
pub fn status(pod: &Value, container: &str) -> Value {
    let all = ["initContainerStatuses", "containerStatuses"];
    let mut statuses = all.iter().filter_map(|kind| pod["status"][kind].as_array()).flatten();
    statuses.find(|status| status["name"] == container).cloned().unwrap_or_default()
}

/// The status of the app's container.
#[must_use]
pub fn app(pod: &Value) -> Value {
    status(pod, "app")
}

/// The status of the sidecar's container.
#[must_use]
pub fn sidecar(pod: &Value) -> Value {
    status(pod, "dexsidecar")
}
