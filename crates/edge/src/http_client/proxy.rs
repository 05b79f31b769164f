//! Chooses the proxy for a URL by `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, as Go does
//! (golang.org/x/net/http/httpproxy). [`super::tunnel`], [`super::socks`] and [`super::request`]
//! use the proxy.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::secret::Secret;
use zeroize::Zeroizing;

use super::no_proxy::NoProxy;

/// A variable whose value is not the URL of a supported proxy. The message never quotes the value,
/// which may contain a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProxyProblem(
    /// The name of the variable.
    pub &'static str,
);

impl ProxyProblem {
    /// What is wrong; follows the name of the variable.
    pub const WHAT: &'static str = "is not the URL of an http, https, socks5 or socks5h proxy";
}

impl fmt::Display for ProxyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, Self::WHAT)
    }
}

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// HTTP: CONNECT for https endpoints, absolute-form requests for http endpoints.
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS version 5 (RFC 1928). As in Go, the proxy resolves names for `socks5` as well as for
    /// `socks5h`.
    Socks5,
}

/// A proxy that a variable names.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) kind: Kind,
    /// Host and port. For SOCKS the scheme is a placeholder.
    pub(super) url: EndpointUrl,
    /// The variable that names the proxy.
    pub(super) variable: &'static str,
    /// User and password, for SOCKS.
    pub(super) credentials: Option<Credentials>,
    /// User and password as the value of `Proxy-Authorization` (RFC 7617), for HTTP.
    pub(super) authorization: Option<Secret>,
}

/// User and password as bytes: neither needs to be UTF-8.
pub(super) struct Credentials {
    pub(super) user: Zeroizing<Vec<u8>>,
    pub(super) password: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// How a URL is reached, and the reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// No variable names a proxy for this scheme.
    Direct,
    /// A proxy is named, but does not apply to localhost and loopback addresses.
    DirectToLoopback {
        /// The variable that names the proxy.
        variable: &'static str,
    },
    /// A proxy is named, but `NO_PROXY` lists the host.
    DirectByNoProxy {
        /// The variable that names the proxy.
        variable: &'static str,
    },
    /// Through a proxy.
    Proxied {
        /// Scheme, host and port of the proxy.
        proxy: String,
        /// The variable that names the proxy.
        variable: &'static str,
    },
}

/// The proxies of the environment.
#[derive(Debug, Default)]
pub struct Proxies {
    https: Option<Result<Proxy, ProxyProblem>>,
    http: Option<Result<Proxy, ProxyProblem>>,
    no_proxy: NoProxy,
}

