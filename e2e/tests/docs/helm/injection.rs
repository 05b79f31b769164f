//! The policies of deploy/injection as the chart of the cluster renders them: they are the plain
//! manifests with other defaults, and they inject what the library chart renders.

use dexsidecar_e2e::control_plane::ControlPlane;
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::injection::{self, DIRECTORY, pod, submit};
use dexsidecar_e2e::rendered::{Judge, documents, pod_spec, sidecar};
use serde_json::{Map, Value, json};

use super::{CLUSTER, Charts, EXAMPLE};

// What the plain manifests have for the two values without a default.
const ENDPOINT: &str = "https://dex.example.com/token";
const REPOSITORY: &str = "dexsidecar";

/// The plain manifests, in the order of the chart.
fn plain() -> Vec<Value> {
    ["mutating", "mutating-bindings", "validating", "validating-bindings"]
        .iter()
        .flat_map(|name| documents(&doc_manifests::text(&format!("{DIRECTORY}/{name}.yaml"))))
        .collect()
}

/// The defaults in the mutating policy: a map of CEL that is JSON too.
fn defaults(policy: &Value) -> Map<String, Value> {
    let variable = &policy["spec"]["variables"][1];
    assert_eq!(variable["name"], "built_in_defaults");
    serde_json::from_str(variable["expression"].as_str().expect("an expression")).expect("JSON")
}

/// The values of the chart for injection that is enabled. Those without a default are those of the
/// plain manifests.
pub(super) fn enabled(values: &Value) -> Value {
    let mut values = values.clone();
    values["enabled"] = true.into();
    if values["endpoint"].is_null() {
        values["endpoint"] = ENDPOINT.into();
    }
    if values["image"]["repository"].is_null() {
        values["image"]["repository"] = REPOSITORY.into();
    }
    json!({"injection": values})
}

fn schema() -> Value {
    let schema = doc_manifests::text("deploy/helm/dexsidecar/values.schema.json");
    serde_json::from_str(&schema).expect("JSON")
}

#[test]
fn the_values_of_the_chart_are_the_defaults_of_the_policy() {
    let values = doc_manifests::yaml(&doc_manifests::text("deploy/helm/dexsidecar/values.yaml"));
    let values = &values.expect("YAML")["injection"];
    let text = |pointer: &str| values.pointer(pointer).and_then(Value::as_str).expect("a text").to_owned();
    let expected = json!({
        "image": format!("{REPOSITORY}:{}", text("/image/tag")),
        "endpoint": ENDPOINT,
        "client-id": values["clientId"],
        "connector": values["connectorId"],
        "scope": values["scope"],
        "path": text("/token/directory") + "/" + &text("/token/file"),
        "audience": values["subjectToken"]["audience"],
        "expiration-seconds": values["subjectToken"]["expirationSeconds"].to_string(),
        "start": values["start"],
        "listen-port": "",
        "ca-configmap": "",
        "ca-secret": "",
        "ca-trust-bundle": "",
        "cpu-request": values["resources"]["requests"]["cpu"],
        "memory-request": values["resources"]["requests"]["memory"],
        "memory-limit": values["resources"]["limits"]["memory"]
    });
    assert_eq!(Value::Object(defaults(&plain()[0])), expected);
    assert_eq!((&values["ca"], &values["listenPort"]), (&json!({}), &json!(0)));
}

