//! `cargo xtask check`: what is quick enough to run before every commit.

use std::process::ExitCode;

use crate::{cargo, step, test};

/// The packages whose tests need nothing but the workspace.
const PURE: [&str; 6] =
    ["dexsidecar-core", "dexsidecar-edge", "dexsidecar-agent", "dexsidecar", "dexsidecar-fetch", "xtask"];

/// Checks format and lints, and runs the pure tests.
pub(crate) fn all() -> ExitCode {
    let mut report = test::Report::start();
    lints(&mut report);
    test::pure(&PURE, &mut report);
    report.close()
}

/// Checks format and lints of the whole workspace.
pub(crate) fn lints(report: &mut test::Report) {
    report.step(&step::run("format: cargo fmt --all --check", cargo().args(["fmt", "--all", "--check"])));
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    report.step(&step::run("lints: cargo clippy", cargo().args(clippy)));
}
