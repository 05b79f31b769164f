//! deploy/injection on a real API server: what it adds to pods, what it refuses and in which words,
//! and that docs/injection.md shows the same.

mod page;
mod pods;
mod refusals;

use dexsidecar_e2e::control_plane::{ControlPlane, PlaneSetup};
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::injection::{self, DIRECTORY, is_injected, pod, submit};
use serde_json::{Value, json};

/// A control plane with the policies, and with the namespaces `restricted`, which enforces the
/// restricted Pod Security Standard, and `labelled`, whose pods are all injected.
pub(crate) fn plane(setup: PlaneSetup) -> ControlPlane {
    let plane = ControlPlane::start_with(setup);
    for (name, label) in [
        ("restricted", "pod-security.kubernetes.io/enforce=restricted"),
        ("labelled", "dexsidecar.io/inject=true"),
    ] {
        plane.kubectl(&["create", "namespace", name]);
        plane.kubectl(&["label", "namespace", name, label]);
        plane.kubectl(&["--namespace", name, "create", "serviceaccount", "app"]);
    }
    injection::install(&plane, &injection::directory());
    plane
}

/// A pod with these annotations, by their names after `dexsidecar.io/`.
fn annotated(annotations: &[(&str, &str)]) -> Value {
    let mut pod = pod("app");
    for (name, value) in annotations {
        pod["metadata"]["annotations"][format!("dexsidecar.io/{name}")] = (*value).into();
    }
    pod
}

/// The containers and init containers of a pod.
fn containers(pod: &Value) -> Vec<Value> {
    let lists = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array());
    lists.into_iter().flatten().flatten().cloned().collect()
}

/// The sidecar of a pod.
fn sidecar(pod: &Value) -> Value {
    containers(pod).into_iter().find(|container| container["name"] == "dexsidecar").unwrap_or_default()
}

/// A pod with everything that an annotation can add.
fn with_everything() -> Value {
    let mut pod = annotated(&[
        ("containers", "app"),
        ("start", "wait"),
        ("listen-port", "9090"),
        ("ca-configmap", "dex-ca"),
        ("tokens-configmap", "dex-tokens"),
    ]);
    pod["spec"]["containers"][0]["command"] = json!(["/bin/app"]);
    pod
}

/// What a pod consists of, without the fields that differ in each pod.
fn content(pod: &Value) -> Value {
    let metadata = &pod["metadata"];
    json!({"labels": metadata["labels"], "annotations": metadata["annotations"], "spec": pod["spec"]})
}

/// Others' policies run before and after these, in an order that Kubernetes does not define.
#[test]
fn an_injected_pod_passes_again_unchanged_beside_other_policies() {
    let plane = plane(PlaneSetup::default());
    let first = submit(&plane, "default", &with_everything()).expect("it is admitted");
    let again = submit(&plane, "default", &first).expect("it is admitted again");
    assert_eq!(content(&first), content(&again));

    for name in ["a-second", "z-second"] {
        let policy = include_str!("injection/second_policy.yaml").replace("NAME", name);
        plane.apply(&policy, &[]).unwrap_or_else(|why| panic!("{why}"));
    }
    injection::until("the other policies are in effect", || {
        submit(&plane, "default", &pod("app")).is_ok_and(|pod| containers(&pod).len() == 6)
    });
    // Policies of which one changes the pod after another are evaluated twice in one request.
    let all = submit(&plane, "default", &with_everything()).expect("it is admitted");
    assert_eq!(containers(&all)[0], sidecar(&first), "the sidecar is first and unchanged");
    let of_the_pod = |pod: &Value| {
        let text = pod.to_string();
        let token = text.split('"').find(|word| word.starts_with("kube-api-access-")).expect("a volume");
        let mut pod: Value = serde_json::from_str(&text.replace(token, "api-token")).expect("JSON");
        let own = containers(&pod).into_iter().find(|container| container["name"] == "app");
        json!({"app": own, "volumes": pod["spec"]["volumes"].take(), "labels": pod["metadata"]["labels"].take()})
    };
    assert_eq!(of_the_pod(&all), of_the_pod(&first));
    let again = submit(&plane, "default", &all).expect("it is admitted again");
    let names = |pod: &Value| containers(pod).iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&all).len(), 6, "{:?}", names(&all));
    assert_eq!(content(&all), content(&again));
}

