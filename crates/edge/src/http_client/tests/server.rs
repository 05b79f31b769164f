//! Fake servers on loopback that treat every connection in the same way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A fake server. Dropping it stops it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts a server that runs `handler` on each connection.
    pub(crate) async fn start<F>(handler: impl Fn(Wire<TcpStream>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received: Arc<Mutex<Vec<u8>>> = Arc::default();
        let shared = Arc::clone(&received);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(handler(Wire { stream, received: Arc::clone(&shared) }));
            }
        });
        Self { address, received, task }
    }

    /// Starts a server that reads a request and answers with these bytes.
    pub(crate) async fn responding(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<Vec<u8>> = Arc::new(bytes.into());
        Self::start(move |mut wire| {
            let bytes = Arc::clone(&bytes);
            async move {
                wire.read_request().await;
                wire.write(&bytes).await;
                wire.finish().await;
            }
        })
        .await
    }

    /// Starts a server that reads a request over TLS and answers with these bytes. It ignores
    /// failed handshakes.
    pub(crate) async fn responding_over_tls(acceptor: TlsAcceptor, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<Vec<u8>> = Arc::new(bytes.into());
        Self::start(move |wire| {
            let (bytes, acceptor) = (Arc::clone(&bytes), acceptor.clone());
            async move {
                let Some(mut wire) = wire.accept_tls(&acceptor).await else { return };
                wire.read_request().await;
                wire.write(&bytes).await;
                wire.finish().await;
            }
        })
        .await
    }

    /// The data received on all connections.
    pub(crate) fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }

    pub(crate) fn http(&self) -> String {
        format!("http://{}/dex/token?x=1", self.address)
    }

    pub(crate) fn https(&self) -> String {
        format!("https://{}/dex/token", self.address)
    }
}

/// A connection of a fake server.
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    pub(crate) received: Arc<Mutex<Vec<u8>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Reads one request to its end, or to the end of the connection.
    pub(crate) async fn read_request(&mut self) -> String {
        let mut request = Vec::new();
        while !is_complete(&request) {
            if self.stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                break;
            }
        }
        self.received.lock().unwrap().extend_from_slice(&request);
        String::from_utf8_lossy(&request).into_owned()
    }

    /// Writes these bytes. Returns false if the connection is closed.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Ends the stream, and waits until the client closes the connection.
    pub(crate) async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
        self.wait_for_close().await;
    }

    /// Sends nothing until the client closes the connection.
    pub(crate) async fn wait_for_close(&mut self) {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
        self.received.lock().unwrap().extend_from_slice(&rest);
    }

    pub(crate) async fn accept_tls(
        self,
        acceptor: &TlsAcceptor,
    ) -> Option<Wire<tokio_rustls::server::TlsStream<S>>> {
        let stream = acceptor.accept(self.stream).await.ok()?;
        Some(Wire { stream, received: self.received })
    }
}

impl Wire<TcpStream> {
    /// Closes the connection with a reset.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}
