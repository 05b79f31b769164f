//! The subject token and the issued token, and which texts can be one.

use std::time::Duration;

use crate::claims::Claims;
use crate::exchange::{ID_TOKEN, JWT};
use crate::failure::{Code, Failure, plain};
use crate::limits::{LARGEST_ISSUED_TOKEN, LARGEST_SUBJECT_TOKEN};
use crate::secret::Secret;

/// The token types that are always JSON Web Tokens (RFC 8693 §3), so that a partial token can be
/// recognized.
const JWT_TYPES: [&str; 2] = [ID_TOKEN, JWT];

/// The token that is exchanged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubjectToken(pub Secret);

impl SubjectToken {
    /// Parses the content of a file as a subject token of the type `kind`, which is the value of
    /// `dex_subject_token_type`.
    ///
    /// A byte order mark at the start and white space at both ends are removed. The rest must be
    /// visible ASCII. A JSON Web Token must have three parts.
    ///
    /// # Errors
    /// [`Code::SubjectTokenTooLarge`], [`Code::SubjectTokenEmpty`] or
    /// [`Code::SubjectTokenMalformed`].
    pub fn parse(content: Vec<u8>, kind: Option<&str>) -> Result<Self, Code> {
        // The first statement, so that the content is wiped on every path.
        let content = zeroize::Zeroizing::new(content);
        if content.len() > LARGEST_SUBJECT_TOKEN {
            return Err(Code::SubjectTokenTooLarge);
        }
        let text = std::str::from_utf8(&content).map_err(|_| Code::SubjectTokenMalformed)?;
        let text = text.trim_start_matches('\u{feff}').trim_ascii();
        if text.is_empty() {
            return Err(Code::SubjectTokenEmpty);
        }
        let is_jwt = kind.is_some_and(|kind| JWT_TYPES.contains(&kind));
        if !text.bytes().all(|b| b.is_ascii_graphic()) || is_jwt && !has_three_parts(text) {
            return Err(Code::SubjectTokenMalformed);
        }
        Ok(Self(Secret::new(text.to_owned())))
    }
}

/// True for three non-empty parts in base64url, separated by dots: a signed JSON Web Token.
fn has_three_parts(text: &str) -> bool {
    let base64url = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'='))
    };
    text.split('.').count() == 3 && text.split('.').all(base64url)
}

/// True if a text may stand in an `Authorization` header (`b64token` of RFC 6750 §2.1) and is no
/// longer than [`LARGEST_ISSUED_TOKEN`].
#[must_use]
pub fn is_bearer_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && text.len() <= LARGEST_ISSUED_TOKEN
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

/// True for a partial JSON Web Token, which a reader sees while a file is overwritten in place.
///
/// The text begins as a JSON Web Token does. It has neither the three parts of a signed token nor
/// the five of an encrypted one, or its last part is empty. An unsigned token also has an empty
/// last part and counts as partial (F42).
#[must_use]
pub fn is_partial(text: &str) -> bool {
    text.starts_with("eyJ") && (!matches!(text.split('.').count(), 3 | 5) || text.ends_with('.'))
}

/// The token that the exchange brings. It is called issued token because Dex puts an ID token into
/// the member `access_token` too.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuedToken {
    /// The token.
    pub token: Secret,
    /// The lifetime, counted from the instant at which the request was sent. Never zero.
    pub lifetime: Duration,
    /// The claims. `None` if the token is not a JSON Web Token.
    pub claims: Option<Claims>,
    /// The issued type (`issued_token_type`), or the requested one if the response names none.
    pub issued_type: Option<String>,
    /// `scope`, if the response has it: it is missing if it is the requested one (RFC 6749 §5.1).
    pub scope: Option<String>,
    /// The issued type, if it differs from the requested type (F34).
    pub differing_type: Option<String>,
    /// `expires_in`, if it differs from the token's `exp - iat` by more than a tenth of the latter
    /// (F41). `lifetime` is then the shorter of both.
    pub differing_expires_in: Option<Duration>,
}

