//! Sends one query to one name server, over UDP or TCP, and returns the first valid answer.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{self, DomainName, Family, Query, Reply};
use crate::random;

/// The largest UDP datagram, in bytes. Some servers send more than the 1232 bytes that the query
/// announces.
const LARGEST_DATAGRAM: usize = 65_535;
/// After this many ignored datagrams the query fails as malformed.
const MOST_IGNORED: usize = 1000;

/// Why a server gave no valid answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// No valid answer within this time.
    TimedOut(Duration),
    /// Sending failed, or the connection broke.
    Io(io::Error),
    /// The data received is not an answer to the query.
    Malformed,
    /// The answer over UDP was truncated and had no address; TCP failed with this error.
    Truncated(Box<Self>),
    /// The server reported a failure.
    Failed(message::Error),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(limit) => write!(f, "no answer within {}s", limit.as_secs()),
            Self::Io(error) => {
                let text = error.to_string();
                f.write_str(&text.split(" (os error").next().unwrap_or_default().to_lowercase())
            }
            Self::Malformed => f.write_str("malformed answer"),
            Self::Truncated(why) => write!(f, "truncated answer, then over TCP: {why}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// The form of a query to one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueryOptions {
    /// The time limit for one query and its answer.
    pub(super) timeout: Duration,
    /// Do not use UDP.
    pub(super) tcp_only: bool,
    /// Set the AD bit.
    pub(super) ad: bool,
    /// Query over UDP without EDNS and over TCP at the same time. Used after a timeout, since a
    /// middlebox may drop one of these forms.
    pub(super) fallback: bool,
}

/// Queries one server for one address family. Never returns [`Reply::Truncated`] or
/// [`Reply::NotUnderstood`].
///
/// # Errors
/// Any variant of [`NoAnswer`].
pub(super) async fn query_server(
    server: SocketAddr,
    name: &DomainName,
    family: Family,
    options: QueryOptions,
) -> Result<Reply, NoAnswer> {
    let mut edns = !options.fallback;
    let reply = loop {
        let query = Query::new(name, family, random::u16(), edns, options.ad).ok_or(NoAnswer::Malformed)?;
        match send_query(server, &query, options).await? {
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

/// The TCP futures are boxed: they are rarely used and would make the future of every lookup
/// larger.
async fn send_query(server: SocketAddr, query: &Query, options: QueryOptions) -> Result<Reply, NoAnswer> {
    let over_tcp = || Box::pin(over_tcp(server, query, options.timeout));
    if options.tcp_only {
        return over_tcp().await;
    }
    let over_udp = over_udp(server, query, options.timeout);
    let reply =
        if options.fallback { Box::pin(first_success(over_udp, over_tcp())).await } else { over_udp.await };
    match reply {
        // The UDP port is closed or filtered; TCP may still be open.
        Err(NoAnswer::Io(_)) if !options.fallback => over_tcp().await,
        Ok(Reply::Truncated(addresses)) => match over_tcp().await {
            Err(why) if addresses.is_empty() => Err(NoAnswer::Truncated(Box::new(why))),
            Err(_) => Ok(Reply::Truncated(addresses)),
            reply => reply,
        },
        reply => reply,
    }
}

/// Runs both futures and returns the first success. If both fail, returns the error of `one`.
async fn first_success<T, E>(
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

/// Sends from a random port that the kernel chooses. The socket is connected, so only datagrams
/// from the server arrive.
async fn over_udp(server: SocketAddr, query: &Query, limit: Duration) -> Result<Reply, NoAnswer> {
    let round_trip = async {
        let any: SocketAddr = if server.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        socket.send(query.bytes()).await?;
        // Not zeroed: only the memory pages that a datagram fills are touched.
        let mut buffer = Vec::with_capacity(LARGEST_DATAGRAM);
        for _ in 0..MOST_IGNORED {
            buffer.clear();
            socket.recv_buf(&mut buffer).await?;
            let reply = query.parse_reply(&buffer);
            if reply.is_some() {
                return Ok(reply);
            }
        }
        Ok(None)
    };
    let reply = timeout(limit, round_trip).await.map_err(|_| NoAnswer::TimedOut(limit))?;
    reply.map_err(NoAnswer::Io)?.ok_or(NoAnswer::Malformed)
}

/// Over TCP a message is preceded by its length (RFC 1035 §4.2.2).
async fn over_tcp(server: SocketAddr, query: &Query, limit: Duration) -> Result<Reply, NoAnswer> {
    let round_trip = async {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(query.bytes().len()).unwrap_or(u16::MAX).to_be_bytes();
        stream.write_all(&[&length, query.bytes()].concat()).await?;
        let length = usize::from(stream.read_u16().await?);
        let mut answer = Vec::new();
        // The buffer grows with the data received, not with the length announced.
        stream.take(length as u64).read_to_end(&mut answer).await?;
        Ok(Some(answer).filter(|answer| answer.len() == length))
    };
    let answer = timeout(limit, round_trip).await.map_err(|_| NoAnswer::TimedOut(limit))?;
    let answer = answer.map_err(NoAnswer::Io)?.ok_or(NoAnswer::Malformed)?;
    query.parse_reply(&answer).ok_or(NoAnswer::Malformed)
}
