//! The workspace, and the cargo that builds it.

use std::path::Path;
use std::process::Command;

/// The directory of the workspace.
#[must_use]
pub fn directory() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}

/// The cargo that runs this program, in the workspace.
///
/// Cargo sets variables for the programs and tests that it runs, and `cargo xtask test` sets
/// `RUSTC_BOOTSTRAP` for tests. The build scripts of ring and proc-macro2 depend on some of them:
/// with other values, most crates are compiled again. So they are not passed on.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(directory()).env_remove("RUSTC_BOOTSTRAP");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_gets_no_variable_that_compiles_crates_again() {
        let cargo = cargo();
        let removed: Vec<_> =
            cargo.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        // Cargo sets the last two for this test.
        for name in ["RUSTC_BOOTSTRAP", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"] {
            assert!(removed.iter().any(|removed| *removed == name), "{name} is passed on: {removed:?}");
        }
    }
}
