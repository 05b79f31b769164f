//! cargo is run by `dexsidecar_fetch::workspace::cargo`, which removes the variables that compile
//! crates again.

use proc_macro2::{TokenStream, TokenTree};

use crate::sources::{files, plain};

/// What may find cargo by itself.
const DEFINITION: &str = "fetch/src/workspace.rs";

/// Whether the tokens have a call such as `Command::new("cargo")` or `var_os("CARGO")`.
fn finds_cargo(tokens: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_call = |pair: &[TokenTree]| match pair {
        [TokenTree::Ident(function), TokenTree::Group(arguments)] => {
            let arguments = arguments.stream().to_string();
            match plain(function).as_str() {
                "new" => arguments.trim_end_matches(',').trim() == "\"cargo\"",
                "var" | "var_os" => arguments.trim_end_matches(',').trim() == "\"CARGO\"",
                _ => false,
            }
        }
        _ => false,
    };
    tokens.windows(2).any(is_call)
        || tokens.into_iter().any(|token| match token {
            TokenTree::Group(group) => finds_cargo(group.stream()),
            _ => false,
        })
}

fn tokens_of(text: &str) -> TokenStream {
    text.parse().expect("the text is Rust")
}

#[test]
fn every_cargo_runs_without_the_variables_that_compile_crates_again() {
    let finding = files().into_iter().filter(|(_, text)| finds_cargo(tokens_of(text)));
    let finding: Vec<String> = finding.map(|(file, _)| file).collect();
    assert_eq!(finding, [DEFINITION], "use dexsidecar_fetch::workspace::cargo()");
}

#[test]
fn each_form_of_finding_cargo_is_found() {
    for text in [
        r#"fn f() { Command::new("cargo"); }"#,
        r#"fn f() { std::process::Command::new( "cargo", ).arg("build"); }"#,
        r#"fn f() { env::var("CARGO"); }"#,
        "fn f() { g(std::env::var_os(\n    \"CARGO\"\n)); }",
        r#"#[cfg(test)] mod tests { fn f() { assert!(Command::new("cargo").status().is_ok()); } }"#,
    ] {
        assert!(finds_cargo(tokens_of(text)), "not found: {text}");
    }
    for text in [
        r#"// Command::new("cargo")"#,
        r#"fn f() { Command::new("cargo-deny"); }"#,
        r#"fn f() { env::var_os("CARGO_HOME"); }"#,
        r##"const X: &str = r#"Command::new("cargo")"#;"##,
    ] {
        assert!(!finds_cargo(tokens_of(text)), "{text}");
    }
}
