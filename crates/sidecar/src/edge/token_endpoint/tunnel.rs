//! A connection to the endpoint through a proxy: CONNECT (RFC 9110 §9.3.6) for plain http too, so that no proxy is ever
//! handed a token or a client's secret as a request of its own, to log or to cache.

use std::pin::pin;

use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::failure::{Code, Failure};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header;

use super::proxy::Proxy;
use super::request::{self, Message};
use super::{Connection, Progress, Roots, Step, connect, tls};

/// Opens one.
///
/// # Errors
/// [`Code::ProxyFailed`], whatever it was: name, connection and certificate are the proxy's here, not Dex's. What is
/// wrong with our own roots keeps its code.
pub(super) async fn open(
    proxy: &Proxy,
    to: &EndpointUrl,
    roots: &Roots,
    rotation: usize,
    progress: &Progress,
) -> Result<Connection, Failure> {
    let origin = proxy.url.origin();
    let failed = |why: &dyn std::fmt::Display| Failure::new(Code::ProxyFailed, format!("{origin}: {why}"));
    let trusted = proxy.url.is_tls().then(|| roots.read()).transpose()?;
    let mut connection = connect::connect(proxy.url.host(), proxy.url.port(), rotation, progress)
        .await
        .map_err(|failure| failed(&failure))?;
    progress.reached(Step::Tunnelling(origin.clone()));
    if let Some(trusted) = trusted {
        (connection, _) = tls::handshake(trusted, proxy.url.host(), connection)
            .await
            .map_err(|failure| failed(&failure))?;
    }

    let host = if to.host().contains(':') { format!("[{}]", to.host()) } else { to.host().to_owned() };
    let place = format!("{host}:{}", to.port());
    let message = message(proxy, &place).ok_or_else(|| failed(&"no request can be made for it"))?;
    let (mut sender, driver) = request::client(connection.stream).await.map_err(|error| failed(&error))?;
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
    let status = answer.map_err(|error| failed(&error))?.status();
    if !status.is_success() {
        let wanted = if status.as_u16() == 407 { ", it wants a user and a password" } else { "" };
        return Err(failed(&format_args!("it answers {}{wanted}", status.as_u16())));
    }
    let ended = match ended {
        Some(ended) => ended,
        None => driver.await,
    };
    let parts = ended.map_err(|error| failed(&error))?;
    // The endpoint speaks only when spoken to, so these bytes are the proxy's own.
    if !parts.read_buf.is_empty() {
        return Err(failed(&"it talks where the tunnel should be"));
    }
    Ok(Connection { stream: parts.io.into_inner(), peer: format!("{place} through the proxy {origin}") })
}

fn message(proxy: &Proxy, place: &str) -> Option<Message> {
    let mut request = hyper::Request::connect(place).header(header::HOST, place);
    if let Some(authorization) = &proxy.authorization {
        request = request.header(header::PROXY_AUTHORIZATION, request::sensitive(authorization)?);
    }
    request.body(Full::new(Bytes::new())).ok()
}
