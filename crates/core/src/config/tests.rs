//! What variables are read to, and every mistake in them.

use super::*;
use crate::output::Format;
use crate::secret::Secret;

mod outputs;
mod probe;

/// What these variables, written `NAME=value`, are read to.
pub(crate) fn given(variables: &[&str]) -> RawSettings {
    let variables = variables.iter().map(|line| line.split_once('=').unwrap());
    RawSettings::of_variables(variables.map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned()))))
}

/// The value of an option.
pub(crate) fn option(name: &str, value: &str) -> RawValue {
    RawValue::option(name.to_owned(), Secret::new(value.to_owned()))
}

const SEED: [&str; 9] = [
    "dex_access_token_file=/var/run/secrets/miscord.win/dex/token",
    "dex_endpoint=https://dex.tsuzu.dev/token",
    "dex_basic_auth=user:",
    "dex_connector_id=k3s",
    "dex_grant_type=urn:ietf:params:oauth:grant-type:token-exchange",
    "dex_scope=openid federated_id",
    "dex_requested_token_type=urn:ietf:params:oauth:token-type:access_token",
    "dex_file_subject_token=/var/run/secrets/kubernetes.io/dex/token",
    "dex_subject_token_type=urn:ietf:params:oauth:token-type:id_token",
];

fn with(more: &[&str]) -> Result<Config, Vec<Problem>> {
    Config::read(&given(&[&SEED[..], more].concat()), Outputs::Required)
}

/// The one token of a configuration.
pub(crate) fn only_token(config: Config) -> TokenConfig {
    assert_eq!(config.tokens.len(), 1);
    config.tokens.into_iter().next().unwrap()
}

fn token_with(more: &[&str]) -> TokenConfig {
    only_token(with(more).unwrap())
}

fn problems(more: &[&str]) -> Vec<String> {
    with(more).unwrap_err().iter().map(Problem::to_string).collect()
}

#[test]
fn the_manifest_of_the_original_is_read_with_its_meaning() {
    let config = with(&[]).unwrap();
    let [token] = &config.tokens[..] else { panic!("{config:?}") };
    assert_eq!(token.name, "default");
    assert_eq!(token.exchange.endpoint.url.to_string(), "https://dex.tsuzu.dev/token");
    assert_eq!(token.exchange.client, Some(Client::Pair(Source::Text(Secret::new("user:".to_owned())))));
    let names: Vec<_> = token.exchange.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "connector_id",
            "grant_type",
            "requested_token_type",
            "scope",
            "subject_token",
            "subject_token_type"
        ]
    );
    assert_eq!(token.schedule, Schedule::default());
    assert_eq!(token.outputs.len(), 1);
    assert_eq!(
        config.shown_warnings(),
        ["dex_scope has the scope federated_id, which Dex ignores: did you mean federated:id?"]
    );
}

#[test]
fn settings_are_never_form_fields() {
    let config = with(&["dex_refresh_before=2h", "dex_refresh_interval=5m", "DEXSIDECAR_LOG=debug"]).unwrap();
    let [token] = &config.tokens[..] else { panic!("{config:?}") };
    assert!(token.exchange.fields.iter().all(|(name, _)| !name.starts_with("refresh")));
    assert_eq!(token.schedule.before, Some(Duration::from_secs(7_200)));
    assert_eq!(config.log.level, Level::Debug);
}

#[test]
fn any_other_name_is_a_form_field_with_its_case_and_may_be_empty() {
    let token =
        token_with(&["dex_Resource=", "dex_refresh_before=", "dex_refresh_interval=", "DEX_PORT=tcp://1"]);
    assert_eq!(token.exchange.field("Resource"), Some(""));
    assert_eq!(token.schedule, Schedule::default());
    assert_eq!(token.exchange.fields.len(), 7);
}

