//! A stream from which no more is read than a whole answer can have: interim answers and chunks of one byte have no bound of
//! their own (F29, F44).

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

/// Interim answers and the head of the answer itself, in bytes.
const MOST_HEAD: usize = 256 * 1024;
/// A body at its largest, in the smallest of chunks that anybody sends, in bytes.
const MOST_BODY: usize = 4 * 1024 * 1024;

/// How many bytes may still be read.
#[derive(Clone)]
pub(super) struct Allowance(Rc<Cell<usize>>);

impl Allowance {
    /// For interim answers and a head.
    pub(super) fn for_head() -> Self {
        Self(Rc::new(Cell::new(MOST_HEAD)))
    }

    /// The head has come: a body may follow.
    pub(super) fn add_body(&self) {
        self.0.set(self.0.get().saturating_add(MOST_BODY));
    }
}

/// Gives [`io::ErrorKind::FileTooLarge`] when too much was read.
pub(super) struct Bounded {
    stream: Box<dyn Stream>,
    left: Allowance,
}

impl Bounded {
    pub(super) fn new(stream: Box<dyn Stream>, left: Allowance) -> Self {
        Self { stream, left }
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
        Poll::Ready(match self.left.0.get().checked_sub(read) {
            Some(left) => {
                self.left.0.set(left);
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
