//! deploy/kustomize: each example is built by kubectl, compared with the text beside it, and given
//! to a real API server. The components add the container of docs/kubernetes.md.

use std::collections::BTreeSet;
use std::process::Command;

use dexsidecar_core::config::{Config, Outputs, RawSettings};
use dexsidecar_core::secret::Secret;
use dexsidecar_e2e::control_plane::ControlPlane;
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::injection;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::rendered::{Judge, documents, pod_spec, sidecar};
use dexsidecar_fetch::counterparts::{KUBECONFORM, KUBECTL};
use serde_json::{Map, Value, json};

use crate::generated;
use crate::schemas;
use crate::waiting;

/// Each example, and how many documents it has.
const EXAMPLES: [(&str, usize); 8] = [
    ("workloads", 7),
    ("private-ca", 1),
    ("ca-secret", 7),
    ("ca-cluster-trust-bundle", 7),
    ("monitoring", 4),
    ("injection", 6),
    ("wait-image-volume", 3),
    ("wait-copy", 3),
];

/// The kinds of workload in the example `workloads`.
const KINDS: [&str; 6] = ["CronJob", "DaemonSet", "Deployment", "Job", "Pod", "StatefulSet"];

/// What kubectl builds from a directory below deploy/kustomize.
fn built(directory: &str) -> String {
    let path = doc_manifests::root().join("deploy/kustomize").join(directory);
    let output = Command::new(prebuilt::program(&KUBECTL)).arg("kustomize").arg(path).output();
    let output = output.expect("kubectl was built");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{directory}: {error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn example(name: &str) -> Vec<Value> {
    documents(&built(&format!("examples/{name}")))
}

fn named<'a>(documents: &'a [Value], name: &str) -> &'a Value {
    documents.iter().find(|one| one["metadata"]["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// The source of the volume that the sidecar of a pod reads the CA from.
fn ca_volume(pod: &Value) -> Value {
    let sidecar = sidecar(pod);
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let variable = json!({"name": "DEXSIDECAR_CA_FILE", "value": "/etc/dex/ca.crt"});
    assert!(list(&sidecar["env"]).contains(&variable), "{sidecar:#}");
    let mount = json!({"name": "dex-ca", "mountPath": "/etc/dex", "readOnly": true});
    assert!(list(&sidecar["volumeMounts"]).contains(&mount), "{sidecar:#}");
    let mut volume = list(&pod["volumes"]).into_iter().find(|volume| volume["name"] == "dex-ca");
    let volume = volume.as_mut().and_then(Value::as_object_mut).expect("the volume");
    volume.remove("name");
    Value::Object(volume.clone())
}

#[test]
fn each_example_is_built_to_the_text_beside_it() {
    for (name, count) in EXAMPLES {
        let text = built(&format!("examples/{name}"));
        assert_eq!(documents(&text).len(), count, "{name}");
        generated::page(&format!("deploy/kustomize/examples/{name}/rendered.yaml"), &text);
    }
}

#[test]
fn each_example_is_accepted_by_a_restricted_api_server_and_by_kubeconform() {
    let judge = Judge::start();
    let schemas = schemas::of(&judge);
    for (name, count) in EXAMPLES {
        let text = built(&format!("examples/{name}"));
        assert_eq!(judge.accepts(&text).len(), count, "{name}");
        schemas::assert_valid(&schemas, &prebuilt::program(&KUBECONFORM), &text);
    }
    // The API server and the schemas do refuse.
    let wrong = built("examples/private-ca").replace("failureThreshold: 300", "failureThresholds: 300");
    let refused = judge.plane().apply(&wrong, &["--dry-run=server", "--validate=strict"]);
    assert!(refused.is_err_and(|why| why.contains("failureThresholds")));
    schemas::assert_invalid(&schemas, &prebuilt::program(&KUBECONFORM), &wrong, "failureThresholds");
}

#[test]
fn the_container_and_the_volumes_are_those_of_the_page_in_each_kind_of_workload() {
    let page = doc_manifests::hardened_pod();
    let workloads = example("workloads");
    for kind in KINDS {
        let workload = named(&workloads, &kind.to_lowercase());
        assert_eq!(workload["kind"], kind);
        let pod = pod_spec(workload);
        assert_eq!(sidecar(pod), sidecar(&page["spec"]), "{kind}");
        assert_eq!(pod["volumes"], page["spec"]["volumes"], "{kind}");
        assert_eq!(pod["containers"], page["spec"]["containers"], "{kind}");
        assert_eq!(pod["securityContext"], page["spec"]["securityContext"], "{kind}");
    }
    let untouched = pod_spec(named(&workloads, "without-sidecar"));
    assert!(untouched["initContainers"].is_null() && untouched["volumes"].is_null(), "{untouched:#}");
}

#[test]
fn the_sidecar_starts_before_the_init_containers_of_the_workload() {
    let workloads = example("workloads");
    let pod = pod_spec(named(&workloads, "statefulset"));
    let names: Vec<&Value> =
        pod["initContainers"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["dexsidecar", "migrate"]);
}

/// The page's pod whose app waits for the token, with each of the two ways to get the program.
#[test]
fn the_pod_of_an_app_that_waits_is_that_of_the_page_in_each_kind_of_workload() {
    let page = doc_manifests::waiting_pod()["spec"].clone();
    let own = concat!("\"registry.example.com/dexsidecar:", env!("CARGO_PKG_VERSION"));
    let plain = concat!("\"dexsidecar:", env!("CARGO_PKG_VERSION"));
    for (name, page) in
        [("wait-copy", page.clone()), ("wait-image-volume", waiting::with_image_volume(&page))]
    {
        let workloads = example(name);
        for workload in ["deployment", "cronjob", "pod"] {
            let built = pod_spec(named(&workloads, workload)).to_string();
            assert!(!built.contains(plain), "{name}: {workload} has an image of another registry: {built}");
            let built = serde_json::from_str(&built.replace(own, plain)).expect("JSON");
            assert_eq!(waiting::outline(&built), waiting::outline(&page), "{name}: {workload}");
        }
    }
}

#[test]
fn an_overlay_changes_the_settings_and_adds_a_private_ca() {
    let documents = example("private-ca");
    let pod = pod_spec(named(&documents, "app"));
    let sidecar = sidecar(pod);
    assert_eq!(sidecar["image"], concat!("registry.example.com/dexsidecar:", env!("CARGO_PKG_VERSION")));
    let variables = sidecar["env"].as_array().expect("a list").iter().map(|entry| {
        let text = |name: &str| entry[name].as_str().expect("a string").to_owned();
        (text("name"), Secret::new(text("value")))
    });
    let config = Config::read(&RawSettings::of_variables(variables.collect::<Vec<_>>()), Outputs::Required);
    let config = config.expect("the program accepts it");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let item = json!({"key": "ca.crt", "path": "ca.crt"});
    assert_eq!(ca_volume(pod), json!({"configMap": {"name": "dex-ca", "items": [item]}}));
}

#[test]
fn the_components_of_a_ca_add_it_to_each_kind_of_workload() {
    let item = json!({"key": "ca.crt", "path": "ca.crt"});
    for (name, source) in [
        ("ca-secret", json!({"secret": {"secretName": "dex-ca", "items": [item]}})),
        (
            "ca-cluster-trust-bundle",
            json!({"projected": {"sources": [{"clusterTrustBundle": {"name": "dex-ca", "path": "ca.crt"}}]}}),
        ),
    ] {
        let workloads = example(name);
        for kind in KINDS {
            let workload = named(&workloads, &kind.to_lowercase());
            assert_eq!(ca_volume(pod_spec(workload)), source, "{name}: {kind}");
        }
        let untouched = pod_spec(named(&workloads, "without-sidecar"));
        assert!(untouched["volumes"].is_null(), "{untouched:#}");
    }
}

const EXAMPLE: &str = "deploy/kustomize/examples/injection/kustomization.yaml";
const PAGE: &str = "docs/injection.md";

/// The operations of the one patch in a kustomization, without the overrides.
fn operations(kustomization: &str) -> Value {
    let kustomization = doc_manifests::yaml(kustomization).expect("YAML");
    let patches = kustomization["patches"].as_array().expect("a list");
    assert_eq!(patches.len(), 1);
    let mut operations = doc_manifests::yaml(patches[0]["patch"].as_str().expect("a patch")).expect("YAML");
    let overrides = operations[1]["value"].take();
    assert!(overrides.as_str().is_some_and(|map| map.starts_with("{\"image\": ")), "{overrides}");
    json!({"target": patches[0]["target"], "operations": operations})
}

/// Its patch is that of docs/injection.md.
#[test]
fn the_example_of_injection_overrides_defaults_and_changes_nothing_else() {
    let mut rendered = example("injection");
    let mut plain = documents(&built("../injection"));
    assert_eq!(operations(&doc_manifests::text(EXAMPLE)), operations(&doc_manifests::blocks(PAGE)[0]));
    let overrides = |documents: &mut [Value]| -> Map<String, Value> {
        let policy = documents.iter_mut().find(|one| one["kind"] == "MutatingAdmissionPolicy");
        let expression = policy.expect("the policy")["spec"]["variables"][0]["expression"].take();
        serde_json::from_str(expression.as_str().expect("an expression")).expect("JSON")
    };
    let (given, usual) = (overrides(&mut rendered), overrides(&mut plain));
    assert_eq!(rendered, plain);
    assert!(usual.is_empty(), "{usual:?}");
    let keys: BTreeSet<&str> = given.keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["ca-configmap", "client-id", "endpoint", "image"]));
}

#[test]
fn pods_are_injected_with_the_defaults_of_the_example() {
    let plane = ControlPlane::start();
    let directory = doc_manifests::root().join("deploy/kustomize/examples/injection");
    injection::install(&plane, &directory.display().to_string());
    let pod = injection::submit(&plane, "default", &injection::pod("app")).expect("it is admitted");
    let sidecar = sidecar(&pod["spec"]);
    assert_eq!(sidecar["image"], concat!("registry.example.com/dexsidecar:", env!("CARGO_PKG_VERSION")));
    let env = sidecar["env"].as_array().expect("a list");
    for (name, value) in [
        ("dex_endpoint", "https://dex.internal.example.com/token"),
        ("dex_basic_auth", "grafana:"),
        ("DEXSIDECAR_CA_FILE", "/etc/dexsidecar-ca/ca.crt"),
    ] {
        assert!(env.contains(&json!({"name": name, "value": value})), "{name}: {env:?}");
    }
}

#[test]
fn the_component_listener_opens_the_port_that_the_pod_monitor_scrapes() {
    let documents = example("monitoring");
    let app = named(&documents, "app");
    let monitor = documents.iter().find(|one| one["kind"] == "PodMonitor").expect("a PodMonitor");
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    let sidecar = sidecar(pod_spec(app));
    assert_eq!(sidecar["ports"], json!([{"name": endpoint["port"], "containerPort": 9090}]));
    let env = sidecar["env"].as_array().expect("a list");
    assert!(env.contains(&json!({"name": "DEXSIDECAR_LISTEN", "value": ":9090"})), "{env:?}");
    let labels = app["spec"]["template"]["metadata"]["labels"].as_object().expect("labels");
    for (name, value) in monitor["spec"]["selector"]["matchLabels"].as_object().expect("labels") {
        assert_eq!(labels.get(name), Some(value));
    }
}

/// Kustomize cannot put a file into a document, so the rules of the operator are a second file.
#[test]
fn the_prometheus_rule_has_the_groups_of_the_alerts() {
    let alerts = doc_manifests::text("deploy/monitoring/alerts.yaml");
    let (_, groups) = alerts.split_once("\ngroups:\n").expect("groups");
    let mut text = "# The rules of alerts.yaml for the Prometheus Operator. This file is generated by `cargo xtask docs`.\n\
                    apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: dexsidecar\n\
                    spec:\n  groups:\n"
        .to_owned();
    for line in groups.lines() {
        text += &if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") };
    }
    generated::page("deploy/monitoring/prometheusrule.yaml", &text);
    let parse = |text: &str| doc_manifests::yaml(text).expect("YAML");
    assert_eq!(parse(&text)["spec"]["groups"], parse(&alerts)["groups"]);
}
