//! An edge names neither what uses it (the agent, a command) nor another edge.
//!
//! Every path in the code is looked at, whatever its form: in `use` with groups and aliases, in
//! expressions and types, and in macros. Once the edges are a crate, the compiler holds the first
//! half.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::sources::{Piece, Word, pieces, pieces_of, plain, words};

const CRATE: &str = "crates/sidecar/src/lib.rs";

/// The library's own name, under which it would find itself with `extern crate self`.
const OWN_NAME: &str = "dexsidecar";

/// The module whose modules are the edges.
const EDGES: &str = "edge";

/// Edges that other edges may use: time, randomness, DNS, files that are read, blocking calls.
const SHARED: [&str; 5] = ["blocking", "clock", "dns", "input_file", "random"];

/// What is wrong in a piece of an edge, each with its path.
fn violations(piece: &Piece) -> Vec<String> {
    let mut found = vec![];
    let Some((EDGES, edge)) = piece.module.split_first().map(|(first, rest)| (first.as_str(), rest)) else {
        return found;
    };
    let mut wrong = |why: &str, path: &str| found.push(format!("{}: {why}: {path}", piece.file));
    words(&piece.tokens, &mut |word| {
        if let Word::Ident(ident) = word
            && ["include", "path"].contains(&&*plain(ident))
            && is_textual(&piece.tokens, &plain(ident))
        {
            wrong("brings in another file", &ident.to_string());
        }
    });
    if edge.is_empty() {
        wrong("the module of the edges holds modules and nothing else", &piece.tokens.to_string());
        return found;
    }
    for path in paths(&piece.tokens) {
        let shown = path.join("::");
        match absolute(&path, &piece.module) {
            None => wrong("leaves the crate", &shown),
            Some(absolute) => match absolute.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                [] | ["*", ..] => wrong("names the whole crate", &shown),
                [EDGES] | [EDGES, "*", ..] => wrong("names all edges", &shown),
                [EDGES, other, ..] if other == edge[0] || SHARED.contains(&other) => {}
                [EDGES, ..] => wrong("names another edge", &shown),
                _ => wrong("names what uses it", &shown),
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
fn edges_name_neither_what_uses_them_nor_each_other() {
    let pieces = pieces(CRATE);
    let edges = pieces.iter().filter(|piece| piece.module.first().is_some_and(|first| first == EDGES));
    assert!(edges.count() > 100, "the edges were found");
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
        "use crate::agent::Agent;",
        "use crate::{agent, edge::clock};",
        "use crate::{\n    edge::clock,\n    agent::{\n        Agent,\n    },\n};",
        "use crate::agent as other;",
        "use crate as root;",
        "use crate::{self as root};",
        "use crate::*;",
        "use super::super::agent;",
        "use super::{clock, output_file};",
        "use super::{clock::Clock, output_file::{self, write}};",
        "use super::output_file as harmless;",
        "use super::{self as edges};",
        "use super::*;",
        "use super::super::edge;",
        "use self::super::output_file;",
        "use dexsidecar::agent;",
        "use ::dexsidecar::agent;",
        "pub use super::output_file::write;",
        "use crate::r#agent::Agent;",
        "fn f() { crate::agent::run(); }",
        "fn f() { let x = super::output_file::write(1); }",
        "fn f(x: &super::output_file::Target) {}",
        "fn f() -> Vec<crate::status::Status> { vec![] }",
        "struct S(crate::exchange::Inputs);",
        "impl crate::agent::Told for S {}",
        "impl From<super::output_file::Target> for S {}",
        "fn f() { use super::output_file; }",
        "fn f() { assert!(crate::agent::is(1)); }",
        "fn f() { select! { x = super::output_file::write() => {} } }",
        "macro_rules! m { () => { $crate::agent::run() }; }",
        "macro_rules! m { ($room:ident) => { crate::$room::run() }; }",
        "macro_rules! m { () => { use crate::{edge::clock, agent}; }; }",
        "mod inner { use super::super::output_file; }",
        "mod inner { mod more { fn f() { super::super::super::output_file::write() } } }",
        "include!(\"../agent.rs\");",
        "#[path = \"../agent.rs\"] mod other {}",
        "use super::super::super::x;",
        "#[derive(super::output_file::Derive)] struct S;",
    ];
    for text in evasions {
        let found: Vec<String> = pieces_of(&["edge", "log"], text).iter().flat_map(violations).collect();
        assert!(!found.is_empty(), "not found: {text}");
    }
    let in_the_parent = pieces_of(&["edge"], "pub use output_file::write;");
    assert_eq!(in_the_parent.iter().flat_map(violations).count(), 1);
}

#[test]
fn allowed_paths_are_let_through() {
    let allowed = [
        "use super::clock::BootClock;",
        "use super::{blocking, clock, dns::{self, hosts}, input_file, random};",
        "use crate::edge::clock;",
        "use super::log::Logger;",
        "use crate::edge::log::*;",
        "pub(crate) fn f() { self.agent(); self::g(); }",
        "pub(in crate::edge::log) struct S { agent: u8 }",
        "use dexsidecar_core::config::Config;",
        "use std::{fs, io::{self, Write as _}};",
        "fn f(&self, agent: u8) { std::fs::read(agent); }",
        "mod inner { use super::g; use super::super::clock; fn f() { super::super::log::g() } }",
        "#[cfg(test)] mod tests { use crate::agent::Agent; }",
        "/// As [`crate::agent`] does.\nfn f() {}",
    ];
    for text in allowed {
        let found: Vec<String> = pieces_of(&["edge", "log"], text).iter().flat_map(violations).collect();
        assert!(found.is_empty(), "{text}: {found:?}");
    }
}
