//! Counterparts that are built or unpacked once and kept in the cache. A test that misses one fails
//! and names what is missing.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use dexsidecar_fetch::debian::Packages;
use dexsidecar_fetch::go::Program;

/// The path of a Go program, which is built unless it is in the cache.
///
/// # Panics
/// If it cannot be built: names what is missing and how to get it.
#[must_use]
pub fn program(wanted: &Program) -> PathBuf {
    wanted.built().unwrap_or_else(|why| panic!("{why}"))
}

/// The root directory of unpacked Debian packages.
///
/// # Panics
/// If they cannot be fetched: names what is missing.
#[must_use]
pub fn packages(wanted: &Packages) -> PathBuf {
    wanted.unpacked().unwrap_or_else(|why| panic!("{why}"))
}

/// A command of the cargo that built this program, in the workspace.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // `cargo xtask test` sets it, so that libtest reports times. A build with it and one without it
    // share no artifacts.
    command.current_dir(crate::doc_manifests::root()).env_remove("RUSTC_BOOTSTRAP");
    command
}

/// Reports that a test cannot run on this machine, and why. `cargo xtask test` counts it as
/// skipped.
pub fn skip(test: &str, why: &str) {
    // The test harness captures what `print!` and `eprint!` write.
    let _ = writeln!(std::io::stderr(), "\nskipped: {test}: {}", why.trim());
}
