//! The name of a setting is spelled in the table of settings, and a failure's code in the table of
//! failures. Everything else refers to the tables, so that a name can be found, and rendered, in
//! one place.

use std::collections::{BTreeMap, BTreeSet};

use dexsidecar_core::failure::{Code, WRONG_SETTINGS};
use dexsidecar_core::settings::{FIELD_PREFIX, FILE_PREFIX, KNOWN_FIELDS, ORIGINAL, PREFIX, SETTINGS};
use syn::Lit;

use crate::sources::{Piece, Word, pieces, pieces_of, words};

const ROOTS: [&str; 5] = [
    "crates/core/src/lib.rs",
    "crates/edge/src/lib.rs",
    "crates/agent/src/lib.rs",
    "crates/sidecar/src/lib.rs",
    "crates/sidecar/src/main.rs",
];

/// What may spell a setting, each with its reason. The shorter, the better.
const MAY_SPELL_SETTINGS: &[(&str, &str)] = &[
    ("crates/core/src/settings.rs", "the table"),
    ("crates/core/src/settings/command.rs", "examples"),
    ("crates/core/src/failure/table.rs", "the fixes"),
    ("crates/core/src/failure.rs", "the step `subject_token`"),
    ("crates/core/src/config/file/fields.rs", "the keys of the configuration file"),
    ("crates/core/src/config/probe.rs", "a fix"),
    ("crates/core/src/config/print.rs", "the keys of the configuration file"),
    ("crates/core/src/settings/dialect.rs", "a variable with two keys"),
    ("crates/core/src/settings/keys.rs", "the table of keys"),
    ("crates/core/src/config/parse.rs", "warnings about form fields, and their fixes"),
    ("crates/core/src/output/format.rs", "the member `scope` of a response"),
    ("crates/core/src/diagnosis.rs", "causes, and the settings that cause them"),
    ("crates/sidecar/src/check/mod.rs", "messages and notes"),
    ("crates/sidecar/src/cli.rs", "the usage lines of the help"),
    ("crates/agent/src/exchange.rs", "form fields whose values are no secrets, and a message"),
    ("crates/sidecar/src/token.rs", "a message"),
    ("crates/sidecar/src/commands/refresh.rs", "a message"),
    ("crates/sidecar/src/commands/token.rs", "messages, and a form field"),
];

/// What may spell a failure's code, each with its reason.
const MAY_SPELL_CODES: &[(&str, &str)] = &[
    ("crates/core/src/failure.rs", "the code of wrong settings"),
    ("crates/core/src/failure/table.rs", "the table"),
    ("crates/core/src/event.rs", "the events `token_expired` and `action_failed`"),
    (
        "crates/core/src/response/refusal.rs",
        "the error codes of RFC 6749, some of which are codes of ours too",
    ),
];

/// The names of settings that a text has: variables, options, form fields.
fn settings_in(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let is_known =
        |name: &str| ORIGINAL.iter().any(|setting| setting.name == name) || KNOWN_FIELDS.contains(&name);
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')) {
        let is_option = |name: &str| SETTINGS.iter().any(|setting| setting.option == name);
        let is_setting = word.strip_prefix("--").is_some_and(is_option)
            || word.strip_prefix(PREFIX).is_some_and(|rest| !rest.is_empty())
            || word.strip_prefix(FILE_PREFIX).is_some_and(|name| name.is_empty() || is_known(name))
            || word.strip_prefix(FIELD_PREFIX).is_some_and(is_known);
        if is_setting {
            found.insert(word.to_owned());
        }
    }
    // Without a prefix a name is one of these only by itself: `scope` is also a word, and
    // `endpoint` a log field.
    let original = ORIGINAL.iter().map(|setting| setting.name).filter(|name| name.contains('_'));
    let fields = original.chain(KNOWN_FIELDS.iter().copied());
    let options = SETTINGS.iter().map(|setting| setting.option).filter(|option| option.contains('-'));
    found.extend(fields.chain(options).filter(|name| *name == text).map(str::to_owned));
    found
}

/// The codes of failures that a text has. A code that is an ordinary word counts only by itself.
fn codes_in(text: &str) -> BTreeSet<String> {
    let words: BTreeSet<&str> = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    let is_in = |name: &str| name == text || name.contains('_') && words.contains(name);
    let codes = Code::ALL.iter().map(|code| code.entry().name).chain([WRONG_SETTINGS]);
    codes.filter(|name| is_in(name)).map(str::to_owned).collect()
}

