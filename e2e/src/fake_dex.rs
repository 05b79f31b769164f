//! A fake of Dex's token endpoint, for answers that Dex never gives and for benchmarks. A test of
//! the real_dex suite compares the shape of its token response with Dex's.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use serde_json::json;

use crate::file_readers::Judgement;
use crate::process::PATIENCE;
use crate::raw_http::{self, Connection, HttpRequest, RawServer};
use crate::signing_key::{SigningKey, now};

/// What an exchange gets.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A token with a lifetime of so many seconds.
    Token(u64),
    /// The same after so long.
    Late(Duration, u64),
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes one at a time, with a pause after each.
    Drip(Vec<u8>, Duration),
    /// So many bytes of a token response, then a reset.
    ResetAfter(usize),
    /// The first bytes once, then the second again and again until the client closes the
    /// connection.
    Endless(Vec<u8>, Vec<u8>),
    /// These bytes, then nothing until the client closes the connection.
    Stall(Vec<u8>),
    /// Nothing until the client closes the connection.
    Silence,
}

/// How the discovery document and the keys are served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Documents {
    /// Beside the token endpoint, as Dex does.
    Published,
    /// Not at all: 404.
    NotServed,
    /// Not at present: 503.
    Unavailable,
    /// With a redirect to another server on this port of 127.0.0.1.
    Redirected(u16),
    /// With keys that signed no token, as from a cache or another replica.
    Stale,
    /// As lists of a megabyte: as many keys and grant types as a response may hold.
    Huge,
}

/// What the threads of the connections share.
struct Shared {
    tls: bool,
    state: Mutex<State>,
    /// Notified with each exchange.
    more: Condvar,
}

struct State {
    /// The answers to the next exchanges, one each; after them `otherwise`.
    script: VecDeque<Answer>,
    otherwise: Answer,
    requests: Vec<HttpRequest>,
    issued: Vec<String>,
    key: SigningKey,
    document_requests: usize,
    documents: Documents,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running fake Dex, which stops when dropped.
pub struct FakeDex {
    server: RawServer,
    shared: Arc<Shared>,
}

impl FakeDex {
    /// Starts one on a free port of 127.0.0.1, in plain HTTP. It issues tokens of an hour.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0", None)
    }

    /// Starts one at an address such as `[::1]:0`, over TLS if that is configured. It issues tokens
    /// of an hour.
    #[must_use]
    pub fn start_at(address: &str, tls: Option<Arc<ServerConfig>>) -> Self {
        let state = State {
            script: VecDeque::new(),
            otherwise: Answer::Token(3_600),
            requests: vec![],
            issued: vec![],
            key: SigningKey::new(),
            document_requests: 0,
            documents: Documents::Published,
        };
        let shared = Arc::new(Shared { tls: tls.is_some(), state: Mutex::new(state), more: Condvar::new() });
        let answering = Arc::clone(&shared);
        let server =
            RawServer::start(address, tls, move |request, connection| answering.answer(request, connection));
        Self { server, shared }
    }

    /// The value of `dex_endpoint`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls { "https" } else { "http" };
        format!("{scheme}://{}/dex/token", self.server.address())
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Queues the answer to one exchange, behind those that are queued already.
    pub fn next(&self, answer: Answer) {
        self.shared.state().script.push_back(answer);
    }

    /// The number of queued answers that no exchange got yet.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.state().script.len()
    }

    /// Sets the answer to every exchange for which none is queued.
    pub fn always(&self, answer: Answer) {
        self.shared.state().otherwise = answer;
    }

    /// Signs with a new key from now on. The old one is no longer published.
    pub fn lose_keys(&self) {
        self.shared.state().key = SigningKey::new();
    }

    /// Sets how the discovery document and the keys are served.
    pub fn publish(&self, documents: Documents) {
        self.shared.state().documents = documents;
    }

    /// Every request for a token so far.
    #[must_use]
    pub fn requests(&self) -> Vec<HttpRequest> {
        self.shared.state().requests.clone()
    }

    /// The number of requests for the discovery document or the keys so far.
    #[must_use]
    pub fn document_requests(&self) -> usize {
        self.shared.state().document_requests
    }

    /// Every token that was issued.
    #[must_use]
    pub fn issued(&self) -> Vec<String> {
        self.shared.state().issued.clone()
    }

    /// The length in bytes of the next token response, which [`Answer::ResetAfter`] begins.
    #[must_use]
    pub fn response_length(&self) -> usize {
        self.shared.state().token_response(3_600).1.len()
    }

    /// A judge that calls valid exactly the tokens that were issued, byte for byte. A mixture of
    /// two tokens of the same length has the shape of a token, and is malformed.
    pub fn judge(&self) -> impl Fn(&str) -> Judgement + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        let known = RwLock::new(HashSet::new());
        move |text| {
            let is_known = known.read().unwrap_or_else(PoisonError::into_inner).contains(text);
            if is_known {
                return Judgement::Valid;
            }
            // A token is noted before it is sent.
            let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
            known.extend(shared.state().issued.iter().cloned());
            if known.contains(text) { Judgement::Valid } else { Judgement::Malformed }
        }
    }

    /// Waits for so many requests for a token.
    ///
    /// # Panics
    /// When time runs out.
    pub fn until_requests(&self, times: usize) {
        let state = self.shared.state();
        let waited =
            self.shared.more.wait_timeout_while(state, PATIENCE, |state| state.requests.len() < times);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{} requests for a token came, not {times}", state.requests.len());
    }
}

