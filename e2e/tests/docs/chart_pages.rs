//! The README of each chart: its table is generated from the comments in values.yaml and from the
//! required values of the schema. The versions of the charts are that of the program.

use std::fmt::Write as _;

use dexsidecar_e2e::doc_manifests;
use serde_json::Value;

use crate::generated;

const CHARTS: [&str; 2] = ["deploy/helm/dexsidecar", "deploy/helm/dexsidecar-lib"];

const BEGIN: &str = "<!-- values -->\n";
const END: &str = "<!-- end of values -->\n";

/// A value: its path, its default, what it is.
type Row = (String, String, String);

/// The values of values.yaml, with the comment before each or before the map that holds it.
fn values(text: &str) -> Vec<Row> {
    let mut rows = vec![];
    // The keys that lead to the current line, each with its indentation and its comment.
    let mut keys: Vec<(usize, String, String)> = vec![];
    let mut comment: Vec<&str> = vec![];
    for line in text.lines() {
        let content = line.trim_start();
        let indentation = line.len() - content.len();
        if let Some(words) = content.strip_prefix("# ") {
            comment.push(words);
        } else if let Some((key, value)) = content.split_once(':') {
            keys.retain(|(depth, ..)| *depth < indentation);
            let inherited = keys.last().map(|(.., comment)| comment.clone()).unwrap_or_default();
            let words = if comment.is_empty() { inherited } else { comment.join(" ") };
            keys.push((indentation, key.to_owned(), words.clone()));
            if !value.is_empty() {
                let path: Vec<&str> = keys.iter().map(|(_, key, _)| key.as_str()).collect();
                rows.push((path.join("."), format!("`{}`", value.trim()), words));
            }
            comment.clear();
        } else {
            assert!(content.is_empty(), "neither a comment nor a key: {line}");
            comment.clear();
        }
    }
    rows
}

/// The values that a schema requires, always or unless a condition holds.
fn required(schema: &Value) -> Vec<Value> {
    let always = schema["required"].as_array();
    always.or_else(|| schema["else"]["required"].as_array()).cloned().unwrap_or_default()
}

/// The schema of the configuration file is a part of the library chart's, so that Helm finds
/// mistakes. Helm would read the number 0640 as 416, so a mode must be a text.
#[test]
fn the_schema_of_the_library_chart_has_that_of_the_configuration_file() {
    let schema = doc_manifests::text("docs/config.schema.json");
    let mut schema: Value = serde_json::from_str(&schema).expect("JSON");
    let mut definitions = schema["definitions"].take();
    let root = schema.as_object_mut().expect("an object");
    root.retain(|key, _| !["$schema", "definitions", "title"].contains(&key.as_str()));
    let mode = &mut definitions["output"]["properties"]["mode"];
    assert!(mode["type"].is_array(), "{mode}");
    mode["type"] = "string".into();

    let path = "deploy/helm/dexsidecar-lib/values.schema.json";
    let text = doc_manifests::text(path);
    let (own, _) = text.split_once("\n    \"configuration\": ").expect("the first definition of the file");
    let mut text = own.to_owned();
    let all = [("configuration", schema)].into_iter().chain(
        definitions
            .as_object()
            .expect("an object")
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone())),
    );
    let all: Vec<String> = all
        .map(|(name, value)| format!("\n    \"{name}\": {}", format!("{value:#}").replace('\n', "\n    ")))
        .collect();
    text += &all.join(",");
    text += "\n  }\n}\n";
    let _: Value = serde_json::from_str(&text).expect("JSON");
    generated::page(path, &text);
}

#[test]
fn the_readme_of_each_chart_has_its_values() {
    for chart in CHARTS {
        let path = format!("{chart}/README.md");
        let schema = doc_manifests::text(&format!("{chart}/values.schema.json"));
        let schema: Value = serde_json::from_str(&schema).expect("JSON");
        let required = required(&schema).into_iter().map(|name| {
            let name = name.as_str().expect("a string");
            let words = schema["properties"][name]["description"].as_str().expect("a description");
            (name.to_owned(), "required".to_owned(), words.to_owned())
        });
        let mut table = String::from("| value | default | meaning |\n|---|---|---|\n");
        for (name, default, words) in
            required.chain(values(&doc_manifests::text(&format!("{chart}/values.yaml"))))
        {
            assert!(!words.is_empty(), "{chart}: {name} has no comment");
            let _ = writeln!(table, "| `{name}` | {default} | {words} |");
        }
        let page = doc_manifests::text(&path);
        let (before, rest) = page.split_once(BEGIN).expect("the begin of the table");
        let (_, after) = rest.split_once(END).expect("the end of the table");
        generated::page(&path, &format!("{before}{BEGIN}{table}{END}{after}"));
    }
}

/// The schema may have more values than values.yaml, but not less.
#[test]
fn the_values_of_each_chart_are_those_of_its_schema() {
    for chart in CHARTS {
        let schema = doc_manifests::text(&format!("{chart}/values.schema.json"));
        let schema: Value = serde_json::from_str(&schema).expect("JSON");
        let values =
            doc_manifests::yaml(&doc_manifests::text(&format!("{chart}/values.yaml"))).expect("YAML");
        let mut known: Vec<&String> = values.as_object().expect("a map").keys().collect();
        let required = required(&schema);
        let mut allowed: Vec<&String> = schema["properties"].as_object().expect("a map").keys().collect();
        // Helm adds `global` to the values of each chart.
        allowed.retain(|name| *name != "global" && !required.contains(&name.as_str().into()));
        known.sort();
        allowed.sort();
        assert_eq!(known, allowed, "{chart}");
    }
}

#[test]
fn the_charts_and_the_default_image_have_the_version_of_the_program() {
    let version = env!("CARGO_PKG_VERSION");
    for chart in CHARTS {
        let text = doc_manifests::yaml(&doc_manifests::text(&format!("{chart}/Chart.yaml"))).expect("YAML");
        assert_eq!((&text["version"], &text["appVersion"]), (&version.into(), &version.into()), "{chart}");
    }
    let values = |chart: &str| {
        doc_manifests::yaml(&doc_manifests::text(&format!("{chart}/values.yaml"))).expect("YAML")
    };
    assert_eq!(values("deploy/helm/dexsidecar-lib")["image"]["tag"], version);
    assert_eq!(values("deploy/helm/dexsidecar")["injection"]["image"]["tag"], version);
}

#[test]
fn comments_are_read_as_the_meaning_of_the_next_value() {
    let text = "# Of the file.\n\n# A\n# map.\na:\n  b: 1\n  # Its own.\n  c: x: y\n\n# Last.\nd: []\n";
    let row =
        |path: &str, default: &str, words: &str| (path.to_owned(), default.to_owned(), words.to_owned());
    assert_eq!(
        values(text),
        [row("a.b", "`1`", "A map."), row("a.c", "`x: y`", "Its own."), row("d", "`[]`", "Last.")]
    );
}
