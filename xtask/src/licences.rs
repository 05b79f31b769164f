//! The licences of the crates in the binary: their texts must be shipped with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::linked;

/// Every crate in the binary for a platform with its licence, followed by the texts of the
/// licences.
pub(crate) fn third_party(triple: &str) -> Result<String, String> {
    let linked = linked::names(triple)?;
    let mut text = String::from(
        "dexsidecar is linked with these. Their licences, and below the texts they came with:\n\n\
         Rust's standard library: MIT OR Apache-2.0\n\
         musl libc, Copyright © 2005-2020 Rich Felker, et al.: MIT\n",
    );
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked::packages(triple)? {
        let field = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
        let name = format!("{} v{}", field("name"), field("version"));
        if package["source"].is_null() || !linked.contains(&name) {
            continue;
        }
        text.push_str(&format!("{name}: {}\n", field("license")));
        let manifest = field("manifest_path");
        let directory = Path::new(&manifest).parent().ok_or("a manifest is in a directory")?;
        let found = licence_texts(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        for found in found {
            texts.entry(found).or_default().insert(name.clone());
        }
    }
    for (licence, crates) in texts {
        let crates: Vec<String> = crates.into_iter().collect();
        text.push_str(&format!("\n{}\n{}:\n\n{}\n", "=".repeat(80), crates.join(", "), licence.trim_end()));
    }
    Ok(text)
}

/// The licence files of a crate. White space at the ends of lines is removed, so that equal texts
/// are one.
fn licence_texts(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if entry.file_type()?.is_file()
            && ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT"]
                .iter()
                .any(|start| name.starts_with(start))
        {
            let lines: Vec<String> =
                fs::read_to_string(entry.path())?.lines().map(|line| line.trim_end().to_owned()).collect();
            texts.push(lines.join("\n").trim().to_owned());
        }
    }
    texts.sort();
    Ok(texts)
}
