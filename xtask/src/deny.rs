//! Licences, sources, duplicates, bans and advisories, by cargo-deny.

use std::path::PathBuf;
use std::process::Command;

use crate::{root, step, tool};

const NAME: &str = "cargo-deny";
const VERSION: &str = "0.20.2";

/// The result of the checks.
pub(crate) struct Checked {
    pub(crate) succeeded: bool,
    pub(crate) note: Option<String>,
}

/// Builds cargo-deny unless it is there.
pub(crate) fn install() -> Result<PathBuf, String> {
    tool::installed(NAME, VERSION)
}

/// Runs the checks. Advisories are checked if their database can be fetched.
pub(crate) fn check() -> Result<Checked, String> {
    let program = install()?;
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(root()).args(arguments);
        command
    };
    let whole = ["--workspace", "--all-features", "check", "licenses", "bans", "sources"];
    let mut succeeded = step::run("licences, sources, duplicates: cargo deny", &mut deny(&whole)).succeeded;
    let shipped = [
        "--manifest-path",
        "crates/sidecar/Cargo.toml",
        "--config",
        "deny-shipped.toml",
        "--exclude-dev",
        "check",
        "bans",
    ];
    succeeded &= step::run("crates in the shipped binary: cargo deny", &mut deny(&shipped)).succeeded;
    let fetched = deny(&["fetch", "db"]).output().is_ok_and(|output| output.status.success());
    let note = if fetched {
        succeeded &=
            step::run("advisories: cargo deny", &mut deny(&["--workspace", "check", "advisories"])).succeeded;
        None
    } else {
        Some("advisories were not checked: their database cannot be fetched".to_owned())
    };
    Ok(Checked { succeeded, note })
}
