//! Counterparts that are built or unpacked once. A test without one has nothing to say, and fails with what is missing.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use dexsidecar_fetch::debian::Packages;
use dexsidecar_fetch::go::Program;

/// A program written in Go.
///
/// # Panics
/// Where it cannot be built: with what is missing and how to get it.
#[must_use]
pub fn program(wanted: &Program) -> PathBuf {
    wanted.built().unwrap_or_else(|why| panic!("{why}"))
}

/// The root folder of packages of Debian.
///
/// # Panics
/// Where they cannot be had: with what is missing.
#[must_use]
pub fn packages(wanted: &Packages) -> PathBuf {
    wanted.unpacked().unwrap_or_else(|why| panic!("{why}"))
}

/// The cargo that built this program, in the workspace.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // `cargo xtask test` sets it, so that libtest reports times. A build with it shares nothing with one without.
    command.current_dir(crate::doc_manifests::root()).env_remove("RUSTC_BOOTSTRAP");
    command
}

/// Says that a test has nothing to say on this machine, and why. `cargo xtask test` counts it as skipped.
pub fn skip(test: &str, why: &str) {
    // Not by a macro of print's kind, which the test harness keeps to itself.
    let _ = writeln!(std::io::stderr(), "\nskipped: {test}: {}", why.trim());
}
