//! What works but is unusual is reported once, before it causes a failure.

use std::fs;

use dexsidecar_e2e::fake_api_server::FakeApiServer;
use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::raw_http::answer;
use dexsidecar_e2e::signing_key::{SigningKey, now};
use dexsidecar_e2e::strace::Trace;
use rustix::process::Signal;
use serde_json::json;

#[test]
fn f041_a_token_and_a_response_with_different_lifetimes_are_reported_once_and_the_shorter_counts() {
    let token = SigningKey::new().sign(&json!({"iat": now(), "exp": now() + 7_200, "at_hash": "canary"}));
    let body = format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":3600}}"#);
    let fixture = Fixture::answering(Answer::Bytes(answer("200 OK", &[], &body)));
    let mut sidecar = fixture.setup().run();
    sidecar.process.until_logged("token_written", 1);
    assert_eq!(sidecar.process.logged("expires_in_differs response=3600 token=7200"), 1);
    let written = sidecar.process.events("token_written");
    let expires_in = written[0]["expires_in"].as_f64();
    assert!(expires_in.is_some_and(|left| (3_500.0..=3_600.0).contains(&left)), "{written:#?}");
    sidecar.process.signal(Signal::HUP);
    fixture.dex.until_requests(2);
    assert_eq!(sidecar.terminate(), Some(0));
    assert_eq!(sidecar.process.logged("expires_in_differs"), 1);
}

#[test]
fn f054_a_subject_token_for_the_api_server_is_reported_once() {
    let (fixture, api_server) = (Fixture::new(), FakeApiServer::start());
    for (audience, times) in [("https://kubernetes.default.svc.cluster.local", 1), ("dex", 0)] {
        let claims = json!({"aud": [audience]});
        fixture.volume.replace_token(&api_server.token_with(3_600, &claims));
        let requests = fixture.dex.requests().len();
        let mut sidecar = fixture.setup().run();
        sidecar.process.until_logged("token_written", 1);
        sidecar.process.signal(Signal::HUP);
        fixture.dex.until_requests(requests + 2);
        assert_eq!(sidecar.terminate(), Some(0));
        assert_eq!(sidecar.process.logged("subject_token_warning"), times, "{audience}");
    }
}

/// The output is checked although there is no token to write yet.
#[test]
fn f071_a_missing_output_directory_is_reported_while_dex_is_down() {
    let fixture = Fixture::answering(Answer::Bytes(vec![]));
    let setup = fixture.setup();
    let output = setup.directory().join("not-there-yet/token");
    let mut sidecar = setup.set("dex_access_token_file", output.to_str().unwrap()).run();
    sidecar.process.until_logged("output_not_writable code=output_folder_missing", 1);
    fs::create_dir(output.parent().unwrap()).unwrap();
    fixture.dex.always(Answer::Token(3_600));
    sidecar.until_token();
    assert_eq!(sidecar.process.logged("code=output_folder_missing"), 1);
}

/// A write is reported while it takes longer than 15 s.
#[test]
fn f086_a_disk_that_stalls_is_reported() {
    let fixture = Fixture::new();
    let inject = "-e trace=fsync -e inject=fsync:delay_enter=25s:when=1";
    let (_trace, setup) = Trace::of(fixture.setup(), inject);
    let mut sidecar = setup.run();
    sidecar.process.until_logged("write_slow", 1);
    assert_eq!(sidecar.process.logged("token_written"), 0, "it is reported before the write is complete");
    sidecar.process.until_logged("token_written", 1);
    assert_eq!(fixture.dex.requests().len(), 1, "a stalled disk causes no further exchange");
}

/// PID 1 loses a signal that it does not handle yet, and the kubelet then waits 30 s before it
/// kills.
#[test]
fn f100_the_signal_handlers_are_installed_before_anything_else() {
    let fixture = Fixture::new();
    let (trace, setup) = Trace::of(fixture.setup(), "-e trace=rt_sigaction,prctl,openat,socket");
    assert_eq!(setup.execute(&["once"]).code, Some(0));
    let lines = trace.lines();
    let first = |words: &str| lines.iter().position(|line| line.contains(words)).unwrap_or(usize::MAX);
    let installed = first("rt_sigaction(SIGTERM, {");
    let subject = fixture.volume.token().display().to_string();
    for later in ["PR_SET_DUMPABLE", &subject, "AF_INET"] {
        assert!(installed < first(later) && first(later) != usize::MAX, "{later}\n{}", lines.join("\n"));
    }
}

/// An error description that looks like fields of the log is one field, in quotes.
#[test]
fn f122_a_response_cannot_forge_fields_of_a_log_line() {
    let forged = r#"{"error":"access_denied","error_description":"no code=forged \" health=fresh"}"#;
    let fixture = Fixture::answering(Answer::Bytes(answer("401 Unauthorized", &[], forged)));
    let mut sidecar = fixture.setup().set("DEXSIDECAR_LOG_FORMAT", "text").run();
    sidecar.process.until_line(" code=access_denied ", 1);
    let log = sidecar.process.output();
    let line = log.lines().find(|line| line.contains("code=forged")).unwrap();
    assert!(
        line.contains(r#": 401 access_denied: no code=forged \" health=fresh" code=access_denied "#)
            && line.contains(r#" error=""#),
        "{line}"
    );
}
