//! A relay to a server that passes so many bytes of each connection and then discards the rest
//! silently, as a firewall does that forgot the connection, or a path that drops large packets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A running relay. It ends with the process.
#[derive(Debug)]
pub struct Blackhole {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Blackhole {
    /// Passes this many bytes of each connection to the server, and everything that the server
    /// answers.
    #[must_use]
    pub fn after_request_bytes(server: SocketAddr, passed: usize) -> Self {
        Self::start(server, passed, usize::MAX)
    }

    /// Passes everything of each connection to the server, and this many bytes of what it answers.
    #[must_use]
    pub fn after_response_bytes(server: SocketAddr, passed: usize) -> Self {
        Self::start(server, usize::MAX, passed)
    }

    fn start(server: SocketAddr, to_server: usize, to_client: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || relay(&client, server, to_server, to_client));
            }
        });
        Self { address, connections }
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn relay(client: &TcpStream, server: SocketAddr, to_server: usize, to_client: usize) {
    let Ok(upstream) = TcpStream::connect(server) else { return };
    if let (Ok(from), Ok(to)) = (upstream.try_clone(), client.try_clone()) {
        std::thread::spawn(move || pass(&from, &to, to_client));
    }
    pass(client, &upstream, to_server);
    // The client may still be waiting for the response.
    std::thread::sleep(Duration::from_secs(1));
}

/// Passes so many bytes, and reads and discards those that follow.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut left: usize) {
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        let through = read.min(left);
        left -= through;
        if to.write_all(&piece[..through]).is_err() {
            return;
        }
    }
}
