//! The software bill of materials: what is linked into the binary, in CycloneDX 1.6
//! (<https://cyclonedx.org/docs/1.6/json/>).
//!
//! cargo-cyclonedx is not used: it reads `cargo metadata`, which has the crates of the whole
//! workspace and the features of all its members, and it writes into the source directories.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::release::Target;
use crate::{linked, root};

/// The version of musl that Rust's toolchain links (`self-contained/libc.a` of Rust 1.95).
const MUSL: &str = "1.2.5";

/// The text for a platform. `time` is that of the sources, in seconds since 1970.
pub(crate) fn render(target: Target, time: u64) -> Result<String, String> {
    let graph = linked::graph(target.triple())?;
    let checksums = checksums(&read("Cargo.lock")?);
    let mut components = vec![];
    let mut subject = Value::Null;
    for package in linked::packages(target.triple())? {
        let field = |name: &str| package[name].as_str().unwrap_or_default();
        let (name, version) = (field("name"), field("version"));
        if !graph.contains_key(&format!("{name} v{version}")) {
            continue;
        }
        let mut component = component(name, version, field("license"));
        if !field("repository").is_empty() {
            component["externalReferences"] = json!([{"type": "vcs", "url": field("repository")}]);
        }
        if let Some(checksum) = checksums.get(&(name.to_owned(), version.to_owned())) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        if name == "dexsidecar" {
            component["type"] = json!("application");
            subject = component;
        } else {
            components.push(component);
        }
    }
    if components.len() + 1 != graph.len() {
        return Err("cargo metadata does not have every crate of cargo tree".to_owned());
    }
    let rust = rust_version(&read("rust-toolchain.toml")?)?;
    for (name, version, licence) in [("rust-std", rust.as_str(), "MIT OR Apache-2.0"), ("musl", MUSL, "MIT")]
    {
        let mut component = component(name, version, licence);
        component["purl"] = json!(format!("pkg:generic/{name}@{version}"));
        components.push(component);
    }
    components.sort_by_key(|component| component["bom-ref"].to_string());
    let dependencies = graph.iter().map(|(name, on)| {
        let on: Vec<String> = on.iter().map(|name| reference(name)).collect();
        json!({"ref": reference(name), "dependsOn": on})
    });
    let dependencies: Vec<Value> = dependencies.collect();
    let bom = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time)).to_string(),
            "component": subject,
            "properties": [{"name": "cargo:target", "value": target.triple()}],
        },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(format!("{bom:#}\n"))
}

/// A crate. One that chooses between licences has an expression of SPDX.
fn component(name: &str, version: &str, licence: &str) -> Value {
    json!({
        "type": "library",
        "bom-ref": reference(&format!("{name} v{version}")),
        "name": name,
        "version": version,
        // An old way to write OR, which SPDX does not have.
        "licenses": [{"expression": licence.replace('/', " OR ")}],
        "purl": format!("pkg:cargo/{name}@{version}"),
    })
}

/// The reference of `NAME vVERSION`.
fn reference(name: &str) -> String {
    name.replacen(" v", "@", 1)
}

/// The SHA-256 of each crate of the registry.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut checksums = BTreeMap::new();
    for package in lock.split("[[package]]") {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (value("name"), value("version"), value("checksum"))
        {
            checksums.insert((name, version), checksum);
        }
    }
    checksums
}

fn rust_version(toolchain: &str) -> Result<String, String> {
    let line = toolchain.lines().find_map(|line| line.strip_prefix("channel = "));
    line.map(|version| version.trim_matches('"').to_owned())
        .ok_or_else(|| "rust-toolchain.toml names no channel".to_owned())
}

fn read(name: &str) -> Result<String, String> {
    fs::read_to_string(root().join(name)).map_err(|error| format!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write as _;
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::cargo;

    fn bom(target: Target) -> Value {
        serde_json::from_str(&render(target, 1_700_000_000).unwrap()).unwrap()
    }

    fn texts<'a>(values: &'a Value, key: &str) -> BTreeSet<&'a str> {
        values.as_array().unwrap().iter().map(|value| value[key].as_str().unwrap()).collect()
    }

    #[test]
    fn the_components_are_the_crates_of_cargo_tree_with_the_standard_library_and_musl() {
        for target in [Target::X86_64, Target::Aarch64] {
            let bom = bom(target);
            let tree = cargo()
                .args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none"])
                .args([
                    "--no-dedupe",
                    "--format",
                    "{p}",
                    "--package",
                    "dexsidecar",
                    "--target",
                    target.triple(),
                ])
                .output()
                .unwrap();
            let tree = String::from_utf8(tree.stdout).unwrap();
            let mut expected: BTreeSet<String> = tree
                .lines()
                .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join("@").replacen("@v", "@", 1))
                .collect();
            assert!(expected.len() > 50, "{expected:?}");
            assert!(expected.remove(concat!("dexsidecar@", env!("CARGO_PKG_VERSION"))), "{expected:?}");
            expected.extend([
                format!("musl@{MUSL}"),
                format!("rust-std@{}", rust_version(&read("rust-toolchain.toml").unwrap()).unwrap()),
            ]);
            assert_eq!(
                texts(&bom["components"], "bom-ref"),
                expected.iter().map(String::as_str).collect::<BTreeSet<_>>()
            );
            assert_eq!(
                bom["metadata"]["component"]["bom-ref"],
                concat!("dexsidecar@", env!("CARGO_PKG_VERSION"))
            );
            assert_eq!(bom["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
        }
    }
    #[test]
    fn the_version_of_musl_is_that_of_the_toolchain() {
        let print = ["--print", "target-libdir", "--target", Target::X86_64.triple()];
        let directory = Command::new("rustc").current_dir(root()).args(print).output().unwrap();
        let directory = String::from_utf8(directory.stdout).unwrap();
        let library = Path::new(directory.trim()).join("self-contained/libc.a");
        let Ok(library) = fs::read(&library) else {
            // The harness captures what macros print. `cargo xtask test` counts this as skipped.
            let why = "Rust's standard library for musl is missing";
            writeln!(std::io::stderr(), "\nskipped: the_version_of_musl_is_that_of_the_toolchain: {why}")
                .unwrap();
            return;
        };
        let version = format!("\0{MUSL}\0");
        assert!(library.windows(version.len()).any(|bytes| bytes == version.as_bytes()));
    }
}
