//! `Debug` of every type that holds a secret does not show it.

use dexsidecar_core::config::{Config, Outputs, RawSettings};
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::{Answer, Field, Request, basic_authorization, form};
use dexsidecar_core::response::{self, RequestContext};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::UnixTime;
use dexsidecar_core::token::SubjectToken;

const CANARY: &str = "canary";

fn secret() -> Secret {
    Secret::new(CANARY.to_owned())
}

#[test]
fn debug_shows_no_secret() {
    let variables = [
        ("dex_endpoint", "https://dex.example/token"),
        ("dex_access_token_file", "/token"),
        ("dex_basic_auth", "user:canary"),
        ("dex_client_secret", CANARY),
        ("dex_subject_token", CANARY),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned())));
    let raw = RawSettings::of_variables(variables);
    let config = Config::read(&raw, Outputs::Required).expect("sound settings");
    let field = Field { name: "subject_token".to_owned(), value: secret() };
    let (url, _) = EndpointUrl::parse("https://dex.example/token").expect("a URL");
    let form = Some(form(std::slice::from_ref(&field)));
    let request = Request {
        url: url.clone(),
        authorization: basic_authorization(&Secret::new("user:canary".into())),
        form,
    };
    let body = br#"{"access_token":"canary","expires_in":60}"#.to_vec();
    let answer =
        Answer { status: 200, location: Some(CANARY.into()), body: body.into(), ..Answer::default() };
    let context = RequestContext {
        endpoint: &url,
        now: UnixTime::from_secs(1),
        requested_type: None,
        secrets: &[secret()],
    };
    let issued = response::read(&answer, context).expect("a token");
    let subject = SubjectToken::parse(CANARY.into(), None).expect("a token");
    let shown = format!("{raw:?}{config:?}{field:?}{request:?}{answer:?}{context:?}{issued:?}{subject:?}");
    assert!(shown.matches("redacted").count() >= 9, "{shown}");
    // As text, in the base64 of the client, and as a list of bytes.
    for encoding in [CANARY, "dXNlcjpjYW5hcnk", "99, 97, 110, 97, 114, 121"] {
        assert!(!shown.contains(encoding), "{shown}");
    }
}
