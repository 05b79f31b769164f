//! Licences, sources, duplicates and bans by cargo-deny.

use std::process::Command;

use crate::{root, step, tool};

const VERSION: &str = "0.20.2";

/// What the check came to.
pub(crate) struct Checked {
    pub(crate) good: bool,
    pub(crate) note: Option<String>,
}

/// Runs the checks. Advisories are looked at where their database can be had.
pub(crate) fn check() -> Result<Checked, String> {
    let program = tool::installed("cargo-deny", VERSION)?;
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(root()).args(arguments);
        command
    };
    let whole = ["--workspace", "--all-features", "check", "licenses", "bans", "sources"];
    let mut good = step::run("licences, sources, duplicates: cargo deny", &mut deny(&whole)).good;
    let shipped = [
        "--manifest-path",
        "crates/sidecar/Cargo.toml",
        "--config",
        "deny-shipped.toml",
        "--exclude-dev",
        "check",
        "bans",
    ];
    good &= step::run("what the shipped binary may link: cargo deny", &mut deny(&shipped)).good;
    let fetched = deny(&["fetch", "db"]).output().is_ok_and(|output| output.status.success());
    let note = if fetched {
        good &= step::run("advisories: cargo deny", &mut deny(&["--workspace", "check", "advisories"])).good;
        None
    } else {
        Some("advisories were not checked: their database cannot be fetched here".to_owned())
    };
    Ok(Checked { good, note })
}
