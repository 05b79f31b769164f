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

/// The values without a default: those that a schema requires if a part is enabled, or unless a
/// condition holds.
fn without_default(schema: &Value, path: &str) -> Vec<Row> {
    let mut rows = required(&schema["else"], schema, path, "required");
    rows.extend(required(&schema["then"], schema, path, &format!("required if `{path}enabled`")));
    for (name, value) in schema["properties"].as_object().into_iter().flatten() {
        rows.extend(without_default(value, &format!("{path}{name}.")));
    }
    rows
}

/// The values that a branch of a schema requires. Their descriptions are in the schema itself.
fn required(branch: &Value, schema: &Value, path: &str, when: &str) -> Vec<Row> {
    let mut rows = vec![];
    for name in branch["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let words = schema["properties"][name]["description"].as_str().expect("a description");
        rows.push((format!("{path}{name}"), when.to_owned(), words.to_owned()));
    }
    for (name, branch) in branch["properties"].as_object().into_iter().flatten() {
        rows.extend(required(branch, &schema["properties"][name], &format!("{path}{name}."), when));
    }
    rows
}

fn schema(chart: &str) -> Value {
    let schema = doc_manifests::text(&format!("{chart}/values.schema.json"));
    serde_json::from_str(&schema).expect("JSON")
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
        let mut rows = values(&doc_manifests::text(&format!("{chart}/values.yaml")));
        // After the value that enables their part, or first.
        let without_default = without_default(&schema(chart), "");
        assert_eq!(without_default.len(), 2, "{chart}: {without_default:?}");
        for row in without_default.into_iter().rev() {
            let part = row.1.split('`').nth(1);
            let enables = |one: &Row| Some(one.0.as_str()) == part;
            let place = rows.iter().position(enables).map_or(0, |place| place + 1);
            rows.insert(place, row);
        }
        let mut table = String::from("| value | default | meaning |\n|---|---|---|\n");
        for (name, default, words) in rows {
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
        let schema = schema(chart);
        let values =
            doc_manifests::yaml(&doc_manifests::text(&format!("{chart}/values.yaml"))).expect("YAML");
        let mut known: Vec<&String> = values.as_object().expect("a map").keys().collect();
        let without_default = without_default(&schema, "");
        let mut allowed: Vec<&String> = schema["properties"].as_object().expect("a map").keys().collect();
        // Helm adds `global` to the values of each chart.
        allowed.retain(|name| *name != "global" && !without_default.iter().any(|row| row.0 == **name));
        known.sort();
        allowed.sort();
        assert_eq!(known, allowed, "{chart}");
    }
}

/// The paths of all values, of maps too.
pub(crate) fn paths(values: &Value) -> Vec<String> {
    let mut paths = vec![];
    for (name, value) in values.as_object().into_iter().flatten() {
        paths.push(name.clone());
        paths.extend(self::paths(value).into_iter().map(|path| format!("{name}.{path}")));
    }
    paths
}

/// Helm drops a key that is null. A label is not required, so that a user can drop it.
#[test]
fn the_schema_of_each_chart_requires_each_key_of_its_values_but_labels() {
    for chart in CHARTS {
        let text = doc_manifests::text(&format!("{chart}/values.yaml"));
        let mut values = doc_manifests::yaml(&text).expect("YAML");
        if chart.ends_with("-lib") {
            values["endpoint"] = "https://dex.example.com/token".into();
            values["clientId"] = "incus".into();
        }
        let validator = jsonschema::validator_for(&schema(chart)).expect("a schema");
        assert!(validator.is_valid(&values), "{chart}");
        let paths = paths(&values);
        assert!(paths.len() > 20, "{paths:?}");
        for path in paths {
            let mut dropped = values.clone();
            let (parent, name) = path.rsplit_once('.').unwrap_or(("", &path));
            let parent =
                if parent.is_empty() { String::new() } else { format!("/{}", parent.replace('.', "/")) };
            dropped.pointer_mut(&parent).and_then(Value::as_object_mut).expect("a map").remove(name);
            assert_eq!(validator.is_valid(&dropped), path.contains(".labels."), "{chart}: {path}");
        }
    }
}

/// A variable that the template sets would be in the list twice.
#[test]
fn extra_env_has_no_variable_that_the_template_sets() {
    let template = doc_manifests::text("deploy/helm/dexsidecar-lib/templates/_dexsidecar.tpl");
    let (_, rest) = template.split_once("define \"dexsidecar.env\"").expect("the template");
    let (env, _) = rest.split_once("{{- define ").expect("a template after it");
    let mut set: Vec<&str> = env.lines().filter_map(|line| line.strip_prefix("- name: ")).collect();
    let schema = schema("deploy/helm/dexsidecar-lib");
    let names = &schema["properties"]["extraEnv"]["items"]["properties"]["name"]["not"]["enum"];
    let mut refused: Vec<&str> = names.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    set.sort_unstable();
    refused.sort_unstable();
    assert_eq!(refused, set);
    assert!(set.contains(&"DEXSIDECAR_CONFIG"), "{set:?}");
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
