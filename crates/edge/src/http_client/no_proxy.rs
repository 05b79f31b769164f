//! `NO_PROXY`, parsed exactly as Go parses it (golang.org/x/net/http/httpproxy).

use std::net::IpAddr;

/// The hosts that are reached without a proxy.
#[derive(Debug, Default)]
pub(super) struct NoProxy(Vec<Entry>);

#[derive(Debug)]
enum Entry {
    /// `*`
    All,
    /// `10.0.0.0/8`
    Network(IpAddr, u32),
    /// `10.1.2.3` or `10.1.2.3:443`
    Address(IpAddr, Port),
    /// `.example`, or `example` with the flag set, which also covers the name itself.
    Domain(String, bool, Port),
}

/// A port as written, since Go compares ports as text. Empty covers every port.
type Port = String;

impl NoProxy {
    /// Parses a comma-separated list. Invalid entries cover nothing.
    pub(super) fn parse(list: &str) -> Self {
        Self(list.to_lowercase().split(',').filter_map(|entry| Entry::parse(entry.trim())).collect())
    }

    /// Whether an entry covers this host (in lower case) and port. `address` is the host, if it is
    /// an IP address.
    pub(super) fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let port = port.to_string();
        let port_matches = |listed: &Port| listed.is_empty() || *listed == port;
        self.0.iter().any(|entry| match (entry, address) {
            (Entry::All, _) => true,
            (Entry::Network(network, bits), Some(address)) => contains(*network, *bits, address),
            (Entry::Address(listed, port), Some(address)) => *listed == address && port_matches(port),
            (Entry::Domain(suffix, with_apex, port), None) => {
                (host.ends_with(suffix) || *with_apex && host == &suffix[1..]) && port_matches(port)
            }
            _ => false,
        })
    }
}

impl Entry {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some((network, bits)) = entry.split_once('/')
            && let Some(network) = network_of(network, bits)
        {
            return Some(network);
        }
        let (host, port) = host_and_port(entry);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical(), port.to_owned()));
        }
        let host = if host.starts_with("*.") { &host[1..] } else { host };
        match host.chars().next()? {
            '.' => Some(Self::Domain(host.to_owned(), false, port.to_owned())),
            _ => Some(Self::Domain(format!(".{host}"), true, port.to_owned())),
        }
    }
}

/// Parses a network as Go's `net.ParseCIDR` does.
fn network_of(address: &str, bits: &str) -> Option<Entry> {
    let address: IpAddr = address.parse().ok()?;
    let bits: u32 = bits.bytes().all(|digit| digit.is_ascii_digit()).then(|| bits.parse().ok())??;
    if bits > if address.is_ipv4() { 32 } else { 128 } {
        return None;
    }
    Some(match address.to_canonical() {
        mapped if mapped.is_ipv4() != address.is_ipv4() && bits >= 96 => Entry::Network(mapped, bits - 96),
        _ => Entry::Network(address, bits),
    })
}

/// Splits host and port as Go's `net.SplitHostPort` does: an IPv6 address has brackets if and only
/// if a port follows.
fn host_and_port(entry: &str) -> (&str, &str) {
    match entry.rsplit_once(':') {
        Some((host, port)) if host.starts_with('[') && host.ends_with(']') => {
            (&host[1..host.len() - 1], port)
        }
        Some((host, port)) if !host.contains([':', '[', ']']) && !port.contains(']') => (host, port),
        _ => (entry, ""),
    }
}

