//! Answers that Dex cannot be made to give, from the stand-in: none of them is written, none of them ends the program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::sidecar::{Setup, failed_step, report, shipped};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::Signal;

fn json(status: &str, body: &str) -> Answer {
    Answer::Bytes(answer(status, &[("Content-Type", "application/json")], body))
}

fn setup(endpoint: &Endpoint, volume: &Volume) -> Setup {
    Setup::new().subject(volume).at_stand_in(endpoint)
}

/// A fault's number, what is played, how, and the code by which it is told.
type Odd = (u8, &'static str, Answer, &'static str);

fn raw(head: &str, body: &[u8]) -> Answer {
    Answer::Bytes([head.as_bytes(), b"\r\n\r\n", body].concat())
}

fn odd() -> Vec<Odd> {
    let huge = "x".repeat(2 * 1024 * 1024);
    let many: String = (0..4_000).map(|n| format!("X-{n}: {}\r\n", "y".repeat(30))).collect();
    let chunks = format!("{:x}\r\n{}\r\n", 65_536, "z".repeat(65_536)).repeat(32);
    let good = r#"{"access_token":"canary","token_type":"bearer","expires_in":60}"#;
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
        (4, "a drip", Answer::Drip(answer("200 OK", &[], good), Duration::from_millis(100)), "timed_out"),
        (5, "nothing at all", Answer::Bytes(vec![]), "connection_lost"),
        (5, "a reset at once", Answer::ResetAfter(0), "connection_lost"),
        (5, "a reset in the head", Answer::ResetAfter(60), "connection_lost"),
        (5, "a reset in the token", Answer::ResetAfter(500), "connection_lost"),
        (
            5,
            "less than announced",
            raw("HTTP/1.1 200 OK\r\nContent-Length: 999", good.as_bytes()),
            "connection_lost",
        ),
        (
            5,
            "no last chunk",
            raw(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
                format!("{:x}\r\n{good}\r\n", good.len()).as_bytes(),
            ),
            "connection_lost",
        ),
        (22, "429", json("429 Too Many Requests", ""), "rate_limited"),
        (25, "500 in HTML", html("500 Internal Server Error"), "not_from_dex"),
        (25, "500 with a token", json("500 Internal Server Error", good), "not_from_dex"),
        (25, "500 of Dex", json("500 Internal Server Error", r#"{"error":"server_error"}"#), "server_error"),
        (25, "502", html("502 Bad Gateway"), "unavailable"),
        (25, "503", json("503 Service Unavailable", ""), "unavailable"),
        (25, "504", json("504 Gateway Timeout", ""), "unavailable"),
        (26, "200 in HTML", html("200 OK"), "answer_unusable"),
        (26, "200 and nothing", json("200 OK", ""), "answer_unusable"),
        (26, "201 with a token", json("201 Created", good), "answer_unusable"),
        (26, "204", json("204 No Content", ""), "answer_unusable"),
        (27, "200 with an error", json("200 OK", r#"{"error":"invalid_client"}"#), "invalid_client"),
        (27, "an error beside a token", with(r#""expires_in":60,"error":"access_denied""#), "access_denied"),
        (28, "cut off", json("200 OK", &good[..good.len() - 5]), "answer_unusable"),
        (28, "trailing junk", json("200 OK", &format!("{good}junk")), "answer_unusable"),
        (28, "a byte order mark", json("200 OK", &format!("\u{feff}{good}")), "answer_unusable"),
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
        (30, "a token in gzip", packed("200 OK", "gzip", &gzip(good.as_bytes())), "answer_unusable"),
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

/// 16 MiB of nothing in brotli.
const BROTLI: [u8; 27] = *b"\xcb\xff\xff\x3f\xf8\x27\x00\xe2\xb1\x40\x20\xf7\xfe\x2f\xff\xff\xff\xf0\x4f\x00\xc4\x61\x11\x80\xee\xfd\x1f";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(vec![], Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// 16 MiB of nothing in 16 kB.
fn bomb() -> Vec<u8> {
    gzip(&vec![0; 16 * 1024 * 1024])
}

/// Each row of a fault is told by its code. It is not written while there is no token, and takes nothing away when there is.
fn is_told_and_never_written(fault: u8) {
    let rows: Vec<_> = odd().into_iter().filter(|row| row.0 == fault).collect();
    assert!(!rows.is_empty());
    std::thread::scope(|scope| {
        for (_, what, played, code) in rows {
            scope.spawn(move || {
                let endpoint = Endpoint::start("127.0.0.1:0", None);
                endpoint.always(played.clone());
                let volume = Volume::with("eyJh.eyJi.canary");
                let setup = setup(&endpoint, &volume).set("DEXSIDECAR_ATTEMPT_TIMEOUT", "2s");
                let mut sidecar = setup.run();
                let code = format!("code={code} ");
                sidecar.process.until_said(&code, 1);
                assert_eq!(sidecar.token(), None, "{what}");
                endpoint.always(Answer::Token(3_600));
                sidecar.kill_and_run_again();
                let good = sidecar.until_token();
                assert!(endpoint.issued().contains(&good), "{what}");
                endpoint.always(played);
                sidecar.process.signal(Signal::HUP);
                sidecar.process.until_said(&code, 1);
                assert_eq!(sidecar.token(), Some(good), "{what}");
                assert!(sidecar.process.runs(), "{what}");
                assert_eq!(sidecar.setup().done(&["ready"]).code, Some(0), "{what}");
            });
        }
    });
}

#[test]
fn f003_silence_takes_no_token_away() {
    is_told_and_never_written(3);
}

#[test]
fn f004_a_drip_takes_no_token_away() {
    is_told_and_never_written(4);
}

#[test]
fn f005_an_answer_that_breaks_off_is_never_written() {
    is_told_and_never_written(5);
}

#[test]
fn f022_too_many_requests_take_no_token_away() {
    is_told_and_never_written(22);
}

#[test]
fn f025_a_server_in_trouble_takes_no_token_away() {
    is_told_and_never_written(25);
}

#[test]
fn f026_a_page_is_never_written() {
    is_told_and_never_written(26);
}

#[test]
fn f027_an_error_under_200_is_an_error() {
    is_told_and_never_written(27);
}

#[test]
fn f028_what_is_no_sound_json_is_never_written() {
    is_told_and_never_written(28);
}

#[test]
fn f029_what_is_too_large_is_never_written() {
    is_told_and_never_written(29);
}

#[test]
fn f030_what_is_compressed_is_never_written() {
    is_told_and_never_written(30);
}

#[test]
fn f031_an_answer_without_a_token_takes_none_away() {
    is_told_and_never_written(31);
}

#[test]
fn f032_a_token_that_no_header_can_carry_is_never_written() {
    is_told_and_never_written(32);
}

#[test]
fn f033_a_token_of_another_type_is_never_written() {
    is_told_and_never_written(33);
}

#[test]
fn f037_a_lifetime_that_makes_no_sense_is_never_believed() {
    is_told_and_never_written(37);
}

#[test]
fn f044_what_is_no_http_is_never_written() {
    is_told_and_never_written(44);
}

#[test]
fn f051_a_code_of_tomorrow_takes_no_token_away() {
    is_told_and_never_written(51);
}

#[test]
fn f144_a_redirect_takes_no_token_away() {
    is_told_and_never_written(144);
}

#[test]
fn f145_a_missing_route_takes_no_token_away() {
    is_told_and_never_written(145);
}

#[test]
fn f146_a_page_of_an_ingress_takes_no_token_away() {
    is_told_and_never_written(146);
}

#[test]
fn f147_words_about_plain_http_take_no_token_away() {
    is_told_and_never_written(147);
}

#[test]
fn f033_n_a_is_right_for_an_id_token_and_bearer_may_go_without_saying() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let id_token = "urn:ietf:params:oauth:token-type:id_token";
    let setup = setup(&endpoint, &volume).set("dex_requested_token_type", id_token);
    for (number, kind) in [r#""token_type":"N_A","#, r#""token_type":"bEARER","#, ""].into_iter().enumerate()
    {
        let body = format!(r#"{{"access_token":"abc{number}",{kind}"expires_in":60}}"#);
        endpoint.next(json("200 OK", &body));
        assert_eq!(setup.done(&["once"]).code, Some(0), "{kind}");
        assert_eq!(fs::read_to_string(setup.output()).unwrap(), format!("abc{number}"), "{kind}");
    }
}

/// A cache in front of Dex: what comes again does not live again, whatever is said of it.
#[test]
fn f040_the_same_token_again_is_told() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(json("200 OK", r#"{"access_token":"abc","token_type":"bearer","expires_in":4}"#));
    let volume = Volume::with("eyJh.eyJi.canary");
    let mut sidecar = setup(&endpoint, &volume).run();
    sidecar.process.until_logged("code=token_unchanged", 1);
    sidecar.process.until_logged("health=expired", 1);
    assert_eq!((sidecar.process.logged("token_written"), sidecar.token().as_deref()), (1, Some("abc")));
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
    let empty_error = good.replace("extra", "error\":\"\",\"extra");
    for (what, bytes) in [
        ("F142: a wrong coding", answer("200 OK", &[("Content-Encoding", "UTF-8")], good)),
        ("F142: gzip that is none", answer("200 OK", &[("Content-Encoding", "gzip")], good)),
        ("F143: an empty error", answer("200 OK", &[], &empty_error)),
        ("chunked", chunked.into_bytes()),
        ("until the end", format!("HTTP/1.0 200 OK\r\n\r\n{good}").into_bytes()),
        (
            "after 100 Continue",
            [b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), answer("200 OK", &[], good)].concat(),
        ),
    ] {
        endpoint.next(Answer::Bytes(bytes));
        assert_eq!(setup.done(&["once"]).code, Some(0), "{what}");
        assert_eq!(fs::read_to_string(setup.output()).unwrap(), "abc", "{what}");
    }
}

/// Every byte of a real answer, plain and over TLS, asked by the program as it ships: thousands of its debug build take long.
#[test]
fn f005_a_reset_at_any_byte_is_a_lost_connection() {
    const THREADS: usize = 8;
    let authority = Authority::new();
    let (ca, program) = (authority.file(), shipped());
    let tls = authority.server(&[]).server_config();
    std::thread::scope(|scope| {
        for (first, tls) in (0..THREADS).flat_map(|first| [(first, None), (first, Some(Arc::clone(&tls)))]) {
            let (ca, program) = (&ca, &program);
            scope.spawn(move || {
                let secure = tls.is_some();
                let endpoint = Endpoint::start("127.0.0.1:0", tls);
                let volume = Volume::with("eyJh.eyJi.canary");
                let setup = setup(&endpoint, &volume).set("DEXSIDECAR_CA_FILE", ca.to_str().unwrap());
                let setup = setup.program(&[program]);
                let mut byte = first;
                while byte < endpoint.length() {
                    endpoint.next(Answer::ResetAfter(byte));
                    let broken = failed_step(&report(&setup));
                    assert_eq!(broken["code"], "connection_lost", "after {byte} bytes, {secure}: {broken:#}");
                    byte += THREADS;
                }
            });
        }
    });
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
        let broken = failed_step(&report(&setup));
        assert_eq!(broken["code"], "redirected", "{status}");
        assert!(broken["message"].as_str().unwrap().contains("to http://127.0.0.1:"), "{broken:#}");
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
    sidecar.process.until_logged("code=access_denied", 2);
    assert!(!sidecar.process.output().contains("dXNlcjpjYW5hcnk"), "{}", sidecar.process.output());
    assert!(sidecar.process.output().lines().all(|line| !line.starts_with("2026-01-01")));
}

#[test]
fn f022_retry_after_is_honoured() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    endpoint.next(Answer::Bytes(answer("429 Too Many Requests", &[("Retry-After", "2")], "")));
    let mut sidecar = setup(&endpoint, &volume).run();
    sidecar.process.until_logged("retry_in=2", 1);
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
    let name = report["steps"][2]["message"].as_str().unwrap();
    if name.contains("::1") {
        assert_eq!(report["ok"], true, "{report:#}");
    } else {
        assert_eq!(failed_step(&report)["code"], "connect_refused", "{report:#}");
    }
}
