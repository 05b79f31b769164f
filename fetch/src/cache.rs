//! Where it is kept, and how several processes come by one thing that is made once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// `$XDG_CACHE_HOME/dexsidecar`, else `$HOME/.cache/dexsidecar`; made if it is not there.
///
/// # Errors
/// Without either variable, and where the folder cannot be made.
pub fn folder() -> Result<PathBuf, String> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let folder =
        base.ok_or("set HOME or XDG_CACHE_HOME, so that there is a place for the cache")?.join("dexsidecar");
    fs::create_dir_all(&folder).map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
    Ok(folder)
}

/// Gives what is in the cache under this name. If it is not there, `make` makes it at the path it is given, in one
/// process, while others wait; it comes into its place whole or not at all.
///
/// # Errors
/// Those of `make`, and of a cache that cannot be written to.
pub fn once(name: &str, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let folder = folder()?;
    let place = folder.join(name);
    if place.exists() {
        return Ok(place);
    }
    let told = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let lock = folder.join(format!("{name}.lock"));
    let file = File::create(&lock).map_err(|error| told(&lock, error))?;
    file.lock().map_err(|error| told(&lock, error))?;
    if place.exists() {
        return Ok(place);
    }
    let unfinished = folder.join(format!("{name}.unfinished"));
    let _ = fs::remove_dir_all(&unfinished).or_else(|_| fs::remove_file(&unfinished));
    make(&unfinished)?;
    fs::rename(&unfinished, &place).map_err(|error| told(&place, error))?;
    Ok(place)
}
