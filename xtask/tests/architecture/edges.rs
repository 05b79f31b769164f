//! A module of edge uses only a short list of the others.
//!
//! Every path in the code is looked at, whatever its form: in `use` with groups and aliases, in
//! expressions and types, and in macros. Edge is a crate of its own: the compiler holds that it
//! uses neither the agent nor a command.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::sources::{Piece, Word, pieces, pieces_of, plain, words};

/// The crate whose modules are the edges.
const CRATE: &str = "crates/edge/src/lib.rs";

/// The crate's own name, under which it would find itself with `extern crate self`.
const OWN_NAME: &str = "dexsidecar_edge";

/// Edges that other edges may use: time, randomness, DNS, files that are read, processes, blocking
/// calls.
const SHARED: [&str; 6] = ["blocking", "clock", "dns", "input_file", "process_handle", "random"];

/// What is wrong in a piece of an edge, each with its path.
fn violations(piece: &Piece) -> Vec<String> {
    let mut found = vec![];
    let mut wrong = |why: &str, path: &str| found.push(format!("{}: {why}: {path}", piece.file));
    words(&piece.tokens, &mut |word| {
        if let Word::Ident(ident) = word
            && ["include", "path"].contains(&&*plain(ident))
            && is_textual(&piece.tokens, &plain(ident))
        {
            wrong("brings in another file", &ident.to_string());
        }
    });
    let Some(edge) = piece.module.first() else {
        wrong("the root of the crate holds modules and nothing else", &piece.tokens.to_string());
        return found;
    };
    for path in paths(&piece.tokens) {
        let shown = path.join("::");
        match absolute(&path, &piece.module) {
            None => wrong("leaves the crate", &shown),
            Some(absolute) => match absolute.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                [] | ["*", ..] => wrong("names all edges", &shown),
                [other, ..] if other == edge || SHARED.contains(&other) => {}
                _ => wrong("names another edge", &shown),
            },
        }
    }
    found
}

/// Whether a file is brought in as text: `include!(…)`, `#[path = …]`.
fn is_textual(tokens: &TokenStream, word: &str) -> bool {
    let text: String = tokens.to_string().split_whitespace().collect();
    match word {
        "include" => text.contains("include!"),
        _ => text.contains("[path="),
    }
}

/// A path from the crate's root, if it stays in the crate.
pub(crate) fn absolute(path: &[String], module: &[String]) -> Option<Vec<String>> {
    let mut absolute = module.to_vec();
    for (at, segment) in path.iter().enumerate() {
        match segment.as_str() {
            "crate" | OWN_NAME if at == 0 => absolute.clear(),
            "self" => {}
            "super" => {
                absolute.pop()?;
            }
            name => absolute.push(name.to_owned()),
        }
    }
    Some(absolute)
}

/// Every path that begins in this crate, with the groups of `use` taken apart.
pub(crate) fn paths(tokens: &TokenStream) -> Vec<Vec<String>> {
    let mut found = vec![];
    search(tokens, &mut found);
    found
}

fn search(tokens: &TokenStream, found: &mut Vec<Vec<String>>) {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Ident(ident) => {
                let first = plain(ident);
                let is_alias = matches!(tokens.get(at + 1), Some(TokenTree::Ident(word)) if word == "as");
                // `pub(crate)`, `self.field` and `&self` are no paths.
                let is_path = is_separator(&tokens, at + 1) || is_alias && first != "self";
                if ["crate", "super", "self", OWN_NAME].contains(&&*first) && is_path {
                    at = tree(&tokens, at, &[], found);
                } else {
                    at += 1;
                }
            }
            TokenTree::Group(group) => {
                search(&group.stream(), found);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// Whether there is `::` at this place.
fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(at) && colon(at + 1)
}

/// Reads a path, or a tree of them, that begins at this place. Gives the place after it.
fn tree(tokens: &[TokenTree], mut at: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => {
                path.push(plain(ident));
                at += 1;
            }
            Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => {
                path.push("*".to_owned());
                at += 1;
                break;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for branch in inner.split(is_comma) {
                    if !branch.is_empty() {
                        // A branch that is in parts, `a as b`, is read up to the alias.
                        tree(branch, 0, &path, found);
                    }
                }
                return at + 1;
            }
            // `Type::<T>`, `$name`: what follows cannot be known, and the path up to there counts.
            _ => break,
        }
        if !is_separator(tokens, at) {
            break;
        }
        at += 2;
    }
    found.push(path);
    at
}

