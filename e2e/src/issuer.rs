//! A test issuer with the shape of a Kubernetes API server: discovery, keys, and ServiceAccount tokens.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::process::PATIENCE;
use crate::signing_key::{SigningKey, now};
use crate::wire::{self, Line, Wire};

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
        Self::url(self)
    }

    fn ca_file(&self) -> PathBuf {
        Self::ca_file(self)
    }
}

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// What can be wrong with a subject token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// Its time is over.
    Expired,
    /// Its time begins in an hour; Dex allows for five minutes.
    NotYetValid,
    /// It names another cluster.
    OtherIssuer,
    /// It is signed with a key that the issuer does not publish.
    UnknownKey,
    /// It was changed after it was signed.
    Forged,
    /// It has no `sub`, which the connector takes for the user's name.
    Nameless,
}

/// How a document is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mood {
    /// As it should be.
    Well,
    /// 500.
    Failing,
    /// 401, as by a Kubernetes API server that shows its discovery to nobody unknown.
    Refusing,
    /// Not at all, until the mood changes: then the connection is closed.
    Hanging,
}

/// A running issuer with https and a CA of its own. It can be stopped and started again on the same port.
pub struct Issuer {
    authority: Authority,
    wire: Option<Wire>,
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Whether tokens and discovery name [`ISSUER`], or the address.
    aliased: bool,
    asked: AtomicUsize,
}

struct State {
    key: SigningKey,
    discovery: Mood,
    keys: Mood,
}

impl Issuer {
    /// Starts one on loopback that calls itself [`ISSUER`], as the API server of a cluster does.
    #[must_use]
    pub fn start() -> Self {
        Self::named(true)
    }

    /// Starts one that calls itself by the address at which Dex finds it.
    #[must_use]
    pub fn under_its_address() -> Self {
        Self::named(false)
    }

    fn named(aliased: bool) -> Self {
        let state = State { key: SigningKey::new(), discovery: Mood::Well, keys: Mood::Well };
        let shared = Arc::new(Shared { state: Mutex::new(state), aliased, asked: AtomicUsize::new(0) });
        let mut issuer = Self { authority: Authority::new(), wire: None, port: 0, shared };
        issuer.resume();
        issuer
    }

    /// Where Dex finds it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The CA that signed its certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.authority.file()
    }

    /// Stops answering; connections are refused.
    pub fn stop(&mut self) {
        self.wire = None;
    }

    /// Answers again, on the same port.
    pub fn resume(&mut self) {
        let tls = self.authority.server(&[]).server_config();
        let shared = Arc::clone(&self.shared);
        let wire = Wire::start(&format!("127.0.0.1:{}", self.port), Some(tls), move |heard, line| {
            shared.asked.fetch_add(1, Ordering::SeqCst);
            // Whoever asks knows the address.
            let address = heard.header("host").unwrap_or_default();
            shared.answer(&heard.target, &format!("https://{address}"), line)
        });
        self.port = wire.address().port();
        self.wire = Some(wire);
    }

    /// Signs with a new key from now on. The old one is no longer published.
    pub fn rotate_key(&self) {
        self.shared.state().key = SigningKey::new();
    }

    /// How discovery is served from now on.
    pub fn serve_discovery(&self, mood: Mood) {
        self.shared.state().discovery = mood;
    }

    /// How the keys are served from now on.
    pub fn serve_keys(&self, mood: Mood) {
        self.shared.state().keys = mood;
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

    /// The same with claims put over the usual ones; null takes one away.
    #[must_use]
    pub fn token_with(&self, seconds: i64, more: &Value) -> String {
        self.shared.state().key.sign(&self.claims(seconds, more))
    }

    /// A token with a flaw.
    #[must_use]
    pub fn flawed(&self, flaw: Flaw) -> String {
        match flaw {
            Flaw::Expired => self.token(-60),
            Flaw::NotYetValid => self.token_with(7_200, &json!({"nbf": now() + 3_600})),
            Flaw::OtherIssuer => self.token_with(600, &json!({"iss": "https://other.test"})),
            Flaw::UnknownKey => SigningKey::new().sign(&self.claims(600, &json!({}))),
            Flaw::Forged => {
                let [honest, forged] = [json!({}), json!({"sub": "system:serviceaccount:kube-system:root"})]
                    .map(|more| self.token_with(600, &more));
                let signature = honest.rsplit('.').next().unwrap_or_default();
                let signed = forged.rsplit_once('.').map_or("", |(signed, _)| signed);
                format!("{signed}.{signature}")
            }
            Flaw::Nameless => self.token_with(600, &json!({"sub": null})),
        }
    }

    /// The claims of a token of Kubernetes 1.32 or later that is bound to a pod.
    fn claims(&self, seconds: i64, more: &Value) -> Value {
        let now = now();
        // One that has expired was issued ten minutes before its end.
        let issued = now.saturating_add_signed(seconds.min(0)) - if seconds <= 0 { 600 } else { 0 };
        let mut claims = json!({
            "aud": ["dex"],
            "exp": now.saturating_add_signed(seconds),
            "iat": issued,
            "iss": self.shared.name(&self.url()),
            "jti": format!("canary-{now}-{:p}", self),
            "kubernetes.io": {
                "namespace": "default",
                "node": {"name": "node", "uid": "5f1c1a34-3b7a-4a2e-9a83-1d6f6dcb1c11"},
                "pod": {"name": "app-0", "uid": "8f5ae3c2-6a58-4b62-8c3f-0d2c3f1e9b22"},
                "serviceaccount": {"name": "app", "uid": "1c2d3e4f-1111-4222-8333-444455556666"}
            },
            "nbf": issued,
            "sub": "system:serviceaccount:default:app"
        });
        if let (Some(claims), Some(more)) = (claims.as_object_mut(), more.as_object()) {
            claims.extend(more.clone());
            claims.retain(|_, value| !value.is_null());
        }
        claims
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it calls itself.
    fn name<'a>(&self, url: &'a str) -> &'a str {
        if self.aliased { ISSUER } else { url }
    }

    /// Media types and caching as kube-apiserver has them.
    fn answer(&self, target: &str, url: &str, line: &mut dyn Line) -> io::Result<()> {
        let (kind, document) = match target {
            DISCOVERY => {
                let document = json!({
                    "issuer": self.name(url),
                    "jwks_uri": format!("{url}{KEYS}"),
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256"]
                });
                ("application/json", document)
            }
            KEYS => ("application/jwk-set+json", json!({"keys": [self.state().key.jwk()]})),
            _ => {
                let plain = [("Content-Type", "text/plain")];
                return line.write_all(&wire::answer("404 Not Found", &plain, "404 page not found\n"));
            }
        };
        let headers = [("Cache-Control", "public, max-age=3600"), ("Content-Type", kind)];
        match self.mood(target) {
            Mood::Well => line.write_all(&wire::answer("200 OK", &headers, &document.to_string())),
            Mood::Failing => line.write_all(&wire::answer("500 Internal Server Error", &[], "")),
            Mood::Refusing => line.write_all(&wire::answer("401 Unauthorized", &[], "")),
            Mood::Hanging => {
                // Dex shares one fetch of the keys among all who wait for it, and sets it no limit.
                let start = Instant::now();
                while self.mood(target) == Mood::Hanging && start.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(())
            }
        }
    }

    fn mood(&self, target: &str) -> Mood {
        let state = self.state();
        if target == KEYS { state.keys } else { state.discovery }
    }
}
