//! docs/config.schema.json, the JSON Schema (draft-07) of the configuration file, from the table of
//! keys. Editors complete and check a file with it; the reader of the program is stricter.

use dexsidecar_core::settings::Kind;
use dexsidecar_core::settings::keys::{Key, Section, Shape};
use serde_json::{Map, Value, json};

/// The schema.
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Map::new();
    for section in Section::ALL.into_iter().filter(|section| *section != Section::Document) {
        definitions.insert(name(section).to_owned(), object(section, section.keys()));
    }
    let of_one_token = |key: &&Key| ["name", "outputs", "on_update"].contains(&key.name);
    let defaults = Section::Token.keys().filter(|key| !of_one_token(key));
    definitions.insert("defaults".to_owned(), object(Section::Token, defaults));
    let mut schema = object(Section::Document, Section::Document.keys());
    schema["properties"]["defaults"]["$ref"] = json!("#/definitions/defaults");
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("Configuration file of dexsidecar");
    schema["required"] = json!(["version", "tokens"]);
    let mut alternatives = |section: Section, rules: Value| {
        let Some(object) = definitions.get_mut(name(section)).and_then(Value::as_object_mut) else { return };
        if let Value::Object(rules) = rules {
            object.extend(rules);
        }
    };
    alternatives(
        Section::Output,
        json!({
            "required": ["path"],
            "dependencies": {"prefix": {"properties": {"format": {"const": "raw"}}}},
        }),
    );
    alternatives(
        Section::Token,
        json!({
            "dependencies": {"basic_auth_file": {"not": {"anyOf": [
                {"required": ["client_id"]}, {"required": ["client_secret_file"]},
            ]}}},
        }),
    );
    alternatives(Section::Action, json!({"minProperties": 1, "maxProperties": 1}));
    alternatives(Section::Http, json!({"required": ["url"]}));
    alternatives(Section::Signal, json!({"oneOf": [{"required": ["process"]}, {"required": ["pid_file"]}]}));
    alternatives(Section::Exec, json!({"required": ["command"]}));
    schema["definitions"] = Value::Object(definitions);
    schema
}

const fn name(section: Section) -> &'static str {
    match section {
        Section::Document => "document",
        Section::Log => "log",
        Section::Token => "token",
        Section::Output => "output",
        Section::Action => "action",
        Section::Http => "http",
        Section::Signal => "signal",
        Section::Exec => "exec",
    }
}

fn object<'a>(section: Section, keys: impl Iterator<Item = &'a Key>) -> Value {
    let mut properties = Map::new();
    for key in keys {
        let mut value = values(section, key);
        value["description"] = json!(key.meaning());
        properties.insert(key.name.to_owned(), value);
    }
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

/// The values of a key. Other parsers give a number where the reader takes the text.
fn values(section: Section, key: &Key) -> Value {
    let text = json!({"type": ["string", "number"], "minLength": 1});
    match key.shape {
        Shape::Section(section) => json!({"$ref": format!("#/definitions/{}", name(section))}),
        Shape::Sections(inner) => {
            let most = if inner == Section::Token { 64 } else { 16 };
            let least = u32::from(inner != Section::Action);
            let items = json!({"$ref": format!("#/definitions/{}", name(inner))});
            json!({"type": "array", "items": items, "minItems": least, "maxItems": most})
        }
        Shape::Texts => {
            let most = if section == Section::Exec { 256 } else { 16 };
            json!({"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1, "maxItems": most})
        }
        Shape::Map => {
            let mut map = json!({
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean"]},
            });
            let own: Vec<_> = own_keys(key.name);
            if !own.is_empty() {
                map["propertyNames"] = json!({"not": {"enum": own}});
            }
            map
        }
        Shape::Of(_) | Shape::One(_) => match key.kind() {
            Some(Kind::Switch) => json!({"enum": [true, false, "true", "false", 0, 1]}),
            Some(Kind::Word(words, _)) => json!({"enum": words}),
            Some(Kind::Duration { .. }) => json!({
                "type": ["string", "integer"],
                "pattern": "^\\+?(0|([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|\u{b5}s|\u{3bc}s|ms|s|m|h))+$",
                "maximum": 0,
            }),
            _ if key.name == "name" => {
                json!({"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"})
            }
            _ => text,
        },
    }
}

/// The form fields that a key of the token sets, so that `form` or `form_files` does not.
fn own_keys(map: &str) -> Vec<&'static str> {
    match map {
        "form" => vec![
            "grant_type",
            "connector_id",
            "scope",
            "audience",
            "resource",
            "subject_token",
            "subject_token_type",
            "requested_token_type",
            "actor_token",
            "actor_token_type",
            "client_id",
            "client_secret",
        ],
        "form_files" => vec!["subject_token", "actor_token", "client_secret"],
        _ => vec![],
    }
}
