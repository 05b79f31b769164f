//! Generated pages: each is compared with what the tables give, or written with `UPDATE=1`, as
//! `cargo xtask docs` does.

use std::fs;

use dexsidecar_e2e::doc_manifests;

/// Compares a page, whose path starts at the workspace, with its text; or writes it.
///
/// # Panics
/// When the page is not up to date, or cannot be written.
pub(crate) fn page(path: &str, text: &str) {
    written_by("cargo xtask docs", path, text);
}

/// The same for a text that another command writes.
///
/// # Panics
/// When the text is not up to date, or cannot be written.
pub(crate) fn written_by(command: &str, path: &str, text: &str) {
    let file = doc_manifests::root().join(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(file, text).expect("the page can be written");
        return;
    }
    let there = fs::read_to_string(file).unwrap_or_default();
    let first = there.lines().zip(text.lines()).position(|(one, other)| one != other);
    let line = first.unwrap_or_else(|| there.lines().count().min(text.lines().count())) + 1;
    assert!(there == text, "{path} is not up to date in line {line}: run {command}");
}
