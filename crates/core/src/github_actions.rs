//! The subject token of a job of GitHub Actions: a request to the endpoint that the runner names
//! in two variables ("OpenID Connect reference" of GitHub's documentation).

use form_urlencoded::byte_serialize;
use serde::Deserialize;

use crate::endpoint_url::EndpointUrl;
use crate::exchange::{Answer, Request};
use crate::failure::{Code, Failure, Owner};
use crate::json::Member;
use crate::secret::Secret;
use crate::token::SubjectToken;

/// The variable with the URL of the endpoint. The runner sets it if the job may request a token.
pub const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
/// The variable with the bearer token for the endpoint.
pub const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
/// What to do if the variables are missing.
pub const PERMISSION: &str = "add permissions: id-token: write to the job; GitHub sets it in such a job only";

/// The request for a token with this audience. Without one it is the URL of the repository's owner.
///
/// # Errors
/// [`Code::SubjectTokenRequestFailed`] if the URL is invalid. The detail does not quote it.
pub fn request(url: &Secret, token: &Secret, audience: Option<&str>) -> Result<Request, Failure> {
    let mut url = url.expose().to_owned();
    if let Some(audience) = audience {
        let separator = if url.contains('?') { '&' } else { '?' };
        let encoded: String = byte_serialize(audience.as_bytes()).collect();
        url = format!("{url}{separator}audience={encoded}");
    }
    let (url, _) = EndpointUrl::parse(&url)
        .map_err(|why| failed(format!("{REQUEST_URL} {why}")).owned_by(Owner::Pod).with_fix(PERMISSION))?;
    let authorization = Some(Secret::new(format!("bearer {}", token.expose())));
    Ok(Request { url, authorization, form: None })
}

/// The token in the endpoint's answer: the member `value` of a JSON object.
///
/// # Errors
/// [`Code::SubjectTokenRequestFailed`]. The detail quotes nothing of the body.
pub fn read(answer: &Answer) -> Result<Secret, Failure> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        value: Member,
    }
    match answer.status {
        200 => {}
        401 | 403 => {
            return Err(failed(format!("status {}", answer.status))
                .owned_by(Owner::Pod)
                .with_fix(PERMISSION));
        }
        status => return Err(failed(format!("status {status}"))),
    }
    let body: Body = serde_json::from_slice(&answer.body).unwrap_or_default();
    let value = body.value.as_text().unwrap_or_default().as_bytes().to_vec();
    let parsed = SubjectToken::parse(value, Some(crate::exchange::JWT));
    parsed.map(|token| token.0).map_err(|_| failed("the answer has no token".to_owned()))
}

/// A failure of the request, for this reason.
#[must_use]
pub fn failed(why: String) -> Failure {
    Failure::new(Code::SubjectTokenRequestFailed, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_is_a_parameter_of_the_url_and_the_token_a_bearer_token() {
        let token = Secret::new("canary".to_owned());
        for (url, audience, target) in [
            ("https://a.example/token?api-version=2.0", Some("dex"), "/token?api-version=2.0&audience=dex"),
            (
                "https://a.example/token",
                Some("https://dex/a b&c"),
                "/token?audience=https%3A%2F%2Fdex%2Fa+b%26c",
            ),
            ("https://a.example/token?x=y", None, "/token?x=y"),
        ] {
            let request = request(&Secret::new(url.to_owned()), &token, audience).unwrap();
            assert_eq!((request.url.host(), request.url.target()), ("a.example", target));
            assert_eq!(request.authorization, Some(Secret::new("bearer canary".to_owned())));
            assert_eq!(request.form, None);
        }
        for url in ["", "a.example/canary", "ftp://canary"] {
            let failure = request(&Secret::new(url.to_owned()), &token, None).unwrap_err();
            assert!(
                failure.code == Code::SubjectTokenRequestFailed && !failure.to_string().contains("canary")
            );
        }
    }

    #[test]
    fn the_token_is_read_from_a_successful_answer_only() {
        let answer = |status, body: &str| Answer {
            status,
            body: body.as_bytes().to_vec().into(),
            ..Answer::default()
        };
        let token = read(&answer(200, r#"{"count":1,"value":"eyJh.eyJi.c2ln"}"#)).unwrap();
        assert_eq!(token, Secret::new("eyJh.eyJi.c2ln".to_owned()));
        for (status, body, detail, fix) in [
            (401, "{\"value\":\"eyJh.eyJi.c2ln\"}", "status 401", PERMISSION),
            (403, "canary", "status 403", PERMISSION),
            (500, "canary", "status 500", ""),
            (302, "", "status 302", ""),
            (200, "", "the answer has no token", ""),
            (200, "[]", "the answer has no token", ""),
            (200, "{\"value\":null}", "the answer has no token", ""),
            (200, "{\"value\":\"canary canary\"}", "the answer has no token", ""),
            (200, "{\"value\":\"eyJh.eyJi.c2ln\"", "the answer has no token", ""),
        ] {
            let failure = read(&answer(status, body)).unwrap_err();
            assert_eq!((failure.code, failure.detail.as_str()), (Code::SubjectTokenRequestFailed, detail));
            assert!(fix.is_empty() || failure.fix() == fix, "{status}: {}", failure.fix());
        }
    }
}
