//! A token with everything that a token file states about it.

use std::time::Duration;

use crate::claims::Claims;
use crate::secret::Secret;
use crate::time::UnixTime;

/// A token with everything that a token file states about it. Which of it a file holds depends on
/// the [`Format`](super::Format). A member is `None` if it is unknown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredToken {
    /// The token.
    pub token: Secret,
    /// The instant of its expiry: its `exp`, or for an opaque token what the token endpoint stated.
    pub expires: Option<UnixTime>,
    /// Its lifetime when it was issued: `expires_in`.
    pub lifetime: Option<Duration>,
    /// `issued_token_type` (RFC 8693 §2.2.1).
    pub issued_token_type: Option<String>,
    /// `scope`.
    pub scope: Option<String>,
}

impl StoredToken {
    /// A token of which only the text is known. A JSON Web Token states its own expiry and
    /// lifetime.
    #[must_use]
    pub fn of(token: Secret) -> Self {
        let claims = Claims::peek(&token);
        Self {
            expires: claims.as_ref().and_then(|claims| claims.expires),
            lifetime: claims.as_ref().and_then(Claims::lifetime),
            issued_token_type: None,
            scope: None,
            token,
        }
    }
}
