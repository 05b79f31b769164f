//! What a configuration file is read to, and every mistake in one.

mod bounds;
mod fields;

use super::*;
use crate::action::{Action, SignalTarget};
use crate::exchange::{ACCESS_TOKEN, Client, ID_TOKEN, Source, TOKEN_EXCHANGE};
use crate::secret::Secret;

pub(crate) fn read_with(text: &str, given: &RawSettings) -> Result<Config, Vec<Problem>> {
    Config::read_file(
        ConfigFile {
            name: "dexsidecar.yaml",
            path: Path::new("/etc/dexsidecar.yaml"),
            content: text.as_bytes(),
        },
        given,
        Outputs::Required,
        Locate::AS_TEXT,
    )
}

pub(crate) fn read(text: &str) -> Result<Config, Vec<Problem>> {
    read_with(text, &RawSettings::default())
}

fn problems(text: &str) -> Vec<String> {
    read(text).unwrap_err().iter().map(Problem::to_string).collect()
}

/// A file with one token, which has these further lines. Those with a dash end the outputs.
fn one(lines: &str) -> String {
    format!(
        "version: v1\ntokens:\n  - token_endpoint: https://dex.example/token\n    subject_token_file: /subject\n    \
         connector_id: k3s\n    outputs: [{{path: /run/token}}]\n{lines}"
    )
}

fn token(lines: &str) -> TokenConfig {
    let config = read(&one(lines)).unwrap();
    assert_eq!(config.tokens.len(), 1);
    config.tokens.into_iter().next().unwrap()
}

/// The problems of one token with these lines, without the name of the file.
fn wrong(lines: &str) -> Vec<String> {
    problems(&one(lines)).iter().map(|line| line.trim_start_matches("dexsidecar.yaml:").to_owned()).collect()
}

fn text(value: &str) -> Source {
    Source::Text(Secret::new(value.to_owned()))
}

const EXAMPLE: &str = include_str!("example.yaml");

#[test]
fn the_example_is_read_with_its_meaning() {
    let config = read(EXAMPLE).unwrap();
    assert_eq!(config.shown_warnings(), [""; 0]);
    assert_eq!(config.listen, Some("0.0.0.0:9090".parse().unwrap()));
    assert!(config.log.json);
    let [incus, prometheus, cluster] = &config.tokens[..] else { panic!("{config:?}") };
    assert_eq!((incus.name.as_str(), incus.outputs.len(), incus.actions.len()), ("incus", 2, 0));
    assert_eq!(incus.outputs[1].mode, Some(0o600));
    assert_eq!(incus.exchange.client, Some(Client::Id { id: "incus".to_owned(), secret_file: None }));
    assert_eq!(incus.exchange.endpoint.ca_file, Some("/etc/dex/ca.crt".into()));
    assert_eq!(incus.exchange.dialect, settings::Dialect::File);
    let fields: Vec<_> = incus.exchange.fields.clone();
    let expected = [
        ("connector_id", text("kubernetes")),
        ("grant_type", text(TOKEN_EXCHANGE)),
        ("requested_token_type", text(ACCESS_TOKEN)),
        ("scope", text("openid profile federated:id")),
        ("subject_token", Source::File("/var/run/secrets/subject/token".into())),
        ("subject_token_type", text(ID_TOKEN)),
    ];
    assert_eq!(fields, expected.map(|(name, source)| (name.to_owned(), source)));
    assert_eq!(
        prometheus.exchange.client,
        Some(Client::Id {
            id: "prometheus".to_owned(),
            secret_file: Some("/etc/dex-client/prometheus".into())
        })
    );
    assert_eq!(prometheus.schedule.before, Some(std::time::Duration::from_secs(28_800)));
    assert_eq!(prometheus.outputs[1].group, Some(2000));
    let [Action::Http(http), Action::Signal(signal), Action::Exec(exec)] = &prometheus.actions[..] else {
        panic!("{prometheus:?}")
    };
    assert_eq!(
        (http.method.as_str(), http.timeout.as_secs(), &http.success[..]),
        ("POST", 5, &[200..=299][..])
    );
    assert_eq!((&signal.target, signal.signal), (&SignalTarget::Process("nginx".to_owned()), 1));
    assert_eq!(
        (&exec.command[..], exec.timeout.as_secs()),
        (&["/tools/notify".to_owned(), "--token-changed".to_owned()][..], 30)
    );
    assert_eq!(cluster.exchange.endpoint.url.to_string(), "https://dex.b.example.com/token");
    assert_eq!(cluster.exchange.issuer.as_deref(), Some("https://dex.b.example.com"));
    assert_eq!(cluster.exchange.field("requested_token_type"), Some(ID_TOKEN));
    assert_eq!(cluster.exchange.field("audience"), Some("kubernetes"));
    assert_eq!(cluster.exchange.field("connector_id"), Some("cluster-a"));
    assert!(cluster.outputs[0].remove_expired);
}

