//! One attempt of an action: the HTTP request, the signal or the command, and the log lines of the
//! command's output.

use dexsidecar_core::action::{Action, Notify};
use dexsidecar_core::event::Event;
use dexsidecar_core::failure::Failure;
use dexsidecar_core::secret::Secret;
use dexsidecar_edge::action::{exec, signal};
use dexsidecar_edge::blocking::{OnDrop, run_blocking};
use dexsidecar_edge::log::Logger;

/// The most lines of one attempt that are logged.
const MOST_LINES: u32 = 100;

/// Performs it once. Lines of output that hold one of these secrets are not logged.
pub(crate) async fn perform(
    action: &Action,
    label: &str,
    client: &impl Notify,
    secrets: &[Secret],
    log: &Logger,
) -> Result<(), Failure> {
    match action {
        Action::Http(action) => client.notify(action).await,
        Action::Signal(action) => {
            // On a thread of its own: a node may have thousands of processes to read.
            let send = {
                let action = action.clone();
                move || signal::send(&action)
            };
            run_blocking(OnDrop::Detach, send).await.unwrap_or_else(|_| signal::send(action)).map(drop)
        }
        Action::Exec(action) => {
            let mut output = OutputLog { label, secrets, log, logged: 0, dropped: 0 };
            exec::run(action, &mut |line| output.line(line)).await
        }
    }
}

/// Logs the output of a command, line by line.
struct OutputLog<'a> {
    label: &'a str,
    secrets: &'a [Secret],
    log: &'a Logger,
    logged: u32,
    dropped: u32,
}

impl OutputLog<'_> {
    fn line(&mut self, line: &str) {
        if self.logged == MOST_LINES || self.secrets.iter().any(|secret| secret.appears_in(line)) {
            self.dropped += 1;
            return;
        }
        self.logged += 1;
        self.log.emit(&Event::ActionOutput { action: &self.label, line: &line });
    }
}

impl Drop for OutputLog<'_> {
    fn drop(&mut self) {
        if self.dropped > 0 {
            self.log.emit(&Event::ActionOutputDropped { action: &self.label, lines: self.dropped.into() });
        }
    }
}
