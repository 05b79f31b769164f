//! Reads the claims of a JSON Web Token without verifying its signature.
//!
//! The claims give times and names for schedules and messages. No decision about trust depends on
//! them (RFC 8725). Reading is bounded; a claim that cannot be read is absent, and a token that
//! cannot be read is opaque.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::json::Member;
use crate::limits::{LARGEST_ISSUED_TOKEN, MAX_AUDIENCES, MAX_NUMERIC_DATE};
use crate::secret::Secret;
use crate::time::UnixTime;

/// The claims of a token. Nobody has verified its signature.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// `iss`.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: Option<String>,
    /// `aud`: one or several audiences, at most 64.
    pub audience: Vec<String>,
    /// `exp`.
    pub expires: Option<UnixTime>,
    /// `nbf`.
    pub not_before: Option<UnixTime>,
    /// `iat`.
    pub issued: Option<UnixTime>,
    /// `kid` of the header: the id of the key that signed the token.
    pub key_id: Option<String>,
}

impl Claims {
    /// Reads the claims of a token. `None` if it is not a signed JSON Web Token (RFC 7515 §3.1).
    #[must_use]
    pub fn peek(token: &Secret) -> Option<Self> {
        let mut segments = token.expose().split('.');
        let (header, payload) = (segments.next()?, segments.next()?);
        segments.next()?;
        if segments.next().is_some() {
            return None;
        }
        let (header, payload): (Header, Payload) = (object(header)?, object(payload)?);
        Some(Self {
            issuer: text(&payload.iss),
            subject: text(&payload.sub),
            audience: payload.aud.0,
            expires: numeric_date(&payload.exp),
            not_before: numeric_date(&payload.nbf),
            issued: numeric_date(&payload.iat),
            key_id: text(&header.kid),
        })
    }

    /// True if both tokens have the same issuer and the same audience, so that a reader accepts
    /// either of them.
    #[must_use]
    pub fn has_same_issuer_and_audience(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.audience == other.audience
    }

    /// `exp - iat`. `None` if one of them is missing, or `exp` is not later than `iat`.
    #[must_use]
    pub fn lifetime(&self) -> Option<std::time::Duration> {
        let (issued, expires) = (self.issued?, self.expires?);
        (expires > issued).then(|| expires.since(issued))
    }
}

/// The member of the header that is used. Other members are skipped and not kept.
#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    kid: Member,
}

/// The members of the payload that are used. Other members are skipped and not kept.
#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    iss: Member,
    #[serde(default)]
    sub: Member,
    #[serde(default)]
    aud: Audience,
    #[serde(default)]
    exp: Member,
    #[serde(default)]
    nbf: Member,
    #[serde(default)]
    iat: Member,
}

