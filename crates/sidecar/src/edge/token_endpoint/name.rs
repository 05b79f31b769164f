//! From a host to its addresses, by the system's resolver: nothing is remembered from one attempt to the next.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use dexsidecar_core::endpoint_url::is_localhost;
use dexsidecar_core::failure::{Code, Failure};
use tokio::sync::Mutex;

use crate::edge::thread::{Abandoned, aside};

/// A look-up that hangs cannot be stopped, and keeps its thread after its attempt is over. The next one waits for it
/// (within its own deadline), so that at most one thread of this process ever hangs there (F08).
static TURN: Mutex<()> = Mutex::const_new(());

/// All addresses of a host. An address stands for itself.
///
/// # Errors
/// The name does not exist, or could not be looked up.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    // Nobody is asked: plain http is let through to this machine, and must not be led elsewhere.
    if is_localhost(host) {
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
    }
    let turn = TURN.lock().await;
    let name = host.to_owned();
    let look_up = aside(Abandoned::Left, move || {
        let found = (name.as_str(), port).to_socket_addrs();
        // musl ends its walk along the search list at the first domain that fails or holds the name without an address,
        // where glibc and Go go on to the name as it stands (F09).
        let found = match (found, whole(&name)) {
            // Where no domain of the list has it, it was asked for as it stands already.
            (Err(error), Some(whole)) if !error.to_string().contains("Name does not resolve") => {
                (whole.as_str(), port).to_socket_addrs().or(Err(error))
            }
            (found, _) => found,
        };
        drop(turn);
        found
    });
    let found = look_up.await.map_err(|error| Failure::new(Code::NoThread, format!("{host} ({error})")))?;
    let addresses: Vec<_> = found.map_err(|error| failure(host, &error))?.collect();
    if addresses.is_empty() {
        return Err(Failure::new(Code::NameNotFound, format!("{host} has no address")));
    }
    Ok(addresses)
}

/// A name with a dot in it, as one that no search list is put behind.
fn whole(name: &str) -> Option<String> {
    (name.contains('.') && !name.ends_with('.')).then(|| format!("{name}."))
}

/// The standard library gives only the resolver's words: musl's, or glibc's.
fn failure(host: &str, error: &io::Error) -> Failure {
    const ABSENT: [&str; 4] = [
        "Name does not resolve",
        "Name has no usable address",
        "Name or service not known",
        "No address associated with hostname",
    ];
    let words = error.to_string();
    let absent = ABSENT.iter().any(|known| words.contains(known));
    let code = if absent { Code::NameNotFound } else { Code::NameLookupFailed };
    let words = words.rsplit(": ").next().unwrap_or_default();
    Failure::new(code, format!("{host} ({words})"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        // Not even one that hangs.
        let _hanging = TURN.lock().await;
        assert_eq!(resolve("::1", 7).await.unwrap(), ["[::1]:7".parse().unwrap()]);
        assert_eq!(resolve("127.0.0.1", 7).await.unwrap(), ["127.0.0.1:7".parse().unwrap()]);
        for name in ["localhost", "LOCALHOST.", "dex.localhost"] {
            let here = ["127.0.0.1:7".parse().unwrap(), "[::1]:7".parse().unwrap()];
            assert_eq!(resolve(name, 7).await.unwrap(), here, "{name}");
        }
    }

    #[tokio::test]
    async fn f008_nothing_is_looked_up_while_another_look_up_hangs() {
        let hanging = TURN.lock().await;
        // An address to resolvers alone, who ask nobody for it.
        let mut waiting = Box::pin(resolve("127.1", 7));
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        drop(hanging);
        assert!(waiting.await.unwrap().iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn f009_a_name_with_a_dot_can_stand_for_itself() {
        assert_eq!(whole("dex.example.com").as_deref(), Some("dex.example.com."));
        assert_eq!((whole("dex"), whole("dex.example.com.")), (None, None));
    }

    #[test]
    fn an_absent_name_is_told_from_a_failed_look_up() {
        let code = |words: &str| {
            failure("dex", &io::Error::other(format!("failed to lookup address information: {words}"))).code
        };
        assert_eq!(code("Name does not resolve"), Code::NameNotFound);
        assert_eq!(code("Name or service not known"), Code::NameNotFound);
        assert_eq!(code("Try again"), Code::NameLookupFailed);
        assert_eq!(code("Temporary failure in name resolution"), Code::NameLookupFailed);
    }
}
