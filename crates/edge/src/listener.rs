//! The listener: an HTTP server for probes and metrics, on the one thread of the program.
//!
//! A connection serves one request and is closed. What it may cost is bounded: 8 connections, 5 s
//! and 4 KiB of request each. A ninth connection closes the oldest that has its response, or else
//! that has sent no complete request, or else the oldest, so that slow clients cannot keep a probe
//! out.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use dexsidecar_core::http_request::{Head, LARGEST_HEAD};
use dexsidecar_core::pages::{Page, Response};
use httpdate::HttpDate;
use rustix::net::{self, AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::clock::Clock;

/// The most connections that are open at once.
const MOST_CONNECTIONS: usize = 8;
/// How long a connection may take, from its first byte to its last.
const DEADLINE: Duration = Duration::from_secs(5);
/// The most connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// How much of what a client sends after its request is read before the connection is closed, in
/// bytes.
const LARGEST_REST: usize = 64 * 1024;
/// How long no connection is accepted after that has failed: no file descriptor may be left.
const PAUSE: Duration = Duration::from_secs(1);

/// A request for a page. Dropping it closes its connection.
#[derive(Debug)]
pub struct Request {
    /// The page.
    pub page: Page,
    reply: oneshot::Sender<Response>,
}

impl Request {
    /// Answers it. The client may have gone.
    pub fn reply(self, response: Response) {
        let _ = self.reply.send(response);
    }
}

/// The requests that wait for their pages.
type Requests = Rc<RefCell<Vec<Request>>>;

/// A connection that is served.
struct Connection {
    serve: Pin<Box<dyn Future<Output = ()>>>,
    stage: Rc<Cell<Stage>>,
}

/// How far a connection is.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Stage {
    /// It has sent no complete request.
    #[default]
    Silent,
    /// It waits for the response.
    Requested,
    /// It has its response, and its client has not closed it.
    Answered,
}

/// The listener.
pub struct Listener {
    bound: Option<TcpListener>,
    socket: Option<tokio::net::TcpListener>,
    /// The oldest is the first.
    connections: Vec<Connection>,
    requests: Requests,
    /// Set after a connection could not be accepted.
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Listener {
    /// Listens at this address. `[::]` includes all addresses of IPv4, and means those where the
    /// machine has no IPv6.
    ///
    /// # Errors
    /// Those of `socket`, `bind` and `listen`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let without_ipv6 = |error| match address {
            SocketAddr::V6(all) if all.ip().is_unspecified() => {
                open((Ipv4Addr::UNSPECIFIED, all.port()).into()).map_err(|_| error)
            }
            _ => Err(error),
        };
        let bound = open(address).or_else(without_ipv6)?;
        Ok(Self {
            bound: Some(bound),
            socket: None,
            connections: vec![],
            requests: Requests::default(),
            pause: None,
        })
    }

    /// The address that it listens at.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn address(&self) -> io::Result<SocketAddr> {
        match (&self.bound, &self.socket) {
            (Some(bound), _) => bound.local_addr(),
            (None, Some(socket)) => socket.local_addr(),
            (None, None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Registers the socket with the runtime that this is called in.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn register(&mut self) -> io::Result<()> {
        if let Some(bound) = self.bound.take() {
            self.socket = Some(tokio::net::TcpListener::from_std(bound)?);
        }
        Ok(())
    }

    /// Serves connections until one of them requests a page. Nothing is lost when the future is
    /// dropped. Before [`register`](Self::register) it waits forever.
    pub async fn next(&mut self) -> Request {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Request> {
        self.connections.retain_mut(|connection| connection.serve.as_mut().poll(context).is_pending());
        self.accept(context);
        let mut requests = self.requests.borrow_mut();
        if requests.is_empty() { Poll::Pending } else { Poll::Ready(requests.remove(0)) }
    }

    fn accept(&mut self, context: &mut Context<'_>) {
        let Some(socket) = &self.socket else { return };
        // Requests are answered before the connections after them are accepted.
        while self.requests.borrow().len() < MOST_CONNECTIONS {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(context).is_pending() {
                    return;
                }
                self.pause = None;
            }
            match socket.poll_accept(context) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => self.pause = Some(Box::pin(tokio::time::sleep(PAUSE))),
                Poll::Ready(Ok((stream, _))) => {
                    if self.connections.len() == MOST_CONNECTIONS {
                        let first =
                            |stage| self.connections.iter().position(|each| each.stage.get() == stage);
                        // With complete requests only, the oldest: it gets no response.
                        let closed = first(Stage::Answered).or_else(|| first(Stage::Silent));
                        drop(self.connections.remove(closed.unwrap_or_default()));
                    }
                    let stage = Rc::default();
                    let serve = serve(stream, Rc::clone(&self.requests), Rc::clone(&stage));
                    let serve = Box::pin(async {
                        let _ = tokio::time::timeout(DEADLINE, serve).await;
                    });
                    let mut connection = Connection { serve, stage };
                    // What it has sent already counts before the next one is accepted.
                    if connection.serve.as_mut().poll(context).is_pending() {
                        self.connections.push(connection);
                    }
                }
            }
        }
    }
}