/// `aud` is a string or a list of strings (RFC 7519 §4.1.3). Any other value counts as no audience.
#[derive(Default)]
struct Audience(Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Audience;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, one: &str) -> Result<Audience, E> {
                Ok(Audience(vec![one.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Audience, A::Error> {
                let mut several = Vec::new();
                while let Some(member) = list.next_element::<Member>()? {
                    several.extend(text(&member).filter(|_| several.len() < MAX_AUDIENCES));
                }
                Ok(Audience(several))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Audience, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Audience::default())
            }

            fn visit_unit<E>(self) -> Result<Audience, E> {
                Ok(Audience::default())
            }

            fn visit_bool<E>(self, _: bool) -> Result<Audience, E> {
                Ok(Audience::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Audience, E> {
                Ok(Audience::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Audience, E> {
                Ok(Audience::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Audience, E> {
                Ok(Audience::default())
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Decodes a segment that holds a JSON object. The opening brace is checked here because serde
/// also deserializes a struct from an array.
fn object<T: for<'de> Deserialize<'de>>(segment: &str) -> Option<T> {
    if segment.len() > LARGEST_ISSUED_TOKEN {
        return None;
    }
    let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(segment.trim_end_matches('=')).ok()?);
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(&json).ok()).flatten()
}

fn text(member: &Member) -> Option<String> {
    member.as_text().map(str::to_owned)
}

fn numeric_date(member: &Member) -> Option<UnixTime> {
    let Member::Number(seconds) = member else { return None };
    (0.0..MAX_NUMERIC_DATE)
        .contains(seconds)
        .then(|| UnixTime::since_epoch(std::time::Duration::from_secs_f64(*seconds)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A token with this header and payload and an invalid signature.
    pub(crate) fn jwt(header: &str, payload: &str) -> Secret {
        let (header, payload) = (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        Secret::new(format!("{header}.{payload}.c2lnbmF0dXJl"))
    }

    #[test]
    fn f087_tokens_are_comparable_only_with_the_same_issuer_and_audience() {
        let of = |issuer: &str, audience: &str| Claims {
            issuer: Some(issuer.to_owned()),
            audience: vec![audience.to_owned()],
            ..Claims::default()
        };
        let ours = of("dex", "app");
        assert!(
            ours.has_same_issuer_and_audience(&Claims { key_id: Some("other".to_owned()), ..ours.clone() })
        );
        assert!(!ours.has_same_issuer_and_audience(&of("dex", "other")));
        assert!(!ours.has_same_issuer_and_audience(&of("other", "app")));
        assert!(!ours.has_same_issuer_and_audience(&of("other", "other")));
    }

    #[test]
    fn the_claims_of_a_service_account_token_are_read() {
        let token = jwt(
            r#"{"alg":"RS256","kid":"k1"}"#,
            r#"{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:a:b","aud":["dex"],
                "exp":2000,"nbf":1000,"iat":1000,"kubernetes.io":{"namespace":"a"}}"#,
        );
        let claims = Claims::peek(&token).unwrap();
        assert_eq!(claims.audience, ["dex"]);
        assert_eq!(claims.key_id.as_deref(), Some("k1"));
        assert_eq!(claims.expires, Some(UnixTime::from_secs(2000)));
        assert_eq!(claims.lifetime(), Some(std::time::Duration::from_secs(1000)));
    }

    #[test]
    fn f041_an_invalid_claim_counts_as_absent() {
        for (payload, expires) in [
            (r#"{"exp":1700000000000}"#, None), // milliseconds
            (r#"{"exp":"2000"}"#, None),
            (r#"{"exp":-1}"#, None),
            (r#"{"exp":1e300}"#, None),
            (r#"{"exp":2000.9}"#, Some(2000)),
            (r#"{}"#, None),
        ] {
            let claims = Claims::peek(&jwt("{}", payload)).unwrap();
            assert_eq!(claims.expires.map(|t| t.as_duration().as_secs()), expires, "{payload}");
        }
        let backwards = Claims::peek(&jwt("{}", r#"{"iat":2000,"exp":1000}"#)).unwrap();
        assert_eq!(backwards.lifetime(), None);
        let of_no_length = Claims::peek(&jwt("{}", r#"{"iat":2000,"exp":2000}"#)).unwrap();
        assert_eq!(of_no_length.lifetime(), None);
    }

    #[test]
    fn f042_a_segment_longer_than_the_limit_is_not_read() {
        // base64 has four characters for three bytes: 196,608 bytes are 262,144 characters.
        for (bytes, read) in [(2_000, true), (196_608, true), (196_609, false)] {
            let payload = format!("{{\"exp\":1{}}}", " ".repeat(bytes - 9));
            assert_eq!(payload.len(), bytes);
            assert_eq!(Claims::peek(&jwt("{}", &payload)).is_some(), read, "{bytes} bytes");
        }
    }

    #[test]
    fn other_members_are_skipped_and_an_audience_of_any_json_type_is_accepted() {
        let of = |aud: &str| {
            let payload = format!(r#"{{"x":[{{"y":{{}}}},[[0]]],"aud":{aud},"exp":2000}}"#);
            let claims = Claims::peek(&jwt(r#"{"kid":7,"jwk":{"k":[]}}"#, &payload)).unwrap();
            assert_eq!((claims.key_id, claims.expires), (None, Some(UnixTime::from_secs(2_000))), "{aud}");
            claims.audience
        };
        assert_eq!(of(r#""dex""#), ["dex"]);
        assert_eq!(of(r#"["dex",7,null,["x"],"incus"]"#), ["dex", "incus"]);
        for none in ["[]", "{}", r#"{"a":["dex"]}"#, "null", "true", "7", "-7", "0.5"] {
            assert!(of(none).is_empty(), "{none}");
        }
        let many = format!("[{}\"last\"]", "\"dex\",".repeat(200));
        assert_eq!(of(&many), ["dex"; MAX_AUDIENCES]);
    }

    #[test]
    fn f042_a_text_that_is_not_a_json_web_token_is_opaque() {
        for text in ["", "opaque", "a.b", "a.b.c.d.e", "!.!.!", "e30.W10.x", "..", "e30.e30.x.y"] {
            assert_eq!(Claims::peek(&Secret::new(text.to_owned())), None, "{text}");
        }
    }
}
