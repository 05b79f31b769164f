//! Mistakes in a manifest: the pod does not start, and its log and `kubectl describe pod` give the
//! cause and the fix.

use dexsidecar_core::failure::Code;
use dexsidecar_e2e::dex::DexSetup;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod, app, sidecar};
use serde_json::Value;

use crate::{NodeTest, dex, node_tests};

pub(crate) const TESTS: &[NodeTest] = node_tests![
    log_and_termination_message_explain_each_mistake_in_a_manifest,
    log_and_termination_message_name_a_missing_issuer_alias,
    log_and_termination_message_name_each_invalid_setting,
    the_api_server_refuses_an_expiration_below_ten_minutes,
    log_and_check_explain_a_subject_token_that_is_mounted_with_sub_path,
];

/// Waits until the kubelet has restarted the sidecar. Its log and `kubectl describe pod` must have
/// these texts.
fn assert_reported(pod: &Pod<'_>, texts: &[&str]) {
    let now =
        pod.until("the sidecar was restarted", |pod| sidecar(pod)["lastState"]["terminated"].is_object());
    assert!(app(&now)["state"]["waiting"].is_object(), "the app never started");
    let (description, log) = (pod.describe(), pod.log("dexsidecar"));
    for text in texts {
        assert!(log.contains(text), "the log does not have: {text}\n{log}");
        assert!(description.contains(text), "kubectl describe pod does not have: {text}\n{description}");
    }
}

/// Lets the kubelet restart the sidecar after three failed probes.
fn restarted_soon(pod: &mut Value) {
    pod["spec"]["initContainers"][0]["startupProbe"]["failureThreshold"] = 3.into();
}

fn log_and_termination_message_explain_each_mistake_in_a_manifest(node: &Node) {
    let dex = dex(node, "mistakes", true, DexSetup::default());
    let manifest = |name: &str| Manifest::hardened(name, &dex).with(restarted_soon);
    let no_volume = manifest("no-volume").with(|pod| {
        let volumes = pod["spec"]["volumes"].as_array_mut().expect("a list");
        volumes.retain(|volume| volume["projected"].is_null());
        let mounts = pod["spec"]["initContainers"][0]["volumeMounts"].as_array_mut().expect("a list");
        mounts.retain(|mount| mount["name"] != "subject-token");
    });
    let read_only = manifest("read-only").with(|pod| {
        pod["spec"]["initContainers"][0]["volumeMounts"][0]["readOnly"] = true.into();
    });
    let misspelt = manifest("misspelt").env("dex_connector_id", "kubernets");
    let no_ca = manifest("no-ca").with(|pod| {
        let variables = pod["spec"]["initContainers"][0]["env"].as_array_mut().expect("a list");
        variables.retain(|variable| variable["name"] != "DEXSIDECAR_CA_FILE");
    });
    let cases = [
        (no_volume, Code::SubjectTokenMissing),
        (read_only, Code::OutputReadOnly),
        (misspelt, Code::ConnectorUnknown),
        (no_ca, Code::CertificateUntrusted),
    ];
    let pods = cases.map(|(manifest, code)| (Pod::apply(node, "mistakes", &manifest), code.entry()));
    for (pod, failure) in &pods {
        assert_reported(pod, &[failure.name, failure.summary, failure.fix]);
        let (log, description) = (pod.log("dexsidecar"), pod.describe());
        let fields =
            format!("code={} step={} owner={}", failure.name, failure.step.label(), failure.owner.label());
        assert!(log.contains(&fields), "the log does not have: {fields}\n{log}");
        let owner = format!("owner: {}", failure.owner.title());
        assert!(description.contains(&owner), "kubectl describe pod does not have: {owner}\n{description}");
    }
}

fn log_and_termination_message_name_a_missing_issuer_alias(node: &Node) {
    let dex = dex(node, "mistakes-issuer", true, DexSetup { issuer_alias: false, ..DexSetup::default() });
    let manifest = Manifest::hardened("app", &dex).with(restarted_soon);
    let pod = Pod::apply(node, "mistakes-issuer", &manifest);
    assert_reported(
        &pod,
        &["connector_unknown", "the connector's issuer, or its issuerAlias, must be exactly that"],
    );
}

fn log_and_termination_message_name_each_invalid_setting(node: &Node) {
    let dex = dex(node, "mistakes-settings", true, DexSetup::default());
    let manifest = Manifest::hardened("app", &dex)
        .env("dex_refresh_before", "soon")
        .env("DEXSIDECAR_KEYCHECK", "10m")
        .env("dex_endpoint", "dex.example.com/token");
    let pod = Pod::apply(node, "mistakes-settings", &manifest);
    let now = pod.until("the sidecar has exited", |pod| sidecar(pod)["lastState"]["terminated"].is_object());
    assert_eq!(sidecar(&now)["lastState"]["terminated"]["exitCode"], 78);
    assert_reported(&pod, &["dex_refresh_before", "DEXSIDECAR_KEY_CHECK", "dex_endpoint"]);
}

/// The pod gets a token all the same: the mistake would show when the subject token has expired.
fn log_and_check_explain_a_subject_token_that_is_mounted_with_sub_path(node: &Node) {
    let dex = dex(node, "mistakes-subpath", true, DexSetup::default());
    let manifest = Manifest::hardened("app", &dex).with(|pod| {
        let mounts = pod["spec"]["initContainers"][0]["volumeMounts"].as_array_mut().expect("a list");
        let mount = mounts.iter_mut().find(|mount| mount["name"] == "subject-token").expect("a mount");
        mount["mountPath"] = "/var/run/secrets/subject/token".into();
        mount["subPath"] = "token".into();
    });
    let pod = Pod::apply(node, "mistakes-subpath", &manifest);
    pod.until_running();
    let log = pod.until_event("dexsidecar", "subject_token_mounted_with_sub_path");
    let fix = "mount the directory of its volume, without subPath";
    assert!(log.contains(fix), "{log}");
    let report = pod.exec("dexsidecar", &["dexsidecar", "check"]).unwrap_or_else(|why| panic!("{why}"));
    assert!(report.contains("it is mounted with subPath") && report.contains(fix), "{report}");
    // The mount as the manifests have it is no mistake.
    let right = Pod::apply(node, "mistakes-subpath", &Manifest::hardened("right", &dex));
    right.until_running();
    assert!(!right.log("dexsidecar").contains("subPath"), "{}", right.log("dexsidecar"));
}

/// Ten minutes are the API server's minimum, and long enough for the refresh schedule.
fn the_api_server_refuses_an_expiration_below_ten_minutes(node: &Node) {
    let dex = dex(node, "mistakes-expiry", true, DexSetup::default());
    let manifest = Manifest::hardened("app", &dex).with(|pod| {
        let volumes = pod["spec"]["volumes"].as_array_mut().expect("a list");
        let projected =
            volumes.iter_mut().find(|volume| volume["projected"].is_object()).expect("the pod has it");
        projected["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] = 60.into();
    });
    let refused = node.apply("mistakes-expiry", &manifest.0).expect_err("the lifetime is too short");
    assert!(refused.contains("may not specify a duration less than 10 minutes"), "{refused}");
}
