//! One HTTP/1.1 request on a connection, and the whole of its bounded answer. Redirects are never followed.

use std::error::Error as _;
use std::io;
use std::pin::pin;

use dexsidecar_core::exchange::{Answer, Request};
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::secret::Secret;
use http_body_util::{BodyExt as _, Full};
use hyper::StatusCode;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use zeroize::Zeroizing;

use super::read_limit::{Allowance, Bounded};
use super::{Connection, Forwarding, Stream, connect, tls, tunnel};

/// No token endpoint says more, in bytes (F29).
const LARGEST_BODY: usize = 1024 * 1024;
/// No server needs more for its headers, in bytes.
const LARGEST_HEAD: usize = 64 * 1024;
/// Nor more of them. hyper makes room for as many at each answer, interim ones included.
const MOST_HEADERS: usize = 8192;

/// Sent to Dex, and to a proxy with CONNECT: some proxies refuse a client without it.
pub(super) const USER_AGENT: &str = concat!("dexsidecar/", env!("CARGO_PKG_VERSION"));

/// What is sent: a form, or nothing. One type for all requests keeps one copy of hyper in the binary.
pub(super) type Message = hyper::Request<Full<Bytes>>;
pub(super) type Sender = http1::SendRequest<Full<Bytes>>;
pub(super) type Driver = http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

/// hyper's client on a stream, with our bounds. Headers that curl and Go accept are accepted: folded over several lines (RFC
/// 9112 §5.2), and with a space before the colon. Malformed ones are left out. None of them matters to a token.
pub(super) async fn client(stream: Box<dyn Stream>) -> hyper::Result<(Sender, Driver)> {
    http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await
}

/// Sends the request and reads the answer to its end. The connection is closed afterwards.
///
/// # Errors
/// The connection broke, or what came is no HTTP or too much of it.
pub(super) async fn send(connection: Connection, request: &Request) -> Result<Answer, Failure> {
    let Connection { stream, peer, forwarding } = connection;
    let message = message(request, forwarding.as_ref())?;
    let broken = |error| failure(&peer, &error);
    let allowance = Allowance::for_head();
    let bounded = Bounded::new(stream, allowance.clone());
    let (mut sender, driver) = client(Box::new(bounded)).await.map_err(broken)?;
    let mut talk = pin!(async {
        let (head, body) = sender.send_request(message).await.map_err(broken)?.into_parts();
        allowance.add_body();
        // hyper's own bound is of its buffer, which may take in twice as much at once.
        if size(&head.headers) > LARGEST_HEAD {
            return Err(head_too_large());
        }
        let proxy = forwarding.map(|forwarding| format!("{} of {}", forwarding.proxy, forwarding.variable));
        if let Some(proxy) =
            proxy.as_ref().filter(|_| head.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED)
        {
            let why = tunnel::refusal(head.status.as_u16());
            return Err(Failure::new(Code::ProxyFailed, format!("{proxy}: {why}")));
        }
        let framed = head.headers.contains_key(header::TRANSFER_ENCODING);
        let body = whole(body, framed, &peer).await?;
        Ok(Answer { status: head.status.as_u16(), body, through_proxy: proxy, ..from_headers(&head.headers) })
    });
    // Polled here rather than spawned: when this future is dropped, the connection is gone with it.
    tokio::select! {
        biased;
        answer = &mut talk => answer,
        _ = driver => talk.await,
    }
}

