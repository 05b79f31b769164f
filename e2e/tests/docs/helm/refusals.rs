//! Values that make no sense are refused and named, and those that are strange stay one value. A
//! cluster that is too old is refused.

use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::rendered::{documents, pod_spec, sidecar};
use serde_json::{Value, json};

use super::{CLUSTER, Charts, EXAMPLE, LIBRARY, several_tokens};
use crate::chart_pages::paths;

/// A value, where it is, and what the error contains.
fn senseless() -> Vec<(&'static str, Value, &'static str)> {
    let library = |values: Value| json!({"dexsidecar": values});
    let file = json!({"name": "dex-ca", "key": "ca.crt"});
    let with_output = |fields: Value| {
        let mut values = several_tokens();
        for (name, value) in fields.as_object().expect("an object") {
            values["config"]["file"]["tokens"][0]["outputs"][0][name] = value.clone();
        }
        library(values)
    };
    vec![
        (EXAMPLE, library(json!({"endpoint": null})), "endpoint"),
        (EXAMPLE, library(json!({"endpoint": "dex.example.com/token"})), "endpoint"),
        (EXAMPLE, library(json!({"endpoint": "https://dex.example.com/token/"})), "endpoint"),
        (EXAMPLE, library(json!({"endpoint": "https://dex.example.com"})), "endpoint"),
        (EXAMPLE, library(json!({"clientId": 7})), "clientId"),
        (EXAMPLE, library(json!({"clientId": "incus:secret"})), "clientId"),
        (EXAMPLE, library(json!({"clientID": "incus"})), "clientID"),
        (EXAMPLE, library(json!({"connectorId": ""})), "connectorId"),
        (EXAMPLE, library(json!({"scope": "openid  profile"})), "scope"),
        (EXAMPLE, library(json!({"scope": "openid $(SCOPE)"})), "scope"),
        (EXAMPLE, library(json!({"image": {"digest": "sha256:12"}})), "image"),
        (EXAMPLE, library(json!({"image": {"tag": ""}})), "image"),
        (EXAMPLE, library(json!({"mode": "forever"})), "mode"),
        (EXAMPLE, library(json!({"mode": "once", "listenPort": 9090})), "dexsidecar"),
        (EXAMPLE, library(json!({"mode": "once", "start": "wait"})), "dexsidecar"),
        (EXAMPLE, library(json!({"start": "later"})), "start"),
        (EXAMPLE, library(json!({"program": "download"})), "program"),
        (EXAMPLE, library(json!({"listenPort": 80})), "listenPort"),
        (EXAMPLE, library(json!({"listenPort": "9090"})), "listenPort"),
        (EXAMPLE, library(json!({"token": {"directory": "run/dex"}})), "directory"),
        (EXAMPLE, library(json!({"token": {"directory": "/run/../etc"}})), "directory"),
        (EXAMPLE, library(json!({"token": {"directory": "/var/run/secrets/subject"}})), "directory"),
        (EXAMPLE, library(json!({"token": {"file": "a/b"}})), "file"),
        (EXAMPLE, library(json!({"subjectToken": {"expirationSeconds": 599}})), "expirationSeconds"),
        (EXAMPLE, library(json!({"subjectToken": {"audience": ""}})), "audience"),
        (EXAMPLE, library(json!({"ca": {"configMap": file, "secret": file}})), "ca"),
        (EXAMPLE, library(json!({"ca": {"configMap": {"name": "dex-ca"}}})), "key"),
        (EXAMPLE, library(json!({"clientSecret": {"name": "Dex Client"}})), "clientSecret"),
        (EXAMPLE, library(json!({"extraEnv": [{"name": "dex_endpoint", "value": "x"}]})), "extraEnv"),
        (EXAMPLE, library(json!({"extraEnv": [{"name": "DEXSIDECAR_CONFIG", "value": "x"}]})), "extraEnv"),
        (EXAMPLE, library(json!({"extraEnv": [{"name": "A"}]})), "extraEnv"),
        (EXAMPLE, library(json!({"resources": {"limits": {"memory": "16 MB"}}})), "memory"),
        (EXAMPLE, library(json!({"config": {"name": "dex-tokens"}})), "endpoint"),
        (EXAMPLE, library(json!({"config": {"file": several_tokens()["config"]["file"]}})), "file"),
        (EXAMPLE, with_output(json!({"mode": 416})), "mode"),
        (EXAMPLE, with_output(json!({"format": "jwt"})), "format"),
        (EXAMPLE, with_output(json!({"owner": "app"})), "owner"),
        (CLUSTER, json!({"discovery": {"enabled": "yes"}}), "enabled"),
        (CLUSTER, json!({"injection": {"enabled": true}}), "at '/injection': missing property 'endpoint'"),
        (
            CLUSTER,
            json!({"injection": {"enabled": true}}),
            "'/injection/image': missing property 'repository'",
        ),
        (CLUSTER, json!({"injection": {"enabled": true, "endpoint": ""}}), "'/injection/endpoint'"),
        (CLUSTER, json!({"injection": {"image": {"repository": ""}}}), "'/injection/image/repository'"),
        (CLUSTER, json!({"injection": {"endpoint": "http://dex.example.com/token"}}), "endpoint"),
        (CLUSTER, json!({"injection": {"clientId": "incus:secret"}}), "clientId"),
        (CLUSTER, json!({"injection": {"connectorId": "a\nb"}}), "connectorId"),
        (CLUSTER, json!({"injection": {"connectorId": "$(NAME)"}}), "connectorId"),
        (CLUSTER, json!({"injection": {"scope": "openid \"groups\""}}), "scope"),
        (CLUSTER, json!({"injection": {"start": "later"}}), "start"),
        (CLUSTER, json!({"injection": {"listenPort": 80}}), "listenPort"),
        (CLUSTER, json!({"injection": {"listenPort": "9090"}}), "listenPort"),
        (CLUSTER, json!({"injection": {"token": {"directory": "/var/run/secrets"}}}), "directory"),
        (CLUSTER, json!({"injection": {"subjectToken": {"expirationSeconds": "3600"}}}), "expirationSeconds"),
        (CLUSTER, json!({"injection": {"ca": {"configMap": file, "secret": file}}}), "ca"),
        (CLUSTER, json!({"injection": {"ca": {"secret": {"name": "dex_ca"}}}}), "secret"),
        (CLUSTER, json!({"injection": {"resources": {"limits": {"memory": "4Mi"}}}}), "memory"),
        (CLUSTER, json!({"injection": {"resources": {"limits": {"cpu": "1"}}}}), "cpu"),
        (CLUSTER, json!({"injection": {"client-id": "grafana"}}), "client-id"),
        (CLUSTER, json!({"podMonitor": {"namespaces": ["a", "a"]}}), "namespaces"),
        (CLUSTER, json!({"podMonitor": {"namespaces": ["A"]}}), "namespaces"),
        (CLUSTER, json!({"podMonitor": {"labels": {"release": 1}}}), "release"),
        (CLUSTER, json!({"podMonitor": {"fleetProfile": "true"}}), "fleetProfile"),
        (CLUSTER, json!({"rules": {"runbookBase": "https://git.example.com"}}), "runbookBase"),
        (CLUSTER, json!({"dashboard": {"folder": "x"}}), "folder"),
    ]
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn values_that_make_no_sense_fail_the_schema_and_are_named() {
    let charts = Charts::new();
    for (chart, values, words) in senseless() {
        let why = charts.render(chart, &values).expect_err(&format!("accepted: {values}"));
        assert!(why.contains("schema") && why.contains(words), "{values}: {why}");
    }
}

/// Helm drops a key that is null: the template would write `%!s(<nil>)`, `null` or 0, or would
/// fail. So each key is required, and only a label can be dropped.
#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn each_value_that_is_null_fails_the_schema_unless_it_is_a_label() {
    let charts = Charts::new();
    let text = |chart: &str| doc_manifests::text(&format!("deploy/helm/{chart}/values.yaml"));
    let below = |part: &str, values: Value| json!({part: values});
    for (chart, values) in [(CLUSTER, CLUSTER), (EXAMPLE, LIBRARY)] {
        let defaults = doc_manifests::yaml(&text(values)).expect("YAML");
        for path in paths(&defaults) {
            let mut values = path.rsplit('.').fold(Value::Null, |value, name| below(name, value));
            if chart == EXAMPLE {
                values = below("dexsidecar", values);
            } else if path.contains(".labels.") {
                values["dashboard"]["enabled"] = true.into();
                let rendered = documents(&charts.rendered(chart, &values));
                assert_eq!(rendered.len(), 1, "{path}");
                assert!(rendered[0]["metadata"]["labels"].is_null(), "{path}: {}", rendered[0]["metadata"]);
                continue;
            }
            let (parent, name) = path.rsplit_once('.').unwrap_or(("", &path));
            let parent = parent.split('.').filter(|name| !name.is_empty()).map(|name| format!("/{name}"));
            let words = format!("at '{}': missing property '{name}'", parent.collect::<String>());
            let why = charts.render(chart, &values).expect_err(&format!("accepted: {values}"));
            assert!(why.contains("schema") && why.contains(&words), "{values}: {why}");
        }
    }
}

