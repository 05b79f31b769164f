//! Connects to the endpoint through a proxy. For https the proxy opens a tunnel, by CONNECT (RFC
//! 9110 §9.3.6) or SOCKS. For plain http an HTTP proxy receives the request itself, in absolute
//! form (RFC 9112 §3.2.2), because many proxies (Squid by default) allow CONNECT to port 443 only.

use std::error::Error as _;
use std::fmt::Display;
use std::io;
use std::pin::pin;

use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::failure::{Code, Failure, plain};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header;

use super::connect::AddressPolicy;
use super::proxy::{Kind, Proxy};
use super::request::{self, Message};
use super::{Connection, Forwarding, Progress, Roots, Stage, connect, socks, tls};

/// What to do when the proxy cannot be reached.
pub(super) const FIX_UNREACHABLE: &str = "check that the proxy is running, and its scheme, host and port in the named \
                                          variable; list Dex's host in NO_PROXY to reach it without the proxy";
/// What to do when the proxy refuses to connect to Dex.
const FIX_REFUSED: &str = "allow Dex's host and port in the proxy's rules, or list Dex's host in NO_PROXY to reach it \
                           without the proxy";
/// What to do when the proxy answers 407.
pub(super) const FIX_CREDENTIALS: &str = "put the user and the password of the proxy into the URL in the named variable: SCHEME://USER:PASSWORD@HOST:PORT";
/// What to do when the proxy rejects the user and the password.
pub(super) const FIX_WRONG_CREDENTIALS: &str =
    "correct the user and the password in the URL in the named variable";
/// What to do when the proxy allows the request, but does not reach Dex.
const FIX_BEYOND: &str =
    "check host and port in the URL of Dex, that Dex is running, and that the proxy reaches it";
/// What to do when the proxy accepts no authentication method of this program.
const FIX_METHOD: &str = "let the proxy accept user and password, or no authentication";
/// What to do when the server at the proxy's address does not speak the proxy's protocol.
const FIX_PROTOCOL: &str = "correct the scheme, the host and the port of the proxy in the named variable";

/// Why the proxy opened no tunnel, and what to do.
pub(super) struct NoTunnel {
    text: String,
    fix: &'static str,
}

impl NoTunnel {
    /// The proxy cannot be reached, or the connection to it broke.
    pub(super) fn unreachable(text: &str) -> Self {
        Self { text: text.to_owned(), fix: FIX_UNREACHABLE }
    }

    /// The proxy does not connect to Dex.
    pub(super) fn refused(text: &str) -> Self {
        Self { text: text.to_owned(), fix: FIX_REFUSED }
    }

    /// The proxy allows the request, but does not reach Dex.
    pub(super) fn beyond(text: &str) -> Self {
        Self { text: text.to_owned(), fix: FIX_BEYOND }
    }

    /// The proxy rejects the user or the password.
    pub(super) fn wrong_credentials(text: &str) -> Self {
        Self { text: text.to_owned(), fix: FIX_WRONG_CREDENTIALS }
    }

    /// The proxy accepts no authentication method of this program.
    pub(super) fn method(text: &str) -> Self {
        Self { text: text.to_owned(), fix: FIX_METHOD }
    }

    /// Another error of the proxy.
    pub(super) fn other(text: &str) -> Self {
        Self { text: text.to_owned(), fix: Code::ProxyFailed.entry().fix }
    }

    /// The proxy requires a user and a password.
    pub(super) fn credentials(text: &str) -> Self {
        Self { text: text.to_owned(), fix: FIX_CREDENTIALS }
    }

    /// What answers is no proxy of this kind.
    pub(super) fn protocol(text: &str) -> Self {
        Self { text: text.to_owned(), fix: FIX_PROTOCOL }
    }
}

impl From<hyper::Error> for NoTunnel {
    fn from(error: hyper::Error) -> Self {
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let text = io.map_or_else(|| error.to_string(), connect::io_error_text);
        if error.is_parse() { Self::protocol(&text) } else { Self::unreachable(&text) }
    }
}

