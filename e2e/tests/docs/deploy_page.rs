//! docs/deploy.md: each manifest is a part of a file in deploy, and each command is executed
//! against a real API server. The commands of Helm are executed in the long form.

use std::path::Path;
use std::process::Command;

use dexsidecar_e2e::control_plane::ControlPlane;
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::rendered::{Judge, documents, pod_spec};
use dexsidecar_fetch::counterparts::HELM;
use serde_json::Value;

use crate::helm;

const PAGE: &str = "docs/deploy.md";

/// The commands of the page that call this program, without its name.
fn commands(program: &str) -> Vec<Vec<String>> {
    let blocks = doc_manifests::fenced(PAGE).into_iter().filter(|block| block.language == "sh");
    let commands: Vec<Vec<String>> = blocks.flat_map(|block| doc_manifests::commands(&block.text)).collect();
    for command in &commands {
        assert!(["kubectl", "helm"].contains(&&*command[0]), "no test executes {command:?}");
    }
    commands
        .into_iter()
        .filter(|command| command[0] == program)
        .map(|command| command[1..].to_vec())
        .collect()
}

/// Helm for this API server, with its own files in a directory.
fn helm_command(plane: &ControlPlane, directory: &Path) -> Command {
    let mut command = Command::new(prebuilt::program(&HELM));
    command.env("KUBECONFIG", plane.kubeconfig());
    for (name, path) in
        [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
    {
        command.env(name, directory.join(path));
    }
    command
}

/// Executes a command in a directory.
fn execute(mut command: Command, directory: &Path) -> String {
    let output = command.current_dir(directory).output().expect("the program was built");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !error.contains("Warning"), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn each_block_of_the_page_is_a_part_of_the_file_that_it_names() {
    let blocks = doc_manifests::fenced(PAGE);
    let manifests: Vec<_> = blocks.iter().filter(|block| block.language != "sh").collect();
    assert!(manifests.len() > 5, "{}", manifests.len());
    for block in manifests {
        let (name, part) = block.text.split_once('\n').expect("several lines");
        let path =
            name.strip_prefix("# ").unwrap_or_else(|| panic!("{PAGE}:{}: no file is named", block.line));
        let text = doc_manifests::text(path);
        let found = text.starts_with(part) || text.contains(&format!("\n{part}"));
        assert!(block.language == "yaml" && found, "{PAGE}:{}: {path} has no such part", block.line);
    }
}

#[test]
fn the_api_server_accepts_what_the_commands_of_kubectl_show() {
    let judge = Judge::start();
    let commands = commands("kubectl");
    for words in &commands {
        // The examples have placeholders, so no command applies one to the current cluster.
        assert_eq!(words[0], "kustomize", "{words:?}");
        let mut command = judge.plane().kubectl_command();
        command.args(words);
        let shown = execute(command, doc_manifests::root());
        assert_eq!(judge.accepts(&shown).len(), documents(&shown).len(), "{words:?}");
    }
    assert_eq!(commands.len(), 4, "{commands:?}");
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn the_api_server_accepts_the_commands_of_helm() {
    let judge = Judge::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    // Helm writes the dependencies of a chart beside it.
    helm::copy(&doc_manifests::root().join("deploy"), &directory.path().join("deploy"));
    let commands = commands("helm");
    for words in &commands {
        let mut command = helm_command(judge.plane(), directory.path());
        command.args(words);
        if words[0] == "upgrade" {
            command.arg("--dry-run=server");
        }
        let said = execute(command, directory.path());
        assert!(words[0] != "upgrade" || said.contains("STATUS: pending-install"), "{words:?}: {said}");
    }
    assert_eq!(commands.len(), 3, "{commands:?}");
}

/// The page tells users to keep their values in one file.
#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn an_upgrade_resets_the_values_of_the_command_before() {
    let judge = Judge::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    helm::copy(&doc_manifests::root().join("deploy"), &directory.path().join("deploy"));
    let commands = commands("helm");
    let of_the_page = commands.iter().find(|words| words.contains(&"dexsidecar".to_owned()));
    let run = |words: &[String]| {
        let mut command = helm_command(judge.plane(), directory.path());
        command.args(words);
        execute(command, directory.path())
    };
    let installed = |words: &[String]| -> Vec<String> {
        run(words);
        let get = ["get", "manifest", "dexsidecar", "--namespace", "monitoring"].map(str::to_owned);
        let manifests = documents(&run(&get));
        manifests.iter().map(|one| one["kind"].as_str().expect("a kind").to_owned()).collect()
    };
    let words = of_the_page.expect("the command of the page");
    let all = installed(words);
    assert_eq!(all.len(), 10, "{all:?}");
    assert_eq!(installed(words), all, "the same file again");
    let place = words.iter().position(|word| word == "--values").expect("a file");
    let alone = [&words[..place], &["--set".to_owned(), "discovery.enabled=true".to_owned()]].concat();
    assert_eq!(installed(&alone), ["ClusterRoleBinding"]);
}

/// The README creates the same binding with kubectl.
#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn helm_takes_over_a_binding_that_was_created_by_hand_if_it_is_told_to() {
    let page = doc_manifests::text(PAGE).replace('\n', " ");
    let judge = Judge::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let readme = doc_manifests::fenced("README.md").into_iter();
    let by_hand = readme
        .flat_map(|block| doc_manifests::commands(&block.text))
        .find(|words| words.contains(&"dex-discovery".to_owned()))
        .expect("the command of the README");
    let mut kubectl = judge.plane().kubectl_command();
    kubectl.args(&by_hand[1..]);
    assert!(execute(kubectl, directory.path()).contains("created"));

    let chart = doc_manifests::root().join("deploy/helm/dexsidecar");
    let upgrade = |options: &[&str]| {
        let mut command = helm_command(judge.plane(), directory.path());
        command.args(["upgrade", "--install", "dexsidecar"]).arg(&chart).args(options);
        command.args(["--set", "discovery.enabled=true"]);
        let output = command.output().expect("helm was built");
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let why = upgrade(&[]).expect_err("the binding is not of Helm");
    let words = "cannot be imported into the current release";
    assert!(why.contains("\"dex-discovery\"") && why.contains(words), "{why}");
    assert!(page.contains(&format!("`{words}`")) && page.contains("`--take-ownership` once"));
    assert_eq!(upgrade(&["--take-ownership"]), Ok(()));
    assert_eq!(upgrade(&[]), Ok(()), "once");
}

#[test]
fn the_api_server_drops_a_cluster_trust_bundle_unless_its_gates_are_enabled() {
    let rendered =
        doc_manifests::text("deploy/helm/dexsidecar-lib/tests/rendered/ca-cluster-trust-bundle.yaml");
    let source = |manifest: &Value| {
        let volumes = pod_spec(manifest)["volumes"].as_array().expect("volumes").clone();
        let volume = volumes.into_iter().find(|volume| volume["name"] == "dex-ca").expect("the volume");
        volume["projected"]["sources"][0]["clusterTrustBundle"].clone()
    };
    assert_eq!(source(&documents(&rendered)[0])["name"], "dex-ca");
    let cluster = ControlPlane::start();
    let said = cluster.apply(&rendered, &["--dry-run=server", "--output=json"]).expect("accepted");
    let (stored, warning) = said.split_once("Warning: ").unwrap_or_else(|| panic!("no warning: {said}"));
    assert_eq!(warning.trim(), "volume \"dex-ca\" (Projected) has no sources provided");
    assert!(doc_manifests::text(PAGE).contains("`has no sources provided`"));
    let stored: Value = serde_json::from_str(stored).unwrap_or_else(|why| panic!("{why}: {stored}"));
    assert!(source(&stored).is_null(), "{stored:#}");
    assert_eq!(Judge::start().accepts(&rendered).len(), 1, "with the gates it is kept");
}
