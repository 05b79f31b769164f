//! The order in which the addresses of a name are tried: rules 1 and 6 of RFC 6724 §6, the two that decide between families.
//! The others choose among addresses that Happy Eyeballs tries one after the other anyway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Puts those that this machine has a way to first, and among them those of higher precedence. Otherwise the order stays.
pub(super) fn sort(addresses: &mut [SocketAddr]) {
    if addresses.len() > 1 {
        addresses.sort_by_cached_key(|address| {
            (!is_routed(address.ip()), std::cmp::Reverse(precedence(address.ip())))
        });
    }
}

/// Whether there is a route and a source address.
pub(super) fn is_routed(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // The port of DNS, as good as any: nothing is sent.
    UdpSocket::bind((any, 0)).is_ok_and(|socket| socket.connect((ip, 53)).is_ok())
}

/// The policy table of RFC 6724 §2.1.
fn precedence(ip: IpAddr) -> u8 {
    let IpAddr::V6(ip) = ip else { return 35 };
    match ip.segments() {
        _ if ip.is_loopback() => 50,
        [0, 0, 0, 0, 0, 0xffff, ..] => 35,
        [0x2002, ..] => 30,
        [0x2001, 0, ..] => 5,
        _ if ip.is_unique_local() => 3,
        [first, ..] if first & 0xffc0 == 0xfec0 => 1,
        [0x3ffe, ..] => 1,
        [0, 0, 0, 0, 0, 0, ..] => 1,
        _ => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_is_that_of_rfc_6724() {
        for (address, value) in [
            ("::1", 50),
            ("2a00::1", 40),
            ("fe80::1", 40),
            ("10.0.0.1", 35),
            ("::ffff:10.0.0.1", 35),
            ("2002::1", 30),
            ("2001:0:1::1", 5),
            ("fd00::1", 3),
            ("fec0::1", 1),
            ("3ffe::1", 1),
            ("::5", 1),
        ] {
            assert_eq!(precedence(address.parse().unwrap()), value, "{address}");
        }
    }

    #[test]
    fn loopback_of_version_6_comes_first_and_the_order_stays_otherwise() {
        let parse = |list: [&str; 3]| list.map(|address| address.parse::<SocketAddr>().unwrap());
        let mut addresses = parse(["127.0.0.2:7", "127.0.0.1:7", "[::1]:7"]);
        let has_v6 = is_routed(addresses[2].ip());
        sort(&mut addresses);
        let expected = if has_v6 {
            ["[::1]:7", "127.0.0.2:7", "127.0.0.1:7"]
        } else {
            ["127.0.0.2:7", "127.0.0.1:7", "[::1]:7"]
        };
        assert_eq!(addresses, parse(expected));
    }
}
