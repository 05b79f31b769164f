//! What is done after all outputs of a token hold a new one: an HTTP request, a signal or a
//! command. The token itself is never passed on.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::endpoint_url::EndpointUrl;
use crate::failure::Failure;
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
    /// Every process with this name, as in `/proc/PID/comm` or as the file name of its first
    /// argument. One whose parent has the name too is left to its parent, as a server leaves its
    /// workers.
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

/// Sends the requests of actions. The HTTP client implements it; tests implement a script.
pub trait Notify {
    /// Sends one request over a new connection, and waits for the complete response.
    ///
    /// # Errors
    /// [`ActionFailed`](crate::failure::Code::ActionFailed): there was no response, or another
    /// status than those that mean success.
    fn notify(&self, action: &HttpAction) -> impl Future<Output = Result<(), Failure>>;
}

impl Action {
    /// The file that is read before each attempt of the action.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Signal(SignalAction { target: SignalTarget::PidFile(path), .. }) => Some(path),
            Self::Signal(_) | Self::Http(_) | Self::Exec(_) => None,
        }
    }

    /// The name of one of these actions in logs and metrics: its kind, with its number among those
    /// of its kind from the second on, as `exec` and `exec-2`.
    #[must_use]
    pub fn label(actions: &[Self], index: usize) -> String {
        let Some(kind) = actions.get(index).map(Self::kind) else { return String::new() };
        match actions[..=index].iter().filter(|action| action.kind() == kind).count() {
            1 => kind.to_owned(),
            number => format!("{kind}-{number}"),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_numbered_from_the_second_of_its_kind_on() {
        let exec = || Action::Exec(ExecAction { command: vec![], timeout: Duration::ZERO });
        let target = || SignalTarget::Process("nginx".to_owned());
        let signal = || Action::Signal(SignalAction { target: target(), signal: 1 });
        let actions = [exec(), signal(), exec(), exec()];
        let labels: Vec<_> = (0..5).map(|index| Action::label(&actions, index)).collect();
        assert_eq!(labels, ["exec", "signal", "exec-2", "exec-3", ""]);
    }
}
