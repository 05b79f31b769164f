//! Tools that cargo can install, built into the cache once.

use std::path::{Path, PathBuf};
use std::process::Command;

use dexsidecar_fetch::cache;

use crate::{cargo, step};

/// The tool at this version: the user's own, or the one in the cache.
pub(crate) fn installed(name: &str, version: &str) -> Result<PathBuf, String> {
    let is_it = |program: &Path| {
        let output = Command::new(program).arg("--version").output();
        output.is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).split_ascii_whitespace().any(|word| word == version)
        })
    };
    if is_it(Path::new(name)) {
        return Ok(name.into());
    }
    let tools = cache::folder()?.join("tools");
    let program = tools.join("bin").join(name);
    if is_it(&program) {
        return Ok(program);
    }
    let package = format!("{name}@{version}");
    let mut install = cargo();
    install.args(["install", "--quiet", "--locked", "--root"]).arg(&tools).arg(&package);
    if step::run(&format!("installing {package} into the cache"), &mut install).good {
        Ok(program)
    } else {
        Err(format!("{package} cannot be installed: try cargo install --locked {package}"))
    }
}
