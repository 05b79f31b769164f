//! Resolves a host to the addresses to connect to. Addresses and `localhost` names need no lookup;
//! all other names are looked up at each attempt.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dexsidecar_core::endpoint_url::is_localhost;
use dexsidecar_core::failure::{Code, Failure, plain};

use super::super::dns::{self, AnsweredBy, Found};
use super::{Progress, Stage};

/// How the addresses of a host were found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AddressSource {
    /// The host is an IP address.
    Literal,
    /// The host is `localhost` or a name below it (RFC 6761 §6.3).
    Localhost,
    /// Found by a lookup.
    Lookup(AnsweredBy),
}

/// Returns the addresses of a host, at least one, in the order in which to try them.
///
/// # Errors
/// [`Code::NameNotFound`], [`Code::NameLookupFailed`].
pub(super) async fn resolve(
    host: &str,
    port: u16,
    progress: &Progress,
) -> Result<(Vec<SocketAddr>, AddressSource), Failure> {
    progress.enter(Stage::Resolving(host.to_owned()));
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok((vec![(address, port).into()], AddressSource::Literal));
    }
    // No DNS query: plain HTTP to localhost is allowed, and DNS could redirect it to another
    // machine.
    if is_localhost(host) {
        let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok((here.map(|ip| SocketAddr::new(ip, port)).into(), AddressSource::Localhost));
    }
    let note = |errors: &str| progress.enter(Stage::Resolving(format!("{host} ({errors})")));
    // Boxed: the lookup's future is large, and most of an attempt runs without it.
    match Box::pin(dns::look_up(host, port, &note)).await {
        Ok(Found { addresses, source }) => Ok((addresses, AddressSource::Lookup(source))),
        Err(why) => {
            let code = if why.is_absent { Code::NameNotFound } else { Code::NameLookupFailed };
            Err(Failure::new(code, plain(&why.detail, 512)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_and_localhost_names_need_no_lookup() {
        let progress = Progress::default();
        let v6 = resolve("::1", 7, &progress).await.unwrap();
        assert_eq!(v6, (vec!["[::1]:7".parse().unwrap()], AddressSource::Literal));
        for name in ["localhost", "LOCALHOST.", "dex.localhost"] {
            let here = vec!["127.0.0.1:7".parse().unwrap(), "[::1]:7".parse().unwrap()];
            assert_eq!(
                resolve(name, 7, &progress).await.unwrap(),
                (here, AddressSource::Localhost),
                "{name}"
            );
        }
    }
}
