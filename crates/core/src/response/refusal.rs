//! Reads responses that are not a success: OAuth errors, redirects, and pages of proxies.
//!
//! Dex's token handler writes each error as JSON with a member `error` and the status 400, 401 or
//! 500 (`tokenErrHelper` in Dex's server/oauth2.go). A response without such a member comes from
//! something else: an ingress, a gateway, a service mesh, or a web server at a path where Dex has
//! no token endpoint.

use super::quoting::{quoted, quoted_to};
use super::{Members, RequestContext, content_coding, members, with_issued};
use crate::endpoint_url::EndpointUrl;
use crate::exchange::Answer;
use crate::failure::{Code, Failure};
use crate::limits::{LONGEST_DESCRIPTION, LONGEST_REDIRECT_TARGET};

/// The messages of servers that expect TLS and received plain http: Go (also Dex, Traefik, Caddy),
/// nginx, Tomcat, Apache, cheroot. Jetty, Undertow, Envoy, HAProxy, IIS and Kestrel send none: they
/// close the connection.
const TLS_EXPECTED: [&str; 5] = [
    "Client sent an HTTP request to an HTTPS server",
    "plain HTTP request was sent to HTTPS port",
    "This combination of host and port requires TLS",
    "speaking plain HTTP to an SSL-enabled server port",
    "this server only speaks HTTPS on this port",
];

/// The messages of nginx (its statuses 496 and 495) and Apache that demand a client certificate.
const CERTIFICATE_DEMANDED: [&str; 3] =
    ["No required SSL certificate was sent", "The SSL certificate error", "Post-Handshake Authentication"];

/// The failure for any status except a success or a redirect. An OAuth error code is read only from
/// the member `error`, where RFC 6749 §5.2 puts it.
pub(super) fn refused(answer: &Answer, context: RequestContext<'_>) -> Failure {
    let status = answer.status;
    let members = members(&answer.body);
    if let Some(members) = members.as_ref().filter(|members| members.error().is_some()) {
        let secrets = with_issued(members, context.secrets);
        let context = RequestContext { secrets: &secrets, ..context };
        let code = match by_name(status, members) {
            Some(code) if matches!(status, 400 | 401) => Some(code),
            // Whatever the code, a 500 is an error of the server and not of the request.
            Some(code) if status == 500 && code != Code::Rejected => Some(Code::ServerError),
            // Dex sends no OAuth error with another status, so this one comes from something else.
            _ => None,
        };
        return Failure::new(
            code.unwrap_or_else(|| by_status(status, context)),
            error_and_description(status, members, context),
        );
    }
    let contains = |messages: &[&str]| {
        messages.iter().any(|text| answer.body.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    let status_and_server = status_and_server(answer, context);
    if contains(&TLS_EXPECTED) {
        return if context.endpoint.is_tls() {
            // An ingress ended TLS and forwarded plain http to Dex, or to another server.
            Failure::new(
                Code::NotFromDex,
                format!("{status_and_server}: plain http was forwarded to a port that expects TLS"),
            )
        } else {
            Failure::new(Code::TlsExpected, status_and_server)
        };
    }
    if contains(&CERTIFICATE_DEMANDED) {
        let why = "it demands a client certificate, which dexsidecar does not send";
        return Failure::new(Code::NotFromDex, format!("{status_and_server}: {why}"));
    }
    // A body that cannot be read may hold an OAuth error of Dex.
    if let Some(coding) = content_coding(answer, context).filter(|_| matches!(status, 400 | 401 | 500)) {
        return Failure::new(
            Code::AnswerUnusable,
            format!("{status_and_server}: its body has the content coding {coding}"),
        );
    }
    Failure::new(by_status(status, context), status_and_server)
}

/// The code for a status without an OAuth error.
fn by_status(status: u16, context: RequestContext<'_>) -> Code {
    match status {
        // A page of Dex, such as its login page.
        400 if !is_token_endpoint(context) => Code::EndpointNotFound,
        403 => Code::Forbidden,
        404 | 405 | 410 => Code::EndpointNotFound,
        429 => Code::RateLimited,
        // 520 to 530 are Cloudflare's.
        502..=504 | 520..=530 => Code::Unavailable,
        _ => Code::NotFromDex,
    }
}

/// Whether the path ends with `/token`, as that of Dex's token endpoint does. If it does not, the
/// path is the likely cause of a response that no token endpoint sends.
pub(super) fn is_token_endpoint(context: RequestContext<'_>) -> bool {
    context.endpoint.issuer_path().is_some()
}

/// The code for an OAuth error. `None` if `error` is not an OAuth error code.
fn by_name(status: u16, members: &Members) -> Option<Code> {
    let description = members.error_description.as_text().unwrap_or_default();
    Some(match members.oauth_error(status)? {
        // Dex's message for an unknown connector and for one that it could not open
        // (`handleTokenExchange` in server/handlers.go).
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

/// The failure for an OAuth error with the status 200.
pub(super) fn named(status: u16, members: &Members, context: RequestContext<'_>) -> Failure {
    Failure::new(
        by_name(status, members).unwrap_or(Code::Rejected),
        error_and_description(status, members, context),
    )
}

/// The detail of a failure, such as `400 invalid_request: Requested connector does not exist.`.
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

/// The detail of a failure without an OAuth error, such as `502 from nginx`. Dex sends no header
/// `Server`. A forward proxy is named too, because it may have answered.
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

/// The failure for a redirect. The target is shown without user, password, query and fragment,
/// which may repeat what was sent.
pub(super) fn redirected(answer: &Answer, context: RequestContext<'_>) -> Failure {
    let location = answer.location.as_deref().unwrap_or_default().trim();
    let target = target(location, context.endpoint);
    let status_and_target = status_and_server(answer, context)
        + &target.as_ref().map_or_else(String::new, |target| to(target, context));
    // Argo CD's proxy for Dex replaces each 500 of Dex by this redirect (util/dex/dex.go in Argo
    // CD).
    if query(location).split('&').any(|pair| pair == "has_sso_error=true") {
        return Failure::new(
            Code::ServerError,
            format!("{status_and_target}: Argo CD redirects like this when Dex answers 500"),
        );
    }
    let to_https =
        target.is_some_and(|to| to.is_tls() && !context.endpoint.is_tls() && to.is_host_of(context.endpoint));
    let why = if to_https { ": the same host with https" } else { "" };
    Failure::new(Code::Redirected, format!("{status_and_target}{why}"))
}

/// The target of a redirect as a part of the detail, such as ` to https://dex.example/token`. A
/// path that contains a secret is left out, or else the whole target.
fn to(target: &EndpointUrl, context: RequestContext<'_>) -> String {
    let origin = target.origin();
    let path = target.target().split('?').next().unwrap_or_default();
    quoted_to(&format!("{origin}{path}"), LONGEST_REDIRECT_TARGET, context)
        .or_else(|| quoted_to(&origin, LONGEST_REDIRECT_TARGET, context))
        .map_or_else(
            || " (its target repeats a secret and is left out)".to_owned(),
            |shown| format!(" to {shown}"),
        )
}

/// The URL that a `Location` refers to (RFC 9110 §10.2.2). `None` if it is neither http nor https.
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
