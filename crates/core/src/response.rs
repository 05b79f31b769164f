//! Reads the response of the token endpoint: an issued token or a failure.
//!
//! The rules are those of RFC 6749 §5 and RFC 8693 §2.2, and of what Dex makes of them.

mod quoting;
mod refusal;
mod retry_after;

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use crate::claims::Claims;
use crate::endpoint_url::EndpointUrl;
use crate::exchange::{Answer, ID_TOKEN};
use crate::failure::{Code, Failure};
use crate::json::Member;
use crate::limits::{LONGEST_MEMBER, MAX_LIFETIME};
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::token::{IssuedToken, is_bearer_token, is_partial};
use quoting::quoted;
use refusal::{is_token_endpoint, named, redirected, refused};
use retry_after::retry_after;

/// The lifetime of a token if neither the token nor the response states one (F35). A token that
/// lives longer is only refreshed more often than needed.
const ASSUMED_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// The facts about a request that are needed to read its response.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// The URL that the request was sent to.
    pub endpoint: &'a EndpointUrl,
    /// The wall-clock time. It is used for a token that has `exp` only, and for a `Retry-After`
    /// that is a date.
    pub now: UnixTime,
    /// `requested_token_type`, if it was sent.
    pub requested_type: Option<&'a str>,
    /// The secrets that were sent. A failure never quotes them.
    pub secrets: &'a [Secret],
}

/// The members that are used. Other members are ignored (RFC 6749 §5.1); a repeated one of these is
/// an error (F28).
#[derive(Deserialize)]
struct Members {
    #[serde(default)]
    access_token: Member,
    #[serde(default)]
    issued_token_type: Member,
    #[serde(default)]
    token_type: Member,
    #[serde(default)]
    expires_in: Member,
    #[serde(default)]
    scope: Member,
    #[serde(default)]
    error: Member,
    #[serde(default)]
    error_description: Member,
}

/// Reads a complete response. No part of a response may be used before.
///
/// # Errors
/// A [`Failure`] of the step exchange. For a refusal that is an OAuth error, the code is that of
/// the error, such as [`Code::InvalidClient`]. For another status it is one such as
/// [`Code::Unavailable`] or [`Code::NotFromDex`]. For a 200 it is [`Code::AnswerUnusable`],
/// [`Code::TokenMissing`], [`Code::TokenMalformed`], [`Code::TokenTypeUnsupported`] or
/// [`Code::TokenExpired`].
///
/// The detail quotes the status, and of the body only `error` and a bounded, escaped
/// `error_description`. A text that contains a secret is not quoted.
pub fn read(answer: &Answer, context: RequestContext<'_>) -> Result<IssuedToken, Failure> {
    let refusal = |failure| Failure { retry_after: retry_after(answer, context.now), ..failure };
    match answer.status {
        200 => {}
        201..=299 => return Err(unusable(answer, context, "the status is not 200")),
        // The other statuses from 300 on have no `Location` that could be followed.
        301 | 302 | 303 | 307 | 308 => return Err(refusal(redirected(answer, context))),
        _ => return Err(refusal(refused(answer, context))),
    }
    // A body that is JSON is read, whatever `Content-Encoding` says. No body is ever decompressed
    // (F142).
    let Some(members) = members(&answer.body) else {
        return Err(match content_coding(answer, context) {
            Some(coding) => unusable(answer, context, &format!("its body has the content coding {coding}")),
            None => unusable(answer, context, "its body is not the expected JSON object"),
        });
    };
    // The issued token is a secret too.
    let secrets = with_issued(&members, context.secrets);
    let context = RequestContext { secrets: &secrets, ..context };
    match members.error() {
        None => issued(members, context),
        Some(_) if members.oauth_error(answer.status).is_some() => {
            Err(named(answer.status, &members, context))
        }
        Some(error) => Err(unusable(
            answer,
            context,
            &format!("its error {} is not an OAuth error code", quoted(error, context)),
        )),
    }
}

impl Members {
    /// `error`. `None` if it is missing, not a text, or blank: some servers write an empty `error`
    /// beside a token (F143).
    fn error(&self) -> Option<&str> {
        self.error.as_text().filter(|error| !error.trim().is_empty())
    }

    /// `error`, if it has the form of an OAuth error code (RFC 6749 §5.2). All registered codes are
    /// lower-case words. Web frameworks and gateways write a member `error` too, but with a
    /// sentence or with the reason phrase of the status.
    fn oauth_error(&self, status: u16) -> Option<&str> {
        let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        self.error().filter(|error| {
            let as_code = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.:/".contains(c);
            let is_reason =
                reason.is_some_and(|reason| error.replace(['_', '-'], " ").eq_ignore_ascii_case(reason));
            error.chars().all(as_code) && !is_reason
        })
    }
}

/// The content coding of the body, in a form that may be quoted. `None` if the body is not encoded.
fn content_coding(answer: &Answer, context: RequestContext<'_>) -> Option<String> {
    let coding = answer.content_encoding.as_deref()?.trim();
    let plain = ["", "identity", "none"].iter().any(|plain| coding.eq_ignore_ascii_case(plain));
    (!plain).then(|| quoted(coding, context))
}

