//! Faults put into the core one at a time, to see whether its tests notice (cargo-mutants). None is to survive; one that
//! no test can notice would stand in `.cargo/mutants.toml`, with its reason.

use std::process::{Command, ExitCode};

use dexsidecar_fetch::cache;

use crate::{root, step, tool};

const CARGO_MUTANTS: &str = "27.1.0";

/// Tries every mutant of the core against its own unit tests, which take no time; a quarter of an hour in all.
pub(crate) fn all() -> Result<ExitCode, String> {
    let program = tool::installed("cargo-mutants", CARGO_MUTANTS)?;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut command = Command::new(program);
    command
        .current_dir(root())
        // Each copy of the sources has a target folder of its own, or one would be tested with another's mutant.
        .env_remove("CARGO_TARGET_DIR")
        .args(["mutants", "--package", "dexsidecar-core", "--timeout", "60"])
        .args(["--jobs", &jobs.to_string()])
        // Most of the time goes into building, and little code is run.
        .arg("--cargo-arg=--config=profile.dev.package.dexsidecar-core.opt-level=0")
        .arg("--output")
        .arg(cache::folder()?)
        .args(["--", "--lib"]);
    step::plain(&mut command)
}
