//! The cache directory. Each entry is made once, by one process, and appears atomically.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// `$XDG_CACHE_HOME/dexsidecar`, or `$HOME/.cache/dexsidecar`. It is created if it is missing.
///
/// # Errors
/// If neither variable is set, and if the directory cannot be created.
pub fn directory() -> Result<PathBuf, String> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let directory = base
        .ok_or("there is no place for the cache: set HOME or XDG_CACHE_HOME to a writable directory")?
        .join("dexsidecar");
    fs::create_dir_all(&directory)
        .map_err(|error| format!("{} cannot be created: {error}", directory.display()))?;
    Ok(directory)
}

/// The path of an entry, if it exists.
#[must_use]
pub fn existing(name: &str) -> Option<PathBuf> {
    directory().ok().map(|directory| directory.join(name)).filter(|entry| entry.exists())
}

/// Gives the path of an entry. If it does not exist, `make` creates it at another path, which is
/// then renamed. Other processes that want the entry wait.
///
/// # Errors
/// Those of `make`, and if the cache cannot be written to.
pub fn once<E: From<String>>(name: &str, make: impl FnOnce(&Path) -> Result<(), E>) -> Result<PathBuf, E> {
    if let Some(entry) = existing(name) {
        return Ok(entry);
    }
    let directory = directory()?;
    let entry = directory.join(name);
    let _lock = locked(name)?;
    if entry.exists() {
        return Ok(entry);
    }
    let unfinished = directory.join(format!("{name}.unfinished"));
    let _ = fs::remove_dir_all(&unfinished).or_else(|_| fs::remove_file(&unfinished));
    make(&unfinished)?;
    fs::rename(&unfinished, &entry).map_err(|error| format!("{}: {error}", entry.display()))?;
    Ok(entry)
}

/// The same, with a directory for what `make` needs on the way. It is empty at first, and removed
/// afterwards.
///
/// # Errors
/// Those of [`once`].
pub fn once_with_work<E: From<String>>(
    name: &str,
    make: impl FnOnce(&Path, &Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    once(name, |entry| {
        let work = directory()?.join(format!("{name}.work"));
        let _ = fs::remove_dir_all(&work);
        let made = fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()));
        let made = made.map_err(E::from).and_then(|()| make(entry, &work));
        let _ = fs::remove_dir_all(&work);
        made
    })
}

/// Waits until no other process has the lock of this name. The lock is released when the value is
/// dropped.
///
/// # Errors
/// If the cache cannot be written to.
pub fn locked(name: &str) -> Result<File, String> {
    let path = directory()?.join(format!("{name}.lock"));
    let file = File::create(&path).and_then(|file| file.lock().map(|()| file));
    file.map_err(|error| format!("{}: {error}", path.display()))
}
