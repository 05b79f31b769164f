//! Proxies by `HTTPS_PROXY` and `HTTP_PROXY`, read as Go reads them (golang.org/x/net/http/httpproxy). Which one, and
//! for what; how it is used is [`super::tunnel`]'s.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::secret::Secret;
use zeroize::Zeroizing;

use super::no_proxy::Exceptions;

/// A proxy that is not supported, or no URL at all. Never quotes it: there may be a password in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProxyProblem(
    /// The variable's name.
    pub &'static str,
);

impl fmt::Display for ProxyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no http:// or https:// proxy", self.0)
    }
}

/// One proxy.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) url: EndpointUrl,
    /// `Basic …`.
    pub(super) authorization: Option<Secret>,
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
            found.map(|(name, value)| Proxy::parse(&value).ok_or(ProxyProblem(name)))
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

    /// What is on this machine never goes through one.
    fn applying_to(&self, url: &EndpointUrl) -> Option<&Result<Proxy, ProxyProblem>> {
        let proxy = if url.is_tls() { self.https.as_ref() } else { self.http.as_ref() }?;
        let host = url.host().to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let here = host.trim_end_matches('.') == "localhost" || address.is_some_and(|ip| ip.is_loopback());
        (!here && !self.except.cover(&host, address, url.port())).then_some(proxy)
    }
}

impl Proxy {
    fn parse(value: &Secret) -> Option<Self> {
        let text = value.expose().trim();
        let (url, userinfo) = if text.contains("://") {
            EndpointUrl::parse(text).ok()?
        } else {
            EndpointUrl::parse(&Zeroizing::new(["http://", text].concat())).ok()?
        };
        Some(Self { url, authorization: userinfo.as_ref().map(basic) })
    }

    /// Host and port.
    pub(super) fn place(&self) -> (String, u16) {
        (self.url.host().to_owned(), self.url.port())
    }
}

/// `Proxy-Authorization` for `user:password` as a URL has it (RFC 7617).
fn basic(userinfo: &Secret) -> Secret {
    let text = userinfo.expose();
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    percent_decode(user, &mut plain);
    plain.push(b':');
    percent_decode(password, &mut plain);
    let mut header = String::with_capacity(6 + plain.len().div_ceil(3) * 4);
    header.push_str("Basic ");
    STANDARD.encode_string(&*plain, &mut header);
    Secret::new(header)
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
        ] {
            let proxy = Proxy::parse(&Secret::new(written.to_owned())).unwrap();
            assert_eq!(proxy.place(), (host.to_owned(), port), "{written}");
        }
    }

    #[test]
    fn what_is_no_http_proxy_is_told_by_the_variable_s_name() {
        for wrong in
            ["socks5://me:canary@proxy:1080", "socks5h://proxy", "http://", "http://me:canary@:1", ":1"]
        {
            let all = proxies(&[("https_proxy", wrong), ("no_proxy", ".inside")]);
            let problem = all.problem_for(&url("https://dex.example/token")).unwrap();
            assert_eq!(problem.to_string(), "https_proxy is no http:// or https:// proxy", "{wrong}");
            // Go does not care about one that would not be used.
            assert_eq!(all.problem_for(&url("https://dex.inside/token")), None);
            assert_eq!(all.problem_for(&url("http://dex.example/token")), None);
        }
    }

    #[test]
    fn a_proxy_s_password_is_decoded_and_has_no_voice() {
        let all = proxies(&[("HTTPS_PROXY", "http://me:c%61nary%+f%zz@proxy:3128")]);
        let sent = all.https.as_ref().unwrap().as_ref().unwrap().authorization.as_ref().unwrap().expose();
        assert_eq!(sent, format!("Basic {}", STANDARD.encode("me:canary%+f%zz")));
        let debug = format!("{all:?}");
        assert!(!debug.contains("anary") && !debug.contains(&STANDARD.encode("me:canary")[..8]), "{debug}");
    }
}
