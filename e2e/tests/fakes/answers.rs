//! Responses that Dex never gives, from a fake Dex: none of them is written, and none of them ends
//! the program.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::fs;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::fake_dex::{Answer, FakeDex};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::raw_http::answer;
use dexsidecar_e2e::sidecar::{failed_step, report, shipped};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::Signal;

fn json(status: &str, body: &str) -> Answer {
    Answer::Bytes(answer(status, &[("Content-Type", "application/json")], body))
}

/// The number of a fault, the name of the answer, the answer, and the code of the failure.
type Row = (u8, &'static str, Answer, &'static str);

fn raw(head: &str, body: &[u8]) -> Answer {
    Answer::Bytes([head.as_bytes(), b"\r\n\r\n", body].concat())
}

fn rows() -> Vec<Row> {
    let huge = "x".repeat(2 * 1024 * 1024);
    let many: String = (0..4_000).map(|n| format!("X-{n}: {}\r\n", "y".repeat(30))).collect();
    let chunks = format!("{:x}\r\n{}\r\n", 65_536, "z".repeat(65_536)).repeat(32);
    let valid = r#"{"access_token":"canary","token_type":"bearer","expires_in":60}"#;
    let with = |more: &str| json("200 OK", &format!(r#"{{"access_token":"canary",{more}}}"#));
    let token = |token: &str| json("200 OK", &format!(r#"{{"access_token":{token},"expires_in":60}}"#));
    let html = |status| Answer::Bytes(answer(status, &[("Content-Type", "text/html")], "<html>"));
    let plain = |status, body| Answer::Bytes(answer(status, &[("Content-Type", "text/plain")], body));
    let redirect = |status, to| Answer::Bytes(answer(status, &[("Location", to)], ""));
    let deep = "[".repeat(5_000) + &"]".repeat(5_000);
    let longest = format!("\"{}\"", "a".repeat(256 * 1024 + 1));
    let packed = |status, coding, body: &[u8]| {
        let length = body.len();
        raw(&format!("HTTP/1.1 {status}\r\nContent-Encoding: {coding}\r\nContent-Length: {length}"), body)
    };
    vec![
        (3, "silence", Answer::Silence, "timed_out"),
        (4, "a drip", Answer::Drip(answer("200 OK", &[], valid), Duration::from_millis(100)), "timed_out"),
        (5, "nothing at all", Answer::Bytes(vec![]), "connection_lost"),
        (5, "a reset at once", Answer::ResetAfter(0), "connection_lost"),
        (5, "a reset in the head", Answer::ResetAfter(60), "connection_lost"),
        (5, "a reset in the token", Answer::ResetAfter(500), "connection_lost"),
        (
            5,
            "less than announced",
            raw("HTTP/1.1 200 OK\r\nContent-Length: 999", valid.as_bytes()),
            "connection_lost",
        ),
        (
            5,
            "no last chunk",
            raw(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
                format!("{:x}\r\n{valid}\r\n", valid.len()).as_bytes(),
            ),
            "connection_lost",
        ),
        (22, "429", json("429 Too Many Requests", ""), "rate_limited"),
        (25, "500 in HTML", html("500 Internal Server Error"), "not_from_dex"),
        (25, "500 with a token", json("500 Internal Server Error", valid), "not_from_dex"),
        (25, "500 of Dex", json("500 Internal Server Error", r#"{"error":"server_error"}"#), "server_error"),
        (25, "502", html("502 Bad Gateway"), "unavailable"),
        (25, "503", json("503 Service Unavailable", ""), "unavailable"),
        (25, "504", json("504 Gateway Timeout", ""), "unavailable"),
        (26, "200 in HTML", html("200 OK"), "answer_unusable"),
        (26, "200 and nothing", json("200 OK", ""), "answer_unusable"),
        (26, "201 with a token", json("201 Created", valid), "answer_unusable"),
        (26, "204", json("204 No Content", ""), "answer_unusable"),
        (27, "200 with an error", json("200 OK", r#"{"error":"invalid_client"}"#), "invalid_client"),
        (27, "an error beside a token", with(r#""expires_in":60,"error":"access_denied""#), "access_denied"),
        (28, "cut off", json("200 OK", &valid[..valid.len() - 5]), "answer_unusable"),
        (28, "trailing junk", json("200 OK", &format!("{valid}junk")), "answer_unusable"),
        (28, "a byte order mark", json("200 OK", &format!("\u{feff}{valid}")), "answer_unusable"),
        (28, "twice", with(r#""access_token":"canary""#), "answer_unusable"),
        (28, "deep", json("200 OK", &deep), "answer_unusable"),
        (29, "too large", json("200 OK", &huge), "answer_too_large"),
        (29, "without a length", raw("HTTP/1.1 200 OK", huge.as_bytes()), "answer_too_large"),
        (
            29,
            "too many chunks",
            raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", chunks.as_bytes()),
            "answer_too_large",
        ),
        (
            29,
            "too many headers",
            raw(&format!("HTTP/1.1 200 OK\r\n{}", many.trim_end()), b""),
            "answer_too_large",
        ),
        (29, "too long a token", token(&longest), "token_malformed"),
        (30, "a token in gzip", packed("200 OK", "gzip", &gzip(valid.as_bytes())), "answer_unusable"),
        (30, "a bomb", packed("200 OK", "gzip", &bomb()), "answer_unusable"),
        (30, "a bomb and an error", packed("400 Bad Request", "gzip", &bomb()), "answer_unusable"),
        (30, "a bomb in brotli", packed("200 OK", "br", &BROTLI), "answer_unusable"),
        (31, "no token", json("200 OK", r#"{"token_type":"bearer","expires_in":60}"#), "token_missing"),
        (31, "null", token("null"), "token_missing"),
        (31, "an empty token", token(r#""""#), "token_missing"),
        (31, "a number", token("7"), "token_missing"),
        (31, "a list", token(r#"["canary"]"#), "token_missing"),
        (32, "a header's end", token(r#""canary\r\nX: y""#), "token_malformed"),
        (32, "a newline", token(r#""canary\n""#), "token_malformed"),
        (32, "a NUL", token(r#""canary\u0000""#), "token_malformed"),
        (32, "a space", token(r#""canary canary""#), "token_malformed"),
        (32, "no ASCII", token(r#""canaryé""#), "token_malformed"),
        (33, "DPoP", with(r#""token_type":"DPoP","expires_in":60"#), "token_type_unsupported"),
        (33, "mac", with(r#""token_type":"mac","expires_in":60"#), "token_type_unsupported"),
        (33, "N_A", with(r#""token_type":"N_A","expires_in":60"#), "token_type_unsupported"),
        (37, "0", with(r#""expires_in":0"#), "token_expired"),
        (37, "negative", with(r#""expires_in":-1"#), "token_expired"),
        (37, "a word", with(r#""expires_in":"soon""#), "token_expired"),
        (37, "NaN", with(r#""expires_in":NaN"#), "answer_unusable"),
        (44, "no HTTP", Answer::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "answer_malformed"),
        (51, "an error of tomorrow", json("400 Bad Request", r#"{"error":"brand_new"}"#), "rejected"),
        (144, "a login page", redirect("302 Found", "https://sso.test/login"), "redirected"),
        (144, "Argo CD", redirect("303 See Other", "/login?has_sso_error=true"), "server_error"),
        (145, "404 of Traefik", plain("404 Not Found", "404 page not found\n"), "endpoint_not_found"),
        (
            146,
            "400 of nginx",
            plain("400 Bad Request", "No required SSL certificate was sent"),
            "not_from_dex",
        ),
        (146, "401 of a gateway", json("401 Unauthorized", r#"{"message":"no key"}"#), "not_from_dex"),
        (146, "403", html("403 Forbidden"), "forbidden"),
        (146, "413", html("413 Content Too Large"), "not_from_dex"),
        (146, "431", html("431 Request Header Fields Too Large"), "not_from_dex"),
        (
            147,
            "Go",
            plain("400 Bad Request", "Client sent an HTTP request to an HTTPS server.\n"),
            "tls_expected",
        ),
        (147, "Tomcat", plain("400", "This combination of host and port requires TLS.\r\n"), "tls_expected"),
    ]
}

/// 16 MiB of zeros in brotli.
const BROTLI: [u8; 27] = *b"\xcb\xff\xff\x3f\xf8\x27\x00\xe2\xb1\x40\x20\xf7\xfe\x2f\xff\xff\xff\xf0\x4f\x00\xc4\x61\x11\x80\xee\xfd\x1f";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(vec![], Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// 16 MiB of zeros in 16 kB of gzip.
fn bomb() -> Vec<u8> {
    gzip(&vec![0; 16 * 1024 * 1024])
}

/// Plays each row of a fault: the failure has its code, no answer is written where there is no
/// token, and a token on disk stays there.
fn is_reported_and_never_written(fault: u8) {
    let rows: Vec<_> = rows().into_iter().filter(|row| row.0 == fault).collect();
    assert!(!rows.is_empty());
    std::thread::scope(|scope| {
        for (_, what, played, code) in rows {
            scope.spawn(move || {
                let fixture = Fixture::answering(played.clone());
                let setup = fixture.setup().set("DEXSIDECAR_ATTEMPT_TIMEOUT", "2s");
                let mut sidecar = setup.run();
                let failure = format!("attempt_failed code={code}");
                sidecar.process.until_logged(&failure, 1);
                assert_eq!(sidecar.token(), None, "{what}");
                fixture.dex.always(Answer::Token(3_600));
                sidecar.kill_and_run_again();
                let token = sidecar.until_token();
                assert!(fixture.dex.issued().contains(&token), "{what}");
                fixture.dex.always(played);
                sidecar.process.signal(Signal::HUP);
                sidecar.process.until_logged(&failure, 1);
                assert_eq!(sidecar.token(), Some(token), "{what}");
                assert!(sidecar.process.is_running(), "{what}");
                assert_eq!(sidecar.setup().execute(&["ready"]).code, Some(0), "{what}");
            });
        }
    });
}

#[test]
fn f003_silence_leaves_the_token_on_disk() {
    is_reported_and_never_written(3);
}

#[test]
fn f004_a_response_that_drips_leaves_the_token_on_disk() {
    is_reported_and_never_written(4);
}

#[test]
fn f005_a_truncated_response_is_never_written() {
    is_reported_and_never_written(5);
}

#[test]
fn f022_status_429_leaves_the_token_on_disk() {
    is_reported_and_never_written(22);
}

#[test]
fn f025_server_errors_leave_the_token_on_disk() {
    is_reported_and_never_written(25);
}

#[test]
fn f026_a_response_without_json_is_never_written() {
    is_reported_and_never_written(26);
}

#[test]
fn f027_an_error_under_status_200_is_a_failure() {
    is_reported_and_never_written(27);
}

#[test]
fn f028_invalid_json_is_never_written() {
    is_reported_and_never_written(28);
}

#[test]
fn f029_a_response_that_is_too_large_is_never_written() {
    is_reported_and_never_written(29);
}

#[test]
fn f030_a_compressed_response_is_never_written() {
    is_reported_and_never_written(30);
}

#[test]
fn f031_a_response_without_a_token_leaves_the_token_on_disk() {
    is_reported_and_never_written(31);
}

#[test]
fn f032_a_token_that_no_header_can_carry_is_never_written() {
    is_reported_and_never_written(32);
}

#[test]
fn f033_a_token_of_an_unsupported_type_is_never_written() {
    is_reported_and_never_written(33);
}

#[test]
fn f037_a_token_with_an_invalid_lifetime_is_never_written() {
    is_reported_and_never_written(37);
}

#[test]
fn f044_a_response_that_is_not_http_is_never_written() {
    is_reported_and_never_written(44);
}

#[test]
fn f051_an_unknown_error_code_leaves_the_token_on_disk() {
    is_reported_and_never_written(51);
}

#[test]
fn f144_a_redirect_to_a_login_leaves_the_token_on_disk() {
    is_reported_and_never_written(144);
}

#[test]
fn f145_a_missing_route_leaves_the_token_on_disk() {
    is_reported_and_never_written(145);
}

#[test]
fn f146_a_response_of_an_ingress_leaves_the_token_on_disk() {
    is_reported_and_never_written(146);
}

#[test]
fn f147_a_server_that_expects_tls_leaves_the_token_on_disk() {
    is_reported_and_never_written(147);
}

#[test]
fn f033_n_a_is_accepted_for_id_tokens_and_bearer_may_be_missing_or_in_any_case() {
    let fixture = Fixture::new();
    let id_token = "urn:ietf:params:oauth:token-type:id_token";
    let setup = fixture.setup().set("dex_requested_token_type", id_token);
    for (number, kind) in [r#""token_type":"N_A","#, r#""token_type":"bEARER","#, ""].into_iter().enumerate()
    {
        let body = format!(r#"{{"access_token":"abc{number}",{kind}"expires_in":60}}"#);
        fixture.dex.next(json("200 OK", &body));
        assert_eq!(setup.execute(&["once"]).code, Some(0), "{kind}");
        assert_eq!(fs::read_to_string(setup.output()).unwrap(), format!("abc{number}"), "{kind}");
    }
}

/// A cache in front of Dex repeats an old response. Its token does not live longer because of that.
#[test]
fn f040_an_unchanged_token_is_a_failure_and_is_not_written_again() {
    let fixture =
        Fixture::answering(json("200 OK", r#"{"access_token":"abc","token_type":"bearer","expires_in":4}"#));
    let mut sidecar = fixture.setup().run();
    sidecar.process.until_logged("code=token_unchanged", 1);
    sidecar.process.until_logged("health=expired", 1);
    assert_eq!((sidecar.process.logged("token_written"), sidecar.token().as_deref()), (1, Some("abc")));
}

#[test]
fn f044_unusual_but_valid_responses_are_accepted() {
    let fixture = Fixture::new();
    let setup = fixture.setup();
    let valid = r#"{"access_token":"abc","token_type":"BEARER","expires_in":"60","extra":[{}]}"#;
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{valid}\r\n0\r\n\r\n",
        valid.len()
    );
    let empty_error = valid.replace("extra", "error\":\"\",\"extra");
    for (what, bytes) in [
        ("F142: a wrong coding", answer("200 OK", &[("Content-Encoding", "UTF-8")], valid)),
        ("F142: gzip that is not gzip", answer("200 OK", &[("Content-Encoding", "gzip")], valid)),
        ("F143: an empty error", answer("200 OK", &[], &empty_error)),
        ("chunked", chunked.into_bytes()),
        ("up to the end of the connection", format!("HTTP/1.0 200 OK\r\n\r\n{valid}").into_bytes()),
        (
            "after 100 Continue",
            [b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), answer("200 OK", &[], valid)].concat(),
        ),
    ] {
        fixture.dex.next(Answer::Bytes(bytes));
        assert_eq!(setup.execute(&["once"]).code, Some(0), "{what}");
        assert_eq!(fs::read_to_string(setup.output()).unwrap(), "abc", "{what}");
    }
}

/// Every byte of a token response, plain and over TLS. The program as it ships is started a
/// thousand times: its debug build would take too long.
#[test]
fn f005_a_reset_at_any_byte_is_reported_as_a_lost_connection() {
    const THREADS: usize = 8;
    let authority = Authority::new();
    let (ca, program) = (authority.file(), shipped());
    let tls = authority.server(&[]).server_config();
    std::thread::scope(|scope| {
        for (first, tls) in (0..THREADS).flat_map(|first| [(first, None), (first, Some(Arc::clone(&tls)))]) {
            let (ca, program) = (&ca, &program);
            scope.spawn(move || {
                let secure = tls.is_some();
                let fixture = Fixture::at(FakeDex::start_at("127.0.0.1:0", tls));
                let setup = fixture.setup().set("DEXSIDECAR_CA_FILE", ca.to_str().unwrap());
                let setup = setup.program(&[program]);
                let mut byte = first;
                while byte < fixture.dex.response_length() {
                    fixture.dex.next(Answer::ResetAfter(byte));
                    let failed = failed_step(&report(&setup));
                    assert_eq!(failed["code"], "connection_lost", "after {byte} bytes, {secure}: {failed:#}");
                    byte += THREADS;
                }
            });
        }
    });
}

#[test]
fn f019_a_redirect_is_never_followed() {
    let other = FakeDex::start();
    let fixture = Fixture::new();
    let setup = fixture.setup();
    for status in
        ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        fixture.dex.next(Answer::Bytes(answer(status, &[("Location", &other.url())], "")));
        let failed = failed_step(&report(&setup));
        assert_eq!(failed["code"], "redirected", "{status}");
        assert!(failed["message"].as_str().unwrap().contains("to http://127.0.0.1:"), "{failed:#}");
    }
    assert!(other.requests().is_empty());
}

#[test]
fn f122_a_response_can_neither_forge_a_log_line_nor_reveal_a_secret() {
    let fixture = Fixture::new();
    fixture.volume.replace_token("eyJh.eyJi.canarycanary");
    let forged = r#"{"error":"access_denied","error_description":"no\n2026-01-01T00:00:00Z error forged"}"#;
    let leaking = r#"{"error":"access_denied","error_description":"bad token eyJh.eyJi.canarycanary"}"#;
    // The base64 of user:canary-se%2Bcret: the client with its secret form-encoded, as it is sent.
    let basic =
        r#"{"error":"invalid_request","error_description":"header: Basic dXNlcjpjYW5hcnktc2UlMkJjcmV0"}"#;
    let encoded = r#"{"error":"invalid_request","error_description":"client canary-se%2Bcret"}"#;
    let html = answer("200 OK", &[("Content-Type", "eyJh.eyJi.canarycanary")], "<html>");
    fixture.dex.next(json("400 Bad Request", basic));
    fixture.dex.next(json("400 Bad Request", encoded));
    fixture.dex.next(Answer::Bytes(html));
    fixture.dex.next(json("401 Unauthorized", forged));
    fixture.dex.always(json("401 Unauthorized", leaking));
    let setup = fixture.setup().set("dex_basic_auth", "user:canary-se+cret");
    // A line can be forged in a text log only.
    let mut sidecar = setup.set("DEXSIDECAR_LOG_FORMAT", "text").run();
    fixture.dex.until_requests(6);
    sidecar.process.until_line(" code=access_denied ", 2);
    let log = sidecar.process.output();
    assert!(!log.contains("dXNlcjpjYW5hcnk"), "{log}");
    assert!(log.contains("forged") && log.lines().all(|line| !line.starts_with("2026-01-01")), "{log}");
}

#[test]
fn f022_retry_after_is_honoured() {
    let fixture = Fixture::new();
    fixture.dex.next(Answer::Bytes(answer("429 Too Many Requests", &[("Retry-After", "2")], "")));
    let mut sidecar = fixture.setup().run();
    sidecar.until_token();
    let failures = sidecar.process.events("attempt_failed code=rate_limited");
    let delays: Vec<_> = failures.iter().filter_map(|failure| failure["retry_in"].as_f64()).collect();
    // Jitter makes it longer by a tenth at most.
    assert!(delays.len() == 1 && (2.0..=2.2).contains(&delays[0]), "{delays:?}");
}

#[test]
fn ipv6_addresses_and_host_names_are_supported() {
    let fixture = Fixture::at(FakeDex::start_at("[::1]:0", None));
    let by_address = fixture.setup();
    assert_eq!(by_address.execute(&["once"]).code, Some(0));
    // localhost is ::1, 127.0.0.1 or both. The address that listens is found.
    let by_name = by_address
        .set("dex_endpoint", format!("http://localhost:{}/dex/token", fixture.dex.address().port()));
    let report = report(&by_name);
    let name = report["steps"][2]["message"].as_str().unwrap();
    if name.contains("::1") {
        assert_eq!(report["ok"], true, "{report:#}");
    } else {
        assert_eq!(failed_step(&report)["code"], "connect_refused", "{report:#}");
    }
}
