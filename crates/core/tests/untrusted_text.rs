//! Random responses of Dex, and random texts for the parsers (P4).

use std::time::Duration;

use dexsidecar_core::claims::Claims;
use dexsidecar_core::duration;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::Answer;
use dexsidecar_core::response::{self, RequestContext};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::UnixTime;
use dexsidecar_core::token::is_bearer_token;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(4_000), ..ProptestConfig::default() })]

    /// P4: any response gives a failure, or a valid token that a header may carry.
    #[test]
    fn any_response_gives_a_valid_token_or_a_failure(status in 100..600_u16, body in proptest::collection::vec(any::<u8>(), 0..300), header in ".{0,40}") {
        let answer = Answer {
            status,
            body: body.into(),
            retry_after: Some(header.clone()),
            content_type: Some(header.clone()),
            location: Some(header),
            ..Answer::default()
        };
        read(&answer)?;
    }

    #[test]
    fn any_response_that_is_nearly_a_success_gives_a_valid_token_or_a_failure(token in "[ -~]{0,40}", kind in "[a-zA-Z]{0,8}", expires in prop_oneof![
        "-?[0-9]{1,25}", "-?[0-9]{1,5}\\.[0-9]{1,5}", "\"[ -!#-~]{0,10}\"", "null|true|\\[\\]|1e999",
    ]) {
        let token = serde_json::to_string(&token).expect("a string");
        let body = format!(r#"{{"access_token":{token},"token_type":"{kind}","expires_in":{expires}}}"#);
        read(&Answer { status: 200, body: body.into_bytes().into(), ..Answer::default() })?;
    }

    /// P4: no text makes a parser panic.
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,60}", units in "([0-9]{0,20}(\\.[0-9]{0,20})?(ns|us|ms|s|m|h|x)?){0,4}") {
        let _ = duration::parse(&text);
        let _ = duration::parse(&units);
        let _ = EndpointUrl::parse(&text).map(|(url, _)| (url.is_internal_name(), url.to_string(), url.authority()));
        let _ = EndpointUrl::parse(&format!("https://{text}")).map(|(url, _)| url.to_string());
        let _ = Claims::peek(&Secret::new(text));
    }
}

/// Reads a response, and checks the token or the failure.
fn read(answer: &Answer) -> Result<(), TestCaseError> {
    let (endpoint, _) = EndpointUrl::parse("http://dex.dex.svc/token").expect("a URL");
    let now = UnixTime::from_secs(1_700_000_000);
    let context = RequestContext { endpoint: &endpoint, now, requested_type: None, secrets: &[] };
    match response::read(answer, context) {
        Ok(issued) => {
            prop_assert!(is_bearer_token(issued.token.expose()) && !issued.lifetime.is_zero());
        }
        Err(failure) => {
            prop_assert!(failure.to_string().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
            prop_assert!(failure.retry_after.unwrap_or_default() <= Duration::from_secs(300));
        }
    }
    Ok(())
}
