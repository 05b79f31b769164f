//! docs/clusters.md with a real Dex: its connectors work, two clusters get different subjects, and
//! each wrong setting looks as the page says.

use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::fake_api_server::{FakeApiServer, Mood};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, report};
use dexsidecar_e2e::signing_key::claims;
use serde_json::{Value, json};

use crate::kubernetes_page::assert_row;

const PAGE: &str = "docs/clusters.md";

/// The clusters of the mistakes.
struct Clusters {
    /// Its tokens name an internal issuer, and Dex needs its CA.
    own: FakeApiServer,
    /// Its tokens name an internal issuer too.
    other: FakeApiServer,
    /// Its tokens name a public issuer, whose URL ends with a slash.
    managed: FakeApiServer,
    /// It refuses anonymous requests.
    closed: FakeApiServer,
    /// It refuses anonymous requests for its keys.
    keyless: FakeApiServer,
}

/// A mistake as the page calls it; the cluster of the pod; and what is wrong: settings of the
/// connector `kubernetes`.
type Mistake<'a> = (&'a str, &'a FakeApiServer, Value);

impl Clusters {
    fn start() -> Self {
        let [own, other, closed, keyless] = std::array::from_fn(|_| FakeApiServer::start());
        closed.serve_discovery(Mood::Refusing);
        keyless.serve_keys(Mood::Refusing);
        Self { own, other, managed: FakeApiServer::named_with_slash(), closed, keyless }
    }

    /// What is wrong in the connector of the pod's cluster.
    fn mistakes(&self) -> [Mistake<'_>; 9] {
        let Self { own, other, managed, closed, keyless } = self;
        let gone = format!("{}/id/DELETED", managed.url());
        [
            (
                "`issuer` lacks the slash at the end of the cluster's issuer (AKS)",
                managed,
                json!({"issuerAlias": null}),
            ),
            (
                "`issuer` is the URL of the API server, the tokens name another one, and `issuerAlias` is missing",
                own,
                json!({"issuerAlias": null}),
            ),
            (
                "`issuer` is that of a cluster that was deleted",
                managed,
                json!({"issuer": gone, "issuerAlias": null}),
            ),
            ("`issuer` is an API server that refuses anonymous requests", closed, json!({})),
            ("`issuer` is a host that Dex does not reach", own, json!({"issuer": "https://127.0.0.1:1"})),
            ("`rootCAs` has the CA of another cluster", own, json!({"rootCAs": [other.ca_file()]})),
            ("`rootCAs` is missing, and the issuer has a private CA", own, json!({"rootCAs": null})),
            (
                "`issuerAlias` is that of another cluster",
                own,
                json!({"issuerAlias": "https://kubernetes.other.example.com"}),
            ),
            ("Dex reaches the discovery document, but not its `jwks_uri`", keyless, json!({})),
        ]
    }
}

#[test]
fn each_wrong_setting_looks_as_the_page_says() {
    let clusters = Clusters::start();
    let mistakes = clusters.mistakes();
    let mut examples = vec![];
    for (mistake, cluster, connector) in &mistakes {
        let dex = Dex::start(*cluster, &DexSetup { connector: connector.clone(), ..DexSetup::default() });
        let volume = ProjectedVolume::with(&cluster.token(3_600));
        let setup = Setup::new().subject(&volume).at(&dex).set("dex_connector_id", "kubernetes");
        assert_row(PAGE, mistake, &setup, &dex);
        examples.push(example(&setup));
    }

    // Whether the issuers have the same name makes no difference: Dex checks the signature first.
    let dex = Dex::start(&clusters.own, &DexSetup::default());
    for cluster in [&clusters.managed, &clusters.other] {
        let volume = ProjectedVolume::with(&cluster.token(3_600));
        let setup = Setup::new().subject(&volume).at(&dex).set("dex_connector_id", "kubernetes");
        assert_row(PAGE, "`dex_connector_id` is that of another cluster", &setup, &dex);
    }
    let page = doc_manifests::text(PAGE);
    let section = page.split("\n## Wrong settings\n").nth(1).expect("the section with the table");
    let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains(" | `"));
    assert_eq!(rows.count(), 1 + mistakes.len() + 1, "every row is held to it");

    // The missing `issuerAlias`, and the wrong one.
    let shown = [&examples[1], &examples[7]].map(|example| format!("```console\n{example}```\n"));
    Page::at(PAGE).result("failures", &shown.join("\n"));
}

