//! What Dex publishes beside its token endpoint: discovery, and the keys that sign its tokens.
//!
//! A Dex whose storage was lost signs with new keys, and every token written before is refused by its readers long
//! before it expires. Nothing in the protocol says so; the published keys do.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::endpoint_url::EndpointUrl;
use crate::exchange::Answer;
use crate::json::Member;

/// Where a Dex that issues here has its discovery document (OpenID Connect Discovery §4). Nothing for an endpoint
/// that is not called `…/token`.
#[must_use]
pub fn discovery_url(endpoint: &EndpointUrl) -> Option<EndpointUrl> {
    endpoint
        .issuer_path()
        .map(|path| endpoint.with_target(&format!("{path}/.well-known/openid-configuration")))
}

/// What matters of a discovery document.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Discovery {
    /// The issuer.
    #[serde(default)]
    pub issuer: String,
    /// Where the keys are.
    #[serde(default)]
    pub jwks_uri: String,
    /// Where tokens are exchanged.
    #[serde(default)]
    pub token_endpoint: String,
    /// What grants are enabled.
    #[serde(default, deserialize_with = "few")]
    pub grant_types_supported: Vec<String>,
}

impl Discovery {
    /// Reads the document. Nothing when it is none.
    #[must_use]
    pub fn read(answer: &Answer) -> Option<Self> {
        (answer.status == 200).then(|| serde_json::from_slice(&answer.body).ok()).flatten()
    }
}

/// Where the keys are: what discovery says if that is the same server, else Dex's own place beside the token
/// endpoint. No other server is ever asked.
#[must_use]
pub fn keys_url(endpoint: &EndpointUrl, discovery: Option<&Discovery>) -> Option<EndpointUrl> {
    let told =
        discovery.and_then(|discovery| EndpointUrl::parse(&discovery.jwks_uri).ok()).map(|(url, _)| url);
    told.filter(|url| url.origin() == endpoint.origin())
        .or_else(|| endpoint.issuer_path().map(|path| endpoint.with_target(&format!("{path}/keys"))))
}

/// What an answer shows of Dex's keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Published {
    /// The keys.
    Keys(KeySet),
    /// There is no list of keys at this place, and none is to be expected.
    NotServed,
    /// It could not be found out this time.
    Unknown,
}

/// The ids of the keys that were published at one time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeySet(Vec<String>);

impl KeySet {
    /// Keys with these ids.
    #[must_use]
    pub fn of(key_ids: &[&str]) -> Self {
        Self(key_ids.iter().map(|id| (*id).to_owned()).collect())
    }

    /// Keeps those whose id is wanted.
    pub(crate) fn retain(&mut self, wanted: impl FnMut(&String) -> bool) {
        self.0.retain(wanted);
    }

    /// True when a key with this id is among them.
    #[must_use]
    pub fn has(&self, key_id: &str) -> bool {
        self.0.iter().any(|known| known == key_id)
    }
}

#[derive(Deserialize)]
struct Key {
    #[serde(default)]
    kid: Member,
}

#[derive(Deserialize)]
struct Document {
    #[serde(deserialize_with = "few")]
    keys: Vec<Key>,
}

/// No issuer has more keys or grants. A list of a million empty ones fits into an answer, and not into 8 MB.
const MOST: usize = 256;

/// A list of at most [`MOST`].
fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Few<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MOST}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut few = Vec::new();
            while let Some(one) = list.next_element()? {
                if few.len() == MOST {
                    return Err(A::Error::custom("too many"));
                }
                few.push(one);
            }
            Ok(few)
        }
    }
    deserializer.deserialize_seq(Few(PhantomData))
}

