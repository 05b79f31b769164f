//! Mutants of the core, by cargo-mutants: each must make a test fail. One that no test can notice
//! is in `.cargo/mutants.toml`, with the reason.

use std::process::{Command, ExitCode};

use dexsidecar_fetch::cache;

use crate::{root, step, tool};

const CARGO_MUTANTS: &str = "27.1.0";

/// Runs the unit tests of the core against each of its mutants: a quarter of an hour in all.
pub(crate) fn all() -> Result<ExitCode, String> {
    let program = tool::installed("cargo-mutants", CARGO_MUTANTS)?;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut command = Command::new(program);
    command
        .current_dir(root())
        // Each copy of the sources needs a target directory of its own; otherwise one is tested
        // with the mutant of another.
        .env_remove("CARGO_TARGET_DIR")
        .args(["mutants", "--package", "dexsidecar-core", "--timeout", "60"])
        .args(["--jobs", &jobs.to_string()])
        // Most of the time is compilation.
        .arg("--cargo-arg=--config=profile.dev.package.dexsidecar-core.opt-level=0")
        .arg("--output")
        .arg(cache::directory()?)
        .args(["--", "--lib"]);
    step::run_in_terminal(&mut command)
}
