//! A real Prometheus and promtool: the metrics, the alert rules and the dashboard of
//! deploy/monitoring.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::dex::free_port;
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::fake_dex::{Answer, FakeDex};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::listener::Listening;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::process::{Process, killed_with_parent};
use dexsidecar_e2e::raw_http;
use dexsidecar_fetch::counterparts::PROMETHEUS;
use serde_json::Value;

/// A subject token that expires in 2100.
const SUBJECT_TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDB9.canary";

fn program(name: &str) -> PathBuf {
    prebuilt::packages(&PROMETHEUS).join("usr/bin").join(name)
}

fn monitoring() -> PathBuf {
    doc_manifests::root().join("deploy/monitoring")
}

/// Runs promtool in the directory of the rules, and returns what it prints.
fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    promtool_in(&monitoring(), arguments, input)
}

fn promtool_in(directory: &Path, arguments: &[&str], input: &str) -> (bool, String) {
    let mut promtool = Command::new(program("promtool"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    promtool.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("promtool reads its input");
    let output = promtool.wait_with_output().expect("promtool ends");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("UTF-8"))
}

#[test]
fn promtool_accepts_the_metrics() {
    let fixture = Fixture::new();
    let mut listening = Listening::start(fixture.setup());
    listening.until_status("/readyz", 200);
    let metrics = listening.get("/metrics").body;
    let (accepted, printed) = promtool(&["check", "metrics"], &metrics);
    assert!(accepted && printed.is_empty(), "{printed}{metrics}");
    let (accepted, printed) =
        promtool(&["check", "metrics"], &metrics.replace("_total counter", "_total gauge"));
    assert!(!accepted && !printed.is_empty(), "promtool finds mistakes");
}

fn alerts() -> Vec<String> {
    let rules = fs::read_to_string(monitoring().join("alerts.yaml")).expect("the rules");
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

#[test]
fn each_alert_fires_and_stays_silent_in_a_test_of_promtool() {
    let (accepted, printed) = promtool(&["check", "rules", "alerts.yaml"], "");
    assert!(accepted, "{printed}");
    let (accepted, printed) = promtool(&["test", "rules", "alerts_test.yaml"], "");
    assert!(accepted, "{printed}");
    let tests = fs::read_to_string(monitoring().join("alerts_test.yaml")).expect("the tests");
    for alert in alerts() {
        let mut expected =
            tests.split("alertname: ").filter_map(|test| test.strip_prefix(&format!("{alert}\n")));
        let fires = |test: &str| test.split("- ").next().is_some_and(|own| !own.contains("exp_alerts: []"));
        assert!(expected.clone().any(fires), "{alert} fires in a test");
        assert!(expected.any(|test| !fires(test)), "{alert} stays silent in a test");
    }
}

#[test]
fn the_command_of_the_page_makes_a_url_of_each_link_and_the_tests_of_the_rules_pass() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let copies = directory.path().join("deploy/monitoring");
    fs::create_dir_all(&copies).expect("a new directory");
    for name in ["alerts.yaml", "alerts_test.yaml", "prometheusrule.yaml"] {
        fs::copy(monitoring().join(name), copies.join(name)).expect("a copy");
    }
    let mut blocks = doc_manifests::fenced("docs/monitoring.md").into_iter();
    let block = blocks.find(|block| block.text.contains("runbook_url:")).expect("the command");
    let status = Command::new("sh").args(["-ec", &block.text]).current_dir(directory.path()).status();
    assert!(status.expect("sh runs").success(), "{}", block.text);
    for name in ["alerts.yaml", "alerts_test.yaml", "prometheusrule.yaml"] {
        let text = fs::read_to_string(copies.join(name)).expect("the copy");
        let links: Vec<_> = text.lines().filter(|line| line.contains("runbook_url:")).collect();
        assert!(links.len() > 10 && links.iter().all(|link| link.contains("https://")), "{name}: {links:?}");
    }
    let (accepted, printed) = promtool_in(&copies, &["test", "rules", "alerts_test.yaml"], "");
    assert!(accepted, "{printed}");
}

/// A Prometheus that scrapes these sidecars each second, with the labels that a PodMonitor gives.
fn prometheus(directory: &Path, sidecars: &[&Listening]) -> (Process, SocketAddr) {
    let mut targets = String::new();
    for (number, sidecar) in sidecars.iter().enumerate() {
        targets += &format!(
            "  - targets: [\"{}\"]\n    labels: {{namespace: shop, pod: app-{number}, cluster: test}}\n",
            sidecar.address
        );
    }
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{}]\nscrape_configs:\n- job_name: dexsidecar\n  static_configs:\n{targets}",
        monitoring().join("alerts.yaml").display()
    );
    let file = directory.join("prometheus.yml");
    fs::write(&file, config).expect("the directory is writable");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut command = killed_with_parent(&program("prometheus"));
    command.args([
        format!("--config.file={}", file.display()),
        format!("--web.listen-address={address}"),
        format!("--storage.tsdb.path={}", directory.join("data").display()),
    ]);
    (Process::start("prometheus", command), address)
}

fn api(address: SocketAddr, target: &str) -> Value {
    // A response to HTTP/1.0 is not chunked.
    let request = format!("GET /api/v1/{target} HTTP/1.0\r\n\r\n");
    raw_http::send(address, &request).map_or(Value::Null, |reply| reply.json())
}

/// Every query of the dashboard, with its variables replaced as Grafana does.
fn queries() -> Vec<String> {
    let text = fs::read_to_string(monitoring().join("dashboard.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries = targets.map(|target| {
        let mut query = target["expr"].as_str().expect("a query").to_owned();
        for (variable, value) in
            [("$cluster", "test"), ("$namespace", ".*"), ("$token", "default"), ("$__rate_interval", "1m")]
        {
            query = query.replace(variable, value);
        }
        assert!(!query.contains('$'), "{query}");
        query
    });
    queries.collect()
}

#[test]
fn every_query_of_the_dashboard_has_data_and_every_rule_is_evaluated() {
    let authority = Authority::new();
    let healthy = Fixture::at(FakeDex::start_at("127.0.0.1:0", Some(authority.server(&[]).server_config())));
    healthy.volume.replace_token(SUBJECT_TOKEN);
    // Refreshed while Prometheus scrapes, so that there are durations.
    healthy.dex.always(Answer::Token(6));
    let ca = authority.file().to_str().expect("UTF-8").to_owned();
    let healthy = Listening::start(healthy.setup().set("DEXSIDECAR_CA_FILE", ca));
    let away = Fixture::new();
    let setup = away.setup().set("dex_endpoint", format!("http://127.0.0.1:{}/token", free_port()));
    let failing = Listening::start(setup);

    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut prometheus, address) = prometheus(directory.path(), &[&healthy, &failing]);
    let queries = queries();
    assert!(queries.len() > 20, "{queries:#?}");
    for query in queries {
        let encoded: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        prometheus.until(&format!("data of {query}"), |_| {
            let answer = api(address, &format!("query?query={encoded}"));
            assert!(answer["status"] != "error", "{query}: {answer}");
            answer["data"]["result"].as_array().is_some_and(|series| !series.is_empty())
        });
    }
    prometheus.until("every rule is evaluated", |_| {
        let rules = api(address, "rules");
        let groups = rules["data"]["groups"].as_array().cloned().unwrap_or_default();
        let rules: Vec<&Value> =
            groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:#?}");
        rules.len() == alerts().len() + 3 && rules.iter().all(|rule| rule["health"] == "ok")
    });
}
