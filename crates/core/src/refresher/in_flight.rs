//! The exchange in flight, and what became necessary while it runs.

use std::time::Duration;

use super::Reason;
use crate::time::BootTime;

/// Signals cause at most one exchange in this time (F102).
pub(super) const MIN_BETWEEN_REQUESTS: Duration = Duration::from_secs(5);

/// The exchange that has been started and has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    /// The instant at which it was started.
    pub(super) started: BootTime,
    /// Another exchange that became necessary meanwhile, because this one may have read old inputs.
    pub(super) next: Option<(BootTime, Reason)>,
    /// A signal has started it again. A second signal waits for its outcome, or a slow Dex would
    /// never be waited for.
    is_restarted: bool,
}

impl InFlight {
    pub(super) const fn new(started: BootTime, is_restarted: bool) -> Self {
        Self { started, next: None, is_restarted }
    }

    /// Another exchange is due at this instant for a reason that this one may not serve.
    pub(super) fn note(&mut self, due: BootTime, reason: Reason) {
        let lasting = matches!(reason, Reason::Signal | Reason::SigningKeyGone | Reason::ClockStepped);
        // A clock step is the weakest reason, and a signal the strongest.
        let gives_way = |(_, known)| known != Reason::Signal && reason != Reason::ClockStepped;
        if lasting && self.next.is_none_or(gives_way) {
            self.next = Some((due, reason));
        }
    }

    /// The instant at which it is started again, if a signal requested that.
    pub(super) fn restart_due(&self) -> Option<BootTime> {
        let (due, _) = self.next.filter(|(_, reason)| *reason == Reason::Signal && !self.is_restarted)?;
        Some(due.max(self.started + MIN_BETWEEN_REQUESTS))
    }
}
