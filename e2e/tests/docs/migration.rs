//! The manifest diff of docs/migration.md applies to the original's manifest, and dexsidecar
//! accepts the result.

use dexsidecar_core::config::{Config, Outputs, RawSettings};
use dexsidecar_core::secret::Secret;
use dexsidecar_e2e::doc_manifests;
use serde_json::{Value, json};

/// Applies a unified diff without line numbers: `@@` stands for any lines.
fn apply(diff: &str, text: &str) -> String {
    let mut rest = text.lines();
    let mut done = vec![];
    let mut skipping = true;
    for line in diff.lines() {
        if line.starts_with("@@") {
            skipping = true;
            continue;
        }
        let (kind, content) = line.split_at(1);
        if kind == "+" {
            done.push(content.to_owned());
            continue;
        }
        loop {
            let next = rest.next().unwrap_or_else(|| panic!("not in the original's manifest: {content:?}"));
            if next == content {
                break;
            }
            assert!(skipping, "the original's manifest has {next:?}, the diff {content:?}");
            done.push(next.to_owned());
        }
        skipping = false;
        if kind == " " {
            done.push(content.to_owned());
        }
    }
    done.extend(rest.map(str::to_owned));
    done.join("\n")
}

#[test]
fn the_manifest_diff_applies_and_its_result_is_accepted_without_a_warning() {
    let blocks = doc_manifests::fenced("docs/migration.md");
    let mut diffs = blocks.iter().filter(|block| block.language == "diff");
    let diff = &diffs.next().expect("a diff").text;
    let manifest =
        doc_manifests::yaml(&apply(diff, doc_manifests::ORIGINAL)).unwrap_or_else(|why| panic!("{why}"));
    let pod = &manifest["spec"]["template"]["spec"];
    let sidecar = &pod["initContainers"][0];
    assert_eq!(sidecar["image"], doc_manifests::readme_pod()["spec"]["initContainers"][0]["image"]);
    assert_eq!(sidecar["startupProbe"]["exec"]["command"], json!(["dexsidecar", "ready"]));
    assert_eq!(pod["volumes"][0]["emptyDir"]["medium"], "Memory");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let env = sidecar["env"].as_array().expect("a list");
    let variables = env.iter().map(|entry| (text(&entry["name"]), Secret::new(text(&entry["value"]))));
    let config =
        Config::read(&RawSettings::of_variables(variables), Outputs::Required).expect("it is accepted");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}