/// A default that the policy would refuse as an annotation is refused as a value too.
#[test]
fn the_schema_has_the_patterns_of_the_validating_policy() {
    let (schema, policy) = (schema(), doc_manifests::text(&format!("{DIRECTORY}/validating.yaml")));
    let values = &schema["properties"]["injection"]["properties"];
    for (annotation, value) in [
        ("endpoint", &values["endpoint"]),
        ("client-id", &values["clientId"]),
        ("connector", &values["connectorId"]),
        ("scope", &values["scope"]),
        ("audience", &values["subjectToken"]["properties"]["audience"]),
        ("ca-configmap", &schema["definitions"]["ca"]["properties"]["name"]),
        ("ca-secret", &schema["definitions"]["ca"]["properties"]["name"]),
        ("ca-trust-bundle", &values["ca"]["properties"]["clusterTrustBundle"]["properties"]["name"]),
    ] {
        // A row has the name and the pattern, which is a raw text or not.
        let row = ["r\"^", "\"^"]
            .iter()
            .find_map(|quote| policy.split_once(&format!("[\"{annotation}\", {quote}")));
        let pattern =
            row.and_then(|(_, rest)| rest.split_once('"')).map(|(pattern, _)| format!("^{pattern}"));
        assert!(pattern.is_some(), "the policy has no row for {annotation}");
        assert_eq!(value["pattern"].as_str(), pattern.as_deref(), "{annotation}");
    }
    let text = &schema["definitions"]["text"];
    let characters = text["not"]["pattern"].as_str().expect("a pattern");
    assert!(policy.contains(&format!("size(v) <= {}", text["maxLength"])));
    assert!(policy.contains(&format!("!v.matches(r\"{characters}\")")), "{characters}");
}

