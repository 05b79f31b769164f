//! The stand-in for Dex's token endpoint: for answers that Dex cannot be made to give, and for benchmarks. Its good answer
//! has the shape of Dex's; a test compares them.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use serde_json::json;

use crate::process::PATIENCE;
use crate::reader::Judgement;
use crate::signing_key::{SigningKey, now};
use crate::wire::{self, Heard, Line, Wire};

/// What a connection gets.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A token that is good for so many seconds.
    Token(u64),
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, one at a time with a pause after each.
    Drip(Vec<u8>, Duration),
    /// So many bytes of a good answer, then a reset.
    ResetAfter(usize),
    /// These bytes, then these again and again for as long as the other side listens.
    Endless(Vec<u8>, Vec<u8>),
    /// These bytes, then nothing for as long as the other side waits.
    Stall(Vec<u8>),
    /// Nothing for as long as the other side waits.
    Silence,
}

/// What becomes of keys and discovery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Documents {
    /// They are beside the token endpoint, as Dex has them.
    Published,
    /// They are not to be found.
    Nowhere,
    /// They cannot be had just now.
    Unavailable,
    /// They are at another server, whose port this is: that is where a redirect leads.
    Elsewhere(u16),
    /// The keys are those of a cache, or of another replica: no token is signed with them.
    Stale,
    /// Instead of them there is a million of nothing: as many keys and grants as an answer can hold.
    Countless,
}

/// What the stand-in knows.
struct Shared {
    tls: bool,
    state: Mutex<State>,
    more: Condvar,
}

struct State {
    /// What comes next, one each; then `otherwise` for ever.
    script: VecDeque<Answer>,
    otherwise: Answer,
    heard: Vec<Heard>,
    issued: Vec<String>,
    key: SigningKey,
    keys_asked: usize,
    documents: Documents,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running stand-in.
pub struct Endpoint {
    wire: Wire,
    shared: Arc<Shared>,
}

impl Endpoint {
    /// Starts one on an address such as `127.0.0.1:0` or `[::1]:0`, which issues tokens of an hour until told otherwise.
    #[must_use]
    pub fn start(address: &str, tls: Option<Arc<ServerConfig>>) -> Self {
        let state = State {
            script: VecDeque::new(),
            otherwise: Answer::Token(3_600),
            heard: vec![],
            issued: vec![],
            key: SigningKey::new(),
            keys_asked: 0,
            documents: Documents::Published,
        };
        let shared = Arc::new(Shared { tls: tls.is_some(), state: Mutex::new(state), more: Condvar::new() });
        let seen = Arc::clone(&shared);
        let wire = Wire::start(address, tls, move |heard, line| seen.answer(heard, line));
        Self { wire, shared }
    }

    /// What `dex_endpoint` is to be.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.shared.tls { "https" } else { "http" };
        format!("{scheme}://{}/dex/token", self.wire.address())
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.wire.address()
    }

    /// What the next exchange gets; further calls queue up behind.
    pub fn next(&self, answer: Answer) {
        self.shared.state().script.push_back(answer);
    }

    /// How many answers are queued and were not asked for yet.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.state().script.len()
    }

    /// What every exchange gets when nothing is queued.
    pub fn always(&self, answer: Answer) {
        self.shared.state().otherwise = answer;
    }

    /// Signs with a new key from now on, and publishes no other.
    pub fn lose_keys(&self) {
        self.shared.state().key = SigningKey::new();
    }

    /// What becomes of keys and discovery from now on.
    pub fn publish(&self, documents: Documents) {
        self.shared.state().documents = documents;
    }

    /// Every exchange that was asked for.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.state().heard.clone()
    }

    /// How often keys or discovery were asked for.
    #[must_use]
    pub fn keys_asked(&self) -> usize {
        self.shared.state().keys_asked
    }

    /// Every token that was issued.
    #[must_use]
    pub fn issued(&self) -> Vec<String> {
        self.shared.state().issued.clone()
    }

    /// How many bytes the next good answer has, of an hour as [`Answer::ResetAfter`] begins it.
    #[must_use]
    pub fn length(&self) -> usize {
        self.shared.state().good(3_600).1.len()
    }

    /// A judge that knows every token that was issued, to the byte, and nothing else: two tokens of one length, mixed, have
    /// the shape of one.
    pub fn ledger(&self) -> impl Fn(&str) -> Judgement + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        let known = RwLock::new(HashSet::new());
        move |text| {
            let is_known = known.read().unwrap_or_else(PoisonError::into_inner).contains(text);
            if is_known {
                return Judgement::Good;
            }
            // A token is in the books before it is on its way.
            let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
            known.extend(shared.state().issued.iter().cloned());
            if known.contains(text) { Judgement::Good } else { Judgement::Torn }
        }
    }

    /// Waits until so many exchanges were asked for.
    ///
    /// # Panics
    /// When they never are.
    pub fn until_heard(&self, times: usize) {
        let state = self.shared.state();
        let waited = self.shared.more.wait_timeout_while(state, PATIENCE, |state| state.heard.len() < times);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{} exchanges were asked for, not {times}", state.heard.len());
    }
}