/// The schema lets these through, since they are valid: they must stay one value.
#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn a_value_cannot_change_the_structure_of_a_manifest() {
    let charts = Charts::new();
    for text in ["\"", "'", "\\", "{{ .Values }}", "a\nb: c", ": #", "- x", "\u{1F600}", "<&>"] {
        let values = json!({"dexsidecar": {
            "extraEnv": [{"name": "A", "value": text}], "subjectToken": {"audience": text}
        }});
        let rendered = documents(&charts.rendered(EXAMPLE, &values));
        let pod = pod_spec(&rendered[0]);
        let entry = sidecar(pod)["env"].as_array().and_then(|env| env.last()).expect("a variable");
        assert_eq!(entry, &json!({"name": "A", "value": text}));
        assert_eq!(pod["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"]["audience"], text);
    }
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn a_cluster_that_is_too_old_is_refused() {
    let charts = Charts::new();
    let path = charts.path(CLUSTER);
    let old = charts.helm(&["template", "app", &path, "--kube-version", "1.28.9"]);
    assert!(old.is_err_and(|why| why.contains("chart requires kubeVersion: >=1.29.0-0")));
    let oldest = charts.helm(&["template", "app", &path, "--kube-version", "1.29.0-gke.1"]);
    assert!(oldest.is_ok(), "{oldest:?}");
}