#[test]
fn the_schema_and_the_policy_accept_the_same_token_files() {
    let schema = schema();
    let token = schema["properties"]["injection"]["properties"]["token"].clone();
    let validator = jsonschema::validator_for(&token).expect("a schema");
    let plane = super::super::injection::plane(dexsidecar_e2e::control_plane::PlaneSetup::default());
    for (directory, file, accepted) in [
        ("/var/run/secrets/dex", "token", true),
        ("/etc/tokens", "grafana", true),
        ("/run/dex", "token", true),
        ("/var/lib/app", "token", true),
        ("/var/lib", "token", false),
        ("/tokens", "token", false),
        ("/run/secrets", "token", false),
        ("/var/run", "token", false),
        ("/var/run/secrets/kubernetes.io", "token", false),
        ("/var/run/secrets/kubernetes.io/serviceaccount", "token", false),
        ("/var/run/secrets/kubernetes.iota", "token", true),
        ("/usr/lib/dex", "token", false),
        ("/etc/ssl/certs", "token", false),
        ("/etc/dexsidecar/a", "token", false),
        ("/var/../etc", "token", false),
        ("/var/run/dex/", "token", false),
        ("/srv/dex", ".token", false),
        ("/srv/dex", "a b", false),
    ] {
        let value = json!({"directory": directory, "file": file});
        assert_eq!(validator.is_valid(&value), accepted, "schema: {value}");
        let mut pod = pod("app");
        pod["metadata"]["annotations"]["dexsidecar.io/path"] = format!("{directory}/{file}").into();
        assert_eq!(submit(&plane, "default", &pod).is_ok(), accepted, "policy: {value}");
    }
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn the_chart_renders_the_plain_manifests_and_values_change_the_defaults_only() {
    let charts = Charts::new();
    assert_eq!(documents(&charts.rendered(CLUSTER, &enabled(&json!({})))), plain());
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let values = json!({
        "image": {"repository": "registry.example.com/dexsidecar", "digest": digest},
        "endpoint": "https://dex.example.org/dex/token",
        "clientId": "grafana",
        "connectorId": "cluster-1",
        "scope": "openid",
        "token": {"directory": "/run/tokens", "file": "grafana"},
        "subjectToken": {"audience": "https://dex.example.org", "expirationSeconds": 7200},
        "start": "wait",
        "listenPort": 9090,
        "ca": {"secret": {"name": "dex-ca"}},
        "resources": {"requests": {"cpu": "2m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}}
    });
    let mut rendered = documents(&charts.rendered(CLUSTER, &enabled(&values)));
    let expected = json!({
        "image": format!("registry.example.com/dexsidecar@{digest}"),
        "endpoint": "https://dex.example.org/dex/token",
        "client-id": "grafana",
        "connector": "cluster-1",
        "scope": "openid",
        "path": "/run/tokens/grafana",
        "audience": "https://dex.example.org",
        "expiration-seconds": "7200",
        "start": "wait",
        "listen-port": "9090",
        "ca-configmap": "",
        "ca-secret": "dex-ca",
        "ca-trust-bundle": "",
        "cpu-request": "2m",
        "memory-request": "8Mi",
        "memory-limit": "32Mi"
    });
    assert_eq!(Value::Object(defaults(&rendered[0])), expected);
    let plain = plain();
    rendered[0]["spec"]["variables"][1] = plain[0]["spec"]["variables"][1].clone();
    assert_eq!(rendered, plain);
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn injection_is_refused_where_kubernetes_lacks_it_and_where_its_memory_makes_no_sense() {
    let charts = Charts::new();
    let path = charts.path(CLUSTER);
    let rendered = |version: &str, setting: &str| {
        let values = charts.values(&enabled(&json!({})));
        let version = ["--kube-version", version, "--values", &values, "--set", setting];
        charts.helm(&[&["template", "app", &path][..], &version].concat())
    };
    let old = rendered("1.35.9", "injection.enabled=true").expect_err("too old");
    let words =
        "injection.enabled needs Kubernetes 1.36 or later, and this is v1.35.9: set injection.enabled=false";
    assert!(old.contains(words), "{old}");
    for (version, setting) in
        [("1.36.0-gke.1", "injection.enabled=true"), ("1.35.9", "injection.enabled=false")]
    {
        let said = rendered(version, setting);
        assert!(said.is_ok(), "{version}: {said:?}");
    }
    let memory = enabled(&json!({"resources": {"requests": {"memory": "64Mi"}}}));
    let why = charts.render(CLUSTER, &memory).expect_err("the request is more than the limit");
    assert!(why.contains("injection.resources.requests.memory is more than"), "{why}");
}

/// Applies what the chart renders with these values. Waits until new pods get this image.
fn apply(plane: &ControlPlane, rendered: &str, image: &str) {
    plane.apply(rendered, &[]).unwrap_or_else(|why| panic!("{why}"));
    injection::until("the policies are in effect", || {
        submit(plane, "default", &pod("plain"))
            .is_ok_and(|pod| injection::is_injected(&pod) && sidecar(&pod["spec"])["image"] == image)
    });
}

/// The schema refuses these. Without it they are the texts that they are, and no other expression.
#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn a_value_cannot_change_the_expression_of_the_policy() {
    let charts = Charts::new();
    let judge = Judge::start();
    let path = charts.path(CLUSTER);
    let texts = [
        "\"",
        "'",
        "\\",
        "\\\"",
        "a\nb: c",
        "\r\t\u{b}\u{1}",
        "{{ .Values }}",
        "\"}}",
        "\u{2028}\u{1F600}",
        "<&>",
        "'''\"\"\"",
        "\\u0041\\x41",
    ];
    for (number, text) in texts.into_iter().enumerate() {
        let image = format!("dexsidecar:{number}");
        let values = json!({"image": {"tag": number.to_string()}, "connectorId": text, "scope": text});
        let values = enabled(&values);
        let file = charts.values(&values);
        let said = charts.helm(&["template", "app", &path, "--skip-schema-validation", "--values", &file]);
        let rendered = said.unwrap_or_else(|why| panic!("{text:?}: {why}"));
        assert_eq!(documents(&rendered).len(), plain().len(), "{text:?}");
        apply(judge.plane(), &rendered, &image);
        let injected = submit(judge.plane(), "default", &pod("app")).expect("it is admitted");
        let env = sidecar(&injected["spec"])["env"].as_array().expect("a list").clone();
        for name in ["dex_connector_id", "dex_scope"] {
            assert!(env.contains(&json!({"name": name, "value": text})), "{text:?}: {env:?}");
        }
    }
}

/// Names and directories of the library chart, and those of the policy.
const RENAMED: [(&str, &str); 7] = [
    ("dex-token", "dexsidecar-token"),
    ("subject-token", "dexsidecar-subject"),
    ("/var/run/secrets/subject", "/var/run/secrets/kubernetes.io/serviceaccount"),
    ("/var/run/secrets/subject/token", "/var/run/secrets/kubernetes.io/serviceaccount/token"),
    ("dex-ca", "dexsidecar-ca"),
    ("/etc/dex", "/etc/dexsidecar-ca"),
    ("/etc/dex/ca.crt", "/etc/dexsidecar-ca/ca.crt"),
];

fn rename(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((_, other)) = RENAMED.iter().find(|(name, _)| name == text) {
                (*other).clone_into(text);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(rename),
        Value::Object(fields) => fields.values_mut().for_each(rename),
        _ => {}
    }
}

/// What two pods must have in common: the sidecar, the volumes and the mounts of the app, without
/// the volume of the API token that Kubernetes adds, and each list in the order of the names.
fn outline(pod: &Value) -> Value {
    let sorted = |list: &Value| {
        let mut list = list.as_array().expect("a list").clone();
        list.retain(|entry| !entry["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access-")));
        list.sort_by_key(|entry| entry["name"].to_string());
        Value::Array(list)
    };
    let spec = &pod["spec"];
    let mut sidecar = sidecar(spec).clone();
    for field in ["env", "volumeMounts"] {
        sidecar[field] = sorted(&sidecar[field]);
    }
    // The chart leaves these to the pod, which sets them here.
    for field in ["runAsNonRoot", "seccompProfile"] {
        sidecar["securityContext"][field] = spec["securityContext"][field].clone();
    }
    let mounts = sorted(&spec["containers"][0]["volumeMounts"]);
    json!({"sidecar": sidecar, "volumes": sorted(&spec["volumes"]), "mounts": mounts})
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn the_policy_injects_what_the_library_chart_renders() {
    let charts = Charts::new();
    let judge = Judge::start();
    let with_ca = |source: &str, library: Value| {
        (json!({"ca": {source: {"name": "ca"}}}), json!({"ca": {source: library}}))
    };
    let same = |values: Value| (values.clone(), values);
    let file = json!({"name": "ca", "key": "ca.crt"});
    let cases = [
        same(json!({})),
        same(json!({
            "endpoint": "https://dex.example.org/dex/token",
            "clientId": "grafana",
            "connectorId": "cluster-1",
            "scope": "openid groups",
            "token": {"directory": "/run/tokens", "file": "grafana"},
            "subjectToken": {"audience": "https://dex.example.org", "expirationSeconds": 7200},
            "resources": {"requests": {"cpu": "2m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}}
        })),
        same(json!({"listenPort": 9090})),
        same(json!({"start": "none"})),
        with_ca("configMap", file.clone()),
        with_ca("secret", file),
        with_ca("clusterTrustBundle", json!({"name": "ca"})),
    ];
    for (number, (mut of_policy, mut of_library)) in cases.into_iter().enumerate() {
        for values in [&mut of_policy, &mut of_library] {
            values["image"] = json!({"repository": "example.com/dexsidecar", "tag": number.to_string()});
        }
        let image = format!("example.com/dexsidecar:{number}");
        apply(judge.plane(), &charts.rendered(CLUSTER, &enabled(&of_policy)), &image);

        let deployment = &documents(&charts.rendered(EXAMPLE, &json!({"dexsidecar": of_library})))[0];
        let mut rendered = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}});
        rendered["spec"] = pod_spec(deployment).clone();
        let mut given = rendered.clone();
        given["metadata"]["labels"] = json!({"dexsidecar.io/inject": "true"});
        let spec = given["spec"].as_object_mut().expect("an object");
        spec.retain(|field, _| field != "initContainers" && field != "volumes");
        given["spec"]["containers"][0].as_object_mut().expect("an object").remove("volumeMounts");
        rename(&mut rendered);
        let [rendered, injected] = [&rendered, &given].map(|pod| {
            submit(judge.plane(), "default", pod).unwrap_or_else(|why| panic!("{of_policy}: {why}"))
        });
        assert!(!given.to_string().contains(&image), "the policy adds the sidecar");
        assert_eq!(outline(&injected), outline(&rendered), "{of_policy}");
    }
}
