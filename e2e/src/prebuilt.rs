//! Counterparts that are built or unpacked once and kept in the cache. A test that misses one fails
//! and names what is missing.

use std::io::Write as _;
use std::path::PathBuf;

use dexsidecar_fetch::debian::Packages;
use dexsidecar_fetch::go::Program;
pub use dexsidecar_fetch::workspace::cargo;

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

/// Reports that a test cannot run on this machine, and why. `cargo xtask test` counts it as
/// skipped.
pub fn skip(test: &str, why: &str) {
    // The test harness captures what `print!` and `eprint!` write.
    let _ = writeln!(std::io::stderr(), "\nskipped: {test}: {}", why.trim());
}