impl Shared {
    fn answer(&self, heard: &Heard, line: &mut dyn Line) -> io::Result<()> {
        if heard.method == "GET" {
            let scheme = if self.tls { "https" } else { "http" };
            let own = format!("{scheme}://{}/dex", heard.header("host").unwrap_or_default());
            return line.write_all(&self.document(&heard.target, &own));
        }
        let answer = {
            let mut state = self.state();
            state.heard.push(heard.clone());
            self.more.notify_all();
            state.script.pop_front().unwrap_or_else(|| state.otherwise.clone())
        };
        match answer {
            Answer::Token(seconds) => line.write_all(&self.issue(seconds)),
            Answer::Bytes(bytes) => line.write_all(&bytes),
            Answer::Drip(bytes, pause) => {
                for byte in bytes {
                    line.write_all(&[byte])?;
                    line.flush()?;
                    std::thread::sleep(pause);
                }
                Ok(())
            }
            Answer::ResetAfter(length) => {
                let whole = self.issue(3_600);
                line.write_all(&whole[..length.min(whole.len())])?;
                line.flush()?;
                reset(line)
            }
            Answer::Endless(head, more) => {
                line.write_all(&head)?;
                loop {
                    line.write_all(&more)?;
                }
            }
            Answer::Stall(bytes) => {
                line.write_all(&bytes)?;
                line.flush()?;
                wait_for_the_end(line)
            }
            Answer::Silence => wait_for_the_end(line),
        }
    }

    fn issue(&self, seconds: u64) -> Vec<u8> {
        let mut state = self.state();
        let (token, answer) = state.good(seconds);
        state.issued.push(token);
        answer
    }

    /// A document beside the token endpoint; `own` is where the other side finds them.
    fn document(&self, target: &str, own: &str) -> Vec<u8> {
        let mut state = self.state();
        state.keys_asked += 1;
        let document = match (target, state.documents) {
            (_, Documents::Unavailable) => return wire::answer("503 Service Unavailable", &[], ""),
            (_, Documents::Elsewhere(port)) => {
                let location = format!("http://127.0.0.1:{port}{target}");
                return wire::answer("307 Temporary Redirect", &[("Location", &location)], "");
            }
            ("/dex/keys", Documents::Countless) => {
                let body = format!(r#"{{"keys":[{}{{}}]}}"#, "{},".repeat(340_000));
                return wire::answer("200 OK", &[], &body);
            }
            (_, Documents::Countless) => {
                let body = format!(r#"{{"grant_types_supported":[{}""]}}"#, "\"\",".repeat(340_000));
                return wire::answer("200 OK", &[], &body);
            }
            ("/dex/keys", Documents::Published) => json!({"keys": [state.key.jwk()]}),
            ("/dex/keys", Documents::Stale) => json!({"keys": [SigningKey::new().jwk()]}),
            ("/dex/.well-known/openid-configuration", Documents::Published | Documents::Stale) => json!({
                "issuer": "https://dex.test/dex",
                "token_endpoint": format!("{own}/token"),
                "jwks_uri": format!("{own}/keys"),
                "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"]
            }),
            _ => {
                let plain = [("Content-Type", "text/plain; charset=utf-8")];
                return wire::answer("404 Not Found", &plain, "404 page not found\n");
            }
        };
        wire::answer("200 OK", &[("Content-Type", "application/json")], &document.to_string())
    }
}

impl State {
    /// A token of so many seconds, and the answer that brings it.
    fn good(&self, seconds: u64) -> (String, Vec<u8>) {
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
        let answer = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nPragma: no-cache\r\n\
             Date: {date}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        (token, answer.into_bytes())
    }
}

/// Until the other side gives up.
fn wait_for_the_end(line: &mut dyn Line) -> io::Result<()> {
    let _ = line.read(&mut [0; 1]);
    Ok(())
}

/// A connection that ends with an RST: what is unread when a socket is closed makes one, and so does no lingering.
fn reset(line: &dyn Line) -> io::Result<()> {
    let linger = Some(Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(line.socket(), linger)?;
    line.socket().shutdown(std::net::Shutdown::Read)?;
    Err(io::ErrorKind::ConnectionAborted.into())
}
