//! README.md and docs: the program accepts the manifests, the versions of Dex that are named are
//! tested, and the failure in an example is as in the table.

use std::fs;
use std::path::{Path, PathBuf};

use dexsidecar_core::config::{Config, Outputs, Probe, RawSettings};
use dexsidecar_core::failure::Code;
use dexsidecar_core::secret::Secret;
use dexsidecar_e2e::dex_version::{OLDER, PINNED, Version};
use dexsidecar_e2e::doc_manifests;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// The containers of a pod or of what makes pods.
fn sidecars(manifest: &Value) -> Vec<Value> {
    let pod =
        if manifest["kind"] == "Pod" { &manifest["spec"] } else { &manifest["spec"]["template"]["spec"] };
    let all = pod["initContainers"].as_array().into_iter().chain(pod["containers"].as_array()).flatten();
    all.filter(|container| container["name"] == "dexsidecar").cloned().collect()
}

#[test]
fn every_manifest_is_accepted_and_its_volumes_fit() {
    let mut seen = vec![];
    for page in ["README.md", "docs/kubernetes.md"] {
        let manifests = doc_manifests::manifests(page);
        for sidecar in
            manifests.iter().filter(|manifest| manifest["apiVersion"].is_string()).flat_map(sidecars)
        {
            seen.push(page);
            let variables: Vec<(String, Secret)> = sidecar["env"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|entry| {
                    let text = |name: &str| entry[name].as_str().expect("a string").to_owned();
                    (text("name"), Secret::new(text("value")))
                })
                .collect();
            let given = RawSettings::of_variables(variables);
            let config = Config::read(&given, Outputs::Required).expect("the program accepts it");
            assert!(config.warnings.is_empty(), "{:?}", config.warnings);
            let token = &config.tokens[0];
            // Every path that is named lies below something that is mounted.
            let mounts = sidecar["volumeMounts"].as_array().expect("a list");
            let mounted = |path: &Path| {
                mounts.iter().any(|mount| path.starts_with(mount["mountPath"].as_str().expect("a string")))
            };
            let subject = token.exchange.subject_token_file().expect("a subject token");
            assert!(mounted(subject), "{}", subject.display());
            assert!(mounted(&token.outputs[0].path));
            // The probe reads the same environment.
            if sidecar["args"] != serde_json::json!(["once"]) {
                let probe = ["startupProbe", "readinessProbe"].map(|kind| &sidecar[kind]);
                let probe = probe.into_iter().find(|probe| probe.is_object()).expect("a probe");
                assert_eq!(probe["exec"]["command"], serde_json::json!(["dexsidecar", "ready"]));
            }
            assert!(Probe::read(&given).is_ok());
        }
    }
    let page = "docs/kubernetes.md";
    assert_eq!(seen, ["README.md", page, page, page], "a pod; a pod, a Job and a pod whose app waits");
}

#[test]
fn the_versions_of_dex_that_are_tested_are_those_of_the_page() {
    let page = read("docs/kubernetes.md");
    let readme = read("README.md");
    let tested: Vec<Version> = OLDER.into_iter().chain([PINNED]).collect();
    for version in &tested {
        let alias = if version.issuer_alias { "yes" } else { "no: ignored" };
        let start = if version.starts_with_failed_connectors { "Dex starts" } else { "Dex exits" };
        let row = format!("| {} | {alias} | {start}", version.number);
        assert!(page.contains(&row), "docs/kubernetes.md has no row: {row}");
        assert!(readme.contains(version.number), "README.md does not name Dex {}", version.number);
    }
    let rows = page.lines().filter(|line| line.starts_with("| 2.")).count();
    assert_eq!(rows, tested.len(), "every row of docs/kubernetes.md is a version that is tested");
}

/// A node test compares the README's whole example with the output of a pod. This test needs no
/// root.
#[test]
fn the_failure_in_each_example_is_as_in_the_table() {
    let entry = Code::ConnectorUnknown.entry();
    for page in ["README.md", "docs/troubleshooting.md"] {
        let text = read(page);
        // The value of the only line that begins with this label.
        let value = |label: &str| {
            let values: Vec<&str> = text
                .lines()
                .filter_map(|line| line.trim_start().strip_prefix(label))
                .map(str::trim)
                .collect();
            assert_eq!(values.len(), 1, "{page}: one example has a line {label}");
            values[0]
        };
        assert_eq!(value("code:"), entry.name, "{page}");
        assert_eq!(value("owner:"), entry.owner.title(), "{page}");
        let fix = value("fix:").strip_suffix('…').unwrap_or_else(|| panic!("{page}: the fix is cut with …"));
        assert!(entry.fix.starts_with(fix.trim_end()), "{page}: the table has another fix: {}", entry.fix);
        assert!(
            text.contains(&format!("{}: 400 invalid_request: ", entry.summary)),
            "{page}: {}",
            entry.summary
        );
    }
}