/// The image may be private: the secrets of the ServiceAccount are those of the sidecar too.
#[test]
fn an_injected_pod_keeps_its_pull_secrets_or_gets_those_of_its_service_account() {
    let plane = plane(PlaneSetup::default());
    let of_the_account = json!({"imagePullSecrets": [{"name": "registry"}]});
    plane.kubectl(&["patch", "serviceaccount", "app", "--patch", &of_the_account.to_string()]);
    let mut own = pod("app");
    own["spec"]["imagePullSecrets"] = json!([{"name": "own"}]);
    for (given, expected) in [(pod("app"), "registry"), (own, "own")] {
        let secrets = || {
            let admitted = submit(&plane, "default", &given).expect("it is admitted");
            assert!(is_injected(&admitted), "{admitted:#}");
            admitted["spec"]["imagePullSecrets"].clone()
        };
        // The API server reads a changed ServiceAccount after a moment.
        injection::until(expected, || secrets() == json!([{"name": expected}]));
    }
}

/// As the kustomization of docs/injection.md does it.
fn override_defaults(plane: &ControlPlane, map: &str) {
    let patch = json!([
        {"op": "test", "path": "/spec/variables/0/name", "value": "overrides"},
        {"op": "replace", "path": "/spec/variables/0/expression", "value": map}
    ]);
    let patch = format!("--patch={patch}");
    plane.kubectl(&["patch", "mutatingadmissionpolicy", "dexsidecar-injection", "--type=json", &patch]);
}

