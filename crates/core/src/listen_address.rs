//! The address of the listener: an IP address and a port, or `:PORT` for all addresses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What would be right, for the error about an invalid address.
pub const FIX: &str = "use an IP address and a port from 1 to 65535, such as 127.0.0.1:9090 or [::1]:9090, \
                       or :9090 for all addresses";

/// Parses `127.0.0.1:9090`, `[::1]:9090` or `:9090`. The last one is `[::]:9090`, which includes
/// all addresses of IPv4. Port 0 lets the kernel choose a port.
///
/// # Errors
/// What is wrong, to follow the name of the setting.
pub fn parse(text: &str) -> Result<SocketAddr, &'static str> {
    let Some((host, port)) = text.rsplit_once(':') else { return Err("has no port") };
    // `+1` is a number for Rust.
    let Some(port) = port.parse().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit())) else {
        return Err("has no valid port");
    };
    if host.is_empty() {
        return Ok(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port));
    }
    let ip = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host.parse().map(IpAddr::V6).ok(),
        None => host.parse().map(IpAddr::V4).ok(),
    };
    ip.map(|ip| SocketAddr::new(ip, port)).ok_or("has no valid IP address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_an_ip_address_or_nothing_before_its_port() {
        for (text, shown) in [
            (":9090", "[::]:9090"),
            ("0.0.0.0:9090", "0.0.0.0:9090"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::]:65535", "[::]:65535"),
            ("[::1]:9090", "[::1]:9090"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), Ok(shown), "{text}");
        }
        for (text, what) in [
            ("", "has no port"),
            ("9090", "has no port"),
            ("localhost", "has no port"),
            ("localhost:9090", "has no valid IP address"),
            ("::1:9090", "has no valid IP address"),
            ("[127.0.0.1]:9090", "has no valid IP address"),
            ("127.0.0.1", "has no port"),
            ("127.0.0.1:", "has no valid port"),
            ("127.0.0.1:65536", "has no valid port"),
            ("127.0.0.1:+80", "has no valid port"),
            (" :9090", "has no valid IP address"),
            (":9090/metrics", "has no valid port"),
            ("http://127.0.0.1:9090", "has no valid IP address"),
        ] {
            assert_eq!(parse(text), Err(what), "{text}");
        }
    }
}
