//! The HTTP client for Dex: one request per connection, within one deadline.
//!
//! Nothing is kept between two requests: no connection, TLS session, address or certificate. Every
//! attempt behaves like the first one after a restart, which rules out stale pooled connections and
//! stale CAs.

mod attempt_stage;
mod certificate;
mod connect;
mod first_record;
mod no_proxy;
mod notify;
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

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use dexsidecar_core::endpoint_url::{EndpointUrl, is_public};
use dexsidecar_core::exchange::{Answer, Request, Seen, TokenEndpoint};
use dexsidecar_core::failure::{Code, Failure, Owner};
use dexsidecar_core::github_actions;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite};

use super::clock::Clock;
use attempt_stage::{Progress, Stage};
pub use certificate::Certificate;
use connect::AddressPolicy;
pub use proxy::{Proxies, ProxyProblem, Route};
pub use resolve::AddressSource;
pub use roots::Roots;
pub use tls::Session;

/// A bidirectional byte stream.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A connection: plain, tunnelled or encrypted. One type for all of them keeps one copy of the HTTP
/// client and of TLS in the binary.
pub struct Connection {
    stream: Box<dyn Stream>,
    peer: String,
    /// Set if the peer is a proxy that forwards the request itself.
    forwarding: Option<Forwarding>,
}

/// A proxy that forwards requests in absolute form.
struct Forwarding {
    /// The value of `Proxy-Authorization`.
    authorization: Option<Secret>,
    /// Scheme, host and port of the proxy.
    proxy: String,
    /// The variable that names the proxy.
    variable: &'static str,
}

impl Connection {
    /// The peer, as `10.0.0.1:5556` or `dex.example:443 through the proxy http://proxy:3128`.
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

/// An HTTP client for one Dex.
#[derive(Debug)]
pub struct HttpEndpoint {
    timeout: Duration,
    roots: Roots,
    proxies: Proxies,
    allow_insecure_http: bool,
    /// What the last response showed. It decides nothing.
    seen: Cell<Seen>,
    github_actions: Option<GithubActions>,
}

/// The endpoint of GitHub Actions that gives subject tokens. It has a client of its own: other CA
/// certificates are trusted than for Dex, and plain http to public addresses is never allowed.
#[derive(Debug)]
struct GithubActions {
    url: Secret,
    token: Secret,
    client: Box<HttpEndpoint>,
}

impl HttpEndpoint {
    /// Creates a client whose attempts take at most `timeout`. It trusts `roots` and uses
    /// `proxies`.
    #[must_use]
    pub const fn new(timeout: Duration, roots: Roots, proxies: Proxies) -> Self {
        let seen = Cell::new(Seen::NOTHING);
        Self { timeout, roots, proxies, allow_insecure_http: false, github_actions: None, seen }
    }

    /// Sets the endpoint of GitHub Actions: its URL, the bearer token for it, and the client that
    /// sends the requests.
    #[must_use]
    pub fn with_github_actions(self, url: Secret, token: Secret, client: Self) -> Self {
        Self { github_actions: Some(GithubActions { url, token, client: Box::new(client) }), ..self }
    }

    /// Sets whether plain HTTP to public addresses is allowed. The default is false.
    #[must_use]
    pub fn allowing_insecure_http(self, allow_insecure_http: bool) -> Self {
        Self { allow_insecure_http, ..self }
    }

    /// How this URL is reached, and the reason.
    #[must_use]
    pub fn route(&self, url: &EndpointUrl) -> Route {
        self.proxies.route(url)
    }

    /// Host and port of the first connection for this URL: those of the proxy, if one applies.
    #[must_use]
    pub fn first_hop(&self, url: &EndpointUrl) -> (String, u16) {
        self.proxies
            .for_url(url)
            .map_or_else(|| (url.host().to_owned(), url.port()), proxy::Proxy::host_and_port)
    }

    /// Resolves the host of [`Self::first_hop`]. A single step of [`TokenEndpoint::send`], for
    /// `check`.
    ///
    /// # Errors
    /// [`Code::NameNotFound`], [`Code::NameLookupFailed`], [`Code::TimedOut`]; for a proxy
    /// [`Code::ProxyFailed`] instead of the first two.
    pub async fn resolve(&self, url: &EndpointUrl) -> Result<(Vec<SocketAddr>, AddressSource), Failure> {
        let progress = Progress::default();
        progress.connect_to_proxy(self.proxies.for_url(url).map(|proxy| proxy.variable));
        let (host, port) = self.first_hop(url);
        let lookup = pin!(resolve::resolve(&host, port, &progress));
        let resolved = with_deadline(self.timeout, &progress, lookup).await;
        match self.proxies.for_url(url) {
            // A timeout says itself what to do.
            Some(proxy) => resolved.map_err(|why| match why.code {
                Code::TimedOut => why,
                _ => tunnel::unreachable(proxy, &why),
            }),
            None => resolved,
        }
    }

    /// Connects to the host of the URL, through the proxy if one applies, without TLS. A single
    /// step, for `check`.
    ///
    /// # Errors
    /// The codes of the steps DNS and TCP, and [`Code::TimedOut`]. With an `https://` proxy also
    /// the codes of a bad CA file.
    pub async fn connect(&self, url: &EndpointUrl) -> Result<Connection, Failure> {
        let progress = Progress::default();
        with_deadline(self.timeout, &progress, pin!(self.open_connection(url, 0, &progress))).await
    }