/// An upgrade adds defaults that an older kustomization does not have.
#[test]
fn an_override_changes_its_default_only_and_an_unknown_one_is_named() {
    let plane = plane(PlaneSetup::default());
    let usual = submit(&plane, "default", &pod("app")).expect("it is admitted");
    let mut expected = sidecar(&usual);
    expected["image"] = "registry.example.com/dexsidecar:1".into();
    override_defaults(&plane, r#"{"image": "registry.example.com/dexsidecar:1"}"#);
    injection::until("the override is in effect", || {
        let admitted = submit(&plane, "default", &pod("app")).expect("it is admitted");
        sidecar(&admitted)["image"] != sidecar(&usual)["image"]
    });
    let admitted = submit(&plane, "default", &pod("app")).expect("it is admitted");
    assert_eq!(sidecar(&admitted), expected);
    override_defaults(&plane, r#"{"image": "dexsidecar:1", "client_id": "incus"}"#);
    injection::until("the unknown key is named", || {
        let refused = submit(&plane, "default", &pod("app"));
        refused.is_err_and(|why| why.contains("unknown default: client_id"))
    });
}

/// Without that, such a limit would have no effect, and no message would say so.
#[test]
fn a_memory_limit_below_the_default_request_lowers_the_request() {
    let plane = plane(PlaneSetup::default());
    override_defaults(&plane, r#"{"memory-request": "12Mi"}"#);
    let memory = |annotations: &[(&str, &str)]| {
        let admitted = submit(&plane, "default", &annotated(annotations)).expect("it is admitted");
        let resources = &sidecar(&admitted)["resources"];
        [&resources["requests"]["memory"], &resources["limits"]["memory"]].map(Value::to_string)
    };
    injection::until("the default is in effect", || memory(&[]) == [r#""12Mi""#, r#""16Mi""#]);
    assert_eq!(memory(&[("memory-limit", "8Mi")]), [r#""8Mi""#, r#""8Mi""#]);
    assert_eq!(memory(&[("memory-limit", "12Mi")]), [r#""12Mi""#, r#""12Mi""#]);
    assert_eq!(memory(&[("memory-limit", "32Mi")]), [r#""12Mi""#, r#""32Mi""#]);
    let refused =
        submit(&plane, "default", &annotated(&[("memory-limit", "8Mi"), ("memory-request", "9Mi")]));
    let refused = refused.expect_err("the request is explicit");
    assert!(refused.contains("it must not be more than the limit, 8Mi"), "{refused}");
}

/// A parameter resource would be lost here (kubernetes/kubernetes#130887), and the pods with it.
#[test]
fn pods_are_injected_again_after_uninstall_and_install() {
    let plane = plane(PlaneSetup::default());
    for _ in 0..2 {
        injection::uninstall(&plane);
        injection::install(&plane, &injection::directory());
    }
    let injected = submit(&plane, "default", &pod("app")).expect("it is admitted");
    assert!(is_injected(&injected), "{injected:#}");

    // Without the mutating policy, a pod that asks for injection does not start without it.
    plane.kubectl(&["delete", "mutatingadmissionpolicy", "dexsidecar-injection"]);
    injection::until("pods are refused", || submit(&plane, "default", &pod("app")).is_err());
    let message = submit(&plane, "default", &pod("app"));
    assert_eq!(
        message.expect_err("it is refused"),
        "dexsidecar was not injected: apply the MutatingAdmissionPolicy dexsidecar-injection and its \
         bindings again; a label that another policy or a webhook adds is not seen, so write it into the \
         manifest"
    );
}

/// Such a value makes every request fail before Kubernetes 1.36.5 (kubernetes/kubernetes#142181).
#[test]
fn no_value_of_a_json_patch_is_a_list_or_a_map_of_objects() {
    let policy = doc_manifests::yaml(&doc_manifests::text(&format!("{DIRECTORY}/mutating.yaml")));
    let policy = policy.expect("it is YAML");
    let mutations = policy["spec"]["mutations"].as_array().expect("a list");
    let patches = mutations.iter().filter_map(|mutation| mutation["jsonPatch"]["expression"].as_str());
    let mut values = 0;
    for patch in patches {
        for operation in patch.split("JSONPatch{").skip(1) {
            let value = operation.split_once("value:").expect("each adds a value").1.trim_start();
            let texts = ["word}", "[]}", "\"true\"}", "{\"dexsidecar.io/scrape\": \"true\"}}"];
            let is_text = texts.iter().any(|text| value.starts_with(text));
            assert!(is_text || value.starts_with("Object.spec."), "{value:.60}");
            values += 1;
        }
    }
    let parts = "two words of a command, two labels, three lists, two mounts, five volumes, the container";
    assert_eq!(values, 15, "{parts}");
}

/// A parameter resource makes injection depend on an informer that breaks
/// (kubernetes/kubernetes#130887).
#[test]
fn the_policies_have_no_parameters_and_lines_of_at_most_100_columns() {
    for name in ["mutating", "mutating-bindings", "validating", "validating-bindings"] {
        let text = doc_manifests::text(&format!("{DIRECTORY}/{name}.yaml"));
        assert!(!text.contains("paramKind") && !text.contains("paramRef"), "{name}");
        let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(long.is_empty(), "{name}: {long:?}");
    }
}

/// Both policies judge the annotations: what one takes for wrong, the other refuses.
#[test]
fn both_policies_judge_paths_and_characters_by_the_same_expressions() {
    let [mutating, validating] =
        ["mutating", "validating"].map(|name| doc_manifests::text(&format!("{DIRECTORY}/{name}.yaml")));
    let patterns = |text: &str| {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter_map(|line| line.split_once("r\"^").or_else(|| line.split_once("r\"[\\x")));
        lines.map(|(_, rest)| rest.split('"').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let refused = patterns(&validating);
    assert_eq!(patterns(&mutating).len(), 6);
    for pattern in patterns(&mutating) {
        assert!(refused.contains(&pattern), "the validating policy has no {pattern}");
    }
}