impl Proxies {
    /// The environment variables that are read.
    pub const VARIABLES: [&'static str; 7] =
        ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"];

    /// Parses the variables, which `variable` looks up. Upper case takes precedence, and empty
    /// counts as unset. As in Go, an invalid proxy is a problem only for URLs that would use it.
    #[must_use]
    pub fn read(variable: impl Fn(&str) -> Option<Secret>) -> Self {
        let first_set = |upper: &'static str, lower: &'static str| {
            let set = |name| variable(name).filter(|value| !value.is_empty());
            set(upper).map(|value| (upper, value)).or_else(|| set(lower).map(|value| (lower, value)))
        };
        let parse = |found: Option<(&'static str, Secret)>| {
            found.map(|(name, value)| Proxy::parse(name, &value).ok_or(ProxyProblem(name)))
        };
        // In a CGI process, HTTP_PROXY is the `Proxy` header of a client (httpoxy.org).
        let cgi = variable("REQUEST_METHOD").is_some_and(|value| !value.is_empty());
        Self {
            https: parse(first_set("HTTPS_PROXY", "https_proxy")),
            http: if cgi { None } else { parse(first_set("HTTP_PROXY", "http_proxy")) },
            no_proxy: first_set("NO_PROXY", "no_proxy")
                .map_or_else(NoProxy::default, |(_, list)| NoProxy::parse(list.expose())),
        }
    }

    /// The variable with an invalid proxy that this URL would use, if there is one.
    #[must_use]
    pub fn problem_for(&self, url: &EndpointUrl) -> Option<ProxyProblem> {
        self.applicable_to(url)?.as_ref().err().copied()
    }

    /// The proxy for a URL, if one applies.
    pub(super) fn for_url(&self, url: &EndpointUrl) -> Option<&Proxy> {
        self.applicable_to(url)?.as_ref().ok()
    }

    /// How a URL is reached, and the reason.
    #[must_use]
    pub fn route(&self, url: &EndpointUrl) -> Route {
        let Some(configured) = self.configured_for(url) else { return Route::Direct };
        let variable = match configured {
            Ok(proxy) => proxy.variable,
            Err(problem) => problem.0,
        };
        match self.applicable_to(url) {
            Some(Ok(proxy)) => Route::Proxied { proxy: proxy.origin(), variable },
            _ if is_loopback(url) => Route::DirectToLoopback { variable },
            _ => Route::DirectByNoProxy { variable },
        }
    }

    fn configured_for(&self, url: &EndpointUrl) -> Option<&Result<Proxy, ProxyProblem>> {
        if url.is_tls() { self.https.as_ref() } else { self.http.as_ref() }
    }

    fn applicable_to(&self, url: &EndpointUrl) -> Option<&Result<Proxy, ProxyProblem>> {
        let host = url.host().to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let applies = !is_loopback(url) && !self.no_proxy.covers(&host, address, url.port());
        self.configured_for(url).filter(|_| applies)
    }
}

/// Whether the host is `localhost` or a loopback address. These are never reached through a proxy.
fn is_loopback(url: &EndpointUrl) -> bool {
    let is_loopback_address = url.address().is_some_and(|ip| ip.to_canonical().is_loopback());
    url.server_name().eq_ignore_ascii_case("localhost") || is_loopback_address
}

impl Proxy {
    fn parse(variable: &'static str, value: &Secret) -> Option<Self> {
        let text = value.expose().trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "http" => Kind::Http,
            "https" => Kind::Https,
            "socks5" | "socks5h" => Kind::Socks5,
            _ => return None,
        };
        let with_scheme = |scheme: &str| {
            let text = Zeroizing::new([scheme, "://", rest].concat());
            EndpointUrl::parse(&text).ok()
        };
        let (url, userinfo) = match kind {
            Kind::Http => with_scheme("http")?,
            Kind::Https => with_scheme("https")?,
            Kind::Socks5 => {
                // A port that depends on the scheme is a default, so no port is given. The default
                // of SOCKS is 1080 (RFC 1928 §3).
                let (url, userinfo) = with_scheme("http")?;
                let has_port = with_scheme("https")?.0.port() == url.port();
                (if has_port { url } else { url.with_port(1080) }, userinfo)
            }
        };
        let credentials = userinfo.as_ref().map(parse_userinfo);
        let authorization = credentials.as_ref().map(basic_authorization);
        Some(Self { kind, url, variable, credentials, authorization })
    }

    /// Host and port.
    pub(super) fn host_and_port(&self) -> (String, u16) {
        (self.url.host().to_owned(), self.url.port())
    }

    /// Scheme, host and port, without user and password.
    pub(super) fn origin(&self) -> String {
        match self.kind {
            Kind::Http | Kind::Https => self.url.origin(),
            Kind::Socks5 => self.url.origin().replacen("http", "socks5", 1),
        }
    }
}

/// The value of an `Authorization` header of the scheme Basic (RFC 7617).
fn basic_authorization(Credentials { user, password }: &Credentials) -> Secret {
    let mut plain = Zeroizing::new(Vec::with_capacity(user.len() + 1 + password.len()));
    plain.extend_from_slice(user);
    plain.push(b':');
    plain.extend_from_slice(password);
    let mut header = String::with_capacity(6 + plain.len().div_ceil(3) * 4);
    header.push_str("Basic ");
    STANDARD.encode_string(&*plain, &mut header);
    Secret::new(header)
}

/// Splits `user:password` of a URL and percent-decodes each part.
fn parse_userinfo(userinfo: &Secret) -> Credentials {
    let text = userinfo.expose();
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decode = |text: &str| {
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        percent_decode(text, &mut bytes);
        bytes
    };
    Credentials { user: decode(user), password: decode(password) }
}

