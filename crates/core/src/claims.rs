//! An unverified look into a JSON Web Token: for times and names, never for trust (RFC 8725).
//!
//! Best effort and bounded: what cannot be read is absent, and the token counts as opaque.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::secret::Secret;
use crate::time::UnixTime;

/// No segment longer than this is looked at, in characters.
const LONGEST_SEGMENT: usize = 64 * 1024;

/// A NumericDate from here on (the year 5138) is taken for milliseconds or nonsense, and ignored (F41).
const LATEST: f64 = 1e11;

/// What a token says of itself. Nobody has checked the signature.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// `iss`.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: Option<String>,
    /// `aud`, one or several.
    pub audience: Vec<String>,
    /// `exp`.
    pub expires: Option<UnixTime>,
    /// `nbf`.
    pub not_before: Option<UnixTime>,
    /// `iat`.
    pub issued: Option<UnixTime>,
    /// `kid` of the header: which key signed.
    pub key_id: Option<String>,
}

impl Claims {
    /// Looks into a token. Nothing when it is no JSON Web Token.
    #[must_use]
    pub fn peek(token: &Secret) -> Option<Self> {
        let mut segments = token.expose().split('.');
        let (header, payload) = (segments.next()?, segments.next()?);
        segments.next()?;
        if segments.next().is_some() {
            return None;
        }
        let (header, payload) = (object(header)?, object(payload)?);
        Some(Self {
            issuer: text(&payload["iss"]),
            subject: text(&payload["sub"]),
            audience: match &payload["aud"] {
                Value::Array(several) => several.iter().filter_map(text).collect(),
                one => text(one).into_iter().collect(),
            },
            expires: date(&payload["exp"]),
            not_before: date(&payload["nbf"]),
            issued: date(&payload["iat"]),
            key_id: text(&header["kid"]),
        })
    }

    /// Whether both are from the same issuer and for the same audience, so that one can stand for the other.
    #[must_use]
    pub fn is_of_a_kind_with(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.audience == other.audience
    }

    /// `exp - iat`, where both are there and in order.
    #[must_use]
    pub fn length(&self) -> Option<std::time::Duration> {
        let (issued, expires) = (self.issued?, self.expires?);
        (expires > issued).then(|| expires.since(issued))
    }
}

fn object(segment: &str) -> Option<Value> {
    if segment.len() > LONGEST_SEGMENT {
        return None;
    }
    let json = URL_SAFE_NO_PAD.decode(segment.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&json).ok().filter(Value::is_object)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn date(value: &Value) -> Option<UnixTime> {
    let seconds = value.as_f64().filter(|seconds| (0.0..LATEST).contains(seconds))?;
    Some(UnixTime::since_epoch(std::time::Duration::from_secs_f64(seconds)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A token with this header and payload, and no valid signature.
    pub(crate) fn jwt(header: &str, payload: &str) -> Secret {
        let (header, payload) = (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        Secret::new(format!("{header}.{payload}.c2lnbmF0dXJl"))
    }

    #[test]
    fn f087_two_are_of_a_kind_by_issuer_and_audience() {
        let of = |issuer: &str, audience: &str| Claims {
            issuer: Some(issuer.to_owned()),
            audience: vec![audience.to_owned()],
            ..Claims::default()
        };
        let ours = of("dex", "app");
        assert!(ours.is_of_a_kind_with(&Claims { key_id: Some("other".to_owned()), ..ours.clone() }));
        assert!(!ours.is_of_a_kind_with(&of("dex", "other")));
        assert!(!ours.is_of_a_kind_with(&of("other", "app")));
        assert!(!ours.is_of_a_kind_with(&of("other", "other")));
    }

    #[test]
    fn reads_a_service_account_token() {
        let token = jwt(
            r#"{"alg":"RS256","kid":"k1"}"#,
            r#"{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:a:b","aud":["dex"],
                "exp":2000,"nbf":1000,"iat":1000,"kubernetes.io":{"namespace":"a"}}"#,
        );
        let claims = Claims::peek(&token).unwrap();
        assert_eq!(claims.audience, ["dex"]);
        assert_eq!(claims.key_id.as_deref(), Some("k1"));
        assert_eq!(claims.expires, Some(UnixTime::from_secs(2000)));
        assert_eq!(claims.length(), Some(std::time::Duration::from_secs(1000)));
    }

    #[test]
    fn f041_odd_claims_are_absent_rather_than_wrong() {
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
        assert_eq!(backwards.length(), None);
        let of_no_length = Claims::peek(&jwt("{}", r#"{"iat":2000,"exp":2000}"#)).unwrap();
        assert_eq!(of_no_length.length(), None);
    }

    #[test]
    fn f042_a_segment_is_read_up_to_its_limit() {
        // Four characters for three bytes: 49,152 bytes are 65,536 characters.
        for (bytes, read) in [(2_000, true), (49_152, true), (49_153, false)] {
            let payload = format!("{{\"exp\":1{}}}", " ".repeat(bytes - 9));
            assert_eq!(payload.len(), bytes);
            assert_eq!(Claims::peek(&jwt("{}", &payload)).is_some(), read, "{bytes} bytes");
        }
    }

    #[test]
    fn f042_what_is_no_token_is_opaque() {
        for text in ["", "opaque", "a.b", "a.b.c.d.e", "!.!.!", "e30.W10.x", "..", "e30.e30.x.y"] {
            assert_eq!(Claims::peek(&Secret::new(text.to_owned())), None, "{text}");
        }
    }
}
