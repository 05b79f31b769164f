//! docs/faults.md is made of the catalogue and of the tests that bear its numbers; `UPDATE=1` writes it anew. Every fault has
//! a test, or a reason why there is none.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dexsidecar_e2e::faults::{FAULTS, PARTS, PROMISES};
use dexsidecar_e2e::pages;

const PAGE: &str = "docs/faults.md";

/// The numbers in a test's name: `f022_to_f024_…`, `f012_f014_…`.
fn numbers(name: &str) -> Vec<usize> {
    let mut numbers: Vec<usize> = vec![];
    let mut range = false;
    for word in name.split('_') {
        let number =
            word.strip_prefix('f').filter(|digits| digits.len() == 3).and_then(|digits| digits.parse().ok());
        match number {
            Some(last) if range => {
                let first = numbers.last().map_or(last, |first| first + 1);
                numbers.extend(first..=last);
                range = false;
            }
            Some(number) => numbers.push(number),
            None if word == "to" && !numbers.is_empty() => range = true,
            None => break,
        }
    }
    numbers
}

/// Every test of the workspace that bears a number: `file: name`, by number.
fn tests() -> BTreeMap<usize, Vec<String>> {
    let mut tests: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for folder in ["crates", "e2e/src", "e2e/tests"] {
        walk(&pages::root().join(folder), &mut |path| {
            let text = fs::read_to_string(path).expect("a source file");
            let file = path.strip_prefix(pages::root()).expect("it is below").display().to_string();
            for line in text.lines() {
                let line = line.trim_start().trim_start_matches("async ");
                let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next()) else {
                    continue;
                };
                for number in numbers(name) {
                    tests.entry(number).or_default().push(format!("{file}: `{name}`"));
                }
            }
        });
    }
    tests
}

fn walk(folder: &Path, found: &mut dyn FnMut(&Path)) {
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a folder").filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found(&path);
        }
    }
}

fn made() -> String {
    let tests = tests();
    let mut text = "# Faults\n\nWhat happens to a program like this one in its worst hours, what it promises then, and the tests \
         that make it happen. This page is made from the tests: `cargo xtask docs`.\n\n## Promises\n\n"
        .to_owned();
    for (number, promise) in (1..).zip(PROMISES) {
        text += &format!("- **P{number}**: {promise}.\n");
    }
    for (number, fault) in (1..).zip(FAULTS) {
        if let Some((_, part)) = PARTS.iter().find(|(first, _)| *first == number) {
            text +=
                &format!("\n## {part}\n\n| fault | what happens | promises | tests |\n|---|---|---|---|\n");
        }
        let told = tests.get(&number).map(|tests| tests.join("<br>"));
        let told = told.or_else(|| fault.untested.map(|why| format!("none: {why}"))).unwrap_or_default();
        text += &format!("| F{number:02} | {} | {} | {told} |\n", fault.what, fault.promises);
    }
    text
}

#[test]
fn every_fault_has_a_test_or_a_reason() {
    let tests = tests();
    let of = |number: usize| FAULTS[number - 1];
    let bare: Vec<_> =
        (1..=FAULTS.len()).filter(|n| !tests.contains_key(n) && of(*n).untested.is_none()).collect();
    assert!(bare.is_empty(), "no test bears these numbers, and no reason is given: {bare:?}");
    let both: Vec<_> = tests.keys().filter(|n| of(**n).untested.is_some()).collect();
    assert!(both.is_empty(), "these have a test, and a reason why there is none: {both:?}");
}

#[test]
fn the_page_is_what_the_tests_say() {
    let made = made();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(pages::root().join(PAGE), made).expect("the page can be written");
    } else {
        let there = fs::read_to_string(pages::root().join(PAGE)).unwrap_or_default();
        assert!(there == made, "{PAGE} is not what the tests say: run cargo xtask docs");
    }
}

#[test]
fn names_tell_their_numbers() {
    assert_eq!(numbers("f022_to_f024_retry_after"), [22, 23, 24]);
    assert_eq!(numbers("f012_f014_roots"), [12, 14]);
    assert_eq!(numbers("from_f001"), [0; 0]);
}
