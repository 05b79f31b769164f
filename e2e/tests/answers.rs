//! Answers that Dex cannot be made to give, from the stand-in: none of them is written, none of them ends the program.

use std::time::Duration;

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::sidecar::{Setup, broken, report};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;

fn json(status: &str, body: &str) -> Answer {
    Answer::Bytes(answer(status, &[("Content-Type", "application/json")], body))
}

fn setup(endpoint: &Endpoint, volume: &Volume) -> Setup {
    Setup::new().subject(volume).at_stand_in(endpoint)
}

#[test]
fn f025_to_f033_every_odd_answer_has_its_code() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = setup(&endpoint, &volume).arguments("--attempt-timeout 1s");
    let huge = "x".repeat(2 * 1024 * 1024);
    let many: String = (0..4_000).map(|n| format!("X-{n}: {}\r\n", "y".repeat(30))).collect();
    let good = r#"{"access_token":"canary","token_type":"bearer","expires_in":60}"#;
    for (what, played, code) in [
        ("503", json("503 Service Unavailable", ""), "unavailable"),
        ("429", json("429 Too Many Requests", ""), "rate_limited"),
        ("500 in HTML", json("500 Internal Server Error", "<html>"), "server_error"),
        ("403", json("403 Forbidden", "<html>"), "forbidden"),
        ("200 in HTML", json("200 OK", "<html>"), "answer_unusable"),
        ("200 and nothing", json("200 OK", ""), "answer_unusable"),
        ("204", json("204 No Content", ""), "answer_unusable"),
        ("502", json("502 Bad Gateway", "<html>"), "unavailable"),
        ("504", json("504 Gateway Timeout", ""), "unavailable"),
        ("200 with an error", json("200 OK", r#"{"error":"invalid_client"}"#), "invalid_client"),
        ("cut off", json("200 OK", &good[..good.len() - 5]), "answer_unusable"),
        ("a byte order mark", json("200 OK", &format!("\u{feff}{good}")), "answer_unusable"),
        ("deep", json("200 OK", &format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))), "answer_unusable"),
        ("no token", json("200 OK", "{}"), "token_missing"),
        ("null", json("200 OK", r#"{"access_token":null}"#), "token_missing"),
        ("an empty token", json("200 OK", r#"{"access_token":""}"#), "token_missing"),
        ("a number", json("200 OK", r#"{"access_token":7}"#), "token_missing"),
        (
            "a token for a header's end",
            json("200 OK", r#"{"access_token":"canary\r\nX: y"}"#),
            "token_malformed",
        ),
        (
            "another kind",
            json("200 OK", r#"{"access_token":"canary","token_type":"DPoP"}"#),
            "token_type_unsupported",
        ),
        ("expired", json("200 OK", r#"{"access_token":"canary","expires_in":0}"#), "token_expired"),
        ("trailing junk", json("200 OK", &format!("{good}junk")), "answer_unusable"),
        ("twice", json("200 OK", r#"{"access_token":"canary","access_token":"canary"}"#), "answer_unusable"),
        ("too large", json("200 OK", &huge), "answer_too_large"),
        (
            "endless without a length",
            Answer::Bytes([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), huge.clone().into_bytes()].concat()),
            "answer_too_large",
        ),
        (
            "headers without end",
            Answer::Bytes(format!("HTTP/1.1 200 OK\r\n{many}\r\n").into_bytes()),
            "answer_too_large",
        ),
        ("no HTTP", Answer::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "answer_malformed"),
        ("nothing at all", Answer::Bytes(vec![]), "connection_lost"),
        ("silence", Answer::Silence, "timed_out"),
        ("a drip", Answer::Drip(answer("200 OK", &[], good), Duration::from_millis(50)), "timed_out"),
        (
            "less than announced",
            Answer::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{good}").into_bytes()),
            "connection_lost",
        ),
        (
            "compressed",
            Answer::Bytes(answer("200 OK", &[("Content-Encoding", "gzip")], good)),
            "answer_unusable",
        ),
    ] {
        endpoint.next(played);
        let broken = broken(&report(&setup));
        assert_eq!(broken["code"], code, "{what}: {broken:#}");
    }
}

#[test]
fn f044_odd_but_good_answers_are_taken() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = setup(&endpoint, &volume);
    let good = r#"{"access_token":"abc","token_type":"BEARER","expires_in":"60","extra":[{}]}"#;
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{good}\r\n0\r\n\r\n",
        good.len()
    );
    for (what, bytes) in [
        ("chunked", chunked.into_bytes()),
        ("until the end", format!("HTTP/1.0 200 OK\r\n\r\n{good}").into_bytes()),
        (
            "after 100 Continue",
            [b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), answer("200 OK", &[], good)].concat(),
        ),
    ] {
        endpoint.next(Answer::Bytes(bytes));
        assert_eq!(setup.done(&["once"]).code, Some(0), "{what}");
        assert_eq!(std::fs::read_to_string(setup.output()).unwrap(), "abc", "{what}");
    }
}

#[test]
fn f005_a_reset_at_any_byte_loses_nothing() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = setup(&endpoint, &volume);
    // Two headers' worth, the edges of head and body, and the middle: every 61st byte of a real answer.
    for byte in (0..720).step_by(61) {
        endpoint.next(Answer::ResetAfter(byte));
        let broken = broken(&report(&setup));
        assert_eq!(broken["code"], "connection_lost", "after {byte} bytes: {broken:#}");
    }
    assert!(!setup.output().exists());
}

#[test]
fn f019_a_redirect_is_never_followed() {
    let canary = Endpoint::start("127.0.0.1:0", None);
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = setup(&endpoint, &volume);
    for status in
        ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        endpoint.next(Answer::Bytes(answer(status, &[("Location", &canary.url())], "")));
        let broken = broken(&report(&setup));
        assert_eq!(broken["code"], "redirected", "{status}");
        assert!(broken["told"].as_str().unwrap().contains("to 127.0.0.1"), "{broken:#}");
    }
    assert!(canary.heard().is_empty());
}

#[test]
fn f122_an_answer_cannot_forge_a_log_line_or_make_a_secret_be_said() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canarycanary");
    let forged = r#"{"error":"access_denied","error_description":"no\n2026-01-01T00:00:00Z error forged"}"#;
    let leaking = r#"{"error":"access_denied","error_description":"bad token eyJh.eyJi.canarycanary"}"#;
    // base64 of user:canary-se+cret, the secret form-encoded as it is sent.
    let basic =
        r#"{"error":"invalid_request","error_description":"header: Basic dXNlcjpjYW5hcnktc2UlMkJjcmV0"}"#;
    let encoded = r#"{"error":"invalid_request","error_description":"client canary-se%2Bcret"}"#;
    endpoint.next(json("400 Bad Request", basic));
    endpoint.next(json("400 Bad Request", encoded));
    endpoint.next(Answer::Bytes(answer("200 OK", &[("Content-Type", "eyJh.eyJi.canarycanary")], "<html>")));
    endpoint.next(json("401 Unauthorized", forged));
    endpoint.always(json("401 Unauthorized", leaking));
    let setup = setup(&endpoint, &volume).set("dex_basic_auth", "user:canary-se+cret");
    let mut sidecar = setup.arguments("--log-level debug").run();
    endpoint.until_heard(6);
    sidecar.process.until_said("code=access_denied", 2);
    assert!(!sidecar.process.output().contains("dXNlcjpjYW5hcnk"), "{}", sidecar.process.output());
    assert!(sidecar.process.output().lines().all(|line| !line.starts_with("2026-01-01")));
}

#[test]
fn f022_retry_after_is_honoured() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    endpoint.next(Answer::Bytes(answer("429 Too Many Requests", &[("Retry-After", "2")], "")));
    let mut sidecar = setup(&endpoint, &volume).run();
    sidecar.process.until_said("next_try_in=2s", 1);
    sidecar.until_token();
}

#[test]
fn ipv6_and_names_work_as_well() {
    let endpoint = Endpoint::start("[::1]:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let by_address = setup(&endpoint, &volume);
    assert_eq!(by_address.done(&["once"]).code, Some(0));
    // localhost is ::1 or 127.0.0.1 or both; whichever listens is found.
    let by_name =
        by_address.set("dex_endpoint", format!("http://localhost:{}/dex/token", endpoint.address().port()));
    let report = report(&by_name);
    let name = report["rungs"][2]["told"].as_str().unwrap();
    if name.contains("::1") {
        assert_eq!(report["sound"], true, "{report:#}");
    } else {
        assert_eq!(broken(&report)["code"], "connect_refused", "{report:#}");
    }
}