/// A socket that listens at this address. `[::]` includes the addresses of IPv4, whatever the
/// default of the node is (`net.ipv6.bindv6only`).
fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    // Connections of the process before this one must not keep the port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("connections", &self.connections.len()).finish_non_exhaustive()
    }
}

/// Serves one request. An error is the client's, and is not reported.
async fn serve(mut stream: TcpStream, requests: Requests, stage: Rc<Cell<Stage>>) -> io::Result<()> {
    let mut received = sent_already(&stream);
    let (is_head, response) = loop {
        match Head::of(&received) {
            Head::Incomplete => {}
            Head::Refused(status) => break (false, Response::line(status, reason(status))),
            Head::Complete { is_head, target } => {
                let response = match Page::of(target) {
                    None => Response::line(404, "this page does not exist"),
                    Some(page) => {
                        let (reply, replied) = oneshot::channel();
                        stage.set(Stage::Requested);
                        requests.borrow_mut().push(Request { page, reply });
                        // Without a reply the program ends.
                        let Ok(response) = replied.await else { return Ok(()) };
                        response
                    }
                };
                break (is_head, response);
            }
        }
        // A connection without a request needs no buffer.
        stream.readable().await?;
        let room = LARGEST_HEAD - received.len();
        if (&mut stream).take(room as u64).read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    };
    drop(received);
    stream.write_all(&message(&response, is_head)).await?;
    stream.shutdown().await?;
    stage.set(Stage::Answered);
    // What the client still sends is read: otherwise the kernel resets the connection, and the
    // client may lose the response. Not for long: it may never end.
    let mut rest = [0; 512];
    let mut left = LARGEST_REST;
    while left > 0 {
        match stream.read(&mut rest).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// What a new connection has sent before it was accepted. The runtime reads from a socket only
/// after its next turn, and until then the connection could be closed for a newer one.
fn sent_already(stream: &TcpStream) -> Vec<u8> {
    let mut buffer = [0; LARGEST_HEAD];
    let received = net::recv(stream, &mut buffer[..], RecvFlags::DONTWAIT);
    let length = received.map_or(0, |(length, _)| length);
    buffer[..length].to_vec()
}

/// The bytes of a response.
fn message(response: &Response, is_head: bool) -> Vec<u8> {
    let Response { status, content_type, body } = response;
    let allow = if *status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let date = HttpDate::from(UNIX_EPOCH + Clock::System.now().unix.as_duration());
    let mut message = format!(
        "HTTP/1.1 {status} {}\r\nDate: {date}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\n{allow}Connection: close\r\n\r\n",
        reason(*status),
        body.len(),
    );
    if !is_head {
        message.push_str(body);
    }
    message.into_bytes()
}

/// The reason phrase of a status code.
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
