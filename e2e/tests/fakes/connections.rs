//! Connections that die silently, and a response that is unusual and accepted.

use dexsidecar_e2e::blackhole::Blackhole;
use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::fake_dex::{Answer, FakeDex};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::raw_http::answer;
use dexsidecar_e2e::sidecar::{failed_step, report};

/// Each exchange opens a connection of its own, so none is sent over a connection that died
/// meanwhile.
#[test]
fn f006_no_connection_is_kept() {
    let fixture = Fixture::answering(Answer::Token(2));
    // This is enough for one request. A second one on the same connection would never arrive.
    let relay = Blackhole::after_request_bytes(fixture.dex.address(), 700);
    let setup = fixture.setup().arguments("--attempt-timeout 3s --key-check 0s");
    let mut sidecar = setup.set("dex_endpoint", format!("http://{}/dex/token", relay.address())).run();
    sidecar.process.until_logged("token_written", 3);
    assert_eq!(sidecar.process.logged("code=*"), 0, "{}", sidecar.process.output());
    assert!(relay.connections() >= 3);
}

/// In the TLS handshake, in the head of the request, and in its body.
#[test]
fn f020_a_request_that_is_lost_on_the_way_ends_as_a_timeout() {
    let authority = Authority::new();
    let tls = authority.server(&[]).server_config();
    let fixture = Fixture::at(FakeDex::start_at("127.0.0.1:0", Some(tls)));
    for passed in [0, 50, 400, 700] {
        let relay = Blackhole::after_request_bytes(fixture.dex.address(), passed);
        let setup = fixture
            .setup()
            .set("dex_endpoint", format!("https://{}/dex/token", relay.address()))
            .set("DEXSIDECAR_CA_FILE", authority.file().to_str().expect("UTF-8"))
            .arguments("--attempt-timeout 1s");
        let failed = failed_step(&report(&setup));
        assert_eq!(failed["code"], "timed_out", "{passed} bytes: {failed:#}");
    }
}

/// As on a path that drops large packets. Nothing of the server's certificates arrives, or the head
/// of a record, or a part of the flight.
#[test]
fn f020_server_certificates_that_are_lost_on_the_way_are_reported_as_a_timeout_of_the_handshake() {
    let authority = Authority::new();
    let tls = authority.server(&[]).server_config();
    let fixture = Fixture::at(FakeDex::start_at("127.0.0.1:0", Some(tls)));
    std::thread::scope(|scope| {
        for passed in [0, 3, 100, 500] {
            let (authority, fixture) = (&authority, &fixture);
            scope.spawn(move || {
                let relay = Blackhole::after_response_bytes(fixture.dex.address(), passed);
                let setup = fixture
                    .setup()
                    .set("dex_endpoint", format!("https://{}/dex/token", relay.address()))
                    .set("DEXSIDECAR_CA_FILE", authority.file().to_str().expect("UTF-8"))
                    .arguments("--attempt-timeout 1s");
                let failed = failed_step(&report(&setup));
                assert_eq!(failed["code"], "timed_out", "{passed} bytes: {failed:#}");
                let message = failed["message"].as_str().unwrap_or_default();
                assert!(message.contains("during the TLS handshake with"), "{passed} bytes: {failed:#}");
            });
        }
    });
    assert!(fixture.dex.requests().is_empty());
}

#[test]
fn a_token_that_has_expired_by_this_clock_is_written_with_a_warning() {
    let fixture = Fixture::new();
    // `{"iat":1700000000,"exp":1700003600}`.
    let token = "e30.eyJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMzYwMH0.c2ln";
    let body = format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":3600}}"#);
    for _ in 0..2 {
        fixture.dex.next(Answer::Bytes(answer("200 OK", &[("Content-Type", "application/json")], &body)));
    }
    let mut sidecar = fixture.setup().run();
    sidecar.process.until_logged("token_written", 1);
    assert_eq!(sidecar.process.logged("issued_token_expired"), 1, "{}", sidecar.process.output());
    let check = fixture.setup().execute(&["check"]);
    assert!(check.stdout.contains("by this node's clock it expired "), "{}", check.stdout);
}

/// As on a workstation and in a CI job, where `token` makes the exchanges.
#[test]
fn check_needs_no_output() {
    let fixture = Fixture::answering(Answer::Token(3_600));
    let check = fixture.setup().unset("dex_access_token_file").execute(&["check"]);
    assert_eq!(check.code, Some(0), "{}", check.stdout);
    assert!(check.stdout.contains("none is configured; run and once need one\n"), "{}", check.stdout);
    assert_eq!(fixture.dex.requests().len(), 1);
}

#[test]
fn f034_a_token_of_another_type_than_requested_is_accepted_and_reported_once() {
    let fixture = Fixture::new();
    for number in 0..4 {
        let body = format!(
            r#"{{"access_token":"abc{number}","issued_token_type":"urn:ietf:params:oauth:token-type:jwt","token_type":"bearer","expires_in":2}}"#
        );
        fixture.dex.next(Answer::Bytes(answer("200 OK", &[("Content-Type", "application/json")], &body)));
    }
    let mut sidecar = fixture.setup().run();
    sidecar.process.until_logged("token_written", 4);
    let differs = "issued_token_type_differs issued_token_type=urn:ietf:params:oauth:token-type:jwt";
    assert_eq!(sidecar.process.logged(differs), 1, "{}", sidecar.process.output());
    assert_eq!(sidecar.process.logged("issued_token_type_differs"), 1);
}
