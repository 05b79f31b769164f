//! The address of the token endpoint: https, or plain http where that is acceptable, or it does not exist.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

use crate::secret::Secret;

/// Where a token endpoint is. Cannot hold user or password: [`EndpointUrl::parse`] hands those out apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointUrl {
    tls: bool,
    host: String,
    port: u16,
    target: String,
}

/// How far a plain-http request can be assumed to travel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// To this machine or pod only.
    Loopback,
    /// To what can only be inside the cluster or a private network.
    Inside,
    /// To anywhere.
    Anywhere,
}

/// Why a text is no endpoint. Its words complete the sentence "dex_endpoint …".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotAnEndpoint {
    /// There is nothing.
    Empty,
    /// There is no `http://` or `https://` in front.
    NoScheme,
    /// Another scheme.
    OtherScheme,
    /// There is no host.
    NoHost,
    /// The port is no number from 1 to 65535.
    BadPort,
    /// Anything else.
    Malformed,
}

impl fmt::Display for NotAnEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::NoScheme => "has no https:// in front",
            Self::OtherScheme => "is neither https nor http",
            Self::NoHost => "names no host",
            Self::BadPort => "has a port that is no number from 1 to 65535",
            Self::Malformed => "is not a URL",
        })
    }
}

impl EndpointUrl {
    /// Reads a URL. User and password, if it has them, come back apart, in the notation of `dex_basic_auth`
    /// (Go's client, which the original used, sent them as Basic credentials).
    ///
    /// # Errors
    /// What is wrong with it.
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
        if place.is_empty() || place.starts_with(':') {
            return Err(NotAnEndpoint::NoHost);
        }
        // Without its userinfo, so that no error of the parser can quote it.
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
        let url = Self {
            tls,
            host: host.to_owned(),
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        };
        Ok((url, userinfo))
    }

    /// True for https.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Name or address; an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own where none was given.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as the request line has it.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// `host[:port]`, as the `Host` header has it: without the port where it is the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }

    /// The same place with another path.
    #[must_use]
    pub fn with_target(&self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self.clone() }
    }

    /// The issuer's path, if this is a token endpoint as Dex has it: what stands before `/token`.
    #[must_use]
    pub fn issuer_path(&self) -> Option<&str> {
        self.target.split('?').next()?.strip_suffix("/token")
    }

    /// How far a request to this host can be assumed to travel. `search` is the search list of the machine's
    /// resolver: the kubelet writes `svc.<cluster domain>` into it, which tells the cluster's domain.
    #[must_use]
    pub fn reach(&self, search: &[String]) -> Reach {
        let host = self.host.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = host.parse::<IpAddr>() {
            return match address.to_canonical() {
                ip if ip.is_loopback() => Reach::Loopback,
                IpAddr::V4(ip) if ip.is_private() => Reach::Inside,
                IpAddr::V6(ip) if ip.is_unique_local() => Reach::Inside,
                _ => Reach::Anywhere,
            };
        }
        if is_localhost(&host) {
            return Reach::Loopback;
        }
        let in_cluster = |zone: &str| host.ends_with(&format!(".{}", zone.trim_end_matches('.')));
        let zones = search.iter().filter(|zone| zone.starts_with("svc.")).map(String::as_str);
        if !host.contains('.') || ["svc", "svc.cluster.local"].into_iter().chain(zones).any(in_cluster) {
            return Reach::Inside;
        }
        Reach::Anywhere
    }
}

/// True for `localhost` and what ends with `.localhost`: names of this machine, whatever a name server says (RFC 6761 §6.3).
#[must_use]
pub fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A query may hold anything; the path never does.
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
    fn takes_a_url_apart() {
        let dex = url("https://dex.example:5556/dex/token?x=1#y");
        assert_eq!((dex.is_tls(), dex.host(), dex.port()), (true, "dex.example", 5556));
        assert_eq!(dex.target(), "/dex/token?x=1");
        assert_eq!(dex.issuer_path(), Some("/dex"));
        assert_eq!(dex.to_string(), "https://dex.example:5556/dex/token");
        assert_eq!(url("HTTPS://dex.example/token").to_string(), "https://dex.example/token");
        assert_eq!(url("https://dex.example").target(), "/");
        assert_eq!(url("https://dex.example:/token").port(), 443);
        let v6 = url("http://[::1]:80/token");
        assert_eq!((v6.host(), v6.authority().as_str()), ("::1", "[::1]"));
    }

    #[test]
    fn user_and_password_come_back_apart() {
        let (dex, userinfo) = EndpointUrl::parse("https://me:p@ss@dex.example/token").unwrap();
        assert_eq!(dex.to_string(), "https://dex.example/token");
        assert_eq!(userinfo, Some(Secret::new("me:p@ss".to_owned())));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, why) in [
            ("", NotAnEndpoint::Empty),
            ("dex.example/token", NotAnEndpoint::NoScheme),
            ("ftp://dex.example/token", NotAnEndpoint::OtherScheme),
            ("https:///token", NotAnEndpoint::NoHost),
            ("https://:5556/token", NotAnEndpoint::NoHost),
            ("https://dex.example:0/token", NotAnEndpoint::BadPort),
            ("https://dex.example:65536/token", NotAnEndpoint::BadPort),
            ("https://dex example/token", NotAnEndpoint::Malformed),
            ("https://d\u{e9}x.example/token", NotAnEndpoint::Malformed),
        ] {
            assert_eq!(EndpointUrl::parse(text).map(|_| ()), Err(why), "{text}");
            assert!(["is ", "has ", "names "].iter().any(|verb| why.to_string().starts_with(verb)), "{why}");
        }
    }

    #[test]
    fn knows_how_far_plain_http_travels() {
        let search = ["auth.svc.corp.example".to_owned(), "svc.corp.example".to_owned()];
        for (host, reach) in [
            ("localhost", Reach::Loopback),
            ("127.3.2.1", Reach::Loopback),
            ("[::1]", Reach::Loopback),
            ("[::ffff:127.0.0.1]", Reach::Loopback),
            ("dex", Reach::Inside),
            ("dex.auth.svc", Reach::Inside),
            ("dex.auth.svc.cluster.local.", Reach::Inside),
            ("dex.auth.svc.corp.example", Reach::Inside),
            ("10.1.2.3", Reach::Inside),
            ("192.168.1.9", Reach::Inside),
            ("[fd00::1]", Reach::Inside),
            ("dex.auth.svc.evil.example", Reach::Anywhere),
            ("dex.example", Reach::Anywhere),
            ("dex.auth", Reach::Anywhere),
            ("8.8.8.8", Reach::Anywhere),
            ("172.32.0.1", Reach::Anywhere),
            ("[fe80::1]", Reach::Anywhere),
            ("notsvc", Reach::Inside),
        ] {
            assert_eq!(url(&format!("http://{host}/token")).reach(&search), reach, "{host}");
        }
    }
}
