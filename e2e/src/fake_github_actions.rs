//! A fake of the endpoint that gives subject tokens to jobs of GitHub Actions: the request and the
//! answer have the shape that GitHub's "OpenID Connect reference" documents.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::raw_http::{self, HttpRequest, RawServer};
use crate::sidecar::{CANARY, Setup};
use crate::signing_key::{SigningKey, now};

/// What a request gets.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// A token, if the request is authorized.
    Token,
    /// This status and body.
    Status(&'static str, &'static str),
}

struct State {
    key: SigningKey,
    replies: Vec<Reply>,
    requests: Vec<HttpRequest>,
    issued: Vec<String>,
}

/// A running fake, which stops when dropped.
pub struct FakeGithubActions {
    server: RawServer,
    state: Arc<Mutex<State>>,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for FakeGithubActions {
    fn default() -> Self {
        Self::start()
    }
}

impl FakeGithubActions {
    /// Starts one on a free port of 127.0.0.1, in plain HTTP.
    #[must_use]
    pub fn start() -> Self {
        let state = State { key: SigningKey::new(), replies: vec![], requests: vec![], issued: vec![] };
        let state = Arc::new(Mutex::new(state));
        let answering = Arc::clone(&state);
        let server = RawServer::start("127.0.0.1:0", None, move |request, connection| {
            let answer = locked(&answering).answer(request);
            connection.write_all(&answer)
        });
        Self { server, state }
    }

    /// A set-up that runs in a job with the permission `id-token: write`.
    #[must_use]
    pub fn job(&self, setup: Setup) -> Setup {
        let url = format!("http://{}/idtoken/4711?api-version=2.0", self.server.address());
        setup
            .unset("dex_file_subject_token")
            .set("ACTIONS_ID_TOKEN_REQUEST_URL", url)
            .set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", request_token())
            .set("DEXSIDECAR_SUBJECT_TOKEN_SOURCE", "github-actions")
    }

    /// Queues the reply to one request. Requests for which none is queued get a token.
    pub fn next(&self, reply: Reply) {
        locked(&self.state).replies.push(reply);
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<HttpRequest> {
        locked(&self.state).requests.clone()
    }

    /// Every token that was issued.
    #[must_use]
    pub fn issued(&self) -> Vec<String> {
        locked(&self.state).issued.clone()
    }
}

fn request_token() -> String {
    format!("{CANARY}-request-token")
}

impl State {
    fn answer(&mut self, request: &HttpRequest) -> Vec<u8> {
        self.requests.push(request.clone());
        let json = [("Content-Type", "application/json; charset=utf-8")];
        let reply = if self.replies.is_empty() { Reply::Token } else { self.replies.remove(0) };
        if let Reply::Status(status, body) = reply {
            return raw_http::answer(status, &json, body);
        }
        let authorized = request.header("authorization") == Some(&format!("bearer {}", request_token()));
        if request.method != "GET" || !authorized {
            return raw_http::answer("401 Unauthorized", &json, "{}");
        }
        let query = request.target.split_once('?').map_or("", |(_, query)| query);
        let mut parameters = form_urlencoded::parse(query.as_bytes());
        let audience = parameters.find(|(name, _)| name == "audience").map(|(_, value)| value.into_owned());
        let now = now();
        let token = self.key.sign(&json!({
            "iss": "https://token.actions.githubusercontent.com",
            "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
            "aud": audience.unwrap_or_else(|| "https://github.com/octo-org".to_owned()),
            "exp": now + 300,
            "iat": now,
            "jti": format!("{CANARY}-{}", self.issued.len()),
            "repository": "octo-org/octo-repo",
        }));
        self.issued.push(token.clone());
        raw_http::answer("200 OK", &json, &json!({"count": token.len(), "value": token}).to_string())
    }
}
