//! What `check` reports of the steps to Dex that succeeded: DNS, TCP, TLS.

use std::net::SocketAddr;

use dexsidecar_core::time::UnixTime;
use dexsidecar_edge::dns::AnsweredBy;
use dexsidecar_edge::http_client::{AddressSource, Certificate, Route, Session};

/// How many certificates of a chain are described.
const MOST_NOTES: usize = 4;
/// A server certificate with fewer days left gets a note.
const FEW_DAYS: u64 = 7;

/// As `dex.auth: 10.0.0.7 (IPv4; DNS server 10.96.0.10, search domain svc.cluster.local)`.
pub(super) fn name(host: &str, addresses: &[SocketAddr], origin: &AddressSource, route: &Route) -> String {
    let shown = match route {
        Route::Proxied { variable, .. } => format!("{host} (the proxy of {variable})"),
        _ => host.to_owned(),
    };
    let known_by = match origin {
        AddressSource::Literal => return format!("{shown} is an address, no lookup"),
        AddressSource::Localhost => "this machine, no lookup".to_owned(),
        AddressSource::Lookup(AnsweredBy::Hosts) => "/etc/hosts".to_owned(),
        AddressSource::Lookup(AnsweredBy::Dns { server, name }) => {
            let requested = host.strip_suffix('.').unwrap_or(host);
            let domain = name.strip_prefix(requested).and_then(|domain| domain.strip_prefix('.'));
            let domain = domain.map_or_else(String::new, |domain| format!(", search domain {domain}"));
            format!("DNS server {}{domain}", server.ip())
        }
    };
    let families =
        match (addresses.iter().any(SocketAddr::is_ipv4), addresses.iter().any(SocketAddr::is_ipv6)) {
            (true, true) => "IPv4 and IPv6",
            (true, false) => "IPv4",
            (false, _) => "IPv6",
        };
    let addresses: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    format!("{shown}: {} ({families}; {known_by})", addresses.join(", "))
}

/// As `10.0.0.7:443, no proxy`.
pub(super) fn connection(peer: &str, route: &Route) -> String {
    match route {
        Route::Direct => format!("{peer}, no proxy"),
        Route::DirectToLoopback { variable } => {
            format!("{peer}, not through the proxy of {variable}: the host is this machine")
        }
        Route::DirectByNoProxy { variable } => {
            format!("{peer}, not through the proxy of {variable}: NO_PROXY lists the host")
        }
        // The peer already names the proxy of a tunnel.
        Route::Proxied { variable, .. } if peer.contains(" through the proxy ") => {
            format!("{peer} ({variable})")
        }
        Route::Proxied { variable, .. } => format!("{peer}, the proxy of {variable}"),
    }
}

/// As `TLS 1.3; CN=dex, issued by CN=ca, ECDSA P-256, 89 days left; trusted certificates: 1`.
pub(super) fn tls(session: &Session, now: UnixTime) -> (String, Vec<String>) {
    let now = rustls::pki_types::UnixTime::since_unix_epoch(now.as_duration());
    let describe = |certificate: &Certificate| {
        let Certificate { subject, issuer, key, .. } = certificate;
        let subject = if subject.is_empty() { "no subject" } else { subject };
        format!("{subject}, issued by {issuer}, {key}, {} days left", certificate.days_left(now))
    };
    let mut chain = session.chain.iter();
    let server = chain.next();
    let first = server.map_or_else(|| "a certificate of an unknown form".to_owned(), describe);
    let mut notes: Vec<_> =
        chain.by_ref().take(MOST_NOTES).map(|further| format!("also sent: {}", describe(further))).collect();
    match chain.count() {
        0 => {}
        more => notes.push(format!("also sent: {more} more")),
    }
    if server.is_some_and(|server| server.days_left(now) < FEW_DAYS) {
        notes.push("the server's certificate expires soon".to_owned());
    }
    (format!("{}; {first}; trusted certificates: {}", session.version, session.trusted), notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_is_described() {
        let addresses = ["10.0.0.7:443".parse().unwrap(), "[fd00::7]:443".parse().unwrap()];
        let dns = |name: &str| {
            AddressSource::Lookup(AnsweredBy::Dns {
                server: "10.96.0.10:53".parse().unwrap(),
                name: name.to_owned(),
            })
        };
        let described =
            |host, addresses: &[SocketAddr], origin| name(host, addresses, &origin, &Route::Direct);
        assert_eq!(
            described("dex.auth", &addresses, dns("dex.auth.svc.cluster.local")),
            "dex.auth: 10.0.0.7, fd00::7 (IPv4 and IPv6; DNS server 10.96.0.10, search domain svc.cluster.local)"
        );
        assert_eq!(
            described("dex.", &addresses[1..], dns("dex")),
            "dex.: fd00::7 (IPv6; DNS server 10.96.0.10)"
        );
        assert_eq!(
            described("dex", &addresses[..1], AddressSource::Lookup(AnsweredBy::Hosts)),
            "dex: 10.0.0.7 (IPv4; /etc/hosts)"
        );
        let route = Route::Proxied { proxy: "http://proxy:1".to_owned(), variable: "HTTPS_PROXY" };
        assert_eq!(
            name("proxy", &addresses[..1], &dns("proxy.corp.example"), &route),
            "proxy (the proxy of HTTPS_PROXY): 10.0.0.7 (IPv4; DNS server 10.96.0.10, search domain corp.example)"
        );
        assert_eq!(
            described("10.0.0.7", &addresses[..1], AddressSource::Literal),
            "10.0.0.7 is an address, no lookup"
        );
    }

    #[test]
    fn a_route_is_described_with_its_reason() {
        let variable = "HTTPS_PROXY";
        for (route, words) in [
            (Route::Direct, "p, no proxy"),
            (
                Route::DirectToLoopback { variable },
                "p, not through the proxy of HTTPS_PROXY: the host is this machine",
            ),
            (
                Route::DirectByNoProxy { variable },
                "p, not through the proxy of HTTPS_PROXY: NO_PROXY lists the host",
            ),
            (Route::Proxied { proxy: "http://x:1".to_owned(), variable }, "p, the proxy of HTTPS_PROXY"),
        ] {
            assert_eq!(connection("p", &route), words);
        }
        let route = Route::Proxied { proxy: "http://x:1".to_owned(), variable };
        let tunnel = "dex:443 through the proxy http://x:1";
        assert_eq!(connection(tunnel, &route), "dex:443 through the proxy http://x:1 (HTTPS_PROXY)");
    }
}