fn message(request: &Request, forwarding: Option<&Forwarding>) -> Result<Message, Failure> {
    let url = &request.url;
    let uri = match forwarding {
        Some(_) => format!("{}{}", url.origin(), url.target()),
        None => url.target().to_owned(),
    };
    // Nothing that comes from a parsed URL or from base64 is refused there.
    let unfit = || Failure::new(Code::AnswerMalformed, "the request cannot be put into HTTP");
    let mut builder = hyper::Request::builder()
        .method(if request.form.is_some() { "POST" } else { "GET" })
        .uri(uri)
        .header(header::HOST, url.authority())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "application/json")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close");
    if request.form.is_some() {
        builder = builder.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    } else {
        // Keys out of a cache may be hours old (F148).
        builder = builder.header(header::CACHE_CONTROL, "no-cache");
    }
    if let Some(authorization) = &request.authorization {
        builder = builder.header(header::AUTHORIZATION, sensitive(authorization).ok_or_else(unfit)?);
    }
    if let Some(authorization) = forwarding.and_then(|forwarding| forwarding.authorization.as_ref()) {
        let authorization = sensitive(authorization).ok_or_else(unfit)?;
        builder = builder.header(header::PROXY_AUTHORIZATION, authorization);
    }
    let body = request.form.clone().map_or_else(Bytes::new, |form| Bytes::from_owner(Body(form)));
    builder.body(Full::new(body)).map_err(|_| unfit())
}

/// A header's value that hyper will not print.
pub(super) fn sensitive(secret: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(secret.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A form on its way out: wiped when the last of hyper's references to it is gone.
struct Body(Secret);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

async fn whole(mut body: Incoming, framed: bool, peer: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let too_large = || Failure::new(Code::AnswerTooLarge, "its body is larger than 1 MiB");
    // What was announced; nothing when it comes in chunks.
    let told = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if told > LARGEST_BODY {
        return Err(too_large());
    }
    // Neither announced nor in chunks: it ends with the connection.
    let ends_with_connection = !framed && body.size_hint().exact().is_none();
    let mut content = Zeroizing::new(Vec::with_capacity(told));
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            // A JSON object shows its own end, whether or not TLS was closed in order.
            Err(error) if ends_with_connection && is_end(&error) && is_json_object(&content) => break,
            Err(error) => return Err(failure(peer, &error)),
        };
        let Some(data) = frame.data_ref() else { continue };
        let needed = content.len() + data.len();
        if needed > LARGEST_BODY {
            return Err(too_large());
        }
        if needed > content.capacity() {
            // By hand, so that the smaller one is wiped and not just freed.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed * 2));
            larger.extend_from_slice(&content);
            content = larger;
        }
        content.extend_from_slice(data);
    }
    Ok(content)
}

/// Whether the connection ended without the end of the TLS session.
fn is_end(error: &hyper::Error) -> bool {
    let below = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    below.is_some_and(|below| below.kind() == io::ErrorKind::UnexpectedEof)
}

fn is_json_object(content: &[u8]) -> bool {
    content.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<serde::de::IgnoredAny>(content).is_ok()
}

/// In bytes, as they were on the wire.
fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

fn head_too_large() -> Failure {
    Failure::new(Code::AnswerTooLarge, "its headers are larger than 64 KiB, or more than 8192")
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
        server: text(header::SERVER),
        ..Answer::default()
    }
}

/// hyper's errors, sorted. Their texts tell of the protocol only, never of the content.
pub(super) fn failure(peer: &str, error: &hyper::Error) -> Failure {
    // hyper tells it apart for servers only; a test holds it to these words.
    if error.is_parse() && error.to_string() == "message head is too large" {
        return Failure::new(Code::AnswerTooLarge, "its headers are larger than 64 KiB, or more than 8192");
    }
    let told = |code, words: String| Failure::new(code, format!("{peer}: {words}"));
    let from_below = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match from_below {
        // With TLS 1.3 the server's refusal (of a client without certificate, say) comes only now.
        Some(below) if tls::is_alert(below) => tls::refusal(peer, below),
        Some(below) if below.kind() == io::ErrorKind::FileTooLarge => {
            Failure::new(Code::AnswerTooLarge, "it does not end")
        }
        Some(below) if matches!(below.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
            told(Code::AnswerMalformed, connect::words(below))
        }
        Some(below) => told(Code::ConnectionLost, connect::words(below)),
        None if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
            told(Code::ConnectionLost, error.to_string())
        }
        None => told(Code::AnswerMalformed, error.to_string()),
    }
}
