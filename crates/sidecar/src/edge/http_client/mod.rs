//! The token endpoint over HTTP: one request, over a connection of its own, within one deadline.
//!
//! Nothing is kept between two requests, neither connection nor session, name, address or certificate: every attempt
//! is as good as one after a restart. That rules out whole families of faults (dead pooled connections, stale CAs).

mod attempt_stage;
mod certificate;
mod connect;
mod first_record;
mod no_proxy;
mod proxy;
mod read_limit;
mod request;
mod resolve;
mod roots;
mod signatures;
mod socks;
#[cfg(test)]
mod tests;
mod tls;
mod tunnel;
mod verifier;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use dexsidecar_core::endpoint_url::{EndpointUrl, is_public};
use dexsidecar_core::exchange::{Answer, Request, TokenEndpoint};
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::secret::Secret;
use tokio::io::{AsyncRead, AsyncWrite};

use attempt_stage::{Progress, Step};
pub use certificate::Certificate;
use connect::Permit;
pub use proxy::{Proxies, ProxyProblem, Route};
pub use resolve::Origin;
pub use roots::Roots;
pub use tls::Session;

/// Anything that bytes go in and out of.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A connection, whatever it is made of: plain, tunnelled or encrypted. One type for all of them keeps one copy of the
/// HTTP client and of TLS in the binary.
pub struct Connection {
    stream: Box<dyn Stream>,
    peer: String,
    /// Set where a proxy at the other end forwards the request itself.
    forwarding: Option<Forwarding>,
}

/// What a proxy that forwards requests needs in them.
struct Forwarding {
    authorization: Option<Secret>,
    proxy: String,
    variable: &'static str,
}

impl Connection {
    /// Who is at the other end, as `10.0.0.1:5556` or `dex.example:443 through the proxy http://proxy:3128`.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.peer)
    }
}

/// Dex over HTTP.
#[derive(Debug)]
pub struct HttpEndpoint {
    timeout: Duration,
    roots: Roots,
    proxies: Proxies,
    allow_insecure_http: bool,
}

impl HttpEndpoint {
    /// An endpoint that gives up after `timeout`, trusts `roots` and goes through `proxies`.
    #[must_use]
    pub const fn new(timeout: Duration, roots: Roots, proxies: Proxies) -> Self {
        Self { timeout, roots, proxies, allow_insecure_http: false }
    }

    /// The same, and whether plain http may be spoken to public addresses.
    #[must_use]
    pub fn allowing_insecure_http(self, allow_insecure_http: bool) -> Self {
        Self { allow_insecure_http, ..self }
    }

    /// How this URL is reached, and why so.
    #[must_use]
    pub fn route(&self, url: &EndpointUrl) -> Route {
        self.proxies.route(url)
    }

    /// Host and port of what would be connected to for this URL: the proxy, if one is set for it.
    #[must_use]
    pub fn first_hop(&self, url: &EndpointUrl) -> (String, u16) {
        self.proxies.for_url(url).map_or_else(|| (url.host().to_owned(), url.port()), proxy::Proxy::place)
    }

    /// The addresses of the first hop to this URL, which [`Self::first_hop`] names. One step of [`TokenEndpoint::send`],
    /// for `check`.
    ///
    /// # Errors
    /// Why there are none; of a proxy, [`Code::ProxyFailed`].
    pub async fn resolve(&self, url: &EndpointUrl) -> Result<(Vec<SocketAddr>, Origin), Failure> {
        let progress = Progress::default();
        let (host, port) = self.first_hop(url);
        let resolved = self.in_time(&progress, resolve::resolve(&host, port, &progress)).await;
        match self.proxies.for_url(url) {
            Some(proxy) => resolved.map_err(|why| tunnel::failure(proxy, &why)),
            None => resolved,
        }
    }

    /// A connection to the endpoint, through its proxy if it has one, before TLS. One step, for `check`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(&self, url: &EndpointUrl) -> Result<Connection, Failure> {
        let progress = Progress::default();
        self.in_time(&progress, self.reach(url, 0, &progress)).await
    }

    /// The TLS handshake on a connection. One step, for `check`.
    ///
    /// # Errors
    /// Why there is no session.
    pub async fn handshake(&self, url: &EndpointUrl, connection: Connection) -> Result<Session, Failure> {
        let progress = Progress::new(Step::Handshaking(connection.peer.clone()));
        let (_, session) = self
            .in_time(&progress, tls::handshake(self.roots.read()?, url.server_name(), connection))
            .await?;
        Ok(session)
    }

    async fn in_time<T>(
        &self,
        progress: &Progress,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let late = |_| {
            let failure = Failure::new(Code::TimedOut, progress.to_string());
            Err(failure.owned_by(progress.owner()).at(progress.step()))
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(late)
    }

    async fn reach(
        &self,
        url: &EndpointUrl,
        rotation: usize,
        progress: &Progress,
    ) -> Result<Connection, Failure> {
        let permit = if url.is_tls() || self.allow_insecure_http { Permit::Any } else { Permit::NotPublic };
        match self.proxies.for_url(url) {
            Some(proxy) => {
                permit_beyond_proxy(permit, url, proxy, progress).await?;
                tunnel::open(proxy, url, permit, &self.roots, rotation, progress).await
            }
            None => connect::connect(url.host(), url.port(), permit, rotation, progress).await,
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        rotation: usize,
        progress: &Progress,
    ) -> Result<Answer, Failure> {
        let url = &request.url;
        // Before anybody is disturbed: what is wrong here is looked at often, and is not to cost Dex a connection each time.
        let trusted = url.is_tls().then(|| self.roots.read()).transpose()?;
        let mut connection = self.reach(url, rotation, progress).await?;
        if let Some(trusted) = trusted {
            progress.reached(Step::Handshaking(connection.peer.clone()));
            (connection, _) = tls::handshake(trusted, url.server_name(), connection).await?;
        }
        progress.reached(Step::Answering(connection.peer.clone()));
        request::send(connection, request).await
    }
}

/// Whether a proxy may be asked to go on to this URL in plain http. It resolves the name itself and may choose any of its
/// addresses, so that none may be public; what its form does not tell is looked up here too.
async fn permit_beyond_proxy(
    permit: Permit,
    url: &EndpointUrl,
    proxy: &proxy::Proxy,
    progress: &Progress,
) -> Result<(), Failure> {
    if permit == Permit::Any || url.is_internal_name() {
        return Ok(());
    }
    let variable = proxy.variable;
    let (addresses, _) = resolve::resolve(url.host(), url.port(), progress).await.map_err(|why| {
        let detail = format!("{}; plain http through the proxy of {variable} needs its address", why.detail);
        Failure { detail, ..why }
    })?;
    match addresses.iter().map(SocketAddr::ip).find(|ip| is_public(*ip)) {
        Some(ip) => {
            let detail = format!("{} is {ip}, beyond the proxy of {variable}", url.host());
            Err(Failure::new(Code::PlainHttpRefused, detail))
        }
        None => Ok(()),
    }
}

impl TokenEndpoint for HttpEndpoint {
    async fn send(&self, request: &Request, rotation: usize) -> Result<Answer, Failure> {
        let progress = Progress::default();
        self.in_time(&progress, self.attempt(request, rotation, &progress)).await
    }
}
