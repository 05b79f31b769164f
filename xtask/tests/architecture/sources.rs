//! The sources of a crate as the compiler sees them: modules are followed from the crate's root,
//! and what is compiled for tests only is left out.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Ident, Literal, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{Attribute, ImplItem, Item, ItemMod, Meta};

/// The directory of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace's directory")
}

/// The crates, in the order in which they depend on each other.
pub(crate) const CRATES: [&str; 8] =
    ["crates/core", "crates/edge", "crates/agent", "crates/sidecar", "e2e", "fuzz", "fetch", "xtask"];

/// A path below the workspace, with `/`.
pub(crate) fn below(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}

/// Calls `found` with each Rust file below a directory, in the order of the names.
pub(crate) fn walk(directory: &Path, found: &mut dyn FnMut(&Path)) {
    let entries = fs::read_dir(directory).expect("a directory").filter_map(Result::ok);
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.ends_with("target") {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found(&path);
        }
    }
}

/// Every Rust file of the workspace with its text, those of tests too.
pub(crate) fn files() -> Vec<(String, String)> {
    let mut files = vec![];
    for directory in CRATES {
        walk(&workspace().join(directory), &mut |path| {
            files.push((below(path), fs::read_to_string(path).expect("a source file")));
        });
    }
    files
}

/// An item of a crate that is not compiled for tests only.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// The file, below the workspace.
    pub(crate) file: String,
    /// The module, from the crate's root: `["dns", "message"]`.
    pub(crate) module: Vec<String>,
    /// The item.
    pub(crate) tokens: TokenStream,
}

/// All items of the crate with this root, without modules themselves: their items stand for them.
pub(crate) fn pieces(root: &str) -> Vec<Piece> {
    let mut found = vec![];
    let path = workspace().join(root);
    let directory = path.parent().expect("a file is in a directory").to_owned();
    follow(&path, &directory, &[], &mut found);
    found
}

/// All items of one file, as if it were this module.
pub(crate) fn pieces_of(module: &[&str], text: &str) -> Vec<Piece> {
    let module: Vec<String> = module.iter().map(|&name| name.to_owned()).collect();
    let parsed = syn::parse_file(text).expect("the text is Rust");
    let mut found = vec![];
    collect(parsed.items, "text.rs", Path::new("/nowhere"), &module, &mut found);
    found
}

fn follow(path: &Path, directory: &Path, module: &[String], found: &mut Vec<Piece>) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    collect(parsed.items, &below(path), directory, module, found);
}

/// `directory` is where the files of the module's own modules are.
fn collect(items: Vec<Item>, file: &str, directory: &Path, module: &[String], found: &mut Vec<Piece>) {
    for item in items {
        match item {
            Item::Mod(inner) if is_for_tests(&inner.attrs) => {}
            Item::Mod(inner) => {
                let name = plain(&inner.ident);
                let path = [module, std::slice::from_ref(&name)].concat();
                let below = directory.join(&name);
                let attributes = attributes(&inner);
                if !attributes.is_empty() {
                    found.push(Piece { file: file.to_owned(), module: module.to_vec(), tokens: attributes });
                }
                match inner.content {
                    Some((_, items)) => collect(items, file, &below, &path, found),
                    None => follow(&file_of(directory, &name), &below, &path, found),
                }
            }
            Item::Impl(mut implementation) => {
                implementation.items.retain(|item| !is_for_tests(attributes_of(item)));
                if !is_for_tests(&implementation.attrs) {
                    let tokens = implementation.into_token_stream();
                    found.push(Piece { file: file.to_owned(), module: module.to_vec(), tokens });
                }
            }
            other => {
                let tokens = other.into_token_stream();
                if !begins_with_test_only(&tokens) {
                    found.push(Piece { file: file.to_owned(), module: module.to_vec(), tokens });
                }
            }
        }
    }
}

/// `x.rs` or `x/mod.rs`.
fn file_of(directory: &Path, name: &str) -> PathBuf {
    let file = directory.join(format!("{name}.rs"));
    if file.exists() { file } else { directory.join(name).join("mod.rs") }
}

