//! The other side: servers on loopback that do exactly one thing to whoever connects.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A server; it ends with the value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Does `act` to each connection.
    pub(crate) async fn acts<F>(act: impl Fn(Wire<TcpStream>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let noted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(act(Wire { stream, seen: Arc::clone(&noted) }));
            }
        });
        Self { address, seen, task }
    }

    /// Reads a request and answers with these bytes.
    pub(crate) async fn answers(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<Vec<u8>> = Arc::new(bytes.into());
        Self::acts(move |mut wire| {
            let bytes = Arc::clone(&bytes);
            async move {
                wire.reads_request().await;
                wire.writes(&bytes).await;
                wire.ends().await;
            }
        })
        .await
    }

    /// The same within TLS. Whoever breaks the handshake off is left alone.
    pub(crate) async fn answers_within(acceptor: TlsAcceptor, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<Vec<u8>> = Arc::new(bytes.into());
        Self::acts(move |wire| {
            let (bytes, acceptor) = (Arc::clone(&bytes), acceptor.clone());
            async move {
                let Some(mut wire) = wire.within(&acceptor).await else { return };
                wire.reads_request().await;
                wire.writes(&bytes).await;
                wire.ends().await;
            }
        })
        .await
    }

    /// What was sent to it, all connections together, as it reads it.
    pub(crate) fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    pub(crate) fn http(&self) -> String {
        format!("http://{}/dex/token?x=1", self.address)
    }

    pub(crate) fn https(&self) -> String {
        format!("https://{}/dex/token", self.address)
    }
}

/// One connection.
pub(crate) struct Wire<S> {
    pub(crate) stream: S,
    pub(crate) seen: Arc<Mutex<Vec<u8>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Reads one request to its end, or what there is of it.
    pub(crate) async fn reads_request(&mut self) -> String {
        let mut request = Vec::new();
        while !whole(&request) {
            if self.stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                break;
            }
        }
        self.seen.lock().unwrap().extend_from_slice(&request);
        String::from_utf8_lossy(&request).into_owned()
    }

    /// Writes, for as long as somebody listens.
    pub(crate) async fn writes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Says that there is no more, and waits until the other side has gone.
    pub(crate) async fn ends(&mut self) {
        let _ = self.stream.shutdown().await;
        self.waits().await;
    }

    /// Says nothing until the other side has gone.
    pub(crate) async fn waits(&mut self) {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
        self.seen.lock().unwrap().extend_from_slice(&rest);
    }

    pub(crate) async fn within(
        self,
        acceptor: &TlsAcceptor,
    ) -> Option<Wire<tokio_rustls::server::TlsStream<S>>> {
        let stream = acceptor.accept(self.stream).await.ok()?;
        Some(Wire { stream, seen: self.seen })
    }
}

impl Wire<TcpStream> {
    /// Breaks off with a reset.
    pub(crate) fn resets(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}
