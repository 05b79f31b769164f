//! An app that waits for the token itself: its command is `dexsidecar wait -- COMMAND`.

use dexsidecar_e2e::dex::DexSetup;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod, app, sidecar};
use serde_json::json;

use crate::{NodeTest, dex, node_tests};

pub(crate) const TESTS: &[NodeTest] = node_tests![
    an_app_of_any_uid_becomes_its_command_when_the_token_is_there,
    an_app_gets_the_program_from_an_image_volume,
    an_app_whose_program_is_copied_starts_without_the_hook_too,
    an_app_that_waits_starts_when_dex_comes_back,
    a_job_whose_app_waits_completes_once_dex_is_up,
    a_pod_whose_app_waits_is_deleted_without_its_grace_period,
    an_app_that_waited_for_too_long_is_restarted_and_waits_again,
];

/// Those that restart the kubelet.
pub(crate) const ALONE: &[NodeTest] = node_tests![an_app_goes_on_waiting_while_the_kubelet_restarts];

/// Prints whether the token is there, and the app's process id and uid. The kubelet makes `$$` of
/// `$$$$`.
const SCRIPT: &str = "test -s /var/run/secrets/dex/token && echo token, pid $$$$, uid $(id -u)";

fn an_app_of_any_uid_becomes_its_command_when_the_token_is_there(node: &Node) {
    let dex = dex(node, "wait-start", true, DexSetup::default());
    let script = format!("{SCRIPT}; exec sleep infinity");
    let pods = [("same", 65_532), ("other", 1_000)].map(|(name, uid)| {
        let manifest = Manifest::waiting(name, &dex).app(&script).with(|pod| {
            pod["spec"]["containers"][0]["securityContext"]["runAsUser"] = uid.into();
        });
        (Pod::apply(node, "wait-start", &manifest), uid)
    });
    for (pod, uid) in pods {
        pod.until_line("app", &format!("token, pid 1, uid {uid}\n"));
        let now = pod.until("it is ready", |pod| sidecar(pod)["ready"] == true);
        assert_eq!(app(&now)["restartCount"], 0);
    }
}

fn an_app_gets_the_program_from_an_image_volume(node: &Node) {
    let dex = dex(node, "wait-image", true, DexSetup::default());
    let manifest = Manifest::waiting("app", &dex).with_image_volume().app(SCRIPT);
    let pod = Pod::apply(node, "wait-image", &manifest);
    pod.until_line("app", "token, pid 1, uid 65532\n");
}

/// A kubelet that restarts during the hook does not run it again. Then the app starts beside the
/// copy. Where it comes first, it is restarted.
fn an_app_whose_program_is_copied_starts_without_the_hook_too(node: &Node) {
    let dex = dex(node, "wait-hook", true, DexSetup::default());
    let mut manifest = Manifest::waiting("app", &dex).app(&format!("{SCRIPT}; exec sleep infinity"));
    let sidecar = manifest.sidecar().as_object_mut().expect("an object");
    sidecar.remove("lifecycle").expect("the pod has a hook");
    let pod = Pod::apply(node, "wait-hook", &manifest);
    pod.until_line("app", "token, pid 1, uid 65532\n");
}

fn an_app_that_waits_starts_when_dex_comes_back(node: &Node) {
    let mut dex = dex(node, "wait-away", true, DexSetup::default());
    dex.stop();
    let manifest = Manifest::waiting("app", &dex).app(&format!("{SCRIPT}; exec sleep infinity"));
    let pod = Pod::apply(node, "wait-away", &manifest);
    // Meanwhile the log of the app says why, and that of the sidecar whose fault it is.
    let log = pod.until_line("app", "waiting for ");
    assert!(log.contains("/var/run/secrets/dex/token: cannot be read: no such file"), "{log}");
    pod.until_line("dexsidecar", "code=connect_refused");
    let now = pod.now();
    assert!(app(&now)["state"]["running"].is_object(), "{now:#}");
    assert_eq!(sidecar(&now)["ready"], false, "the pod gets no requests");
    dex.resume();
    pod.until_line("app", "token, pid 1, uid 65532\n");
    let now = pod.until("it is ready", |pod| sidecar(pod)["ready"] == true);
    assert_eq!((&app(&now)["restartCount"], &sidecar(&now)["restartCount"]), (&json!(0), &json!(0)));
}

