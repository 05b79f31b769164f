//! The two tokens: the one traded in and the one that comes back.

use std::time::Duration;

use crate::claims::Claims;
use crate::exchange::{ID_TOKEN, JWT};
use crate::failure::Code;
use crate::secret::Secret;

/// The most that is read of a subject token's file, in bytes (F61).
pub const LARGEST_SUBJECT: usize = 64 * 1024;

/// The longest issued token, in bytes.
pub const LARGEST_ISSUED: usize = 256 * 1024;

/// Token types that are JSON Web Tokens, so that half a token can be told from a whole one (RFC 8693 §3).
const JWT_TYPES: [&str; 2] = [ID_TOKEN, JWT];

/// The token traded in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubjectToken(pub Secret);

impl SubjectToken {
    /// Takes a file's content for a subject token of this type (`dex_subject_token_type`): white space and a byte
    /// order mark around it are cut off, anything but visible ASCII inside is refused, and a JSON Web Token must
    /// have its three parts.
    ///
    /// # Errors
    /// The code, never the content.
    pub fn parse(content: Vec<u8>, kind: Option<&str>) -> Result<Self, Code> {
        // Before anything can fail, so that it is wiped in any case.
        let content = zeroize::Zeroizing::new(content);
        if content.len() > LARGEST_SUBJECT {
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

fn has_three_parts(text: &str) -> bool {
    let base64url = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'='))
    };
    text.split('.').count() == 3 && text.split('.').all(base64url)
}

/// True for a text that may stand in an `Authorization` header: `b64token` of RFC 6750 §2.1.
#[must_use]
pub fn is_bearer_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && text.len() <= LARGEST_ISSUED
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

/// Half a JSON Web Token, as a file that is overwritten in place holds for a moment: it begins as one, and has neither the
/// three parts of a signed one nor the five of an encrypted one. One that nobody signed counts as half, too (F42).
#[must_use]
pub fn is_partial(text: &str) -> bool {
    text.starts_with("eyJ") && (!matches!(text.split('.').count(), 3 | 5) || text.ends_with('.'))
}

/// What comes back. Dex puts ID tokens into `access_token` too, hence the name.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuedToken {
    /// The token.
    pub token: Secret,
    /// How long it is good, counted from the instant the request was sent.
    pub lifetime: Duration,
    /// What it says of itself; nothing when it is no JSON Web Token.
    pub claims: Option<Claims>,
    /// The type that was issued, when another was asked for (F34).
    pub differing_type: Option<String>,
    /// What `expires_in` says, where the token's own word differs by more than a tenth (F41); the shorter counts.
    pub differing_expires_in: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f062_a_subject_token_is_trimmed() {
        for content in ["a.b.c", "a.b.c\n", "\u{feff} a.b.c\r\n\t"] {
            let token = SubjectToken::parse(content.into(), Some(ID_TOKEN)).unwrap();
            assert_eq!(token.0.expose(), "a.b.c");
        }
    }

    #[test]
    fn f058_f061_what_is_no_subject_token_is_refused_by_its_code() {
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
            SubjectToken::parse(vec![b'a'; LARGEST_SUBJECT + 1], None),
            Err(Code::SubjectTokenTooLarge)
        );
        assert!(SubjectToken::parse(vec![b'a'; 65_536], None).is_ok());
        assert!(SubjectToken::parse(b"opaque".to_vec(), None).is_ok());
    }

    #[test]
    fn f032_only_header_safe_tokens_pass() {
        for good in ["a", "a.b-c_d~e+f/g==", "eyJ.eyJ.sig"] {
            assert!(is_bearer_token(good), "{good}");
        }
        for bad in ["", "=", "a b", "a\r\nX: y", "a\0", "\u{e9}", "a=b"] {
            assert!(!is_bearer_token(bad), "{bad:?}");
        }
        assert!(is_bearer_token(&"a".repeat(262_144)));
        assert!(!is_bearer_token(&"a".repeat(262_145)));
    }
}
