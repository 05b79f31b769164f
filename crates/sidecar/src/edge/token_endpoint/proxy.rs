//! Proxies by `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, read as Go reads them (golang.org/x/net/http/httpproxy).
//!
//! One difference on purpose: a plain-http endpoint is reached through a tunnel too, so that a proxy never sees a
//! token or a client's secret.

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::secret::Secret;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper_util::rt::TokioIo;

use super::{Connection, Progress, Roots, connect, tls};

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
    url: EndpointUrl,
    /// `Basic …`.
    authorization: Option<Secret>,
}

/// Which URLs go through which proxy.
#[derive(Debug, Default)]
pub struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    except: Vec<Exception>,
}

#[derive(Debug)]
enum Exception {
    All,
    Network(IpAddr, u32),
    Address(IpAddr, Option<u16>),
    /// The suffix begins with a dot; the flag says that the name without it is meant too.
    Domain(String, bool, Option<u16>),
}

impl Proxies {
    /// The variables that matter.
    pub const VARIABLES: [&'static str; 7] =
        ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"];

    /// Reads the variables of the process, handed in by a look-up.
    ///
    /// # Errors
    /// The variable that names an unusable proxy.
    pub fn read(variable: impl Fn(&str) -> Option<Secret>) -> Result<Self, ProxyProblem> {
        let either = |upper: &'static str, lower: &'static str| {
            let set = |name| variable(name).filter(|value| !value.is_empty());
            set(upper).map(|value| (upper, value)).or_else(|| set(lower).map(|value| (lower, value)))
        };
        let read = |found: Option<(&'static str, Secret)>| {
            found.map(|(name, value)| Proxy::parse(&value).ok_or(ProxyProblem(name))).transpose()
        };
        // In a CGI process HTTP_PROXY is what a client sent as a header.
        let cgi = variable("REQUEST_METHOD").is_some_and(|value| !value.is_empty());
        Ok(Self {
            https: read(either("HTTPS_PROXY", "https_proxy"))?,
            http: if cgi { None } else { read(either("HTTP_PROXY", "http_proxy"))? },
            except: either("NO_PROXY", "no_proxy")
                .map_or_else(Vec::new, |(_, list)| exceptions(list.expose())),
        })
    }

    /// The proxy for a URL, if it is to go through one. This machine never does.
    pub(super) fn for_url(&self, url: &EndpointUrl) -> Option<&Proxy> {
        let proxy = if url.is_tls() { self.https.as_ref() } else { self.http.as_ref() }?;
        let host = url.host().to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let here = host == "localhost" || address.is_some_and(|ip| ip.is_loopback());
        let excepted = self.except.iter().any(|exception| exception.covers(&host, address, url.port()));
        (!here && !excepted).then_some(proxy)
    }
}

fn exceptions(list: &str) -> Vec<Exception> {
    let mut all = Vec::new();
    for entry in list.split(',') {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return vec![Exception::All];
        }
        all.extend(Exception::parse(&entry));
    }
    all
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        if let Some((address, bits)) = entry.split_once('/')
            && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u32>())
        {
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Self::Network(address, bits));
        }
        // As net.SplitHostPort: an IPv6 address has a port only in brackets.
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (entry, None),
        };
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let port = match port {
            None | Some("") => None,
            Some(port) => Some(port.parse().ok()?),
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical(), port));
        }
        let host = if host.starts_with("*.") { &host[1..] } else { host };
        match host {
            "" => None,
            suffix if suffix.starts_with('.') => Some(Self::Domain(suffix.to_owned(), false, port)),
            name => Some(Self::Domain(format!(".{name}"), true, port)),
        }
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let right_port = |wanted: Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Self::All => true,
            Self::Network(network, bits) => address.is_some_and(|address| within(address, *network, *bits)),
            Self::Address(own, wanted) => address == Some(*own) && right_port(*wanted),
            Self::Domain(suffix, itself, wanted) => {
                (host.ends_with(suffix.as_str()) || *itself && host == &suffix[1..]) && right_port(*wanted)
            }
        }
    }
}

