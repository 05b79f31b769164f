//! Proxies by `HTTPS_PROXY` and `HTTP_PROXY`, read as Go reads them (golang.org/x/net/http/httpproxy). Which one, and
//! for what; how each kind is used is [`super::tunnel`]'s, [`super::socks`]'s and [`super::request`]'s.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::secret::Secret;
use zeroize::Zeroizing;

use super::no_proxy::Exceptions;

/// A variable that names a proxy of an unsupported kind, or no URL at all. Never quotes it: there may be a password in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProxyProblem(
    /// The variable's name.
    pub &'static str,
);

impl ProxyProblem {
    /// What is wrong, to follow the variable's name.
    pub const WRONG: &'static str = "is not the URL of an http, https, socks5 or socks5h proxy";
}

impl fmt::Display for ProxyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, Self::WRONG)
    }
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Plain HTTP: CONNECT for https endpoints, absolute-form requests for http endpoints.
    Http,
    /// The same within TLS.
    Https,
    /// SOCKS version 5 (RFC 1928). Names are resolved by the proxy, with `socks5` as with `socks5h`, as Go does it.
    Socks5,
}

/// One proxy.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) kind: Kind,
    /// Host and port; the scheme is [`Kind`]'s.
    pub(super) url: EndpointUrl,
    /// The variable that names it.
    pub(super) variable: &'static str,
    /// What SOCKS wants.
    pub(super) credentials: Option<Credentials>,
    /// The same as the value of `Proxy-Authorization` (RFC 7617): what HTTP wants.
    pub(super) authorization: Option<Secret>,
}

/// A user and a password, as bytes, since neither needs to be text.
pub(super) struct Credentials {
    pub(super) user: Zeroizing<Vec<u8>>,
    pub(super) password: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// How a URL is reached, and why so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// No variable names a proxy for this scheme.
    Direct,
    /// A proxy is named, and does not apply to this machine's own names and addresses.
    DirectToThisMachine {
        /// The variable that names the proxy.
        variable: &'static str,
    },
    /// A proxy is named, and `NO_PROXY` has an entry for the host.
    DirectByException {
        /// The variable that names the proxy.
        variable: &'static str,
    },
    /// Through this proxy.
    Through {
        /// Its scheme, host and port.
        proxy: String,
        /// The variable that names it.
        variable: &'static str,
    },
}

/// Which URLs go through which proxy.
#[derive(Debug, Default)]
pub struct Proxies {
    https: Option<Result<Proxy, ProxyProblem>>,
    http: Option<Result<Proxy, ProxyProblem>>,
    except: Exceptions,
}

impl Proxies {
    /// The variables that matter.
    pub const VARIABLES: [&'static str; 7] =
        ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"];

    /// Reads the variables of the process, handed in by a look-up. Upper case wins, and empty is unset. One that names
    /// an unusable proxy is a problem only for a URL that would go through it, as for Go.
    #[must_use]
    pub fn read(variable: impl Fn(&str) -> Option<Secret>) -> Self {
        let either = |upper: &'static str, lower: &'static str| {
            let set = |name| variable(name).filter(|value| !value.is_empty());
            set(upper).map(|value| (upper, value)).or_else(|| set(lower).map(|value| (lower, value)))
        };
        let read = |found: Option<(&'static str, Secret)>| {
            found.map(|(name, value)| Proxy::parse(name, &value).ok_or(ProxyProblem(name)))
        };
        // In a CGI process HTTP_PROXY is what a client sent as a header.
        let cgi = variable("REQUEST_METHOD").is_some_and(|value| !value.is_empty());
        Self {
            https: read(either("HTTPS_PROXY", "https_proxy")),
            http: if cgi { None } else { read(either("HTTP_PROXY", "http_proxy")) },
            except: either("NO_PROXY", "no_proxy")
                .map_or_else(Exceptions::default, |(_, list)| Exceptions::parse(list.expose())),
        }
    }

    /// The variable that keeps this URL from being reached, because it names an unusable proxy.
    #[must_use]
    pub fn problem_for(&self, url: &EndpointUrl) -> Option<ProxyProblem> {
        self.applying_to(url)?.as_ref().err().copied()
    }

    /// The proxy for a URL, if it is to go through one.
    pub(super) fn for_url(&self, url: &EndpointUrl) -> Option<&Proxy> {
        self.applying_to(url)?.as_ref().ok()
    }

    /// How a URL is reached.
    #[must_use]
    pub fn route(&self, url: &EndpointUrl) -> Route {
        let Some(named) = self.named_for(url) else { return Route::Direct };
        let variable = match named {
            Ok(proxy) => proxy.variable,
            Err(problem) => problem.0,
        };
        match self.applying_to(url) {
            Some(Ok(proxy)) => Route::Through { proxy: proxy.origin(), variable },
            _ if is_here(url) => Route::DirectToThisMachine { variable },
            _ => Route::DirectByException { variable },
        }
    }

    fn named_for(&self, url: &EndpointUrl) -> Option<&Result<Proxy, ProxyProblem>> {
        if url.is_tls() { self.https.as_ref() } else { self.http.as_ref() }
    }

    fn applying_to(&self, url: &EndpointUrl) -> Option<&Result<Proxy, ProxyProblem>> {
        let host = url.host().to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let applies = !is_here(url) && !self.except.cover(&host, address, url.port());
        self.named_for(url).filter(|_| applies)
    }
}

/// What is on this machine never goes through a proxy.
fn is_here(url: &EndpointUrl) -> bool {
    let is_loopback = url.address().is_some_and(|ip| ip.to_canonical().is_loopback());
    url.server_name().eq_ignore_ascii_case("localhost") || is_loopback
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
                // A port that changes with the scheme was not given: SOCKS has one of its own (RFC 1928 §3).
                let (url, userinfo) = with_scheme("http")?;
                let given = with_scheme("https")?.0.port() == url.port();
                (if given { url } else { url.with_port(1080) }, userinfo)
            }
        };
        let credentials = userinfo.as_ref().map(decoded);
        let authorization = credentials.as_ref().map(basic);
        Some(Self { kind, url, variable, credentials, authorization })
    }

    /// Host and port.
    pub(super) fn place(&self) -> (String, u16) {
        (self.url.host().to_owned(), self.url.port())
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> String {
        match self.kind {
            Kind::Http | Kind::Https => self.url.origin(),
            Kind::Socks5 => self.url.origin().replacen("http", "socks5", 1),
        }
    }
}

