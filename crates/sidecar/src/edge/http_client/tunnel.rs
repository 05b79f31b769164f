//! A connection to the endpoint through a proxy. For https the proxy makes a tunnel: by CONNECT (RFC 9110 §9.3.6) or by
//! SOCKS. For plain http an HTTP proxy is sent the request itself, in absolute form (RFC 9112 §3.2.2): many, Squid by its
//! defaults among them, allow CONNECT to port 443 only.

use std::fmt::Display;
use std::pin::pin;

use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::failure::{Code, Failure, plain};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header;

use super::connect::Permit;
use super::proxy::{Kind, Proxy};
use super::request::{self, Message};
use super::{Connection, Forwarding, Progress, Roots, Step, connect, socks, tls};

/// Opens one.
///
/// # Errors
/// [`Code::ProxyFailed`], whatever it was: name, connection and certificate are the proxy's here, not Dex's. What is
/// wrong with our own roots keeps its code; so does [`Code::PlainHttpRefused`], for a proxy at a public address that would
/// be sent plain http.
pub(super) async fn open(
    proxy: &Proxy,
    to: &EndpointUrl,
    permit: Permit,
    roots: &Roots,
    rotation: usize,
    progress: &Progress,
) -> Result<Connection, Failure> {
    let origin = proxy.origin();
    let failed = |why: &dyn Display| failure(proxy, why);
    let trusted = (proxy.kind == Kind::Https).then(|| roots.read()).transpose()?;
    let (host, port) = proxy.place();
    // What is sent to a proxy within TLS is not readable on the way to it.
    let permit = if proxy.kind == Kind::Https { Permit::Any } else { permit };
    let mut connection = connect::connect(&host, port, permit, rotation, progress).await.map_err(|why| {
        if why.code == Code::PlainHttpRefused {
            let detail = format!("{}, the proxy of {}", why.detail, proxy.variable);
            return Failure::new(why.code, detail);
        }
        failed(&why)
    })?;
    progress.reached(Step::Tunnelling(format!("{origin} ({})", proxy.variable)));
    if let Some(trusted) = trusted {
        (connection, _) = tls::handshake(trusted, proxy.url.server_name(), connection)
            .await
            .map_err(|failure| failed(&failure))?;
    }
    let host = if to.host().contains(':') { format!("[{}]", to.host()) } else { to.server_name().to_owned() };
    let place = format!("{host}:{}", to.port());
    let peer = format!("{place} through the proxy {origin}");
    let stream = match proxy.kind {
        Kind::Socks5 => {
            socks::connect_through(&mut *connection.stream, to, proxy.credentials.as_ref())
                .await
                .map_err(|why| failed(&why))?;
            connection.stream
        }
        Kind::Http | Kind::Https if to.is_tls() => {
            let message = message(proxy, &place).ok_or_else(|| failed(&"no request can be made for it"))?;
            tunnelled(connection, message).await.map_err(|why| failed(&why))?
        }
        Kind::Http | Kind::Https => {
            let forwarding = Forwarding {
                authorization: proxy.authorization.clone(),
                proxy: origin,
                variable: proxy.variable,
            };
            return Ok(Connection { peer, forwarding: Some(forwarding), ..connection });
        }
    };
    Ok(Connection { stream, peer, forwarding: None })
}

/// What went wrong with a proxy, by the variable that names it.
pub(super) fn failure(proxy: &Proxy, why: &dyn Display) -> Failure {
    Failure::new(Code::ProxyFailed, plain(&format!("{} of {}: {why}", proxy.origin(), proxy.variable), 512))
}

/// The stream behind the proxy's consent.
async fn tunnelled(connection: Connection, message: Message) -> Result<Box<dyn super::Stream>, String> {
    let (mut sender, driver) = request::client(connection.stream).await.map_err(|error| error.to_string())?;
    let mut driver = pin!(driver.without_shutdown());
    let mut answer = pin!(sender.send_request(message));
    let mut ended = None;
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        end = &mut driver => {
            ended = Some(end);
            answer.await
        }
    };
    let status = answer.map_err(|error| error.to_string())?.status();
    if !status.is_success() {
        return Err(refusal(status.as_u16()));
    }
    let ended = match ended {
        Some(ended) => ended,
        None => driver.await,
    };
    let parts = ended.map_err(|error| error.to_string())?;
    // The endpoint speaks only when spoken to, so these bytes are the proxy's own.
    if !parts.read_buf.is_empty() {
        return Err("it sends data where the tunnel should be".to_owned());
    }
    Ok(parts.io.into_inner())
}

/// A proxy's refusal in words.
pub(super) fn refusal(status: u16) -> String {
    match status {
        407 => "it answers 407: it wants a user and a password".to_owned(),
        _ => format!("it answers {status}"),
    }
}

fn message(proxy: &Proxy, place: &str) -> Option<Message> {
    let mut request = hyper::Request::connect(place)
        .header(header::HOST, place)
        .header(header::USER_AGENT, request::USER_AGENT);
    if let Some(authorization) = &proxy.authorization {
        request = request.header(header::PROXY_AUTHORIZATION, request::sensitive(authorization)?);
    }
    request.body(Full::new(Bytes::new())).ok()
}
