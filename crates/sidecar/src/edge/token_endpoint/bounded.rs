//! A stream from which no more is read than a whole answer can have: interim answers and chunks of one byte have no bound of
//! their own (F29, F44).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

/// Bodies and heads at their largest, in the smallest of chunks that anybody sends.
const MOST: usize = 4 * 1024 * 1024;

/// Gives [`io::ErrorKind::FileTooLarge`] when too much was read.
pub(super) struct Bounded {
    stream: Box<dyn Stream>,
    left: usize,
}

impl Bounded {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, left: MOST }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        Poll::Ready(match self.left.checked_sub(read) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(io::ErrorKind::FileTooLarge.into()),
        })
    }
}

impl AsyncWrite for Bounded {
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
