//! The key check: it makes no exchange while the signing key is published, one when the key is
//! gone, and is suspended where no keys are served. (With a real Dex:
//! tests/real_dex/dex_changes.rs. That it stays suspended until the next token:
//! crates/agent/src/agent/tests.rs.)

use dexsidecar_e2e::fake_dex::{Documents, FakeDex};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::process::PATIENCE;
use dexsidecar_e2e::sidecar::Sidecar;

fn checking_each_second(fixture: &Fixture) -> Sidecar {
    fixture.setup().arguments("--key-check 1s").run()
}

/// Waits for so many further requests for the discovery document or the keys.
fn until_checked(sidecar: &mut Sidecar, fixture: &Fixture, times: usize) {
    let before = fixture.dex.document_requests();
    sidecar.process.until("the keys are requested", |_| fixture.dex.document_requests() >= before + times);
}

#[test]
fn a_published_key_causes_no_exchange() {
    let fixture = Fixture::new();
    let mut sidecar = checking_each_second(&fixture);
    let token = sidecar.until_token();
    until_checked(&mut sidecar, &fixture, 5);
    assert_eq!((fixture.dex.requests().len(), sidecar.token()), (1, Some(token)));
}

#[test]
fn a_key_that_is_gone_causes_one_exchange() {
    let fixture = Fixture::new();
    let mut sidecar = checking_each_second(&fixture);
    let lost = sidecar.until_token();
    fixture.dex.lose_keys();
    sidecar
        .process
        .until_within(PATIENCE * 2, "an exchange within a minute", |_| fixture.dex.requests().len() == 2);
    let token = sidecar.until_another_token(&lost);
    assert_eq!(sidecar.process.logged("signing_key_not_published"), 1, "{}", sidecar.process.timeline());
    until_checked(&mut sidecar, &fixture, 3);
    assert_eq!((fixture.dex.requests().len(), sidecar.token()), (2, Some(token)), "and no more");
}

#[test]
fn f148_a_key_that_is_never_published_causes_one_exchange_and_one_line_of_each_kind() {
    let fixture = Fixture::new();
    fixture.dex.publish(Documents::Stale);
    let mut sidecar = checking_each_second(&fixture);
    sidecar.until_token();
    sidecar.process.until_within(PATIENCE * 2, "the key of the second token is missing too", |process| {
        process.logged("new_signing_key_not_published") == 1
    });
    let token = sidecar.token();
    until_checked(&mut sidecar, &fixture, 3);
    assert_eq!((fixture.dex.requests().len(), sidecar.token()), (2, token), "and no more");
    let logged = ["signing_key_not_published", "new_signing_key_not_published"]
        .map(|event| sidecar.process.logged(event));
    assert_eq!(logged, [1, 1], "{}", sidecar.process.timeline());
}

#[test]
fn keys_that_are_unavailable_change_nothing() {
    let fixture = Fixture::new();
    fixture.dex.publish(Documents::Unavailable);
    let mut sidecar = checking_each_second(&fixture);
    let token = sidecar.until_token();
    until_checked(&mut sidecar, &fixture, 4);
    fixture.dex.publish(Documents::Published);
    until_checked(&mut sidecar, &fixture, 3);
    assert_eq!((fixture.dex.requests().len(), sidecar.token()), (1, Some(token)));
    assert_eq!(sidecar.process.logged("key_check_suspended"), 0, "{}", sidecar.process.timeline());
}

#[test]
fn keys_that_are_not_served_suspend_the_check_with_one_line() {
    let fixture = Fixture::new();
    fixture.dex.publish(Documents::NotServed);
    let mut sidecar = checking_each_second(&fixture);
    let token = sidecar.until_token();
    sidecar.process.until_logged("key_check_suspended", 1);
    let requested = fixture.dex.document_requests();
    assert_eq!(sidecar.terminate(), Some(0));
    assert_eq!(fixture.dex.document_requests(), requested, "{}", sidecar.process.timeline());
    assert_eq!((sidecar.process.logged("key_check_suspended"), sidecar.token()), (1, Some(token)));
}

/// The documents are requested beside the token endpoint, and nowhere else.
#[test]
fn f019_keys_are_not_requested_where_a_redirect_leads() {
    let (fixture, other) = (Fixture::new(), FakeDex::start());
    fixture.dex.publish(Documents::Redirected(other.address().port()));
    let mut sidecar = checking_each_second(&fixture);
    sidecar.process.until_logged("key_check_suspended", 1);
    assert!(fixture.dex.document_requests() >= 2);
    assert_eq!((other.document_requests(), other.requests().len()), (0, 0));
}
