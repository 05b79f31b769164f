//! Where what is fetched or built besides is kept: outside the clone.

use std::path::PathBuf;

/// `$XDG_CACHE_HOME/dexsidecar`, else `$HOME/.cache/dexsidecar`; made if it is not there.
pub(crate) fn folder() -> Result<PathBuf, String> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let folder =
        base.ok_or("set HOME or XDG_CACHE_HOME, so that there is a place for the cache")?.join("dexsidecar");
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
    Ok(folder)
}