fn contains(network: IpAddr, bits: u32, address: IpAddr) -> bool {
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

#[cfg(test)]
mod tests {
    use dexsidecar_core::endpoint_url::EndpointUrl;
    use dexsidecar_core::secret::Secret;

    use super::super::Proxies;

    /// Recorded from `http.ProxyFromEnvironment` of Go 1.26: the list, the URL, and whether the
    /// proxy is used.
    const GO_RESULTS: &[(&str, &str, bool)] = &[
        ("", "https://dex.example/token", true),
        ("", "https://localhost/token", false),
        ("", "https://sub.localhost/token", true),
        ("", "https://127.0.0.9/token", false),
        ("", "http://[::1]:5556/token", false),
        ("", "http://[::ffff:127.0.0.1]/token", false),
        ("*", "https://dex.example/token", false),
        ("*", "https://10.1.2.3/token", false),
        ("a.example,*", "https://dex.example/token", false),
        ("*.*", "https://dex.example/token", true),
        ("*example", "https://dex.example/token", true),
        ("example", "https://dex.example/token", false),
        (".example", "https://dex.example/token", false),
        ("*.example", "https://dex.example/token", false),
        ("example", "https://example/token", false),
        (".example", "https://example/token", true),
        ("*.example", "https://example/token", true),
        ("dex.example", "https://DEX.example/token", false),
        ("DEX.EXAMPLE", "https://dex.example/token", false),
        (".dex.example", "https://dex.example/token", true),
        ("ex.example", "https://dex.example/token", true),
        ("dex.example.", "https://dex.example/token", true),
        ("dex.example", "https://dex.example./token", true),
        ("dex.example:443", "https://dex.example/token", false),
        ("dex.example:443", "https://dex.example:443/token", false),
        ("dex.example:443", "http://dex.example/token", true),
        ("dex.example:80", "http://dex.example/token", false),
        ("dex.example:5556", "https://dex.example/token", true),
        ("dex.example:5556", "https://dex.example:5556/token", false),
        (".example:5556", "https://dex.example:5556/token", false),
        ("*.example:5556", "https://dex.example/token", true),
        ("dex.example:", "https://dex.example/token", false),
        ("dex.example:0443", "https://dex.example/token", true),
        ("dex.example:+443", "https://dex.example/token", true),
        ("dex.example:https", "https://dex.example/token", true),
        ("http://dex.example", "https://dex.example/token", true),
        ("dex.example/token", "https://dex.example/token", true),
        ("10.0.0.0/8", "https://10.1.2.3/token", false),
        ("10.9.9.9/8", "https://10.1.2.3/token", false),
        ("10.0.0.0/8", "https://11.1.2.3/token", true),
        ("10.0.0.0/8", "https://[::ffff:10.1.2.3]/token", false),
        ("::ffff:10.0.0.0/104", "https://10.1.2.3/token", false),
        ("::ffff:10.0.0.0/104", "https://11.1.2.3/token", true),
        ("10.0.0.0/8", "https://dex.example/token", true),
        ("0.0.0.0/0", "https://11.1.2.3/token", false),
        ("0.0.0.0/0", "https://[fd00::1]/token", true),
        ("::/0", "https://[fd00::1]/token", false),
        ("::/0", "https://11.1.2.3/token", true),
        ("10.0.0.0/33", "https://10.1.2.3/token", true),
        ("10.0.0.0/+8", "https://10.1.2.3/token", true),
        ("10.0.0.0/08", "https://10.1.2.3/token", false),
        ("10.0.0/8", "https://10.0.0.1/token", true),
        ("10.0.0.0/8:443", "https://10.1.2.3/token", true),
        ("10.1.2.3/32", "https://10.1.2.3/token", false),
        ("10.1.2.3/32", "https://10.1.2.4/token", true),
        ("10.1.2.3", "https://10.1.2.3:5556/token", false),
        ("10.1.2.3:5556", "https://10.1.2.3:5556/token", false),
        ("10.1.2.3:80", "https://10.1.2.3:5556/token", true),
        ("10.1.2.3:", "https://10.1.2.3:5556/token", false),
        ("010.1.2.3", "https://10.1.2.3/token", true),
        ("::ffff:10.1.2.3", "https://10.1.2.3/token", false),
        ("10.1.2.3", "https://[::ffff:10.1.2.3]/token", false),
        ("2.3", "https://10.1.2.3/token", true),
        (".2.3", "https://10.1.2.3/token", true),
        ("fd00::/8", "https://[fd00::1]/token", false),
        ("fd00::/8", "https://[fe00::1]/token", true),
        ("fd00::1/128", "https://[fd00::1]/token", false),
        ("fd00::1/128", "https://[fd00::2]/token", true),
        ("[fd00::1]:443", "https://[fd00::1]/token", false),
        ("[fd00::1]:80", "https://[fd00::1]/token", true),
        ("[fd00::1]", "https://[fd00::1]/token", true),
        ("fd00::1", "https://[fd00::1]/token", false),
        ("FD00:0::1", "https://[fd00::1]/token", false),
        ("[fd00::/8]", "https://[fd00::1]/token", true),
        (" one , dex.example ,", "https://dex.example/token", false),
        ("one dex.example", "https://dex.example/token", true),
        ("one;dex.example", "https://dex.example/token", true),
        ("10.0.0.0/99, :80, ., ,", "https://10.1.2.3/token", true),
        (":443", "https://dex.example/token", true),
        (".", "https://dex.example/token", true),
        (".", "https://dex.example./token", false),
        (".svc,.cluster.local", "https://dex.auth.svc/token", false),
        (".svc,.cluster.local", "https://dex.auth.svc.cluster.local:5556/token", false),
        ("dex", "https://dex/token", false),
        ("a:b:c", "https://dex.example/token", true),
    ];

    #[test]
    fn f018_no_proxy_entries_have_the_same_effect_as_in_go() {
        for (list, to, proxied) in GO_RESULTS {
            let proxies = Proxies::read(|name| {
                let value = match name {
                    "HTTPS_PROXY" | "HTTP_PROXY" => "http://proxy:3128",
                    "NO_PROXY" => list,
                    _ => return None,
                };
                Some(Secret::new(value.to_owned()))
            });
            let url = EndpointUrl::parse(to).unwrap().0;
            assert_eq!(proxies.for_url(&url).is_some(), *proxied, "NO_PROXY={list} {to}");
        }
    }
}
