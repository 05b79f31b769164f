//! Sends one HTTP/1.1 request on a connection and reads the response, up to a size limit. Redirects
//! are never followed.

use std::error::Error as _;
use std::io;
use std::pin::pin;

use dexsidecar_core::action::HttpAction;
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

use super::read_limit::{BytesLeft, LimitedStream};
use super::{Connection, Forwarding, Stream, connect, tls, tunnel};

/// The largest body that is read, in bytes (F29). Token endpoints and JWKS documents are far
/// smaller.
const LARGEST_BODY: usize = 1024 * 1024;
/// How much of a body is read that nobody needs, in bytes. Then the connection is closed.
const LARGEST_DISCARDED: usize = 64 * 1024;
/// The largest total of header names and values that is accepted, in bytes.
const LARGEST_HEAD: usize = 64 * 1024;
/// The largest number of headers that is accepted. hyper allocates room for this many per response,
/// including interim responses.
const MOST_HEADERS: usize = 8192;

/// The `User-Agent` sent to Dex, and to a proxy with CONNECT: some proxies refuse clients without
/// one (F149).
pub(super) const USER_AGENT: &str = concat!("dexsidecar/", env!("CARGO_PKG_VERSION"));

/// A request with a form or without body. One type for all requests keeps one copy of hyper in the
/// binary.
pub(super) type Message = hyper::Request<Full<Bytes>>;
pub(super) type Sender = http1::SendRequest<Full<Bytes>>;
pub(super) type Driver = http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

/// Starts hyper's client on a stream, with the limits above. As in curl and Go, headers may be
/// folded over several lines (RFC 9112 §5.2) or have a space before the colon, and malformed
/// headers are ignored. None of these headers affects the result.
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

/// Sends the request, reads the complete response, and closes the connection.
///
/// # Errors
/// [`Code::ConnectionLost`], [`Code::AnswerMalformed`], [`Code::AnswerTooLarge`];
/// [`Code::TlsRefused`] or [`Code::TlsFailed`] for a TLS alert; [`Code::ProxyFailed`] for a 407 of
/// a forwarding proxy.
pub(super) async fn send(connection: Connection, request: &Request) -> Result<Answer, Failure> {
    let message = message(request, connection.forwarding.as_ref())?;
    round_trip(connection, message, true).await
}

/// Sends the request of an action, and returns the status of the response. Its body is read, so
/// that the server can complete its work, and dropped.
///
/// # Errors
/// Those of [`send`]. A long body is none.
pub(super) async fn notify(connection: Connection, action: &HttpAction) -> Result<u16, Failure> {
    let message = notification(action)?;
    Ok(round_trip(connection, message, false).await?.status)
}

async fn round_trip(connection: Connection, message: Message, keep_body: bool) -> Result<Answer, Failure> {
    let Connection { stream, peer, forwarding } = connection;
    let has_credentials = forwarding.as_ref().is_some_and(|proxy| proxy.authorization.is_some());
    let failed = |error| failure(&peer, &error);
    let bytes_left = BytesLeft::for_head();
    let limited = LimitedStream::new(stream, bytes_left.clone());
    let (mut sender, driver) = client(Box::new(limited)).await.map_err(failed)?;
    let mut round_trip = pin!(async {
        let (head, body) = sender.send_request(message).await.map_err(failed)?.into_parts();
        bytes_left.add_body();
        // hyper bounds its buffer, which may hold up to twice the limit.
        if header_bytes(&head.headers) > LARGEST_HEAD {
            return Err(head_too_large());
        }
        let proxy = forwarding.map(|forwarding| format!("{} ({})", forwarding.proxy, forwarding.variable));
        if let Some(proxy) =
            proxy.as_ref().filter(|_| head.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED)
        {
            let why = tunnel::status_text(head.status.as_u16());
            let failure = Failure::new(Code::ProxyFailed, format!("{proxy}: {why}"));
            return Err(failure.with_fix(if has_credentials {
                tunnel::FIX_WRONG_CREDENTIALS
            } else {
                tunnel::FIX_CREDENTIALS
            }));
        }
        let framed = head.headers.contains_key(header::TRANSFER_ENCODING);
        let body = if keep_body {
            read_body(body, framed, head.status, &peer).await?
        } else {
            discard_body(body, &peer).await?;
            Zeroizing::default()
        };
        Ok(Answer { status: head.status.as_u16(), body, through_proxy: proxy, ..from_headers(&head.headers) })
    });
    // Polled here rather than spawned, so that dropping this future closes the connection.
    tokio::select! {
        biased;
        response = &mut round_trip => response,
        _ = driver => round_trip.await,
    }
}

fn message(request: &Request, forwarding: Option<&Forwarding>) -> Result<Message, Failure> {
    let url = &request.url;
    let uri = match forwarding {
        Some(_) => format!("{}{}", url.origin(), url.target()),
        None => url.target().to_owned(),
    };
    // Does not happen: parsed URLs and base64 consist of valid characters.
    let invalid = || Failure::new(Code::AnswerMalformed, "the request is not valid HTTP");
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
        // Cached keys may be hours old (F148).
        builder = builder.header(header::CACHE_CONTROL, "no-cache");
    }
    if let Some(authorization) = &request.authorization {
        builder = builder.header(header::AUTHORIZATION, sensitive(authorization).ok_or_else(invalid)?);
    }
    if let Some(authorization) = forwarding.and_then(|forwarding| forwarding.authorization.as_ref()) {
        let authorization = sensitive(authorization).ok_or_else(invalid)?;
        builder = builder.header(header::PROXY_AUTHORIZATION, authorization);
    }
    let body = request.form.clone().map_or_else(Bytes::new, |form| Bytes::from_owner(Body(form)));
    builder.body(Full::new(body)).map_err(|_| invalid())
}