#[test]
fn a_file_with_one_token_needs_no_name() {
    assert_eq!(token("").name, "default");
    let two = one(
        "  - token_endpoint: https://dex.example/token\n    subject_token_file: /s\n    outputs: [{path: /b}]\n",
    );
    assert_eq!(
        problems(&two),
        [
            "dexsidecar.yaml:3:5: tokens[0].name: is not set: name each token",
            "dexsidecar.yaml:7:5: tokens[1].name: is not set: name each token"
        ]
    );
}

#[test]
fn the_client_is_given_in_one_of_two_notations() {
    for (lines, client) in [
        ("    client_id: urn:a:b\n", Some(Client::Id { id: "urn:a:b".to_owned(), secret_file: None })),
        ("    basic_auth_file: /client\n", Some(Client::Pair(Source::File("/client".into())))),
        ("", None),
    ] {
        assert_eq!(token(lines).exchange.client, client, "{lines}");
    }
    assert_eq!(
        wrong("    client_id: a\n    basic_auth_file: /client\n"),
        ["7:16: tokens[0].client_id: and tokens[0].basic_auth_file are both set: remove one of them"]
    );
    assert_eq!(
        wrong("    client_secret_file: /secret\n"),
        [
            "7:25: tokens[0].client_secret_file: is set without client_id: set client_id too, or use basic_auth_file"
        ]
    );
    assert_eq!(
        wrong("    client_secret: hunter2\n"),
        [
            "7:5: tokens[0].client_secret: would hold a secret: write the secret to a file, and set client_secret_file to \
          its path"
        ]
    );
}

#[test]
fn audiences_and_resources_are_repeated_form_fields() {
    let token = token("    audience: [b, a]\n    resource:\n      - https://c\n");
    let audiences: Vec<_> = token.exchange.fields.iter().filter(|(name, _)| name == "audience").collect();
    assert_eq!(audiences, [&("audience".to_owned(), text("b")), &("audience".to_owned(), text("a"))]);
    assert_eq!(token.exchange.field("resource"), Some("https://c"));
}

#[test]
fn a_form_field_with_a_key_of_its_own_is_refused() {
    for (field, fix) in [
        ("connector_id", "use the key connector_id"),
        ("scope", "use the key scope"),
        ("audience", "use the key audience"),
        ("subject_token", "use the key subject_token_file"),
        ("actor_token", "use the key actor_token_file"),
        ("client_id", "use the key client_id"),
        ("client_secret", "write the secret to a file, and set client_secret_file to its path"),
    ] {
        let reported = wrong(&format!("    form: {{{field}: x}}\n"));
        assert_eq!(reported, [format!("7:12: tokens[0].form.{field}: has a key of its own: {fix}")]);
    }
    for field in ["subject_token", "actor_token", "client_secret"] {
        let reported = wrong(&format!("    form_files: {{{field}: /x}}\n"));
        let fix = format!("use the key {field}_file");
        assert_eq!(reported, [format!("7:18: tokens[0].form_files.{field}: has a key of its own: {fix}")]);
    }
    let further = token("    form: {x_other: \"\"}\n    form_files: {scope: /scope, x_file: /x}\n").exchange;
    assert_eq!(further.field("x_other"), Some(""));
    let from_files = further.fields.iter().filter(|(_, source)| matches!(source, Source::File(_)));
    assert_eq!(
        from_files.map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["scope", "subject_token", "x_file"]
    );
}

