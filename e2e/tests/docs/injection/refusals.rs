//! What is refused, and in which words: each message as the table of docs/injection.md has it.

use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::control_plane::PlaneSetup;
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::injection::{container, pod, submit};
use serde_json::{Value, json};

use super::{annotated, plane};

pub(crate) const PAGE: &str = "docs/injection.md";

/// A pod that is refused, and what is wrong with it.
type Case = (&'static str, Value);

/// The annotations that are refused, each with a wrong value.
const ANNOTATIONS: [(&str, &str); 21] = [
    ("endpoint", "https://dex.example.com"),
    ("client-id", "incus:secret"),
    ("connector", "my cluster"),
    ("scope", "openid,profile"),
    ("path", "token"),
    ("path", "/usr/lib/dex/token"),
    ("path", "/var/run/token"),
    ("audience", "my dex"),
    ("expiration-seconds", "60"),
    ("start", "later"),
    ("listen-port", "http"),
    ("listen-port", "80"),
    ("listen-port", "65536"),
    ("containers", "web"),
    ("tokens-configmap", "Tokens"),
    ("ca-configmap", "dex/ca"),
    ("ca-secret", "dex_ca"),
    ("ca-trust-bundle", "-ca"),
    ("cpu-request", "1 core"),
    ("memory-limit", "1Mi"),
    ("memory-request", "64Mi"),
];

/// A pod whose sidecar was written by hand, as in docs/kubernetes.md.
fn by_hand(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = doc_manifests::hardened_pod();
    pod["metadata"]["labels"] = json!({"dexsidecar.io/inject": "true"});
    change(&mut pod["spec"]);
    pod
}

/// A pod whose app has these mounts, and which has a volume of this name.
fn mounting(volume: Option<&str>, mount: &Value) -> Value {
    let mut pod = pod("app");
    if let Some(name) = volume {
        pod["spec"]["volumes"] = json!([{"name": name, "emptyDir": {}}]);
    }
    pod["spec"]["containers"][0]["volumeMounts"] = json!([mount]);
    pod
}

fn cases() -> Vec<Case> {
    let mut label = pod("app");
    label["metadata"]["labels"]["dexsidecar.io/inject"] = "yes".into();
    let mut named = pod("app");
    named["spec"]["containers"][0]["name"] = "dexsidecar".into();
    let mut cases = vec![
        ("label `dexsidecar.io/inject: \"yes\"`", label),
        ("an unknown annotation", annotated(&[("clientid", "incus")])),
        ("a line break in an annotation", annotated(&[("scope", "openid\nprofile")])),
        ("an empty annotation", annotated(&[("audience", "")])),
        ("`$(NAME)` in an annotation", annotated(&[("connector", "$(CONNECTOR)")])),
    ];
    for (name, value) in ANNOTATIONS {
        let cause = Box::leak(format!("`{name}: {value}`").into_boxed_str());
        cases.push((cause, annotated(&[(name, value)])));
    }
    cases.extend([
        ("`ca-trust-bundle: dex-ca`, without the feature gate", annotated(&[("ca-trust-bundle", "dex-ca")])),
        ("two CAs", annotated(&[("ca-configmap", "dex-ca"), ("ca-secret", "dex-ca")])),
        ("`client-id` beside `tokens-configmap`", {
            annotated(&[("client-id", "incus"), ("tokens-configmap", "dex-tokens")])
        }),
        ("`start: wait` without a command", annotated(&[("start", "wait")])),
        ("a container called dexsidecar", named),
        ("a volume of a reserved name", {
            mounting(Some("dexsidecar-token"), &json!({"name": "dexsidecar-token", "mountPath": "/token"}))
        }),
        ("another volume at the token directory", {
            mounting(Some("cache"), &json!({"name": "cache", "mountPath": "/var/run/secrets/dex"}))
        }),
        ("the same with a slash at the end", {
            mounting(Some("cache"), &json!({"name": "cache", "mountPath": "/var/run/secrets/dex/"}))
        }),
        ("another volume below the token directory", {
            mounting(Some("cache"), &json!({"name": "cache", "mountPath": "/var/run/secrets/dex/token"}))
        }),
        ("a read-only volume above the token directory", {
            let mount = json!({"name": "cache", "mountPath": "/var/run/secrets", "readOnly": true});
            mounting(Some("cache"), &mount)
        }),
        ("`start: wait` beside another volume at `/dexsidecar`", {
            let mut pod = mounting(Some("cache"), &json!({"name": "cache", "mountPath": "/dexsidecar"}));
            pod["spec"]["containers"][0]["command"] = json!(["/bin/app"]);
            pod["metadata"]["annotations"] = json!({"dexsidecar.io/start": "wait"});
            pod
        }),
        ("`listen-port: 9090` beside a container that has this port", {
            let mut pod = annotated(&[("listen-port", "9090")]);
            pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080}, {"containerPort": 9090}]);
            pod
        }),
        ("a mount of the subject token in the app", {
            mounting(None, &json!({"name": "dexsidecar-subject", "mountPath": "/subject"}))
        }),
        ("a mount of the token with `subPath`", {
            mounting(None, &json!({"name": "dexsidecar-token", "mountPath": "/token", "subPath": "token"}))
        }),
        ("by hand: no `restartPolicy`", {
            by_hand(|spec| {
                let sidecar = spec["initContainers"][0].as_object_mut().expect("an object");
                sidecar.retain(|key, _| key != "restartPolicy" && key != "startupProbe");
            })
        }),
        ("by hand: no projected volume", {
            by_hand(|spec| spec["volumes"][1] = json!({"name": "subject-token", "emptyDir": {}}))
        }),
        ("by hand: the subject token with `subPath`", {
            by_hand(|spec| spec["initContainers"][0]["volumeMounts"][1]["subPath"] = "token".into())
        }),
        ("by hand: the sidecar is not first", {
            by_hand(|spec| {
                let mut migrate = container("migrate");
                migrate["volumeMounts"] = json!([{"name": "dex-token", "mountPath": "/token"}]);
                spec["initContainers"].as_array_mut().expect("a list").insert(0, migrate);
            })
        }),
        ("by hand: `expirationSeconds: 60`", {
            by_hand(|spec| {
                spec["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] =
                    60.into();
            })
        }),
        ("two problems", annotated(&[("start", "later"), ("expiration-seconds", "60")])),
    ]);
    cases
}