/// The attributes of a module but its documentation: `#[path]` is one.
fn attributes(module: &ItemMod) -> TokenStream {
    module
        .attrs
        .iter()
        .filter(|attribute| !attribute.path().is_ident("doc"))
        .map(|a| a.to_token_stream())
        .collect()
}

fn attributes_of(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(item) => &item.attrs,
        ImplItem::Fn(item) => &item.attrs,
        ImplItem::Type(item) => &item.attrs,
        ImplItem::Macro(item) => &item.attrs,
        _ => &[],
    }
}

/// `#[cfg(test)]`, and no other condition: `any(test, …)` is compiled elsewhere too.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

/// The same for an item of any kind, by its first attributes.
fn begins_with_test_only(tokens: &TokenStream) -> bool {
    let mut tokens = tokens.clone().into_iter();
    while let (Some(TokenTree::Punct(hash)), Some(TokenTree::Group(group))) = (tokens.next(), tokens.next()) {
        if hash.as_char() != '#' {
            return false;
        }
        let text: String = group.stream().to_string().split_whitespace().collect();
        if text == "cfg(test)" {
            return true;
        }
    }
    false
}

/// An identifier without `r#`.
pub(crate) fn plain(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map_or_else(|| text.clone(), str::to_owned)
}

/// Every identifier and literal of an item, in macros and attributes too, but not in documentation.
pub(crate) fn words(tokens: &TokenStream, found: &mut impl FnMut(Word<'_>)) {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Ident(ident) => found(Word::Ident(ident)),
            TokenTree::Literal(literal) => found(Word::Literal(literal)),
            TokenTree::Group(group) if !is_documentation(&tokens, at - 1) => words(&group.stream(), found),
            TokenTree::Group(_) | TokenTree::Punct(_) => {}
        }
    }
}

/// Whether the group at this place is `[doc = "…"]` after `#` or `#!`.
fn is_documentation(tokens: &[TokenTree], at: usize) -> bool {
    let TokenTree::Group(group) = &tokens[at] else { return false };
    let punct = |at: Option<usize>| match at.and_then(|at| tokens.get(at)) {
        Some(TokenTree::Punct(punct)) => Some(punct.as_char()),
        _ => None,
    };
    let after_hash = match punct(at.checked_sub(1)) {
        Some('!') => punct(at.checked_sub(2)) == Some('#'),
        before => before == Some('#'),
    };
    let first = group.stream().into_iter().next();
    let is_doc = matches!(first, Some(TokenTree::Ident(word)) if word == "doc");
    group.delimiter() == Delimiter::Bracket && after_hash && is_doc
}

/// A word of an item.
pub(crate) enum Word<'a> {
    /// An identifier or keyword.
    Ident(&'a Ident),
    /// A literal.
    Literal(&'a Literal),
}

#[test]
fn what_is_compiled_for_tests_only_is_left_out() {
    let text = r#"
        fn kept() {}
        #[cfg(test)] mod tests { fn left_out() {} }
        #[cfg(test)] fn left_out() {}
        /// With a comment.
        #[cfg(test)] use left::out;
        #[cfg(any(test, fuzzing))] fn kept_too() {}
        impl X { fn kept_as_well() {} #[cfg(test)] fn left_out(&self) {} }
        mod inner { fn kept_in_a_module() {} #[cfg(test)] fn left_out() {} }
    "#;
    let pieces = pieces_of(&["room"], text);
    let all: String = pieces.iter().map(|piece| piece.tokens.to_string()).collect();
    assert!(!all.contains("left"), "{all}");
    for name in ["kept", "kept_too", "kept_as_well", "kept_in_a_module"] {
        assert!(all.contains(&format!("fn {name} (")), "{name}: {all}");
    }
    assert_eq!(
        pieces.last().map(|piece| piece.module.clone()),
        Some(vec!["room".to_owned(), "inner".to_owned()])
    );
}

#[test]
fn modules_are_followed_into_their_files() {
    let pieces = pieces("crates/edge/src/lib.rs");
    let module = |name: &str| pieces.iter().any(|piece| piece.module.join("::") == name);
    assert!(module("http_client::certificate::der_fields") && module("dns::message"));
    assert!(!pieces.iter().any(|piece| piece.file.ends_with("tests.rs")), "tests are left out");
}
