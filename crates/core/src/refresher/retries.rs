//! The failed exchanges in a row, and the delay after them.

use std::time::Duration;

use super::Fingerprint;
use crate::failure::{Code, RetryClass, Step};
use crate::limits::MAX_RETRY_AFTER;
use crate::schedule::Schedule;
use crate::time::Jitter;

/// `Retry-After` never delays an attempt beyond this time before the expiry: it leaves two attempts
/// of 15 s, the default of `--attempt-timeout`.
const LAST_ATTEMPT_BEFORE_EXPIRY: Duration = Duration::from_secs(30);

/// A failed exchange: its code, and the `Retry-After` of the answer.
pub(super) type Failed = (Code, Option<Duration>);

/// The failed exchanges in a row.
#[derive(Debug, Default)]
pub(super) struct Retries {
    /// Their number. Cleared by an issued token, another process's token, a changed input and a
    /// signal.
    pub(super) count: u32,
    /// The code of the last one. Without any in a row it has no meaning.
    pub(super) last: Option<Code>,
    /// The fingerprint of the inputs at the last failed exchange, if its failure may depend on them
    /// or on the clock. Replaced when the inputs change. Cleared by an issued token, another
    /// process's token, and a failure that depends on neither.
    pub(super) inputs: Option<Fingerprint>,
}

impl Retries {
    /// An exchange that had read these inputs failed.
    pub(super) fn add(&mut self, code: Code, inputs: Fingerprint) {
        self.count = self.count.saturating_add(1);
        let entry = code.entry();
        // A failure of TLS has the class network, but may be due to the CA file or to the clock.
        let depends_on_us = entry.retry != RetryClass::Network || entry.step == Step::Tls;
        self.inputs = depends_on_us.then_some(inputs);
    }

    /// True if the files that an exchange reads have changed since one failed because of them.
    pub(super) fn inputs_changed(&mut self, inputs: Fingerprint) -> bool {
        let changed = self.inputs.is_some_and(|failed| failed != inputs);
        if changed {
            *self = Self { count: 0, last: None, inputs: Some(inputs) };
        }
        changed
    }

    /// The delay after the last failed exchange. `remaining` is the remaining validity of the token
    /// on disk.
    pub(super) fn delay(
        &self,
        schedule: &Schedule,
        (code, retry_after): Failed,
        remaining: Option<Duration>,
        jitter: Jitter,
    ) -> Duration {
        let entry = code.entry();
        let delay = schedule.retry_delay(entry.step, entry.retry, self.count, remaining, jitter);
        let Some(retry_after) = retry_after else { return delay };
        // The server may lengthen the delay, but not beyond the last useful attempt.
        let requested = retry_after.min(MAX_RETRY_AFTER);
        let requested = requested + jitter.share_of(requested / 10);
        let latest =
            remaining.map_or(requested, |remaining| remaining.saturating_sub(LAST_ATTEMPT_BEFORE_EXPIRY));
        delay.max(requested.min(latest))
    }
}
