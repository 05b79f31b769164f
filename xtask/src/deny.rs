//! Licences, sources, duplicates, bans and advisories, by cargo-deny.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::test::Report;
use crate::{root, step, tool};

const NAME: &str = "cargo-deny";
const VERSION: &str = "0.20.2";

/// Builds cargo-deny unless it is there.
pub(crate) fn install() -> Result<PathBuf, String> {
    tool::installed(NAME, VERSION)
}

/// Checks the advisories.
pub(crate) fn advisories() -> Result<(), String> {
    let program = install()?;
    for arguments in [&["fetch", "db"][..], &["--workspace", "check", "advisories"]] {
        let mut command = Command::new(&program);
        command.current_dir(root()).args(arguments);
        if !step::run(&format!("cargo deny {}", arguments.join(" ")), &mut command).succeeded {
            return Err(format!("cargo deny {} failed, see above", arguments.join(" ")));
        }
    }
    Ok(())
}

/// Runs the checks. Advisories are checked if their database can be fetched.
pub(crate) fn check(report: &mut Report) {
    let start = Instant::now();
    let program = match install() {
        Ok(program) => program,
        Err(why) => return report.timed("cargo-deny", start.elapsed(), Err(why)),
    };
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(root()).args(arguments);
        command
    };
    let whole = ["--workspace", "--all-features", "check", "licenses", "bans", "sources"];
    report.step(&step::run("licences, sources, duplicates: cargo deny", &mut deny(&whole)));
    let shipped = [
        "--manifest-path",
        "crates/sidecar/Cargo.toml",
        "--config",
        "deny-shipped.toml",
        "--exclude-dev",
        "check",
        "bans",
    ];
    report.step(&step::run("crates in the shipped binary: cargo deny", &mut deny(&shipped)));
    let advisories = ["--workspace", "check", "advisories"];
    let start = Instant::now();
    if deny(&["fetch", "db"]).output().is_ok_and(|output| output.status.success()) {
        report.timed("database of advisories: cargo deny fetch db", start.elapsed(), Ok(()));
        report.step(&step::run("advisories: cargo deny", &mut deny(&advisories)));
    } else {
        report.note("advisories were not checked: their database cannot be fetched".to_owned());
    }
}
