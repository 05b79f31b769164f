//! A test issuer with the shape of a Kubernetes API server: discovery, keys, and ServiceAccount tokens.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::signing_key::{SigningKey, now};
use crate::wire::{self, Wire};

/// What the tokens say who issued them, as in every cluster with defaults.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// An issuer of ServiceAccount tokens as Dex's connector sees it; the tokens themselves name [`ISSUER`].
pub trait ClusterIssuer {
    /// Where Dex finds discovery and keys.
    fn url(&self) -> String;
    /// The CA that signed its certificate.
    fn ca_file(&self) -> PathBuf;
}

impl ClusterIssuer for Issuer {
    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn ca_file(&self) -> PathBuf {
        self.authority.file()
    }
}

/// A running issuer with https and a CA of its own. It can be stopped and started again on the same port.
pub struct Issuer {
    authority: Authority,
    wire: Option<Wire>,
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    keys: Mutex<Vec<SigningKey>>,
    /// `500` for the keys while this is set.
    keys_fail: std::sync::atomic::AtomicBool,
    asked: AtomicUsize,
}

impl Issuer {
    /// Starts one on loopback.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            keys: Mutex::new(vec![SigningKey::new()]),
            keys_fail: false.into(),
            asked: AtomicUsize::new(0),
        });
        let mut issuer = Self { authority: Authority::new(), wire: None, port: 0, shared };
        issuer.resume();
        issuer
    }

    /// Stops answering; connections are refused.
    pub fn stop(&mut self) {
        self.wire = None;
    }

    /// Answers again, on the same port.
    pub fn resume(&mut self) {
        let tls = self.authority.server(&[]).server_config();
        let shared = Arc::clone(&self.shared);
        let url_port = Arc::new(AtomicUsize::new(usize::from(self.port)));
        let told = Arc::clone(&url_port);
        let wire = Wire::start(&format!("127.0.0.1:{}", self.port), Some(tls), move |heard, line| {
            shared.asked.fetch_add(1, Ordering::SeqCst);
            let (status, body) = shared.document(&heard.target, told.load(Ordering::SeqCst));
            line.write_all(&wire::answer(status, &[("Content-Type", "application/json")], &body))
        });
        self.port = wire.address().port();
        url_port.store(usize::from(self.port), Ordering::SeqCst);
        self.wire = Some(wire);
    }

    /// Signs with a new key from now on. The old one is no longer published.
    pub fn rotate_key(&self) {
        *self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner) = vec![SigningKey::new()];
    }

    /// Whether the keys answer 500.
    pub fn fail_keys(&self, fail: bool) {
        self.shared.keys_fail.store(fail, Ordering::SeqCst);
    }

    /// How many requests there were.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// A token of ServiceAccount `app` in namespace `default`, good for so many seconds.
    #[must_use]
    pub fn token(&self, seconds: i64) -> String {
        self.token_with(seconds, &json!({}))
    }

    /// The same with claims put over the usual ones.
    #[must_use]
    pub fn token_with(&self, seconds: i64, more: &Value) -> String {
        let now = now();
        let mut claims = json!({
            "aud": ["dex"],
            "exp": now.saturating_add_signed(seconds),
            "iat": now.saturating_add_signed(seconds.min(0)).saturating_sub(u64::from(seconds <= 0) * 600),
            "iss": ISSUER,
            "jti": format!("canary-{now}-{:p}", self),
            "kubernetes.io": {
                "namespace": "default",
                "node": {"name": "node", "uid": "5f1c1a34-3b7a-4a2e-9a83-1d6f6dcb1c11"},
                "pod": {"name": "app-0", "uid": "8f5ae3c2-6a58-4b62-8c3f-0d2c3f1e9b22"},
                "serviceaccount": {"name": "app", "uid": "1c2d3e4f-1111-4222-8333-444455556666"}
            },
            "nbf": now.saturating_sub(u64::from(seconds <= 0) * 600),
            "sub": "system:serviceaccount:default:app"
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner)[0].sign(&claims)
    }
}

impl Shared {
    fn document(&self, target: &str, port: usize) -> (&'static str, String) {
        match target {
            "/.well-known/openid-configuration" => {
                let document = json!({
                    "issuer": ISSUER,
                    "jwks_uri": format!("https://127.0.0.1:{port}/openid/v1/jwks"),
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256"]
                });
                ("200 OK", document.to_string())
            }
            "/openid/v1/jwks" if self.keys_fail.load(Ordering::SeqCst) => {
                ("500 Internal Server Error", "{}".to_owned())
            }
            "/openid/v1/jwks" => {
                let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
                ("200 OK", json!({"keys": keys.iter().map(SigningKey::jwk).collect::<Vec<_>>()}).to_string())
            }
            _ => ("404 Not Found", "{}".to_owned()),
        }
    }
}
