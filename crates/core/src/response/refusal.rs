//! Answers that are no success: OAuth errors, pages of whatever stands in front of Dex, redirects.
//!
//! Dex's token handler writes each of its errors as JSON with a member `error` (`tokenErrHelper` in server/oauth2.go), with
//! the status 400, 401 or 500. What has no such member was written by something else: an ingress, a gateway, a service
//! mesh, or the web server at a path where Dex has no token endpoint.

use super::quoting::{quoted, quoted_to};
use super::{Members, RequestContext, content_coding, members, with_issued};
use crate::endpoint_url::EndpointUrl;
use crate::exchange::Answer;
use crate::failure::{Code, Failure};

/// How much is quoted of `error_description`, and of a redirect's target, in characters.
const LONGEST_DESCRIPTION: usize = 256;
const LONGEST_TARGET: usize = 200;

/// The words of servers that expect TLS and got plain http: Go and what is built with it, nginx, Tomcat, Apache, cheroot.
/// Jetty, Undertow, Envoy, HAProxy, IIS and Kestrel have none: they close the connection.
const TLS_EXPECTED: [&str; 5] = [
    "Client sent an HTTP request to an HTTPS server",
    "plain HTTP request was sent to HTTPS port",
    "This combination of host and port requires TLS",
    "speaking plain HTTP to an SSL-enabled server port",
    "this server only speaks HTTPS on this port",
];

/// The words of nginx (its statuses 496 and 495) and Apache where a client certificate is demanded over HTTP.
const CERTIFICATE_DEMANDED: [&str; 3] =
    ["No required SSL certificate was sent", "The SSL certificate error", "Post-Handshake Authentication"];

/// Any status but a success or a redirect. Only where RFC 6749 §5.2 puts an error code is it looked for.
pub(super) fn refused(answer: &Answer, context: RequestContext<'_>) -> Failure {
    let status = answer.status;
    let members = members(&answer.body);
    if let Some(members) = members.as_ref().filter(|members| members.error().is_some()) {
        let secrets = with_issued(members, context.secrets);
        let context = RequestContext { secrets: &secrets, ..context };
        let code = match by_name(status, members) {
            Some(code) if matches!(status, 400 | 401) => Some(code),
            // A server in trouble may give any reason.
            Some(code) if status == 500 && code != Code::Rejected => Some(Code::ServerError),
            // Dex answers with no other status, so the name is somebody else's.
            _ => None,
        };
        return Failure::new(
            code.unwrap_or_else(|| by_status(status)),
            error_and_description(status, members, context),
        );
    }
    let says = |words: &[&str]| {
        words.iter().any(|words| answer.body.windows(words.len()).any(|part| part == words.as_bytes()))
    };
    let told = status_and_server(answer, context);
    if says(&TLS_EXPECTED) {
        return if context.endpoint.is_tls() {
            // Dex's own words, or those of what stands behind the ingress.
            Failure::new(
                Code::NotFromDex,
                format!("{told}: plain http was sent on to a port that expects TLS"),
            )
        } else {
            Failure::new(Code::TlsExpected, told)
        };
    }
    if says(&CERTIFICATE_DEMANDED) {
        let why = "it demands a client certificate, which dexsidecar does not send";
        return Failure::new(Code::NotFromDex, format!("{told}: {why}"));
    }
    // What cannot be read may be an error of Dex.
    if let Some(coding) = content_coding(answer, context).filter(|_| matches!(status, 400 | 401 | 500)) {
        return Failure::new(
            Code::AnswerUnusable,
            format!("{told}: its body has the content coding {coding}"),
        );
    }
    Failure::new(by_status(status), told)
}

/// What a status says by itself.
const fn by_status(status: u16) -> Code {
    match status {
        403 => Code::Forbidden,
        404 | 405 | 410 => Code::EndpointNotFound,
        429 => Code::RateLimited,
        // From 520 on they are Cloudflare's.
        502..=504 | 520..=530 => Code::Unavailable,
        _ => Code::NotFromDex,
    }
}

