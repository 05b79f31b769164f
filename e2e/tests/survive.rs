//! The suite that anybody's program can be put through: ours survives all of it, and one that does nothing survives nothing.

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
    assert_eq!(fallen(Path::new("/bin/true")).len(), scenes::TRIALS.len());
}