impl Shared {
    fn answer(&self, request: &HttpRequest, connection: &mut dyn Connection) -> io::Result<()> {
        if request.method == "GET" {
            let scheme = if self.tls { "https" } else { "http" };
            let base = format!("{scheme}://{}/dex", request.header("host").unwrap_or_default());
            return connection.write_all(&self.document(&request.target, &base));
        }
        let answer = {
            let mut state = self.state();
            state.requests.push(request.clone());
            self.more.notify_all();
            state.script.pop_front().unwrap_or_else(|| state.otherwise.clone())
        };
        match answer {
            Answer::Token(seconds) => connection.write_all(&self.issue(seconds)),
            Answer::Late(pause, seconds) => {
                std::thread::sleep(pause);
                connection.write_all(&self.issue(seconds))
            }
            Answer::Bytes(bytes) => connection.write_all(&bytes),
            Answer::Drip(bytes, pause) => {
                for byte in bytes {
                    connection.write_all(&[byte])?;
                    connection.flush()?;
                    std::thread::sleep(pause);
                }
                Ok(())
            }
            Answer::ResetAfter(length) => {
                let response = self.issue(3_600);
                connection.write_all(&response[..length.min(response.len())])?;
                connection.flush()?;
                reset(connection)
            }
            Answer::Endless(head, more) => {
                connection.write_all(&head)?;
                loop {
                    connection.write_all(&more)?;
                }
            }
            Answer::Stall(bytes) => {
                connection.write_all(&bytes)?;
                connection.flush()?;
                wait_for_close(connection)
            }
            Answer::Silence => wait_for_close(connection),
        }
    }

    fn issue(&self, seconds: u64) -> Vec<u8> {
        let mut state = self.state();
        let (token, response) = state.token_response(seconds);
        state.issued.push(token);
        response
    }

    /// The response to a GET beside the token endpoint. `base` is Dex's URL as the client knows it.
    fn document(&self, target: &str, base: &str) -> Vec<u8> {
        let mut state = self.state();
        state.document_requests += 1;
        let document = match (target, state.documents) {
            (_, Documents::Unavailable) => return raw_http::answer("503 Service Unavailable", &[], ""),
            (_, Documents::Redirected(port)) => {
                let location = format!("http://127.0.0.1:{port}{target}");
                return raw_http::answer("307 Temporary Redirect", &[("Location", &location)], "");
            }
            ("/dex/keys", Documents::Huge) => {
                let body = format!(r#"{{"keys":[{}{{}}]}}"#, "{},".repeat(340_000));
                return raw_http::answer("200 OK", &[], &body);
            }
            (_, Documents::Huge) => {
                let body = format!(r#"{{"grant_types_supported":[{}""]}}"#, "\"\",".repeat(340_000));
                return raw_http::answer("200 OK", &[], &body);
            }
            ("/dex/keys", Documents::Published) => json!({"keys": [state.key.jwk()]}),
            ("/dex/keys", Documents::Stale) => json!({"keys": [SigningKey::new().jwk()]}),
            ("/dex/.well-known/openid-configuration", Documents::Published | Documents::Stale) => json!({
                "issuer": "https://dex.test/dex",
                "token_endpoint": format!("{base}/token"),
                "jwks_uri": format!("{base}/keys"),
                "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"]
            }),
            _ => {
                let plain = [("Content-Type", "text/plain; charset=utf-8")];
                return raw_http::answer("404 Not Found", &plain, "404 page not found\n");
            }
        };
        raw_http::answer("200 OK", &[("Content-Type", "application/json")], &document.to_string())
    }
}

impl State {
    /// A token with a lifetime of so many seconds, and the response that carries it.
    fn token_response(&self, seconds: u64) -> (String, Vec<u8>) {
        let now = now();
        let token = self.key.sign(&json!({
            "iss": "https://dex.test/dex",
            "sub": "CiFzeXN0ZW06c2VydmljZWFjY291bnQ6ZGVmYXVsdDphcHASA2szcw",
            "aud": "user",
            "exp": now + seconds,
            "iat": now,
            "at_hash": format!("canary{}", self.issued.len()),
            "federated_claims": {"connector_id": "k3s", "user_id": "system:serviceaccount:default:app"},
            "name": "system:serviceaccount:default:app"
        }));
        // In the order in which Go writes Dex's struct.
        let body = format!(
            "{{\"access_token\":\"{token}\",\"issued_token_type\":\"urn:ietf:params:oauth:token-type:access_token\",\
             \"token_type\":\"bearer\",\"expires_in\":{}}}\n",
            seconds.saturating_sub(1).max(1)
        );
        // In the order in which Go writes headers.
        let date = httpdate::fmt_http_date(std::time::SystemTime::now());
        let response = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nPragma: no-cache\r\n\
             Date: {date}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        (token, response.into_bytes())
    }
}

/// Waits until the client closes the connection.
fn wait_for_close(connection: &mut dyn Connection) -> io::Result<()> {
    let _ = connection.read(&mut [0; 1]);
    Ok(())
}

/// Ends the connection with an RST: the kernel sends one when a socket does not linger.
fn reset(connection: &dyn Connection) -> io::Result<()> {
    let linger = Some(Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(connection.socket(), linger)?;
    connection.socket().shutdown(std::net::Shutdown::Read)?;
    Err(io::ErrorKind::ConnectionAborted.into())
}
