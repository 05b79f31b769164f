//! Snapshots of the text log in typical situations, as `kubectl logs` shows it.

use std::fs;
use std::os::unix::fs::symlink;

use dexsidecar_e2e::fake_dex::{Answer, Documents, FakeDex};
use dexsidecar_e2e::process::Process;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::raw_http;
use dexsidecar_e2e::sidecar::{Setup, Sidecar};
use dexsidecar_e2e::signing_key::{SigningKey, now};
use rustix::process::Signal;
use serde_json::json;

fn setup(dex: &FakeDex, volume: &ProjectedVolume) -> Setup {
    Setup::new()
        .at_fake(dex)
        .subject(volume)
        .set("dex_refresh_interval", "200ms")
        .set("DEXSIDECAR_LOG_FORMAT", "text")
}

/// A projected ServiceAccount token for this audience.
fn subject(audience: &str) -> ProjectedVolume {
    ProjectedVolume::with(&SigningKey::new().sign(&json!({
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
    Answer::Bytes(raw_http::answer(status, &[("Content-Type", "application/json")], &body))
}

fn terminated(mut sidecar: Sidecar) -> String {
    assert_eq!(sidecar.terminate(), Some(0), "{}", sidecar.process.timeline());
    sidecar.process.output()
}

fn until(process: &mut Process, words: &str) {
    process.until_line(words, 1);
}

/// Compares a log with its snapshot. Values that differ between runs are replaced by words.
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
fn the_log_of_a_refresh_by_signal() {
    let (dex, volume) = (FakeDex::start(), subject("dex"));
    let mut sidecar = setup(&dex, &volume).unset("dex_refresh_interval").run();
    until(&mut sidecar.process, "token written");
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_line("token written", 2);
    assert_log("signal", &terminated(sidecar));
}

#[test]
fn the_log_of_a_refusal_and_a_recovery() {
    let (dex, volume) = (FakeDex::start(), subject("dex"));
    dex.next(refusal("400 Bad Request", "invalid_request", "Requested connector does not exist."));
    let mut sidecar = setup(&dex, &volume).run();
    until(&mut sidecar.process, "token written");
    assert_log("recovery", &terminated(sidecar));
}

#[test]
fn the_log_of_a_restart_with_a_valid_token() {
    let (dex, volume) = (FakeDex::start(), subject("dex"));
    let setup = setup(&dex, &volume);
    fs::write(setup.output(), token(36_000)).expect("a directory");
    let mut sidecar = setup.run();
    until(&mut sidecar.process, "adopted");
    assert_log("adoption", &terminated(sidecar));
}

#[test]
fn the_log_of_an_output_that_another_process_changes() {
    let (dex, volume) = (FakeDex::start(), subject("dex"));
    let mut sidecar = setup(&dex, &volume).run();
    until(&mut sidecar.process, "token written");
    fs::write(sidecar.output(), "<html>").expect("a directory");
    until(&mut sidecar.process, "restoring it");
    sidecar.until_token();
    assert_log("output_changed", &terminated(sidecar));
}

#[test]
fn the_log_of_an_output_that_is_a_symlink() {
    let (dex, volume) = (FakeDex::start(), subject("dex"));
    let setup = setup(&dex, &volume);
    symlink(setup.directory().join("elsewhere"), setup.output()).expect("a directory");
    let mut sidecar = setup.run();
    until(&mut sidecar.process, "token written");
    assert_log("output_symlink", &terminated(sidecar));
}

#[test]
fn the_log_of_a_token_that_expires_and_is_removed() {
    let (dex, volume) = (FakeDex::start(), subject("dex"));
    dex.next(Answer::Token(3));
    dex.always(refusal("401 Unauthorized", "access_denied", ""));
    let mut sidecar =
        setup(&dex, &volume).set("DEXSIDECAR_ON_EXPIRY", "remove").set("DEXSIDECAR_LOG", "info").run();
    until(&mut sidecar.process, "removed the file");
    // The attempt after the removal changes the health, which is the last line of this log.
    until(&mut sidecar.process, "health=expired");
    let log = terminated(sidecar);
    // On a busy machine an attempt may be under way at the expiry, and fail before the removal.
    let mut lines: Vec<&str> = log.lines().collect();
    let line_with = |words: &str| lines.iter().position(|line| line.contains(words)).expect("a line");
    let (removal, failure) = (line_with("removed the file"), line_with("health=expired"));
    if failure < removal {
        let removal = lines.remove(removal);
        lines.insert(failure, removal);
    }
    let log = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    assert_log("expiry", &log);
}

#[test]
fn the_log_of_an_unusual_response() {
    let (dex, volume) = (FakeDex::start(), subject("https://kubernetes.default.svc.cluster.local"));
    let body = json!({
        "access_token": token(7_200),
        "token_type": "bearer",
        "expires_in": 3_600,
        "issued_token_type": "urn:ietf:params:oauth:token-type:id_token",
    });
    dex.always(Answer::Bytes(raw_http::answer("200 OK", &[], &body.to_string())));
    let mut sidecar = setup(&dex, &volume).run();
    until(&mut sidecar.process, "token written");
    assert_log("unusual", &terminated(sidecar));
}

#[test]
fn the_log_of_the_key_check() {
    for (name, documents, words) in [
        ("keys_not_served", Documents::NotServed, "key check"),
        ("keys_stale", Documents::Stale, "signing key"),
        ("keys_unavailable", Documents::Unavailable, "token written"),
    ] {
        let (dex, volume) = (FakeDex::start(), subject("dex"));
        dex.publish(documents);
        let mut sidecar =
            setup(&dex, &volume).set("DEXSIDECAR_KEY_CHECK", "1s").set("DEXSIDECAR_LOG", "info").run();
        until(&mut sidecar.process, words);
        sidecar.process.until_line("token written", 1);
        assert_log(name, &terminated(sidecar));
    }
}

#[test]
fn the_log_of_once_that_times_out() {
    let (dex, volume) = (FakeDex::start(), subject("dex"));
    dex.always(Answer::Silence);
    let done = setup(&dex, &volume).execute(&["once", "--timeout", "300ms"]);
    assert_eq!(done.code, Some(1));
    assert_log("once_timed_out", &done.stderr);
}

#[test]
fn the_log_of_invalid_and_suspicious_settings() {
    let (dex, volume) = (FakeDex::start(), subject("dex"));
    let invalid = setup(&dex, &volume).set("dex_refresh_before", "10").set("DEXSIDECAR_CAFILE", "/ca");
    assert_log("invalid_settings", &invalid.execute(&["run"]).stderr);
    let json = invalid.set("DEXSIDECAR_LOG_FORMAT", "json");
    assert_log("invalid_settings_json", &json.execute(&["run"]).stderr);
    let doubtful = setup(&dex, &volume).set("dex_conector_id", "k3s").set("dex_scope", "openid federated_id");
    assert_log("setting_warnings", &doubtful.execute(&["once"]).stderr);
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
        let done = setup.execute(arguments);
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
    case("a partial token", Some(token(60)[..40].to_owned()), &["ready"]);
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
