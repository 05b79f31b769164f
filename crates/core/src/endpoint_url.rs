//! The URL of the token endpoint, and which hosts are public.
//!
//! A value of [`EndpointUrl`] has the scheme `https` or `http`. `config` decides whether plain http
//! is acceptable for its host.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

use crate::secret::Secret;

/// The URL of a token endpoint. It never holds a user or a password: [`EndpointUrl::parse`] returns
/// those separately.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointUrl {
    /// The scheme is https.
    tls: bool,
    /// A name or an address. An IPv6 address stands here without brackets.
    host: String,
    port: u16,
    /// Path and query, without the fragment.
    target: String,
}

/// Why a text is not the URL of an endpoint. The `Display` text follows the name of the setting:
/// "dex_endpoint is empty".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotAnEndpoint {
    /// The text is empty.
    Empty,
    /// The text does not begin with `https://` or `http://`.
    NoScheme,
    /// The scheme is neither https nor http.
    OtherScheme,
    /// The host is missing.
    NoHost,
    /// The port is not a number from 1 to 65535.
    BadPort,
    /// `/`, `?` or `#` in a user or a password, where they must be percent-encoded (RFC 3986
    /// §3.2.1).
    UnencodedUser,
    /// Any other text that is not a URL (RFC 3986).
    Malformed,
}

impl fmt::Display for NotAnEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::NoScheme => "does not begin with https://",
            Self::OtherScheme => "is neither https nor http",
            Self::NoHost => "has no host",
            Self::BadPort => "has a port that is not a number from 1 to 65535",
            Self::UnencodedUser => "has a / ? or # in its user or password that is not percent-encoded",
            Self::Malformed => "is not a URL",
        })
    }
}

impl EndpointUrl {
    /// Parses a URL. A user and password in it are returned separately, as `USER:PASSWORD`, the
    /// notation of `dex_basic_auth`. Go's HTTP client, which the original uses, sends them as Basic
    /// credentials.
    ///
    /// # Errors
    /// [`NotAnEndpoint`], which never quotes the text: `Empty`, `NoScheme`, `OtherScheme`,
    /// `NoHost`, `BadPort`, `UnencodedUser` or `Malformed`.
    pub fn parse(text: &str) -> Result<(Self, Option<Secret>), NotAnEndpoint> {
        let text = text.trim();
        if text.is_empty() {
            return Err(NotAnEndpoint::Empty);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(NotAnEndpoint::NoScheme);
        };
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(NotAnEndpoint::OtherScheme),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (userinfo, place) = match authority.rsplit_once('@') {
            Some((userinfo, place)) => (Some(Secret::new(userinfo.to_owned())), place),
            None => (None, authority),
        };
        // In `https://user:2024#x@host`, `user` would be looked up as the host. A path may have an
        // `@`.
        let after = &rest[authority.len()..];
        let user_goes_on = after.starts_with(['?', '#']) || authority.contains(':');
        if userinfo.is_none() && user_goes_on && after.contains('@') {
            return Err(NotAnEndpoint::UnencodedUser);
        }
        if place.is_empty() || place.starts_with(':') {
            return Err(NotAnEndpoint::NoHost);
        }
        // The parser does not see the user and password, so that its errors cannot quote them.
        let uri: Uri = format!("{scheme}://{place}{}", &rest[authority.len()..])
            .parse()
            .map_err(|_| NotAnEndpoint::Malformed)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(NotAnEndpoint::NoHost)?;
        let port = match place.strip_prefix(host) {
            None | Some("" | ":") => None,
            Some(port) => match port.strip_prefix(':').and_then(|digits| digits.parse().ok()) {
                None | Some(0) => return Err(NotAnEndpoint::BadPort),
                port => port,
            },
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.contains(|c: char| !(c.is_ascii_alphanumeric() || "-._:".contains(c))) {
            return Err(NotAnEndpoint::Malformed);
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        // An empty path before a query is sent as `/` (RFC 9112 §3.2.1).
        let slash = if target.starts_with('/') { "" } else { "/" };
        let url = Self {
            tls,
            host: host.to_owned(),
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            target: format!("{slash}{target}"),
        };
        Ok((url, userinfo))
    }

    /// True if the scheme is https.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// A name or an address. An IPv6 address has no brackets here.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; without one in the text, 443 for https and 80 for http.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as in the request line.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The host without a final dot. The dot tells the resolver not to use its search list. `Host`
    /// headers, SNI and certificates have no final dot, and an ingress finds no route for a host
    /// with one.
    #[must_use]
    pub fn server_name(&self) -> &str {
        self.host.strip_suffix('.').unwrap_or(&self.host)
    }

    /// `HOST` or `HOST:PORT`, as in a `Host` header: the default port of the scheme is left out.
    #[must_use]
    pub fn authority(&self) -> String {
        self.authority_of(self.server_name())
    }

    fn authority_of(&self, host: &str) -> String {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Scheme, host and port, such as `https://dex.example:5556` (RFC 6454).
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority())
    }

    const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// The whole URL, which [`EndpointUrl::parse`] reads as the same: with its query, and with the
    /// final dot of its host.
    #[must_use]
    pub fn to_url(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority_of(&self.host), self.target)
    }

