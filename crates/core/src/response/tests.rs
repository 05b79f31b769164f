//! Tests of reading responses.

use std::sync::LazyLock;

use super::*;
use crate::claims::tests::jwt;

mod field_cases;

static HTTPS: LazyLock<EndpointUrl> = LazyLock::new(|| endpoint("https://dex.example/dex/token"));
static HTTP: LazyLock<EndpointUrl> = LazyLock::new(|| endpoint("http://dex.example/dex/token"));

fn endpoint(url: &str) -> EndpointUrl {
    EndpointUrl::parse(url).unwrap().0
}

fn context(secrets: &[Secret]) -> RequestContext<'_> {
    RequestContext { endpoint: &HTTPS, now: UnixTime::from_secs(1_000), requested_type: None, secrets }
}

fn over_http() -> RequestContext<'static> {
    RequestContext { endpoint: &HTTP, ..context(&[]) }
}

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, body: body.as_bytes().to_vec().into(), ..Answer::default() }
}

fn code(status: u16, body: &str) -> Code {
    read(&answer(status, body), context(&[])).unwrap_err().code
}

fn lifetime_of(expires_in: &str, token: &str) -> Result<u64, Code> {
    let body = format!(r#"{{"access_token":"{token}","token_type":"bearer"{expires_in}}}"#);
    read(&answer(200, &body), context(&[])).map(|t| t.lifetime.as_secs()).map_err(|failure| failure.code)
}

#[test]
fn a_success_of_dex_brings_a_token() {
    let body = r#"{"access_token":"eyJ.eyJ.sig","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"bearer","expires_in":86399}"#;
    let token = read(&answer(200, body), context(&[])).unwrap();
    assert_eq!((token.token.expose(), token.lifetime.as_secs()), ("eyJ.eyJ.sig", 86_399));
    assert_eq!(token.differing_type, None);
}

#[test]
fn f036_to_f038_expires_in_is_read_in_each_notation() {
    for (text, length) in [
        (",\"expires_in\":3600", Ok(3600)),
        (",\"expires_in\":3600.0", Ok(3600)),
        (",\"expires_in\":3.6e3", Ok(3600)),
        (",\"expires_in\":\"3600\"", Ok(3600)),
        (",\"expires_in\":9223372036854775808", Ok(MAX_LIFETIME.as_secs())),
        (",\"expires_in\":1e300", Ok(315_360_000)),
        (",\"expires_in\":0", Err(Code::TokenExpired)),
        (",\"expires_in\":-1", Err(Code::TokenExpired)),
        (",\"expires_in\":\"soon\"", Err(Code::TokenExpired)),
        (",\"expires_in\":1.5", Err(Code::TokenExpired)),
        (",\"expires_in\":null", Ok(900)),
        ("", Ok(900)),
    ] {
        assert_eq!(lifetime_of(text, "opaque"), length, "{text}");
    }
}

/// Only durations are used, so it does not matter whose clock is right.
#[test]
fn f097_a_wrong_clock_of_the_server_does_not_change_the_lifetime() {
    for ahead in [-86_400_i64, -60, 60, 86_400] {
        let issued = 1_700_000_000_u64.saturating_add_signed(ahead);
        let token = jwt("{}", &format!(r#"{{"iat":{issued},"exp":{}}}"#, issued + 3_600));
        assert_eq!(lifetime_of(",\"expires_in\":3599", token.expose()), Ok(3_599), "{ahead} s");
    }
}

#[test]
fn f041_exp_minus_iat_limits_expires_in_and_replaces_a_missing_one() {
    let an_hour = jwt("{}", r#"{"iat":1000,"exp":4600}"#);
    assert_eq!(lifetime_of(",\"expires_in\":86400", an_hour.expose()), Ok(3600));
    assert_eq!(lifetime_of(",\"expires_in\":60", an_hour.expose()), Ok(60));
    for (seconds, differs) in [(3_600, false), (3_599, false), (3_240, false), (3_239, true), (3_961, true)] {
        let body = format!(r#"{{"access_token":"{}","expires_in":{seconds}}}"#, an_hour.expose());
        let issued = read(&answer(200, &body), context(&[])).unwrap();
        let expires_in = Duration::from_secs(seconds);
        assert_eq!(issued.differing_expires_in, differs.then_some(expires_in), "{seconds} s of an hour");
        assert_eq!(issued.lifetime, expires_in.min(Duration::from_secs(3_600)));
    }
    assert_eq!(lifetime_of(",\"expires_in\":0", an_hour.expose()), Ok(3600));
    assert_eq!(lifetime_of("", jwt("{}", r#"{"exp":1500}"#).expose()), Ok(500));
    assert_eq!(lifetime_of("", jwt("{}", r#"{"exp":900}"#).expose()), Err(Code::TokenExpired));
    for expires in [0, 4, 5] {
        let ends_before_it_begins = jwt("{}", &format!(r#"{{"iat":5,"exp":{expires}}}"#));
        for expires_in in ["", ",\"expires_in\":3600"] {
            assert_eq!(lifetime_of(expires_in, ends_before_it_begins.expose()), Err(Code::TokenExpired));
        }
    }
}

#[test]
fn f051_every_error_of_dex_has_its_code() {
    let connector =
        r#"{"error":"invalid_request","error_description":"Requested connector does not exist."}"#;
    for (status, body, expected) in [
        (400, connector, Code::ConnectorUnknown),
        (400, r#"{"error":"invalid_request"}"#, Code::InvalidRequest),
        (400, r#"{"error":"unsupported_grant_type"}"#, Code::UnsupportedGrantType),
        (400, r#"{"error":"request_not_supported"}"#, Code::RequestNotSupported),
        (400, r#"{"error":"invalid_grant"}"#, Code::InvalidGrant),
        (400, r#"{"error":"invalid_scope"}"#, Code::InvalidScope),
        (400, r#"{"error":"invalid_target"}"#, Code::InvalidTarget),
        (400, r#"{"error":"unauthorized_client"}"#, Code::UnauthorizedClient),
        (400, r#"{"error":"server_error"}"#, Code::ServerError),
        (400, r#"{"error":"temporarily_unavailable"}"#, Code::ServerError),
        (400, r#"{"error":"brand_new"}"#, Code::Rejected),
        (400, "something else, and longer than the messages that report plain http", Code::NotFromDex),
        (400, "nothing", Code::NotFromDex),
        (401, r#"{"error":"invalid_client"}"#, Code::InvalidClient),
        (401, r#"{"error":"access_denied"}"#, Code::AccessDenied),
        (403, "<html>", Code::Forbidden),
        (403, "{}", Code::Forbidden),
        (404, "404 page not found", Code::EndpointNotFound),
        (405, "", Code::EndpointNotFound),
        (408, "", Code::NotFromDex),
        (429, "", Code::RateLimited),
        (500, r#"{"error":"server_error"}"#, Code::ServerError),
        (500, "<html>", Code::NotFromDex),
        (500, r#"{"error":"invalid_client"}"#, Code::ServerError),
        (502, "<html>", Code::Unavailable),
        (503, "", Code::Unavailable),
        (307, "", Code::Redirected),
        (204, "", Code::AnswerUnusable),
    ] {
        assert_eq!(code(status, body), expected, "{status} {body}");
    }
}

/// Dex answers a POST to its own other paths with its start page, or with a page that names the
/// mistake.
#[test]
fn a_page_from_another_path_than_that_of_a_token_endpoint_is_a_wrong_path() {
    let page = "<html>Dex</html>";
    for path in ["", "/dex", "/dex/", "/dex/auth", "/dex/tokens", "/dex/token/"] {
        let endpoint = endpoint(&format!("https://dex.example{path}"));
        let context = RequestContext { endpoint: &endpoint, ..context(&[]) };
        for (status, body, expected) in [
            (200, page, Code::EndpointNotFound),
            (204, "", Code::EndpointNotFound),
            (400, page, Code::EndpointNotFound),
            (404, page, Code::EndpointNotFound),
            (401, page, Code::NotFromDex),
            (500, page, Code::NotFromDex),
            (502, page, Code::Unavailable),
            (400, r#"{"error":"invalid_scope"}"#, Code::InvalidScope),
        ] {
            let failure = read(&answer(status, body), context).unwrap_err();
            assert_eq!(failure.code, expected, "{status} from {path}");
        }
    }
}

#[test]
fn a_200_without_a_usable_token_is_a_failure() {
    for (body, expected) in [
        ("", Code::AnswerUnusable),
        ("<html>", Code::AnswerUnusable),
        ("[]", Code::AnswerUnusable),
        (r#"["a"]"#, Code::AnswerUnusable),
        (r#"{"access_token":"a"} trailing"#, Code::AnswerUnusable),
        ("\u{feff}{\"access_token\":\"a\"}", Code::AnswerUnusable),
        (r#"{"access_token":"a","access_token":"b"}"#, Code::AnswerUnusable),
        ("{}", Code::TokenMissing),
        (r#"{"access_token":null}"#, Code::TokenMissing),
        (r#"{"access_token":""}"#, Code::TokenMissing),
        (r#"{"access_token":7}"#, Code::TokenMissing),
        (r#"{"access_token":"a b"}"#, Code::TokenMalformed),
        (r#"{"access_token":"a\r\nb"}"#, Code::TokenMalformed),
        // Later it would count as partial, so it must not be written either.
        (r#"{"access_token":"eyJ.eyJ"}"#, Code::TokenMalformed),
        (r#"{"access_token":"eyJ.eyJ."}"#, Code::TokenMalformed),
        (r#"{"access_token":"a","token_type":"DPoP"}"#, Code::TokenTypeUnsupported),
        (r#"{"access_token":"a","token_type":"N_A"}"#, Code::TokenTypeUnsupported),
        (r#"{"error":"access_denied","access_token":"a"}"#, Code::AccessDenied),
    ] {
        assert_eq!(code(200, body), expected, "{body}");
    }
    // Nested values are skipped.
    for (body, expected) in [
        (r#"{"access_token":[[0],[0]]}"#, Code::TokenMissing),
        (r#"{"access_token":"a","token_type":{},"expires_in":[1]}"#, Code::TokenExpired),
        (r#"{"access_token":"a","error":{"code":7},"expires_in":false}"#, Code::TokenExpired),
    ] {
        assert_eq!(code(200, body), expected, "{body}");
    }
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert_eq!(code(200, &deep), Code::AnswerUnusable);
}

#[test]
fn token_type_n_a_is_accepted_for_an_id_token() {
    let body = r#"{"access_token":"a","token_type":"N_A"}"#;
    let context = RequestContext { requested_type: Some(ID_TOKEN), ..context(&[]) };
    assert!(read(&answer(200, body), context).is_ok());
    let other = r#"{"access_token":"a","issued_token_type":"urn:x"}"#;
    assert_eq!(read(&answer(200, other), context).unwrap().differing_type.as_deref(), Some("urn:x"));
    let same = format!(r#"{{"access_token":"a","issued_token_type":"{ID_TOKEN}"}}"#);
    assert_eq!(read(&answer(200, &same), context).unwrap().differing_type, None);
    for unrequested in [None, Some("")] {
        let context = RequestContext { requested_type: unrequested, ..context };
        assert_eq!(read(&answer(200, other), context).unwrap().differing_type, None);
    }
}

#[test]
fn error_descriptions_are_quoted_bounded_and_without_secrets() {
    let secrets = [Secret::new("eyJhbGciOiJSUzI1NiJ9.payload".to_owned())];
    let detail = |description: &str| {
        let body = serde_json::json!({"error": "access_denied", "error_description": description});
        read(&answer(401, &body.to_string()), context(&secrets)).unwrap_err().detail
    };
    assert_eq!(detail("no\nway"), "401 access_denied: no\\nway");
    assert_eq!(detail(&"x".repeat(300)).len(), "401 access_denied: ".len() + 256 + 3);
    // The quoted part is searched for secrets, and the rest is not.
    let (far, near) = ("x".repeat(256 + 36), "x".repeat(256 + 24));
    assert!(detail(&format!("{far}eyJhbGciOiJSUzI1NiJ9")).ends_with("xxx..."));
    assert!(detail(&format!("{near}eyJhbGciOiJSUzI1NiJ9")).ends_with("repeats a secret and is left out)"));
    let leak = detail("token eyJhbGciOiJSUzI1 is bad");
    assert!(!leak.contains("eyJ"), "{leak}");
    for encoded in ["eyJhbGciOiJSUzI1NiJ9%2epayload", "e%79JhbGciOiJSUzI1NiJ9"] {
        assert!(detail(encoded).ends_with("repeats a secret and is left out)"), "{encoded}");
    }
    let spaced = [Secret::new("a secret with spaces".to_owned())];
    for encoded in ["a+secret+with+spaces", "a%20secret%20with%20spaces"] {
        let body = serde_json::json!({"error": "access_denied", "error_description": encoded});
        let detail = read(&answer(401, &body.to_string()), context(&spaced)).unwrap_err().detail;
        assert!(detail.ends_with("repeats a secret and is left out)"), "{detail}");
    }
    let redirect = Answer {
        location: Some("https://sso.example/login?t=eyJhbGciOiJSUzI1NiJ9".to_owned()),
        ..answer(302, "")
    };
    assert_eq!(read(&redirect, context(&secrets)).unwrap_err().detail, "302 to https://sso.example/login");
}

#[test]
fn the_issued_token_is_not_quoted() {
    const TOKEN: &str = "issued-and-not-to-be-seen";
    for (status, more) in [
        (200, format!(r#""token_type":"{TOKEN}""#)),
        (200, format!(r#""error":"x","error_description":"it was {TOKEN}""#)),
        (400, format!(r#""error":"{TOKEN}""#)),
        (503, format!(r#""error":"x","error_description":"it was {TOKEN}""#)),
    ] {
        let body = format!(r#"{{"access_token":"{TOKEN}",{more}}}"#);
        let failure = read(&answer(status, &body), context(&[])).unwrap_err();
        assert!(!failure.detail.contains("issued") && failure.detail.contains("left out"), "{failure}");
    }
    let body = format!(r#"{{"access_token":"{TOKEN}","issued_token_type":"{TOKEN}"}}"#);
    let context = RequestContext { requested_type: Some(ID_TOKEN), ..context(&[]) };
    let other = read(&answer(200, &body), context).unwrap().differing_type.unwrap();
    assert!(other.contains("left out"), "{other}");
}

#[test]
fn f022_to_f024_retry_after_is_read_in_both_forms() {
    let wait = |header: &str, date: Option<&str>| {
        let answer =
            Answer { retry_after: Some(header.to_owned()), date: date.map(str::to_owned), ..answer(503, "") };
        read(&answer, context(&[])).unwrap_err().retry_after.map(|wait| wait.as_secs())
    };
    assert_eq!(wait("7", None), Some(7));
    assert_eq!(wait("9".repeat(400).as_str(), None), Some(300));
    for invalid in ["-5", "1e309", "soon", "", "7.5"] {
        assert_eq!(wait(invalid, None), None, "{invalid}");
    }
    let date = Some("Sun, 06 Nov 1994 08:49:00 GMT");
    for form in
        ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
    {
        assert_eq!(wait(form, date), Some(37), "{form}");
    }
    assert_eq!(wait("Sun, 06 Nov 1994 08:48:37 GMT", date), Some(0));
    assert_eq!(wait("Fri, 31 Dec 9999 23:59:59 GMT", date), Some(300));
    // Without the server's date this node's clock is used: 1,000 s.
    assert_eq!(wait("Thu, 01 Jan 1970 00:17:00 GMT", None), Some(20));
}