#[test]
fn a_token_that_names_its_dex_takes_neither_url_from_the_defaults() {
    let file = |own: &str| {
        let text = format!(
            "version: v1\ndefaults: {{token_endpoint: https://a.example/x, issuer: https://a.example, subject_token_file: /s}}\n\
             tokens:\n  - outputs: [{{path: /t}}]\n    connector_id: k3s\n{own}"
        );
        let exchange = read(&text).unwrap().tokens.remove(0).exchange;
        (exchange.endpoint.url.to_string(), exchange.issuer)
    };
    assert_eq!(file(""), ("https://a.example/x".to_owned(), Some("https://a.example".to_owned())));
    let issuer = "    issuer: https://b.example/dex\n";
    assert_eq!(
        file(issuer),
        ("https://b.example/dex/token".to_owned(), Some("https://b.example/dex".to_owned()))
    );
    assert_eq!(file("    token_endpoint: https://c.example/t\n"), ("https://c.example/t".to_owned(), None));
}

#[test]
fn short_type_names_stand_for_urns() {
    for (short, urn) in [("id_token", ID_TOKEN), ("access_token", ACCESS_TOKEN), ("urn:x:y", "urn:x:y")] {
        let token = token(&format!("    requested_token_type: {short}\n"));
        assert_eq!(token.exchange.field("requested_token_type"), Some(urn));
    }
    assert_eq!(
        wrong("    requested_token_type: id-token\n"),
        ["7:27: tokens[0].requested_token_type: is an unknown token type: did you mean id_token?"]
    );
}

#[test]
fn no_value_has_a_nul_character() {
    for (lines, path) in [
        ("    ca_file: \"/ca\\0\"\n", "7:14: tokens[0].ca_file"),
        ("    form: {x: \"\\0\"}\n", "7:15: tokens[0].form.x"),
        (
            "    on_update: [{exec: {command: [/bin/a, \"b\\0\"]}}]\n",
            "7:43: tokens[0].on_update[0].exec.command[1]",
        ),
    ] {
        assert_eq!(wrong(lines), [format!("{path}: has a NUL character: remove it")]);
    }
}

#[test]
fn paths_that_clash_are_refused_with_the_other_use() {
    let clash = |path: &str, more: &str| {
        let text = format!(
            "version: v1\ntokens:\n  - name: a\n    issuer: https://dex.example\n    subject_token_file: /subject\n    \
             connector_id: x\n    ca_file: /ca\n    outputs:\n      - path: /run/a\n      - path: {path}\n{more}"
        );
        problems(&text)
    };
    for (path, reported) in [
        ("/run/a", "is the same file as tokens[0].outputs[0].path: use another file"),
        ("/run//./a", "is the same file as tokens[0].outputs[0].path: use another file"),
        ("/subject", "is the same file as tokens[0].subject_token_file: use another file"),
        ("/ca", "is the same file as tokens[0].ca_file: use another file"),
        ("/etc/dexsidecar.yaml", "is the same file as the configuration file: use another file"),
        ("/run/a/", "is a directory: set it to a file in it, as DIRECTORY/token"),
        ("/run/b/../a", "contains ..: write the path without it"),
        (
            "/run/.dexsidecar-1",
            "has the name of a temporary file, which begins with .dexsidecar-: use another name: temporary files are \
             removed",
        ),
    ] {
        assert_eq!(
            clash(path, ""),
            [format!("dexsidecar.yaml:10:15: tokens[0].outputs[1].path: {reported}")],
            "{path}"
        );
    }
    assert_eq!(
        clash("/run/a/b", ""),
        [
            "dexsidecar.yaml:9:15: tokens[0].outputs[0].path: is a directory of tokens[0].outputs[1].path: use another file"
        ]
    );
    assert_eq!(
        clash("/run/b", "termination_log: /run/a\n"),
        [
            "dexsidecar.yaml:11:18: termination_log: is the same file as tokens[0].outputs[0].path: use another file"
        ]
    );
    assert_eq!(
        clash("/dev//termination-log", ""),
        ["dexsidecar.yaml:10:15: tokens[0].outputs[1].path: is the termination log: use another file"]
    );
    let other = one("termination_log: /log\n").replace("/run/token", "/dev/termination-log");
    assert!(read(&other).is_ok());
}