#[test]
fn each_refusal_is_as_the_page_shows_it() {
    let plane = plane(PlaneSetup::default());
    let mut table = "| cause | message |\n|---|---|\n".to_owned();
    for (cause, pod) in cases() {
        let message = submit(&plane, "default", &pod).expect_err(cause);
        assert!(!message.contains("failed expression"), "{cause}: {message}");
        // The API server's own messages have several lines.
        let message = message.replace("\n", " ").replace('|', "\\|");
        table += &format!("| {cause} | {message} |\n");
    }
    Page::at(PAGE).result("refusals", &table);
}

/// Values of any length and in any characters: the API server ignores a message that is too long or
/// has a line break, and shows the expression instead.
#[test]
fn hostile_annotations_are_refused_in_words() {
    let plane = plane(PlaneSetup::default());
    let long = "é".repeat(20_000);
    let list = "a,".repeat(20_000);
    let wide = "é".repeat(1000);
    let names: Vec<String> = (0..50).map(|number| format!("{}{number}", "n".repeat(50))).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let control = "a\u{1b}[31m\u{7f}\r\u{0}b";
    for (name, annotations) in [
        ("long values", vec![("path", &*long), ("audience", &long), ("containers", &list)]),
        ("wide values", vec![("path", &*wide), ("audience", &wide), ("containers", &wide)]),
        ("many unknown names", many),
        ("control characters", vec![("connector", control), ("containers", control), ("start", control)]),
        ("every one empty", ANNOTATIONS.iter().map(|(name, _)| (*name, "")).collect()),
        ("every one wrong", ANNOTATIONS.to_vec()),
    ] {
        let message = submit(&plane, "default", &annotated(&annotations)).expect_err(name);
        assert!(message.contains(" problems: (1) ") && message.contains("; (2) "), "{name}: {message}");
        assert!(message.len() < 5 * 1024 && !message.contains(char::is_control), "{name}: {message}");
    }
}
