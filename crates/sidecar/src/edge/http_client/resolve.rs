//! From a host to the addresses to connect to: an address stands for itself, this machine's own names need no look-up, and
//! everything else is looked up at each attempt.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dexsidecar_core::endpoint_url::is_localhost;
use dexsidecar_core::failure::{Code, Failure, plain};

use super::super::dns::{self, AnsweredBy, Found};
use super::{Progress, Step};

/// How the addresses of a host are known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The host is an address.
    Literal,
    /// A name of this machine (RFC 6761 §6.3).
    Localhost,
    /// A look-up.
    LookUp(AnsweredBy),
}

/// All addresses of a host, at least one, in the order in which to try them.
///
/// # Errors
/// [`Code::NameNotFound`], [`Code::NameLookupFailed`].
pub(super) async fn resolve(
    host: &str,
    port: u16,
    progress: &Progress,
) -> Result<(Vec<SocketAddr>, Origin), Failure> {
    progress.reached(Step::Resolving(host.to_owned()));
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok((vec![(address, port).into()], Origin::Literal));
    }
    // No name server is asked: plain http is accepted to this machine, and must not be led elsewhere.
    if is_localhost(host) {
        let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok((here.map(|ip| SocketAddr::new(ip, port)).into(), Origin::Localhost));
    }
    let note = |trouble: &str| progress.reached(Step::Resolving(format!("{host} ({trouble})")));
    // In a box, since most of an attempt goes on without it.
    match Box::pin(dns::look_up(host, port, &note)).await {
        Ok(Found { addresses, source }) => Ok((addresses, Origin::LookUp(source))),
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
    async fn an_address_and_a_name_of_this_machine_need_no_resolver() {
        let progress = Progress::default();
        let v6 = resolve("::1", 7, &progress).await.unwrap();
        assert_eq!(v6, (vec!["[::1]:7".parse().unwrap()], Origin::Literal));
        for name in ["localhost", "LOCALHOST.", "dex.localhost"] {
            let here = vec!["127.0.0.1:7".parse().unwrap(), "[::1]:7".parse().unwrap()];
            assert_eq!(resolve(name, 7, &progress).await.unwrap(), (here, Origin::Localhost), "{name}");
        }
    }
}
