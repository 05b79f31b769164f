//! A TCP connection to the first of a host's addresses that answers: Happy Eyeballs, RFC 8305, in its simple form.

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

use super::{Connection, Progress, Step, resolve};

/// The head start of an address before the next is tried too (RFC 8305 §8).
const HEAD_START: Duration = Duration::from_millis(250);
/// No address is waited for longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Which addresses may be connected to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Permit {
    /// All of them.
    Any,
    /// Those that are not public: what is sent is readable on the way.
    NotPublic,
}

impl Permit {
    /// Leaves out what may not be connected to.
    ///
    /// # Errors
    /// [`Code::PlainHttpRefused`] if that is all.
    pub(super) fn filter(self, host: &str, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Failure> {
        if self == Self::Any {
            return Ok(addresses);
        }
        let (public, permitted): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| is_public(a.ip()));
        if permitted.is_empty() {
            let public: Vec<_> = public.iter().map(|address| address.ip().to_string()).collect();
            return Err(Failure::new(
                Code::PlainHttpRefused,
                if public == [host] { host.to_owned() } else { format!("{host} is {}", public.join(", ")) },
            ));
        }
        Ok(permitted)
    }
}

/// Connects to a host, beginning with the address that `rotation` points at.
///
/// # Errors
/// Nothing listens, or nothing can be reached; the detail names every address and its reason.
pub(super) async fn connect(
    host: &str,
    port: u16,
    permit: Permit,
    rotation: usize,
    progress: &Progress,
) -> Result<Connection, Failure> {
    let (addresses, _) = resolve::resolve(host, port, progress).await?;
    let addresses = order(permit.filter(host, addresses)?, rotation);
    let names: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    progress.reached(Step::Connecting(names.join(", ")));
    let (stream, address) = race(addresses).await?;
    Ok(Connection { stream: Box::new(stream), peer: address.to_string(), forwarding: None })
}

/// The families in turn, beginning with the resolver's first choice, and turned by `rotation`: a host that accepts on
/// one family and stalls afterwards is tried on the other next time.
fn order(addresses: Vec<SocketAddr>, rotation: usize) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (ours, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let (mut ours, mut others) = (ours.into_iter(), others.into_iter());
    let mut ordered = Vec::with_capacity(ours.len() + others.len());
    while ours.len() + others.len() > 0 {
        ordered.extend(ours.next());
        ordered.extend(others.next());
    }
    if !ordered.is_empty() {
        let turn = rotation % ordered.len();
        ordered.rotate_left(turn);
    }
    ordered
}

/// Dropped with everything in it as soon as one has connected.
async fn race(addresses: Vec<SocketAddr>) -> Result<(TcpStream, SocketAddr), Failure> {
    let mut waiting = addresses.into_iter();
    let mut trying = Vec::new();
    let mut failed = Vec::new();
    loop {
        trying.extend(waiting.next().map(|address| Box::pin(one(address))));
        if trying.is_empty() {
            return Err(nobody(&failed));
        }
        match timeout(HEAD_START, first(&mut trying)).await {
            Ok((address, Ok(stream))) => return Ok((stream, address)),
            Ok((address, Err(error))) => failed.push((address, error)),
            Err(_) => {}
        }
    }
}

/// The outcome of whichever ends first; the others remain.
async fn first<F: Future>(trying: &mut Vec<Pin<Box<F>>>) -> F::Output {
    poll_fn(|cx| {
        for at in 0..trying.len() {
            if let Poll::Ready(outcome) = trying[at].as_mut().poll(cx) {
                drop(trying.swap_remove(at));
                return Poll::Ready(outcome);
            }
        }
        Poll::Pending
    })
    .await
}

async fn one(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    let connected = timeout(PATIENCE, TcpStream::connect(address)).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    if let Ok(stream) = &connected {
        // The request is one small write; it must not wait for an acknowledgement. Without it all works, only later.
        let _ = stream.set_nodelay(true);
    }
    (address, connected)
}

fn nobody(failed: &[(SocketAddr, io::Error)]) -> Failure {
    let refused = failed.iter().all(|(_, error)| error.kind() == io::ErrorKind::ConnectionRefused);
    let code = if refused { Code::ConnectRefused } else { Code::ConnectFailed };
    let each: Vec<_> = failed.iter().map(|(address, error)| format!("{address}: {}", words(error))).collect();
    Failure::new(code, each.join(", "))
}

/// An error of the system or of rustls, without "(os error 111)" and the address of a manual, which mean nothing to a reader.
pub(super) fn words(error: &io::Error) -> String {
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

    /// A listener whose queue is full, and what fills it: whatever else connects to it waits.
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
    fn families_take_turns_and_failures_turn_the_list() {
        let mixed = ["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"];
        assert_eq!(order(addresses(&mixed), 0), addresses(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]));
        assert_eq!(order(addresses(&mixed), 1), addresses(&["127.0.0.1:1", "[::2]:1", "[::3]:1", "[::1]:1"]));
        assert_eq!(order(addresses(&mixed), usize::MAX).len(), 4);
        assert_eq!(order(vec![], 3), vec![]);
    }

    #[tokio::test]
    async fn f011_a_refusing_address_gives_way_to_the_other_family_at_once() {
        let (_listener, v4) = open("127.0.0.1");
        let v6 = closed("::1");
        let (stream, address) = race(vec![v6, v4]).await.unwrap();
        assert_eq!((stream.peer_addr().unwrap(), address), (v4, v4));
        let (_listener, v6) = open("::1");
        let (_, address) = race(vec![closed("127.0.0.1"), v6]).await.unwrap();
        assert_eq!(address, v6);
    }

    #[tokio::test]
    async fn f011_an_address_that_never_answers_gives_way_after_its_head_start() {
        let (_full, stuck) = stuck().await;
        let (_listener, v6) = open("::1");
        let (_, address) = race(vec![stuck, v6]).await.unwrap();
        assert_eq!(address, v6);
    }

    #[tokio::test]
    async fn f001_every_address_is_named_with_its_reason() {
        let (v4, v6) = (closed("127.0.0.1"), closed("::1"));
        let failure = race(vec![v4, v6]).await.unwrap_err();
        assert_eq!(failure.code, Code::ConnectRefused);
        assert_eq!(failure.detail, format!("{v4}: connection refused, {v6}: connection refused"));
        // One that refuses and one that is silent: something is there, but not Dex alone is to blame.
        let (_full, stuck) = stuck().await;
        let failure = race(vec![v4, stuck]).await.unwrap_err();
        assert_eq!(failure.code, Code::ConnectFailed);
        assert_eq!(failure.detail, format!("{v4}: connection refused, {stuck}: timed out"));
    }
}
