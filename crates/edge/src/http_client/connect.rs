//! Connects to the first address of a host that accepts: Happy Eyeballs (RFC 8305), without its
//! history and its adaptive delays.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use dexsidecar_core::endpoint_url::is_public;
use dexsidecar_core::failure::{Code, Failure};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Connection, Progress, Stage, resolve};

/// The delay before the next address is tried as well: the Connection Attempt Delay of RFC 8305 §8.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The time limit for one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Which addresses a connection may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AddressPolicy {
    /// All addresses.
    Any,
    /// Addresses that are not public, because plain HTTP is readable on the way.
    NotPublic,
    /// Addresses of this machine.
    Loopback,
}

impl AddressPolicy {
    /// Removes the addresses that are not allowed.
    ///
    /// # Errors
    /// [`Code::PlainHttpRefused`] if none is left.
    pub(super) fn filter(self, host: &str, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Failure> {
        let is_permitted = |address: &SocketAddr| match self {
            Self::Any => true,
            Self::NotPublic => !is_public(address.ip()),
            Self::Loopback => address.ip().to_canonical().is_loopback(),
        };
        let (permitted, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_permitted);
        if permitted.is_empty() {
            let others: Vec<_> = others.iter().map(|address| address.ip().to_string()).collect();
            return Err(Failure::new(
                Code::PlainHttpRefused,
                if others == [host] {
                    host.to_owned()
                } else {
                    format!("{host} has the address {}", others.join(", "))
                },
            ));
        }
        Ok(permitted)
    }
}

/// Connects to a host. The first address tried is the one with index `rotation`, modulo their
/// number.
///
/// # Errors
/// [`Code::NameNotFound`], [`Code::NameLookupFailed`], [`Code::PlainHttpRefused`],
/// [`Code::ConnectRefused`], [`Code::ConnectFailed`]. The detail of the last two names every
/// address, for [`Code::ConnectFailed`] with its error.
pub(super) async fn connect(
    host: &str,
    port: u16,
    policy: AddressPolicy,
    rotation: usize,
    progress: &Progress,
) -> Result<Connection, Failure> {
    let (addresses, _) = resolve::resolve(host, port, progress).await?;
    let addresses = interleave(policy.filter(host, addresses)?, rotation);
    let names: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    progress.enter(Stage::Connecting(names.join(", ")));
    let (stream, address) = race(addresses).await?;
    Ok(Connection { stream: Box::new(stream), peer: address.to_string(), forwarding: None })
}

/// Alternates the families, starting with the family of the first address, then rotates the list
/// left by `rotation`. So a host that accepts on one family and stalls afterwards is next tried on
/// the other.
fn interleave(addresses: Vec<SocketAddr>, rotation: usize) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    while first.len() + second.len() > 0 {
        ordered.extend(first.next());
        ordered.extend(second.next());
    }
    if !ordered.is_empty() {
        let offset = rotation % ordered.len();
        ordered.rotate_left(offset);
    }
    ordered
}

/// Tries the addresses, each [`ATTEMPT_DELAY`] after the one before it or when that one fails.
/// Returns the first connection and drops the other attempts.
async fn race(addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), Failure> {
    let mut remaining = addresses.into_iter();
    let mut pending = Vec::new();
    let mut failed = Vec::new();
    loop {
        pending.extend(remaining.next().map(|address| Box::pin(connect_one(address))));
        if pending.is_empty() {
            return Err(all_failed(&failed));
        }
        match timeout(ATTEMPT_DELAY, next_ready(&mut pending)).await {
            Ok((address, Ok(stream))) => return Ok((stream, address)),
            Ok((address, Err(error))) => failed.push((address, error)),
            Err(_) => {}
        }
    }
}

/// Waits for the first future that completes, removes it, and returns its output.
async fn next_ready<F: Future>(pending: &mut Vec<Pin<Box<F>>>) -> F::Output {
    poll_fn(|cx| {
        for at in 0..pending.len() {
            if let Poll::Ready(outcome) = pending[at].as_mut().poll(cx) {
                drop(pending.swap_remove(at));
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    })
    .await
}

async fn connect_one(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    if let Ok(stream) = &connected {
        // The request is one small write, which must not wait for an acknowledgement. A failure
        // here only costs time.
        let _ = stream.set_nodelay(true);
    }
    (address, connected)
}

fn all_failed(failed: &[(SocketAddr, io::Error)]) -> Failure {
    let refused = failed.iter().all(|(_, error)| error.kind() == io::ErrorKind::ConnectionRefused);
    let code = if refused { Code::ConnectRefused } else { Code::ConnectFailed };
    let each = failed.iter().map(|(address, error)| {
        // The code already says that the connection was refused.
        if refused { address.to_string() } else { format!("{address}: {}", io_error_text(error)) }
    });
    Failure::new(code, each.collect::<Vec<_>>().join(", "))
}

/// The text of an error of the system or of rustls in lower case, without "(os error 111)" and
/// without the URL of a manual.
pub(super) fn io_error_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.split(": https://").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn open(host: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn closed(host: &str) -> SocketAddr {
        open(host).1
    }

    /// A listener with a full queue, and the connections that fill it. Further connections are
    /// never accepted.
    async fn stuck() -> ((tokio::net::TcpListener, Vec<TcpStream>), SocketAddr) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = vec![];
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            queue.push(stream);
        }
        ((listener, queue), address)
    }

    #[test]
    fn families_alternate_and_the_list_is_rotated() {
        let mixed = ["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"];
        assert_eq!(
            interleave(addresses(&mixed), 0),
            addresses(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"])
        );
        assert_eq!(
            interleave(addresses(&mixed), 1),
            addresses(&["127.0.0.1:1", "[::2]:1", "[::3]:1", "[::1]:1"])
        );
        assert_eq!(interleave(addresses(&mixed), usize::MAX).len(), 4);
        assert_eq!(interleave(vec![], 3), vec![]);
    }

    #[tokio::test]
    async fn f011_after_a_refused_connection_the_other_family_is_tried() {
        let (_listener, v4) = open("127.0.0.1");
        let v6 = closed("::1");
        let (stream, address) = race(vec![v6, v4]).await.unwrap();
        assert_eq!((stream.peer_addr().unwrap(), address), (v4, v4));
        let (_listener, v6) = open("::1");
        let (_, address) = race(vec![closed("127.0.0.1"), v6]).await.unwrap();
        assert_eq!(address, v6);
    }

    #[tokio::test]
    async fn f011_while_an_address_does_not_answer_the_other_family_is_tried() {
        let (_full, stuck) = stuck().await;
        let (_listener, v6) = open("::1");
        let (_, address) = race(vec![stuck, v6]).await.unwrap();
        assert_eq!(address, v6);
    }

    #[tokio::test]
    async fn f001_a_failure_names_every_address_and_its_error() {
        let (v4, v6) = (closed("127.0.0.1"), closed("::1"));
        let failure = race(vec![v4, v6]).await.unwrap_err();
        assert_eq!(failure.code, Code::ConnectRefused);
        assert_eq!(failure.detail, format!("{v4}, {v6}"));
        // One address refuses and one does not answer: the cause is not only Dex.
        let (_full, stuck) = stuck().await;
        let failure = race(vec![v4, stuck]).await.unwrap_err();
        assert_eq!(failure.code, Code::ConnectFailed);
        assert_eq!(failure.detail, format!("{v4}: connection refused, {stuck}: timed out"));
    }
}
