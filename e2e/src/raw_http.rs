//! HTTP byte by byte. The server accepts connections, plain or TLS, reads one request from each and
//! lets a closure write any bytes, valid or not. The client sends the text that it is given.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::process::PATIENCE;

/// A request as it was received.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest {
    /// The method, such as `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The request line and the headers.
    pub head: String,
    /// The body, as long as Content-Length says.
    pub body: String,
}

impl HttpRequest {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The decoded value of a form field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        let mut fields = form_urlencoded::parse(self.body.as_bytes());
        fields.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }
}

/// A response as it was received.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// The body, up to the end of the connection.
    pub body: String,
}

impl Reply {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The body as JSON; null when it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// Sends a request in plain HTTP and reads until the server closes the connection. None when
/// nothing listens at the address or the response is not HTTP.
#[must_use]
pub fn send(address: SocketAddr, request: &str) -> Option<Reply> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, head: head.to_owned(), body: body.to_owned() })
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
}

/// A connection, plain or TLS, as the closure of a server sees it.
pub trait Connection: Read + Write {
    /// The TCP socket below, to reset it or keep it open.
    fn socket(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Connection for StreamOwned<ServerConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// A running server, which stops when dropped.
#[derive(Debug)]
pub struct RawServer {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl RawServer {
    /// Listens on an address (port 0 is any free port) and answers each request with `answer`, in a
    /// thread of its own.
    ///
    /// # Panics
    /// When the address is in use.
    #[must_use]
    pub fn start(
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&HttpRequest, &mut dyn Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().expect("it listens");
        let stopping = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopping);
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                let (tls, answer) = (tls.clone(), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, tls, &*answer));
            }
        });
        Self { address, stopping, listener: Some(thread) }
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees the flag.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.listener.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    answer: &(dyn Fn(&HttpRequest, &mut dyn Connection) -> io::Result<()> + Send + Sync),
) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    // A client that breaks its connection is no failure of the server.
    let _ = match tls {
        None => serve_one(stream, answer),
        Some(config) => ServerConnection::new(config)
            .map_err(io::Error::other)
            .and_then(|connection| serve_one(StreamOwned::new(connection, stream), answer)),
    };
}

fn serve_one(
    mut connection: impl Connection,
    answer: &(dyn Fn(&HttpRequest, &mut dyn Connection) -> io::Result<()> + Send + Sync),
) -> io::Result<()> {
    let request = read_request(&mut connection)?;
    answer(&request, &mut connection)?;
    connection.flush()?;
    // The client learns that nothing more comes, and closes first.
    let _ = connection.socket().shutdown(std::net::Shutdown::Write);
    let _ = connection.read(&mut [0; 64]);
    Ok(())
}

fn read_request(connection: &mut impl Read) -> io::Result<HttpRequest> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break at;
        }
        match connection.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => bytes.extend_from_slice(&piece[..n]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut first = head.lines().next().unwrap_or_default().split(' ');
    let [method, target] = [first.next(), first.next()].map(|word| word.unwrap_or_default().to_owned());
    let mut request = HttpRequest { method, target, head, body: String::new() };
    let length: usize = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        match connection.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => body.extend_from_slice(&piece[..n]),
        }
    }
    request.body = String::from_utf8_lossy(&body).into_owned();
    Ok(request)
}

/// A complete response as Go's server writes it.
#[must_use]
pub fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    text.into_bytes()
}
