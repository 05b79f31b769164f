//! Answers that are no success: OAuth errors, pages of whatever stands in front of Dex, redirects.

use super::quoting::{quoted, shows_a_secret};
use super::{Asked, Members, members, with_issued};
use crate::exchange::Answer;
use crate::failure::{Code, Failure, plain};

/// How much is quoted of `error_description`, in characters.
const LONGEST_DESCRIPTION: usize = 256;

/// Any status but a success or a redirect. Only where RFC 6749 §5.2 puts an error code is it looked for.
pub(super) fn refused(answer: &Answer, asked: Asked<'_>) -> Failure {
    let status = answer.status;
    let code = match status {
        404 | 405 | 410 => Code::EndpointNotFound,
        408 | 425 => Code::Unavailable,
        429 => Code::RateLimited,
        500 => Code::ServerError,
        501..600 => Code::Unavailable,
        _ => match members(&answer.body) {
            Some(members) if members.error.as_text().is_some() => {
                let secrets = with_issued(&members, asked.secrets);
                return named(status, &members, Asked { secrets: &secrets, ..asked });
            }
            _ if status == 403 => Code::Forbidden,
            // Go's words, and nginx's.
            _ if [
                "Client sent an HTTP request to an HTTPS server",
                "plain HTTP request was sent to HTTPS port",
            ]
            .iter()
            .any(|words| answer.body.windows(words.len()).any(|part| part == words.as_bytes())) =>
            {
                Code::TlsExpected
            }
            _ => Code::Rejected,
        },
    };
    let said = members(&answer.body).filter(|members| members.error.as_text().is_some()).map_or_else(
        || status.to_string(),
        |members| {
            let secrets = with_issued(&members, asked.secrets);
            said(status, &members, Asked { secrets: &secrets, ..asked })
        },
    );
    Failure::new(code, said)
}

/// An OAuth error by its name.
pub(super) fn named(status: u16, members: &Members, asked: Asked<'_>) -> Failure {
    let description = members.error_description.as_text().unwrap_or_default();
    let code = match members.error.as_text().unwrap_or_default() {
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
        "server_error" => Code::ServerError,
        "temporarily_unavailable" => Code::Unavailable,
        _ => Code::Rejected,
    };
    Failure::new(code, said(status, members, asked))
}

/// `400 invalid_request: Requested connector does not exist.`
fn said(status: u16, members: &Members, asked: Asked<'_>) -> String {
    let error = quoted(members.error.as_text().unwrap_or_default(), asked);
    match members.error_description.as_text() {
        None | Some("") => format!("{status} {error}"),
        Some(description) if shows_a_secret(description, LONGEST_DESCRIPTION, asked) => {
            format!("{status} {error} (its description repeats a secret and is left out)")
        }
        Some(description) => format!("{status} {error}: {}", plain(description, LONGEST_DESCRIPTION)),
    }
}

pub(super) fn redirected(answer: &Answer, asked: Asked<'_>) -> Failure {
    // The host only: a path or query may carry whatever was sent.
    let host = answer.location.as_deref().and_then(|location| {
        location.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(|host| quoted(host, asked)))
    });
    let to = host.map_or_else(String::new, |host| format!(" to {host}"));
    Failure::new(Code::Redirected, format!("{}{to}", answer.status))
}
