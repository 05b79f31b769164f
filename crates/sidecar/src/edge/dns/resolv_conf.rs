//! `/etc/resolv.conf`, read as Go reads it (net/dnsconfig_unix.go), with the limits of glibc's resolv.conf(5) for
//! `timeout` and `attempts`. Nothing in it is an error: what makes no sense is ignored, line by line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{address, fields};

/// The port of a name server.
const PORT: u16 = 53;
/// Further name servers are ignored, as by Go and glibc.
const MOST_SERVERS: usize = 3;
/// Upper bound of `ndots` (Go, glibc).
const MOST_DOTS: usize = 15;
/// Upper bound of `timeout`, in seconds (glibc's RES_MAXRETRANS).
const LONGEST_TIMEOUT: u64 = 30;
/// Upper bound of `attempts` (glibc's RES_MAXRETRY).
const MOST_ATTEMPTS: usize = 5;
/// Further search domains are ignored. The kubelet writes at most 32.
const MOST_DOMAINS: usize = 64;

/// How names are looked up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ResolvConf {
    /// The name servers, at least one, in the order in which they are asked.
    pub(super) servers: Vec<SocketAddr>,
    /// The search domains, without a final dot.
    pub(super) search: Vec<String>,
    /// A name with fewer dots goes through the search list before it is asked for as it stands.
    pub(super) ndots: usize,
    /// How long one server has for one answer.
    pub(super) timeout: Duration,
    /// How often all servers are asked.
    pub(super) attempts: usize,
    /// Begin with another server at each look-up.
    pub(super) rotate: bool,
    /// Ask over TCP only.
    pub(super) use_tcp: bool,
    /// Ask for A and AAAA one after the other.
    pub(super) single_request: bool,
    /// Set the AD bit in queries.
    pub(super) trust_ad: bool,
    /// Do not ask for AAAA.
    pub(super) no_aaaa: bool,
}

impl ResolvConf {
    /// Reads the file's content; an empty one gives the defaults. `hostname` is the machine's name: what stands behind
    /// its first dot is the search domain where none is set.
    pub(super) fn parse(content: &[u8], hostname: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            use_tcp: false,
            single_request: false,
            trust_ad: false,
            no_aaaa: false,
        };
        for line in content.split(|byte| *byte == b'\n') {
            if matches!(line.first(), Some(b'#' | b';')) {
                continue;
            }
            let line = String::from_utf8_lossy(line);
            let mut words = fields(&line);
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| address(word, PORT));
                    conf.servers.extend(server.filter(|_| conf.servers.len() < MOST_SERVERS));
                }
                Some("domain") => {
                    if let Some(domain) = words.next() {
                        conf.search = search_list([domain].into_iter());
                    }
                }
                Some("search") => conf.search = search_list(words),
                Some("options") => words.for_each(|option| conf.set(option)),
                _ => {}
            }
        }
        if conf.servers.is_empty() {
            let local: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            conf.servers = local.map(|ip| SocketAddr::new(ip, PORT)).into();
        }
        if conf.search.is_empty() {
            let domain = hostname.split_once('.').map(|(_, domain)| domain);
            conf.search = search_list(domain.filter(|domain| !domain.is_empty()).into_iter());
        }
        conf
    }

    fn set(&mut self, option: &str) {
        match option.split_once(':') {
            Some(("ndots", value)) => self.ndots = number(value).min(MOST_DOTS),
            Some(("timeout", value)) => {
                let seconds = u64::try_from(number(value)).unwrap_or(LONGEST_TIMEOUT);
                self.timeout = Duration::from_secs(seconds.clamp(1, LONGEST_TIMEOUT));
            }
            Some(("attempts", value)) => self.attempts = number(value).clamp(1, MOST_ATTEMPTS),
            Some(_) => {}
            None => match option {
                "rotate" => self.rotate = true,
                "single-request" | "single-request-reopen" => self.single_request = true,
                "use-vc" | "usevc" | "tcp" => self.use_tcp = true,
                "trust-ad" => self.trust_ad = true,
                "no-aaaa" => self.no_aaaa = true,
                // EDNS0 is used in any case. Others are unknown to Go too.
                _ => {}
            },
        }
    }

    /// The names to ask for, in this order: the name with each search domain behind it, and the name as it stands, which
    /// comes first where it has `ndots` dots or more, and alone where it ends with a dot.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(rooted) = name.strip_suffix('.') {
            return vec![rooted.to_owned()];
        }
        let longer = self.search.iter().map(|domain| format!("{name}.{domain}"));
        let as_it_stands = std::iter::once(name.to_owned());
        if name.matches('.').count() >= self.ndots {
            as_it_stands.chain(longer).collect()
        } else {
            longer.chain(as_it_stands).collect()
        }
    }
}