#[test]
fn a_path_that_a_shell_would_expand_is_refused() {
    let text = one("").replace("subject_token_file: /subject", "subject_token_file: ~/subject");
    assert_eq!(
        problems(&text),
        [
            "dexsidecar.yaml:4:25: tokens[0].subject_token_file: begins with ~, which is not expanded: write the whole path"
        ]
    );
}

#[test]
fn an_issuer_that_ends_with_token_is_suspicious() {
    let text =
        one("").replace("token_endpoint: https://dex.example/token", "issuer: https://dex.example/token");
    let config = read(&text).unwrap();
    let expected =
        "dexsidecar.yaml:3:13: tokens[0].issuer ends with /token, which is added to it: remove /token";
    assert_eq!(config.shown_warnings(), [expected]);
}

#[test]
fn an_issuer_with_a_query_is_refused() {
    let text =
        one("").replace("token_endpoint: https://dex.example/token", "issuer: https://dex.example/dex?x=1");
    assert_eq!(
        problems(&text),
        ["dexsidecar.yaml:3:13: tokens[0].issuer: has a query, which no issuer has: remove it"]
    );
}

#[test]
fn options_and_variables_override_the_file_for_the_process_only() {
    let variables =
        crate::config::tests::given(&["DEXSIDECAR_LOG=debug", "DEXSIDECAR_TERMINATION_LOG=/other"]);
    let text = one("log: {level: error, format: json}\ntermination_log: /log\n");
    let config = read_with(&text, &variables).unwrap();
    assert_eq!((config.log.level.name(), config.log.json), ("debug", true));
    assert_eq!(config.termination_log, Some("/other".into()));
    let of_token = crate::config::tests::given(&["dex_scope=openid", "DEXSIDECAR_CA_FILE=/ca"]);
    let reported: Vec<_> = read_with(&text, &of_token).unwrap_err().iter().map(Problem::to_string).collect();
    assert_eq!(
        reported,
        [
            "DEXSIDECAR_CA_FILE is set beside a configuration file: remove it, and set the key ca_file of a token or defaults",
            "dex_scope is set beside a configuration file: remove it, or the configuration file: tokens have one source"
        ]
    );
}

#[test]
fn values_are_never_shown() {
    for lines in [
        "    refresh_before: canary\n",
        "    client_secret: canary\n",
        "    ca_file: [canary]\n",
        "    mode: canary\n",
        "    requested_token_type: canary\n",
        "    on_update: [{signal: {process: x, signal: canary}}]\n",
        // A line without its colon is a key.
        "    \"client_secret canary\": x\n",
        "    ? client_secret=canary\n",
        "    client_id: [{canary canary: {x: &y 1}}]\n",
        "    form: {password: canary, \"canary canary\": [x]}\n",
        "    form_files: {\"a/canary\": [x]}\n",
        "    on_update: [{http: {url: \"http://localhost/\", headers: {\"X-Key=canary\": [x], \"X Key canary\": x}}}]\n",
        "    on_update: [{http: {url: \"http://localhost/\", \"X-Key: canary\": x}}]\n",
    ] {
        assert!(!wrong(lines).concat().contains("canary"), "{lines}");
    }
}

#[test]
fn a_termination_log_that_is_given_beside_the_file_is_compared_too() {
    let text = one("termination_log: /log\n");
    let variable = |path: &str| crate::config::tests::given(&[&format!("DEXSIDECAR_TERMINATION_LOG={path}")]);
    let option =
        |path: &str| RawSettings { values: vec![crate::config::tests::option("termination-log", path)] };
    for (path, other) in [
        ("/run/token", "tokens[0].outputs[0].path"),
        ("/run/./token", "tokens[0].outputs[0].path"),
        ("/subject", "tokens[0].subject_token_file"),
        ("/etc/dexsidecar.yaml", "the configuration file"),
    ] {
        for (name, given) in
            [("DEXSIDECAR_TERMINATION_LOG", variable(path)), ("--termination-log", option(path))]
        {
            let reported: Vec<_> =
                read_with(&text, &given).unwrap_err().iter().map(Problem::to_string).collect();
            assert_eq!(reported, [format!("{name} is the same file as {other}: use another file")]);
        }
    }
    // That of the file does not count then.
    assert!(read_with(&one("termination_log: /run/token\n"), &variable("/other")).is_ok());
}

