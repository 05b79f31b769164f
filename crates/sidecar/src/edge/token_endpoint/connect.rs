//! A TCP connection to the first of a host's addresses that answers: Happy Eyeballs, RFC 8305, in its simple form.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use dexsidecar_core::failure::{Code, Failure};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Progress, name};

/// The head start of an address before the next is tried too (RFC 8305 §8).
const HEAD_START: Duration = Duration::from_millis(250);
/// No address is waited for longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Connects to a host.
///
/// # Errors
/// Nothing listens, or nothing can be reached; the detail names every address and its reason.
pub(super) async fn connect(
    host: &str,
    port: u16,
    rotation: usize,
    progress: &Cell<Progress>,
) -> Result<TcpStream, Failure> {
    progress.set(Progress::Resolving(host.to_owned()));
    let addresses = order(name::resolve(host, port).await?, rotation);
    let names: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    progress.set(Progress::Connecting(names.join(", ")));
    race(addresses).await
}

/// The families in turn, beginning with the resolver's first choice, and turned by `rotation`: a host that accepts on
/// one family and stalls afterwards is tried on the other next time.
fn order(addresses: Vec<SocketAddr>, rotation: usize) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut ours, mut others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    ours.reverse();
    others.reverse();
    let mut ordered = Vec::with_capacity(ours.len() + others.len());
    while !(ours.is_empty() && others.is_empty()) {
        ordered.extend(ours.pop());
        ordered.extend(others.pop());
    }
    if !ordered.is_empty() {
        let turn = rotation % ordered.len();
        ordered.rotate_left(turn);
    }
    ordered
}

async fn race(addresses: Vec<SocketAddr>) -> Result<TcpStream, Failure> {
    let mut waiting = addresses.into_iter();
    let mut trying = JoinSet::new();
    let mut failed: Vec<(SocketAddr, io::Error)> = vec![];
    let mut next_start = Instant::now();
    loop {
        let more = waiting.len() > 0;
        tokio::select! {
            Some(Ok(outcome)) = trying.join_next() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(failure) => {
                    failed.push(failure);
                    next_start = Instant::now();
                }
            },
            () = sleep_until(next_start), if more => {
                if let Some(address) = waiting.next() {
                    trying.spawn(one(address));
                }
                next_start = Instant::now() + HEAD_START;
            }
            else => return Err(nobody(&failed)),
        }
    }
}

async fn one(address: SocketAddr) -> Result<TcpStream, (SocketAddr, io::Error)> {
    let stream = match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err((address, error)),
        Err(_) => return Err((address, io::ErrorKind::TimedOut.into())),
    };
    // The request is one small write; it must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn nobody(failed: &[(SocketAddr, io::Error)]) -> Failure {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    let code = if failed.iter().all(|(_, error)| refused(error)) {
        Code::ConnectRefused
    } else {
        Code::ConnectFailed
    };
    let each: Vec<_> = failed.iter().map(|(address, error)| format!("{address}: {}", plain(error))).collect();
    Failure::new(code, each.join(", "))
}

/// Without the "(os error 111)" that means nothing to a reader.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_failures_turn_the_list() {
        let mixed = ["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1"];
        assert_eq!(order(addresses(&mixed), 0), addresses(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]));
        assert_eq!(order(addresses(&mixed), 1), addresses(&["127.0.0.1:1", "[::2]:1", "[::3]:1", "[::1]:1"]));
        assert_eq!(order(vec![], 3), vec![]);
    }

    #[tokio::test]
    async fn f11_a_refusing_address_gives_way_to_the_next_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stream = race(vec![closed, open]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        let failure = race(vec![closed]).await.unwrap_err();
        assert_eq!(failure.code, Code::ConnectRefused);
        assert_eq!(failure.detail, format!("{closed}: connection refused"));
    }
}