fn within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            (a.to_bits() ^ n.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            (a.to_bits() ^ n.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

impl Proxy {
    fn parse(value: &Secret) -> Option<Self> {
        let text = value.expose().trim();
        let (url, userinfo) = match EndpointUrl::parse(text) {
            Ok(parsed) => parsed,
            Err(_) if !text.contains("://") => EndpointUrl::parse(&format!("http://{text}")).ok()?,
            Err(_) => return None,
        };
        let authorization = userinfo.map(|userinfo| {
            let (user, password) =
                userinfo.expose().split_once(':').unwrap_or_else(|| (userinfo.expose(), ""));
            let mut plain = zeroize::Zeroizing::new(percent_decoded(user));
            plain.push(b':');
            plain.extend(&*zeroize::Zeroizing::new(percent_decoded(password)));
            Secret::new(format!("Basic {}", STANDARD.encode(&*plain)))
        });
        Some(Self { url, authorization })
    }

    /// Host and port.
    pub(super) fn place(&self) -> (String, u16) {
        (self.url.host().to_owned(), self.url.port())
    }

    /// A connection to the endpoint through this proxy (RFC 9110 §9.3.6).
    pub(super) async fn tunnel(
        &self,
        to: &EndpointUrl,
        roots: &Roots,
        rotation: usize,
        progress: &Cell<Progress>,
    ) -> Result<Connection, Failure> {
        let failed = |why: String| Failure::new(Code::ProxyFailed, format!("{}: {why}", self.url.origin()));
        let stream = connect::connect(self.url.host(), self.url.port(), rotation, progress)
            .await
            .map_err(|failure| failed(failure.to_string()))?;
        let mut connection: Connection = Box::new(stream);
        progress.set(Progress::Tunnelling(self.url.origin()));
        if self.url.is_tls() {
            let handshake = tls::handshake(roots, self.url.host(), connection).await;
            connection = Box::new(handshake.map_err(|failure| failed(failure.to_string()))?.0);
        }
        let lost = |error: hyper::Error| failed(error.to_string());
        let (mut sender, driver) = http1::handshake(TokioIo::new(connection)).await.map_err(lost)?;
        // Ends with the tunnel, or when `sender` is dropped.
        tokio::spawn(driver.with_upgrades());
        let host = if to.host().contains(':') { format!("[{}]", to.host()) } else { to.host().to_owned() };
        let place = format!("{host}:{}", to.port());
        let mut request = hyper::Request::connect(&place).header(header::HOST, &place);
        if let Some(authorization) = &self.authorization
            && let Ok(mut value) = HeaderValue::from_str(authorization.expose())
        {
            value.set_sensitive(true);
            request = request.header(header::PROXY_AUTHORIZATION, value);
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|_| failed("no request could be made".to_owned()))?;
        let response = sender.send_request(request).await.map_err(lost)?;
        if !response.status().is_success() {
            return Err(failed(format!("it answers {}", response.status().as_u16())));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(lost)?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }
}

/// `%XX` decoded, everything else as it is.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut out = Vec::with_capacity(text.len());
    while let [byte, after @ ..] = rest {
        let digits =
            after.get(..2).filter(|_| *byte == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
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
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, ProxyProblem> {
        Proxies::read(|name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| Secret::new((*value).to_owned()))
        })
    }

    fn url(text: &str) -> EndpointUrl {
        EndpointUrl::parse(text).unwrap().0
    }

    fn proxied(no_proxy: &str, to: &str) -> bool {
        let variables =
            [("HTTPS_PROXY", "proxy:3128"), ("HTTP_PROXY", "http://other:8080"), ("NO_PROXY", no_proxy)];
        proxies(&variables).unwrap().for_url(&url(to)).is_some()
    }

    /// What golang.org/x/net/http/httpproxy does with the same lists.
    #[test]
    fn f18_exceptions_mean_what_they_mean_to_go() {
        for (list, to, through) in [
            ("", "https://dex.example/token", true),
            ("", "https://localhost/token", false),
            ("", "https://127.0.0.9/token", false),
            ("", "http://[::1]:5556/token", false),
            ("*", "https://dex.example/token", false),
            ("example", "https://dex.example/token", false),
            (".example", "https://dex.example/token", false),
            ("*.example", "https://dex.example/token", false),
            ("dex.example", "https://DEX.example/token", false),
            (".dex.example", "https://dex.example/token", true),
            ("ex.example", "https://dex.example/token", true),
            ("dex.example:443", "https://dex.example/token", false),
            ("dex.example:5556", "https://dex.example/token", true),
            ("10.0.0.0/8", "https://10.1.2.3/token", false),
            ("10.0.0.0/8", "https://11.1.2.3/token", true),
            ("0.0.0.0/0", "https://11.1.2.3/token", false),
            ("10.1.2.3", "https://10.1.2.3:5556/token", false),
            ("10.1.2.3:80", "https://10.1.2.3:5556/token", true),
            ("fd00::/8", "https://[fd00::1]/token", false),
            ("[fd00::1]:443", "https://[fd00::1]/token", false),
            ("fd00::1", "https://[fd00::1]/token", false),
            (" one , dex.example ,", "https://dex.example/token", false),
            ("10.0.0.0/99, :80, .", "https://10.1.2.3/token", true),
        ] {
            assert_eq!(proxied(list, to), through, "NO_PROXY={list} {to}");
        }
    }

    #[test]
    fn each_scheme_has_its_variable_and_upper_case_wins() {
        let both = proxies(&[("HTTPS_PROXY", "a:1"), ("https_proxy", "b:2"), ("http_proxy", "c:3")]).unwrap();
        let place = |to: &str| both.for_url(&url(to)).unwrap().place();
        assert_eq!(place("https://dex.example/token"), ("a".to_owned(), 1));
        assert_eq!(place("http://dex.example/token"), ("c".to_owned(), 3));
        let cgi = proxies(&[("HTTP_PROXY", "evil:1"), ("REQUEST_METHOD", "GET")]).unwrap();
        assert!(cgi.for_url(&url("http://dex.example/token")).is_none());
    }

    #[test]
    fn what_is_no_http_proxy_is_told_by_the_variable_s_name() {
        let told = proxies(&[("https_proxy", "socks5://canary:1080")]).unwrap_err().to_string();
        assert_eq!(told, "https_proxy is no http:// or https:// proxy");
    }

    #[test]
    fn a_proxy_s_password_is_decoded_and_has_no_voice() {
        let proxy = Proxy::parse(&Secret::new("http://me:c%61nary%@proxy:3128".to_owned())).unwrap();
        let expected = format!("Basic {}", STANDARD.encode("me:canary%"));
        assert_eq!(proxy.authorization.as_ref().unwrap().expose(), expected);
        assert!(!format!("{proxy:?}").contains("anary"));
    }
}
