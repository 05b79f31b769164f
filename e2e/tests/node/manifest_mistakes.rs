//! What users get wrong in a manifest: the pod does not come up, and its log and `kubectl describe pod` say what to change.

use dexsidecar_e2e::dex::Setup;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod, app, sidecar};
use serde_json::Value;

use crate::{Story, dex};

pub(crate) const STORIES: &[Story] = &[
    ("each_mistake_in_a_manifest_is_named_where_people_look", each_mistake_is_named, false),
    ("an_issuer_that_dex_does_not_know_is_named", an_unknown_issuer_is_named, false),
    ("wrong_settings_are_named_where_people_look", wrong_settings_are_named, false),
    ("an_expiry_too_short_is_refused_by_the_api_server", an_expiry_too_short_is_refused, false),
];

/// Waits until the kubelet has given the sidecar up once, and holds the sentences to what people see then.
fn assert_told(pod: &Pod<'_>, sentences: &[&str]) {
    let now =
        pod.until("the sidecar was restarted", |pod| sidecar(pod)["lastState"]["terminated"].is_object());
    assert!(app(&now)["state"]["waiting"].is_object(), "the app never started");
    let (described, log) = (pod.described(), pod.log("dexsidecar"));
    for sentence in sentences {
        assert!(log.contains(sentence), "the log does not say: {sentence}\n{log}");
        assert!(described.contains(sentence), "kubectl describe pod does not say: {sentence}\n{described}");
    }
}

/// A probe that gives up soon.
fn impatient(pod: &mut Value) {
    pod["spec"]["initContainers"][0]["startupProbe"]["failureThreshold"] = 3.into();
}

fn each_mistake_is_named(node: &Node) {
    let dex = dex(node, "mistakes", true, Setup::default());
    let readme = |name: &str| Manifest::hardened(name, &dex).with(impatient);
    let no_volume = readme("no-volume").with(|pod| {
        let volumes = pod["spec"]["volumes"].as_array_mut().expect("a list");
        volumes.retain(|volume| volume["projected"].is_null());
        let mounts = pod["spec"]["initContainers"][0]["volumeMounts"].as_array_mut().expect("a list");
        mounts.retain(|mount| mount["name"] != "subject-token");
    });
    let read_only = readme("read-only").with(|pod| {
        pod["spec"]["initContainers"][0]["volumeMounts"][0]["readOnly"] = true.into();
    });
    let misspelt = readme("misspelt").env("dex_connector_id", "kubernets");
    let no_ca = readme("no-ca").with(|pod| {
        let variables = pod["spec"]["initContainers"][0]["env"].as_array_mut().expect("a list");
        variables.retain(|variable| variable["name"] != "DEXSIDECAR_CA_FILE");
    });
    let cases: [(Manifest, &[&str]); 4] = [
        (
            no_volume,
            &[
                "the subject token's file does not exist",
                "mount a projected serviceAccountToken volume whose path matches dex_file_subject_token",
            ],
        ),
        (read_only, &["the token file's volume is read-only", "mount it without readOnly in this container"]),
        (
            misspelt,
            &[
                "Dex has no such connector, or could not open it",
                "dex_connector_id must be the id of an oidc connector",
            ],
        ),
        (
            no_ca,
            &[
                "the server's certificate is not signed by a trusted CA",
                "name the CA that signed it with DEXSIDECAR_CA_FILE",
            ],
        ),
    ];
    let pods: Vec<_> = cases
        .iter()
        .map(|(manifest, sentences)| (Pod::apply(node, "mistakes", manifest), sentences))
        .collect();
    for (pod, sentences) in &pods {
        assert_told(pod, sentences);
    }
}

/// Dex's connector does not say what the cluster calls itself.
fn an_unknown_issuer_is_named(node: &Node) {
    let dex = dex(node, "mistakes-issuer", true, Setup { alias: false, ..Setup::default() });
    let manifest = Manifest::hardened("app", &dex).with(impatient);
    let pod = Pod::apply(node, "mistakes-issuer", &manifest);
    assert_told(&pod, &["the connector's issuer or issuerAlias"]);
}

fn wrong_settings_are_named(node: &Node) {
    let dex = dex(node, "mistakes-settings", true, Setup::default());
    let manifest = Manifest::hardened("app", &dex)
        .env("dex_refresh_before", "soon")
        .env("DEXSIDECAR_KEYCHECK", "10m")
        .env("dex_endpoint", "dex.example.com/token");
    let pod = Pod::apply(node, "mistakes-settings", &manifest);
    let now = pod.until("it has ended", |pod| sidecar(pod)["lastState"]["terminated"].is_object());
    assert_eq!(sidecar(&now)["lastState"]["terminated"]["exitCode"], 78);
    assert_told(&pod, &["dex_refresh_before", "DEXSIDECAR_KEY_CHECK", "dex_endpoint"]);
}

/// Ten minutes is the API server's own limit, and enough for the schedule.
fn an_expiry_too_short_is_refused(node: &Node) {
    let dex = dex(node, "mistakes-expiry", true, Setup::default());
    let manifest = Manifest::hardened("app", &dex).with(|pod| {
        let volumes = pod["spec"]["volumes"].as_array_mut().expect("a list");
        let projected =
            volumes.iter_mut().find(|volume| volume["projected"].is_object()).expect("it is there");
        projected["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] = 60.into();
    });
    let refused = node.apply("mistakes-expiry", &manifest.0).expect_err("it is too short");
    assert!(refused.contains("may not specify a duration less than 10 minutes"), "{refused}");
}
