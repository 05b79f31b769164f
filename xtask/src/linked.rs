//! The crates that are linked into the binary, as cargo resolves them for a platform.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::cargo;

/// The crates in the binary with those that each depends on. A crate is `NAME vVERSION`.
pub(crate) fn graph(triple: &str) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let arguments = [
        "tree",
        "--locked",
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "depth",
        "--format",
        "{p}",
        "--target",
    ];
    let output = output_of(cargo().args(arguments).args([triple, "--package", "dexsidecar"]))?;
    Ok(read(&output))
}

/// Reads lines such as `2bytes v1.12.2`. A crate that was listed before ends with `(*)` and is not
/// listed with its dependencies again.
fn read(tree: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
    let mut above: Vec<String> = vec![];
    for line in tree.lines() {
        let (depth, rest) = line.split_at(line.find(|c: char| !c.is_ascii_digit()).unwrap_or(0));
        let mut words = rest.split(' ');
        let (Ok(depth), Some(name), Some(version)) = (depth.parse(), words.next(), words.next()) else {
            continue;
        };
        let name = format!("{name} {version}");
        above.truncate(depth);
        if let Some(parent) = above.last() {
            graph.entry(parent.clone()).or_default().insert(name.clone());
        }
        graph.entry(name.clone()).or_default();
        above.push(name);
    }
    graph
}

/// The names and versions of the crates in the binary.
pub(crate) fn names(triple: &str) -> Result<BTreeSet<String>, String> {
    Ok(graph(triple)?.into_keys().collect())
}

/// The packages of the workspace and of its dependencies, as `cargo metadata` prints them.
pub(crate) fn packages(triple: &str) -> Result<Vec<Value>, String> {
    let arguments = ["metadata", "--locked", "--format-version", "1", "--filter-platform", triple];
    let metadata: Value =
        serde_json::from_str(&output_of(cargo().args(arguments))?).map_err(|error| error.to_string())?;
    Ok(metadata["packages"].as_array().cloned().unwrap_or_default())
}

fn output_of(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_as_the_dependencies_of_each_crate() {
        let tree = "0a v1.0.0 (/src/a)\n1b v2.0.0\n2c v3.0.0\n1d v4.0.0 (/src/d)\n2b v2.0.0 (*)\n";
        let read = read(tree);
        let of = |name: &str| read[name].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(read.len(), 4);
        assert_eq!(of("a v1.0.0"), ["b v2.0.0", "d v4.0.0"]);
        assert_eq!(of("b v2.0.0"), ["c v3.0.0"]);
        assert_eq!(of("c v3.0.0"), [""; 0]);
        assert_eq!(of("d v4.0.0"), ["b v2.0.0"]);
    }
}