/// The domains of a `search` line. The root adds nothing to a name as it stands.
fn search_list<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let domains = words.map(|domain| domain.strip_suffix('.').unwrap_or(domain));
    domains.filter(|domain| !domain.is_empty()).take(MOST_DOMAINS).map(str::to_owned).collect()
}

/// The digits at the beginning; without any it is zero, and there is no overflow.
fn number(text: &str) -> usize {
    let digits = text.bytes().take_while(u8::is_ascii_digit);
    digits.fold(0, |number, digit| number.saturating_mul(10).saturating_add(usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ResolvConf {
        ResolvConf::parse(text.as_bytes(), "pod-7")
    }

    fn servers(text: &str) -> Vec<String> {
        parse(text).servers.iter().map(|server| server.ip().to_string()).collect()
    }

    #[test]
    fn the_file_of_a_pod_is_read() {
        let conf = parse(
            "search auth.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
        );
        assert_eq!(conf.servers, ["10.96.0.10:53".parse().unwrap()]);
        assert_eq!(conf.search, ["auth.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (5, 5, 2));
    }

    #[test]
    fn f133_what_makes_no_sense_spoils_nothing_else() {
        assert_eq!(
            servers("nameserver 10.0.0.1 # the first\nnameserver nonsense\nnameserver\nnameserver ::2"),
            ["10.0.0.1", "::2"]
        );
        assert_eq!(servers("\u{feff}nameserver 10.0.0.1\n nameserver\t10.0.0.2\r\n"), ["10.0.0.2"]);
        assert_eq!(
            servers("#nameserver 10.0.0.1\n;nameserver 10.0.0.2\nNAMESERVER 10.0.0.3"),
            ["127.0.0.1", "::1"]
        );
        assert_eq!(
            servers("nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\nnameserver 4.4.4.4").len(),
            3
        );
        assert_eq!(
            servers("nameserver 010.0.0.1\nnameserver 127.1\nnameserver 10.0.0.1#x"),
            ["127.0.0.1", "::1"]
        );
        assert_eq!(servers(""), ["127.0.0.1", "::1"]);
        let conf = ResolvConf::parse(b"\xff\xfe\x00\nsearch \xff.example a.example\nnameserver 10.0.0.1", "");
        assert_eq!((conf.servers.len(), conf.search.last().map(String::as_str)), (1, Some("a.example")));
    }

    #[test]
    fn options_have_go_s_bounds() {
        let of = |options: &str| {
            let conf = parse(&format!("options {options}"));
            (conf.ndots, conf.timeout.as_secs(), conf.attempts)
        };
        assert_eq!(of("ndots:x timeout:x attempts:x"), (0, 1, 1));
        assert_eq!(of("ndots:99 timeout:99 attempts:99"), (15, 30, 5));
        assert_eq!(of("ndots:99999999999999999999999999 timeout:3x attempts:"), (15, 3, 1));
        // Bare words, and switches with a value, are unknown to Go.
        assert_eq!(of("ndots timeout attempts"), (1, 5, 2));
        assert!(!parse("options rotate:x").rotate);
        let conf = parse("options rotate use-vc single-request-reopen edns0 unknown trust-ad no-aaaa inet6");
        assert!(conf.rotate && conf.use_tcp && conf.single_request && conf.trust_ad && conf.no_aaaa);
    }

    #[test]
    fn f129_a_search_list_of_any_length_is_used() {
        let domains: Vec<String> = (0..32).map(|n| format!("{n}.{}.example", "x".repeat(50))).collect();
        assert_eq!(parse(&format!("search {}", domains.join(" "))).search, domains);
        assert_eq!(parse("search a\nsearch b c\n").search, ["b", "c"]);
        assert_eq!(parse("search a b\ndomain c d\n").search, ["c"]);
        assert_eq!(parse("domain c\nsearch a. . b\n").search, ["a", "b"]);
        assert!(parse("search .").search.is_empty());
        assert_eq!(ResolvConf::parse(b"search .", "node.corp.example").search, ["corp.example"]);
        assert!(ResolvConf::parse(b"", "node.").search.is_empty());
    }

    #[test]
    fn f126_a_name_is_asked_for_as_it_stands_and_with_the_search_list() {
        let conf = parse("search a b\noptions ndots:2");
        assert_eq!(conf.candidates("dex"), ["dex.a", "dex.b", "dex"]);
        assert_eq!(conf.candidates("dex.auth"), ["dex.auth.a", "dex.auth.b", "dex.auth"]);
        assert_eq!(conf.candidates("dex.auth.svc"), ["dex.auth.svc", "dex.auth.svc.a", "dex.auth.svc.b"]);
        assert_eq!(conf.candidates("dex."), ["dex"]);
    }
}
