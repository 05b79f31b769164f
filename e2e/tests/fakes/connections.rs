//! Connections that die without a word, and what is said of answers that are odd but good.

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::relay::Relay;
use dexsidecar_e2e::sidecar::{Setup, failed_step, report};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;

/// Each exchange has a connection of its own, so that one which died meanwhile is never used.
#[test]
fn f006_no_connection_is_kept() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(2));
    // What is let through is one request and no more: a second on the same connection would be swallowed.
    let relay = Relay::start(endpoint.address(), 700);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup =
        Setup::new().subject(&volume).at_stand_in(&endpoint).arguments("--attempt-timeout 3s --key-check 0s");
    let setup = setup.set("dex_endpoint", format!("http://{}/dex/token", relay.address()));
    let mut sidecar = setup.run();
    sidecar.process.until_logged("token_written", 3);
    assert_eq!(sidecar.process.logged("code="), 0, "{}", sidecar.process.output());
    assert!(relay.connections() >= 3);
}

/// In the TLS handshake, in the request's head, in its body.
#[test]
fn f020_packets_that_vanish_end_an_attempt_in_time() {
    let authority = Authority::new();
    let endpoint = Endpoint::start("127.0.0.1:0", Some(authority.server(&[]).server_config()));
    let volume = Volume::with("eyJh.eyJi.canary");
    for lets_through in [0, 50, 400, 700] {
        let relay = Relay::start(endpoint.address(), lets_through);
        let setup = Setup::new()
            .subject(&volume)
            .set("dex_endpoint", format!("https://{}/dex/token", relay.address()))
            .set("DEXSIDECAR_CA_FILE", authority.file().to_str().expect("UTF-8"))
            .arguments("--attempt-timeout 1s");
        let told = failed_step(&report(&setup));
        assert_eq!(told["code"], "timed_out", "{lets_through} bytes: {told:#}");
    }
}

/// Small packets pass and the server's certificates do not: nothing of them, the head of a record, a part of the flight.
#[test]
fn f020_a_path_that_swallows_the_server_s_certificates_is_told_as_the_handshake() {
    let authority = Authority::new();
    let endpoint = Endpoint::start("127.0.0.1:0", Some(authority.server(&[]).server_config()));
    let volume = Volume::with("eyJh.eyJi.canary");
    std::thread::scope(|scope| {
        for lets_back in [0, 3, 100, 500] {
            let (authority, endpoint, volume) = (&authority, &endpoint, &volume);
            scope.spawn(move || {
                let relay = Relay::swallowing_answers(endpoint.address(), lets_back);
                let setup = Setup::new()
                    .subject(volume)
                    .set("dex_endpoint", format!("https://{}/dex/token", relay.address()))
                    .set("DEXSIDECAR_CA_FILE", authority.file().to_str().expect("UTF-8"))
                    .arguments("--attempt-timeout 1s");
                let told = failed_step(&report(&setup));
                assert_eq!(told["code"], "timed_out", "{lets_back} bytes: {told:#}");
                let words = told["message"].as_str().unwrap_or_default();
                assert!(words.contains("during the TLS handshake with"), "{lets_back} bytes: {told:#}");
            });
        }
    });
    assert!(endpoint.heard().is_empty());
}

#[test]
fn f034_another_type_of_token_than_asked_for_is_taken_and_told_once() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    for number in 0..4 {
        let body = format!(
            r#"{{"access_token":"abc{number}","issued_token_type":"urn:ietf:params:oauth:token-type:jwt","token_type":"bearer","expires_in":2}}"#
        );
        endpoint.next(Answer::Bytes(answer("200 OK", &[("Content-Type", "application/json")], &body)));
    }
    let mut sidecar = Setup::new().subject(&volume).at_stand_in(&endpoint).run();
    sidecar.process.until_logged("token_written", 4);
    assert_eq!(sidecar.process.logged("issued_token_type_differs"), 1, "{}", sidecar.process.output());
}
