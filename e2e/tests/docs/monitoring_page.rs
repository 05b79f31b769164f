//! docs/monitoring.md: the fleet profile keeps the metrics of the alerts that the page names, and
//! the configuration of Alertmanager names alerts that exist.

use std::collections::BTreeSet;

use dexsidecar_e2e::doc_manifests;
use serde_json::Value;

const PAGE: &str = "docs/monitoring.md";

/// The metrics of dexsidecar in a text, without the prefix of their names.
fn metrics(text: &str) -> BTreeSet<String> {
    let end = |rest: &str| rest.find(|one: char| !(one.is_ascii_lowercase() || one == '_'));
    let names = text.split("dexsidecar_").skip(1);
    names.map(|rest| rest[..end(rest).unwrap_or(rest.len())].to_owned()).collect()
}

/// The alerts of the group `dexsidecar`, with their expressions.
fn alerts() -> Vec<(String, String)> {
    let rules = doc_manifests::yaml(&doc_manifests::text("deploy/monitoring/alerts.yaml")).expect("YAML");
    let group = &rules["groups"][0];
    assert_eq!(group["name"], "dexsidecar");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let rules = group["rules"].as_array().expect("rules").iter();
    rules.filter_map(|rule| Some((text(&rule["alert"])?, text(&rule["expr"])?))).collect()
}

/// The regular expression of the fleet profile in `podmonitor.yaml`.
fn profile() -> String {
    let text = doc_manifests::text("deploy/monitoring/podmonitor.yaml");
    let lines: Vec<&str> =
        text.lines().filter_map(|line| line.split_once("regex: ")).map(|it| it.1).collect();
    let [regex] = lines[..] else { panic!("{lines:?}") };
    regex.to_owned()
}

/// The metrics that the fleet profile keeps, without the prefix of their names.
fn kept() -> BTreeSet<String> {
    let regex = profile();
    let names = regex.strip_prefix("dexsidecar_(").and_then(|rest| rest.strip_suffix(')'));
    names.expect("a list of names").split('|').map(str::to_owned).collect()
}

#[test]
fn the_fleet_profile_keeps_the_metrics_of_the_alerts_that_the_page_names_and_of_no_other() {
    let kept = kept();
    let page = doc_manifests::text(PAGE);
    let row = page.lines().find(|line| line.ends_with(" | work |")).expect("the row of the table");
    let named: BTreeSet<&str> = row.split('`').skip(1).step_by(2).collect();
    let alerts = alerts();
    let works = |expression: &str| metrics(expression).is_subset(&kept);
    let working: BTreeSet<&str> =
        alerts.iter().filter(|(_, expression)| works(expression)).map(|(name, _)| name.as_str()).collect();
    assert_eq!(working, named);
    assert!(working.len() > 3 && working.len() < alerts.len(), "{working:?}");
    for name in &kept {
        assert!(page.contains(&format!("`dexsidecar_{name}`")), "{name}");
    }
}

#[test]
fn the_tests_of_the_fleet_profile_have_no_other_metric() {
    let tests = doc_manifests::text("deploy/monitoring/alerts_test.yaml");
    let tests = doc_manifests::yaml(&tests).expect("YAML");
    let tests = tests["tests"].as_array().expect("tests").iter();
    let of_profile =
        tests.filter(|test| test["name"].as_str().is_some_and(|name| name.contains("fleet profile")));
    let series: Vec<String> = of_profile
        .flat_map(|test| test["input_series"].as_array().expect("series"))
        .map(|series| series["series"].as_str().expect("a series").to_owned())
        .collect();
    let used: BTreeSet<String> = series.iter().flat_map(|series| metrics(series)).collect();
    assert_eq!(used, kept());
    assert!(
        series.iter().all(|series| series.starts_with("dexsidecar_") || series.starts_with("up{")),
        "{series:?}"
    );
}

#[test]
fn the_chart_keeps_the_metrics_of_the_fleet_profile() {
    let template = doc_manifests::text("deploy/helm/dexsidecar/templates/podmonitor.yaml");
    assert!(template.contains(&format!("\"{}\"", profile())), "{template}");
}

/// An inhibition without its source or its target would have no effect.
#[test]
fn the_configuration_of_alertmanager_names_alerts_that_exist() {
    let manifests = doc_manifests::manifests(PAGE);
    let config = manifests.iter().find(|block| block["route"].is_object()).expect("a configuration");
    let rule = &config["inhibit_rules"][0];
    let matcher = |name: &str| rule[name][0].as_str().expect("a matcher").to_owned();
    let matchers = matcher("source_matchers") + &matcher("target_matchers");
    let named: Vec<&str> = matchers.split(['"', '|']).filter(|word| word.starts_with("Dexsidecar")).collect();
    assert_eq!(named.len(), 3, "{matchers}");
    let alerts = alerts();
    for name in named {
        assert!(alerts.iter().any(|(alert, _)| alert == name), "{name}");
    }
}
