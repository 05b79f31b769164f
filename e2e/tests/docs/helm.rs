//! deploy/helm: the charts are linted, rendered and compared with the texts beside them. A real API
//! server and kubeconform judge each variant. Values that make no sense are refused.
//!
//! Helm is built in the long form only.

mod injection;
mod refusals;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dexsidecar_core::config::{Config, ConfigFile, Locate, Outputs, RawSettings};
use dexsidecar_core::secret::Secret;
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::rendered::{Judge, documents, pod_spec, sidecar};
use dexsidecar_fetch::counterparts::{HELM, KUBECONFORM};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::generated;
use crate::schemas;
use crate::waiting;

/// The charts, copied to a directory in which Helm may write.
struct Charts {
    directory: TempDir,
    helm: PathBuf,
}

/// What Helm said: its standard output, or its standard error if it failed.
type Said = Result<String, String>;

impl Charts {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        copy(&doc_manifests::root().join("deploy/helm"), &directory.path().join("charts"));
        let charts = Self { directory, helm: prebuilt::program(&HELM) };
        charts.helm(&["dependency", "build", &charts.path(EXAMPLE)]).unwrap_or_else(|why| panic!("{why}"));
        charts
    }

    fn path(&self, chart: &str) -> String {
        self.directory.path().join("charts").join(chart).display().to_string()
    }

    fn helm(&self, arguments: &[&str]) -> Said {
        let own = |name: &str| self.directory.path().join(name);
        let output = Command::new(&self.helm)
            .args(arguments)
            .envs([("HELM_CACHE_HOME", own("cache")), ("HELM_CONFIG_HOME", own("config"))])
            .env("HELM_DATA_HOME", own("data"))
            .env("KUBECONFIG", "/dev/null")
            .output()
            .expect("helm was built");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// A file with these values, in JSON, in place of or besides those of a chart.
    fn values(&self, values: &Value) -> String {
        let file = self.directory.path().join("values.json");
        fs::write(&file, values.to_string()).expect("the temporary directory is writable");
        file.display().to_string()
    }

    /// The manifests of a chart with these values.
    fn render(&self, chart: &str, values: &Value) -> Said {
        let file = self.values(values);
        self.helm(&["template", "app", &self.path(chart), "--namespace", "monitoring", "--values", &file])
    }

    fn rendered(&self, chart: &str, values: &Value) -> String {
        self.render(chart, values).unwrap_or_else(|why| panic!("{values}: {why}"))
    }
}

/// Copies a directory. Links become the files that they lead to.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the temporary directory is writable");
    for entry in fs::read_dir(from).expect("the charts").map(|entry| entry.expect("an entry")) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

const LIBRARY: &str = "dexsidecar-lib";
const CLUSTER: &str = "dexsidecar";
const EXAMPLE: &str = "dexsidecar-lib/tests/example";

