//! When the published keys are compared with the signing key of the token on disk.

use std::time::Duration;

use crate::schedule::{Bucket, MAX_JITTER};
use crate::time::{BootTime, Jitter, Now};

/// The maximum delay between two inconclusive key checks, unless their period is longer.
const MAX_BETWEEN_KEY_CHECKS: Duration = Duration::from_secs(3_600);

/// The plan of the key checks.
#[derive(Debug)]
pub(super) struct KeyChecks {
    /// `None` if the key check is switched off.
    period: Option<Duration>,
    /// The instant of the next key check. `None` while it is switched off or suspended, and after
    /// the signing key was found gone, until the next token.
    due: Option<BootTime>,
    /// A key check has been planned at a random instant of a whole period, so that processes that
    /// started together check at different times. Later checks need the small jitter only.
    is_staggered: bool,
    /// Inconclusive key checks in a row. Cleared by another result and by a written token.
    inconclusive: u32,
    /// A key check is in flight: from [`super::Decision::CheckKeys`] until the outcome is reported.
    in_flight: bool,
}

impl KeyChecks {
    pub(super) const fn new(period: Option<Duration>) -> Self {
        Self { period, due: None, is_staggered: false, inconclusive: 0, in_flight: false }
    }

    /// The plan with another period. A check in flight was given up: it is due again.
    pub(super) fn reconfigured(
        mut self,
        period: Option<Duration>,
        has_token: bool,
        now: Now,
        jitter: Jitter,
    ) -> Self {
        self.in_flight = false;
        let former = std::mem::replace(&mut self.period, period);
        // A suspended check stays so until the next token.
        let is_planned = self.due.is_some() || former.is_none() && has_token;
        if former != period && is_planned {
            self.plan(now, jitter);
        }
        self
    }

    /// Plans the next check.
    pub(super) fn plan(&mut self, now: Now, jitter: Jitter) {
        // The first check comes at a random instant of a whole period, so that processes that
        // started together do not check at the same time.
        self.due = self.period.map(|period| {
            let longest = period.max(MAX_BETWEEN_KEY_CHECKS);
            let period = period.saturating_mul(1 << self.inconclusive.min(30)).min(longest);
            let spread = if self.is_staggered { period.mul_f64(MAX_JITTER) } else { period };
            now.boot + period.saturating_sub(jitter.share_of(spread))
        });
    }

    /// A new token is on disk.
    pub(super) fn token_written(&mut self, now: Now, jitter: Jitter) {
        self.inconclusive = 0;
        self.plan(now, jitter);
        self.is_staggered = true;
    }

    /// A check found the key published, or could not read the keys.
    pub(super) fn done(&mut self, now: Now, jitter: Jitter) {
        self.in_flight = false;
        self.is_staggered = true;
        self.inconclusive = 0;
        self.plan(now, jitter);
    }

    /// A check was inconclusive: the next one comes after twice the delay.
    pub(super) fn inconclusive(&mut self, now: Now, jitter: Jitter) {
        self.in_flight = false;
        self.is_staggered = true;
        self.inconclusive = self.inconclusive.saturating_add(1);
        self.plan(now, jitter);
    }

    /// There is no check until the next token is on disk.
    pub(super) const fn suspend(&mut self) {
        self.in_flight = false;
        self.due = None;
    }

    /// True if a check is planned.
    pub(super) const fn is_planned(&self) -> bool {
        self.due.is_some()
    }

    /// Starts the check if it is due. The bucket is charged for it, or delays it.
    pub(super) fn start(&mut self, bucket: &mut Bucket, now: BootTime) -> bool {
        let Some(due) = self.due.filter(|due| *due <= now && !self.in_flight) else { return false };
        match bucket.take(now) {
            Ok(()) => self.in_flight = true,
            Err(ready) => self.due = Some(ready.max(due)),
        }
        self.in_flight
    }

    /// The instant of the next check.
    pub(super) fn deadline(&self) -> Option<BootTime> {
        self.due.filter(|_| !self.in_flight)
    }
}
