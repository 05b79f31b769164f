//! The log of whole lives, line by line, as snapshots: what a person reads with `kubectl logs`.

use std::fs;
use std::os::unix::fs::symlink;

use dexsidecar_e2e::endpoint::{Answer, Documents, Endpoint};
use dexsidecar_e2e::process::Process;
use dexsidecar_e2e::sidecar::{Setup, Sidecar};
use dexsidecar_e2e::signing_key::{SigningKey, now};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire;
use rustix::process::Signal;
use serde_json::json;

fn fake() -> Endpoint {
    Endpoint::start("127.0.0.1:0", None)
}

fn setup(endpoint: &Endpoint, volume: &Volume) -> Setup {
    Setup::new()
        .at_stand_in(endpoint)
        .subject(volume)
        .set("dex_refresh_interval", "200ms")
        .set("DEXSIDECAR_LOG_FORMAT", "text")
}

/// A projected ServiceAccount token for this audience.
fn subject(audience: &str) -> Volume {
    Volume::with(&SigningKey::new().sign(&json!({
        "iss": "https://kubernetes.default.svc.cluster.local",
        "sub": "system:serviceaccount:default:app",
        "aud": [audience],
        "iat": now(),
        "exp": now() + 3_600,
        "jti": "canary",
    })))
}

fn token(seconds: i64) -> String {
    SigningKey::new()
        .sign(&json!({"iat": now() - 3_600, "exp": now().saturating_add_signed(seconds), "jti": "canary"}))
}

/// A refusal as Dex writes it.
fn refusal(status: &str, error: &str, description: &str) -> Answer {
    let body = json!({"error": error, "error_description": description}).to_string();
    Answer::Bytes(wire::answer(status, &[("Content-Type", "application/json")], &body))
}

fn terminated(mut sidecar: Sidecar) -> String {
    assert_eq!(sidecar.terminate(), Some(0), "{}", sidecar.process.timeline());
    sidecar.process.output()
}

/// Waits for a line.
fn until(process: &mut Process, words: &str) {
    process.until_said(words, 1);
}

/// Compares a log. What differs from run to run is replaced by a word; the same line twice in a row stands once.
fn assert_log(name: &str, log: &str) {
    let directory = std::env::temp_dir().display().to_string();
    let filters = vec![
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"localhost:\d+", "localhost:PORT"),
        (&*format!(r"{directory}/\.tmp\w+"), "/TMP"),
        (r"version=\S+", "version=VERSION"),
        (r"\b(\w+_in|response|token)=[0-9hmsu.]+", "$1=DURATION"),
        (r"(attempts)=\d+", "$1=N"),
        (r"key=\S+", "key=KEY"),
        (r"(expired|lives) [0-9hms.]+ ", "$1 DURATION "),
    ]
    .into_iter()
    .map(|(pattern, word)| (pattern.to_owned(), word.to_owned()))
    .collect::<Vec<_>>();
    insta::with_settings!({filters => filters.iter().map(|(pattern, word)| (&**pattern, &**word))}, {
        insta::assert_snapshot!(name, log);
    });
}

#[test]
fn the_log_of_a_life_with_a_signal() {
    let (fake, volume) = (fake(), subject("dex"));
    let mut sidecar = setup(&fake, &volume).unset("dex_refresh_interval").run();
    until(&mut sidecar.process, "token written");
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_said("token written", 2);
    assert_log("signal", &terminated(sidecar));
}

#[test]
fn the_log_of_a_refusal_and_a_recovery() {
    let (fake, volume) = (fake(), subject("dex"));
    fake.next(refusal("400 Bad Request", "invalid_request", "Requested connector does not exist."));
    let mut sidecar = setup(&fake, &volume).run();
    until(&mut sidecar.process, "token written");
    assert_log("recovery", &terminated(sidecar));
}

#[test]
fn the_log_of_a_restart_with_a_valid_token() {
    let (fake, volume) = (fake(), subject("dex"));
    let setup = setup(&fake, &volume);
    fs::write(setup.output(), token(36_000)).expect("a directory");
    let mut sidecar = setup.run();
    until(&mut sidecar.process, "adopted");
    assert_log("adoption", &terminated(sidecar));
}

#[test]
fn the_log_of_an_output_that_another_process_changes() {
    let (fake, volume) = (fake(), subject("dex"));
    let mut sidecar = setup(&fake, &volume).run();
    until(&mut sidecar.process, "token written");
    fs::write(sidecar.output(), "<html>").expect("a directory");
    until(&mut sidecar.process, "restoring it");
    sidecar.until_token();
    assert_log("output_changed", &terminated(sidecar));
}

#[test]
fn the_log_of_an_output_that_is_a_symlink() {
    let (fake, volume) = (fake(), subject("dex"));
    let setup = setup(&fake, &volume);
    symlink(setup.folder().join("elsewhere"), setup.output()).expect("a directory");
    let mut sidecar = setup.run();
    until(&mut sidecar.process, "token written");
    assert_log("output_symlink", &terminated(sidecar));
}