/// The failure in the output of `check`, as the page shows it: every duration is 5 ms.
fn example(setup: &Setup) -> String {
    let command = "$ kubectl exec POD -c dexsidecar -- dexsidecar check\n…\n";
    let output = setup.execute(&["check"]).stdout;
    let failed = output.lines().skip_while(|line| !line.starts_with("FAIL ")).map(|line| {
        let (begin, rest) = line.split_once(" ms ").unwrap_or((line, ""));
        let begin = begin.trim_end_matches(|character: char| character.is_ascii_digit()).trim_end();
        if rest.is_empty() { format!("{line}\n") } else { format!("{begin:<27} 5 ms {rest}\n") }
    });
    let failed: String = failed.take_while(|line| !line.starts_with("skipped")).collect();
    assert!(!failed.is_empty(), "{output}");
    command.to_owned() + &failed
}

/// The connectors in the blocks of the page.
fn connectors() -> Vec<Value> {
    let blocks = doc_manifests::manifests(PAGE);
    let lists = blocks.iter().filter_map(|block| block["connectors"].as_array());
    lists.flatten().cloned().collect()
}

/// A public CA is one that Dex's machine trusts.
#[test]
fn a_managed_cluster_needs_neither_a_ca_nor_an_alias() {
    let shown = connectors().into_iter().find(|connector| connector["id"] == "aks").expect("a connector");
    for (cluster, slash) in
        [(FakeApiServer::named_with_slash(), "/"), (FakeApiServer::named_by_address(), "")]
    {
        let mut connector = shown.clone();
        connector["config"]["issuer"] = format!("{}{slash}", cluster.url()).into();
        let public: &'static str = Box::leak(cluster.ca_file().display().to_string().into_boxed_str());
        let setup = DexSetup {
            environment: vec![("SSL_CERT_FILE", public)],
            connectors: vec![connector],
            ..DexSetup::default()
        };
        let dex = Dex::start(&cluster, &setup);
        let volume = ProjectedVolume::with(&cluster.token(3_600));
        let sound = report(&Setup::new().subject(&volume).at(&dex).set("dex_connector_id", "aks"));
        assert_eq!(sound["ok"], true, "{sound:#}");
    }
}

#[test]
fn equal_serviceaccounts_of_two_clusters_have_different_subjects_and_equal_names() {
    let clusters = ["eu", "us"].map(|id| (id, FakeApiServer::start()));
    let shown = connectors();
    let connectors = clusters.iter().map(|(id, cluster)| {
        let connector = shown.iter().find(|connector| connector["id"] == *id).expect("a connector");
        let mut connector = connector.clone();
        connector["config"]["issuer"] = cluster.url().into();
        connector["config"]["rootCAs"] = json!([cluster.ca_file()]);
        connector
    });
    let setup = DexSetup { connectors: connectors.collect(), ..DexSetup::default() };
    let dex = Dex::start(&clusters[0].1, &setup);
    let [eu, us] = clusters.each_ref().map(|(id, cluster)| {
        let volume = ProjectedVolume::with(&cluster.token(3_600));
        let setup = Setup::new().subject(&volume).at(&dex).set("dex_connector_id", *id);
        let mut sidecar = setup.set("dex_scope", "openid profile federated:id").run();
        claims(&sidecar.until_token())
    });
    let mut table = "| claim | `eu` | `us` |\n|---|---|---|\n".to_owned();
    for pointer in ["/name", "/federated_claims/user_id", "/federated_claims/connector_id", "/sub"] {
        let [eu, us] = [&eu, &us].map(|claims| claims.pointer(pointer).and_then(Value::as_str));
        let equal = pointer.ends_with("name") || pointer.ends_with("user_id");
        assert_eq!(eu == us, equal, "{pointer}");
        let [eu, us] = [eu, us].map(|claim| claim.expect("a claim"));
        let name = pointer[1..].replace('/', ".");
        table += &format!("| `{name}` | `{eu}` | `{us}` |\n");
    }
    Page::at(PAGE).result("claims", &table);
}