/// The secrets that were sent, and the issued token.
fn with_issued(members: &Members, secrets: &[Secret]) -> Vec<Secret> {
    let issued = members.access_token.as_text().map(|token| Secret::new(token.to_owned()));
    secrets.iter().cloned().chain(issued).collect()
}

/// The body as a JSON object. The opening brace is checked because serde also deserializes a struct
/// from an array.
fn members(body: &[u8]) -> Option<Members> {
    body.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(body).ok()).flatten()
}

/// Checks the members of a response without an error, and makes them an issued token.
fn issued(members: Members, context: RequestContext<'_>) -> Result<IssuedToken, Failure> {
    let token = match members.access_token.as_text() {
        Some(token) if !token.is_empty() => Secret::new(token.to_owned()),
        _ => return Err(Failure::new(Code::TokenMissing, "")),
    };
    if !is_bearer_token(token.expose()) || is_partial(token.expose()) {
        return Err(Failure::new(Code::TokenMalformed, ""));
    }
    let issued_type = members.issued_token_type.as_text();
    // RFC 8693 §2.2.1: N_A is for tokens that are not access tokens. A missing or empty token_type
    // counts as bearer, as in golang.org/x/oauth2.
    match members.token_type.as_text() {
        None | Some("") => {}
        Some(kind) if kind.eq_ignore_ascii_case("bearer") => {}
        Some(kind) if kind.eq_ignore_ascii_case("N_A") && context.requested_type == Some(ID_TOKEN) => {}
        Some(kind) => {
            return Err(Failure::new(
                Code::TokenTypeUnsupported,
                format!("token_type {}", quoted(kind, context)),
            ));
        }
    }
    let claims = Claims::peek(&token);
    let lifetime = lifetime(&members.expires_in, claims.as_ref(), context.now)?;
    let own = claims.as_ref().and_then(Claims::lifetime);
    let differing_expires_in = whole_seconds(&members.expires_in)
        .zip(own)
        .filter(|(expires_in, own)| expires_in.abs_diff(*own) > *own / 10)
        .map(|(expires_in, _)| expires_in);
    let differing_type = match (issued_type, context.requested_type) {
        (Some(issued), Some(requested)) if issued != requested && !requested.is_empty() => {
            Some(quoted(issued, context))
        }
        _ => None,
    };
    let issued_type = issued_type.or(context.requested_type).filter(|kind| kind.len() <= LONGEST_MEMBER);
    let scope = members.scope.as_text().filter(|scope| scope.len() <= LONGEST_MEMBER);
    Ok(IssuedToken {
        issued_type: issued_type.map(str::to_owned),
        scope: scope.map(str::to_owned),
        token,
        lifetime,
        claims,
        differing_type,
        differing_expires_in,
    })
}

/// The lifetime of a token (F35 to F41). It is the shorter of `expires_in` and the token's
/// `exp - iat`, or the only one of both that is known. Without both it is the time until `exp`, and
/// without that fifteen minutes.
///
/// # Errors
/// [`Code::TokenExpired`]: nothing is left of the lifetime, the token expires before it was issued,
/// or `expires_in` is not a positive whole number and the token states no expiry either.
fn lifetime(expires_in: &Member, claims: Option<&Claims>, now: UnixTime) -> Result<Duration, Failure> {
    let times = claims.and_then(|claims| claims.issued.zip(claims.expires));
    if times.is_some_and(|(issued, expires)| expires <= issued) {
        return Err(Failure::new(Code::TokenExpired, "its exp is not after its iat"));
    }
    let own = claims.and_then(Claims::lifetime);
    let lifetime = match whole_seconds(expires_in) {
        Some(expires_in) => own.map_or(expires_in, |own| own.min(expires_in)),
        None => match (own, claims.and_then(|claims| claims.expires)) {
            (Some(own), _) => own,
            (None, Some(expires)) => now.until(expires),
            // An invalid number may stand for "expired", so it is not replaced by an assumption.
            (None, None) if !expires_in.is_absent() => Duration::ZERO,
            (None, None) => ASSUMED_LIFETIME,
        },
    };
    if lifetime.is_zero() {
        return Err(Failure::new(Code::TokenExpired, ""));
    }
    Ok(lifetime.min(MAX_LIFETIME))
}

/// A positive whole number of seconds, written as `3600`, `3600.0`, `3.6e3` or `"3600"` (F36).
fn whole_seconds(member: &Member) -> Option<Duration> {
    let number = match member {
        Member::Number(number) => *number,
        Member::Text(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().unwrap_or(f64::MAX)
        }
        _ => return None,
    };
    (number > 0.0 && number.fract() == 0.0)
        .then(|| Duration::from_secs_f64(number.min(MAX_LIFETIME.as_secs_f64())))
}

/// The failure for a success status without a usable body.
fn unusable(answer: &Answer, context: RequestContext<'_>, why: &str) -> Failure {
    let kind = answer.content_type.as_deref();
    let kind = kind.map_or_else(|| "no content type".to_owned(), |kind| quoted(kind, context));
    let bytes = answer.body.len();
    let code = if is_token_endpoint(context) { Code::AnswerUnusable } else { Code::EndpointNotFound };
    Failure::new(code, format!("{} with {bytes} bytes, {kind}: {why}", answer.status))
}

#[cfg(test)]
mod tests;
