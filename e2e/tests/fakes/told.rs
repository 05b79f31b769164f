//! What works all the same is told where it is odd: once, and before it hurts.

use std::fs;

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::issuer::Issuer;
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::signing_key::{SigningKey, now};
use dexsidecar_e2e::strace::Trace;
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;
use rustix::process::Signal;
use serde_json::json;

#[test]
fn f041_a_token_and_an_answer_that_differ_about_its_life_are_told_once() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let token = SigningKey::new().sign(&json!({"iat": now(), "exp": now() + 7_200, "at_hash": "canary"}));
    let body = format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":3600}}"#);
    endpoint.always(Answer::Bytes(answer("200 OK", &[], &body)));
    let mut sidecar = Setup::new().subject(&volume).at_stand_in(&endpoint).run();
    sidecar.process.until_logged("token_written", 1);
    sidecar.process.until_logged("expires_in_differs response=3600 token=7200", 1);
    assert!(sidecar.process.output().contains("good_for=59m59s"), "{}", sidecar.process.output());
    sidecar.process.signal(Signal::HUP);
    endpoint.until_heard(2);
    assert_eq!(sidecar.terminate(), Some(0));
    assert_eq!(sidecar.process.logged("expires_in_differs"), 1);
}

#[test]
fn f054_a_subject_token_for_the_api_server_is_told_once() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let issuer = Issuer::start();
    for (audience, times) in [("https://kubernetes.default.svc.cluster.local", 1), ("dex", 0)] {
        let volume = Volume::with(&issuer.token_with(3_600, &json!({"aud": [audience]})));
        let heard = endpoint.heard().len();
        let mut sidecar = Setup::new().subject(&volume).at_stand_in(&endpoint).run();
        sidecar.process.until_logged("token_written", 1);
        sidecar.process.signal(Signal::HUP);
        endpoint.until_heard(heard + 2);
        assert_eq!(sidecar.terminate(), Some(0));
        assert_eq!(sidecar.process.logged("subject_token_warning"), times, "{audience}");
    }
}

/// While there is no token yet, what will be wrong with its place is told already.
#[test]
fn f071_a_missing_folder_is_told_while_dex_is_away() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Bytes(vec![]));
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = Setup::new().subject(&volume).at_stand_in(&endpoint);
    let output = setup.folder().join("not-there-yet/token");
    let mut sidecar = setup.set("dex_access_token_file", output.to_str().unwrap()).run();
    sidecar.process.until_logged("code=output_folder_missing", 1);
    fs::create_dir(output.parent().unwrap()).unwrap();
    endpoint.always(Answer::Token(3_600));
    sidecar.until_token();
    assert_eq!(sidecar.process.logged("code=output_folder_missing"), 1);
}

/// A write that takes longer than an attempt may take is told while it lasts.
#[test]
fn f086_a_disk_that_stalls_is_told() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = Setup::new().subject(&volume).at_stand_in(&endpoint);
    let (_trace, setup) = Trace::of(setup, "-e trace=fsync -e inject=fsync:delay_enter=25s:when=1");
    let mut sidecar = setup.run();
    sidecar.process.until_logged("write_slow", 1);
    sidecar.process.until_logged("token_written", 1);
    assert_eq!(endpoint.heard().len(), 1, "a stalled disk is no reason for another exchange");
}

/// To PID 1 a signal that has no handler yet is lost, and the kubelet waits half a minute for nothing.
#[test]
fn f100_signals_are_heard_before_anything_else_is_done() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = Setup::new().subject(&volume).at_stand_in(&endpoint);
    let (trace, setup) = Trace::of(setup, "-e trace=rt_sigaction,prctl,openat,socket");
    assert_eq!(setup.done(&["once"]).code, Some(0));
    let lines = trace.lines();
    let first = |words: &str| lines.iter().position(|line| line.contains(words)).unwrap_or(usize::MAX);
    let heard = first("rt_sigaction(SIGTERM, {");
    let subject = volume.token().display().to_string();
    for later in ["PR_SET_DUMPABLE", &subject, "AF_INET"] {
        assert!(heard < first(later) && first(later) != usize::MAX, "{later}\n{}", lines.join("\n"));
    }
}

/// A description that looks like facts of our own stands within one fact, in quotes.
#[test]
fn f122_an_answer_cannot_forge_facts_of_a_log_line() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let forged = r#"{"error":"access_denied","error_description":"no code=forged \" health=fresh"}"#;
    endpoint.always(Answer::Bytes(answer("401 Unauthorized", &[], forged)));
    let mut sidecar = Setup::new().subject(&volume).at_stand_in(&endpoint).run();
    sidecar.process.until_logged("code=access_denied", 1);
    let said = sidecar.process.output();
    let line = said.lines().find(|line| line.contains("code=forged")).unwrap();
    assert!(
        line.contains(r#"why="401 access_denied: no code=forged \" health=fresh" code=access_denied"#),
        "{line}"
    );
}
