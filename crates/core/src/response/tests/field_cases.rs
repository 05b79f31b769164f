//! Tests with responses from the field (F142 to F147): wrong headers, empty errors, and pages that
//! an ingress, a gateway or a service mesh sends instead of Dex.

use super::*;
use crate::failure::{Owner, RetryClass};

const SUCCESS: &str = r#"{"access_token":"abc","token_type":"bearer","expires_in":60}"#;

fn coded(status: u16, coding: &str, body: &str) -> Answer {
    Answer { content_encoding: Some(coding.to_owned()), ..answer(status, body) }
}

fn redirect(status: u16, location: &str) -> Answer {
    Answer { location: Some(location.to_owned()), ..answer(status, "") }
}

fn failure(answer: &Answer, context: RequestContext<'_>) -> Failure {
    read(answer, context).unwrap_err()
}

#[test]
fn f142_a_wrong_content_encoding_is_ignored_where_the_body_is_the_expected_json() {
    for coding in ["UTF-8", "none", "identity", "IDENTITY", "", "gzip", "br", "deflate, gzip", "aws-chunked"]
    {
        let issued = read(&coded(200, coding, SUCCESS), context(&[])).unwrap();
        assert_eq!(issued.token.expose(), "abc", "{coding}");
        let refused = failure(&coded(401, coding, r#"{"error":"invalid_client"}"#), context(&[]));
        assert_eq!(refused.code, Code::InvalidClient, "{coding}");
    }
}

#[test]
fn f142_a_body_that_is_not_the_expected_json_is_reported_with_its_content_coding() {
    for (coding, reported) in [
        ("gzip", Some("gzip")),
        ("br", Some("br")),
        ("UTF-8", Some("UTF-8")),
        ("zstd\r\nx: y", Some(r"zstd\r\nx: y")),
        ("identity", None),
        ("None", None),
        (" ", None),
    ] {
        let failure = failure(&coded(200, coding, "\u{1f}\u{8b}\u{8}"), context(&[]));
        assert_eq!(failure.code, Code::AnswerUnusable);
        let expected = reported.map_or_else(
            || "its body is not the expected JSON object".to_owned(),
            |coding| format!("its body has the content coding {coding}"),
        );
        assert!(failure.detail.ends_with(&expected), "{failure}");
    }
    // The encoded body may be an OAuth error of Dex.
    for status in [400, 401, 500] {
        let failure = failure(&coded(status, "gzip", "\u{1f}\u{8b}\u{8}"), context(&[]));
        assert_eq!(failure.code, Code::AnswerUnusable);
        assert_eq!(failure.detail, format!("{status}: its body has the content coding gzip"));
    }
    assert_eq!(failure(&coded(503, "gzip", "\u{1f}\u{8b}\u{8}"), context(&[])).code, Code::Unavailable);
    assert_eq!(failure(&coded(413, "gzip", "\u{1f}\u{8b}\u{8}"), context(&[])).code, Code::NotFromDex);
}

#[test]
fn f143_a_blank_error_beside_a_token_is_ignored() {
    for error in [r#""""#, r#"" ""#, r#""\t\n""#, "null", "false", "0", "[]", "{}", r#"{"code":7}"#] {
        let body = format!(r#"{{"access_token":"abc","expires_in":60,"error":{error}}}"#);
        assert_eq!(read(&answer(200, &body), context(&[])).unwrap().token.expose(), "abc", "{error}");
        let described = format!(r#"{{"access_token":"abc","error":{error},"error_description":""}}"#);
        assert!(read(&answer(200, &described), context(&[])).is_ok(), "{error}");
        assert_eq!(code(200, &format!(r#"{{"error":{error}}}"#)), Code::TokenMissing, "{error}");
    }
    for error in ["access_denied", "Access denied", "x"] {
        let body = format!(r#"{{"access_token":"abc","error":"{error}"}}"#);
        assert!(read(&answer(200, &body), context(&[])).is_err(), "{error}");
    }
}

#[test]
fn f143_a_blank_error_in_a_refusal_is_not_an_oauth_error() {
    for error in [r#""""#, r#"" ""#, "null", "false", "{}"] {
        let body = format!(r#"{{"error":{error},"error_description":"no"}}"#);
        for (status, expected) in [
            (400, Code::NotFromDex),
            (401, Code::NotFromDex),
            (403, Code::Forbidden),
            (404, Code::EndpointNotFound),
            (500, Code::NotFromDex),
            (503, Code::Unavailable),
        ] {
            assert_eq!(code(status, &body), expected, "{status} {body}");
        }
    }
}

#[test]
fn f144_argo_cd_s_redirect_in_place_of_a_500_is_a_server_error() {
    for (status, location) in [
        (303, "/login?has_sso_error=true"),
        (302, "/login?has_sso_error=true"),
        (307, "/argo-cd/login?has_sso_error=true"),
        (303, "login?has_sso_error=true"),
        (303, "https://argocd.example/login?has_sso_error=true"),
        (303, "//argocd.example/login?has_sso_error=true"),
        (303, "/login?return_url=%2Fapplications&has_sso_error=true"),
        (303, "/login?has_sso_error=true&return_url=https%3A%2F%2Fargocd.example#top"),
    ] {
        let failure = failure(&redirect(status, location), context(&[]));
        assert_eq!(failure.code, Code::ServerError, "{location}");
        assert_eq!((failure.entry().retry, failure.entry().owner), (RetryClass::Network, Owner::DexOperator));
        assert!(failure.detail.starts_with(&format!("{status} to https://")), "{failure}");
        assert!(failure.detail.contains("Argo CD") && !failure.detail.contains('?'), "{failure}");
    }
    for location in [
        "/login",
        "/login?has_sso_error=false",
        "/login?x=has_sso_error=true",
        "/login?no_has_sso_error=true",
        "/has_sso_error=true",
        "/login#?has_sso_error=true",
    ] {
        assert_eq!(failure(&redirect(303, location), context(&[])).code, Code::Redirected, "{location}");
    }
}

#[test]
fn f144_a_redirect_s_target_is_shown_without_user_query_and_fragment() {
    for (location, shown) in [
        ("https://sso.example/login?state=x#y", "302 to https://sso.example/login"),
        ("https://user:pass@sso.example:8443/a/b", "302 to https://sso.example:8443/a/b"),
        ("HTTPS://SSO.example", "302 to https://SSO.example/"),
        ("//sso.example/login?x", "302 to https://sso.example/login"),
        ("/login?rd=https://dex.example/dex/token", "302 to https://dex.example/login"),
        ("token/", "302 to https://dex.example/dex/token/"),
        ("../auth?x=y", "302 to https://dex.example/dex/../auth"),
        ("", "302"),
        ("?x", "302"),
        ("#x", "302"),
        ("mailto:user:pass@sso.example", "302"),
        ("javascript:alert(1)", "302"),
        ("https://", "302"),
        ("https://[", "302"),
        ("/\r\nforged", "302"),
        ("\u{fffd}", r"302 to https://dex.example/dex/\u{fffd}"),
    ] {
        let failure = failure(&redirect(302, location), context(&[]));
        assert_eq!((failure.code, failure.detail.as_str()), (Code::Redirected, shown), "{location}");
    }
    assert_eq!(failure(&answer(302, ""), context(&[])).detail, "302");
    let long = failure(&redirect(302, &format!("/{}", "x".repeat(5_000))), context(&[])).detail;
    assert_eq!((long.len(), long.ends_with("xxx...")), ("302 to ".len() + 200 + 3, true), "{long}");
}

#[test]
fn f144_a_redirect_s_path_or_host_that_repeats_a_secret_is_left_out() {
    let secrets = [Secret::new("canarycanarycanary".to_owned())];
    for (location, shown) in [
        ("https://sso.example/canarycanarycanary", "302 to https://sso.example"),
        ("https://sso.example/%63anarycanarycanary?x", "302 to https://sso.example"),
        ("https://canarycanarycanary.example/login", "302 (its target repeats a secret and is left out)"),
    ] {
        assert_eq!(failure(&redirect(302, location), context(&secrets)).detail, shown, "{location}");
    }
}

#[test]
fn f144_a_redirect_to_https_on_the_same_host_is_reported_as_such() {
    let https = ": the same host with https";
    for (location, upgrade) in [
        ("https://dex.example/dex/token", true),
        ("https://DEX.example:8443/dex/token", true),
        ("https://dex.example./dex/token", true),
        ("https://sso.example/dex/token", false),
        ("http://dex.example/dex/token/", false),
        ("/dex/token/", false),
    ] {
        for status in [301, 302, 307, 308] {
            let failure = failure(&redirect(status, location), over_http());
            assert_eq!(
                (failure.code, failure.detail.ends_with(https)),
                (Code::Redirected, upgrade),
                "{failure}"
            );
            assert!(failure.entry().fix.contains("https://"));
        }
        assert!(!failure(&redirect(301, location), context(&[])).detail.ends_with(https), "{location}");
    }
}

/// Traefik and others send such responses while Dex has no ready pod.
#[test]
fn f145_a_response_without_an_oauth_error_has_the_retry_class_network() {
    let pages =
        ["", "<html>", "404 page not found\n", "{}", r#"{"message":"no Route matched"}"#, "null", "\"x\""];
    for status in (100..200).chain(201..1_000) {
        for page in pages {
            for (answer, context) in [
                (answer(status, page), context(&[])),
                (redirect(status, "https://sso.example/"), over_http()),
            ] {
                let failure = failure(&answer, context);
                assert_eq!(failure.entry().retry, RetryClass::Network, "{status} {page}: {}", failure.code);
            }
        }
    }
    for page in pages {
        assert_eq!(
            failure(&answer(200, page), context(&[])).entry().retry,
            RetryClass::Network,
            "200 {page}"
        );
    }
}

#[test]
fn f146_pages_of_proxies_are_not_taken_for_responses_of_dex() {
    for (status, body, expected) in [
        (400, "<center>nginx</center>", Code::NotFromDex),
        (400, r#"{"message":"Bad Request"}"#, Code::NotFromDex),
        (401, "<html><h1>401 Authorization Required</h1>", Code::NotFromDex),
        (401, r#"{"message":"No API key found in request"}"#, Code::NotFromDex),
        (401, "Jwt is missing", Code::NotFromDex),
        (402, "", Code::NotFromDex),
        (403, "RBAC: access denied", Code::Forbidden),
        (403, r#"{"error":"blocked"}"#, Code::Forbidden),
        (404, "404 page not found", Code::EndpointNotFound),
        (404, "default backend - 404", Code::EndpointNotFound),
        (405, "", Code::EndpointNotFound),
        (407, "", Code::NotFromDex),
        (408, "", Code::NotFromDex),
        (411, "", Code::NotFromDex),
        (413, "<html>", Code::NotFromDex),
        (414, "", Code::NotFromDex),
        (415, "", Code::NotFromDex),
        (421, "", Code::NotFromDex),
        (425, "", Code::NotFromDex),
        (426, "Upgrade Required", Code::NotFromDex),
        (429, r#"{"error":"slow_down"}"#, Code::RateLimited),
        (431, "Request Header Fields Too Large", Code::NotFromDex),
        (451, "", Code::NotFromDex),
        (500, "Internal Server Error", Code::NotFromDex),
        (501, "", Code::NotFromDex),
        (502, "<html>", Code::Unavailable),
        (503, "no healthy upstream", Code::Unavailable),
        (504, "upstream request timeout", Code::Unavailable),
        (505, "", Code::NotFromDex),
        (511, "", Code::NotFromDex),
        (522, "error code: 522", Code::Unavailable),
        (999, "", Code::NotFromDex),
        (101, "", Code::NotFromDex),
    ] {
        let failure = failure(&answer(status, body), context(&[]));
        assert_eq!(failure.code, expected, "{status} {body}");
        // A wrong path is as likely as an ingress without a route, so the owner is not the network.
        let not_found = expected == Code::EndpointNotFound;
        assert_eq!(failure.entry().owner == Owner::Network, !not_found, "{status} {body}");
        assert!(failure.entry().fix.contains("ingress"), "{status} {body}");
    }
    let not_found = Code::EndpointNotFound.entry().fix;
    assert!(
        not_found.contains("dex_endpoint") && not_found.contains("no route or no ready pod"),
        "{not_found}"
    );
}

/// Spring and others write the reason phrase of the status into `error`; gateways write a sentence.
#[test]
fn f146_an_error_that_is_not_an_oauth_error_code_is_not_taken_for_one_of_dex() {
    for (status, error, expected) in [
        (400, "Bad Request", Code::NotFromDex),
        (400, "bad_request", Code::NotFromDex),
        (401, "Unauthorized", Code::NotFromDex),
        (401, "unauthorized", Code::NotFromDex),
        (401, "No bearer token was found.", Code::NotFromDex),
        (403, "forbidden", Code::Forbidden),
        (404, "Not Found", Code::EndpointNotFound),
        (413, "entity_too_large", Code::NotFromDex),
        (500, "Internal Server Error", Code::NotFromDex),
        (500, "oops", Code::NotFromDex),
        (503, "no_route", Code::Unavailable),
        (200, "No route.", Code::AnswerUnusable),
        // With a status of Dex's token handler an OAuth error counts as one of Dex, even an unknown
        // one.
        (400, "brand_new", Code::Rejected),
        (401, "urn:x:brand-new", Code::Rejected),
        (200, "brand_new", Code::Rejected),
        (403, "access_denied", Code::Forbidden),
        (404, "invalid_client", Code::EndpointNotFound),
        (422, "invalid_request", Code::NotFromDex),
        (500, "invalid_client", Code::ServerError),
        (503, "temporarily_unavailable", Code::Unavailable),
    ] {
        let failure = failure(&answer(status, &format!(r#"{{"error":"{error}"}}"#)), context(&[]));
        assert_eq!(failure.code, expected, "{status} {error}");
        assert!(failure.detail.contains(error), "{failure}");
    }
}

#[test]
fn f146_a_demand_for_a_client_certificate_is_named() {
    for (status, body) in [
        (400, "<center>No required SSL certificate was sent</center><hr><center>nginx/1.25</center>"),
        (400, "<center>The SSL certificate error</center>"),
        (496, "No required SSL certificate was sent"),
        (403, "Reason: Cannot perform Post-Handshake Authentication.<br />"),
    ] {
        let failure = failure(&answer(status, body), context(&[]));
        assert_eq!(failure.code, Code::NotFromDex, "{status} {body}");
        assert!(failure.detail.contains("it demands a client certificate"), "{failure}");
    }
}

#[test]
fn f146_the_header_server_is_quoted() {
    let secrets = [Secret::new("canarycanarycanary".to_owned())];
    for (status, server, detail) in [
        (502, "nginx", "502 from nginx"),
        (404, "Apache/2.4 (Debian)", "404 from Apache/2.4 (Debian)"),
        (403, "istio-envoy\r\nx: y", r"403 from istio-envoy\r\nx: y"),
        (413, " ", "413"),
        (503, "canarycanarycanary", "503 from (left out: it repeats a secret)"),
        (302, "openresty", "302 from openresty"),
    ] {
        let answer = Answer { server: Some(server.to_owned()), ..answer(status, "<html>") };
        assert_eq!(failure(&answer, context(&secrets)).detail, detail);
    }
}

#[test]
fn f146_retry_after_is_honoured_with_each_status() {
    for status in [302, 400, 403, 404, 408, 413, 429, 500, 503] {
        let answer = Answer { retry_after: Some("7".to_owned()), ..answer(status, "<html>") };
        assert_eq!(failure(&answer, context(&[])).retry_after, Some(Duration::from_secs(7)), "{status}");
    }
}

#[test]
fn f147_servers_that_expect_tls_are_recognized_by_their_message() {
    for (server, message) in [
        ("Go", "Client sent an HTTP request to an HTTPS server.\n"),
        ("nginx", "<center>The plain HTTP request was sent to HTTPS port</center>"),
        ("Tomcat", "Bad Request\r\nThis combination of host and port requires TLS.\r\n"),
        (
            "Apache",
            "Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />\n Instead use the HTTPS scheme",
        ),
        ("cheroot", "The client sent a plain HTTP request, but this server only speaks HTTPS on this port."),
    ] {
        let answer = answer(400, message);
        assert_eq!(failure(&answer, over_http()).code, Code::TlsExpected, "{server}");
        // Over TLS it is the ingress that forwarded plain http.
        let behind = failure(&answer, context(&[]));
        assert_eq!(behind.code, Code::NotFromDex, "{server}");
        assert!(behind.detail.contains("plain http was forwarded"), "{behind}");
    }
    assert_eq!(failure(&answer(400, "Bad Request"), over_http()).code, Code::NotFromDex);
}
