//! The fault suite that any program can run: dexsidecar survives every fault, and a program that
//! only sleeps survives none.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use dexsidecar_e2e::fault_suite;
use dexsidecar_e2e::sidecar::program;

/// The faults that a program does not survive.
fn not_survived(program: &Path, patience: Duration) -> Vec<usize> {
    let results = fault_suite::run(program, patience).into_iter();
    results.filter(|(_, survived)| !survived).map(|(fault, _)| fault).collect()
}

#[test]
fn dexsidecar_survives_every_fault() {
    assert_eq!(not_survived(&program(), fault_suite::PATIENCE), [0; 0]);
}

#[test]
fn a_program_that_only_sleeps_survives_no_fault() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let idle = directory.path().join("idle");
    fs::write(&idle, "#!/bin/sh\nexec sleep 300\n").expect("a temporary directory");
    fs::set_permissions(&idle, fs::Permissions::from_mode(0o755)).expect("a temporary directory");
    assert_eq!(not_survived(&idle, Duration::from_secs(2)).len(), fault_suite::TRIALS.len());
}
