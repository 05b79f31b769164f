//! One attempt of an action: the HTTP request, the signal or the command, and the log lines of the
//! command's output.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use dexsidecar_core::action::{Action, Notify};
use dexsidecar_core::config::Level;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::event::Event;
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::secret::Secret;
use dexsidecar_edge::action::{Attempt, AttemptSlot, exec, signal};
use dexsidecar_edge::blocking::{OnDrop, run_blocking};
use dexsidecar_edge::log::Logger;
use tokio::time::{sleep, timeout};

/// The most lines of one attempt that are logged.
const MOST_LINES: u32 = 100;

/// How long the attempt before may take to end after SIGKILL, and how often it is polled.
const END_GRACE: Duration = Duration::from_secs(1);
const END_POLL: Duration = Duration::from_millis(20);

/// The time limit of a signal.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);
const FIX_THREAD: &str = "raise the limits of processes and of memory of the container";
const FIX_HANGS: &str =
    "repair the volume that the command waits for: its process does not end, or its file does not open";
const FIX_STALLED: &str =
    "repair the volume of the pid file: it does not answer; or set process instead of pid_file";

/// Performs it once. While the attempt before it hangs, it fails.
pub(crate) async fn perform(
    action: &Action,
    client: &impl Notify,
    slot: &AttemptSlot,
    mut output: OutputLog<'_>,
) -> Result<(), Failure> {
    match action {
        Action::Http(action) => client.notify(action).await,
        Action::Signal(action) => {
            // On a thread of its own: a node may have thousands of processes to read, and the file
            // system of a pid file may stall.
            let (action, attempt) = (action.clone(), begin(slot, FIX_STALLED).await?);
            let send = move || {
                let sent = signal::send(&action);
                drop(attempt);
                sent
            };
            within_limit(run_blocking(OnDrop::Detach, send)).await
        }
        Action::Exec(action) => {
            let attempt = begin(slot, FIX_HANGS).await?;
            let result = exec::run(action, attempt, &mut |line| output.line(line)).await;
            output.end(&result);
            result
        }
    }
}

/// Begins the attempt. One that was given up by a reload, or at its timeout, may be ending.
async fn begin(slot: &AttemptSlot, fix: &'static str) -> Result<Attempt, Failure> {
    let begun = async {
        loop {
            match slot.begin() {
                Some(attempt) => return attempt,
                None => sleep(END_POLL).await,
            }
        }
    };
    let hangs = |_| Failure::new(Code::ActionFailed, "the attempt before this one hangs").with_fix(fix);
    timeout(END_GRACE, begun).await.map_err(hangs)
}

/// The result of a signal, which takes milliseconds unless a file system stalls.
async fn within_limit(
    sending: impl Future<Output = io::Result<Result<usize, Failure>>>,
) -> Result<(), Failure> {
    let (what, fix) = match timeout(SIGNAL_TIMEOUT, sending).await {
        Ok(Ok(result)) => return result.map(drop),
        Ok(Err(error)) => (format!("the signal could not be sent: {error}"), FIX_THREAD),
        Err(_) => (format!("the signal was not sent within {}", HumanDuration(SIGNAL_TIMEOUT)), FIX_STALLED),
    };
    Err(Failure::new(Code::ActionFailed, what).with_fix(fix))
}

/// Logs the output of a command, line by line. Lines that hold one of the secrets are not logged; a
/// token that is issued meanwhile is added to them.
///
/// The output of a failure that was logged is logged at `debug`, like that failure. Which failure
/// it is, is known at the end, so after one that was logged the lines are kept until then.
pub(crate) struct OutputLog<'a> {
    label: &'a str,
    secrets: &'a RefCell<Vec<Secret>>,
    log: &'a Logger,
    /// The failure that was logged.
    known: Option<&'a str>,
    kept: Vec<String>,
    logged: u32,
    dropped: u32,
}

impl<'a> OutputLog<'a> {
    pub(crate) const fn new(
        label: &'a str,
        secrets: &'a RefCell<Vec<Secret>>,
        log: &'a Logger,
        known: Option<&'a str>,
    ) -> Self {
        Self { label, secrets, log, known, kept: vec![], logged: 0, dropped: 0 }
    }

    fn line(&mut self, line: &str) {
        if self.logged == MOST_LINES || self.holds_secret(line) {
            self.dropped += 1;
            return;
        }
        self.logged += 1;
        if self.known.is_some() {
            self.kept.push(line.to_owned());
        } else {
            self.log.emit(&Event::ActionOutput { action: &self.label, line: &line });
        }
    }

    /// The command has ended with this result.
    fn end(&mut self, result: &Result<(), Failure>) {
        self.known = self.known.filter(|known| result.as_ref().is_err_and(|new| new.detail == *known));
    }

    fn holds_secret(&self, line: &str) -> bool {
        self.secrets.borrow().iter().any(|secret| secret.appears_in(line))
    }

    fn emit(&self, event: &Event<'_>) {
        self.log.emit_at(if self.known.is_some() { Level::Debug } else { event.level() }, event);
    }
}

impl Drop for OutputLog<'_> {
    fn drop(&mut self) {
        for line in std::mem::take(&mut self.kept) {
            // A token may have been issued since the line was read.
            if self.holds_secret(&line) {
                self.dropped += 1;
            } else {
                self.emit(&Event::ActionOutput { action: &self.label, line: &line });
            }
        }
        if self.dropped > 0 {
            self.emit(&Event::ActionOutputDropped { action: &self.label, lines: self.dropped.into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_signal_that_stalls_or_has_no_thread_fails_with_its_reason() {
        let stalled = within_limit(std::future::pending()).await.unwrap_err();
        assert_eq!((stalled.code, stalled.fix()), (Code::ActionFailed, FIX_STALLED));
        assert!(stalled.detail.ends_with("within 5s"), "{stalled}");
        let no_thread = async { Err(io::Error::from(io::ErrorKind::WouldBlock)) };
        let no_thread = within_limit(no_thread).await.unwrap_err();
        assert_eq!((no_thread.code, no_thread.fix()), (Code::ActionFailed, FIX_THREAD));
        assert_eq!(within_limit(async { Ok(Ok(3)) }).await, Ok(()));
    }
}
