//! What the search started from and what it found, replayed without it.

#![expect(clippy::print_stdout, reason = "tells which input it was, when one fails")]

use std::fs;
use std::path::Path;

use dexsidecar_fuzz::TARGETS;

#[test]
fn nothing_in_the_corpus_breaks_what_holds_for_any_bytes() {
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
    assert_eq!(searched, TARGETS.len(), "a target that is replayed is searched too");
    let folders = fs::read_dir(corpus).unwrap().count();
    assert_eq!(folders, TARGETS.len(), "a folder a target, and no other");
}
