//! The policies of deploy/injection on a real API server: installs them, and submits pods to them.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::doc_manifests;
use crate::process::PATIENCE;

/// The directory of the policies.
pub const DIRECTORY: &str = "deploy/injection";

/// What precedes the message of a refusal.
const REFUSED: &str = "denied request: ";

/// A pod that asks for injection, as small as the restricted Pod Security Standard allows.
#[must_use]
pub fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"dexsidecar.io/inject": "true"}, "annotations": {}},
        "spec": {
            "serviceAccountName": "app",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}
            },
            "containers": [container("app")]
        }
    })
}

/// A container that the restricted Pod Security Standard accepts.
#[must_use]
pub fn container(name: &str) -> Value {
    json!({
        "name": name,
        "image": "example.com/app:1",
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}
    })
}

/// Applies the kustomization in a directory, and waits until both policies are in effect.
///
/// # Panics
/// If kubectl fails, or they do not take effect.
pub fn install(plane: &ControlPlane, directory: &str) {
    plane.kubectl(&["apply", "-k", directory]);
    let mut wrong = pod("wrong");
    wrong["metadata"]["annotations"]["dexsidecar.io/start"] = "later".into();
    until("the policies are in effect", || {
        submit(plane, "default", &pod("plain")).is_ok_and(|pod| is_injected(&pod))
            && submit(plane, "default", &wrong).is_err()
    });
}

/// The directory of the policies, as kubectl needs it.
#[must_use]
pub fn directory() -> String {
    doc_manifests::root().join(DIRECTORY).display().to_string()
}

/// Deletes the policies, and waits until they have no effect.
///
/// # Panics
/// If kubectl fails, or they stay in effect.
pub fn uninstall(plane: &ControlPlane) {
    plane.kubectl(&["delete", "-k", &directory()]);
    until("the policies have no effect", || {
        submit(plane, "default", &pod("plain")).is_ok_and(|pod| !is_injected(&pod))
    });
}

/// Waits until a condition holds.
///
/// # Panics
/// If it does not hold in time.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "this never happened: {what}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Creates a pod by a dry run on the server. Gives the pod as it would be stored.
///
/// # Errors
/// Why it is refused: the message of the validating policy, or that of the API server.
///
/// # Panics
/// If kubectl cannot be started.
pub fn submit(plane: &ControlPlane, namespace: &str, pod: &Value) -> Result<Value, String> {
    let mut command = plane.kubectl_command();
    command.args(["--namespace", namespace, "create", "--dry-run=server", "-o", "json", "-f", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut kubectl = command.spawn().expect("kubectl was built");
    let mut input = kubectl.stdin.take().expect("it is piped");
    input.write_all(pod.to_string().as_bytes()).expect("kubectl reads its input");
    drop(input);
    let output = kubectl.wait_with_output().expect("kubectl was started");
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).expect("kubectl prints JSON"));
    }
    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(error.split_once(REFUSED).map_or_else(|| error.clone(), |(_, message)| message.to_owned()))
}

/// Whether a pod has the sidecar.
#[must_use]
pub fn is_injected(pod: &Value) -> bool {
    pod["spec"]["initContainers"]
        .as_array()
        .is_some_and(|all| all.iter().any(|container| container["name"] == "dexsidecar"))
}
