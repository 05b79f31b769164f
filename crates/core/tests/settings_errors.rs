//! Snapshots of every error and every warning about settings: the settings, and the lines that the
//! user reads.

use dexsidecar_core::config::{Config, Outputs, Probe, RawSettings, RawValue};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::settings::{Kind, SETTINGS};

const NEEDED: [&str; 6] = [
    "dex_endpoint=https://dex.example/token",
    "dex_access_token_file=/run/dex/token",
    "dex_grant_type=urn:ietf:params:oauth:grant-type:token-exchange",
    "dex_subject_token_type=urn:ietf:params:oauth:token-type:id_token",
    "dex_file_subject_token=/run/subject/token",
    "dex_connector_id=kubernetes",
];

/// The required settings and these. A word that begins with `--` is an option, and another one is a
/// variable. `-NAME` removes a required variable.
fn settings(words: &[&str]) -> RawSettings {
    let mut raw = RawSettings::default();
    let name = |word: &str| word.split_once('=').map_or(word, |(name, _)| name).to_owned();
    let replaced = |needed: &&&str| {
        words.iter().all(|word| name(word) != name(needed) && word.strip_prefix('-') != Some(&name(needed)))
    };
    let needed = NEEDED.iter().filter(replaced);
    for word in needed.chain(words) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let value = Secret::new(value.to_owned());
        match name.strip_prefix("--") {
            Some(option) => raw.values.push(RawValue::option(option.to_owned(), value)),
            None if name.starts_with('-') => {}
            None => raw.values.push(RawValue::variable(name.to_owned(), value)),
        }
    }
    raw
}

const ERRORS: &[&[&str]] = &[
    &["-dex_endpoint", "-dex_access_token_file"],
    &["dex_endpoint="],
    &["dex_endpoint=dex.example/token"],
    &["dex_endpoint=ftp://dex.example/token"],
    &["dex_endpoint=https:///token"],
    &["dex_endpoint=https://dex.example:99999/token"],
    &["dex_endpoint=https://dex.example/to ken"],
    &["dex_endpoint=http://192.0.2.1/token"],
    &["dex_access_token_file=/run/dex/"],
    &["dex_access_token_file=/run/subject/token"],
    &["dex_basic_auth=a:b", "dex_file_basic_auth=/client"],
    &["dex_scope=openid", "dex_file_scope=/scope"],
    &["dex_file_scope="],
    &["dex_="],
    &["dex_file_=/x"],
    &["dex_file_endpoint=/endpoint"],
    &["dex_refresh_before=10"],
    &["dex_refresh_before=1 hour"],
    &["dex_refresh_before=-5m"],
    &["dex_refresh_before=9999999999h"],
    &["dex_refresh_interval=0s"],
    &["DEXSIDECAR_CAFILE=/ca"],
    &["DEXSIDECAR_FROBNICATE=1"],
    &["--ca-file="],
    &["DEXSIDECAR_ATTEMPT_TIMEOUT=10ms"],
    &["--attempt-timeout=6m"],
    &["--attempt-timeout=soon"],
    &["DEXSIDECAR_KEY_CHECK=10ms"],
    &["DEXSIDECAR_ALLOW_INSECURE_HTTP=yes"],
    &["DEXSIDECAR_OUTPUT_MODE=rw-r--r--"],
    &["DEXSIDECAR_OUTPUT_MODE=0200"],
    &["DEXSIDECAR_OUTPUT_GROUP=users"],
    &["DEXSIDECAR_WRITE_MODE=inplace"],
    &["DEXSIDECAR_WRITE_MODE=in-place", "DEXSIDECAR_OUTPUT_MODE=0400"],
    &["DEXSIDECAR_ON_EXPIRY=delete"],
    &["DEXSIDECAR_LOG=verbose"],
    &["DEXSIDECAR_LOG_FORMAT=yaml"],
    &["DEXSIDECAR_TERMINATION_LOG=/run/subject/token"],
    &["-dex_endpoint", "dex_access_token_file=/run/subject/token", "DEXSIDECAR_LOG=verbose"],
];

const WARNINGS: &[&[&str]] = &[
    &["dex_endpoint=http://dex.dex.svc/token"],
    &["dex_endpoint=http://dex.example.com/token", "DEXSIDECAR_ALLOW_INSECURE_HTTP=true"],
    &["dex_conector_id=kubernetes"],
    &["-dex_grant_type", "-dex_file_subject_token", "-dex_subject_token_type", "-dex_connector_id"],
    &["dex_subject_token_type=id_token"],
    &["dex_requested_token_type=jwt"],
    &["dex_scope=openid federated_id"],
    &["dex_scope=openid https://canary"],
    &["dex_connector_id=kubernetes\n"],
    &["dex_connector_id=$(CONNECTOR)"],
    &["dex_basic_auth=incus:$(secret)"],
    &["--output-mode=$(MODE)"],
];

const PROBE_ERRORS: &[&[&str]] = &[
    &["-dex_access_token_file"],
    &["--file="],
    &["--min-ttl=1"],
    &["--timeout=never"],
    &["--log-level=loud"],
];

fn page(cases: &[&[&str]], read: impl Fn(&RawSettings) -> Vec<String>) -> String {
    let mut text = String::new();
    for case in cases {
        text += &format!("{}\n", case.join("  ").escape_debug());
        let lines = read(&settings(case));
        assert!(!lines.is_empty(), "{case:?} is accepted without a message");
        for line in lines {
            text += &format!("    {line}\n");
        }
    }
    text
}

#[test]
fn each_error_of_a_setting_is_as_in_the_snapshot() {
    let read = |raw: &RawSettings| match Config::read(raw, Outputs::Required) {
        Ok(_) => vec![],
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    };
    insta::assert_snapshot!("errors", page(ERRORS, read));
}

#[test]
fn each_warning_about_a_setting_is_as_in_the_snapshot() {
    let read = |raw: &RawSettings| match Config::read(raw, Outputs::Required) {
        Ok(config) => config.warnings.iter().map(ToString::to_string).collect(),
        Err(problems) => problems
            .iter()
            .map(|problem| format!("ERROR {problem}"))
            .chain(raw.cleaned().warnings().iter().map(ToString::to_string))
            .collect(),
    };
    insta::assert_snapshot!("warnings", page(WARNINGS, read));
}

#[test]
fn each_error_of_a_setting_of_ready_and_wait_is_as_in_the_snapshot() {
    let read = |raw: &RawSettings| match Probe::read(raw) {
        Ok(_) => vec![],
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    };
    insta::assert_snapshot!("probe_errors", page(PROBE_ERRORS, read));
}

/// A setting that is in the table but that nobody reads accepts any value.
#[test]
fn every_setting_is_read() {
    let mut seen = 0;
    for setting in SETTINGS {
        // Most texts are valid. Those that have rules are in `ERRORS`.
        if setting.variable.is_empty() || matches!(setting.kind, Kind::Text(..)) {
            continue;
        }
        seen += 1;
        let raw = settings(&[&format!("{}=canary", setting.variable)]);
        let problems = [Config::read(&raw, Outputs::Required).err(), Probe::read(&raw).err()];
        let reported = problems.iter().flatten().flatten().any(|problem| problem.setting == setting.variable);
        assert!(reported, "{} is not read: {problems:?}", setting.variable);
    }
    assert!(seen >= 9, "{seen} settings");
}
