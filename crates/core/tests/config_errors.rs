//! The errors of a configuration file, as the user reads them.

use dexsidecar_core::config::{Config, ConfigFile, Locate, Outputs, Problem, RawSettings};

fn problems(content: &[u8]) -> Vec<Problem> {
    let file =
        ConfigFile { name: "dexsidecar.yaml", path: std::path::Path::new("/dexsidecar.yaml"), content };
    Config::read_file(file, &RawSettings::default(), Outputs::Required, Locate::AS_TEXT)
        .expect_err("mistakes")
}

const TWENTY_MISTAKES: &str = "\
version: v2
log: {level: loud, formt: json}
listen: everywhere
defaults:
  name: shared
  subject_token_file: [/var/run/secrets/subject/token]
  connector_id: kubernetes
  client_secret: canary
tokens:
  - name: Prometheus
    token_endpoint: dex.example.com/token
    refresh_before: 8
    output:
      - path: /run/a
    outputs:
      - path: /run/a
        mode: rw
      - path: /run/a
      - path: /run/b
        format: json
        prefix: \"Bearer \"
    on_update:
      - http: {url: \"http://8.8.8.8/reload\"}
      - signal: {process: nginx, signal: HUUP}
      - exec: {command: notify}
  - name: incus
    issuer: https://dex.example.com
    subject_token_file: /run/d/
    requested_token_type: idtoken
    form: {scope: openid}
    audience: kubernetes
    name: other
    outputs:
      - path: /run/d/
      - {}
";

#[test]
fn twenty_mistakes_are_reported_at_once_each_with_its_place_and_its_fix() {
    let lines: Vec<_> = problems(TWENTY_MISTAKES.as_bytes()).iter().map(Problem::to_string).collect();
    assert!(lines.len() >= 20, "{lines:#?}");
    assert!(!lines.concat().contains("canary"), "{lines:#?}");
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn what_changes_the_meaning_of_a_document_is_refused() {
    for (text, what) in [
        ("version: v1\nversion: v1\n", "2:1: version: is a duplicate of the key in line 1"),
        ("version: &a v1\n", "version: has an anchor (&)"),
        ("version: !!str v1\n", "version: has a tag (!)"),
        ("version: &a v1\nlog: *a\n", "log: is an alias (*)"),
        ("log: {<<: {level: info}}\n", "log.<<: is a merge key"),
        ("version: v1\n---\nversion: v1\n", "has a second document"),
        ("? [a]\n: b\n", "has a key that is no text"),
        ("version: v1\ntokens: [\n", "is not YAML"),
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("[]", "is not a map"),
    ] {
        let lines: Vec<_> = problems(text.as_bytes()).iter().map(Problem::to_string).collect();
        assert!(lines.iter().any(|line| line.contains(what)), "{text:?}: {lines:#?}");
    }
    assert!(problems(b"version: v1\nx: \xff\n")[0].to_string().contains("2:1: the file: is not UTF-8"));
}

/// Each of these is as large as a file may be, or as deep, or as wide. In quadratic time, the test
/// would not end.
#[test]
fn a_file_that_is_as_large_as_possible_is_refused_and_not_worked_on_for_long() {
    let largest = 1024 * 1024;
    let repeated = |text: &str| text.repeat(largest / text.len());
    let nested = |open: &str| problems(repeated(open).as_bytes()).len();
    for open in [
        "[", "{", "- ", "? ", "a: {", "[[a],", "- - a\n", "\"", "'", "|\n", "&a ", "!a ", "*a ", "a\n",
        "%a\n", "#",
    ] {
        assert!(nested(open) > 0, "{open:?}");
    }
    let keys: String = (0..100_000).map(|number| format!("k{number}: v\n")).collect();
    let last = problems(keys.as_bytes()).pop().unwrap().to_string();
    assert!(last.contains("has more than 256 elements"), "{last}");
    let wide: String = (0..4_000)
        .map(|number| format!("- {{{}}}\n", "a, b, c, ".repeat(20) + &number.to_string()))
        .collect();
    assert!(problems(wide.as_bytes()).len() <= 201);
    assert!(problems(&vec![b' '; largest + 1])[0].to_string().contains("is larger than 1 MiB"));
}
