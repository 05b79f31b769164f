//! The manifests in README and docs, so that tests apply what users copy.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The root directory of the workspace.
///
/// # Panics
/// Never: this crate is in the workspace.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e is in the workspace")
}

/// The text of a page.
///
/// # Panics
/// If the page cannot be read.
#[must_use]
pub fn text(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// A fenced block of a page.
#[derive(Clone, Debug)]
pub struct Block {
    /// The word after the opening fence; empty if there is none.
    pub language: String,
    /// The lines between the fences, each with its newline.
    pub text: String,
    /// The line of the opening fence, counted from 1.
    pub line: usize,
}

/// Every fenced block of a page.
///
/// # Panics
/// If the page cannot be read, or its last block has no end.
#[must_use]
pub fn fenced(page: &str) -> Vec<Block> {
    let mut blocks = vec![];
    let mut open: Option<Block> = None;
    for (line, content) in (1..).zip(text(page).lines()) {
        match (content.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(Block { language: language.to_owned(), text: String::new(), line });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text += &format!("{content}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block has no end");
    blocks
}

/// The YAML documents in the blocks of a page.
///
/// # Panics
/// If the page cannot be read.
#[must_use]
pub fn blocks(page: &str) -> Vec<String> {
    let yaml = fenced(page).into_iter().filter(|block| block.language == "yaml");
    yaml.flat_map(|block| block.text.split("\n---\n").map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The YAML documents of a page's code blocks, parsed.
///
/// # Panics
/// If one is not valid YAML.
#[must_use]
pub fn manifests(page: &str) -> Vec<Value> {
    let parse = |block: String| yaml(&block).unwrap_or_else(|why| panic!("{page}: {why}\n{block}"));
    blocks(page).into_iter().map(parse).collect()
}

/// What executes a block of the README.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Executor {
    /// A real Dex starts with this configuration (`kubernetes_page.rs`).
    Dex,
    /// A real API server gets these commands (`kubernetes_page.rs`).
    ApiServer,
    /// A real node runs this pod (`quick_start.rs`).
    Node,
    /// That pod runs this command, and its output is compared (`quick_start.rs`).
    Pod,
    /// These are commands of `cargo xtask` (`readme.rs`).
    Xtask,
}

/// The blocks of the README: executor, language, and how each begins.
const README: [(Executor, &str, &str); 5] = [
    (Executor::ApiServer, "sh", "kubectl create "),
    (Executor::Dex, "yaml", "connectors:\n"),
    (Executor::Node, "yaml", "apiVersion: v1\nkind: Pod\n"),
    (Executor::Pod, "console", "$ kubectl exec "),
    (Executor::Xtask, "sh", "cargo xtask "),
];

/// The block of the README that this executor executes.
///
/// # Panics
/// If the README has a block without an executor, or not exactly one block for each.
#[must_use]
pub fn readme(executor: Executor) -> String {
    let blocks = fenced("README.md");
    assert_eq!(blocks.len(), README.len(), "each block of the README has one executor, in this order");
    for (block, (_, language, begin)) in blocks.iter().zip(README) {
        let known = block.language == language && block.text.starts_with(begin);
        assert!(known, "README.md:{}: no test executes this block:\n{}", block.line, block.text);
    }
    let (block, _) =
        blocks.into_iter().zip(README).find(|(_, (its, ..))| *its == executor).expect("one each");
    block.text
}

/// The commands of a shell block, as words. Comments are left out, continued lines are joined, and
/// quotes have no meaning.
#[must_use]
pub fn commands(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    let code = |line: &str| line.split(" #").next().unwrap_or_default().to_owned();
    let words = |line: String| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    joined.lines().map(code).map(words).filter(|words| !words.is_empty()).collect()
}

/// The pod in the README, without hardening.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn readme_pod() -> Value {
    yaml(&readme(Executor::Node)).unwrap_or_else(|why| panic!("README.md: {why}"))
}

/// The pod of docs/kubernetes.md, which the restricted Pod Security Standard accepts.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn hardened_pod() -> Value {
    manifests("docs/kubernetes.md")
        .into_iter()
        .find(|manifest| manifest["kind"] == "Pod")
        .expect("docs/kubernetes.md has a pod")
}

/// The pod of docs/kubernetes.md whose app waits itself.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn waiting_pod() -> Value {
    let waits = |pod: &Value| pod["spec"]["containers"][0]["command"][1] == "wait";
    manifests("docs/kubernetes.md").into_iter().find(waits).expect("docs/kubernetes.md has a pod that waits")
}

/// Makes a pod whose app waits get the program from an image volume, as docs/kubernetes.md says.
///
/// # Panics
/// If this is no pod whose app waits.
pub fn use_image_volume(spec: &mut Value) {
    let named = |list: &mut Value, name: &str| {
        let mut list = list.as_array_mut().expect("a list").iter_mut();
        list.position(|entry| entry["name"] == name).expect("it is there")
    };
    let place = named(&mut spec["initContainers"], "dexsidecar");
    let sidecar = spec["initContainers"][place].as_object_mut().expect("an object");
    for key in ["args", "lifecycle"] {
        sidecar.remove(key).expect("the sidecar copies the program");
    }
    let mounts = sidecar["volumeMounts"].as_array_mut().expect("a list");
    mounts.retain(|mount| mount["name"] != "dexsidecar");
    let place = named(&mut spec["volumes"], "dexsidecar");
    spec["volumes"][place] = image_volume();
    // The image has the program in /bin.
    let mounts = &mut spec["containers"][0]["volumeMounts"];
    let place = named(mounts, "dexsidecar");
    mounts[place]["mountPath"] = "/opt/dexsidecar".into();
}

/// The image volume with the program of docs/kubernetes.md.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn image_volume() -> Value {
    let volumes = manifests("docs/kubernetes.md").into_iter().map(|block| block["volumes"][0].clone());
    volumes.into_iter().find(|volume| volume["image"].is_object()).expect("docs/kubernetes.md has one")
}

/// The Deployment in the README of the original (miscord-dev/dexsidecar), as text.
pub const ORIGINAL: &str = include_str!("../fixtures/original-deployment.yaml");

/// The Deployment in the README of the original (miscord-dev/dexsidecar).
///
/// # Panics
/// Never: the file is in this crate.
#[must_use]
pub fn original_deployment() -> Value {
    yaml(ORIGINAL).expect("it is YAML")
}

/// A YAML document.
///
/// # Errors
/// Why it is not valid.
pub fn yaml(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}
