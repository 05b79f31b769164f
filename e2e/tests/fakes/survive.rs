//! The suite that anybody's program can be put through: ours survives all of it, and one that idles survives nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use dexsidecar_e2e::scenes;
use dexsidecar_e2e::sidecar::program;

fn fallen(binary: &Path, patience: Duration) -> Vec<usize> {
    scenes::play(binary, patience)
        .into_iter()
        .filter(|(_, survived)| !survived)
        .map(|(number, _)| number)
        .collect()
}

#[test]
fn ours_survives_all_of_it() {
    assert_eq!(fallen(&program(), scenes::PATIENCE), [0; 0]);
}

#[test]
fn a_program_that_does_nothing_survives_none_of_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let idle = folder.path().join("idle");
    fs::write(&idle, "#!/bin/sh\nexec sleep 300\n").expect("a temporary folder");
    fs::set_permissions(&idle, fs::Permissions::from_mode(0o755)).expect("a temporary folder");
    assert_eq!(fallen(&idle, Duration::from_secs(2)).len(), scenes::TRIALS.len());
}