/// Connects to the endpoint through this proxy.
///
/// # Errors
/// [`Code::ProxyFailed`] for every error of the proxy: its name, its connection, its certificate,
/// its response. [`Code::PlainHttpRefused`] if the proxy has a public address and would receive
/// plain HTTP. The codes of a bad CA file.
pub(super) async fn open(
    proxy: &Proxy,
    to: &EndpointUrl,
    policy: AddressPolicy,
    roots: &Roots,
    rotation: usize,
    progress: &Progress,
) -> Result<Connection, Failure> {
    let origin = proxy.origin();
    let failed = |why: &dyn Display| failure(proxy, why);
    let trusted = (proxy.kind == Kind::Https).then(|| roots.read()).transpose()?;
    let (host, port) = proxy.host_and_port();
    // The connection to an https proxy is encrypted, so its address may be public.
    let policy = if proxy.kind == Kind::Https { AddressPolicy::Any } else { policy };
    progress.connect_to_proxy(Some(proxy.variable));
    let mut connection = connect::connect(&host, port, policy, rotation, progress).await.map_err(|why| {
        if why.code == Code::PlainHttpRefused {
            let detail = format!("{}, the proxy of {}", why.detail, proxy.variable);
            return Failure::new(why.code, detail);
        }
        unreachable(proxy, &why)
    })?;
    progress.connect_to_proxy(None);
    progress.enter(Stage::Tunnelling(format!("{origin} ({})", proxy.variable)));
    if let Some(trusted) = trusted {
        (connection, _) =
            tls::handshake(trusted, proxy.url.server_name(), connection).await.map_err(|failure| {
                match failure.code {
                    Code::CertificateUntrusted => failed(&failure).with_fix(failure.fix()),
                    _ => failed(&failure).with_fix(FIX_PROTOCOL),
                }
            })?;
    }
    let host = if to.host().contains(':') { format!("[{}]", to.host()) } else { to.server_name().to_owned() };
    let target = format!("{host}:{}", to.port());
    let peer = format!("{target} through the proxy {origin}");
    let stream = match proxy.kind {
        Kind::Socks5 => {
            socks::connect_through(&mut *connection.stream, to, proxy.credentials.as_ref())
                .await
                .map_err(|why| failed(&why.text).with_fix(why.fix))?;
            connection.stream
        }
        Kind::Http | Kind::Https if to.is_tls() => {
            let message =
                message(proxy, &target).ok_or_else(|| failed(&"the CONNECT request is not valid HTTP"))?;
            connect_tunnel(connection, message, proxy.authorization.is_some())
                .await
                .map_err(|why| failed(&why.text).with_fix(why.fix))?
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

/// A failure of this proxy. The detail names its URL and its variable.
pub(super) fn failure(proxy: &Proxy, why: &dyn Display) -> Failure {
    Failure::new(Code::ProxyFailed, plain(&format!("{} ({}): {why}", proxy.origin(), proxy.variable), 512))
}

/// The proxy itself cannot be reached.
pub(super) fn unreachable(proxy: &Proxy, why: &dyn Display) -> Failure {
    failure(proxy, why).with_fix(FIX_UNREACHABLE)
}

/// Sends CONNECT and returns the stream of the tunnel.
///
/// # Errors
/// The reason in words: an error of hyper, a status other than 2xx, or data before the tunnel is
/// used.
async fn connect_tunnel(
    connection: Connection,
    message: Message,
    proxy_has_credentials: bool,
) -> Result<Box<dyn super::Stream>, NoTunnel> {
    let (mut sender, driver) = request::client(connection.stream).await?;
    let mut driver = pin!(driver.without_shutdown());
    let mut response = pin!(sender.send_request(message));
    let mut ended = None;
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        end = &mut driver => {
            ended = Some(end);
            response.await
        }
    };
    let status = response?.status().as_u16();
    if !(200..300).contains(&status) {
        let text = status_text(status);
        return Err(match status {
            407 if proxy_has_credentials => NoTunnel::wrong_credentials(&text),
            407 => NoTunnel::credentials(&text),
            502..=504 => NoTunnel::beyond(&text),
            403 | 451 => NoTunnel::refused(&text),
            // No proxy answers CONNECT like this.
            400 | 404 | 405 | 501 => NoTunnel::protocol(&text),
            _ => NoTunnel::other(&text),
        });
    }
    let ended = match ended {
        Some(ended) => ended,
        None => driver.await,
    };
    let parts = ended?;
    // A TLS server sends nothing before the client does, so these bytes come from the proxy.
    if !parts.read_buf.is_empty() {
        return Err(NoTunnel::protocol("sent data instead of opening a tunnel"));
    }
    Ok(parts.io.into_inner())
}

/// Describes the status with which a proxy refused.
pub(super) fn status_text(status: u16) -> String {
    match status {
        407 => "answered 407: user and password required".to_owned(),
        _ => format!("answered {status}"),
    }
}

fn message(proxy: &Proxy, target: &str) -> Option<Message> {
    let mut request = hyper::Request::connect(target)
        .header(header::HOST, target)
        .header(header::USER_AGENT, request::USER_AGENT);
    if let Some(authorization) = &proxy.authorization {
        request = request.header(header::PROXY_AUTHORIZATION, request::sensitive(authorization)?);
    }
    request.body(Full::new(Bytes::new())).ok()
}
