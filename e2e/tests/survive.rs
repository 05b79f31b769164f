//! The suite that anybody's program can be put through: ours survives all of it, and one that ends at once or idles survives nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dexsidecar_e2e::scenes;
use dexsidecar_e2e::sidecar::program;

fn fallen(binary: &Path) -> Vec<usize> {
    scenes::play(binary).into_iter().filter(|(_, survived)| !survived).map(|(number, _)| number).collect()
}

#[test]
fn ours_survives_all_of_it() {
    assert_eq!(fallen(&program()), [0; 0]);
}

#[test]
fn a_program_that_does_nothing_survives_none_of_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let idle = folder.path().join("idle");
    fs::write(&idle, "#!/bin/sh\nexec sleep 300\n").expect("a temporary folder");
    fs::set_permissions(&idle, fs::Permissions::from_mode(0o755)).expect("a temporary folder");
    for nothing in [Path::new("/bin/true"), &idle] {
        assert_eq!(fallen(nothing).len(), scenes::TRIALS.len(), "{}", nothing.display());
    }
}
