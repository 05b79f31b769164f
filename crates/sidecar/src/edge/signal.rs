//! Signals as futures. As PID 1 a signal without a handler is not delivered at all, hence all are installed first.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGXFSZ, by its number on Linux.
const XFSZ: i32 = 25;

/// SIGTERM and SIGINT: the end.
#[derive(Debug)]
pub struct Stop {
    term: Signal,
    int: Signal,
    /// A file that may not become longer (`ulimit -f`) is a write that fails, and not the end.
    _too_long: Signal,
}

impl Stop {
    /// Installs the handlers.
    ///
    /// # Errors
    /// What the kernel says against it.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            _too_long: signal(SignalKind::from_raw(XFSZ))?,
        })
    }

    /// Waits for one; gives its name.
    pub async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

/// SIGHUP and SIGUSR1: exchange now.
#[derive(Debug)]
pub struct Nudge {
    hup: Signal,
    usr1: Signal,
}

impl Nudge {
    /// Installs the handlers.
    ///
    /// # Errors
    /// What the kernel says against it.
    pub fn install() -> io::Result<Self> {
        Ok(Self { hup: signal(SignalKind::hangup())?, usr1: signal(SignalKind::user_defined1())? })
    }

    /// Waits for one; gives its name.
    pub async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.hup.recv() => "SIGHUP",
            _ = self.usr1.recv() => "SIGUSR1",
        }
    }
}
