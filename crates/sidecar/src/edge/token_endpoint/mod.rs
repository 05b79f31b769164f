//! The token endpoint over HTTP: one request, over a connection of its own, within one deadline.
//!
//! Nothing is kept between two requests, neither connection nor session, name, address or certificate: every attempt
//! is as good as one after a restart. That rules out whole families of faults (dead pooled connections, stale CAs).

mod connect;
mod name;
mod proxy;
mod request;
mod roots;
mod tls;

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::{Answer, Request, TokenEndpoint};
use dexsidecar_core::failure::{Code, Failure};
use tokio::io::{AsyncRead, AsyncWrite};

pub use proxy::{Proxies, ProxyProblem};
pub use roots::Roots;
pub use tls::Session;

/// Anything that bytes go in and out of. One type for plain, tunnelled and encrypted connections keeps one copy of the
/// HTTP client in the binary.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection, whatever it is made of.
pub type Connection = Box<dyn Stream>;

/// How far an attempt has come, for the words of a failure when time runs out.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    Resolving(String),
    Connecting(String),
    Tunnelling(String),
    Handshaking(String),
    Answering,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolving(host) => write!(f, "while looking up {host}"),
            Self::Connecting(to) => write!(f, "while connecting to {to}"),
            Self::Tunnelling(proxy) => write!(f, "while the proxy {proxy} was making a tunnel"),
            Self::Handshaking(to) => write!(f, "in the TLS handshake with {to}"),
            Self::Answering => f.write_str("while waiting for the answer"),
        }
    }
}

/// Dex over HTTP.
#[derive(Debug)]
pub struct HttpEndpoint {
    timeout: Duration,
    roots: Roots,
    proxies: Proxies,
}

impl HttpEndpoint {
    /// An endpoint that gives up after `timeout`, trusts `roots` and goes through `proxies`.
    #[must_use]
    pub const fn new(timeout: Duration, roots: Roots, proxies: Proxies) -> Self {
        Self { timeout, roots, proxies }
    }

    /// The limit of one attempt.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What would be connected to for this URL: the proxy, if one is set for it.
    #[must_use]
    pub fn first_hop(&self, url: &EndpointUrl) -> (String, u16) {
        self.proxies.for_url(url).map_or_else(|| (url.host().to_owned(), url.port()), proxy::Proxy::place)
    }

    /// The addresses of a host. One step of [`TokenEndpoint::send`], for `check`.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<std::net::SocketAddr>, Failure> {
        let progress = Cell::new(Progress::Resolving(host.to_owned()));
        self.in_time(&progress, name::resolve(host, port)).await
    }

    /// A connection to the endpoint, through its proxy if it has one, before TLS. One step, for `check`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(&self, url: &EndpointUrl) -> Result<Connection, Failure> {
        let progress = Cell::new(Progress::Resolving(url.host().to_owned()));
        self.in_time(&progress, self.reach(url, 0, &progress)).await
    }

    /// The TLS handshake on a connection. One step, for `check`.
    ///
    /// # Errors
    /// Why there is no session.
    pub async fn handshake(&self, url: &EndpointUrl, connection: Connection) -> Result<Session, Failure> {
        let progress = Cell::new(Progress::Handshaking(url.authority()));
        self.in_time(&progress, tls::handshake(&self.roots, url.host(), connection))
            .await
            .map(|(_, session)| session)
    }

    async fn in_time<T>(
        &self,
        progress: &Cell<Progress>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            Err(Failure::new(Code::TimedOut, progress.replace(Progress::Answering).to_string()))
        })
    }

    async fn reach(
        &self,
        url: &EndpointUrl,
        rotation: usize,
        progress: &Cell<Progress>,
    ) -> Result<Connection, Failure> {
        match self.proxies.for_url(url) {
            Some(proxy) => proxy.tunnel(url, &self.roots, rotation, progress).await,
            None => Ok(Box::new(connect::connect(url.host(), url.port(), rotation, progress).await?)),
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        rotation: usize,
        progress: &Cell<Progress>,
    ) -> Result<Answer, Failure> {
        let url = &request.url;
        let mut connection = self.reach(url, rotation, progress).await?;
        if url.is_tls() {
            progress.set(Progress::Handshaking(url.authority()));
            connection = Box::new(tls::handshake(&self.roots, url.host(), connection).await?.0);
        }
        progress.set(Progress::Answering);
        request::send(connection, request).await
    }
}

impl TokenEndpoint for HttpEndpoint {
    async fn send(&self, request: &Request, rotation: usize) -> Result<Answer, Failure> {
        let progress = Cell::new(Progress::Answering);
        self.in_time(&progress, self.attempt(request, rotation, &progress)).await
    }
}
