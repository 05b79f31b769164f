//! One query to one name server, over UDP or TCP, and the first answer to it that counts.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{self, DomainName, Family, Query, Reply};
use crate::edge::random;

/// The largest datagram there is, in bytes. Some servers send more than the 1232 bytes that were announced.
const LARGEST_DATAGRAM: usize = 65_535;
/// How many datagrams are ignored until the server counts as one that sends nothing of use.
const MOST_IGNORED: usize = 1000;

/// Why a server gave no answer that counts.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Nothing came in time; how long that was.
    TimedOut(Duration),
    /// The system refused to send, or the connection broke.
    Broken(io::Error),
    /// What came was no answer to the query.
    Malformed,
    /// The answer over UDP was truncated and had no address; why there is none over TCP.
    Truncated(Box<Self>),
    /// It answered that it cannot.
    Failed(message::Error),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(limit) => write!(f, "no answer within {}s", limit.as_secs()),
            Self::Broken(error) => {
                let text = error.to_string();
                f.write_str(&text.split(" (os error").next().unwrap_or_default().to_lowercase())
            }
            Self::Malformed => f.write_str("malformed answer"),
            Self::Truncated(why) => write!(f, "truncated answer, then over TCP: {why}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// How to ask a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// How long each exchange with it may take.
    pub(super) timeout: Duration,
    /// Never over UDP.
    pub(super) tcp_only: bool,
    /// The AD bit.
    pub(super) ad: bool,
    /// It was silent before, so something on the way may not like the first form: UDP without EDNS, and TCP beside it.
    pub(super) fallback: bool,
}

/// Asks one server for one kind of address. Never gives [`Reply::Truncated`] or [`Reply::NotUnderstood`].
pub(super) async fn ask(
    server: SocketAddr,
    name: &DomainName,
    family: Family,
    manner: Manner,
) -> Result<Reply, NoAnswer> {
    let mut edns = !manner.fallback;
    let reply = loop {
        let query = Query::new(name, family, random::number(), edns, manner.ad).ok_or(NoAnswer::Malformed)?;
        match query_once(server, &query, manner).await? {
            Reply::NotUnderstood(_) if edns => edns = false,
            reply => break reply,
        }
    };
    match reply {
        Reply::Truncated(addresses) if addresses.is_empty() => Err(NoAnswer::Malformed),
        Reply::Truncated(addresses) => Ok(Reply::Addresses(addresses)),
        Reply::NotUnderstood(error) | Reply::Failed(error) => Err(NoAnswer::Failed(error)),
        reply => Ok(reply),
    }
}

/// TCP in boxes: it is the exception, and would otherwise make every look-up larger.
async fn query_once(server: SocketAddr, query: &Query, manner: Manner) -> Result<Reply, NoAnswer> {
    let over_tcp = || Box::pin(over_tcp(server, query, manner.timeout));
    if manner.tcp_only {
        return over_tcp().await;
    }
    let over_udp = over_udp(server, query, manner.timeout);
    let reply = if manner.fallback { Box::pin(either(over_udp, over_tcp())).await } else { over_udp.await };
    match reply {
        // Nothing listens on the port, or a filter refuses it: DNS over TCP may be open all the same.
        Err(NoAnswer::Broken(_)) if !manner.fallback => over_tcp().await,
        Ok(Reply::Truncated(addresses)) => match over_tcp().await {
            Err(why) if addresses.is_empty() => Err(NoAnswer::Truncated(Box::new(why))),
            Err(_) => Ok(Reply::Truncated(addresses)),
            reply => reply,
        },
        reply => reply,
    }
}

/// The first of the two that succeeds, or the failure of the first.
async fn either<T, E>(
    one: impl Future<Output = Result<T, E>>,
    other: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    tokio::select! {
        biased;
        first = &mut one => match first {
            Ok(found) => Ok(found),
            Err(error) => other.await.or(Err(error)),
        },
        second = &mut other => match second {
            Ok(found) => Ok(found),
            Err(_) => one.await,
        },
    }
}

/// From a port of its own that the kernel draws, and only datagrams of the server itself are seen.
async fn over_udp(server: SocketAddr, query: &Query, limit: Duration) -> Result<Reply, NoAnswer> {
    let talk = async {
        let any: SocketAddr = if server.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        socket.send(query.bytes()).await?;
        // Only what is received is ever touched.
        let mut buffer = Vec::with_capacity(LARGEST_DATAGRAM);
        for _ in 0..MOST_IGNORED {
            buffer.clear();
            socket.recv_buf(&mut buffer).await?;
            let reply = query.answered_by(&buffer);
            if reply.is_some() {
                return Ok(reply);
            }
        }
        Ok(None)
    };
    let reply = timeout(limit, talk).await.map_err(|_| NoAnswer::TimedOut(limit))?;
    reply.map_err(NoAnswer::Broken)?.ok_or(NoAnswer::Malformed)
}

/// With the length in front (RFC 1035 §4.2.2).
async fn over_tcp(server: SocketAddr, query: &Query, limit: Duration) -> Result<Reply, NoAnswer> {
    let talk = async {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(query.bytes().len()).unwrap_or(u16::MAX).to_be_bytes();
        stream.write_all(&[&length, query.bytes()].concat()).await?;
        let length = usize::from(stream.read_u16().await?);
        let mut answer = Vec::new();
        // Grows with what comes rather than with what was announced.
        stream.take(length as u64).read_to_end(&mut answer).await?;
        Ok(Some(answer).filter(|answer| answer.len() == length))
    };
    let answer = timeout(limit, talk).await.map_err(|_| NoAnswer::TimedOut(limit))?;
    let answer = answer.map_err(NoAnswer::Broken)?.ok_or(NoAnswer::Malformed)?;
    query.answered_by(&answer).ok_or(NoAnswer::Malformed)
}