#[test]
fn every_problem_is_reported_at_once_by_name() {
    let reported = problems(&[
        "dex_refresh_before=10",
        "dex_refresh_interval=0s",
        "DEXSIDECAR_CAFILE=/x",
        "DEXSIDECAR_LOG_LEVEL=debug",
        "DEXSIDECAR_FILE=/x",
        "DEXSIDECAR_OUTPUT_MODE=999",
        "DEXSIDECAR_OUTPUT_GROUP=staff",
        "DEXSIDECAR_WRITE_MODE=sideways",
        "DEXSIDECAR_ATTEMPT_TIMEOUT=1h",
        "DEXSIDECAR_KEY_CHECK=1ms",
        "DEXSIDECAR_ALLOW_INSECURE_HTTP=maybe",
        "DEXSIDECAR_LOG=loud",
        "dex_file_scope=/x",
        "dex_file_endpoint=/x",
    ]);
    assert_eq!(
        reported,
        [
            "DEXSIDECAR_ALLOW_INSECURE_HTTP is neither true nor false: use true or false",
            "DEXSIDECAR_ATTEMPT_TIMEOUT is out of range: use 100ms to 5m",
            "DEXSIDECAR_CAFILE is an unknown setting: use DEXSIDECAR_CA_FILE",
            "DEXSIDECAR_FILE is an unknown setting: use the option --file",
            "DEXSIDECAR_KEY_CHECK is out of range: use 1s or more, or 0s to disable it",
            "DEXSIDECAR_LOG has an unknown value: use one of error, warn, info, debug",
            "DEXSIDECAR_LOG_LEVEL is an unknown setting: use DEXSIDECAR_LOG",
            "DEXSIDECAR_OUTPUT_GROUP is not a group number: use a number such as 1000",
            "DEXSIDECAR_OUTPUT_MODE is not an octal file mode that lets its owner read: use a mode such as 0640",
            "DEXSIDECAR_WRITE_MODE has an unknown value: use one of auto, atomic, in-place",
            "dex_file_endpoint and dex_endpoint are both set: remove one of them",
            "dex_file_endpoint cannot be read from a file: set dex_endpoint instead",
            "dex_file_scope and dex_scope are both set: remove one of them",
            "dex_refresh_before has a number without a unit: use a duration such as 1h30m, 1.5h or 250ms",
            "dex_refresh_interval is zero: use a duration such as 1m",
        ]
    );
}

#[test]
fn missing_settings_are_reported() {
    let reported: Vec<_> = Config::read(&RawSettings::default(), Outputs::Required)
        .unwrap_err()
        .iter()
        .map(Problem::to_string)
        .collect();
    assert_eq!(
        reported,
        [
            "dex_access_token_file is not set: set it to the path of the token file",
            "dex_endpoint is not set: set it to the URL of Dex's token endpoint, such as https://dex.example.com/token",
        ]
    );
    let warnings = Config::read(
        &given(&["dex_endpoint=https://dex/token", "dex_access_token_file=/t"]),
        Outputs::Required,
    );
    assert_eq!(warnings.unwrap().warnings.len(), 4);
}

#[test]
fn values_are_never_shown() {
    let reported =
        problems(&["dex_refresh_before=canary", "dex_file_basic_auth=/canary", "DEXSIDECAR_LOG=canary"]);
    assert!(!reported.concat().contains("canary"), "{reported:?}");
}

#[test]
fn a_misspelled_field_is_sent_with_a_warning() {
    let config = with(&["dex_conector_id=k3s", "dex_endpont=x", "dex_username=me"]).unwrap();
    assert_eq!(config.tokens[0].exchange.field("conector_id"), Some("k3s"));
    assert!(
        config.shown_warnings()[0].ends_with("did you mean dex_connector_id?"),
        "{:?}",
        config.shown_warnings()
    );
    assert!(
        config.shown_warnings()[1].ends_with("did you mean dex_endpoint?"),
        "{:?}",
        config.shown_warnings()
    );
    assert_eq!(config.warnings.len(), 3);
}

#[test]
fn f154_plain_http_is_refused_at_startup_for_a_public_address_only() {
    let read = |url: &str, more: &[&str]| {
        let endpoint = format!("dex_endpoint={url}");
        let mut all = vec![endpoint.as_str(), "dex_access_token_file=/t"];
        all.extend(more);
        Config::read(&given(&all), Outputs::Required).map(|config| config.warnings.len() - 4)
    };
    for here in ["http://127.0.0.1:5556/dex/token", "http://[::1]/token", "http://localhost/token"] {
        assert_eq!(read(here, &[]), Ok(0), "{here}");
    }
    // A name may lead anywhere, which only a look-up tells.
    let inside =
        ["dex.auth.svc", "dex.dex:5556", "dex.lan", "dex.example", "10.0.0.7", "100.64.0.1", "[fe80::1]"];
    for host in inside {
        assert_eq!(read(&format!("http://{host}/token"), &[]), Ok(1), "{host}");
    }
    for public in ["8.8.8.8", "[2001:db8::1]", "[::ffff:8.8.8.8]"] {
        let url = format!("http://{public}/token");
        assert_eq!(read(&url, &["DEXSIDECAR_ALLOW_INSECURE_HTTP=true"]), Ok(1), "{public}");
        let refused = read(&url, &[]).unwrap_err();
        assert_eq!(
            refused[0].to_string(),
            "dex_endpoint is plain http to a public address: use https, or set DEXSIDECAR_ALLOW_INSECURE_HTTP to true"
        );
    }
}