    /// True if both URLs have the same host. Schemes and ports are not compared.
    #[must_use]
    pub fn is_host_of(&self, other: &Self) -> bool {
        let host = |url: &Self| url.host.trim_end_matches('.').to_ascii_lowercase();
        host(self) == host(other)
    }

    /// The same origin with another path and query.
    #[must_use]
    pub fn with_target(&self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self.clone() }
    }

    /// The same URL with another port.
    #[must_use]
    pub fn with_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The path of Dex's issuer: the path of the endpoint without the final `/token`. `None` if the
    /// path does not end with `/token`.
    #[must_use]
    pub fn issuer_path(&self) -> Option<&str> {
        self.target.split('?').next()?.strip_suffix("/token")
    }

    /// True if the host is a loopback address or a name of this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_localhost(&self.host) || self.address().is_some_and(|ip| ip.to_canonical().is_loopback())
    }

    /// The host as an IP address. `None` if it is a name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// True if the host's name resolves only inside a machine or a cluster: `localhost`, a single
    /// label, and names that end with `.svc` or `.cluster.local`.
    #[must_use]
    pub fn is_internal_name(&self) -> bool {
        let host = self.server_name().to_ascii_lowercase();
        let is_in = |zone: &str| host.ends_with(zone);
        is_localhost(&host) || !host.contains(['.', ':']) || [".svc", ".cluster.local"].into_iter().any(is_in)
    }
}

/// True if an address may belong to any host on the internet. Loopback, unspecified, private
/// (RFC 1918, RFC 4193), shared (RFC 6598) and link-local addresses are not public: they belong to
/// a machine, a cluster or a local network.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || is_shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified())
        }
    }
}

