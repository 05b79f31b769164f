//! Pods on the node: manifests that tests vary, and the pods that they create.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use dexsidecar_core::event::Event;
use serde_json::{Value, json};

use crate::app_image::APP;
use crate::dex::Dex;
use crate::doc_manifests;
use crate::node::Node;
use crate::sidecar::assert_no_secret;

/// The time after which a condition of a pod counts as never met.
const PATIENCE: Duration = Duration::from_secs(90);

/// A pod's manifest.
#[derive(Clone, Debug)]
pub struct Manifest(pub Value);

impl Manifest {
    /// The pod of docs/kubernetes.md, with this name, the app's image, this Dex and its CA.
    #[must_use]
    pub fn hardened(name: &str, dex: &Dex) -> Self {
        Self::of(doc_manifests::hardened_pod(), name, dex)
    }

    /// The pod in the README, with this name, the app's image, this Dex and its CA.
    #[must_use]
    pub fn from_readme(name: &str, dex: &Dex) -> Self {
        Self::of(doc_manifests::readme_pod(), name, dex)
    }

    /// The pod of docs/kubernetes.md whose app waits itself, with this name, the app's image, this
    /// Dex and its CA.
    #[must_use]
    pub fn waiting(name: &str, dex: &Dex) -> Self {
        Self::of(doc_manifests::waiting_pod(), name, dex)
    }

    fn of(mut pod: Value, name: &str, dex: &Dex) -> Self {
        pod["metadata"]["name"] = name.into();
        pod["spec"]["containers"][0]["image"] = APP.into();
        // The app does not handle SIGTERM, so the pod's end would take the whole default of 30 s.
        pod["spec"]["terminationGracePeriodSeconds"] = 1.into();
        Self(pod).env("dex_endpoint", &dex.endpoint()).with_ca()
    }

    /// Mounts the CA of Dex from the ConfigMap `dex-ca`, and sets its path.
    #[must_use]
    pub fn with_ca(mut self) -> Self {
        self.mount("dex-ca", json!({"configMap": {"name": "dex-ca"}}), "/etc/dex");
        self.env("DEXSIDECAR_CA_FILE", "/etc/dex/ca.pem")
    }

    /// Sets an environment variable of the sidecar.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let variables = self.sidecar()["env"].as_array_mut().expect("a list of variables");
        variables.retain(|variable| variable["name"] != name);
        variables.push(json!({"name": name, "value": value}));
        self
    }

    /// Sets the shell script that the app runs, at once or after its `wait`.
    #[must_use]
    pub fn app(mut self, script: &str) -> Self {
        let app = &mut self.0["spec"]["containers"][0];
        let key = if app["args"].is_array() { "args" } else { "command" };
        app[key] = json!(["sh", "-c", script]);
        self
    }

    /// The program comes from an image volume in place of the copy by the sidecar.
    ///
    /// # Panics
    /// If this is no pod whose app waits itself.
    #[must_use]
    pub fn with_image_volume(mut self) -> Self {
        doc_manifests::use_image_volume(&mut self.0["spec"]);
        self
    }

    /// Changes anything else.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.0);
        self
    }

    /// The sidecar's container.
    ///
    /// # Panics
    /// If the pod has no init container `dexsidecar`.
    pub fn sidecar(&mut self) -> &mut Value {
        let containers = self.0["spec"]["initContainers"].as_array_mut().expect("a list of containers");
        containers.iter_mut().find(|container| container["name"] == "dexsidecar").expect("a sidecar")
    }

    /// Mounts a volume into the sidecar.
    ///
    /// # Panics
    /// If the manifest has no volumes or no mounts.
    pub fn mount(&mut self, name: &str, volume: Value, path: &str) {
        let mut volume = volume;
        volume["name"] = name.into();
        self.0["spec"]["volumes"].as_array_mut().expect("a list of volumes").push(volume);
        let mounts = self.sidecar()["volumeMounts"].as_array_mut().expect("a list of mounts");
        mounts.push(json!({"name": name, "mountPath": path, "readOnly": true}));
    }
}

/// A pod on the node. It is deleted when this is dropped.
pub struct Pod<'a> {
    node: &'a Node,
    namespace: String,
    name: String,
}

