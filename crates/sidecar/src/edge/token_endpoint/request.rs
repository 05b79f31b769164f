//! One HTTP/1.1 request on a connection, and the whole of its bounded answer. Redirects are never followed.

use std::error::Error as _;

use dexsidecar_core::exchange::{Answer, Request};
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::secret::Secret;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use zeroize::Zeroizing;

use super::Connection;

/// No token endpoint says more, in bytes (F29).
const LARGEST_BODY: usize = 1024 * 1024;
/// No server needs more for its headers, in bytes.
const LARGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 100;

const USER_AGENT: &str = concat!("dexsidecar/", env!("CARGO_PKG_VERSION"));

/// Sends the request and reads the answer to its end. The connection is closed afterwards.
///
/// # Errors
/// The connection broke, or what came is no HTTP or too much of it.
pub(super) async fn send(connection: Connection, request: &Request) -> Result<Answer, Failure> {
    let message = message(request)?;
    let handshake = http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .handshake(TokioIo::new(connection));
    let (mut sender, driver) = handshake.await.map_err(|error| broken(&error))?;
    let talk = async {
        let response = sender.send_request(message).await.map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        let body = whole(body).await?;
        Ok(Answer { status: head.status.as_u16(), body, ..from_headers(&head.headers) })
    };
    tokio::pin!(talk, driver);
    // Polled here rather than spawned: when this future is dropped, the connection is gone with it.
    tokio::select! {
        biased;
        answer = &mut talk => answer,
        _ = &mut driver => talk.await,
    }
}

fn message(request: &Request) -> Result<hyper::Request<Full<Bytes>>, Failure> {
    let url = &request.url;
    let body = request.form.clone().map_or_else(Bytes::new, |form| Bytes::from_owner(Body(form)));
    let mut builder = hyper::Request::builder()
        .method(if request.form.is_some() { "POST" } else { "GET" })
        .uri(url.target())
        .header(header::HOST, url.authority())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "application/json")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close");
    if request.form.is_some() {
        builder = builder.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    if let Some(authorization) = &request.authorization {
        // It is base64 behind a word, hence always a header's value.
        if let Ok(mut value) = HeaderValue::from_str(authorization.expose()) {
            value.set_sensitive(true);
            builder = builder.header(header::AUTHORIZATION, value);
        }
    }
    let unfit = |_| Failure::new(Code::AnswerMalformed, "the request could not be put into HTTP");
    builder.body(Full::new(body)).map_err(unfit)
}

/// A form on its way out: wiped when the last of hyper's references to it is gone.
struct Body(Secret);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

async fn whole(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let told = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if told > LARGEST_BODY {
        return Err(Failure::new(Code::AnswerTooLarge, "its body is larger than 1 MiB"));
    }
    // Room for all that was announced, so that the content never moves and leaves a copy behind.
    let mut content = Zeroizing::new(Vec::with_capacity(told));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        if content.len() + data.len() > LARGEST_BODY {
            return Err(Failure::new(Code::AnswerTooLarge, "its body is larger than 1 MiB"));
        }
        content.extend_from_slice(data);
    }
    Ok(content)
}

fn from_headers(headers: &HeaderMap) -> Answer {
    let text = |name: HeaderName| {
        headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    Answer {
        content_type: text(header::CONTENT_TYPE),
        content_encoding: text(header::CONTENT_ENCODING),
        retry_after: text(header::RETRY_AFTER),
        date: text(header::DATE),
        location: text(header::LOCATION),
        ..Answer::default()
    }
}

/// hyper's errors, sorted. Their texts tell of the protocol only, never of the content.
fn broken(error: &hyper::Error) -> Failure {
    if error.is_parse() && error.to_string().contains("too large") {
        return Failure::new(Code::AnswerTooLarge, "its headers are larger than 64 KiB");
    }
    if error.is_parse() || error.is_user() {
        return Failure::new(Code::AnswerMalformed, "");
    }
    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let why = why.split(" (os error").next().unwrap_or_default().to_lowercase();
    Failure::new(Code::ConnectionLost, why)
}