fn is_comma(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')
}

#[test]
fn a_module_of_edge_uses_only_the_shared_ones() {
    let pieces = pieces(CRATE);
    assert!(pieces.len() > 100, "the edges were found");
    let wrong: Vec<String> = pieces.iter().flat_map(violations).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Under another name, the crate could be reached by paths that are not looked at.
#[test]
fn the_crate_has_no_second_name() {
    for piece in pieces(CRATE) {
        let text = piece.tokens.to_string();
        assert!(!text.starts_with("extern crate"), "{}: {text}", piece.file);
    }
}

#[test]
fn each_form_of_a_forbidden_path_is_found() {
    let evasions = [
        "use crate::output_file::Target;",
        "use crate::{output_file, clock};",
        "use crate::{\n    clock,\n    output_file::{\n        Target,\n    },\n};",
        "use crate::output_file as other;",
        "use crate as root;",
        "use crate::{self as root};",
        "use crate::*;",
        "use super::output_file;",
        "use super::{clock, output_file};",
        "use super::{clock::Clock, output_file::{self, write}};",
        "use super::output_file as harmless;",
        "use super::{self as edges};",
        "use super::*;",
        "use super::super::edge;",
        "use self::super::output_file;",
        "use dexsidecar_edge::output_file;",
        "use ::dexsidecar_edge::output_file;",
        "pub use super::output_file::write;",
        "use crate::r#output_file::Target;",
        "fn f() { crate::output_file::write(1); }",
        "fn f() { let x = super::output_file::write(1); }",
        "fn f(x: &super::output_file::Target) {}",
        "fn f() -> Vec<crate::output_file::Target> { vec![] }",
        "struct S(crate::output_file::Target);",
        "impl crate::output_file::Written for S {}",
        "impl From<super::output_file::Target> for S {}",
        "fn f() { use super::output_file; }",
        "fn f() { assert!(crate::output_file::is(1)); }",
        "fn f() { select! { x = super::output_file::write() => {} } }",
        "macro_rules! m { () => { $crate::output_file::write() }; }",
        "macro_rules! m { ($room:ident) => { crate::$room::run() }; }",
        "macro_rules! m { () => { use crate::{clock, output_file}; }; }",
        "mod inner { use super::super::output_file; }",
        "mod inner { mod more { fn f() { super::super::super::output_file::write() } } }",
        "include!(\"output_file/atomic.rs\");",
        "#[path = \"output_file/atomic.rs\"] mod other {}",
        "use super::super::x;",
        "#[derive(super::output_file::Derive)] struct S;",
    ];
    for text in evasions {
        let found: Vec<String> = pieces_of(&["log"], text).iter().flat_map(violations).collect();
        assert!(!found.is_empty(), "not found: {text}");
    }
    let in_the_root = pieces_of(&[], "pub use output_file::write;");
    assert_eq!(in_the_root.iter().flat_map(violations).count(), 1);
}

#[test]
fn allowed_paths_are_let_through() {
    let allowed = [
        "use super::clock::BootClock;",
        "use super::{blocking, clock, dns::{self, hosts}, input_file, random};",
        "use crate::clock;",
        "use super::log::Logger;",
        "use crate::log::*;",
        "pub(crate) fn f() { self.output_file(); self::g(); }",
        "pub(in crate::log) struct S { output_file: u8 }",
        "use dexsidecar_core::config::Config;",
        "use std::{fs, io::{self, Write as _}};",
        "fn f(&self, output_file: u8) { std::fs::read(output_file); }",
        "mod inner { use super::g; use super::super::clock; fn f() { super::super::log::g() } }",
        "#[cfg(test)] mod tests { use crate::output_file::Target; }",
        "/// As [`crate::output_file`] does.\nfn f() {}",
    ];
    for text in allowed {
        let found: Vec<String> = pieces_of(&["log"], text).iter().flat_map(violations).collect();
        assert!(found.is_empty(), "{text}: {found:?}");
    }
}
