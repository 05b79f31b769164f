//! The output of a command: read without blocking, in lines, up to a limit.

use std::io::{self, PipeReader};

use rustix::fd::OwnedFd;
use rustix::io::{Errno, ioctl_fionbio, read};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The longest line, in bytes. What follows in the line is dropped.
const LONGEST_LINE: usize = 1024;
/// The most output of one run, in bytes.
const MOST_OUTPUT: usize = 1024 * 1024;

/// The command wrote more than [`MOST_OUTPUT`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooLong;

/// Standard output and standard error of a command, as one stream.
pub(super) struct Output {
    pipe: AsyncFd<OwnedFd>,
    /// The begin of the line that is being read.
    line: Vec<u8>,
    total: usize,
    is_closed: bool,
}

impl Output {
    #[expect(deprecated, reason = "sound for an OwnedFd; the replacement is unsafe, which is forbidden here")]
    pub(super) fn new(pipe: PipeReader) -> io::Result<Self> {
        let pipe = OwnedFd::from(pipe);
        ioctl_fionbio(&pipe, true)?;
        let pipe = AsyncFd::with_interest(pipe, Interest::READABLE)?;
        Ok(Self { pipe, line: Vec::new(), total: 0, is_closed: false })
    }

    /// Reads until every process has closed the pipe, and hands each line to `line`. It continues
    /// where it was dropped.
    pub(super) async fn read(&mut self, line: &mut dyn FnMut(&str)) -> Result<(), TooLong> {
        let mut buffer = [0; 4096];
        while !self.is_closed {
            if self.total > MOST_OUTPUT {
                return Err(TooLong);
            }
            let Ok(mut ready) = self.pipe.readable().await else { return Ok(()) };
            match read(self.pipe.get_ref(), &mut buffer) {
                Ok(0) => self.is_closed = true,
                Ok(count) => {
                    self.total += count;
                    self.add(&buffer[..count], line);
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(_) => self.is_closed = true,
            }
        }
        Ok(())
    }

    /// Hands on the last line, which may have no end.
    pub(super) fn end(&mut self, line: &mut dyn FnMut(&str)) {
        self.end_line(line);
    }

    fn add(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        for (index, part) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                self.end_line(line);
            }
            let room = LONGEST_LINE - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
        }
    }

    fn end_line(&mut self, line: &mut dyn FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.line);
        let text = text.trim_end();
        if !text.is_empty() {
            line(text);
        }
        self.line.clear();
    }
}
