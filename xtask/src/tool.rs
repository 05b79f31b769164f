//! Tools that cargo installs, built into the cache once.

use std::path::{Path, PathBuf};
use std::process::Command;

use dexsidecar_fetch::cache;

use crate::{cargo, step};

/// The path of a tool, if this version of it is installed: the user's own, or the one in the cache.
fn existing(name: &str, version: &str) -> Option<PathBuf> {
    let is_it = |program: &Path| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).split_ascii_whitespace().any(|word| word == version)
        })
    };
    let cached = cache::directory().ok().map(|directory| directory.join("tools/bin").join(name));
    [Some(PathBuf::from(name)), cached].into_iter().flatten().find(|program| is_it(program))
}

/// The path of a tool at this version. It is built into the cache if it is not installed.
pub(crate) fn installed(name: &str, version: &str) -> Result<PathBuf, String> {
    if let Some(program) = existing(name, version) {
        return Ok(program);
    }
    let tools = cache::directory()?.join("tools");
    let package = format!("{name}@{version}");
    let mut install = cargo();
    install.args(["install", "--locked", "--root"]).arg(&tools).arg(&package);
    if step::run(&format!("build {package} into the cache"), &mut install).succeeded {
        Ok(tools.join("bin").join(name))
    } else {
        Err(format!("{package} cannot be installed: try cargo install --locked {package}"))
    }
}
