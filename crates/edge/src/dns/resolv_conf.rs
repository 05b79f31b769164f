//! `/etc/resolv.conf`, parsed as Go parses it (net/dnsconfig_unix.go), with the limits of glibc's
//! resolv.conf(5) for `timeout` and `attempts`. Nothing in it is an error: invalid lines are
//! ignored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{address, fields};

/// The port of name servers; the file has no syntax for another.
const PORT: u16 = 53;
/// Further name servers are ignored (Go, glibc).
const MOST_SERVERS: usize = 3;
/// Upper bound of `ndots` (Go, glibc).
const MOST_DOTS: usize = 15;
/// Upper bound of `timeout`, in seconds (glibc's RES_MAXRETRANS).
const LONGEST_TIMEOUT: u64 = 30;
/// Upper bound of `attempts` (glibc's RES_MAXRETRY).
const MOST_ATTEMPTS: usize = 5;
/// Further search domains are ignored. The kubelet writes at most 32.
const MOST_DOMAINS: usize = 64;

/// The settings for DNS lookups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ResolvConf {
    /// The name servers, at least one, in query order.
    pub(super) servers: Vec<SocketAddr>,
    /// The search domains, without a final dot.
    pub(super) search: Vec<String>,
    /// A name with fewer dots than this is tried with the search domains first, then as given.
    pub(super) ndots: usize,
    /// The time limit for one query to one server.
    pub(super) timeout: Duration,
    /// How often the list of servers is queried.
    pub(super) attempts: usize,
    /// Start with a random server at each lookup.
    pub(super) rotate: bool,
    /// Query over TCP only.
    pub(super) use_tcp: bool,
    /// Query A and AAAA one after the other.
    pub(super) single_request: bool,
    /// Set the AD bit in queries.
    pub(super) trust_ad: bool,
    /// Do not query AAAA.
    pub(super) no_aaaa: bool,
}

impl ResolvConf {
    /// Parses the content of the file; empty content gives the defaults. `hostname` is the name of
    /// this machine: without a `search` or `domain` line, the part after its first dot is the
    /// search domain.
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
            let mut fields = fields(&line);
            match fields.next() {
                Some("nameserver") => {
                    let server = fields.next().and_then(|field| address(field, PORT));
                    conf.servers.extend(server.filter(|_| conf.servers.len() < MOST_SERVERS));
                }
                Some("domain") => {
                    if let Some(domain) = fields.next() {
                        conf.search = search_list([domain].into_iter());
                    }
                }
                Some("search") => conf.search = search_list(fields),
                Some("options") => fields.for_each(|option| conf.set(option)),
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
                // EDNS0 is always used. Go ignores the other options too.
                _ => {}
            },
        }
    }

    /// The names to query, in this order: the name with each search domain appended, then the name
    /// as given. With `ndots` dots or more, the name as given comes first. A name with a final dot
    /// is only queried as given.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(rooted) = name.strip_suffix('.') {
            return vec![rooted.to_owned()];
        }
        let qualified = self.search.iter().map(|domain| format!("{name}.{domain}"));
        let as_given = std::iter::once(name.to_owned());
        if name.matches('.').count() >= self.ndots {
            as_given.chain(qualified).collect()
        } else {
            qualified.chain(as_given).collect()
        }
    }
}

/// The domains of a `search` line. The root domain is left out: it yields the name as given.
fn search_list<'a>(domains: impl Iterator<Item = &'a str>) -> Vec<String> {
    let domains = domains.map(|domain| domain.strip_suffix('.').unwrap_or(domain));
    domains.filter(|domain| !domain.is_empty()).take(MOST_DOMAINS).map(str::to_owned).collect()
}

/// Parses the leading digits, as Go does: 0 without any, saturating on overflow.
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
    fn a_pods_resolv_conf_is_parsed() {
        let conf = parse(
            "search auth.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
        );
        assert_eq!(conf.servers, ["10.96.0.10:53".parse().unwrap()]);
        assert_eq!(conf.search, ["auth.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (5, 5, 2));
    }

    #[test]
    fn f133_invalid_lines_do_not_affect_valid_ones() {
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
    fn options_are_clamped_as_by_go() {
        let of = |options: &str| {
            let conf = parse(&format!("options {options}"));
            (conf.ndots, conf.timeout.as_secs(), conf.attempts)
        };
        assert_eq!(of("ndots:x timeout:x attempts:x"), (0, 1, 1));
        assert_eq!(of("ndots:99 timeout:99 attempts:99"), (15, 30, 5));
        assert_eq!(of("ndots:99999999999999999999999999 timeout:3x attempts:"), (15, 3, 1));
        // Go ignores these options without a value, and `rotate` with one.
        assert_eq!(of("ndots timeout attempts"), (1, 5, 2));
        assert!(!parse("options rotate:x").rotate);
        let conf = parse("options rotate use-vc single-request-reopen edns0 unknown trust-ad no-aaaa inet6");
        assert!(conf.rotate && conf.use_tcp && conf.single_request && conf.trust_ad && conf.no_aaaa);
    }

    #[test]
    fn f129_a_search_list_of_2_kb_and_32_domains_is_used() {
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
    fn f126_names_are_tried_as_given_and_with_the_search_list() {
        let conf = parse("search a b\noptions ndots:2");
        assert_eq!(conf.candidates("dex"), ["dex.a", "dex.b", "dex"]);
        assert_eq!(conf.candidates("dex.auth"), ["dex.auth.a", "dex.auth.b", "dex.auth"]);
        assert_eq!(conf.candidates("dex.auth.svc"), ["dex.auth.svc", "dex.auth.svc.a", "dex.auth.svc.b"]);
        assert_eq!(conf.candidates("dex."), ["dex"]);
    }
}
