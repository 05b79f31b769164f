//! Dex's discovery document and the signing keys that it publishes.
//!
//! A Dex that has lost its storage signs with new keys. Readers then refuse every older token long
//! before it expires. OAuth has no message for this; only the published keys show it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::endpoint_url::EndpointUrl;
use crate::exchange::Answer;
use crate::json::Member;
use crate::limits::MAX_LIST_ELEMENTS;

/// The URL of Dex's discovery document (OpenID Connect Discovery 1.0 §4). `None` if the path of the
/// endpoint does not end with `/token`.
#[must_use]
pub fn discovery_url(endpoint: &EndpointUrl) -> Option<EndpointUrl> {
    endpoint
        .issuer_path()
        .map(|path| endpoint.with_target(&format!("{path}/.well-known/openid-configuration")))
}

/// The members of a discovery document that are used (OpenID Connect Discovery 1.0 §3). A missing
/// member is empty.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Discovery {
    /// The issuer, as it stands in `iss` of Dex's tokens.
    #[serde(default)]
    pub issuer: String,
    /// The URL of the key set.
    #[serde(default)]
    pub jwks_uri: String,
    /// The URL of the token endpoint.
    #[serde(default)]
    pub token_endpoint: String,
    /// The grant types that are enabled in Dex.
    #[serde(default, deserialize_with = "bounded_vec")]
    pub grant_types_supported: Vec<String>,
}

impl Discovery {
    /// Reads the document. `None` if the status is not 200 or the body is not such a document.
    #[must_use]
    pub fn read(answer: &Answer) -> Option<Self> {
        (answer.status == 200).then(|| serde_json::from_slice(&answer.body).ok()).flatten()
    }
}

/// The URL of the key set: `jwks_uri` of the discovery document if its origin is that of the
/// endpoint, otherwise `keys` beside the endpoint, where Dex serves it. No other origin is ever
/// asked. `None` if there is neither.
#[must_use]
pub fn keys_url(endpoint: &EndpointUrl, discovery: Option<&Discovery>) -> Option<EndpointUrl> {
    let discovered =
        discovery.and_then(|discovery| EndpointUrl::parse(&discovery.jwks_uri).ok()).map(|(url, _)| url);
    discovered
        .filter(|url| url.origin() == endpoint.origin())
        .or_else(|| endpoint.issuer_path().map(|path| endpoint.with_target(&format!("{path}/keys"))))
}

/// The keys that a response shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Published {
    /// The ids of the published keys.
    Keys(KeySet),
    /// The server has no key set at this URL. Asking again is useless.
    NotServed,
    /// This response does not show the keys, but a later one may.
    Unknown,
}

/// The ids (`kid`) of the keys that a response shows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeySet(Vec<String>);

impl KeySet {
    /// A set of keys with these ids.
    #[must_use]
    pub fn of(key_ids: &[&str]) -> Self {
        Self(key_ids.iter().map(|id| (*id).to_owned()).collect())
    }

    /// Keeps the keys for whose id `wanted` is true.
    pub(crate) fn retain(&mut self, wanted: impl FnMut(&String) -> bool) {
        self.0.retain(wanted);
    }

    /// True if a key with this id is published.
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
    #[serde(deserialize_with = "bounded_vec")]
    keys: Vec<Key>,
}

/// Deserializes a list of at most [`MAX_LIST_ELEMENTS`] elements; a longer one is an error.
fn bounded_vec<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Reader<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX_LIST_ELEMENTS} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = list.next_element()? {
                if elements.len() == MAX_LIST_ELEMENTS {
                    return Err(A::Error::custom("too many elements"));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }
    deserializer.deserialize_seq(Reader(PhantomData))
}

/// Reads a response that should hold a JSON Web Key Set (RFC 7517 §5).
#[must_use]
pub fn published(answer: &Answer) -> Published {
    match answer.status {
        200 => match serde_json::from_slice::<Document>(&answer.body) {
            // A Dex that is starting publishes an empty set until it has made its first key.
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
    fn f029_a_list_of_more_than_256_elements_is_refused() {
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
        assert!(other.to_string().contains("expected a list of at most 256 elements"), "{other}");
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.as_bytes().to_vec().into(), ..Answer::default() }
    }

    fn endpoint() -> EndpointUrl {
        EndpointUrl::parse("https://dex.example/dex/token").unwrap().0
    }

    #[test]
    fn keys_are_requested_from_the_origin_of_the_endpoint_only() {
        assert_eq!(
            discovery_url(&endpoint()).unwrap().to_string(),
            "https://dex.example/dex/.well-known/openid-configuration"
        );
        let url = |jwks_uri: &str| {
            let discovery = Discovery { jwks_uri: jwks_uri.to_owned(), ..Discovery::default() };
            keys_url(&endpoint(), Some(&discovery)).unwrap().to_string()
        };
        assert_eq!(url("https://dex.example/elsewhere"), "https://dex.example/elsewhere");
        assert_eq!(url("https://other.example/keys"), "https://dex.example/dex/keys");
        assert_eq!(url("http://dex.example/keys"), "https://dex.example/dex/keys");
        assert_eq!(keys_url(&endpoint(), None).unwrap().target(), "/dex/keys");
        assert_eq!(keys_url(&EndpointUrl::parse("https://dex.example/exchange").unwrap().0, None), None);
    }

    #[test]
    fn only_a_200_with_json_is_a_discovery_document() {
        let document =
            r#"{"issuer":"https://dex.example/dex","jwks_uri":"https://dex.example/dex/keys","other":1}"#;
        let read = Discovery::read(&answer(200, document)).unwrap();
        assert_eq!(read.issuer, "https://dex.example/dex");
        assert_eq!(read.jwks_uri, "https://dex.example/dex/keys");
        assert_eq!(Discovery::read(&answer(404, document)), None);
        assert_eq!(Discovery::read(&answer(200, "<html>")), None);
    }

    #[test]
    fn a_response_shows_keys_or_that_none_are_served_or_nothing() {
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
