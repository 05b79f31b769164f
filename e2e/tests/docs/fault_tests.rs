//! Which tests of the workspace make a fault happen: those that have its number in their name and
//! run.
//!
//! A test is a function with `#[test]` or `#[tokio::test]` that is not ignored, or one that is
//! listed in a constant `TESTS` or `STORIES` of a binary without libtest's harness. A helper is no
//! test, whatever its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use dexsidecar_e2e::doc_manifests;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{Attribute, Item};

/// Where tests are.
const ROOTS: [&str; 4] = ["crates", "e2e/src", "e2e/tests", "fuzz"];

/// Binaries without libtest's harness: tests are there what is listed.
const LISTED: [&str; 2] = ["e2e/tests/names/", "e2e/tests/node/"];

/// Their lists that run in the long form only.
const LONG_FORM: [&str; 1] = ["e2e/tests/names/coredns.rs"];

/// Every test that names a fault, as `file: test`, by the fault's number.
pub(crate) fn by_fault() -> &'static BTreeMap<usize, Vec<String>> {
    static FOUND: LazyLock<BTreeMap<usize, Vec<String>>> = LazyLock::new(find);
    &FOUND
}

fn find() -> BTreeMap<usize, Vec<String>> {
    let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for root in ROOTS {
        walk(&doc_manifests::root().join(root), &mut |path| {
            let text = fs::read_to_string(path).expect("a source file");
            let file = path.strip_prefix(doc_manifests::root()).expect("it is below").display().to_string();
            for test in tests(&file, &text) {
                for number in numbers(&test) {
                    found.entry(number).or_default().push(format!("{file}: `{test}`"));
                }
            }
        });
    }
    found
}

/// The names of the tests of a file that run in the short form.
fn tests(file: &str, text: &str) -> BTreeSet<String> {
    let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut found = BTreeSet::new();
    attributed(&parsed.items, &mut found);
    if LISTED.iter().any(|binary| file.starts_with(binary)) && !LONG_FORM.contains(&file) {
        listed(&parsed.items, &mut found);
    }
    found
}

/// The functions with `#[test]`.
fn attributed(items: &[Item], found: &mut BTreeSet<String>) {
    for item in items {
        match item {
            Item::Fn(function) if runs(&function.attrs) => {
                found.insert(function.sig.ident.to_string());
            }
            Item::Mod(module) => {
                attributed(module.content.as_ref().map_or(&[], |(_, items)| items.as_slice()), found);
            }
            Item::Macro(invoked) if invoked.ident.is_none() => in_macro(&invoked.mac.tokens, found),
            _ => {}
        }
    }
}

fn runs(attributes: &[Attribute]) -> bool {
    let has = |name: &str| {
        let mut last = attributes.iter().filter_map(|attribute| attribute.path().segments.last());
        last.any(|segment| segment.ident == name)
    };
    has("test") && !has("ignore")
}

/// The functions with `#[test]` among the tokens of a macro's invocation, as in `proptest! { … }`.
fn in_macro(tokens: &TokenStream, found: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut attributes: Vec<String> = vec![];
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                if let Some(TokenTree::Group(group)) = tokens.get(at + 1) {
                    attributes.push(group.stream().to_string());
                }
            }
            TokenTree::Ident(word) if word == "fn" => {
                let is = |name: &str| attributes.iter().any(|text| text.split([' ', '(']).any(|w| w == name));
                if let Some(TokenTree::Ident(name)) = tokens.get(at + 1)
                    && is("test")
                    && !is("ignore")
                {
                    found.insert(name.to_string());
                }
                attributes.clear();
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                in_macro(&group.stream(), found);
                attributes.clear();
            }
            _ => {}
        }
    }
}

/// The functions of this file that a constant `TESTS` or `STORIES` lists, without those marked as
/// long.
fn listed(items: &[Item], found: &mut BTreeSet<String>) {
    let functions: BTreeSet<String> = items
        .iter()
        .filter_map(|item| match item {
            Item::Fn(function) => Some(function.sig.ident.to_string()),
            _ => None,
        })
        .collect();
    for item in items {
        if let Item::Const(list) = item
            && (list.ident == "TESTS" || list.ident == "STORIES")
        {
            let mut names = BTreeSet::new();
            names_in(list.expr.to_token_stream(), &mut names);
            found.extend(names.intersection(&functions).cloned());
        }
    }
}

/// The words of a list. A tuple with `true` in it is a story that takes minutes: the long form's.
fn names_in(tokens: TokenStream, names: &mut BTreeSet<String>) {
    let words: Vec<TokenTree> = tokens.into_iter().collect();
    if words.iter().any(|token| matches!(token, TokenTree::Ident(word) if word == "true")) {
        return;
    }
    for token in words {
        match token {
            TokenTree::Ident(word) => {
                names.insert(word.to_string());
            }
            TokenTree::Group(group) => names_in(group.stream(), names),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

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

fn walk(directory: &Path, found: &mut dyn FnMut(&Path)) {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.ends_with("target") {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found(&path);
        }
    }
}

#[test]
fn a_name_tells_its_numbers() {
    assert_eq!(numbers("f022_to_f024_retry_after"), [22, 23, 24]);
    assert_eq!(numbers("f012_f014_roots"), [12, 14]);
    assert_eq!(numbers("from_f001"), [0; 0]);
    assert_eq!(numbers("f1_too_short"), [0; 0]);
}

#[test]
fn helpers_and_ignored_tests_do_not_count() {
    let text = r##"
        fn f001_a_helper() {}
        #[test]
        fn f002_a_test() {}
        #[tokio::test(start_paused = true)]
        async fn f003_an_async_test() {}
        #[test]
        #[ignore = "it takes minutes"]
        fn f004_ignored() {}
        // #[test]
        // fn f005_commented_out() {}
        const TEXT: &str = r#"#[test] fn f006_in_a_text() {}"#;
        mod tests {
            #[test]
            fn f007_in_a_module() {
                #[allow(dead_code)]
                fn f008_inside() {}
            }
        }
        proptest! {
            #![proptest_config(config())]
            /// A property.
            #[test]
            fn f009_of_a_macro(x in 0..1) { fn f010_inside() {} }
            #[test]
            #[ignore]
            fn f011_ignored_in_a_macro() {}
            fn f012_a_helper_in_a_macro() {}
        }
        macro_rules! made { () => { #[test] fn f013_in_a_definition() {} } }
    "##;
    let found = tests("crates/core/src/some.rs", text);
    let expected = ["f002_a_test", "f003_an_async_test", "f007_in_a_module", "f009_of_a_macro"];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn without_a_harness_what_is_listed_counts_and_long_stories_do_not() {
    let text = r#"
        pub(crate) const STORIES: &[Story] = &[
            ("f001_short", f001_short, false),
            ("a_name", f002_under_another_name, false),
            ("f003_long", f003_long, true),
        ];
        pub(crate) const TESTS: &[Test] = tests![f004_listed, f005_of_another_file];
        const OTHER: &[Test] = tests![f006_not_listed];
        fn f001_short(node: &Node) {}
        fn f002_under_another_name(node: &Node) {}
        fn f003_long(node: &Node) {}
        fn f004_listed() {}
        fn f006_not_listed() {}
        fn f007_helper() {}
    "#;
    let found = |file: &str| tests(file, text).into_iter().collect::<Vec<_>>();
    assert_eq!(found("e2e/tests/node/some.rs"), ["f001_short", "f002_under_another_name", "f004_listed"]);
    assert_eq!(found("e2e/tests/fakes/some.rs"), [""; 0]);
    assert_eq!(found(LONG_FORM[0]), [""; 0]);
}
