//! What is done after all outputs of a token hold a new one: an HTTP request, a signal or a
//! command. The token itself is never passed on.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::endpoint_url::EndpointUrl;
use crate::secret::Secret;

/// An action of a token, one of its `on_update`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// An HTTP request.
    Http(HttpAction),
    /// A signal to other processes.
    Signal(SignalAction),
    /// A command.
    Exec(ExecAction),
}

/// An HTTP request without a body. Plain http goes to loopback only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpAction {
    /// Where the request is sent. Another host than loopback has to be allowed in the
    /// configuration, and needs https.
    pub url: EndpointUrl,
    /// The method, `POST` by default.
    pub method: String,
    /// Further headers, which may be secret.
    pub headers: Vec<(String, Secret)>,
    /// The status codes that mean success, 200 to 299 by default. Not empty.
    pub success: Vec<RangeInclusive<u16>>,
    /// The time limit of one attempt.
    pub timeout: Duration,
}

/// A signal to every process with a name, or to the one of a pid file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignalAction {
    /// Which processes get it.
    pub target: SignalTarget,
    /// The number of the signal.
    pub signal: i32,
}

/// The processes that get a signal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SignalTarget {
    /// Every process with this name, as in `/proc/PID/comm` or as the file name of its executable.
    Process(String),
    /// The process whose number this file holds.
    PidFile(PathBuf),
}

/// A command, executed without a shell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExecAction {
    /// The path of the program, and its arguments. Not empty.
    pub command: Vec<String>,
    /// The time limit of one attempt.
    pub timeout: Duration,
}

impl Action {
    /// Its kind, as the key in the configuration file has it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Signal(_) => "signal",
            Self::Exec(_) => "exec",
        }
    }
}
