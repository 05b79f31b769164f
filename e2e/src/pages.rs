//! The manifests that the pages show: what users copy is what the tests apply.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The workspace's folder.
///
/// # Panics
/// Never: this crate lies in it.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e is in the workspace's folder")
}

/// Every YAML block of a page, its documents one by one.
///
/// # Panics
/// When the page cannot be read.
#[must_use]
pub fn blocks(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.flat_map(|block| block.split("\n---\n").map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The same, parsed.
///
/// # Panics
/// When one is no YAML.
#[must_use]
pub fn manifests(page: &str) -> Vec<Value> {
    let parse = |block: String| yaml(&block).unwrap_or_else(|why| panic!("{page}: {why}\n{block}"));
    blocks(page).into_iter().map(parse).collect()
}

/// The pod of the README.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn readme_pod() -> Value {
    manifests("README.md")
        .into_iter()
        .find(|manifest| manifest["kind"] == "Pod")
        .expect("the README has a pod")
}

/// The Deployment of the original's README.
///
/// # Panics
/// Never: the file is in this crate.
#[must_use]
pub fn original_deployment() -> Value {
    yaml(include_str!("../fixtures/original-deployment.yaml")).expect("it is YAML")
}

fn yaml(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}