    /// Performs the TLS handshake on a connection. A single step, for `check`.
    ///
    /// # Errors
    /// The codes of the step TLS, and [`Code::TimedOut`].
    pub async fn handshake(&self, url: &EndpointUrl, connection: Connection) -> Result<Session, Failure> {
        let progress = Progress::new(Stage::Handshaking(connection.peer.clone()));
        let handshake = pin!(tls::handshake(self.roots.read()?, url.server_name(), connection));
        let (_, session) = with_deadline(self.timeout, &progress, handshake).await?;
        Ok(session)
    }

    async fn open_connection(
        &self,
        url: &EndpointUrl,
        rotation: usize,
        progress: &Progress,
    ) -> Result<Connection, Failure> {
        let policy = if url.is_tls() || self.allow_insecure_http {
            AddressPolicy::Any
        } else {
            AddressPolicy::NotPublic
        };
        match self.proxies.for_url(url) {
            Some(proxy) => {
                check_target_beyond_proxy(policy, url, proxy, progress).await?;
                tunnel::open(proxy, url, policy, &self.roots, rotation, progress).await
            }
            None => connect::connect(url.host(), url.port(), policy, rotation, progress).await,
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        rotation: usize,
        progress: &Progress,
    ) -> Result<Answer, Failure> {
        let url = &request.url;
        // Before connecting: a bad CA file is retried often, and must not cost Dex a connection
        // each time.
        let trusted = url.is_tls().then(|| self.roots.read()).transpose()?;
        let mut connection = self.open_connection(url, rotation, progress).await?;
        let mut certificate_expires = None;
        if let Some(trusted) = trusted {
            progress.enter(Stage::Handshaking(connection.peer.clone()));
            let session;
            (connection, session) = tls::handshake(trusted, url.server_name(), connection).await?;
            certificate_expires = session.chain.first().map(|own| UnixTime::from_secs(own.not_after));
        }
        progress.enter(Stage::AwaitingResponse(connection.peer.clone()));
        let answer = request::send(connection, request).await?;
        self.seen.set(Seen::of(&answer, certificate_expires, Clock::System.now()));
        Ok(answer)
    }
}

/// Does the work within a timeout. Its failure says what the work was waiting for.
///
/// The work is pinned by the caller: an attempt has 3 kB, and each copy of it would be a part of
/// this future and of the stack.
async fn with_deadline<T>(
    timeout: Duration,
    progress: &Progress,
    work: Pin<&mut impl Future<Output = Result<T, Failure>>>,
) -> Result<T, Failure> {
    let timed_out = |_| {
        let failure = Failure::new(Code::TimedOut, progress.to_string());
        let failure = failure.owned_by(progress.owner()).at(progress.step());
        Err(match progress.fix() {
            Some(fix) => failure.with_fix(fix),
            None => failure,
        })
    };
    tokio::time::timeout(timeout, work).await.unwrap_or_else(timed_out)
}

/// Checks that no address of this URL is public before a proxy sends plain HTTP there. The proxy
/// resolves the name itself and may choose any address. Names that are internal by their form are
/// not looked up.
///
/// # Errors
/// [`Code::PlainHttpRefused`], [`Code::NameNotFound`], [`Code::NameLookupFailed`].
async fn check_target_beyond_proxy(
    policy: AddressPolicy,
    url: &EndpointUrl,
    proxy: &proxy::Proxy,
    progress: &Progress,
) -> Result<(), Failure> {
    if policy == AddressPolicy::Any || url.is_internal_name() {
        return Ok(());
    }
    let variable = proxy.variable;
    let (addresses, _) = resolve::resolve(url.host(), url.port(), progress).await.map_err(|why| {
        let detail =
            format!("{}; plain http through the proxy of {variable} requires a resolvable name", why.detail);
        Failure { detail, ..why }
    })?;
    match addresses.iter().map(SocketAddr::ip).find(|ip| is_public(*ip)) {
        Some(ip) => {
            let detail = format!("{} has the address {ip}, through the proxy of {variable}", url.host());
            Err(Failure::new(Code::PlainHttpRefused, detail))
        }
        None => Ok(()),
    }
}

impl TokenEndpoint for HttpEndpoint {
    async fn send(&self, request: &Request, rotation: usize) -> Result<Answer, Failure> {
        let progress = Progress::default();
        with_deadline(self.timeout, &progress, pin!(self.attempt(request, rotation, &progress))).await
    }

    fn seen(&self) -> Seen {
        self.seen.get()
    }

    async fn github_actions_token(&self, audience: Option<&str>) -> Result<Secret, Failure> {
        let Some(GithubActions { url, token, client }) = &self.github_actions else {
            let missing = github_actions::failed(format!("{} is not set", github_actions::REQUEST_URL));
            return Err(missing.owned_by(Owner::Pod).with_fix(github_actions::PERMISSION));
        };
        let request = github_actions::request(url, token, audience)?;
        let answer = client.send(&request, 0).await;
        let host = request.url.host();
        let answer = answer.map_err(|why| github_actions::failed(format!("{host}: {why}")))?;
        github_actions::read(&answer)
    }
}