/// The request of an action: no body, and no more headers than a server may require. Those of the
/// configuration replace ours.
fn notification(action: &HttpAction) -> Result<Message, Failure> {
    let invalid = || Failure::new(Code::AnswerMalformed, "the request is not valid HTTP");
    let authority = action.url.authority();
    let ours =
        [(header::HOST, authority.as_str()), (header::USER_AGENT, USER_AGENT), (header::ACCEPT, "*/*")];
    let mut builder = hyper::Request::builder()
        .method(action.method.as_str())
        .uri(action.url.target())
        .header(header::CONNECTION, "close");
    for (name, value) in ours {
        if !action.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name.as_str())) {
            builder = builder.header(name, value);
        }
    }
    if ["POST", "PUT", "PATCH"].contains(&action.method.as_str()) {
        // Some servers answer 411 without it (RFC 9110 §8.6).
        builder = builder.header(header::CONTENT_LENGTH, "0");
    }
    for (name, value) in &action.headers {
        builder = builder.header(name.as_str(), sensitive(value).ok_or_else(invalid)?);
    }
    builder.body(Full::new(Bytes::new())).map_err(|_| invalid())
}

/// A header value that hyper does not show in debug output.
pub(super) fn sensitive(secret: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(secret.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The body of a request. Wiped when hyper drops its last reference.
struct Body(Secret);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

/// Reads a body to its end. `framed` says that the response has `Transfer-Encoding`.
async fn read_body(
    mut body: Incoming,
    framed: bool,
    status: StatusCode,
    peer: &str,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let too_large = || Failure::new(Code::AnswerTooLarge, "body larger than 1 MiB");
    // `Content-Length`; 0 without it.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > LARGEST_BODY {
        return Err(too_large());
    }
    // Without `Content-Length` and chunks, the body ends with the connection.
    let ends_with_connection = !framed && body.size_hint().exact().is_none();
    let mut content = Zeroizing::new(Vec::with_capacity(announced));
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            // A complete JSON object cannot be truncated, even if TLS was not closed with
            // close_notify.
            Err(error)
                if ends_with_connection
                    && has_kind(&error, io::ErrorKind::UnexpectedEof)
                    && is_json_object(&content) =>
            {
                break;
            }
            // A server that has not read the whole request resets the connection after its answer:
            // Go's TLS server answers so to plain HTTP (F147). The page of an error is only shown.
            Err(error)
                if ends_with_connection
                    && (status.is_client_error() || status.is_server_error())
                    && has_kind(&error, io::ErrorKind::ConnectionReset) =>
            {
                break;
            }
            Err(error) => return Err(failure(peer, &error)),
        };
        let Some(data) = frame.data_ref() else { continue };
        let needed = content.len() + data.len();
        if needed > LARGEST_BODY {
            return Err(too_large());
        }
        if needed > content.capacity() {
            // Grown by hand, so that the smaller buffer is wiped before it is freed.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed * 2));
            larger.extend_from_slice(&content);
            content = larger;
        }
        content.extend_from_slice(data);
    }
    Ok(content)
}

/// Reads a body to its end or up to a limit, and drops it.
async fn discard_body(mut body: Incoming, peer: &str) -> Result<(), Failure> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame.map_err(|error| failure(peer, &error))?.data_ref().map_or(0, Bytes::len);
        if read > LARGEST_DISCARDED {
            break;
        }
    }
    Ok(())
}

/// Whether an error of the connection is the cause. `UnexpectedEof` means that it was closed
/// without a TLS close_notify.
fn has_kind(error: &hyper::Error, kind: io::ErrorKind) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == kind)
}

fn is_json_object(content: &[u8]) -> bool {
    content.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<serde::de::IgnoredAny>(content).is_ok()
}

/// The size of the headers on the wire, in bytes.
fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

fn head_too_large() -> Failure {
    Failure::new(Code::AnswerTooLarge, "headers larger than 64 KiB, or more than 8192 headers")
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

/// Maps an error of hyper to a failure. The texts of hyper describe the protocol and never quote
/// content.
pub(super) fn failure(peer: &str, error: &hyper::Error) -> Failure {
    // hyper has a predicate for this error in servers only. A test detects a change of the text.
    if error.is_parse() && error.to_string() == "message head is too large" {
        return head_too_large();
    }
    let with_peer = |code, text: String| Failure::new(code, format!("{peer}: {text}"));
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match cause {
        // In TLS 1.3 the server may reject the client after the handshake, for example for a
        // missing certificate.
        Some(cause) if tls::is_alert(cause) => tls::alert_failure(peer, cause),
        Some(cause) if cause.kind() == io::ErrorKind::FileTooLarge => {
            Failure::new(Code::AnswerTooLarge, "more than 256 KiB of headers or 4 MiB of chunked body")
        }
        Some(cause) if matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
            with_peer(Code::AnswerMalformed, connect::io_error_text(cause))
        }
        Some(cause) => with_peer(Code::ConnectionLost, connect::io_error_text(cause)),
        None if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
            with_peer(Code::ConnectionLost, error.to_string())
        }
        None => with_peer(Code::AnswerMalformed, error.to_string()),
    }
}