/// True for `localhost` and names that end with `.localhost`. They always mean this machine; no
/// name server is asked (RFC 6761 §6.3).
#[must_use]
pub fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A query may hold a secret, so it is not shown.
        write!(f, "{}{}", self.origin(), self.target.split('?').next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> EndpointUrl {
        EndpointUrl::parse(text).unwrap().0
    }

    #[test]
    fn a_url_has_scheme_host_port_and_target() {
        let dex = url("https://dex.example:5556/dex/token?x=1#y");
        assert_eq!((dex.is_tls(), dex.host(), dex.port()), (true, "dex.example", 5556));
        assert_eq!(dex.target(), "/dex/token?x=1");
        assert_eq!(dex.issuer_path(), Some("/dex"));
        assert_eq!(dex.to_string(), "https://dex.example:5556/dex/token");
        assert_eq!(url("HTTPS://dex.example/token").to_string(), "https://dex.example/token");
        assert_eq!(url("https://dex.example").target(), "/");
        assert_eq!(url("https://dex.example?x=1").target(), "/?x=1");
        assert_eq!(url("https://dex.example:/token").port(), 443);
        let v6 = url("http://[::1]:80/token");
        assert_eq!((v6.host(), v6.authority().as_str()), ("::1", "[::1]"));
    }

    #[test]
    fn user_and_password_are_returned_separately() {
        let (dex, userinfo) = EndpointUrl::parse("https://me:p@ss@dex.example/token").unwrap();
        assert_eq!(dex.to_string(), "https://dex.example/token");
        assert_eq!(userinfo, Some(Secret::new("me:p@ss".to_owned())));
    }

    #[test]
    fn an_invalid_url_is_refused_with_the_reason() {
        for (text, why) in [
            ("", NotAnEndpoint::Empty),
            ("dex.example/token", NotAnEndpoint::NoScheme),
            ("ftp://dex.example/token", NotAnEndpoint::OtherScheme),
            ("https:///token", NotAnEndpoint::NoHost),
            ("https://:5556/token", NotAnEndpoint::NoHost),
            ("https://dex.example:0/token", NotAnEndpoint::BadPort),
            ("https://dex.example:65536/token", NotAnEndpoint::BadPort),
            ("https://id:2024#canary@dex.example/token", NotAnEndpoint::UnencodedUser),
            ("https://id:2024/canary@dex.example/token", NotAnEndpoint::UnencodedUser),
            ("https://id?canary@dex.example/token", NotAnEndpoint::UnencodedUser),
            ("https://dex example/token", NotAnEndpoint::Malformed),
            ("https://d\u{e9}x.example/token", NotAnEndpoint::Malformed),
        ] {
            assert_eq!(EndpointUrl::parse(text).map(|_| ()), Err(why), "{text}");
            assert!(["is ", "has ", "does "].iter().any(|verb| why.to_string().starts_with(verb)), "{why}");
        }
    }

    #[test]
    fn f132_only_the_resolver_sees_the_final_dot_of_a_host() {
        let dex = url("https://dex.example.:5556/token");
        assert_eq!((dex.host(), dex.server_name()), ("dex.example.", "dex.example"));
        assert_eq!(
            (dex.authority(), dex.origin()),
            ("dex.example:5556".into(), "https://dex.example:5556".into())
        );
        assert_eq!(url("https://dex.example/token").server_name(), "dex.example");
    }

    #[test]
    fn a_url_is_parsed_again_from_its_text() {
        for (text, written) in [
            ("https://dex.dex.svc.cluster.local./token?a=b", "https://dex.dex.svc.cluster.local./token?a=b"),
            ("https://dex.example.:5556/", "https://dex.example.:5556/"),
            ("HTTPS://Dex.example:443/token#x", "https://Dex.example/token"),
            ("http://[::1]:5556", "http://[::1]:5556/"),
            ("http://[fe80::1]?x", "http://[fe80::1]/?x"),
            ("http://localhost:443/token", "http://localhost:443/token"),
        ] {
            assert_eq!(url(text).to_url(), written);
            assert_eq!(url(written), url(text));
        }
    }

    #[test]
    fn f154_private_shared_and_local_addresses_are_not_public() {
        for (address, public) in [
            ("127.3.2.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("172.32.0.1", true),
            ("192.168.1.9", false),
            ("192.169.0.1", true),
            ("169.254.1.1", false),
            ("100.64.0.1", false),
            ("100.127.255.255", false),
            ("100.63.0.1", true),
            ("100.128.0.1", true),
            ("fd00::1", false),
            ("fc00::1", false),
            ("fe80::1", false),
            ("::ffff:10.1.2.3", false),
            ("::ffff:8.8.8.8", true),
            ("8.8.8.8", true),
            ("2001:db8::1", true),
            ("64:ff9b::a00:1", true),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn internal_names_are_recognized_by_their_form() {
        for (host, internal) in [
            ("localhost", true),
            ("dex.localhost.", true),
            ("dex", true),
            ("dex.auth.svc", true),
            ("DEX.auth.SVC.cluster.local.", true),
            ("dex.auth", false),
            ("dex.lan", false),
            ("notsvc.example", false),
            ("[fd00::1]", false),
        ] {
            assert_eq!(url(&format!("http://{host}/token")).is_internal_name(), internal, "{host}");
        }
    }
}
