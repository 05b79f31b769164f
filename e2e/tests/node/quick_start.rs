//! The README's quick start: its pod gets a token, and its command explains a mistake.

use dexsidecar_e2e::app_image::APP;
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::doc_manifests::{self, Executor};
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::pod::{Manifest, Pod, app, sidecar};
use dexsidecar_e2e::signing_key::claims;
use serde_json::{Value, json};

use crate::{NodeTest, dex, node_tests};

pub(crate) const TESTS: &[NodeTest] = node_tests![
    the_pod_of_the_readme_gets_a_token,
    the_command_of_the_readme_explains_a_mistake,
    the_pod_of_the_configuration_page_gets_its_tokens_and_those_of_a_changed_configmap,
];

fn the_pod_of_the_readme_gets_a_token(node: &Node) {
    // Its pod sets no security context.
    let dex = dex(node, "quick-start", false, DexSetup::default());
    let script = "test -s /var/run/secrets/dex/token && echo the token is there; exec sleep infinity";
    let pod = Pod::apply(node, "quick-start", &Manifest::from_readme("app", &dex).app(script));
    pod.until_running();
    pod.until_line("app", "the token is there");
    let token = claims(&pod.token());
    assert_eq!(token["aud"], "incus");
    assert_eq!(token["name"], "system:serviceaccount:quick-start:app");
    assert_eq!(token["federated_claims"]["user_id"], "system:serviceaccount:quick-start:app");
    let (report, code) = check(&pod, &dex);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.lines().all(|line| line.starts_with("ok ")), "{report}");
}

fn the_command_of_the_readme_explains_a_mistake(node: &Node) {
    let dex = dex(node, "quick-mistake", false, DexSetup::default());
    let manifest = Manifest::from_readme("app", &dex).env("dex_connector_id", "kubernets");
    let pod = Pod::apply(node, "quick-mistake", &manifest);
    let now = pod.until("the sidecar is running", |pod| sidecar(pod)["state"]["running"].is_object());
    assert!(app(&now)["state"]["waiting"].is_object(), "the app waits for the token");
    let (report, code) = check(&pod, &dex);
    assert_eq!(code, Some(1), "{report}");
    assert_like(&example(), &report);
}

/// The manifests of docs/configuration.md. A token is added to the ConfigMap while the pod runs.
fn the_pod_of_the_configuration_page_gets_its_tokens_and_those_of_a_changed_configmap(node: &Node) {
    const NAMESPACE: &str = "configuration";
    let client = |id: &str| json!({"id": id, "name": id, "public": true});
    let clients = vec![client("prometheus")];
    let dex = dex(node, NAMESPACE, true, DexSetup { clients, ..DexSetup::default() });
    let manifests = doc_manifests::manifests("docs/configuration.md");
    let find = |kind: &str| manifests.iter().find(|manifest| manifest["kind"] == kind).expect("one").clone();
    let mut map = find("ConfigMap");
    let file = map["data"]["dexsidecar.yaml"].as_str().expect("a file").replace(
        "token_endpoint: https://dex.example.com/token",
        &format!("token_endpoint: {}\n  ca_file: /etc/dex/ca.pem", dex.endpoint()),
    );
    let mut apply = |file: &str| {
        map["data"]["dexsidecar.yaml"] = file.into();
        node.apply(NAMESPACE, &map).unwrap_or_else(|why| panic!("{why}"));
    };
    apply(&file);
    let mut manifest = Manifest(find("Pod")).app("exec sleep infinity").with(|pod| {
        pod["spec"]["containers"][0]["image"] = APP.into();
        pod["spec"]["terminationGracePeriodSeconds"] = 1.into();
    });
    manifest.mount("dex-ca", json!({"configMap": {"name": "dex-ca"}}), "/etc/dex");
    let pod = Pod::apply(node, NAMESPACE, &manifest);
    pod.until_running();
    assert_eq!(claims(&pod.token())["aud"], "incus");
    let of_prometheus = pod.exec("app", &["cat", "/var/run/secrets/dex/prometheus.json"]);
    let of_prometheus: Value = serde_json::from_str(&of_prometheus.expect("a file")).expect("JSON");
    let token = of_prometheus["access_token"].as_str().expect("a token");
    assert_eq!(claims(token)["aud"], "prometheus");

    let third =
        "  - name: third\n    client_id: incus\n    outputs:\n      - path: /var/run/secrets/dex/third\n";
    apply(&(file + third));
    // The kubelet updates the volume when the pod changes, and else once a minute.
    let changed = manifest.with(|pod| pod["metadata"]["annotations"] = json!({"changed": "yes"}));
    node.apply(NAMESPACE, &changed.0).unwrap_or_else(|why| panic!("{why}"));
    pod.until_event("dexsidecar", "config_reloaded");
    let has_third = || pod.exec("app", &["cat", "/var/run/secrets/dex/third"]).is_ok();
    node.until("the added token is there", has_third);
}

/// The lines of the README's block after its command.
fn example() -> String {
    let block = doc_manifests::readme(Executor::Pod);
    block.split_once('\n').expect("a command, then its output").1.to_owned()
}

/// Runs the README's command. Gives its output, with the README's endpoint in place of this Dex's.
fn check(pod: &Pod<'_>, dex: &Dex) -> (String, Option<i32>) {
    let block = doc_manifests::readme(Executor::Pod);
    let command = block.lines().next().and_then(|line| line.strip_prefix("$ kubectl ")).expect("a command");
    let arguments: Vec<String> = command.split_ascii_whitespace().map(str::to_owned).collect();
    let (report, code) = pod.kubectl_run(&arguments);
    (report.replace(&dex.endpoint(), "https://dex.example.com/token"), code)
}

/// Compares an output with an example. A line `…` stands for any lines, a final `…` for the rest of
/// a line. Durations differ, and notes may be left out.
fn assert_like(example: &str, output: &str) {
    let mut rest = output.lines().filter(|line| !line.starts_with("         note: "));
    let mut any = false;
    for line in example.lines() {
        if line == "…" {
            any = true;
            continue;
        }
        let wanted = without_durations(line);
        let is_it = |seen: &&str| {
            let seen = without_durations(seen);
            wanted.strip_suffix('…').map_or(seen == wanted, |begin| seen.starts_with(begin))
        };
        let found = if any { rest.find(is_it) } else { rest.next().filter(is_it) };
        assert!(found.is_some(), "the README shows:\n{line}\nbut the output is:\n{output}");
        any = false;
    }
    assert_eq!(rest.next(), None, "the README does not show this line:\n{output}");
}

/// A line with `ms` in place of the number before it.
fn without_durations(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let is_number = |at: usize| words.get(at + 1) == Some(&"ms");
    let kept = words.iter().enumerate().filter(|(at, _)| !is_number(*at)).map(|(_, word)| *word);
    kept.collect::<Vec<_>>().join(" ")
}
