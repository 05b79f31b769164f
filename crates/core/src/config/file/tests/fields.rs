//! The form fields and the client of a token, between the token itself and the defaults.

use super::*;

/// A file with one token. The defaults and the token have these further lines, without indentation.
fn with_defaults(defaults: &str, own: &str) -> String {
    format!(
        "version: v1\ndefaults:\n  issuer: https://dex.example\n  {}\ntokens:\n  - outputs: [{{path: /run/token}}]\n    \
         subject_token_file: /s\n    {}\n",
        defaults.replace('\n', "\n  "),
        own.replace('\n', "\n    ")
    )
}

/// The lines that set a form field, each with the value that it is read to.
fn holders(name: &str, value: &str) -> Vec<(String, Source)> {
    let in_file = (format!("form_files: {{{name}: /{value}}}"), Source::File(format!("/{value}").into()));
    let as_text = match name {
        "x_other" | "name" | "issuer" => format!("form: {{{name}: \"{value}\"}}"),
        "audience" | "resource" => format!("{name}: [\"{value}\"]"),
        _ => format!("{name}: \"{value}\""),
    };
    vec![(as_text, text(value)), in_file]
}

const FORM_FIELDS: [&str; 11] = [
    "connector_id",
    "scope",
    "grant_type",
    "subject_token_type",
    "requested_token_type",
    "actor_token_type",
    "audience",
    "resource",
    "x_other",
    // Keys of a token that are no form fields.
    "name",
    "issuer",
];

#[test]
fn a_form_field_is_sent_once_and_the_token_comes_before_the_defaults() {
    for name in FORM_FIELDS {
        for (default, _) in holders(name, "urn:d") {
            for (own, expected) in holders(name, "urn:o") {
                let fields = read(&with_defaults(&default, &own)).unwrap().tokens.remove(0).exchange.fields;
                let values: Vec<_> =
                    fields.iter().filter(|(field, _)| field == name).map(|(_, source)| source).collect();
                assert_eq!(values, [&expected], "{default} and {own}");
            }
        }
    }
}

#[test]
fn no_form_field_but_audience_and_resource_repeats() {
    for name in FORM_FIELDS {
        for lines in holders(name, "urn:d").into_iter().chain([(String::new(), text(""))]) {
            let fields = read(&with_defaults(&lines.0, "")).unwrap().tokens.remove(0).exchange.fields;
            for (index, (field, _)) in fields.iter().enumerate() {
                assert!(fields[..index].iter().all(|(other, _)| other != field), "{field}: {}", lines.0);
            }
        }
    }
    let repeated = token("    audience: [a, b]\n    resource: [c, d]\n").exchange.fields;
    let count = |name: &str| repeated.iter().filter(|(field, _)| field == name).count();
    assert_eq!((count("audience"), count("resource")), (2, 2));
}

#[test]
fn a_form_field_that_is_set_twice_on_one_level_is_refused() {
    for name in FORM_FIELDS {
        let both = holders(name, "urn:x").into_iter().map(|(line, _)| line).collect::<Vec<_>>().join("\n");
        for (text, path) in [(with_defaults(&both, ""), "defaults"), (with_defaults("", &both), "tokens[0]")]
        {
            let reported = problems(&text);
            let end = format!("{path}.form_files.{name}: is also set as text: remove one of them");
            assert!(reported.len() == 1 && reported[0].ends_with(&end), "{reported:?}");
        }
    }
}

#[test]
fn a_token_with_a_client_of_its_own_takes_no_secret_from_the_defaults() {
    let client = |defaults: &str, own: &str| {
        read(&with_defaults(defaults, own)).unwrap().tokens.remove(0).exchange.client
    };
    let id = |id: &str, file: Option<&str>| {
        Some(Client::Id { id: id.to_owned(), secret_file: file.map(PathBuf::from) })
    };
    let (with_secret, pair) = ("client_id: d\nclient_secret_file: /d", "basic_auth_file: /d");
    assert_eq!(client(with_secret, ""), id("d", Some("/d")));
    assert_eq!(client("client_secret_file: /d", "client_id: o"), id("o", None));
    assert_eq!(client(with_secret, "client_id: o"), id("o", None));
    assert_eq!(client(with_secret, "client_id: o\nclient_secret_file: /o"), id("o", Some("/o")));
    assert_eq!(client(with_secret, "client_secret_file: /o"), id("d", Some("/o")));
    assert_eq!(client(pair, "client_id: o"), id("o", None));
    assert_eq!(client(with_secret, pair), Some(Client::Pair(Source::File("/d".into()))));
}