fn basic(Credentials { user, password }: &Credentials) -> Secret {
    let mut plain = Zeroizing::new(Vec::with_capacity(user.len() + 1 + password.len()));
    plain.extend_from_slice(user);
    plain.push(b':');
    plain.extend_from_slice(password);
    let mut header = String::with_capacity(6 + plain.len().div_ceil(3) * 4);
    header.push_str("Basic ");
    STANDARD.encode_string(&*plain, &mut header);
    Secret::new(header)
}

/// `user:password` of a URL, each percent-decoded.
fn decoded(userinfo: &Secret) -> Credentials {
    let text = userinfo.expose();
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decode = |text: &str| {
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        percent_decode(text, &mut bytes);
        bytes
    };
    Credentials { user: decode(user), password: decode(password) }
}

/// `%XX` decoded, everything else as it is.
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

    fn place(proxies: &Proxies, to: &str) -> Option<(String, u16)> {
        proxies.for_url(&url(to)).map(Proxy::place)
    }

    #[test]
    fn f018_each_scheme_has_its_variable_and_upper_case_wins() {
        let three =
            [("HTTPS_PROXY", "a:1"), ("https_proxy", "b:2"), ("http_proxy", "c:3"), ("HTTP_PROXY", "")];
        let both = proxies(&three);
        assert_eq!(place(&both, "https://dex.example/token"), Some(("a".to_owned(), 1)));
        assert_eq!(place(&both, "http://dex.example/token"), Some(("c".to_owned(), 3)));
        let cgi = proxies(&[("HTTP_PROXY", "evil:1"), ("REQUEST_METHOD", "GET")]);
        assert_eq!(place(&cgi, "http://dex.example/token"), None);
        assert_eq!(place(&Proxies::default(), "https://dex.example/token"), None);
    }

    #[test]
    fn f018_this_machine_is_never_reached_through_a_proxy() {
        let all = proxies(&[("HTTPS_PROXY", "a:1"), ("HTTP_PROXY", "a:1")]);
        for here in ["localhost", "127.0.0.9", "[::1]:5556", "[::ffff:127.0.0.1]"] {
            assert_eq!(place(&all, &format!("https://{here}/token")), None, "{here}");
            assert_eq!(place(&all, &format!("http://{here}/token")), None, "{here}");
        }
        assert!(place(&all, "https://sub.localhost/token").is_some());
    }

    #[test]
    fn a_proxy_may_be_written_without_its_scheme_and_port() {
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
            assert_eq!(proxy.place(), (host.to_owned(), port), "{written}");
        }
    }

    #[test]
    fn an_unsupported_proxy_is_reported_by_the_variable_s_name() {
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
            // Go does not care about one that would not be used.
            assert_eq!(all.problem_for(&url("https://dex.inside/token")), None);
            assert_eq!(all.problem_for(&url("http://dex.example/token")), None);
        }
    }

    #[test]
    fn a_proxy_s_password_is_decoded_and_has_no_voice() {
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
    fn a_route_names_the_variable_that_led_there() {
        let all = proxies(&[("https_proxy", "http://me:canary@proxy:3128"), ("NO_PROXY", ".inside")]);
        let variable = "https_proxy";
        let through = Route::Through { proxy: "http://proxy:3128".to_owned(), variable };
        assert_eq!(all.route(&url("https://dex.example/token")), through);
        assert_eq!(all.route(&url("https://dex.inside/token")), Route::DirectByException { variable });
        assert_eq!(all.route(&url("https://127.0.0.1/token")), Route::DirectToThisMachine { variable });
        assert_eq!(all.route(&url("http://dex.example/token")), Route::Direct);
        let socks = proxies(&[("HTTPS_PROXY", "socks5h://proxy")]);
        let proxy = "socks5://proxy:1080".to_owned();
        assert_eq!(
            socks.route(&url("https://dex.example/token")),
            Route::Through { proxy, variable: "HTTPS_PROXY" }
        );
    }
}
