//! What this machine lacks, as lines for a person. All of it is looked for at once, and only if it
//! is going to be used.

use dexsidecar_fetch::counterparts::{Counterpart, Source, Use};
use dexsidecar_fetch::{debian, go, machine};

use super::{Wanted, is_optional};
use crate::cargo;
use crate::release;

/// One line for everything that is missing, with how to get it.
pub(super) fn requirements(wanted: &Wanted) -> Vec<String> {
    let uncached: Vec<&Counterpart> =
        wanted.counterparts().filter(|counterpart| !counterpart.is_cached()).collect();
    // Those that wait for the network wait at the same time.
    std::thread::scope(|scope| {
        let checks = [
            scope.spawn(|| programs(wanted)),
            scope.spawn(|| for_go(&uncached)),
            scope.spawn(|| for_debian(&uncached)),
            scope.spawn(for_crates),
        ];
        let found = checks.into_iter().map(|check| {
            check.join().unwrap_or_else(|_| vec!["a check of this machine panicked".to_owned()])
        });
        found.flatten().collect()
    })
}

/// Compilers, namespaces, rustup.
fn programs(wanted: &Wanted) -> Vec<String> {
    let uses = |one: Use| wanted.uses.contains(&one);
    let mut missing = Vec::new();
    missing.extend(release::native_compiler().err());
    if [Use::Fakes, Use::Names, Use::RealDex, Use::Consumers].into_iter().any(uses) {
        missing.extend(machine::look_for_user_namespaces().err());
    }
    for target in &wanted.targets {
        if !release::has_target(*target) && !is_installed("rustup") {
            let triple = target.triple();
            missing.push(format!(
                "Rust's standard library for {triple} is missing, and so is rustup, which installs it: get rustup from \
                 https://rustup.rs"
            ));
        }
    }
    missing
}

fn for_go(uncached: &[&Counterpart]) -> Vec<String> {
    let programs = || {
        uncached.iter().filter_map(|counterpart| match &counterpart.source {
            Source::Go(program) => Some(program),
            Source::Debian(_) | Source::Wheel(_) => None,
        })
    };
    let mut required = (0, 0);
    for program in programs() {
        match program.required_go() {
            Ok(version) => required = required.max(version),
            Err(why) => return vec![why],
        }
    }
    if required == (0, 0) {
        return Vec::new();
    }
    if let Err(why) = go::look(required) {
        return vec![why];
    }
    let mut missing = Vec::new();
    if programs().any(go::Program::needs_c_compiler) {
        missing.extend(go::look_for_c_compiler().err());
    }
    if programs().any(|program| program.needs_modules() && !program.modules_are_downloaded()) {
        missing.extend(go::look_for_module_proxy().err());
    }
    missing
}

fn for_debian(uncached: &[&Counterpart]) -> Vec<String> {
    let mut missing = Vec::new();
    for counterpart in uncached.iter().filter(|counterpart| !is_optional(counterpart)) {
        if let Source::Debian(packages) = &counterpart.source
            && let Err(error) = debian::update(packages.suite())
            && !missing.contains(&error.to_string())
        {
            missing.push(error.to_string());
        }
    }
    missing
}

/// Downloads the crates of Cargo.lock: that takes seconds, and the answer is certain.
fn for_crates() -> Vec<String> {
    if fetched(&["--offline"]).is_ok() {
        return Vec::new();
    }
    let why = match fetched(&[]) {
        Ok(()) => return Vec::new(),
        Err(why) => why,
    };
    let why = why.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    vec![format!(
        "the crates of Cargo.lock cannot be downloaded ({why}): check the network and HTTPS_PROXY, or the source in \
         ~/.cargo/config.toml"
    )]
}

fn fetched(options: &[&str]) -> Result<(), String> {
    let mut fetch = cargo();
    fetch.args(["fetch", "--locked", "--quiet"]).args(options);
    fetch.envs([("CARGO_HTTP_TIMEOUT", "15"), ("CARGO_NET_RETRY", "1")]);
    let output = fetch.output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn is_installed(program: &str) -> bool {
    std::process::Command::new(program).arg("--version").output().is_ok()
}