/// The variants of the library chart, by the name of their rendered text.
fn library_variants() -> Vec<(&'static str, Value)> {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    vec![
        ("defaults", json!({})),
        ("once", json!({"mode": "once"})),
        ("ca-configmap", json!({"ca": {"configMap": {"name": "dex-ca", "key": "ca.crt"}}})),
        ("ca-secret", json!({"ca": {"secret": {"name": "dex-ca", "key": "tls.crt"}}})),
        ("ca-cluster-trust-bundle", json!({"ca": {"clusterTrustBundle": {"name": "dex-ca"}}})),
        ("wait-image", json!({"start": "wait"})),
        ("wait-copy", json!({"start": "wait", "program": "copy"})),
        ("several-tokens", several_tokens()),
        (
            "everything",
            json!({
                "image": {"repository": "registry.example.com/dexsidecar", "digest": digest},
                "endpoint": "https://dex.example.com/dex/token",
                "connectorId": "cluster-1",
                "scope": "openid groups",
                "clientSecret": {"name": "dex-client", "key": "credentials"},
                "token": {"directory": "/run/dex", "file": "incus"},
                "subjectToken": {"audience": "dex.example.com", "expirationSeconds": 7200},
                "ca": {"configMap": {"name": "dex-ca", "key": "ca.crt"}},
                "listenPort": 9090,
                "extraEnv": [{"name": "DEXSIDECAR_LOG_FORMAT", "value": "json"}],
                "resources": {"requests": {"cpu": "2m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}}
            }),
        ),
    ]
}

/// Values for two tokens, one of them in two formats.
fn several_tokens() -> Value {
    json!({
        "endpoint": null,
        "clientId": null,
        "ca": {"configMap": {"name": "dex-ca", "key": "ca.crt"}},
        "clientSecret": {"name": "dex-client"},
        "config": {"name": "dex-tokens", "file": {
            "version": "v1",
            "defaults": {
                "token_endpoint": "https://dex.example.com/token",
                "ca_file": "/etc/dex/ca.crt",
                "connector_id": "kubernetes",
                "subject_token_file": "/var/run/secrets/subject/token",
                "scope": "openid profile federated:id"
            },
            "tokens": [
                {"name": "incus", "client_id": "incus", "outputs": [{"path": "/var/run/secrets/dex/token"}]},
                {"name": "prometheus", "basic_auth_file": "/etc/dexsidecar/client/basic-auth", "outputs": [
                    {"path": "/var/run/secrets/dex/prometheus.json", "format": "json", "mode": "0640"},
                    {"path": "/var/run/secrets/dex/header", "prefix": "Authorization: Bearer "}
                ]}
            ]
        }}
    })
}

/// The variants of the cluster chart.
fn cluster_variants() -> Vec<(&'static str, Value)> {
    let on = json!({"enabled": true});
    vec![
        ("discovery", json!({"discovery": on})),
        ("pod-monitor", json!({"podMonitor": on})),
        (
            "pod-monitor-namespaces",
            json!({"podMonitor": {"enabled": true, "namespaces": ["a", "b"], "labels": {"release": "prometheus"}}}),
        ),
        ("pod-monitor-fleet", json!({"podMonitor": {"enabled": true, "fleetProfile": true}})),
        (
            "rules",
            json!({"rules": {"enabled": true, "labels": {"release": "prometheus"}, "runbookBase": "https://git.example.com/dexsidecar/"}}),
        ),
        ("dashboard", json!({"dashboard": on})),
        ("injection", injection::enabled(&json!({}))),
        (
            "everything",
            json!({"discovery": on, "podMonitor": on, "rules": on, "dashboard": on,
                   "injection": injection::enabled(&json!({}))["injection"]}),
        ),
    ]
}

fn variants() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let library = library_variants().into_iter();
    let library = library.map(|(name, values)| (LIBRARY, EXAMPLE, name, json!({"dexsidecar": values})));
    library
        .chain(cluster_variants().into_iter().map(|(name, values)| (CLUSTER, CLUSTER, name, values)))
        .collect()
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn helm_lints_each_chart_without_warnings() {
    let charts = Charts::new();
    let endpoint = "endpoint=https://dex.example.com/token,clientId=incus";
    for arguments in [&[LIBRARY, "--set", endpoint][..], &[EXAMPLE], &[CLUSTER]] {
        let path = charts.path(arguments[0]);
        let said = charts.helm(&[&["lint", "--strict", &path], &arguments[1..]].concat());
        assert!(said.is_ok_and(|said| said.contains("1 chart(s) linted, 0 chart(s) failed")), "{path}");
    }
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn each_variant_is_rendered_to_the_text_in_tests() {
    let charts = Charts::new();
    for (chart, rendered, name, values) in variants() {
        // Other tests compare these with deploy/monitoring and deploy/injection.
        if chart == CLUSTER && ["rules", "dashboard", "injection", "everything"].contains(&name) {
            continue;
        }
        let text = charts.rendered(rendered, &values);
        let path = format!("deploy/helm/{chart}/tests/rendered/{name}.yaml");
        generated::written_by("UPDATE=1 cargo xtask test docs helm --long", &path, &text);
    }
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn each_variant_is_accepted_by_a_restricted_api_server_and_by_kubeconform() {
    let charts = Charts::new();
    let judge = Judge::start();
    let schemas = schemas::of(&judge);
    for (_, chart, _, values) in variants() {
        let text = charts.rendered(chart, &values);
        let count = documents(&text).len();
        assert!(count > 0, "{chart} {values}");
        assert_eq!(judge.accepts(&text).len(), count, "{chart} {values}");
        schemas::assert_valid(&schemas, &prebuilt::program(&KUBECONFORM), &text);
    }
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn the_pod_of_the_library_is_that_of_the_page() {
    let charts = Charts::new();
    let rendered = documents(&charts.rendered(EXAMPLE, &json!({})));
    assert_eq!(rendered.len(), 1);
    let page = doc_manifests::hardened_pod();
    assert_eq!(pod_spec(&rendered[0]), &page["spec"]);
    // The page says what replaces `restartPolicy` and `startupProbe`: `args: [once]`.
    let once = documents(&charts.rendered(EXAMPLE, &json!({"dexsidecar": {"mode": "once"}})));
    let mut expected = sidecar(&page["spec"]).clone();
    let fields = expected.as_object_mut().expect("an object");
    fields.remove("restartPolicy");
    fields.remove("startupProbe");
    fields.insert("args".to_owned(), json!(["once"]));
    assert_eq!(sidecar(pod_spec(&once[0])), &expected);
}

/// The page's pod whose app waits for the token, with each of the two ways to get the program.
#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn the_pod_of_the_library_whose_app_waits_is_that_of_the_page() {
    let charts = Charts::new();
    let rendered = |program: &str, version: &str| {
        let values = charts.values(&json!({"dexsidecar": {"start": "wait", "program": program}}));
        let path = charts.path(EXAMPLE);
        charts.helm(&["template", "app", &path, "--kube-version", version, "--values", &values])
    };
    let page = doc_manifests::waiting_pod()["spec"].clone();
    let copied = rendered("copy", "1.35.9").expect("it needs no image volume");
    assert_eq!(waiting::outline(pod_spec(&documents(&copied)[0])), waiting::outline(&page));
    let mounted = rendered("image", "1.36.0-gke.1").expect("it has image volumes");
    let of_the_page = waiting::with_image_volume(&page);
    assert_eq!(waiting::outline(pod_spec(&documents(&mounted)[0])), waiting::outline(&of_the_page));
    let why = rendered("image", "1.35.9").expect_err("it has no image volumes");
    assert!(why.contains("this is v1.35.9: set program to copy"), "{why}");
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn the_program_accepts_the_variables_and_the_file_of_each_variant() {
    let charts = Charts::new();
    for (name, values) in library_variants() {
        let rendered = documents(&charts.rendered(EXAMPLE, &json!({"dexsidecar": values})));
        let (deployment, map) = rendered.split_last().expect("a Deployment");
        let env = sidecar(pod_spec(deployment))["env"].as_array().expect("a list").clone();
        let variables = env.into_iter().map(|entry| {
            let text = |name: &str| entry[name].as_str().expect("a string").to_owned();
            (text("name"), Secret::new(text("value")))
        });
        let variables = RawSettings::of_variables(variables.collect::<Vec<_>>());
        let config = map.first().map_or_else(
            || Config::read(&variables, Outputs::Required),
            |map| {
                let content = map["data"]["dexsidecar.yaml"].as_str().expect("a file").as_bytes();
                let path = Path::new("/etc/dexsidecar/config/dexsidecar.yaml");
                Config::read_file(
                    ConfigFile { name: "dexsidecar.yaml", path, content },
                    &variables,
                    Outputs::Required,
                    Locate::AS_TEXT,
                )
            },
        );
        let config = config.unwrap_or_else(|why| panic!("{name}: {why:?}"));
        assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
        assert_eq!(config.tokens.len(), if name == "several-tokens" { 2 } else { 1 }, "{name}");
    }
}

/// Every file that the configuration names is in a volume of the sidecar.
#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn the_configuration_file_and_what_it_names_are_mounted() {
    let charts = Charts::new();
    let rendered = documents(&charts.rendered(EXAMPLE, &json!({"dexsidecar": several_tokens()})));
    assert_eq!(rendered.iter().map(|one| &one["kind"]).collect::<Vec<_>>(), ["ConfigMap", "Deployment"]);
    assert_eq!(rendered[0]["metadata"]["name"], "dex-tokens");
    let sidecar = sidecar(pod_spec(&rendered[1]));
    let path = "/etc/dexsidecar/config/dexsidecar.yaml";
    assert_eq!(sidecar["env"], json!([{"name": "DEXSIDECAR_CONFIG", "value": path}]));
    let text = rendered[0]["data"]["dexsidecar.yaml"].as_str().expect("a file");
    let file = doc_manifests::yaml(text).expect("YAML");
    assert_eq!(file, several_tokens()["config"]["file"]);
    let mounts = sidecar["volumeMounts"].as_array().expect("a list");
    let directories: Vec<&str> = mounts.iter().filter_map(|mount| mount["mountPath"].as_str()).collect();
    let named = text.split('"').filter(|word| word.starts_with('/')).chain([path]);
    let outside: Vec<&str> =
        named.filter(|word| !directories.iter().any(|directory| word.starts_with(directory))).collect();
    assert!(outside.is_empty(), "{outside:?} in none of {directories:?}");
    // Without a file the ConfigMap exists already, and the pod is the same.
    let mut values = several_tokens();
    values["config"]["file"] = json!({});
    let pod_only = documents(&charts.rendered(EXAMPLE, &json!({"dexsidecar": values})));
    assert_eq!(pod_only, rendered[1..]);
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn the_cluster_chart_renders_the_files_of_monitoring_and_the_binding_of_the_page() {
    let charts = Charts::new();
    assert_eq!(
        documents(&charts.rendered(CLUSTER, &json!({}))),
        Vec::<Value>::new(),
        "each part is off by default"
    );
    let all = json!({"discovery": {"enabled": true}, "podMonitor": {"enabled": true},
                     "rules": {"enabled": true}, "dashboard": {"enabled": true}});
    let rendered = documents(&charts.rendered(CLUSTER, &all));
    let of =
        |kind: &str| rendered.iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
    let file = |name: &str| doc_manifests::text(&format!("deploy/monitoring/{name}"));
    let yaml = |name: &str| doc_manifests::yaml(&file(name)).expect("YAML");
    assert_eq!(of("PodMonitor")["spec"], yaml("podmonitor.yaml")["spec"]);
    assert_eq!(of("PrometheusRule")["spec"], yaml("prometheusrule.yaml")["spec"]);
    assert_eq!(of("ConfigMap")["data"], json!({"dashboard.json": file("dashboard.json")}));
    let page = doc_manifests::manifests("docs/kubernetes.md");
    let binding = page.iter().find(|one| one["kind"] == "ClusterRoleBinding").expect("the page's binding");
    assert_eq!(of("ClusterRoleBinding"), binding);
    assert_eq!(rendered.len(), 4);
}

/// In the repository, the files of monitoring are symbolic links.
#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn the_cluster_chart_renders_the_same_from_the_repository_and_from_a_package() {
    let charts = Charts::new();
    let own = doc_manifests::root().join("deploy/helm").join(CLUSTER).display().to_string();
    let directory = charts.directory.path().display().to_string();
    let said = charts.helm(&["package", &own, "--destination", &directory]);
    said.unwrap_or_else(|why| panic!("{why}"));
    // And what a release has, which is written without Helm.
    let release = charts.directory.path().join("release").display().to_string();
    let written = prebuilt::cargo().args(["xtask", "charts", &release]).output().expect("cargo runs");
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let package = |directory: &str| format!("{directory}/{CLUSTER}-{}.tgz", env!("CARGO_PKG_VERSION"));
    let parts = ["discovery", "podMonitor", "rules", "dashboard", "injection"]
        .map(|part| format!("{part}.enabled=true"))
        .join(",");
    let required = charts.values(&injection::enabled(&json!({})));
    let rendered = |chart: &str| {
        let values = ["--namespace", "monitoring", "--set", &parts, "--values", &required];
        let said = charts.helm(&[&["template", "app", chart][..], &values].concat());
        said.unwrap_or_else(|why| panic!("{chart}: {why}"))
    };
    let usual = rendered(&own);
    assert_eq!(documents(&usual).len(), 10);
    for chart in [charts.path(CLUSTER), package(&directory), package(&release)] {
        assert!(rendered(&chart) == usual, "{chart} differs");
        charts.helm(&["lint", "--strict", &chart]).unwrap_or_else(|why| panic!("{chart}: {why}"));
    }
    let library = format!("{release}/{LIBRARY}-{}.tgz", env!("CARGO_PKG_VERSION"));
    let shown = charts.helm(&["show", "values", &library]).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(shown.trim(), doc_manifests::text("deploy/helm/dexsidecar-lib/values.yaml").trim());
}

#[test]
#[ignore = "Helm is built in the long form: cargo xtask test docs --long"]
fn the_rules_have_the_labels_and_the_base_of_the_runbooks_precedes_each_link() {
    let charts = Charts::new();
    let base = "https://git.example.com/dexsidecar/";
    let labels = json!({"release": "prometheus"});
    let values = json!({"rules": {"enabled": true, "labels": labels, "runbookBase": base}});
    let rules = &documents(&charts.rendered(CLUSTER, &values))[0];
    assert_eq!(rules["metadata"]["labels"], labels);
    let mut links = 0;
    for group in rules["spec"]["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules").iter().filter(|rule| rule["alert"].is_string())
        {
            let link = rule["annotations"]["runbook_url"].as_str().expect("a link");
            assert!(link.strip_prefix(base).is_some_and(|rest| rest.starts_with("docs/")), "{link}");
            links += 1;
        }
    }
    assert!(links > 10, "{links}");
}
