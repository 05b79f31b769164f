//! A secret is turned into text only in the files that this list names.

use std::collections::BTreeSet;

use crate::sources::{Piece, Word, pieces, pieces_of, plain, words};

const ROOTS: [&str; 5] = [
    "crates/core/src/lib.rs",
    "crates/edge/src/lib.rs",
    "crates/agent/src/lib.rs",
    "crates/sidecar/src/lib.rs",
    "crates/sidecar/src/main.rs",
];

/// The method that turns a secret into text (`Secret::expose`).
const EXPOSE: &str = "expose";

/// What may call it, each with its reason.
const MAY_EXPOSE: &[(&str, &str)] = &[
    ("crates/core/src/claims.rs", "reads the claims of a token"),
    ("crates/core/src/config.rs", "tells whether a value is empty"),
    ("crates/core/src/config/fields.rs", "reads token types and scopes"),
    ("crates/core/src/config/file/level.rs", "reads the configuration file"),
    ("crates/core/src/config/parse.rs", "reads settings"),
    ("crates/core/src/config/print.rs", "prints the id of a client, and form fields that are no secrets"),
    ("crates/core/src/config/probe.rs", "reads the names of token files"),
    ("crates/core/src/config/yaml.rs", "compares the keys of the configuration file"),
    ("crates/core/src/config/values.rs", "removes line breaks, and finds references"),
    ("crates/core/src/exchange.rs", "builds the request"),
    ("crates/core/src/output/format.rs", "renders a token in a format, and reads it back"),
    ("crates/core/src/response.rs", "removes secrets from what is quoted"),
    ("crates/core/src/secret.rs", "defines it"),
    ("crates/core/src/token_file.rs", "judges the content of the token file"),
    ("crates/core/src/github_actions.rs", "builds the request for a subject token"),
    ("crates/sidecar/src/commands/token.rs", "prints a token"),
    ("crates/sidecar/src/exec_plugin.rs", "prints a token"),
    ("crates/sidecar/src/git_credential.rs", "prints a token"),
    ("crates/sidecar/src/environment.rs", "reads a switch, and paths of the system's CA certificates"),
    ("crates/agent/src/exchange.rs", "compares the inputs of attempts"),
    ("crates/edge/src/output_file/atomic.rs", "writes the token file"),
    ("crates/edge/src/output_file/in_place.rs", "writes the token file"),
    ("crates/edge/src/http_client/proxy.rs", "reads the proxy's URL"),
    ("crates/edge/src/http_client/request.rs", "sends the request"),
];

/// Whether the piece names the method, in whatever form it is called or passed on.
fn exposes(piece: &Piece) -> bool {
    let mut found = false;
    words(&piece.tokens, &mut |word| {
        found |= matches!(word, Word::Ident(ident) if plain(ident) == EXPOSE);
    });
    found
}

#[test]
fn secrets_are_exposed_in_the_files_of_the_list_only() {
    let pieces = ROOTS.iter().flat_map(|root| pieces(root));
    let exposing: BTreeSet<String> = pieces.filter(exposes).map(|piece| piece.file).collect();
    let allowed: BTreeSet<String> = MAY_EXPOSE.iter().map(|(file, _)| (*file).to_owned()).collect();
    let unexpected: Vec<_> = exposing.difference(&allowed).collect();
    assert!(unexpected.is_empty(), "these expose secrets and are not in the list: {unexpected:#?}");
    let stale: Vec<_> = allowed.difference(&exposing).collect();
    assert!(stale.is_empty(), "these are in the list and expose nothing: {stale:#?}");
}

#[test]
fn each_form_of_exposing_is_found() {
    for text in [
        "fn f(s: &Secret) { s.expose(); }",
        "fn f(s: &Secret) { s\n    .expose(); }",
        "fn f(s: &Secret) { Secret::expose(s); }",
        "fn f(s: &Secret) { <Secret>::expose(s); }",
        "fn f(s: &Secret) { crate::secret::Secret::expose(s); }",
        "fn f(s: Option<&Secret>) { s.map(Secret::expose); }",
        "fn f(s: &Secret) { s.r#expose(); }",
        "fn f(s: &Secret) { println!(\"{}\", s.expose()); }",
        "macro_rules! m { ($s:expr) => { $s.expose() }; }",
        "impl X { fn f(&self) { self.0.expose(); } }",
        "mod inner { fn f(s: &Secret) { s.expose(); } }",
        "use Secret as S; fn f(s: &S) { S::expose(s); }",
        "const F: fn(&Secret) -> &str = Secret::expose;",
    ] {
        assert!(pieces_of(&["room"], text).iter().any(exposes), "not found: {text}");
    }
    for text in ["/// Calls [`Secret::expose`].\nfn f() {}", "fn f() { g(\"expose\"); }", "fn exposed() {}"] {
        assert!(!pieces_of(&["room"], text).iter().any(exposes), "{text}");
    }
}