/// Decodes each `%XX` and copies all other bytes.
fn percent_decode(text: &str, out: &mut Vec<u8>) {
    let digit = |at: Option<&u8>| at.and_then(|byte| char::from(*byte).to_digit(16));
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let code = digit(after.first()).zip(digit(after.get(1))).filter(|_| *byte == b'%');
        match code.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &after[2..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::read(|name| {
            let value = variables.iter().find(|(known, _)| *known == name)?.1;
            Some(Secret::new(value.to_owned()))
        })
    }

    fn url(text: &str) -> EndpointUrl {
        EndpointUrl::parse(text).unwrap().0
    }

    fn proxy_for(proxies: &Proxies, to: &str) -> Option<(String, u16)> {
        proxies.for_url(&url(to)).map(Proxy::host_and_port)
    }

    #[test]
    fn f018_each_scheme_has_its_variable_and_upper_case_takes_precedence() {
        let three =
            [("HTTPS_PROXY", "a:1"), ("https_proxy", "b:2"), ("http_proxy", "c:3"), ("HTTP_PROXY", "")];
        let both = proxies(&three);
        assert_eq!(proxy_for(&both, "https://dex.example/token"), Some(("a".to_owned(), 1)));
        assert_eq!(proxy_for(&both, "http://dex.example/token"), Some(("c".to_owned(), 3)));
        let cgi = proxies(&[("HTTP_PROXY", "evil:1"), ("REQUEST_METHOD", "GET")]);
        assert_eq!(proxy_for(&cgi, "http://dex.example/token"), None);
        assert_eq!(proxy_for(&Proxies::default(), "https://dex.example/token"), None);
    }

    #[test]
    fn f018_loopback_is_never_reached_through_a_proxy() {
        let all = proxies(&[("HTTPS_PROXY", "a:1"), ("HTTP_PROXY", "a:1")]);
        for host in ["localhost", "127.0.0.9", "[::1]:5556", "[::ffff:127.0.0.1]"] {
            assert_eq!(proxy_for(&all, &format!("https://{host}/token")), None, "{host}");
            assert_eq!(proxy_for(&all, &format!("http://{host}/token")), None, "{host}");
        }
        assert!(proxy_for(&all, "https://sub.localhost/token").is_some());
    }

    #[test]
    fn scheme_and_port_of_a_proxy_are_optional() {
        for (written, host, port) in [
            ("proxy", "proxy", 80),
            ("proxy:3128", "proxy", 3128),
            (" http://proxy:3128/ ", "proxy", 3128),
            ("https://proxy", "proxy", 443),
            ("[fd00::1]:3128", "fd00::1", 3128),
            ("me:canary@proxy:3128", "proxy", 3128),
            ("socks5://proxy", "proxy", 1080),
            ("SOCKS5H://me:canary@proxy:80", "proxy", 80),
            ("socks5://[fd00::1]:1081/", "fd00::1", 1081),
        ] {
            let proxy = Proxy::parse("HTTPS_PROXY", &Secret::new(written.to_owned())).unwrap();
            assert_eq!(proxy.host_and_port(), (host.to_owned(), port), "{written}");
        }
    }

    #[test]
    fn an_unsupported_proxy_is_reported_by_the_name_of_its_variable() {
        for wrong in [
            "socks4://me:canary@proxy:1080",
            "ftp://proxy",
            "http://",
            "http://me:canary@:1",
            ":1",
            "socks5://",
        ] {
            let all = proxies(&[("https_proxy", wrong), ("no_proxy", ".inside")]);
            let problem = all.problem_for(&url("https://dex.example/token")).unwrap();
            assert_eq!(
                problem.to_string(),
                "https_proxy is not the URL of an http, https, socks5 or socks5h proxy",
                "{wrong}"
            );
            // As in Go, an invalid proxy that would not be used is no problem.
            assert_eq!(all.problem_for(&url("https://dex.inside/token")), None);
            assert_eq!(all.problem_for(&url("http://dex.example/token")), None);
        }
    }

    #[test]
    fn a_proxy_password_is_decoded_and_absent_from_debug_output() {
        let all = proxies(&[("HTTPS_PROXY", "http://me:c%61nary%+f%zz@proxy:3128")]);
        let proxy = all.https.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(
            proxy.authorization.as_ref().unwrap().expose(),
            format!("Basic {}", STANDARD.encode("me:canary%+f%zz"))
        );
        let debug = format!("{all:?}");
        assert!(!debug.contains("anary") && !debug.contains(&STANDARD.encode("me:canary")[..8]), "{debug}");
    }

    #[test]
    fn a_route_names_the_variable_that_decided_it() {
        let all = proxies(&[("https_proxy", "http://me:canary@proxy:3128"), ("NO_PROXY", ".inside")]);
        let variable = "https_proxy";
        let through = Route::Proxied { proxy: "http://proxy:3128".to_owned(), variable };
        assert_eq!(all.route(&url("https://dex.example/token")), through);
        assert_eq!(all.route(&url("https://dex.inside/token")), Route::DirectByNoProxy { variable });
        assert_eq!(all.route(&url("https://127.0.0.1/token")), Route::DirectToLoopback { variable });
        assert_eq!(all.route(&url("http://dex.example/token")), Route::Direct);
        let socks = proxies(&[("HTTPS_PROXY", "socks5h://proxy")]);
        let proxy = "socks5://proxy:1080".to_owned();
        assert_eq!(
            socks.route(&url("https://dex.example/token")),
            Route::Proxied { proxy, variable: "HTTPS_PROXY" }
        );
    }
}
