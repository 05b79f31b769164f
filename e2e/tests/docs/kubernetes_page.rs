//! docs/kubernetes.md and the README against the real things: the API server takes every manifest,
//! Dex takes the connector, and what the page says of mistakes is what `dexsidecar check` and Dex's
//! log say.

use std::fs;
use std::time::{Duration, Instant};

use dexsidecar_e2e::control_plane::ControlPlane;
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::doc_manifests::{self, Executor};
use dexsidecar_e2e::fake_api_server::ClusterIssuer as _;
use dexsidecar_e2e::process::PATIENCE;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, failed_step, report};
use serde_json::{Value, json};

const PAGE: &str = "docs/kubernetes.md";

/// A mistake as the page calls it, and how to make it.
type Mistake = (&'static str, fn(&mut DexSetup));

/// What is wrong in Dex's configuration.
const IN_DEX: [Mistake; 5] = [
    ("the connector has no `issuerAlias`", |dex| dex.issuer_alias = false),
    ("the connector's `rootCAs` lacks the API server's CA", |dex| dex.connector = json!({"rootCAs": null})),
    ("the connector's `userNameKey` is not `sub`", |dex| dex.connector = json!({"userNameKey": null})),
    ("the connector's `scopes` ask for `email`", |dex| dex.connector = json!({"scopes": null})),
    ("`oauth2.grantTypes` lacks token exchange", |dex| dex.token_exchange = false),
];

/// What is wrong in the pod: a variable, and what is put after its value or, without `+`, in its
/// place.
const IN_THE_POD: [(&str, &str, &str); 4] = [
    ("`dex_connector_id` names no connector", "dex_connector_id", "kubernets"),
    ("the client in `dex_basic_auth` is not in `staticClients`", "dex_basic_auth", "nobody:"),
    (
        "`dex_subject_token_type` is not `…:id_token`",
        "dex_subject_token_type",
        "urn:ietf:params:oauth:token-type:jwt",
    ),
    ("`dex_endpoint` ends with a slash", "dex_endpoint", "+/"),
];

const RBAC: &str = "Dex may not read the cluster's discovery document (RBAC)";

/// A row of a page's table: what check says, and what Dex's log says.
fn row(page: &str, mistake: &str) -> (String, String) {
    let text = doc_manifests::text(page);
    let start = format!("| {mistake} | `");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    let line = line.unwrap_or_else(|| panic!("{page} has no row: {mistake}"));
    let (code, log) = line.split_once("` | ").expect("three columns");
    (code.to_owned(), log.trim_end_matches(" |").to_owned())
}

/// Holds a row of a page to what is seen.
pub(crate) fn assert_row(page: &str, mistake: &str, setup: &Setup, dex: &Dex) {
    let (code, words) = row(page, mistake);
    let before = dex.log().len();
    let told = failed_step(&report(setup));
    assert_eq!(told["code"], code, "{mistake}: {told:#}");
    let log = || dex.log().split_off(before);
    if words == "nothing" {
        assert_eq!(log(), "", "{mistake}");
        return;
    }
    // It says so beside its answer.
    let start = Instant::now();
    while !log().contains(&words) {
        assert!(start.elapsed() < PATIENCE, "{mistake}: Dex's log does not say {words:?}\n{}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_it_says_of_mistakes_is_what_people_see() {
    let cluster = ControlPlane::start();
    let volume = ProjectedVolume::with(&cluster.token(600));
    for (mistake, change) in IN_DEX {
        let mut wrong = DexSetup::default();
        change(&mut wrong);
        let dex = Dex::start(&cluster, &wrong);
        assert_row(PAGE, mistake, &Setup::new().subject(&volume).at(&dex), &dex);
    }
    let dex = Dex::start(&cluster, &DexSetup::default());
    for (mistake, name, value) in IN_THE_POD {
        let value = value.strip_prefix('+').map_or_else(|| value.to_owned(), |more| dex.endpoint() + more);
        assert_row(PAGE, mistake, &Setup::new().subject(&volume).at(&dex).set(name, value), &dex);
    }
    cluster.kubectl(&["delete", "clusterrolebinding", "dex-discovery"]);
    let dex = Dex::start(&cluster, &DexSetup::default());
    assert_row(PAGE, RBAC, &Setup::new().subject(&volume).at(&dex), &dex);
    let page = fs::read_to_string(doc_manifests::root().join(PAGE)).expect("the page");
    let section = page.split("\n## Troubleshooting\n").nth(1).expect("the section with the table");
    let rows = section.lines().filter(|line| line.starts_with("| ") && line.matches(" | ").count() == 2);
    assert_eq!(rows.count(), 1 + IN_DEX.len() + IN_THE_POD.len() + 1, "every row is held to it");
}

/// The README's quick start up to the pod: Dex's configuration, the commands, the manifest.
#[test]
fn the_quick_start_of_the_readme_works_as_it_is() {
    let cluster = ControlPlane::start();
    cluster.kubectl(&["delete", "clusterrolebinding", "dex-discovery"]);
    cluster.kubectl(&["delete", "serviceaccount", "app"]);
    let commands = doc_manifests::commands(&doc_manifests::readme(Executor::ApiServer));
    for command in &commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        assert_eq!(words[0], "kubectl", "{words:?}");
        let said = cluster.kubectl(&words[1..]);
        assert!(said.ends_with(" created\n"), "{said}");
    }
    assert_eq!(commands.len(), 2, "a ServiceAccount and a binding: {commands:?}");

    let said =
        cluster.apply(&doc_manifests::readme(Executor::Node), &["--dry-run=server", "--validate=strict"]);
    let said = said.unwrap_or_else(|why| panic!("{why}"));
    assert!(said.starts_with("pod/app created") && !said.contains("Warning"), "{said}");

    let readme = doc_manifests::yaml(&doc_manifests::readme(Executor::Dex)).expect("it is YAML");
    let own = json!([{"id": "incus", "name": "Incus", "public": true}]);
    assert_eq!(readme["staticClients"], own, "the client that the pod names and this Dex has");
    assert_dex_takes(&readme, &cluster);
}

/// Starts a Dex with the connector that a page shows, and makes an exchange.
fn assert_dex_takes(shown: &Value, cluster: &ControlPlane) {
    let connector = &shown["connectors"][0];
    assert_eq!((&connector["type"], &connector["id"]), (&json!("oidc"), &json!("kubernetes")));
    // Nothing but what the page shows, and the addresses of this cluster.
    let mut config = json!({"scopes": null, "userNameKey": null, "getUserInfo": null});
    let config = config.as_object_mut().expect("an object");
    config.extend(connector["config"].as_object().expect("an object").clone());
    config.insert("issuer".to_owned(), cluster.url().into());
    config.insert("rootCAs".to_owned(), json!([cluster.ca_file()]));
    let setup =
        DexSetup { issuer_alias: false, connector: Value::Object(config.clone()), ..DexSetup::default() };
    let dex = Dex::start(cluster, &setup);
    let volume = ProjectedVolume::with(&cluster.token(600));
    let sound = report(&Setup::new().subject(&volume).at(&dex));
    assert_eq!(sound["ok"], true, "{sound:#}");
}

/// The page's manifests by the API server's own judgement, and its connector by Dex's.
#[test]
fn what_users_copy_from_the_page_works_as_it_is() {
    let cluster = ControlPlane::start();
    for mode in ["enforce", "warn"] {
        cluster.kubectl(&[
            "label",
            "namespace",
            "default",
            &format!("pod-security.kubernetes.io/{mode}=restricted"),
        ]);
    }
    cluster.kubectl(&["delete", "clusterrolebinding", "dex-discovery"]);
    let mut kinds = vec![];
    for (block, manifest) in doc_manifests::blocks(PAGE).iter().zip(doc_manifests::manifests(PAGE)) {
        if let Some(kind) = manifest["kind"].as_str() {
            let said = cluster.apply(block, &["--dry-run=server", "--validate=strict"]);
            let said = said.unwrap_or_else(|why| panic!("{PAGE}: {why}\n{block}"));
            assert!(!said.contains("Warning"), "{said}");
            if kind == "ClusterRoleBinding" {
                // In earnest, so that Dex is let in by what the page says.
                cluster.apply(block, &[]).unwrap_or_else(|why| panic!("{why}"));
            }
            kinds.push(kind.to_owned());
        }
    }
    assert_eq!(kinds, ["ClusterRoleBinding", "Pod", "Job", "Pod", "NetworkPolicy"]);

    let manifests = doc_manifests::manifests(PAGE);
    let shown = manifests.iter().find(|manifest| manifest["connectors"].is_array()).expect("a connector");
    assert_dex_takes(shown, &cluster);
}
