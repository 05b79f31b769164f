//! docs/operations.md: its commands work on a real API server, and its arithmetic is that of the
//! manifests.

use dexsidecar_e2e::control_plane::ControlPlane;
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::injection::{self, submit};
use dexsidecar_e2e::rendered::sidecar;
use dexsidecar_e2e::shell_commands::Shell;
use serde_json::{Value, json};

const PAGE: &str = "docs/operations.md";

/// The size of the fleet whose cost the page gives.
const PODS: u64 = 10_000;

/// The blocks of the page whose commands need no node: the node's tests run `kubectl exec`.
fn commands() -> Vec<String> {
    let blocks = doc_manifests::fenced(PAGE).into_iter().map(|block| block.text);
    blocks.filter(|text| !text.contains("kubectl exec ")).collect()
}

/// The Deployment `app`, as the API server has it.
fn deployment(plane: &ControlPlane) -> Value {
    let text = plane.kubectl(&["get", "deployment", "app", "--output", "json"]);
    serde_json::from_str(&text).expect("kubectl prints JSON")
}

/// A pod of the Deployment, as the API server would store it.
fn pod_of(plane: &ControlPlane) -> Value {
    let template = &deployment(plane)["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]});
    pod["metadata"] = template["metadata"].clone();
    pod["metadata"]["name"] = "app".into();
    submit(plane, "default", &pod).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn pods_start_without_a_token_after_the_commands_of_the_page_and_with_one_when_they_are_undone() {
    let plane = ControlPlane::start();
    injection::install(&plane, &injection::directory());
    let shell = Shell::new(&plane, "default");
    let run = |line: &str| shell.run(line).unwrap_or_else(|why| panic!("{line}{why}"));
    let commands = commands();
    let [none, undo, by_hand, images] = &commands[..] else { panic!("{commands:?}") };
    let has_probe = || sidecar(&pod_of(&plane)["spec"])["startupProbe"].is_object();

    let injected = doc_manifests::blocks("docs/injection.md");
    let injected = injected.iter().find(|block| block.contains("kind: Deployment\n")).expect("a Deployment");
    plane.apply(injected, &[]).unwrap_or_else(|why| panic!("{why}"));
    assert!(has_probe());

    // The canary: a sidecar that was copied from an injected pod keeps its own image.
    let mut canary = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "canary"}});
    canary["metadata"]["labels"] = json!({"dexsidecar.io/inject": "true"});
    canary["spec"] = pod_of(&plane)["spec"].clone();
    canary["spec"]["initContainers"][0]["image"] = "dexsidecar:canary".into();
    let canary = submit(&plane, "default", &canary).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(sidecar(&canary["spec"])["image"], "dexsidecar:canary");

    run(none);
    assert!(!has_probe(), "{}", pod_of(&plane));
    run(undo);
    assert!(has_probe(), "{}", pod_of(&plane));
    plane.kubectl(&["delete", "deployment", "app"]);

    let page = doc_manifests::hardened_pod();
    let labels = json!({"app": "app"});
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": page["spec"]}
        }
    });
    plane.apply(&manifest.to_string(), &[]).unwrap_or_else(|why| panic!("{why}"));
    assert!(has_probe());
    run(by_hand);
    assert!(!has_probe(), "{}", pod_of(&plane));

    for name in ["one", "two"] {
        let mut pod = page.clone();
        pod["metadata"]["name"] = name.into();
        plane.apply(&pod.to_string(), &[]).unwrap_or_else(|why| panic!("{why}"));
    }
    let mut without = page.clone();
    without["metadata"]["name"] = "without".into();
    without["spec"].as_object_mut().expect("an object").remove("initContainers");
    plane.apply(&without.to_string(), &[]).unwrap_or_else(|why| panic!("{why}"));
    let image = sidecar(&page["spec"])["image"].as_str().expect("an image");
    assert_eq!(run(images).split_whitespace().collect::<Vec<_>>(), ["2", image]);
}

#[test]
fn the_cost_of_the_pods_is_that_of_their_requests() {
    let page = doc_manifests::text(PAGE).replace('\n', " ");
    let pod = doc_manifests::hardened_pod();
    let resources = &sidecar(&pod["spec"])["resources"];
    let quantity = |part: &str, name: &str| resources[part][name].as_str().expect("a quantity").to_owned();
    let (cpu, memory) = (quantity("requests", "cpu"), quantity("requests", "memory"));
    let limit = quantity("limits", "memory");
    let given = format!("request {cpu} of CPU and {memory} of memory, with a memory limit of {limit}");
    assert!(page.contains(&given), "{given}");
    let number = |text: &str, unit: &str| {
        text.strip_suffix(unit).and_then(|text| text.parse::<u64>().ok()).expect("a number")
    };
    let cpus = PODS * number(&cpu, "m") / 1_000;
    let gibibytes = PODS * number(&memory, "Mi") / 1_024;
    let reserved = format!("reserves {cpus} CPUs and {gibibytes} GiB");
    assert!(page.contains(&reserved), "{reserved}");
}

/// The kubelet replaces a token after 80 % of its lifetime (pkg/kubelet/token/token_manager.go).
#[test]
fn the_rates_of_token_requests_are_those_of_replacements_after_four_fifths() {
    let page = doc_manifests::text(PAGE);
    let (_, table) = page.split_once("| `expirationSeconds` |").expect("the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    let mut seconds = vec![];
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let lifetime: u32 = cells[0].parse().expect("a number");
        let rate = f64::from(u32::try_from(PODS).expect("it fits")) / (f64::from(lifetime) * 0.8);
        assert_eq!(cells[2], format!("{rate:.1}"), "{row}");
        seconds.push(lifetime);
    }
    assert_eq!(seconds, [600, 3_600, 7_200, 86_400]);
}
