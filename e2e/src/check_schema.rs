//! docs/check.schema.json, and whether a report of `check --json` is what it says.
//!
//! The part of JSON Schema (draft-07) that the schema uses is implemented here. A library for all
//! of it would bring some seventy crates into the tests.

use std::fs;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::doc_manifests;

/// Where the schema is.
pub const PAGE: &str = "docs/check.schema.json";

/// The schema itself.
///
/// # Panics
/// When the file cannot be read or is not JSON.
#[must_use]
pub fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let text = fs::read_to_string(doc_manifests::root().join(PAGE)).expect("the schema can be read");
        serde_json::from_str(&text).expect("the schema is JSON")
    });
    &SCHEMA
}

/// Holds a report to the schema. A member that the schema does not describe is an error too,
/// although a reader has to ignore it.
///
/// # Panics
/// When the report is not what the schema says.
pub fn assert_valid(report: &Value) {
    let problems = problems(report);
    assert!(problems.is_empty(), "{PAGE} does not describe this report: {problems:#?}\n{report:#}");
}

/// What is wrong with a report, each with its place.
#[must_use]
pub fn problems(report: &Value) -> Vec<String> {
    let mut found = vec![];
    judge(schema(), report, "report", &mut found);
    found
}

fn judge(schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let schema = resolve(schema);
    for (keyword, wanted) in schema {
        let good = match keyword.as_str() {
            // Not about values.
            "$schema" | "title" | "description" | "definitions" => true,
            "type" => is_of_type(value, wanted),
            "const" => value == wanted,
            "enum" => wanted.as_array().is_some_and(|all| all.contains(value)),
            "minimum" => value.as_f64().is_none_or(|value| Some(value) >= wanted.as_f64()),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= number(wanted)),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= number(wanted)),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= number(wanted)),
            "required" => {
                for name in wanted.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if value.get(name).is_none() {
                        found.push(format!("{place}: {name} is missing"));
                    }
                }
                true
            }
            "properties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    let place = format!("{place}.{name}");
                    match wanted.get(name) {
                        Some(schema) => judge(schema, member, &place, found),
                        None => found.push(format!("{place}: is not described")),
                    }
                }
                true
            }
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    judge(wanted, item, &format!("{place}[{at}]"), found);
                }
                true
            }
            "oneOf" => {
                one_of(wanted, value, place, found);
                true
            }
            other => panic!("{PAGE}: the keyword {other} is not implemented"),
        };
        if !good {
            found.push(format!("{place}: {value} does not have {keyword} {wanted}"));
        }
    }
}

/// Exactly one of these. What is wrong with the nearest of them is reported: the one with the right
/// `status`.
fn one_of(schemas: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let each = schemas.as_array().into_iter().flatten().map(|schema| {
        let mut problems = vec![];
        judge(schema, value, place, &mut problems);
        let is_near = resolve(schema)["properties"]["status"]["const"] == value["status"];
        (is_near, problems)
    });
    let each: Vec<_> = each.collect();
    match each.iter().filter(|(_, problems)| problems.is_empty()).count() {
        1 => {}
        0 => match each.into_iter().find(|(is_near, _)| *is_near) {
            Some((_, problems)) => found.extend(problems),
            None => found.push(format!("{place}: {value} is none of the alternatives")),
        },
        more => found.push(format!("{place}: {value} is {more} of the alternatives")),
    }
}

/// The schema, or what it refers to.
fn resolve(given: &Value) -> &Map<String, Value> {
    let object = given.as_object().expect("a schema is an object");
    match object.get("$ref").and_then(Value::as_str) {
        None => object,
        Some(reference) => {
            let pointer = reference.strip_prefix('#').expect("a reference is within the schema");
            resolve(schema().pointer(pointer).expect("a reference leads somewhere"))
        }
    }
}

fn is_of_type(value: &Value, wanted: &Value) -> bool {
    match wanted.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        _ => panic!("{PAGE}: the type {wanted} is not implemented"),
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a bound is a number")
}