fn a_job_whose_app_waits_completes_once_dex_is_up(node: &Node) {
    let mut dex = dex(node, "wait-job", true, DexSetup::default());
    dex.stop();
    let pod = Manifest::waiting("app", &dex).app(SCRIPT).with(|pod| {
        pod["spec"]["restartPolicy"] = "Never".into();
    });
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "app"},
        "spec": {"template": {"spec": pod.0["spec"]}, "backoffLimit": 0}
    });
    node.apply("wait-job", &job).unwrap_or_else(|why| panic!("{why}"));
    let path = "/apis/batch/v1/namespaces/wait-job/jobs/app";
    node.until("its pod has started", || node.get(path)["status"]["active"] == 1);
    dex.resume();
    node.until("the Job has succeeded", || node.get(path)["status"]["succeeded"] == 1);
    assert_eq!(node.get(path)["status"]["failed"].as_u64().unwrap_or_default(), 0);
}

/// `wait` obeys SIGTERM also as process 1 of its container.
fn a_pod_whose_app_waits_is_deleted_without_its_grace_period(node: &Node) {
    let mut dex = dex(node, "wait-delete", true, DexSetup::default());
    dex.stop();
    let manifest = Manifest::waiting("app", &dex)
        .app(SCRIPT)
        .with(|pod| pod["spec"]["terminationGracePeriodSeconds"] = 3_600.into());
    let pod = Pod::apply(node, "wait-delete", &manifest);
    pod.until_line("app", "waiting for ");
    pod.kubectl_run(&["delete", "pod", "app", "--wait=false"].map(str::to_owned));
    // Long before the hour of its grace period.
    pod.until("it is gone", serde_json::Value::is_null);
}

fn an_app_that_waited_for_too_long_is_restarted_and_waits_again(node: &Node) {
    let mut dex = dex(node, "wait-timeout", true, DexSetup::default());
    dex.stop();
    let manifest =
        Manifest::waiting("app", &dex).app(&format!("{SCRIPT}; exec sleep infinity")).with(|pod| {
            pod["spec"]["containers"][0]["env"] = json!([{"name": "DEXSIDECAR_TIMEOUT", "value": "2s"}]);
        });
    let pod = Pod::apply(node, "wait-timeout", &manifest);
    let now = pod.until("the app was restarted", |pod| app(pod)["restartCount"].as_u64() >= Some(1));
    assert_eq!(app(&now)["lastState"]["terminated"]["exitCode"], 1, "{now:#}");
    let log = pod.until_line("app", "timed out after 2s");
    assert!(log.contains("no such file"), "{log}");
    dex.resume();
    pod.until_line("app", "token, pid 1, uid 65532\n");
}

fn an_app_goes_on_waiting_while_the_kubelet_restarts(node: &Node) {
    let mut dex = dex(node, "wait-kubelet", true, DexSetup::default());
    dex.stop();
    let manifest = Manifest::waiting("app", &dex).app(&format!("{SCRIPT}; exec sleep infinity"));
    let pod = Pod::apply(node, "wait-kubelet", &manifest);
    pod.until_line("app", "waiting for ");
    node.restart_kubelet();
    // The gate stays shut: the app's process is still `wait`.
    let command = std::fs::read(format!("/proc/{}/cmdline", pod.pid("app"))).expect("it is running");
    assert!(command.starts_with(b"/opt/dexsidecar/bin/dexsidecar\0wait\0"), "{command:?}");
    assert!(!pod.log("app").contains("pid 1"));
    dex.resume();
    let log = pod.until_line("app", "pid 1");
    assert!(log.ends_with("token, pid 1, uid 65532\n"), "{log}");
    let now = pod.until("it is ready", |pod| sidecar(pod)["ready"] == true);
    assert_eq!((&app(&now)["restartCount"], &sidecar(&now)["restartCount"]), (&json!(0), &json!(0)));
}