#[test]
fn user_and_password_of_the_url_are_used_only_without_basic_auth() {
    let url = "dex_endpoint=https://u:p@dex.example/token";
    let client = |more: &[&str]| {
        let given = given(&[&[url, "dex_access_token_file=/t"], more].concat());
        only_token(Config::read(&given, Outputs::Required).unwrap()).exchange.client
    };
    assert_eq!(client(&[]), Some(Client::Pair(Source::Text(Secret::new("u:p".to_owned())))));
    assert_eq!(
        client(&["dex_basic_auth=a:b"]),
        Some(Client::Pair(Source::Text(Secret::new("a:b".to_owned()))))
    );
}

#[test]
fn variables_of_a_service_are_ignored() {
    let links = [
        "DEXSIDECAR_SERVICE_HOST=10.0.0.1",
        "DEXSIDECAR_SERVICE_PORT=80",
        "DEXSIDECAR_SERVICE_PORT_HTTP=80",
        "DEXSIDECAR_PORT=tcp://10.0.0.1:80",
        "DEXSIDECAR_PORT_80_TCP_ADDR=10.0.0.1",
        "DEXSIDECAR_METRICS_PORT_80_TCP=tcp://10.0.0.1:80",
    ];
    assert!(with(&links).is_ok());
}

#[test]
fn an_option_overrides_its_variable_and_is_named_in_problems() {
    let mut given = given(&[&SEED[..], &["DEXSIDECAR_KEY_CHECK=5m"]].concat());
    given.values.push(option("key-check", "0s"));
    assert_eq!(only_token(Config::read(&given, Outputs::Required).unwrap()).key_check, None);
    given.values.push(option("key-check", "soon"));
    let reported = Config::read(&given, Outputs::Required).unwrap_err();
    assert_eq!(reported[0].setting, "--key-check");
}

#[test]
fn an_output_at_the_default_termination_log_is_refused_unless_another_one_is_set() {
    let output = "dex_access_token_file=/dev/./termination-log";
    let problems = Config::read(&given(&["dex_endpoint=http://127.0.0.1/token", output]), Outputs::Required)
        .unwrap_err();
    assert_eq!(problems[0].to_string(), "dex_access_token_file is the termination log: use another file");
    let other = "DEXSIDECAR_TERMINATION_LOG=/log";
    assert!(
        Config::read(&given(&["dex_endpoint=http://127.0.0.1/token", output, other]), Outputs::Required)
            .is_ok()
    );
}

/// A message never sends a user to a variable in place of the option that was given.
#[test]
fn every_message_names_a_setting_as_it_was_given() {
    let output = "/var/run/secrets/miscord.win/dex/token";
    let mut same = given(&SEED);
    same.values.push(option("ca-file", output));
    let problems = Config::read(&same, Outputs::Required).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "dex_access_token_file is the same file as --ca-file: use another file"
    );
    let plain = &["dex_endpoint=http://8.8.8.8/token", "dex_access_token_file=/t"];
    let mut plain = given(plain);
    plain.values.push(option("allow-insecure-http", "false"));
    let problems = Config::read(&plain, Outputs::Required).unwrap_err();
    assert!(problems[0].fix.contains("set --allow-insecure-http to true"), "{}", problems[0]);
    plain.values.push(option("allow-insecure-http", ""));
    let warnings = Config::read(&plain, Outputs::Required).unwrap().shown_warnings();
    let allowed = "(--allow-insecure-http allows public addresses)";
    assert!(warnings.iter().any(|warning| warning.contains(allowed)), "{warnings:?}");
}

