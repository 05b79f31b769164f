//! A stream that records whether the first bytes received are a TLS record.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

/// The first two bytes received. Clones share them.
#[derive(Clone, Default)]
pub(super) struct FirstRecord(Rc<Cell<[Option<u8>; 2]>>);

/// A stream whose first bytes are recorded.
pub(super) struct Watched {
    stream: Box<dyn Stream>,
    first: FirstRecord,
}

impl FirstRecord {
    /// Wraps a stream.
    pub(super) fn of(stream: Box<dyn Stream>) -> (Watched, Self) {
        let first = Self::default();
        (Watched { stream, first: first.clone() }, first)
    }

    /// Whether the bytes are a content type and the major version of TLS (RFC 8446 §5.1).
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.0.get(), [Some(20..=23), None | Some(3)])
    }

    fn record(&self, bytes: &[u8]) {
        let mut first = self.0.get();
        for byte in bytes {
            let Some(free) = first.iter_mut().find(|byte| byte.is_none()) else { break };
            *free = Some(*byte);
        }
        self.0.set(first);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.first.record(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f138_a_tls_record_is_distinguished_from_other_data() {
        for (bytes, is_tls) in [
            (&b"\x16\x03\x03\0\x01"[..], true),
            (b"\x15\x03\x01\0\x02\x02\x46", true),
            (b"\x16", true),
            (b"", false),
            (b"HTTP/1.1 400", false),
            (b"\x16HTTP", false),
            (b"\x03\x16", false),
        ] {
            for step in [1, 5] {
                let first = FirstRecord::default();
                bytes.chunks(step).for_each(|part| first.record(part));
                assert_eq!(first.is_tls(), is_tls, "{bytes:?}");
            }
        }
    }
}