#[test]
fn the_log_of_a_token_that_expires_and_is_removed() {
    let (fake, volume) = (fake(), subject("dex"));
    fake.next(Answer::Token(3));
    fake.always(refusal("401 Unauthorized", "access_denied", ""));
    let mut sidecar =
        setup(&fake, &volume).set("DEXSIDECAR_ON_EXPIRY", "remove").set("DEXSIDECAR_LOG", "info").run();
    until(&mut sidecar.process, "removed the file");
    assert_log("expiry", &terminated(sidecar));
}

#[test]
fn the_log_of_answers_and_tokens_that_are_unusual() {
    let (fake, volume) = (fake(), subject("https://kubernetes.default.svc.cluster.local"));
    let body = json!({
        "access_token": token(7_200),
        "token_type": "bearer",
        "expires_in": 3_600,
        "issued_token_type": "urn:ietf:params:oauth:token-type:id_token",
    });
    fake.always(Answer::Bytes(wire::answer("200 OK", &[], &body.to_string())));
    let mut sidecar = setup(&fake, &volume).run();
    until(&mut sidecar.process, "token written");
    assert_log("unusual", &terminated(sidecar));
}

#[test]
fn the_log_of_published_keys() {
    for (name, documents, words) in [
        ("keys_not_served", Documents::Nowhere, "key check"),
        ("keys_stale", Documents::Stale, "signing key"),
        ("keys_unavailable", Documents::Unavailable, "token written"),
    ] {
        let (fake, volume) = (fake(), subject("dex"));
        fake.publish(documents);
        let mut sidecar =
            setup(&fake, &volume).set("DEXSIDECAR_KEY_CHECK", "1s").set("DEXSIDECAR_LOG", "info").run();
        until(&mut sidecar.process, words);
        sidecar.process.until_said("token written", 1);
        assert_log(name, &terminated(sidecar));
    }
}

#[test]
fn the_log_of_once_without_an_answer_in_time() {
    let (fake, volume) = (fake(), subject("dex"));
    fake.always(Answer::Silence);
    let done = setup(&fake, &volume).done(&["once", "--timeout", "300ms"]);
    assert_eq!(done.code, Some(1));
    assert_log("once_timed_out", &done.stderr);
}

#[test]
fn the_log_of_invalid_settings_and_of_warnings() {
    let (fake, volume) = (fake(), subject("dex"));
    let invalid = setup(&fake, &volume).set("dex_refresh_before", "10").set("DEXSIDECAR_CAFILE", "/ca");
    assert_log("invalid_settings", &invalid.done(&["run"]).stderr);
    let json = invalid.set("DEXSIDECAR_LOG_FORMAT", "json");
    assert_log("invalid_settings_json", &json.done(&["run"]).stderr);
    let doubtful =
        setup(&fake, &volume).set("dex_conector_id", "k3s").set("dex_scope", "openid federated_id");
    assert_log("setting_warnings", &doubtful.done(&["once"]).stderr);
}

#[test]
fn the_messages_of_ready_and_wait() {
    let setup = Setup::new();
    let mut text = String::new();
    let mut case = |what: &str, content: Option<String>, arguments: &[&str]| {
        match content {
            Some(content) => fs::write(setup.output(), content).expect("a directory"),
            None => drop(fs::remove_file(setup.output())),
        }
        let done = setup.done(arguments);
        text += &format!(
            "{what}: {} -> {:?}\n    {}{}",
            arguments.join(" "),
            done.code,
            done.stdout,
            done.stderr
        );
    };
    case("no file", None, &["ready"]);
    case("empty", Some(String::new()), &["ready"]);
    case("a page", Some("<html>\n".to_owned()), &["ready"]);
    case("half a token", Some(token(60)[..40].to_owned()), &["ready"]);
    case("expired", Some(token(-60)), &["ready"]);
    case("valid", Some(token(3_600)), &["ready"]);
    case("valid", Some(token(3_600)), &["ready", "--min-ttl", "2h"]);
    case("opaque", Some("opaque".to_owned()), &["ready"]);
    case("opaque", Some("opaque".to_owned()), &["ready", "--min-ttl", "2h"]);
    case("no file", None, &["wait", "--timeout", "100ms"]);
    case("valid", Some(token(3_600)), &["wait", "--", "/nowhere/program"]);
    insta::with_settings!({filters => vec![
        (r"/[^ ]*\.tmp\w+", "/TMP"),
        (r"(in|for|has|lives|left) [0-9hms]+( |\n|,)", "$1 DURATION$2"),
        (r"[0-9]+m?[0-9]*s ago", "DURATION ago"),
        (r"59m[0-9]+s", "DURATION"),
    ]}, {
        insta::assert_snapshot!("ready_and_wait", text);
    });
}
