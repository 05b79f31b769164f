//! A stream with an upper bound of the bytes read per response. hyper does not bound interim
//! responses (1xx) or chunks of one byte (F29, F44).

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

/// Upper bound of interim responses and the head of the response, in bytes.
const MOST_HEAD: usize = 256 * 1024;
/// Upper bound of the body with its chunk headers, in bytes: room for 1 MiB
/// (`request::LARGEST_BODY`) in chunks of 2 bytes, which take 7 bytes each (`2\r\nxx\r\n`).
const MOST_BODY: usize = 4 * 1024 * 1024;

/// How many bytes may still be read. Clones share the number.
#[derive(Clone)]
pub(super) struct BytesLeft(Rc<Cell<usize>>);

impl BytesLeft {
    /// For interim responses and a head.
    pub(super) fn for_head() -> Self {
        Self(Rc::new(Cell::new(MOST_HEAD)))
    }

    /// Adds the bound of the body, once the head was read.
    pub(super) fn add_body(&self) {
        self.0.set(self.0.get().saturating_add(MOST_BODY));
    }
}

/// Fails with [`io::ErrorKind::FileTooLarge`] when more than the limit was read.
pub(super) struct LimitedStream {
    stream: Box<dyn Stream>,
    left: BytesLeft,
}

impl LimitedStream {
    pub(super) fn new(stream: Box<dyn Stream>, left: BytesLeft) -> Self {
        Self { stream, left }
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        Poll::Ready(match self.left.0.get().checked_sub(read) {
            Some(left) => {
                self.left.0.set(left);
                Ok(())
            }
            None => Err(io::ErrorKind::FileTooLarge.into()),
        })
    }
}

impl AsyncWrite for LimitedStream {
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
