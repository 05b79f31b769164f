//! Something between a client and a server that lets so many bytes through and then swallows all, without a word: a firewall
//! that forgot the connection, a hole in the path.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A relay to a server. It ends with the process.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Relay {
    /// Lets this many bytes of each connection through to the server, and all that the server answers to them.
    #[must_use]
    pub fn start(server: SocketAddr, lets_through: usize) -> Self {
        Self::between(server, lets_through, usize::MAX)
    }

    /// Lets all of each connection through to the server, and back this many bytes of what it answers.
    #[must_use]
    pub fn swallowing_answers(server: SocketAddr, lets_back: usize) -> Self {
        Self::between(server, usize::MAX, lets_back)
    }

    fn between(server: SocketAddr, there: usize, back: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || between(&client, server, there, back));
            }
        });
        Self { address, connections }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections came.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn between(client: &TcpStream, server: SocketAddr, there: usize, back: usize) {
    let Ok(upstream) = TcpStream::connect(server) else { return };
    if let (Ok(from), Ok(to)) = (upstream.try_clone(), client.try_clone()) {
        std::thread::spawn(move || pass(&from, &to, back));
    }
    pass(client, &upstream, there);
    // Held open for as long as the client might wait.
    std::thread::sleep(Duration::from_secs(1));
}

/// Hands on so many bytes, and reads what comes after them.
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