/// What a rule finds in the literals of a piece.
fn found_in(piece: &Piece, rule: fn(&str) -> BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    words(&piece.tokens, &mut |word| {
        let Word::Literal(literal) = word else { return };
        let text = match Lit::new(literal.clone()) {
            Lit::Str(text) => text.value(),
            Lit::ByteStr(bytes) => String::from_utf8_lossy(&bytes.value()).into_owned(),
            Lit::CStr(text) => text.value().to_string_lossy().into_owned(),
            _ => return,
        };
        found.extend(rule(&text));
    });
    found
}

/// Holds all sources to a rule and its exceptions.
fn assert_spelled_only_in(rule: fn(&str) -> BTreeSet<String>, allowed: &[(&str, &str)]) {
    let mut spelled: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for piece in ROOTS.iter().flat_map(|root| pieces(root)) {
        let found = found_in(&piece, rule);
        if !found.is_empty() {
            spelled.entry(piece.file).or_default().extend(found);
        }
    }
    let stale: Vec<_> = allowed.iter().filter(|(file, _)| !spelled.contains_key(*file)).collect();
    assert!(stale.is_empty(), "these are allowed to, and spell none: {stale:#?}");
    spelled.retain(|file, _| !allowed.iter().any(|(allowed, _)| allowed == file));
    assert!(spelled.is_empty(), "these spell a name that has a table: {spelled:#?}");
}

#[test]
fn a_setting_is_spelled_in_the_table_and_in_the_fixes_only() {
    assert_spelled_only_in(settings_in, MAY_SPELL_SETTINGS);
}

#[test]
fn a_code_is_spelled_in_the_table_only() {
    assert_spelled_only_in(codes_in, MAY_SPELL_CODES);
}

#[test]
fn each_form_of_a_setting_s_name_is_found() {
    for text in [
        r#"const X: &str = "dex_endpoint";"#,
        r#"const X: &[u8] = b"dex_endpoint";"#,
        r#"const X: &CStr = c"dex_endpoint";"#,
        r##"const X: &str = r#"set dex_endpoint"#;"##,
        r#"const X: &str = "dex_\u{65}ndpoint";"#,
        r#"fn f() { format!("set dex_connector_id to {id}"); }"#,
        r#"fn f() { g(concat!("x", "dex_file_subject_token")); }"#,
        r#"macro_rules! m { () => { "dex_grant_type" }; }"#,
        r#"fn f() { match x { "connector_id" => {} _ => {} } }"#,
        r#"fn f() { config.field("subject_token_type"); }"#,
        r#"const X: &str = "DEXSIDECAR_CA_FILE";"#,
        r#"const X: &str = "DEXSIDECAR_OF_TOMORROW";"#,
        r#"const X: &str = "set it with --attempt-timeout";"#,
        r#"const X: &str = "min-ttl";"#,
        r#"mod inner { const X: &str = "see `dex_basic_auth`"; }"#,
        r#"#[deprecated(note = "use dex_scope")] fn f() {}"#,
    ] {
        let found = pieces_of(&["room"], text).iter().any(|piece| !found_in(piece, settings_in).is_empty());
        assert!(found, "not found: {text}");
    }
    for text in [
        "/// As dex_endpoint says.\nfn f() {}",
        "// dex_endpoint\nfn dex_endpoint() {}",
        r#"const X: &str = "dex_";"#,
        r#"const X: &str = "dex_{name}";"#,
        r#"const X: &str = "dex_operator";"#,
        r#"const X: &str = "the scope of a token";"#,
        r#"#[cfg(test)] mod tests { const X: &str = "dex_endpoint"; }"#,
    ] {
        let found = pieces_of(&["room"], text).iter().any(|piece| !found_in(piece, settings_in).is_empty());
        assert!(!found, "{text}");
    }
}

#[test]
fn each_form_of_a_code_is_found() {
    for text in [
        r#"const X: &str = "connector_unknown";"#,
        r#"const X: &str = "code=connector_unknown";"#,
        r#"const X: &str = "rejected";"#,
        r#"fn f() { log!("see {}", "access_denied"); }"#,
        r#"fn f() { matches!(code, "output_failed" | "x") }"#,
        r#"const X: &[u8] = b"timed_out";"#,
        r#"const X: &str = "wrong_settings";"#,
    ] {
        assert!(
            pieces_of(&["room"], text).iter().any(|piece| !found_in(piece, codes_in).is_empty()),
            "{text}"
        );
    }
    for text in [
        r#"const X: &str = "it was rejected";"#,
        "/// The code `timed_out`.\nfn timed_out() {}",
        r#"const X: &str = "not_connector_unknown_at_all";"#,
    ] {
        assert!(
            pieces_of(&["room"], text).iter().all(|piece| found_in(piece, codes_in).is_empty()),
            "{text}"
        );
    }
}
