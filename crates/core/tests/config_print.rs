//! `config print`: the printed file is read as the configuration that was printed, except for the
//! secrets that it does not show.

use dexsidecar_core::config::{Config, ConfigFile, Locate, Outputs, RawSettings, TokenConfig};
use dexsidecar_core::exchange::{ACCESS_TOKEN, Client, ID_TOKEN, Source, TOKEN_EXCHANGE};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::settings::keys::Section;
use dexsidecar_core::settings::{Dialect, is_public_field};
use proptest::prelude::*;
use std::path::Path;

fn environment(variables: &[(String, String)]) -> Config {
    let variables =
        variables.iter().map(|(name, value)| (name.clone(), Secret::new(value.clone()))).collect::<Vec<_>>();
    Config::read(&RawSettings::of_variables(variables), Outputs::Required).expect("valid variables")
}

/// Reads a printed file in which the user has replaced each `TODO`.
fn file(text: &str) -> Config {
    let text = &text.replace("TODO", "given");
    let file =
        ConfigFile { name: "printed.yaml", path: Path::new("/printed.yaml"), content: text.as_bytes() };
    let read = Config::read_file(file, &RawSettings::default(), Outputs::Required, Locate::AS_TEXT);
    read.unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
}

/// What the printed file says of a token of the environment: defaults are written out, what is
/// empty is left out, and a secret is a file to be written.
fn as_printed(mut token: TokenConfig) -> TokenConfig {
    let todo = || Source::File("given".into());
    let exchange = &mut token.exchange;
    exchange.dialect = Dialect::File;
    let (path, query) = exchange.endpoint.url.target().split_once('?').expect("a query");
    assert!(!query.is_empty());
    exchange.endpoint.url = exchange.endpoint.url.with_target(&format!("{path}?given"));
    if let Some(Client::Pair(Source::Text(pair))) = &exchange.client {
        let pair = pair.expose();
        let (id, secret) = pair.split_once(':').unwrap_or((pair, ""));
        let secret_file = Some("given".into()).filter(|_| !secret.is_empty());
        exchange.client = Some(Client::Id { id: id.to_owned(), secret_file });
    }
    let key_of_its_own = |name: &str| is_public_field(name) || name == "grant_type";
    exchange.fields.retain(|(name, source)| match source {
        Source::Text(text) => !text.is_empty() || !key_of_its_own(name),
        Source::File(_) | Source::GithubActions { .. } => true,
    });
    for (name, source) in &mut exchange.fields {
        if matches!(source, Source::Text(_)) && !key_of_its_own(name) {
            *source = todo();
        }
    }
    for (name, default) in [
        ("grant_type", TOKEN_EXCHANGE),
        ("requested_token_type", ACCESS_TOKEN),
        ("subject_token_type", ID_TOKEN),
    ] {
        if !exchange.fields.iter().any(|(known, _)| known == name) {
            exchange.fields.push((name.to_owned(), Source::Text(Secret::new(default.to_owned()))));
        }
    }
    exchange.fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    token
}

/// A value without line breaks at its end, which are removed, and without references.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9:/._-]{1,12}",
        "[ -~]{0,10}[a-z]",
        "[\\PC\u{202e}\u{1b}\n\t\"\\\\#:'&*!|>%@` -]{0,8}[a-z]",
        Just("null".to_owned()),
        Just("0640".to_owned()),
        Just("true".to_owned()),
    ]
    .prop_filter("a reference is warned about", |text| !text.contains('$'))
}

fn variable(
    name: &'static str,
    values: impl Strategy<Value = String>,
) -> impl Strategy<Value = Option<(String, String)>> {
    proptest::option::of(values.prop_map(move |value| (name.to_owned(), value)))
}

fn duration() -> impl Strategy<Value = String> {
    prop_oneof![Just("90s"), Just("1h1m1s"), Just("36h30m"), Just("1500ms"), Just("1s1ns")]
        .prop_map(str::to_owned)
}