#[cfg(test)]
mod tests {
    use dexsidecar_core::failure::{Owner, Step};
    use serde_json::json;

    use super::*;

    /// What is changed, and how.
    type Change = (&'static str, fn(&mut Value));

    fn report() -> Value {
        let ok = |step: Step| json!({"step": step.label(), "status": "ok", "message": "m", "notes": ["n"], "duration_ms": 1});
        let mut steps: Vec<Value> = Step::ALL.into_iter().take(6).map(ok).collect();
        steps.push(json!({
            "step": "exchange", "status": "fail", "message": "m", "notes": [], "code": "rejected",
            "owner": "dex_config", "fix": "f", "duration_ms": 0
        }));
        steps.push(json!({"step": "output", "status": "skipped"}));
        json!({"version": 1, "ok": false, "steps": steps})
    }

    /// A token with the steps of this report.
    fn token(report: &Value) -> Value {
        json!({"name": "cluster-b", "ok": false, "steps": report["steps"]})
    }

    #[test]
    fn a_report_is_valid_and_each_change_of_it_is_not() {
        assert_eq!(problems(&report()), [""; 0]);
        let mut several = report();
        several["tokens"] = json!([token(&several), token(&several)]);
        assert_eq!(problems(&several), [""; 0]);
        let changes: [Change; 17] = [
            ("another version", |report| report["version"] = 2.into()),
            ("no version", |report| drop(report.as_object_mut().map(|members| members.remove("version")))),
            ("ok is a text", |report| report["ok"] = "true".into()),
            ("an unknown member", |report| report["sound"] = true.into()),
            ("a step too few", |report| drop(report["steps"].as_array_mut().and_then(Vec::pop))),
            ("a step too many", |report| {
                let step = report["steps"][0].clone();
                report["steps"].as_array_mut().expect("a list").extend([step.clone(), step]);
            }),
            ("an unknown step", |report| report["steps"][0]["step"] = "name".into()),
            ("an unknown status", |report| report["steps"][0]["status"] = "broken".into()),
            ("a code in a step that succeeded", |report| report["steps"][0]["code"] = "rejected".into()),
            ("a message in a skipped step", |report| report["steps"][7]["message"] = "m".into()),
            ("an unknown owner", |report| report["steps"][6]["owner"] = "pod's manifest".into()),
            ("no fix", |report| {
                drop(report["steps"][6].as_object_mut().map(|members| members.remove("fix")))
            }),
            ("an empty note", |report| report["steps"][0]["notes"] = json!([""])),
            ("one token by name", |report| report["tokens"] = json!([token(report)])),
            ("a token without a name", |report| {
                let mut unnamed = token(report);
                drop(unnamed.as_object_mut().map(|members| members.remove("name")));
                report["tokens"] = json!([token(report), unnamed]);
            }),
            ("a token with a step too few", |report| {
                let mut short = token(report);
                drop(short["steps"].as_array_mut().and_then(Vec::pop));
                report["tokens"] = json!([token(report), short]);
            }),
            ("a duration as a text", |report| report["steps"][0]["duration_ms"] = "1 ms".into()),
        ];
        for (what, change) in changes {
            let mut changed = report();
            change(&mut changed);
            assert_eq!(problems(&changed).len(), 1, "{what}: {:?}", problems(&changed));
        }
    }

    #[test]
    fn the_schema_names_the_steps_and_owners_of_the_program_in_order() {
        let steps: Vec<Value> =
            Step::ALL.iter().chain(&[Step::Actions]).map(|step| step.label().into()).collect();
        assert_eq!(schema()["definitions"]["step"]["enum"], Value::from(steps));
        let owners = [Owner::Pod, Owner::Network, Owner::DexConfig, Owner::DexOperator, Owner::Cluster];
        let owners: Vec<Value> = owners.iter().map(|owner| owner.label().into()).collect();
        assert_eq!(schema()["definitions"]["fail"]["properties"]["owner"]["enum"], Value::from(owners));
    }
}
