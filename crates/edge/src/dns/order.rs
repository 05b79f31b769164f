//! The order in which the addresses of a name are tried: rules 1 and 6 of RFC 6724 §6, which decide
//! between families. The other rules are left out: Happy Eyeballs tries all addresses of a family
//! anyway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// All values of [`precedence`], highest first.
const PRECEDENCES: [u8; 7] = [50, 40, 35, 30, 5, 3, 1];

/// Sorts addresses with a route first, then by precedence. Otherwise the order is kept.
pub(super) fn sort(addresses: &mut Vec<SocketAddr>) {
    if addresses.len() < 2 {
        return;
    }
    let known: Vec<_> = addresses
        .drain(..)
        .map(|address| (is_routed(address.ip()), precedence(address.ip()), address))
        .collect();
    // Selecting by value avoids linking a sort, which is larger than this loop.
    for routed in [true, false] {
        for value in PRECEDENCES {
            let matching = known.iter().filter(|(route, rank, _)| (*route, *rank) == (routed, value));
            addresses.extend(matching.map(|(_, _, address)| *address));
        }
    }
}

/// Whether this machine has a route and a source address for `ip`.
pub(super) fn is_routed(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // `connect` on a UDP socket sends nothing. Any port would do; 53 is that of DNS.
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
    fn precedence_follows_rfc_6724() {
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
            assert!(PRECEDENCES.contains(&value));
        }
    }

    #[test]
    fn ipv6_loopback_comes_first_and_the_order_is_kept_otherwise() {
        let parse = |list: [&str; 3]| list.map(|address| address.parse::<SocketAddr>().unwrap()).to_vec();
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
