//! Debian packages, unpacked into the cache and not installed: nothing of the system changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{cache, step};

/// Unpacks packages into a folder of the cache, once, and gives that folder.
pub(crate) fn unpacked(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let folder = cache::folder()?.join(name);
    if folder.exists() {
        return Ok(folder);
    }
    let work = cache::folder()?.join(format!("{name}.unfinished"));
    let _ = fs::remove_dir_all(&work);
    let (lists, debs, root) = (work.join("lists"), work.join("debs"), work.join("root"));
    for folder in [&lists, &debs, &root] {
        fs::create_dir_all(folder.join("partial"))
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(&debs).arg("-q");
        // A state of its own; who may write is asked of the cache's owner and not of the system's.
        for (option, value) in [("Dir::State::lists", &lists), ("Dir::Cache", &work)] {
            command.arg("-o").arg(format!("{option}={}", value.display()));
        }
        command.args(["-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]).args(arguments);
        command
    };
    if Command::new("apt-get").arg("--version").output().is_err() {
        return Err("this machine has no apt-get: it needs Debian's packages".to_owned());
    }
    let fetched = step::run("reading Debian's package lists", &mut apt(&["update"])).good
        && step::run(&format!("fetching {name} from Debian"), apt(&["download"]).args(packages)).good;
    if !fetched {
        return Err(format!("Debian's packages cannot be fetched: {}", packages.join(" ")));
    }
    for deb in files(&debs)?.iter().filter(|file| file.extension().is_some_and(|ending| ending == "deb")) {
        let done = Command::new("dpkg").arg("-x").arg(deb).arg(&root).status();
        if !done.is_ok_and(|status| status.success()) {
            return Err(format!("{} cannot be unpacked", deb.display()));
        }
    }
    fs::rename(&root, &folder).map_err(|error| error.to_string())?;
    let _ = fs::remove_dir_all(&work);
    Ok(folder)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| error.to_string())?;
    Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
}
