//! Where built counterparts are kept: outside the clone, so that a fresh clone finds them.

use std::path::PathBuf;

/// `$XDG_CACHE_HOME/dexsidecar`, else `$HOME/.cache/dexsidecar`; made if it is not there.
///
/// # Panics
/// Without either variable, and where the folder cannot be made.
#[must_use]
pub fn folder() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let folder = base.expect("HOME or XDG_CACHE_HOME must say where the cache can be").join("dexsidecar");
    std::fs::create_dir_all(&folder)
        .unwrap_or_else(|error| panic!("{} cannot be made: {error}", folder.display()));
    folder
}