fn variables() -> impl Strategy<Value = Vec<(String, String)>> {
    let subject = prop_oneof![
        value().prop_map(|path| ("dex_file_subject_token".to_owned(), format!("/in/{path}"))),
        value().prop_map(|token| ("dex_subject_token".to_owned(), token)),
    ];
    let optional = (
        (
            variable("dex_connector_id", value()),
            variable("dex_scope", value()),
            variable("dex_audience", value()),
            variable("dex_requested_token_type", Just(ID_TOKEN.to_owned())),
            variable("dex_x_other", value()),
            variable("dex_x_type", value()),
            variable("dex_Resource", value()),
            // A path that begins with ~ is refused in a file.
            variable("dex_file_x_file", value().prop_map(|path| format!("x/{path}"))),
        ),
        (
            variable(
                "dex_basic_auth",
                ("[a-z]{1,5}", "(:.{0,5}[a-z]|:)?").prop_map(|(id, secret)| id + &secret),
            ),
            variable("dex_refresh_before", duration()),
            variable("dex_refresh_interval", duration()),
            variable("DEXSIDECAR_KEY_CHECK", duration()),
            variable("DEXSIDECAR_ATTEMPT_TIMEOUT", Just("2500ms".to_owned())),
            variable("DEXSIDECAR_CA_FILE", value().prop_map(|path| format!("/ca/{path}"))),
            variable("DEXSIDECAR_OUTPUT_MODE", Just("640".to_owned())),
            variable("DEXSIDECAR_OUTPUT_GROUP", Just("4711".to_owned())),
        ),
        (
            variable("DEXSIDECAR_ON_EXPIRY", Just("remove".to_owned())),
            variable(
                "DEXSIDECAR_WRITE_MODE",
                prop_oneof![Just("atomic".to_owned()), Just("in-place".to_owned())],
            ),
            variable("DEXSIDECAR_LOG", Just("debug".to_owned())),
            variable("DEXSIDECAR_LOG_FORMAT", Just("json".to_owned())),
            variable("DEXSIDECAR_TERMINATION_LOG", Just("/dev/log: x".to_owned())),
            variable("DEXSIDECAR_ALLOW_INSECURE_HTTP", Just("true".to_owned())),
        ),
    );
    // An output with .. is accepted in the environment, and refused in a file.
    let path = value().prop_map(|name| format!("/out/{name}x"));
    let path = path.prop_filter("a file refuses it", |path| path.split('/').all(|part| part != ".."));
    let path = path.prop_map(|path| ("dex_access_token_file".to_owned(), path));
    let endpoint = prop_oneof![
        Just("https://dex.example"),
        Just("https://dex.dex.svc.cluster.local."),
        Just("http://localhost.:5556"),
        Just("http://[::1]:443"),
    ];
    let endpoint = endpoint.prop_map(|origin| ("dex_endpoint".to_owned(), format!("{origin}/a?b=c%20")));
    (optional, endpoint, subject, path).prop_map(|((a, b, c), endpoint, subject, path)| {
        let mut all = vec![endpoint, subject, path];
        all.extend([a.0, a.1, a.2, a.3, a.4, a.5, a.6, a.7].into_iter().flatten());
        all.extend([b.0, b.1, b.2, b.3, b.4, b.5, b.6, b.7].into_iter().flatten());
        all.extend([c.0, c.1, c.2, c.3, c.4, c.5].into_iter().flatten());
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_environment_is_read_back_from_what_is_printed(variables in variables()) {
        let config = environment(&variables);
        let printed = config.print();
        let again = file(&printed);
        let expected: Vec<_> = config.tokens.iter().cloned().map(as_printed).collect();
        prop_assert_eq!(&again.tokens, &expected, "{}", printed);
        prop_assert_eq!((again.log, &again.termination_log, again.listen), (config.log, &config.termination_log, config.listen));
        // What a file says is printed as it is.
        let twice = file(&again.print());
        prop_assert_eq!(&twice.tokens, &again.tokens, "{}", again.print());
        prop_assert_eq!(twice.print(), again.print());
    }
}

#[test]
fn the_example_is_read_back_from_what_is_printed() {
    let config = file(include_str!("../src/config/file/example.yaml"));
    let again = file(&config.print());
    assert_eq!(again.tokens, config.tokens, "{}", config.print());
    assert_eq!((again.log, again.listen), (config.log, config.listen));
    assert_eq!(again.print(), config.print());
}

const ONE_TOKEN: &str = "\
version: v1
tokens:
  - token_endpoint: https://dex.example/token
    connector_id: x
    subject_token_file: /subject
    outputs: [{path: /run/token}]
";

/// Such as a field `issuer`, which is not the key.
#[test]
fn form_fields_with_the_names_of_other_keys_are_read_back() {
    let mut read_back = vec![];
    for key in Section::Token.keys() {
        let name = key.name;
        let text = format!("{ONE_TOKEN}    form: {{{name}: sent}}\n");
        let config = ConfigFile { name: "f.yaml", path: Path::new("/f.yaml"), content: text.as_bytes() };
        // The fields that have a key are refused here.
        let read = Config::read_file(config, &RawSettings::default(), Outputs::Required, Locate::AS_TEXT);
        let Ok(config) = read else { continue };
        let printed = config.print();
        assert_eq!(file(&printed).print(), printed, "{name}");
        let field = (name.to_owned(), Source::Text(Secret::new("sent".to_owned())));
        assert!(file(&printed).tokens[0].exchange.fields.contains(&field), "{printed}");
        read_back.push(name);
    }
    for name in ["issuer", "subject_token_file", "client_secret_file", "outputs", "form", "name"] {
        assert!(read_back.contains(&name), "{name}: {read_back:?}");
    }
}

/// A name that YAML would take for anything else, or whose key is too long to stand before a colon.
/// The fuzzer found a name of control characters, each of which is written as ten characters.
#[test]
fn form_fields_with_odd_names_are_read_back() {
    let long = ["a".repeat(2_000), "\u{b}".repeat(200), "\u{202e}".repeat(200), "\"".repeat(600)];
    let urls = ["https://a:b@c", "https://d:e@c"].map(str::to_owned);
    let odd =
        ["? a", "- a", "a: b", "a #b", "{a", "*a", "&a", "!a", "%a", "'", "~", "null", "1", " ", "\n", "é"];
    for names in odd.map(|name| vec![name.to_owned()]).into_iter().chain([long.to_vec(), urls.to_vec()]) {
        let quoted = names.iter().map(|name| serde_json::to_string(name).expect("a string"));
        let form: String = quoted.map(|name| format!("      ? {name}\n      : sent\n")).collect();
        let printed = file(&format!("{ONE_TOKEN}    form:\n{form}")).print();
        let read = file(&printed);
        assert_eq!(read.print(), printed);
        for name in names {
            let field = (name, Source::Text(Secret::new("sent".to_owned())));
            assert!(read.tokens[0].exchange.fields.contains(&field), "{field:?}\n{printed}");
        }
    }
}

#[test]
fn secrets_are_not_printed() {
    let variables = [
        ("dex_endpoint", "https://u:canary@dex.example/token"),
        ("dex_access_token_file", "/run/token"),
        ("dex_subject_token", "canary"),
        ("dex_actor_token", "canary"),
        ("dex_client_secret", "canary"),
        ("dex_password", "canary"),
    ];
    let printed = environment(&variables.map(|(name, value)| (name.to_owned(), value.to_owned()))).print();
    assert!(!printed.contains("canary"), "{printed}");
    assert!(printed.contains("client_id: u\n    client_secret_file: TODO  #"), "{printed}");
    assert!(printed.contains("form_files:\n      password: TODO  #"), "{printed}");
    let headers = "version: v1\ntokens:\n- issuer: https://dex.example\n  token_endpoint: https://dex.example/?canary\n  subject_token_file: /s\n  outputs: [{path: /t}]\n  \
                   on_update: [{http: {url: \"http://localhost/?key=canary\", headers: {X-Key: canary}}}]\n";
    let printed = file(headers).print();
    assert!(!printed.contains("canary") && printed.contains("X-Key: TODO"), "{printed}");
}

#[test]
fn no_user_or_password_of_a_url_is_printed() {
    let variables = [
        ("dex_endpoint", "https://user:canary@dex.example/token"),
        ("dex_subject_token", "a.b.c"),
        ("dex_access_token_file", "/out/token"),
        ("dex_resource", "https://user:canary@api.example/a?b=c"),
        ("dex_audience", "https://canary@api.example"),
        ("dex_scope", "openid https://user:canary/2@api.example"),
        ("dex_connector_id", "https://api.example:8443/a@b"),
    ];
    let printed = environment(&variables.map(|(name, value)| (name.to_owned(), value.to_owned()))).print();
    assert!(!printed.contains("canary"), "{printed}");
    for shown in
        ["https://TODO@api.example/a?b=c", "openid https://TODO@api.example", "https://api.example:8443/a@b"]
    {
        assert!(printed.contains(shown), "{shown}: {printed}");
    }
    let printed = file(
        "version: v1\ntokens:\n- name: a\n  token_endpoint: https://dex.example/token\n  \
         subject_token_file: /in\n  connector_id: k3s\n  resource: [\"https://u:canary@a\", \"https://u:canary#@b\"]\n  \
         form: {x: \"https://canary@c\"}\n  outputs: [{path: /out/token}]\n  \
         on_update: [{exec: {command: [/bin/sh, -c, \"curl 'https://u:canary@d/' https://canary@e\"]}}]\n",
    );
    let printed = printed.print();
    assert!(!printed.contains("canary"), "{printed}");
    assert_eq!(printed.matches("https://TODO@").count(), 5, "{printed}");
}
