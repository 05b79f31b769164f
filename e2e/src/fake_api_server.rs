//! A fake of the parts of a Kubernetes API server that Dex uses: the discovery document and the
//! keys. It issues ServiceAccount tokens.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::process::PATIENCE;
use crate::raw_http::{self, Connection, RawServer};
use crate::signing_key::{SigningKey, now};

/// The issuer that the tokens name, as in every cluster with defaults.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// An issuer of ServiceAccount tokens as Dex's connector sees it. The tokens themselves name
/// [`ISSUER`].
pub trait ClusterIssuer {
    /// The URL under which Dex finds the discovery document and the keys.
    fn url(&self) -> String;
    /// The file of the CA that issued its certificate.
    fn ca_file(&self) -> PathBuf;
}

impl ClusterIssuer for FakeApiServer {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn ca_file(&self) -> PathBuf {
        Self::ca_file(self)
    }
}

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// A flaw of a subject token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// It has expired.
    Expired,
    /// It is valid in an hour; Dex allows for five minutes.
    NotYetValid,
    /// It names another issuer.
    OtherIssuer,
    /// It is signed with a key that the issuer does not publish.
    UnknownKey,
    /// It was changed after it was signed.
    Forged,
    /// It has no `sub`, which the connector uses as the user's name.
    Nameless,
}

/// How a document is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mood {
    /// With 200.
    Well,
    /// With 500.
    Failing,
    /// With 401, as by an API server that refuses anonymous access to discovery.
    Refusing,
    /// Not at all until the mood changes. Then the connection is closed.
    Hanging,
}

/// A running fake with HTTPS and a CA of its own. It can be stopped and started again on the same
/// port.
pub struct FakeApiServer {
    authority: Authority,
    server: Option<RawServer>,
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    naming: Naming,
}

/// The issuer that tokens and discovery name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Naming {
    /// [`ISSUER`].
    Cluster,
    /// The URL under which Dex finds it.
    Address,
    /// The same with a slash at the end.
    AddressAndSlash,
}

struct State {
    key: SigningKey,
    discovery: Mood,
    keys: Mood,
}

impl FakeApiServer {
    /// Starts one on 127.0.0.1. Its tokens name [`ISSUER`], as those of a cluster do.
    #[must_use]
    pub fn start() -> Self {
        Self::start_as(Naming::Cluster)
    }

    /// Starts one whose tokens name the URL under which Dex finds it.
    #[must_use]
    pub fn named_by_address() -> Self {
        Self::start_as(Naming::Address)
    }

    /// Starts one whose tokens name that URL with a slash at the end.
    #[must_use]
    pub fn named_with_slash() -> Self {
        Self::start_as(Naming::AddressAndSlash)
    }

    fn start_as(naming: Naming) -> Self {
        let state = State { key: SigningKey::new(), discovery: Mood::Well, keys: Mood::Well };
        let shared = Arc::new(Shared { state: Mutex::new(state), naming });
        let mut started = Self { authority: Authority::new(), server: None, port: 0, shared };
        started.resume();
        started
    }

    /// The URL under which Dex finds it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The file of the CA that issued its certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.authority.file()
    }

    /// Stops. Connections are refused.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts again, on the same port.
    pub fn resume(&mut self) {
        let tls = self.authority.server(&[]).server_config();
        let shared = Arc::clone(&self.shared);
        let server =
            RawServer::start(&format!("127.0.0.1:{}", self.port), Some(tls), move |request, connection| {
                // The client knows the address. The port is not known before the server listens.
                let address = request.header("host").unwrap_or_default();
                shared.answer(&request.target, &format!("https://{address}"), connection)
            });
        self.port = server.address().port();
        self.server = Some(server);
    }

    /// Signs with a new key from now on. The old one is no longer published.
    pub fn rotate_key(&self) {
        self.shared.state().key = SigningKey::new();
    }

    /// Sets how the discovery document is served.
    pub fn serve_discovery(&self, mood: Mood) {
        self.shared.state().discovery = mood;
    }

    /// Sets how the keys are served.
    pub fn serve_keys(&self, mood: Mood) {
        self.shared.state().keys = mood;
    }

    /// A token of the ServiceAccount `app` in the namespace `default` that expires in so many
    /// seconds.
    #[must_use]
    pub fn token(&self, seconds: i64) -> String {
        self.token_with(seconds, &json!({}))
    }

    /// The same with claims that replace the usual ones; null removes one.
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

    /// The claims of a token that is bound to a pod, as Kubernetes 1.32 and later issue it.
    fn claims(&self, seconds: i64, more: &Value) -> Value {
        let now = now();
        // An expired token was issued ten minutes before it expired.
        let issued = now.saturating_add_signed(seconds.min(0)) - if seconds <= 0 { 600 } else { 0 };
        let mut claims = json!({
            "aud": ["dex"],
            "exp": now.saturating_add_signed(seconds),
            "iat": issued,
            "iss": self.shared.issuer(&self.url()),
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

    /// The issuer that it names.
    fn issuer(&self, url: &str) -> String {
        match self.naming {
            Naming::Cluster => ISSUER.to_owned(),
            Naming::Address => url.to_owned(),
            Naming::AddressAndSlash => format!("{url}/"),
        }
    }

    /// Media types and Cache-Control are those of kube-apiserver.
    fn answer(&self, target: &str, url: &str, connection: &mut dyn Connection) -> io::Result<()> {
        let (kind, document) = match target {
            DISCOVERY => {
                let document = json!({
                    "issuer": self.issuer(url),
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
                return connection.write_all(&raw_http::answer(
                    "404 Not Found",
                    &plain,
                    "404 page not found\n",
                ));
            }
        };
        let headers = [("Cache-Control", "public, max-age=3600"), ("Content-Type", kind)];
        match self.mood(target) {
            Mood::Well => connection.write_all(&raw_http::answer("200 OK", &headers, &document.to_string())),
            Mood::Failing => connection.write_all(&raw_http::answer("500 Internal Server Error", &[], "")),
            Mood::Refusing => connection.write_all(&raw_http::answer("401 Unauthorized", &[], "")),
            Mood::Hanging => {
                // Dex makes one request for the keys for all exchanges that wait, and sets no limit
                // to it.
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
