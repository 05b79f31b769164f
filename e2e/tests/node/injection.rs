//! Pods that the policies of deploy/injection change, on the real node. Their manifests have no
//! sidecar, only a label and annotations.

use std::net::Ipv4Addr;
use std::sync::Once;

use dexsidecar_e2e::app_image::APP;
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::incus::Incus;
use dexsidecar_e2e::injection;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod, sidecar};
use dexsidecar_e2e::raw_http;
use dexsidecar_e2e::signing_key::claims;
use serde_json::{Value, json};

use crate::{NodeTest, dex, node_tests};

pub(crate) const TESTS: &[NodeTest] = node_tests![
    an_injected_pod_logs_in_to_incus,
    an_injected_pod_gets_the_tokens_of_a_configmap,
    an_injected_job_completes_after_its_init_container_used_the_token,
    an_injected_sidecar_is_not_root_beside_an_app_that_is,
    the_injected_command_of_start_wait_becomes_the_app_s_command,
    an_injected_pod_with_a_listen_port_is_scraped_at_its_address,
];

/// The policies are installed once for all tests: they change only pods with the label.
static INSTALLED: Once = Once::new();

/// Starts a Dex, and creates a namespace with its CA in the ConfigMap `ca`.
pub(crate) fn world(node: &Node, namespace: &str, restricted: bool) -> Dex {
    INSTALLED.call_once(|| injection::install(&node.plane, &injection::directory()));
    let dex = dex(node, namespace, restricted, DexSetup::default());
    let file = format!("--from-file=ca.crt={}", dex.ca_file().display());
    node.plane.kubectl(&["--namespace", namespace, "create", "configmap", "ca", &file]);
    dex
}

/// A pod that asks for injection, with the app's image, this Dex and its CA.
pub(crate) fn labelled(dex: &Dex) -> Manifest {
    let mut pod = injection::pod("app");
    pod["spec"]["containers"][0]["image"] = APP.into();
    pod["spec"]["terminationGracePeriodSeconds"] = 1.into();
    pod["metadata"]["annotations"] = json!({
        "dexsidecar.io/endpoint": dex.endpoint(),
        "dexsidecar.io/ca-configmap": "ca"
    });
    Manifest(pod)
}

pub(crate) fn annotate(manifest: Manifest, name: &str, value: &str) -> Manifest {
    manifest.with(|pod| pod["metadata"]["annotations"][format!("dexsidecar.io/{name}")] = value.into())
}

fn an_injected_pod_logs_in_to_incus(node: &Node) {
    let dex = world(node, "injected", true);
    let incus = Incus::start(&dex);
    let pod = Pod::apply(node, "injected", &labelled(&dex));
    let now = pod.until_running();
    let trusted = "auth: trusted\nauth_user_name: system:serviceaccount:injected:app\n";
    assert_eq!(incus.authentication_of(&pod, false), "auth: untrusted\nauth_user_name: none\n");
    assert_eq!(incus.authentication_of(&pod, true), trusted);
    let report = pod.exec("dexsidecar", &["dexsidecar", "check"]).unwrap_or_else(|why| panic!("{why}"));
    assert!(report.lines().all(|line| line.starts_with("ok ")), "{report}");

    // The app keeps its API token. The sidecar has none: its subject token takes that place.
    let api_token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let of_app = claims(&pod.exec("app", &["cat", api_token]).unwrap_or_else(|why| panic!("{why}")));
    assert_ne!(of_app["aud"], json!(["dex"]));
    let mounts = now["spec"]["initContainers"][0]["volumeMounts"].as_array().expect("a list");
    let names: Vec<&Value> = mounts.iter().map(|mount| &mount["name"]).collect();
    assert_eq!(names, ["dexsidecar-token", "dexsidecar-subject", "dexsidecar-ca"]);
}

/// The ConfigMap is the one of docs/injection.md.
fn an_injected_pod_gets_the_tokens_of_a_configmap(node: &Node) {
    let dex = world(node, "injected-tokens", true);
    let manifests = doc_manifests::manifests("docs/injection.md");
    let map = manifests.iter().find(|manifest| manifest["kind"] == "ConfigMap").expect("a ConfigMap");
    let map = map.to_string().replace("https://dex.example.com/token", &dex.endpoint());
    let applied = node.plane.apply(&map, &["--namespace", "injected-tokens"]);
    applied.unwrap_or_else(|why| panic!("{why}"));
    let manifest = annotate(labelled(&dex), "tokens-configmap", "dex-tokens").with(|pod| {
        let annotations = pod["metadata"]["annotations"].as_object_mut().expect("an object");
        annotations.remove("dexsidecar.io/endpoint");
    });
    let pod = Pod::apply(node, "injected-tokens", &manifest);
    pod.until_running();
    assert_eq!(claims(&pod.token())["aud"], "incus");
    let second = pod.exec("app", &["cat", "/var/run/secrets/dex/second.json"]);
    let second: Value = serde_json::from_str(&second.unwrap_or_else(|why| panic!("{why}"))).expect("JSON");
    assert!(second.is_object(), "{second}");
}

