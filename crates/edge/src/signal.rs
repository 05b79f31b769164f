//! Signals as futures. The kernel does not deliver a signal without a handler to PID 1, so all
//! handlers are installed at startup.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGXFSZ, by its number on Linux.
const XFSZ: i32 = 25;

/// SIGTERM and SIGINT, which request shutdown.
#[derive(Debug)]
pub struct Stop {
    term: Signal,
    int: Signal,
    /// With a handler for SIGXFSZ, a write beyond `ulimit -f` fails with EFBIG instead of ending
    /// the process.
    _file_size: Signal,
}

impl Stop {
    /// Installs the handlers.
    ///
    /// # Errors
    /// An error of `sigaction` or of the pipe that tokio uses.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            _file_size: signal(SignalKind::from_raw(XFSZ))?,
        })
    }

    /// Waits for one of the two and returns its name.
    pub async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

/// What a signal requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefreshRequest {
    /// SIGHUP: read the configuration file again, and refresh.
    ReloadAndRefresh,
    /// SIGUSR1: refresh.
    Refresh,
}

impl RefreshRequest {
    /// The name of its signal.
    #[must_use]
    pub const fn signal(self) -> &'static str {
        match self {
            Self::ReloadAndRefresh => "SIGHUP",
            Self::Refresh => "SIGUSR1",
        }
    }

    /// Whether the configuration file is to be read again.
    #[must_use]
    pub const fn reloads(self) -> bool {
        matches!(self, Self::ReloadAndRefresh)
    }
}

/// SIGHUP and SIGUSR1, which request a refresh.
#[derive(Debug)]
pub struct RefreshSignal {
    hup: Signal,
    usr1: Signal,
}

impl RefreshSignal {
    /// Installs the handlers.
    ///
    /// # Errors
    /// An error of `sigaction` or of the pipe that tokio uses.
    pub fn install() -> io::Result<Self> {
        Ok(Self { hup: signal(SignalKind::hangup())?, usr1: signal(SignalKind::user_defined1())? })
    }

    /// Waits until one of the two requests a refresh.
    pub async fn requested(&mut self) -> RefreshRequest {
        tokio::select! {
            _ = self.hup.recv() => RefreshRequest::ReloadAndRefresh,
            _ = self.usr1.recv() => RefreshRequest::Refresh,
        }
    }
}
