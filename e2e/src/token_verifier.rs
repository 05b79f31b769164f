//! A server that checks Dex's tokens as a resource server does: signature, issuer, audience and
//! expiry. For programs that send tokens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::raw_http::{self, HttpRequest, RawServer};
use crate::signing_key::{claims, is_signed, now};

/// A request that was checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checked {
    /// The request line's target.
    pub target: String,
    /// The token that was sent; empty if there was none.
    pub token: String,
    /// Why it was refused.
    pub refused: Option<&'static str>,
}

/// A running server. It stops when dropped.
pub struct TokenVerifier {
    _server: RawServer,
    checked: Arc<Mutex<Vec<Checked>>>,
}

/// What the server expects of a token.
struct Expected {
    issuer: String,
    audience: &'static str,
    keys: Value,
}

impl TokenVerifier {
    /// Listens on this address. It answers `body` to a token that one of `keys` (a JSON Web Key
    /// Set) signed for the audience, and 401 to any other.
    ///
    /// # Panics
    /// When the address is in use.
    #[must_use]
    pub fn start(
        address: &str,
        issuer: String,
        audience: &'static str,
        keys: Value,
        body: &'static str,
    ) -> Self {
        let expected = Expected { issuer, audience, keys };
        let checked = Arc::new(Mutex::new(vec![]));
        let record = Arc::clone(&checked);
        let server = RawServer::start(address, None, move |request, connection| {
            let token = bearer(request);
            let refused = expected.refusal(&token);
            let answer = match refused {
                None => raw_http::answer("200 OK", &[("Content-Type", "text/plain; version=0.0.4")], body),
                Some(why) => {
                    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{why}\"");
                    raw_http::answer(
                        "401 Unauthorized",
                        &[("WWW-Authenticate", &challenge)],
                        &format!("{why}\n"),
                    )
                }
            };
            lock(&record).push(Checked { target: request.target.clone(), token, refused });
            connection.write_all(&answer)
        });
        Self { _server: server, checked }
    }

    /// Every request so far.
    #[must_use]
    pub fn checked(&self) -> Vec<Checked> {
        lock(&self.checked).clone()
    }

    /// The number of requests with this token that were accepted.
    #[must_use]
    pub fn accepted(&self, token: &str) -> usize {
        lock(&self.checked).iter().filter(|one| one.token == token && one.refused.is_none()).count()
    }

    /// The reasons of all refusals.
    #[must_use]
    pub fn refusals(&self) -> Vec<&'static str> {
        lock(&self.checked).iter().filter_map(|one| one.refused).collect()
    }
}

fn lock(checked: &Mutex<Vec<Checked>>) -> MutexGuard<'_, Vec<Checked>> {
    checked.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bearer(request: &HttpRequest) -> String {
    let value = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    value.unwrap_or_default().to_owned()
}

impl Expected {
    /// Why a token is refused.
    fn refusal(&self, token: &str) -> Option<&'static str> {
        if token.split('.').count() != 3 {
            return Some("no token");
        }
        if !is_signed(token, &self.keys) {
            return Some("unknown signing key");
        }
        let claims = claims(token);
        if claims["iss"] != self.issuer.as_str() {
            return Some("another issuer");
        }
        if claims["aud"] != self.audience {
            return Some("another audience");
        }
        if claims["exp"].as_u64().is_none_or(|expires| expires <= now()) {
            return Some("expired");
        }
        None
    }
}
