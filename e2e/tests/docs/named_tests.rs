//! ARCHITECTURE.md and CONTRIBUTING.md name tests: those that hold an invariant, and those that
//! fail if a step is forgotten. Each of them exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dexsidecar_e2e::doc_manifests;

/// The names of all tests in the sources; each also with the file that it is in:
/// `settings_page::name`.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for directory in ["crates", "e2e", "fetch", "fuzz", "xtask"] {
        walk(&doc_manifests::root().join(directory), &mut |module, text| {
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let function = line.trim_start_matches("async ").strip_prefix("fn ");
                if let Some(name) = function.and_then(|rest| rest.split('(').next()) {
                    if marked {
                        names.extend([name.to_owned(), format!("{module}::{name}")]);
                    }
                    marked = false;
                }
            }
        });
    }
    names
}

/// Hands over the name, without its extension, and the text of every Rust file below a directory.
fn walk(directory: &Path, found: &mut dyn FnMut(&str, &str)) {
    for path in fs::read_dir(directory).expect("a directory").filter_map(Result::ok).map(|entry| entry.path())
    {
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            found(&path.file_stem().unwrap_or_default().to_string_lossy(), &text);
        }
    }
}

/// What stands between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn page(name: &str) -> String {
    fs::read_to_string(doc_manifests::root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The part of a page below a heading, up to the next one of the same level.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = format!("\n## {heading}\n");
    let rest = text.split_once(&start).unwrap_or_else(|| panic!("there is no section: {heading}")).1;
    rest.split("\n## ").next().unwrap_or(rest)
}

#[test]
fn every_invariant_of_the_architecture_names_what_holds_it() {
    let (text, tests) = (page("ARCHITECTURE.md"), tests());
    let rows = section(&text, "Invariants").lines().filter(|line| line.starts_with("| "));
    let rows: Vec<_> = rows.skip(1).filter_map(|row| row.rsplit_once(" | ")).collect();
    assert!(rows.len() >= 8, "{rows:#?}");
    let mut wrong = vec![];
    for (invariant, held_by) in rows {
        let names: Vec<_> = code(held_by).collect();
        if names.is_empty() {
            wrong.push(format!("nothing holds: {invariant}"));
        }
        let holds = |name: &str| {
            tests.contains(name) || doc_manifests::root().join(name).is_file() || name.starts_with('[')
        };
        wrong.extend(names.iter().filter(|name| !holds(name)).map(|name| format!("there is no {name}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_recipe_ends_in_tests_that_exist() {
    let (text, tests) = (page("CONTRIBUTING.md"), tests());
    let recipes: Vec<_> = section(&text, "Recipes").split("\n### ").skip(1).collect();
    assert!(recipes.len() >= 4, "{recipes:#?}");
    for recipe in recipes {
        let last = recipe.split("\n\nFails if you forget: ").nth(1);
        let last = last.unwrap_or_else(|| panic!("this recipe names no test:\n{recipe}"));
        let names: Vec<_> = code(last).collect();
        assert!(!names.is_empty(), "this recipe names no test:\n{recipe}");
        for name in names {
            assert!(tests.contains(name), "CONTRIBUTING.md names {name}, which is no test");
        }
    }
}
