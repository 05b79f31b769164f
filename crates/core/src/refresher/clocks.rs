//! Pauses of the process and steps of the wall clock.

use std::time::Duration;

use crate::time::{BootTime, Now};

/// A wait that ends later than planned by more than this was a pause of the process or a
/// suspension. Scheduling delays on a busy node are far shorter.
const MIN_PAUSE: Duration = Duration::from_secs(5);
/// Steps of the wall clock cause at most one exchange in this time.
const MIN_BETWEEN_CLOCK_STEPS: Duration = Duration::from_secs(60);

/// What the clocks showed before.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// Both clocks at the last step of the refresher.
    last: Option<Now>,
    /// The end of the last wait. Cleared by the next step.
    waiting_until: Option<BootTime>,
    /// The instant at which a step of the wall clock last caused an exchange.
    stepped_at: Option<BootTime>,
}

impl Clocks {
    /// The refresher waits until then.
    pub(super) const fn wait(&mut self, until: BootTime) {
        self.waiting_until = Some(until);
    }

    /// True after a pause of the process or a suspension of the machine.
    pub(super) fn has_paused(&mut self, now: BootTime) -> bool {
        self.waiting_until.take().is_some_and(|until| now.since(until) > MIN_PAUSE)
    }

    /// True if the wall clock was stepped since the last call.
    pub(super) fn is_stepped(&mut self, now: Now) -> bool {
        self.last.replace(now).is_some_and(|before| now.is_stepped_since(before))
    }

    /// True unless another step has caused an exchange within the last minute.
    pub(super) fn may_cause_exchange(&mut self, now: BootTime) -> bool {
        let recent = self.stepped_at.is_some_and(|last| last.until(now) < MIN_BETWEEN_CLOCK_STEPS);
        if !recent {
            self.stepped_at = Some(now);
        }
        !recent
    }
}