/// An OAuth error by its name; nothing where the name is none.
fn by_name(status: u16, members: &Members) -> Option<Code> {
    let description = members.error_description.as_text().unwrap_or_default();
    Some(match members.oauth_error(status)? {
        // Dex's words for an unknown connector and for one it could not open (server/handlers.go).
        "invalid_request" if description.starts_with("Requested connector does not exist") => {
            Code::ConnectorUnknown
        }
        "invalid_request" => Code::InvalidRequest,
        "invalid_client" => Code::InvalidClient,
        "invalid_grant" => Code::InvalidGrant,
        "invalid_scope" => Code::InvalidScope,
        "invalid_target" => Code::InvalidTarget,
        "unauthorized_client" => Code::UnauthorizedClient,
        "unsupported_grant_type" => Code::UnsupportedGrantType,
        "request_not_supported" => Code::RequestNotSupported,
        "access_denied" => Code::AccessDenied,
        "server_error" | "temporarily_unavailable" => Code::ServerError,
        _ => Code::Rejected,
    })
}

/// An OAuth error under the status 200.
pub(super) fn named(status: u16, members: &Members, context: RequestContext<'_>) -> Failure {
    Failure::new(
        by_name(status, members).unwrap_or(Code::Rejected),
        error_and_description(status, members, context),
    )
}

/// `400 invalid_request: Requested connector does not exist.`
fn error_and_description(status: u16, members: &Members, context: RequestContext<'_>) -> String {
    let error = quoted(members.error().unwrap_or_default(), context);
    match members.error_description.as_text() {
        None | Some("") => format!("{status} {error}"),
        Some(description) => match quoted_to(description, LONGEST_DESCRIPTION, context) {
            Some(description) => format!("{status} {error}: {description}"),
            None => format!("{status} {error} (its description repeats a secret and is left out)"),
        },
    }
}

/// `502 from nginx`: Dex itself sends no `Server`. A proxy that forwarded the request may be who answered.
fn status_and_server(answer: &Answer, context: RequestContext<'_>) -> String {
    let proxy = answer
        .through_proxy
        .as_ref()
        .map_or_else(String::new, |proxy| format!(", through the proxy {proxy}"));
    match answer.server.as_deref().map(str::trim) {
        None | Some("") => format!("{}{proxy}", answer.status),
        Some(server) => format!("{} from {}{proxy}", answer.status, quoted(server, context)),
    }
}

/// A redirect. Its target is shown without user, password, query and fragment, which may repeat what was sent.
pub(super) fn redirected(answer: &Answer, context: RequestContext<'_>) -> Failure {
    let location = answer.location.as_deref().unwrap_or_default().trim();
    let target = target(location, context.endpoint);
    let told = status_and_server(answer, context)
        + &target.as_ref().map_or_else(String::new, |target| to(target, context));
    // Argo CD's proxy for Dex replaces each 500 of Dex by this (its util/dex/dex.go).
    if query(location).split('&').any(|pair| pair == "has_sso_error=true") {
        return Failure::new(
            Code::ServerError,
            format!("{told}: Argo CD redirects like this when Dex answers 500"),
        );
    }
    let to_https =
        target.is_some_and(|to| to.is_tls() && !context.endpoint.is_tls() && to.is_host_of(context.endpoint));
    let why = if to_https { ": the same host with https" } else { "" };
    Failure::new(Code::Redirected, format!("{told}{why}"))
}

/// ` to https://dex.example/token`, or as much of it as shows no secret.
fn to(target: &EndpointUrl, context: RequestContext<'_>) -> String {
    let origin = target.origin();
    let path = target.target().split('?').next().unwrap_or_default();
    quoted_to(&format!("{origin}{path}"), LONGEST_TARGET, context)
        .or_else(|| quoted_to(&origin, LONGEST_TARGET, context))
        .map_or_else(
            || " (its target repeats a secret and is left out)".to_owned(),
            |shown| format!(" to {shown}"),
        )
}

/// Where a `Location` leads (RFC 9110 §10.2.2). Nothing for what is neither http nor https.
fn target(location: &str, endpoint: &EndpointUrl) -> Option<EndpointUrl> {
    let origin = endpoint.origin();
    let path = endpoint.target().split('?').next().unwrap_or_default();
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let absolute = match location.split(['/', '?', '#']).next().unwrap_or_default() {
        "" if location.starts_with("//") => {
            format!("{}:{location}", if endpoint.is_tls() { "https" } else { "http" })
        }
        "" if location.starts_with('/') => format!("{origin}{location}"),
        "" => return None,
        scheme if scheme.contains(':') => location.to_owned(),
        _ => format!("{origin}{directory}/{location}"),
    };
    Some(EndpointUrl::parse(&absolute).ok()?.0)
}

/// The query of a URL.
fn query(url: &str) -> &str {
    let url = url.split('#').next().unwrap_or_default();
    url.split_once('?').map_or("", |(_, query)| query)
}