impl<'a> Pod<'a> {
    /// Applies a manifest.
    ///
    /// # Panics
    /// If the API server refuses it.
    #[must_use]
    pub fn apply(node: &'a Node, namespace: &str, manifest: &Manifest) -> Self {
        node.apply(namespace, &manifest.0).unwrap_or_else(|why| panic!("{why}"));
        Self::named(node, namespace, manifest.0["metadata"]["name"].as_str().expect("a name"))
    }

    /// A pod that something else created, such as a Job.
    #[must_use]
    pub fn named(node: &'a Node, namespace: &str, name: &str) -> Self {
        Self { node, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The pod as the API server reports it; null if it is gone.
    #[must_use]
    pub fn now(&self) -> Value {
        self.node.get(&format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name))
    }

    /// Waits until a condition holds, and gives the pod at that moment.
    ///
    /// # Panics
    /// If it does not hold in time: with [`Self::diagnostics`].
    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let pod = self.now();
            if holds(&pod) {
                return pod;
            }
            assert!(start.elapsed() < PATIENCE, "this never happened: {what}\n{}", self.diagnostics());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the app runs.
    pub fn until_running(&self) -> Value {
        self.until("the app runs", |pod| app(pod)["state"]["running"].is_object())
    }

    /// Waits until the log of a container has this text, and gives the log.
    ///
    /// # Panics
    /// If it does not have it in time.
    pub fn until_line(&self, container: &str, text: &str) -> String {
        let start = Instant::now();
        loop {
            let log = self.log(container);
            if log.contains(text) {
                return log;
            }
            assert!(start.elapsed() < PATIENCE, "{container} does not log {text:?}\n{}", self.diagnostics());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the text log of a sidecar has an event, and gives the log.
    ///
    /// # Panics
    /// If there is no event of this name, and if the log does not have it in time.
    pub fn until_event(&self, container: &str, name: &str) -> String {
        let event = Event::TABLE.iter().find(|event| event.name == name).expect("an event of this name");
        self.until_line(container, event.message)
    }

    /// The log of a container, preceded by the log before its last restart.
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

    /// Runs kubectl in the pod's namespace and gives its standard output and exit code.
    ///
    /// # Panics
    /// If kubectl cannot be started.
    pub fn kubectl_run(&self, arguments: &[String]) -> (String, Option<i32>) {
        let output = self.kubectl().args(arguments).output().expect("kubectl was built");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    }

    /// Runs a command in a container and gives its standard output.
    ///
    /// # Errors
    /// Standard output and standard error, if the exit code is not 0.
    ///
    /// # Panics
    /// If kubectl cannot be started.
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
    /// If the app cannot read it.
    #[must_use]
    pub fn token(&self) -> String {
        self.exec("app", &["cat", "/var/run/secrets/dex/token"])
            .unwrap_or_else(|why| panic!("{why}\n{}", self.diagnostics()))
    }

    /// The output of `kubectl describe pod`.
    ///
    /// # Panics
    /// If kubectl cannot be started.
    #[must_use]
    pub fn describe(&self) -> String {
        let output =
            self.kubectl().args(["describe", "pod", &self.name]).output().expect("kubectl was built");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `kubectl describe pod` and the logs, for the message of a failed test.
    #[must_use]
    pub fn diagnostics(&self) -> String {
        let logs = self.log("dexsidecar") + &self.log("app");
        format!("{}-- logs\n{logs}", self.describe())
    }

    /// A number from the container's memory cgroup; nothing if it cannot be read.
    #[must_use]
    pub fn memory(&self, container: &str, file: &str) -> Option<u64> {
        let pod = self.now();
        let id = status(&pod, container)["containerID"].as_str()?.strip_prefix("containerd://")?.to_owned();
        let cgroup = self.node.cgroup_of(&id)?;
        fs::read_to_string(cgroup.join(file)).ok()?.trim().parse().ok()
    }

    /// The process id of a container.
    ///
    /// # Panics
    /// If it is not running.
    #[must_use]
    pub fn pid(&self, container: &str) -> u32 {
        let pod = self.now();
        let id = status(&pod, container)["containerID"].as_str().expect("it is running").to_owned();
        let id = id.trim_start_matches("containerd://");
        let output = self.node.ctr(&["tasks", "ls"]).output().expect("ctr was built");
        let tasks = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = tasks.lines().find(|line| line.starts_with(id)).expect("it is running");
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

/// The status of a container or init container; null while there is none.
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
