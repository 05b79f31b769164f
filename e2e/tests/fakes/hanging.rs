//! While an attempt or a write hangs, everything else goes on: the expiry is reported, an expired
//! token is removed, signals are answered, files are polled.

use std::fs;

use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::signing_key::{SigningKey, now};
use dexsidecar_e2e::strace::Trace;
use rustix::process::Signal;
use serde_json::json;

/// What hangs does not time out within a test, and an expired token is removed.
fn setup(fixture: &Fixture) -> Setup {
    fixture
        .setup()
        .set("DEXSIDECAR_ATTEMPT_TIMEOUT", "5m")
        .set("DEXSIDECAR_ON_EXPIRY", "remove")
        .set("DEXSIDECAR_LOG", "info")
}

#[test]
fn f160_while_an_attempt_hangs_an_expired_token_is_reported_and_removed() {
    let fixture = Fixture::new();
    fixture.dex.next(Answer::Token(3));
    fixture.dex.always(Answer::Silence);
    let mut sidecar = setup(&fixture).run();
    sidecar.until_token();
    fixture.dex.until_requests(2);
    sidecar.process.until_logged("token_expired", 1);
    sidecar.process.until_logged("expired_token_removed", 1);
    assert_eq!(sidecar.token(), None);
    assert_eq!(sidecar.process.logged("attempt_failed"), 0, "it hangs still");
    assert_eq!(fixture.dex.requests().len(), 2);
}

#[test]
fn f160_while_an_attempt_hangs_a_signal_starts_another_one() {
    let fixture = Fixture::new();
    fixture.dex.next(Answer::Silence);
    let mut sidecar = setup(&fixture).run();
    fixture.dex.until_requests(1);
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("refresh_requested", 1);
    sidecar.until_token();
    assert_eq!(fixture.dex.requests().len(), 2);
    assert_eq!(sidecar.process.logged("attempt_failed"), 0);
    // Each signal causes one exchange, and no more.
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("token_written", 2);
    sidecar.process.signal(Signal::USR1);
    sidecar.process.until_logged("token_written", 3);
    assert_eq!(fixture.dex.requests().len(), 4);
}

#[test]
fn f160_while_an_attempt_hangs_a_modified_output_is_restored() {
    let fixture = Fixture::new();
    let mut sidecar = setup(&fixture).set("dex_refresh_interval", "1s").run();
    let token = sidecar.until_token();
    fixture.dex.always(Answer::Silence);
    sidecar.process.signal(Signal::HUP);
    fixture.dex.until_requests(2);
    fs::write(sidecar.output(), "<html>").expect("a directory");
    sidecar.process.until_logged("output_restored", 1);
    assert_eq!(sidecar.until_another_token("<html>"), token);
}

/// The token on disk is adopted, because each write hangs. Only a token that is valid for more than
/// a minute is adopted.
#[test]
fn f160_while_a_write_hangs_an_expired_token_is_removed_and_a_signal_is_answered() {
    let fixture = Fixture::new();
    let (trace, setup) = Trace::of(setup(&fixture), "-e trace=fsync -e inject=fsync:delay_enter=300s");
    let expires = now() + 63;
    let token = SigningKey::new().sign(&json!({"iat": now() - 3_600, "exp": expires, "jti": "canary"}));
    fs::write(setup.output(), &token).expect("a directory");
    let mut sidecar = setup.run();
    sidecar.process.until_logged("token_adopted", 1);
    fixture.dex.until_requests(1);
    sidecar.process.until("the write hangs", |_| trace.lines().iter().any(|line| line.contains("fsync")));
    sidecar.process.signal_child(Signal::HUP);
    sidecar.process.until_logged("refresh_requested", 1);
    fixture.dex.until_requests(2);
    sidecar.process.until("the token on disk expires soon", |_| now() + 10 > expires);
    sidecar.process.until_logged("token_expired", 1);
    sidecar.process.until_logged("expired_token_removed", 1);
    assert_eq!(sidecar.token(), None);
    assert_eq!(sidecar.process.logged("token_written"), 0);
}
