//! docs/injection.md: its commands and manifests work as they are, and its table of annotations has
//! the defaults of the policy.

use std::fs;
use std::path::Path;

use dexsidecar_core::config::{Config, ConfigFile, Locate, Outputs, RawSettings};
use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::control_plane::{ControlPlane, PlaneSetup};
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::injection::{self, DIRECTORY, is_injected, submit};
use dexsidecar_e2e::shell_commands::Shell;
use serde_json::{Value, json};

use super::annotated;
use super::refusals::PAGE;

#[test]
fn what_users_copy_from_the_page_works_as_it_is() {
    let plane = ControlPlane::start();
    let label = "pod-security.kubernetes.io/enforce=restricted";
    plane.kubectl(&["label", "namespace", "default", label]);
    // The page creates it.
    plane.kubectl(&["delete", "serviceaccount", "app"]);
    let shell = Shell::new(&plane, "default");
    let manifests = doc_manifests::manifests(PAGE);
    let blocks = doc_manifests::blocks(PAGE);
    let kinds: Vec<&str> = manifests.iter().filter_map(|manifest| manifest["kind"].as_str()).collect();
    assert_eq!(kinds, ["Kustomization", "ServiceAccount", "Deployment", "Pod", "ConfigMap"]);
    shell.write("mine/kustomization.yaml", &blocks[0]);
    shell.write("pod.yaml", &blocks[3]);
    shell.write("ca.crt", "a certificate");

    let commands: Vec<String> = doc_manifests::fenced(PAGE)
        .into_iter()
        .filter(|block| block.language == "sh")
        .map(|block| block.text)
        .collect();
    // The first block needs a node: e2e/tests/node/five_commands.rs runs it.
    let [_, install, uninstall, label, ca, dry_run] = &commands[..] else { panic!("{commands:?}") };
    let run = |line: &str| shell.run(line).unwrap_or_else(|why| panic!("{line}{why}"));
    run(install);
    for manifest in [&blocks[1], &blocks[2], &blocks[4]] {
        let printed = plane.apply(manifest, &["--validate=strict"]).unwrap_or_else(|why| panic!("{why}"));
        assert!(!printed.contains("Warning"), "{printed}");
    }
    injection::install(&plane, &shell.path("mine").display().to_string());
    assert_eq!(run(ca), "configmap/dex-ca created\n");
    let template = &manifests[2]["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = "app".into();
    let admitted = submit(&plane, "default", &pod).expect("it is admitted");
    assert!(is_injected(&admitted), "{admitted:#}");
    let volumes = admitted["spec"]["volumes"].as_array().expect("a list");
    let ca_volume = json!("dexsidecar-ca");
    assert!(volumes.iter().any(|volume| volume["name"] == ca_volume), "a default of the page: {admitted:#}");
    assert!(run(dry_run).contains("name: dexsidecar\n"));
    plane.kubectl(&["create", "namespace", "shop"]);
    plane.kubectl(&["--namespace", "shop", "create", "serviceaccount", "app"]);
    assert_eq!(run(label), "namespace/shop labeled\n");
    pod["metadata"]["labels"] = json!({});
    injection::until("every pod of the namespace is injected", || {
        submit(&plane, "shop", &pod).is_ok_and(|pod| is_injected(&pod))
    });
    run(uninstall);
    injection::until("no pod is injected", || {
        submit(&plane, "shop", &pod).is_ok_and(|pod| !is_injected(&pod))
    });
}

#[test]
fn the_configuration_file_of_the_page_is_valid() {
    let manifests = doc_manifests::manifests(PAGE);
    let map = manifests.iter().find(|manifest| manifest["kind"] == "ConfigMap").expect("a ConfigMap");
    let text = map["data"]["dexsidecar.yaml"].as_str().expect("a file");
    let file =
        ConfigFile { name: "dexsidecar.yaml", path: Path::new("/dexsidecar.yaml"), content: text.as_bytes() };
    let config = Config::read_file(file, &RawSettings::default(), Outputs::Required, Locate::AS_TEXT)
        .expect("the program accepts it");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.tokens.len(), 2);
    for token in &config.tokens {
        let subject = token.exchange.subject_token_file().expect("a subject token");
        assert_eq!(subject, Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token"));
        assert!(token.outputs.iter().all(|output| output.path.starts_with("/var/run/secrets/dex")));
    }
}

/// What kubectl prints for a pod with two problems.
#[test]
fn the_refusal_of_the_page_is_what_kubectl_prints() {
    let plane = super::plane(PlaneSetup::default());
    let mut command = plane.kubectl_command();
    let file = tempfile::NamedTempFile::new().expect("a temporary directory");
    let pod = annotated(&[("endpoint", "https://dex.example.com"), ("expiration-seconds", "60")]);
    fs::write(file.path(), pod.to_string()).expect("the temporary file is writable");
    let output = command.args(["create", "-f"]).arg(file.path()).output().expect("kubectl was built");
    let error = String::from_utf8_lossy(&output.stderr);
    let error = error.replace(&file.path().display().to_string(), "pod.yaml");
    Page::at(PAGE).result("refusal", &format!("```console\n$ kubectl create -f pod.yaml\n{error}```\n"));
}

/// The table of annotations has every one that the policies know, with its default.
#[test]
fn the_table_of_annotations_is_that_of_the_policies() {
    let policy = |name: &str| {
        doc_manifests::yaml(&doc_manifests::text(&format!("{DIRECTORY}/{name}.yaml"))).expect("it is YAML")
    };
    let variable = |policy: &Value, name: &str| {
        let variables = policy["spec"]["variables"].as_array().expect("a list");
        let variable = variables.iter().find(|variable| variable["name"] == name).expect("a variable");
        serde_json::from_str::<Value>(variable["expression"].as_str().expect("text")).expect("it is JSON too")
    };
    let (defaults, known) =
        (variable(&policy("mutating"), "built_in_defaults"), variable(&policy("validating"), "known_names"));
    let page = doc_manifests::text(PAGE);
    let section =
        page.split("\n### ").find(|section| section.starts_with("Annotations\n")).expect("it is there");
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line[1..].split('|').map(|cell| cell.trim_matches([' ', '`'])).collect())
        .collect();
    let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(json!(names), known);
    for row in rows.iter().filter(|row| defaults[row[0]].is_string()) {
        assert_eq!(json!(row[1]), defaults[row[0]], "{}", row[0]);
    }
}