/// Reads an answer that should be a JSON Web Key Set (RFC 7517 §5).
#[must_use]
pub fn published(answer: &Answer) -> Published {
    match answer.status {
        200 => match serde_json::from_slice::<Document>(&answer.body) {
            // A Dex that is just starting publishes none for a moment.
            Ok(document) if document.keys.is_empty() => Published::Unknown,
            Ok(document) => {
                let key_ids = document.keys.iter().filter_map(|key| key.kid.as_text());
                Published::Keys(KeySet(key_ids.map(str::to_owned).collect()))
            }
            Err(_) => Published::NotServed,
        },
        300..=407 | 409..=428 | 430..=499 => Published::NotServed,
        _ => Published::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f029_a_list_that_no_issuer_has_is_not_kept() {
        let keys = |count: usize| {
            let body = format!(r#"{{"keys":[{}{{"kid":"a"}}]}}"#, "{},".repeat(count - 1));
            published(&answer(200, &body))
        };
        assert_eq!((keys(256), keys(257)), (Published::Keys(KeySet::of(&["a"])), Published::NotServed));
        let grants = |count: usize| {
            let list = vec![""; count];
            Discovery::read(&answer(200, &serde_json::json!({"grant_types_supported": list}).to_string()))
        };
        assert!(grants(256).is_some() && grants(257).is_none());
        let other = serde_json::from_str::<Discovery>(r#"{"grant_types_supported":7}"#).unwrap_err();
        assert!(other.to_string().contains("expected at most 256"), "{other}");
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.as_bytes().to_vec().into(), ..Answer::default() }
    }

    fn endpoint() -> EndpointUrl {
        EndpointUrl::parse("https://dex.example/dex/token").unwrap().0
    }

    #[test]
    fn keys_are_asked_for_beside_the_endpoint_and_nowhere_else() {
        assert_eq!(
            discovery_url(&endpoint()).unwrap().to_string(),
            "https://dex.example/dex/.well-known/openid-configuration"
        );
        let told = |jwks_uri: &str| {
            let discovery = Discovery { jwks_uri: jwks_uri.to_owned(), ..Discovery::default() };
            keys_url(&endpoint(), Some(&discovery)).unwrap().to_string()
        };
        assert_eq!(told("https://dex.example/elsewhere"), "https://dex.example/elsewhere");
        assert_eq!(told("https://other.example/keys"), "https://dex.example/dex/keys");
        assert_eq!(told("http://dex.example/keys"), "https://dex.example/dex/keys");
        assert_eq!(keys_url(&endpoint(), None).unwrap().target(), "/dex/keys");
        assert_eq!(keys_url(&EndpointUrl::parse("https://dex.example/exchange").unwrap().0, None), None);
    }

    #[test]
    fn a_discovery_document_is_read_or_is_none() {
        let document =
            r#"{"issuer":"https://dex.example/dex","jwks_uri":"https://dex.example/dex/keys","other":1}"#;
        let read = Discovery::read(&answer(200, document)).unwrap();
        assert_eq!(read.issuer, "https://dex.example/dex");
        assert_eq!(read.jwks_uri, "https://dex.example/dex/keys");
        assert_eq!(Discovery::read(&answer(404, document)), None);
        assert_eq!(Discovery::read(&answer(200, "<html>")), None);
    }

    #[test]
    fn an_answer_shows_keys_or_none_or_nothing_yet() {
        let keys = r#"{"keys":[{"kid":"a","kty":"RSA"},{"kid":"b"},{"kty":"EC"},{"kid":7}]}"#;
        let Published::Keys(found) = published(&answer(200, keys)) else { panic!("no keys") };
        assert!(found.has("a") && found.has("b") && !found.has("c") && !found.has(""));
        for (status, body, expected) in [
            (200, r#"{"keys":[]}"#, Published::Unknown),
            (200, r#"{"keys":[{}]}"#, Published::Keys(KeySet::default())),
            (200, "<html>", Published::NotServed),
            (404, "", Published::NotServed),
            (503, "", Published::Unknown),
            (500, "<html>", Published::Unknown),
        ] {
            assert_eq!(published(&answer(status, body)), expected, "{status} {body}");
        }
    }
}