fn an_injected_job_completes_after_its_init_container_used_the_token(node: &Node) {
    let dex = world(node, "injected-job", true);
    let script = "test -s /var/run/secrets/dex/token";
    let manifest = annotate(labelled(&dex), "containers", "migrate,app").app(script).with(|pod| {
        let mut migrate = pod["spec"]["containers"][0].clone();
        migrate["name"] = "migrate".into();
        pod["spec"]["initContainers"] = json!([migrate]);
        pod["spec"]["restartPolicy"] = "Never".into();
        pod["metadata"].as_object_mut().expect("an object").remove("name");
    });
    let template = json!({"metadata": manifest.0["metadata"], "spec": manifest.0["spec"]});
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "app"},
        "spec": {"template": template, "backoffLimit": 0}
    });
    node.apply("injected-job", &job).unwrap_or_else(|why| panic!("{why}"));
    let path = "/apis/batch/v1/namespaces/injected-job/jobs/app";
    node.until("the Job has succeeded", || node.get(path)["status"]["succeeded"] == 1);
}

fn an_injected_sidecar_is_not_root_beside_an_app_that_is(node: &Node) {
    let dex = world(node, "injected-root", false);
    let manifest = labelled(&dex).with(|pod| pod["spec"]["securityContext"] = json!({"runAsUser": 0}));
    let pod = Pod::apply(node, "injected-root", &manifest);
    let now = pod.until_running();
    assert_eq!(sidecar(&now)["ready"], true);
    let owner = pod.exec("app", &["stat", "-c", "%u", "/var/run/secrets/dex/token"]);
    assert_eq!(owner.as_deref(), Ok("65532\n"));
    assert_eq!(claims(&pod.token())["name"], "system:serviceaccount:injected-root:app");
}

/// The program comes from an image volume.
fn the_injected_command_of_start_wait_becomes_the_app_s_command(node: &Node) {
    let dex = world(node, "injected-wait", true);
    let script = "test -s /var/run/secrets/dex/token && echo started with a token; exec sleep infinity";
    let manifest = annotate(labelled(&dex), "start", "wait").app(script);
    let pod = Pod::apply(node, "injected-wait", &manifest);
    let created = pod.now();
    let command = created["spec"]["containers"][0]["command"].as_array().expect("a command");
    assert_eq!(command[1], "wait", "{command:?}");
    assert_eq!(created["spec"]["initContainers"][0]["startupProbe"], Value::Null, "the app starts at once");
    pod.until_line("app", "started with a token");
    assert_eq!(claims(&pod.token())["aud"], "incus");
}

/// The address and the port are those that a PodMonitor with the port `dexsidecar` finds.
fn an_injected_pod_with_a_listen_port_is_scraped_at_its_address(node: &Node) {
    let dex = world(node, "injected-metrics", true);
    let pod = Pod::apply(node, "injected-metrics", &annotate(labelled(&dex), "listen-port", "9090"));
    let now = pod.until_running();
    assert_eq!(now["metadata"]["labels"]["dexsidecar.io/scrape"], "true");
    let ports = now["spec"]["initContainers"][0]["ports"].as_array().expect("a list of ports");
    let port = ports.iter().find(|port| port["name"] == "dexsidecar").expect("the port of the PodMonitor");
    let port = port["containerPort"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let address: Ipv4Addr =
        now["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok()).expect("an address");
    assert!(!address.is_loopback() && port == 9090, "{address}:{port}");
    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}:{port}\r\nConnection: close\r\n\r\n");
        raw_http::send((address, port).into(), &request).expect("the sidecar listens at the pod's address")
    };
    assert_eq!(get("/readyz").status, 200);
    let scraped = get("/metrics");
    assert_eq!(scraped.status, 200, "{}", scraped.body);
    let value = |name: &str| -> f64 {
        let mut lines = scraped.body.lines().filter_map(|line| line.strip_prefix(name)?.split_once("} "));
        let (_, value) = lines.next().unwrap_or_else(|| panic!("{name} is missing\n{}", scraped.body));
        value.parse().expect("a number")
    };
    assert!((value("dexsidecar_token_ready{") - 1.0).abs() < f64::EPSILON, "{}", scraped.body);
    let expires = claims(&pod.token())["exp"].as_f64().expect("a time");
    let reported = value("dexsidecar_token_expiration_timestamp_seconds{");
    assert!((reported - expires).abs() < 1.0, "{reported} is not {expires}\n{}", scraped.body);
}
