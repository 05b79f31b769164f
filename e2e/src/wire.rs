//! HTTP down to the byte. The server takes connections, plain or TLS, reads one request from each and lets a closure write
//! whatever it likes: what a real server would never send can be sent. The client sends what it is given.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::process::PATIENCE;

/// A request as it was heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The head, whole.
    pub head: String,
    /// The body, whole.
    pub body: String,
}

impl Heard {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// A form field's value, decoded.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        let mut fields = form_urlencoded::parse(self.body.as_bytes());
        fields.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The head, whole.
    pub head: String,
    /// The body, whole.
    pub body: String,
}

impl Reply {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// Sends a request in plain http and reads until the other side is done; nothing when nobody answers.
#[must_use]
pub fn ask(address: SocketAddr, request: &str) -> Option<Reply> {
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

/// What a connection is to its closure.
pub trait Line: Read + Write {
    /// The socket below, to be reset or held.
    fn socket(&self) -> &TcpStream;
}

impl Line for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Line for StreamOwned<ServerConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

/// A running server.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Wire {
    /// Listens on an address (port 0 is any) and answers each request, in a thread of its own, with `answer`.
    ///
    /// # Panics
    /// When the address cannot be listened on.
    #[must_use]
    pub fn start(
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Heard, &mut dyn Line) -> io::Result<()> + Send + Sync + 'static,
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
                std::thread::spawn(move || talk(stream, tls, &*answer));
            }
        });
        Self { address, stopping, listener: Some(thread) }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the listener, so that it sees.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.listener.take() {
            let _ = thread.join();
        }
    }
}

fn talk(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    answer: &(dyn Fn(&Heard, &mut dyn Line) -> io::Result<()> + Send + Sync),
) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    // What the other side does with its connection is not this side's failure.
    let _ = match tls {
        None => one(stream, answer),
        Some(config) => ServerConnection::new(config)
            .map_err(io::Error::other)
            .and_then(|connection| one(StreamOwned::new(connection, stream), answer)),
    };
}

fn one(
    mut line: impl Line,
    answer: &(dyn Fn(&Heard, &mut dyn Line) -> io::Result<()> + Send + Sync),
) -> io::Result<()> {
    let heard = hear(&mut line)?;
    answer(&heard, &mut line)?;
    line.flush()?;
    // The other side is told that nothing more comes, and is let go first.
    let _ = line.socket().shutdown(std::net::Shutdown::Write);
    let _ = line.read(&mut [0; 64]);
    Ok(())
}

fn hear(line: &mut impl Read) -> io::Result<Heard> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break at;
        }
        match line.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => bytes.extend_from_slice(&piece[..n]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut first = head.lines().next().unwrap_or_default().split(' ');
    let [method, target] = [first.next(), first.next()].map(|word| word.unwrap_or_default().to_owned());
    let mut heard = Heard { method, target, head, body: String::new() };
    let length: usize = heard.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        match line.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => body.extend_from_slice(&piece[..n]),
        }
    }
    heard.body = String::from_utf8_lossy(&body).into_owned();
    Ok(heard)
}

/// A whole answer as Go's server writes it.
#[must_use]
pub fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    text.into_bytes()
}
