//! The pod that the library chart renders, on the real node: the text that Helm wrote, with the URL
//! of this Dex.

use dexsidecar_e2e::app_image::APP;
use dexsidecar_e2e::dex::DexSetup;
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod};
use dexsidecar_e2e::rendered::{documents, pod_spec};
use dexsidecar_e2e::signing_key::claims;
use serde_json::{Value, json};

use crate::{NodeTest, dex, node_tests};

pub(crate) const TESTS: &[NodeTest] = node_tests![the_pod_of_the_library_chart_gets_several_tokens];

/// One client is public. The other has a secret, which is mounted from a Secret.
fn the_pod_of_the_library_chart_gets_several_tokens(node: &Node) {
    let secret = "canary-prometheus";
    let clients = vec![json!({"id": "prometheus", "name": "prometheus", "secret": secret})];
    let dex = dex(node, "chart", true, DexSetup { clients, ..DexSetup::default() });
    let kubectl = |words: &[&str]| node.plane.kubectl(&[&["--namespace", "chart", "create"], words].concat());
    kubectl(&["configmap", "ca", &format!("--from-file=ca.crt={}", dex.ca_file().display())]);
    kubectl(&["secret", "generic", "dex-client", &format!("--from-literal=basic-auth=prometheus:{secret}")]);

    let text = doc_manifests::text("deploy/helm/dexsidecar-lib/tests/rendered/several-tokens.yaml");
    let rendered = documents(&text.replace("https://dex.example.com/token", &dex.endpoint()));
    let [map, deployment] = &rendered[..] else { panic!("a ConfigMap and a Deployment: {text}") };
    node.apply("chart", map).unwrap_or_else(|why| panic!("{why}"));
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}});
    pod["spec"] = pod_spec(deployment).clone();
    pod["spec"]["containers"][0]["image"] = APP.into();
    pod["spec"]["terminationGracePeriodSeconds"] = 1.into();
    // The namespace of these tests has another ConfigMap dex-ca.
    let volumes = pod["spec"]["volumes"].as_array_mut().expect("a list");
    let ca = volumes.iter_mut().find(|volume| volume["name"] == "dex-ca").expect("a volume");
    ca["configMap"]["name"] = "ca".into();
    let script = "cd /var/run/secrets/dex && test -s token && test -s prometheus.json && test -s header \
                  && echo every token is there; exec sleep infinity";
    let pod = Pod::apply(node, "chart", &Manifest(pod).app(script));
    pod.until_running();
    pod.until_line("app", "every token is there");
    assert_eq!(claims(&pod.token())["aud"], "incus");
    let read = |words: &[&str]| pod.exec("app", words).unwrap_or_else(|why| panic!("{why}"));
    let json: Value =
        serde_json::from_str(&read(&["cat", "/var/run/secrets/dex/prometheus.json"])).expect("JSON");
    assert!(json.is_object(), "{json}");
    assert_eq!(read(&["stat", "-c", "%a", "/var/run/secrets/dex/prometheus.json"]), "640\n");
    let header = read(&["cat", "/var/run/secrets/dex/header"]);
    let token = header.trim().strip_prefix("Authorization: Bearer ").expect("a header");
    assert_eq!(claims(token)["aud"], "prometheus");
}
