//! From a host to its addresses, by the system's resolver: nothing is remembered from one attempt to the next.

use std::io;
use std::net::{IpAddr, SocketAddr};

use dexsidecar_core::failure::{Code, Failure};

/// All addresses of a host. An address stands for itself.
///
/// # Errors
/// The name does not exist, or could not be looked up.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.collect();
            if addresses.is_empty() {
                return Err(Failure::new(Code::NameNotFound, format!("{host} has no address")));
            }
            Ok(addresses)
        }
        Err(error) => Err(failure(host, &error)),
    }
}

/// The standard library gives only the resolver's words: musl's, or glibc's.
fn failure(host: &str, error: &io::Error) -> Failure {
    let words = error.to_string();
    let absent =
        ["Name does not resolve", "Name or service not known", "No address associated", "Name has no usable"];
    let code = if absent.iter().any(|known| words.contains(known)) {
        Code::NameNotFound
    } else {
        Code::NameLookupFailed
    };
    let words = words.rsplit(": ").next().unwrap_or_default();
    Failure::new(code, format!("{host} ({words})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        assert_eq!(resolve("::1", 7).await.unwrap(), ["[::1]:7".parse().unwrap()]);
        assert_eq!(resolve("127.0.0.1", 7).await.unwrap(), ["127.0.0.1:7".parse().unwrap()]);
    }

    #[test]
    fn an_absent_name_is_told_from_a_failed_look_up() {
        let code = |words: &str| failure("dex", &io::Error::other(words.to_owned())).code;
        let front = "failed to lookup address information: ";
        assert_eq!(code(&format!("{front}Name does not resolve")), Code::NameNotFound);
        assert_eq!(code(&format!("{front}Name or service not known")), Code::NameNotFound);
        assert_eq!(code(&format!("{front}Try again")), Code::NameLookupFailed);
        assert_eq!(code(&format!("{front}Temporary failure in name resolution")), Code::NameLookupFailed);
    }
}
