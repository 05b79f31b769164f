//! Replays the corpus of each fuzz target without libFuzzer.

#![expect(clippy::print_stdout, reason = "names the input when one fails")]

use std::fs;
use std::path::Path;

use dexsidecar_fuzz::TARGETS;

#[test]
fn no_input_in_the_corpus_breaks_a_property() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let mut inputs: Vec<_> =
            fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} has no seeds");
        target(b"");
        for input in inputs {
            println!("{}", input.display());
            target(&fs::read(input).unwrap());
        }
    }
    let searched = fs::read_dir(corpus.with_file_name("fuzz_targets")).unwrap().count();
    assert_eq!(searched, TARGETS.len(), "each replayed target has a file in fuzz_targets");
    let directories = fs::read_dir(corpus).unwrap().count();
    assert_eq!(directories, TARGETS.len(), "each directory in corpus belongs to a target");
}