#[test]
fn a_warning_has_its_place_and_belongs_to_a_token_or_to_all() {
    let config = read(
        "version: v1\ndefaults: {issuer: \"http://127.0.0.1\", subject_token_file: /s, connector_id: $(X)}\ntokens:\n\
         - {name: a, scope: opnid, outputs: [{path: /run/a}]}\n- {name: b, scope: opnid, outputs: [{path: /run/b}]}\n",
    )
    .unwrap();
    let shown = config.shown_warnings();
    let scope = "has the scope opnid, which Dex ignores: did you mean openid?";
    assert_eq!(
        shown[1..],
        [
            format!("dexsidecar.yaml:4:20: tokens[0].scope {scope}"),
            format!("dexsidecar.yaml:5:20: tokens[1].scope {scope}"),
        ]
    );
    assert!(shown[0].starts_with("dexsidecar.yaml:2:78: defaults.connector_id contains"), "{}", shown[0]);
    let of_second: Vec<_> = config.warnings.iter().map(|warning| !warning.is_of_other_token(1)).collect();
    assert_eq!(of_second, [true, false, true]);
}

#[test]
fn a_warning_about_a_default_is_given_once() {
    let tokens = (0..64).map(|index| {
        format!("  - {{name: t{index}, subject_token_file: /s, outputs: [{{path: /run/{index}}}]}}\n")
    });
    let text = format!(
        "version: v1\ndefaults: {{issuer: \"http://dex\", scope: opnid, form: {{scop: x}}, connector_id: $(X)}}\ntokens:\n{}",
        tokens.collect::<String>()
    );
    let warnings = read(&text).unwrap().shown_warnings();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    let many = (0..250).map(|index| format!("f{index}: $(X)")).collect::<Vec<_>>().join(", ");
    let bounded = read(&one(&format!("    form_files: {{{many}}}\n"))).unwrap().shown_warnings();
    assert_eq!(bounded.len(), 201);
    assert_eq!(bounded.last().unwrap(), "dexsidecar.yaml has more warnings");
}

#[test]
fn an_argument_keeps_its_line_break_and_other_values_do_not() {
    let exec = token(
        "    on_update:\n      - exec:\n          command:\n            - |\n              /bin/x\n            - |\n              \
         a\n            - \"b\\r\\n\"\n            - \"\"\n",
    );
    let [Action::Exec(exec)] = &exec.actions[..] else { panic!("{exec:?}") };
    assert_eq!(exec.command, ["/bin/x", "a\n", "b\r\n", ""]);
    assert_eq!(token("    scope: |\n      openid\n").exchange.field("scope"), Some("openid"));
}

#[test]
fn an_empty_variable_beside_the_file_counts_as_unset() {
    for name in ["dex_scope", "dex_endpoint", "dex_x_other", "dex_file_subject_token", "DEXSIDECAR_CA_FILE"] {
        for (value, valid) in [("", true), ("\n", true), ("x", false)] {
            let variable = crate::config::tests::given(&[&format!("{name}={value}")]);
            assert_eq!(read_with(&one(""), &variable).is_ok(), valid, "{name}={value:?}");
        }
    }
    for name in ["DEXSIDECAR_SUBJECT_TOKEN_SOURCE=github-actions", "DEXSIDECAR_SUBJECT_TOKEN_AUDIENCE=x"] {
        let reported = read_with(&one(""), &crate::config::tests::given(&[name])).unwrap_err();
        assert_eq!(reported[0].what, "is set beside a configuration file");
    }
}

#[test]
fn a_key_in_the_wrong_map_is_sent_to_the_nearest_one_inside() {
    for (lines, section) in [
        ("    format: json\n", "an output"),
        ("    mode: \"0600\"\n", "an output"),
        ("    signal: HUP\n", "an action of on_update"),
        ("    timeout: 5s\n", "an http action"),
        ("    on_update: [{timeout: 5s, signal: {process: x}}]\n", "an http action"),
        ("format: json\n", "log"),
        ("scope: openid\n", "a token or defaults"),
        ("path: /x\n", "an output"),
        ("    version: v1\n", "the file"),
    ] {
        let reported = wrong(lines);
        let end = format!("is an unknown key: move it: it is a key of {section}");
        assert!(reported.len() == 1 && reported[0].ends_with(&end), "{reported:?}");
    }
}
