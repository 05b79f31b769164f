//! From an answer to an issued token or a failure: RFC 6749 §5, RFC 8693 §2.2, and what Dex makes of them.

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
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::token::{IssuedToken, is_bearer_token, is_partial};
use quoting::quoted;
use refusal::{named, redirected, refused};
use retry_after::retry_after;

/// No lifetime is believed beyond ten years (F38).
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The life of a token that says nothing of its own, and of which the answer says nothing either (F35).
const ASSUMED_LIFE: Duration = Duration::from_secs(15 * 60);

/// What was known when the request was sent.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// Where it was sent.
    pub endpoint: &'a EndpointUrl,
    /// Wall time, for a token whose life only its `exp` tells, and a Retry-After that is a date.
    pub now: UnixTime,
    /// `requested_token_type`, if one was sent.
    pub requested_type: Option<&'a str>,
    /// What was sent and must not be quoted back.
    pub secrets: &'a [Secret],
}

/// The members that matter; others are ignored (RFC 6749 §5.1), a repeated one of these is an error (F28).
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
    error: Member,
    #[serde(default)]
    error_description: Member,
}

/// Judges an answer as a whole; nothing of it may be used before.
///
/// # Errors
/// Why it brings no token. The detail quotes the status, and of the body only `error` and a bounded, escaped
/// `error_description`, unless that shows something secret.
pub fn read(answer: &Answer, context: RequestContext<'_>) -> Result<IssuedToken, Failure> {
    let refusal = |failure| Failure { retry_after: retry_after(answer, context.now), ..failure };
    match answer.status {
        200 => {}
        201..=299 => return Err(unusable(answer, context, "it is no 200")),
        // Other statuses from 300 on lead nowhere.
        301 | 302 | 303 | 307 | 308 => return Err(refusal(redirected(answer, context))),
        _ => return Err(refusal(refused(answer, context))),
    }
    // What the body holds counts, whatever `Content-Encoding` says of it; nothing is ever unpacked (F142).
    let Some(members) = members(&answer.body) else {
        return Err(match content_coding(answer, context) {
            Some(coding) => unusable(answer, context, &format!("its body has the content coding {coding}")),
            None => unusable(answer, context, "it is not the JSON object that was expected"),
        });
    };
    // What it issues is as secret as what was sent.
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
            &format!("it says {}, which is no OAuth error", quoted(error, context)),
        )),
    }
}

impl Members {
    /// `error`, unless it is missing, no text, empty or blank: some servers write an empty one beside a token (F143).
    fn error(&self) -> Option<&str> {
        self.error.as_text().filter(|error| !error.trim().is_empty())
    }

    /// `error`, if it can be an OAuth error code (RFC 6749 §5.2). All registered ones are lower-case words. Web
    /// frameworks and gateways have a member `error` too, and put a sentence or the status' reason phrase there.
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

/// The content coding of an answer's body, quoted; nothing where there is none.
fn content_coding(answer: &Answer, context: RequestContext<'_>) -> Option<String> {
    let coding = answer.content_encoding.as_deref()?.trim();
    let plain = ["", "identity", "none"].iter().any(|plain| coding.eq_ignore_ascii_case(plain));
    (!plain).then(|| quoted(coding, context))
}

fn with_issued(members: &Members, secrets: &[Secret]) -> Vec<Secret> {
    let issued = members.access_token.as_text().map(|token| Secret::new(token.to_owned()));
    secrets.iter().cloned().chain(issued).collect()
}

/// The body as a JSON object. (serde would take an array for a struct too.)
fn members(body: &[u8]) -> Option<Members> {
    body.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(body).ok()).flatten()
}

fn issued(members: Members, context: RequestContext<'_>) -> Result<IssuedToken, Failure> {
    let token = match members.access_token.as_text() {
        Some(token) if !token.is_empty() => Secret::new(token.to_owned()),
        _ => return Err(Failure::new(Code::TokenMissing, "")),
    };
    if !is_bearer_token(token.expose()) || is_partial(token.expose()) {
        return Err(Failure::new(Code::TokenMalformed, ""));
    }
    let issued_type = members.issued_token_type.as_text();
    // RFC 8693 §2.2.1: N_A is for tokens that are not access tokens. A missing or empty token_type counts as bearer, as
    // golang.org/x/oauth2 has it.
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
        .filter(|(told, own)| told.abs_diff(*own) > *own / 10)
        .map(|(told, _)| told);
    let differing_type = match (issued_type, context.requested_type) {
        (Some(issued), Some(requested)) if issued != requested && !requested.is_empty() => {
            Some(quoted(issued, context))
        }
        _ => None,
    };
    Ok(IssuedToken { token, lifetime, claims, differing_type, differing_expires_in })
}

/// `expires_in`, capped by what the token says of its own length; without it the token's own word, its `exp` at
/// least, or fifteen minutes (F35 to F41).
fn lifetime(expires_in: &Member, claims: Option<&Claims>, now: UnixTime) -> Result<Duration, Failure> {
    let own = claims.and_then(Claims::lifetime);
    let length = match whole_seconds(expires_in) {
        Some(told) => own.map_or(told, |own| own.min(told)),
        None => match (own, claims.and_then(|claims| claims.expires)) {
            (Some(own), _) => own,
            (None, Some(expires)) => now.until(expires),
            // A number that makes no sense is worse than none: it may stand for "expired".
            (None, None) if !expires_in.is_absent() => Duration::ZERO,
            (None, None) => ASSUMED_LIFE,
        },
    };
    if length.is_zero() {
        return Err(Failure::new(Code::TokenExpired, ""));
    }
    Ok(length.min(LONGEST_LIFE))
}

/// A positive whole number, be it written as `3600`, `3600.0`, `3.6e3` or `"3600"` (F36).
fn whole_seconds(member: &Member) -> Option<Duration> {
    let number = match member {
        Member::Number(number) => *number,
        Member::Text(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().unwrap_or(f64::MAX)
        }
        _ => return None,
    };
    (number > 0.0 && number.fract() == 0.0)
        .then(|| Duration::from_secs_f64(number.min(LONGEST_LIFE.as_secs_f64())))
}

fn unusable(answer: &Answer, context: RequestContext<'_>, why: &str) -> Failure {
    let kind = answer.content_type.as_deref();
    let kind = kind.map_or_else(|| "no content type".to_owned(), |kind| quoted(kind, context));
    let bytes = answer.body.len();
    Failure::new(Code::AnswerUnusable, format!("{} with {bytes} bytes, {kind}: {why}", answer.status))
}

#[cfg(test)]
mod tests;