#[test]
fn a_probe_needs_a_file_only() {
    let probe = Probe::read(&given(&["dex_access_token_file=/t", "dex_refresh_before=broken"])).unwrap();
    let file = |token: Option<&str>, path: &str| ProbedFile {
        token: token.map(str::to_owned),
        path: path.into(),
        format: token.map(|_| Format::default()),
    };
    assert_eq!(probe.files, [file(Some("default"), "/t")]);
    assert_eq!(Probe::read(&RawSettings::default()).unwrap_err().len(), 1);
    let misspelled = Probe::read(&given(&["dex_access_token_file=/t", "DEXSIDECAR_MIN_TTLL=48h"]));
    assert_eq!(
        misspelled.unwrap_err()[0].to_string(),
        "DEXSIDECAR_MIN_TTLL is an unknown setting: use DEXSIDECAR_MIN_TTL"
    );
    let options = RawSettings { values: vec![option("file", "/a"), option("file", "/b")] };
    assert_eq!(Probe::read(&options).unwrap().files, [file(None, "/a"), file(None, "/b")]);
}

#[test]
fn log_and_termination_log_are_read_without_the_rest() {
    let all = given(&["DEXSIDECAR_LOG=debug", "DEXSIDECAR_LOG_FORMAT=json", "DEXSIDECAR_TERMINATION_LOG=/t"]);
    assert_eq!(log(&all), Log { level: Level::Debug, json: true });
    assert_eq!(termination_log(&all), Some("/t".into()));
    assert_eq!((log(&given(&[])), termination_log(&given(&[]))), (Log::default(), None));
    let names = [Level::Error, Level::Warn, Level::Info, Level::Debug].map(Level::name);
    assert_eq!(names, ["error", "warn", "info", "debug"]);
}

/// Tokens with equal endpoints share one Dex.
#[test]
fn endpoints_are_equal_if_all_their_settings_are() {
    let endpoint = |more: &[&str]| token_with(more).exchange.endpoint;
    let default = endpoint(&[]);
    assert_eq!(default, endpoint(&["dex_connector_id=other", "dex_basic_auth=other:"]));
    for other in
        ["DEXSIDECAR_CA_FILE=/ca.pem", "DEXSIDECAR_ATTEMPT_TIMEOUT=1s", "DEXSIDECAR_ALLOW_INSECURE_HTTP=true"]
    {
        assert_ne!(default, endpoint(&[other]), "{other}");
    }
}

#[test]
fn the_file_of_the_subject_token_is_known_if_it_is_read_from_one() {
    let file = "/var/run/secrets/kubernetes.io/dex/token";
    assert_eq!(token_with(&[]).exchange.subject_token_file(), Some(&file.into()));
    let text = given(&["dex_endpoint=https://dex/token", "dex_subject_token=a", "dex_file_scope=/scope"]);
    assert_eq!(
        only_token(Config::read(&text, Outputs::Optional).unwrap()).exchange.subject_token_file(),
        None
    );
}

#[test]
fn the_key_check_period_is_one_second_or_more_or_zero() {
    for (given, period) in [("1s", Some(1_000)), ("1500ms", Some(1_500)), ("0s", None)] {
        let token = token_with(&[&format!("DEXSIDECAR_KEY_CHECK={given}")]);
        assert_eq!(token.key_check, period.map(Duration::from_millis), "{given}");
    }
    assert_eq!(
        problems(&["DEXSIDECAR_KEY_CHECK=999ms"]),
        ["DEXSIDECAR_KEY_CHECK is out of range: use 1s or more, or 0s to disable it"]
    );
}

#[test]
fn a_mode_is_octal_and_lets_its_owner_read() {
    let reported =
        "DEXSIDECAR_OUTPUT_MODE is not an octal file mode that lets its owner read: use a mode such as 0640";
    for (given, mode) in [("0640", Some(0o640)), ("400", Some(0o400)), ("0777", Some(0o777)), ("", None)] {
        let token = token_with(&[&format!("DEXSIDECAR_OUTPUT_MODE={given}")]);
        assert_eq!(token.outputs[0].mode, mode, "{given}");
    }
    for wrong in ["1640", "01000", "0240", "040", "+640", "00640", "648", "rw", "-640"] {
        assert_eq!(problems(&[&format!("DEXSIDECAR_OUTPUT_MODE={wrong}")]), [reported], "{wrong}");
    }
}