impl IssuedToken {
    /// Refuses a token that does not name this issuer as its `iss`.
    ///
    /// # Errors
    /// [`Code::IssuerUnexpected`].
    pub fn from_issuer(self, issuer: Option<&str>) -> Result<Self, Failure> {
        let Some(expected) = issuer else { return Ok(self) };
        let iss = self.claims.as_ref().and_then(|claims| claims.issuer.as_deref());
        if iss == Some(expected) {
            return Ok(self);
        }
        let iss = iss.map_or_else(|| "missing".to_owned(), |iss| plain(iss, LONGEST_ISSUER));
        Err(Failure::new(Code::IssuerUnexpected, format!("its iss is {iss}, not {expected}")))
    }
}

/// The longest part of an issuer that is quoted, in characters.
const LONGEST_ISSUER: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f062_white_space_and_a_byte_order_mark_around_a_subject_token_are_removed() {
        for content in ["a.b.c", "a.b.c\n", "\u{feff} a.b.c\r\n\t"] {
            let token = SubjectToken::parse(content.into(), Some(ID_TOKEN)).unwrap();
            assert_eq!(token.0.expose(), "a.b.c");
        }
    }

    #[test]
    fn f058_f061_content_that_is_not_a_subject_token_is_refused_with_its_code() {
        for (content, code) in [
            (&b""[..], Code::SubjectTokenEmpty),
            (b" \n", Code::SubjectTokenEmpty),
            (b"a.b", Code::SubjectTokenMalformed),
            (b"a.b.", Code::SubjectTokenMalformed),
            (b"a.b c.d", Code::SubjectTokenMalformed),
            (b"a.b.c\na.b.c", Code::SubjectTokenMalformed),
            (b"\xff\xfea\0.\0b", Code::SubjectTokenMalformed),
        ] {
            assert_eq!(SubjectToken::parse(content.to_vec(), Some(ID_TOKEN)), Err(code), "{content:?}");
        }
        assert_eq!(
            SubjectToken::parse(vec![b'a'; LARGEST_SUBJECT_TOKEN + 1], None),
            Err(Code::SubjectTokenTooLarge)
        );
        assert!(SubjectToken::parse(vec![b'a'; 65_536], None).is_ok());
        assert!(SubjectToken::parse(b"opaque".to_vec(), None).is_ok());
    }

    #[test]
    fn a_token_of_another_issuer_is_refused_with_both_issuers() {
        let issued = |issuer: Option<&str>| IssuedToken {
            token: Secret::new("a.b.c".to_owned()),
            lifetime: Duration::from_secs(1),
            claims: issuer.map(|issuer| Claims { issuer: Some(issuer.to_owned()), ..Claims::default() }),
            issued_type: None,
            scope: None,
            differing_type: None,
            differing_expires_in: None,
        };
        let expected = Some("https://dex.example");
        assert!(issued(None).from_issuer(None).is_ok());
        assert!(issued(expected).from_issuer(expected).is_ok());
        for (iss, detail) in [
            (Some("https://dex.example/"), "its iss is https://dex.example/, not https://dex.example"),
            (Some("x\ny"), "its iss is x\\ny, not https://dex.example"),
            (None, "its iss is missing, not https://dex.example"),
        ] {
            let refused = issued(iss).from_issuer(expected).unwrap_err();
            assert_eq!((refused.code, refused.detail.as_str()), (Code::IssuerUnexpected, detail));
        }
    }

    #[test]
    fn f032_only_tokens_that_a_header_may_carry_are_accepted() {
        for valid in ["a", "a.b-c_d~e+f/g==", "eyJ.eyJ.sig"] {
            assert!(is_bearer_token(valid), "{valid}");
        }
        for invalid in ["", "=", "a b", "a\r\nX: y", "a\0", "\u{e9}", "a=b"] {
            assert!(!is_bearer_token(invalid), "{invalid:?}");
        }
        assert!(is_bearer_token(&"a".repeat(262_144)));
        assert!(!is_bearer_token(&"a".repeat(262_145)));
    }
}
