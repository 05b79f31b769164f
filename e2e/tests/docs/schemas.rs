//! Schemas for kubeconform, made of the API server's own OpenAPI documents. No field is allowed
//! that they do not have.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use dexsidecar_e2e::rendered::Judge;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The group versions of what deploy has.
const GROUP_VERSIONS: [&str; 6] = [
    "api/v1",
    "apis/admissionregistration.k8s.io/v1",
    "apis/apps/v1",
    "apis/batch/v1",
    "apis/rbac.authorization.k8s.io/v1",
    "apis/monitoring.coreos.com/v1",
];

/// Writes one schema for each kind.
pub(crate) fn of(judge: &Judge) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut written = 0;
    for group_version in GROUP_VERSIONS {
        let document = judge.plane().kubectl(&["get", "--raw", &format!("/openapi/v3/{group_version}")]);
        let mut document: Value = serde_json::from_str(&document).expect("JSON");
        let mut schemas = document["components"]["schemas"].take();
        strict(&mut schemas);
        for schema in schemas.as_object().expect("an object").values() {
            for kind in schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let text = |name: &str| kind[name].as_str().expect("a string");
                // kubeconform writes kinds in lower case, and takes the version as the core group.
                let group = if text("group").is_empty() { text("version") } else { text("group") };
                let file = format!("{group}_{}_{}.json", text("version"), text("kind").to_lowercase());
                let mut whole = schema.clone();
                whole["components"] = json!({"schemas": schemas});
                fs::write(directory.path().join(file), whole.to_string()).expect("the file is writable");
                written += 1;
            }
        }
    }
    assert!(written > 20, "{written} schemas");
    directory
}

/// Allows no further fields, and reads the dialect of OpenAPI as that of JSON schemas.
fn strict(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("properties").is_some_and(Value::is_object)
                && !fields.contains_key("additionalProperties")
            {
                fields.insert("additionalProperties".to_owned(), false.into());
            }
            if fields.get("format").is_some_and(|format| format == "int-or-string") {
                fields.insert("type".to_owned(), json!(["integer", "string"]));
                fields.remove("oneOf");
            }
            fields.values_mut().for_each(strict);
        }
        Value::Array(items) => items.iter_mut().for_each(strict),
        _ => {}
    }
}

fn judged(schemas: &TempDir, kubeconform: &Path, manifests: &str) -> (bool, String) {
    let location = format!(
        "{}/{{{{.Group}}}}_{{{{.ResourceAPIVersion}}}}_{{{{.ResourceKind}}}}.json",
        schemas.path().display()
    );
    let mut child = Command::new(kubeconform)
        .args(["-summary", "-output", "json", "-schema-location", &location])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubeconform was built");
    child.stdin.take().expect("a pipe").write_all(manifests.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// Fails unless each document is valid.
pub(crate) fn assert_valid(schemas: &TempDir, kubeconform: &Path, manifests: &str) {
    let (valid, text) = judged(schemas, kubeconform, manifests);
    assert!(valid, "{text}");
    let said: Value = serde_json::from_str(&text).expect("JSON");
    let count = dexsidecar_e2e::rendered::documents(manifests).len();
    assert_eq!(said["summary"]["valid"], count, "{text}");
}

/// Fails unless a document is refused, with these words.
pub(crate) fn assert_invalid(schemas: &TempDir, kubeconform: &Path, manifests: &str, words: &str) {
    let (valid, text) = judged(schemas, kubeconform, manifests);
    assert!(!valid && text.contains(words), "{text}");
}