#[test]
fn files_are_set_by_option_or_variable() {
    let ca_file = |variable: &str| token_with(&[variable]).exchange.endpoint.ca_file;
    assert_eq!(ca_file("DEXSIDECAR_CA_FILE=/ca.pem"), Some("/ca.pem".into()));
    assert_eq!(ca_file("DEXSIDECAR_CA_FILE="), None);
    let mut flag = given(&SEED);
    flag.values.push(option("ca-file", ""));
    let problems = Config::read(&flag, Outputs::Required).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().ends_with("is empty: set it to the path of a file"), "{}", problems[0]);
}

#[test]
fn an_unknown_token_type_gets_a_warning() {
    let of_types = |types: &[&str]| -> usize {
        let given = given(&[&["dex_endpoint=https://dex/token"][..], types].concat());
        let config = Config::read(&given, Outputs::Optional).unwrap();
        config.shown_warnings().iter().filter(|warning| warning.contains("is a token type that")).count()
    };
    assert_eq!(of_types(&[]), 0);
    assert_eq!(of_types(&["dex_requested_token_type="]), 0);
    assert_eq!(of_types(&["dex_requested_token_type=urn:x", "dex_subject_token_type=urn:y"]), 2);
}

#[test]
fn another_grant_type_needs_no_fields_of_token_exchange() {
    let missed = |grant: &[&str]| -> usize {
        let given = given(&[&["dex_endpoint=https://dex/token"][..], grant].concat());
        let config = Config::read(&given, Outputs::Optional).unwrap();
        config.shown_warnings().iter().filter(|warning| warning.contains("but Dex requires it")).count()
    };
    assert_eq!(missed(&[]), 4);
    assert_eq!(missed(&["dex_grant_type=urn:ietf:params:oauth:grant-type:token-exchange"]), 3);
    assert_eq!(missed(&["dex_grant_type=password"]), 0);
}

#[test]
fn variables_that_kubernetes_injects_for_a_service_are_not_settings() {
    for name in [
        "DEXSIDECAR_SERVICE_HOST",
        "DEXSIDECAR_SERVICE_PORT_HTTP",
        "DEXSIDECAR_PORT",
        "DEXSIDECAR_PORT_80_TCP_ADDR",
        "DEXSIDECAR_METRICS_PORT_53_UDP",
    ] {
        assert!(with(&[&format!("{name}=10.0.0.1")]).is_ok(), "{name}");
    }
    for name in ["DEXSIDECAR_TCP", "DEXSIDECAR_PORT_80", "DEXSIDECAR_OUTPUT_UDP"] {
        assert_eq!(problems(&[&format!("{name}=1")]).len(), 1, "{name}");
    }
}

#[test]
fn f159_a_mode_that_forbids_its_owner_to_write_is_refused_with_in_place() {
    let problems_of = |mode: &str, write_mode: &str| -> Vec<String> {
        let (mode, write_mode) =
            (format!("DEXSIDECAR_OUTPUT_MODE={mode}"), format!("DEXSIDECAR_WRITE_MODE={write_mode}"));
        let read = with(&[&mode, &write_mode]);
        read.map_or_else(|problems| problems.iter().map(Problem::to_string).collect(), |_| vec![])
    };
    for mode in ["0400", "0440", "0444", "0555", "0466"] {
        assert_eq!(
            problems_of(mode, "in-place"),
            [
                "DEXSIDECAR_OUTPUT_MODE does not let the owner write, but DEXSIDECAR_WRITE_MODE in-place overwrites \
              the same file at each refresh: use a mode such as 0640, or set DEXSIDECAR_WRITE_MODE to auto"
            ]
        );
        for write_mode in ["auto", "atomic"] {
            assert_eq!(problems_of(mode, write_mode), [""; 0], "{mode} {write_mode}");
        }
    }
    for mode in ["0600", "0640", "0644", "0777"] {
        assert_eq!(problems_of(mode, "in-place"), [""; 0], "{mode}");
    }
    let mut flags = given(&[&SEED[..], &["DEXSIDECAR_OUTPUT_MODE=0400"]].concat());
    flags.values.push(option("write-mode", "in-place"));
    let problem = Config::read(&flags, Outputs::Required).unwrap_err()[0].to_string();
    assert!(problem.contains("DEXSIDECAR_OUTPUT_MODE") && problem.contains("--write-mode"), "{problem}");
}
