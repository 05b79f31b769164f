//! The five commands of docs/injection.md: from an empty cluster to a pod with a token.

use dexsidecar_e2e::app_image::APP;
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::injection::{self, is_injected, submit};
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::sandbox::ADDRESS;
use dexsidecar_e2e::shell_commands::Shell;
use dexsidecar_e2e::signing_key::{claims, is_signed};
use serde_json::Value;

use crate::{NodeTest, node_tests};

const PAGE: &str = "docs/injection.md";
const NAMESPACE: &str = "five-commands";

/// It removes the binding and the policies that other tests need.
pub(crate) const ALONE: &[NodeTest] = node_tests![five_commands_lead_from_an_empty_cluster_to_a_token];

/// The commands of the page's first block, each in one line.
fn commands() -> Vec<String> {
    let block = doc_manifests::fenced(PAGE).into_iter().find(|block| block.language == "sh");
    let joined = block.expect("a block of commands").text.replace("\\\n", " ");
    joined.lines().map(str::to_owned).collect()
}

fn five_commands_lead_from_an_empty_cluster_to_a_token(node: &Node) {
    let plane = &node.plane;
    plane.kubectl(&["delete", "clusterrolebinding", "dex-discovery", "--ignore-not-found"]);
    plane.kubectl(&["delete", "--ignore-not-found", "-k", &injection::directory()]);
    plane.kubectl(&["create", "namespace", NAMESPACE]);
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    plane.kubectl(&["label", "namespace", NAMESPACE, restricted]);
    let dex = Dex::start(plane, &DexSetup { address: ADDRESS, ..DexSetup::default() });

    // The three files of the page, with this Dex and an image that the node has.
    let blocks = doc_manifests::blocks(PAGE);
    let starting = |begin: &str| blocks.iter().find(|block| block.starts_with(begin)).expect("a block");
    let shell = Shell::new(plane, NAMESPACE);
    let defaults = starting("apiVersion: kustomize.config.k8s.io/");
    shell.write(
        "mine/kustomization.yaml",
        &defaults.replace("https://dex.example.com/token", &dex.endpoint()),
    );
    shell.write("ca.crt", &std::fs::read_to_string(dex.ca_file()).expect("it is written"));
    let app = [starting("apiVersion: v1\nkind: ServiceAccount"), starting("apiVersion: apps/v1")];
    let user = "runAsNonRoot: true\n        runAsUser: 65532\n";
    let app = app.map(|block| block.replace("example.com/app:1", APP).replace("runAsNonRoot: true\n", user));
    shell.write("app.yaml", &app.join("\n---\n"));

    let commands = commands();
    assert!(commands.len() <= 5, "{commands:?}");
    for command in &commands {
        assert!(command.starts_with("kubectl "), "{command}");
        let printed = shell.run(command).unwrap_or_else(|why| panic!("{command}: {why}"));
        if command.contains(" -k ") {
            // A pod that is created sooner has no sidecar, as the page says.
            let mut pod = injection::pod("plain");
            pod["spec"].as_object_mut().expect("an object").remove("serviceAccountName");
            injection::until("the policies are in effect", || {
                submit(plane, NAMESPACE, &pod).is_ok_and(|pod| is_injected(&pod))
            });
        }
        assert!(!printed.is_empty(), "{command}");
    }

    // The page's inline command.
    let ready = "kubectl exec deployment/app -c dexsidecar -- dexsidecar ready";
    assert!(doc_manifests::text(PAGE).contains(&format!("`{ready}`")), "the page has: {ready}");
    let report = shell.run(ready).unwrap_or_else(|why| panic!("{why}"));
    assert!(report.starts_with("/var/run/secrets/dex/token: valid, expires in 23h59m"), "{report}");
    let read = "kubectl exec deployment/app -c app -- cat /var/run/secrets/dex/token";
    let token = shell.run(read).unwrap_or_else(|why| panic!("{why}"));
    let keys: Value = serde_json::from_str(&dex.get("/dex/keys").expect("Dex responds").body).expect("JSON");
    assert!(is_signed(&token, &keys), "Dex signed the token of the app");
    let claims = claims(&token);
    assert_eq!((&claims["iss"], &claims["aud"]), (&dex.issuer().into(), &"incus".into()));
    assert_eq!(claims["name"], format!("system:serviceaccount:{NAMESPACE}:app"));
}
