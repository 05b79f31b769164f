//! When the next exchange is due, and why.

use std::time::Duration;

use super::{Fingerprint, Lifetime};
use crate::circuit_breaker::{Admission, SharedFailure, Slot};
use crate::failure::{Code, RetryClass, Step};
use crate::limits::MAX_RETRY_AFTER;
use crate::schedule::{Bucket, Schedule};
use crate::time::{BootTime, Jitter, Now};

/// Signals cause at most one exchange in this time (F102).
const MIN_BETWEEN_REQUESTS: Duration = Duration::from_secs(5);
/// `Retry-After` never delays an attempt beyond this time before the expiry: it leaves two attempts
/// of 15 s, the default of `--attempt-timeout`.
const LAST_ATTEMPT_BEFORE_EXPIRY: Duration = Duration::from_secs(30);

/// Why the next exchange is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// No exchange has been made yet.
    Start,
    /// The refresh schedule.
    Schedule,
    /// The last exchange failed.
    Retry,
    /// A file that an exchange reads has changed since the last exchange failed.
    InputChanged,
    /// A signal requested a refresh.
    Signal,
    /// The subject token is about to expire and has not been replaced.
    SubjectTokenExpiring,
    /// The signing key of the token on disk is no longer published.
    SigningKeyGone,
    /// The token on disk has expired.
    Expired,
    /// The wall clock was stepped since the last exchange failed.
    ClockStepped,
}

/// The exchange that has been started and has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    /// The instant at which it was started.
    started: BootTime,
    /// Another exchange that became necessary meanwhile, because this one may have read old inputs.
    next: Option<(BootTime, Reason)>,
    /// A signal has started it again. A second signal waits for its outcome, or a slow Dex would
    /// never be waited for.
    is_restarted: bool,
}

/// When the next exchange is due, and why.
#[derive(Debug)]
pub(super) struct Plan {
    /// The instant at which the next exchange is due. While one is in flight it has no meaning: the
    /// outcome sets it.
    pub(super) due: BootTime,
    /// Why it is due then.
    pub(super) reason: Reason,
    /// Failed exchanges in a row. Cleared by an issued token, another process's token, a changed
    /// input and a signal.
    pub(super) failed: u32,
    /// The fingerprint of the inputs at the last failed exchange, if its failure may depend on them
    /// or on the clock. Replaced when the inputs change. Cleared by an issued token, another
    /// process's token, and a failure that depends on neither.
    pub(super) failed_inputs: Option<Fingerprint>,
    /// The exchange in flight: from [`super::Action::Exchange`] until the outcome is reported.
    pub(super) in_flight: Option<InFlight>,
    /// The instant of the last exchange that a signal requested; it is in the future while the
    /// exchange is delayed.
    requested_at: Option<BootTime>,
    /// The exchange is due, and waits for the attempt of another token to end.
    is_held: bool,
}

impl Plan {
    pub(super) const fn new(now: BootTime) -> Self {
        Self {
            due: now,
            reason: Reason::Start,
            failed: 0,
            failed_inputs: None,
            in_flight: None,
            requested_at: None,
            is_held: false,
        }
    }

    /// True while an exchange is in flight.
    pub(super) const fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// A token was issued. It settles every earlier reason for an exchange, except a signal that
    /// arrived while the exchange was in flight: the operator may have repaired something that this
    /// exchange did not see.
    pub(super) fn issued(&mut self, lifetime: Lifetime) {
        let next = self.in_flight.take().and_then(|exchange| exchange.next);
        self.due = lifetime.expires;
        self.reason = Reason::Schedule;
        self.settle();
        if let Some((due, Reason::Signal)) = next {
            self.bring_forward(due, Reason::Signal);
        }
    }

    /// Nothing has failed.
    pub(super) const fn settle(&mut self) {
        self.failed = 0;
        self.failed_inputs = None;
    }

    /// Plans the refresh of a token that is on disk.
    pub(super) fn refresh(&mut self, schedule: &Schedule, lifetime: Lifetime, now: Now, jitter: Jitter) {
        let due = lifetime.issued + schedule.refresh_after(lifetime.length(), jitter);
        self.due = due.max(now.boot);
        self.reason = Reason::Schedule;
    }

    /// Makes an exchange due at `due`, if none is due earlier. The reason `Schedule` gives way to
    /// any other reason for the same instant.
    ///
    /// While one is in flight, only what it cannot serve makes another one due.
    pub(super) fn bring_forward(&mut self, due: BootTime, reason: Reason) {
        if let Some(InFlight { next, .. }) = &mut self.in_flight {
            let lasting = matches!(reason, Reason::Signal | Reason::SigningKeyGone | Reason::ClockStepped);
            // A clock step is the weakest reason, and a signal the strongest.
            let gives_way = |(_, known)| known != Reason::Signal && reason != Reason::ClockStepped;
            if lasting && next.is_none_or(gives_way) {
                *next = Some((due, reason));
            }
            return;
        }
        if due < self.due || self.reason == Reason::Schedule && due <= self.due {
            self.due = due;
            self.reason = reason;
        }
    }

    /// An exchange failed. `remaining` is the remaining validity of the token on disk.
    pub(super) fn failed(
        &mut self,
        schedule: &Schedule,
        failure: (Code, Option<Duration>),
        inputs: Fingerprint,
        remaining: Option<Duration>,
        now: Now,
        jitter: Jitter,
    ) {
        let (code, retry_after) = failure;
        let next = self.in_flight.take().and_then(|exchange| exchange.next);
        self.failed = self.failed.saturating_add(1);
        let entry = code.entry();
        // A failure of TLS has the class network, but may be due to the CA file or to the clock.
        let depends_on_us = entry.retry != RetryClass::Network || entry.step == Step::Tls;
        self.failed_inputs = depends_on_us.then_some(inputs);
        let delay = self.delay(schedule, code, retry_after, remaining, jitter);
        self.due = now.boot + delay;
        self.reason = Reason::Retry;
        match next {
            // A clock step matters only if the failure may depend on the clock.
            Some((_, Reason::ClockStepped)) if self.failed_inputs.is_none() => {}
            Some((due, reason)) if due < self.due => {
                if reason == Reason::Signal {
                    self.failed = 0;
                }
                return self.bring_forward(due, reason);
            }
            _ => {}
        }
        self.not_after_expiry(remaining, now.boot);
    }

    /// The attempt of another token failed because of Dex. This token would have failed too: the
    /// next attempt comes when it would come then.
    fn share(
        &mut self,
        schedule: &Schedule,
        shared: SharedFailure,
        remaining: Option<Duration>,
        now: BootTime,
    ) {
        self.failed = self.failed.max(shared.failures);
        let delay = self.delay(schedule, shared.code, shared.retry_after, remaining, shared.jitter);
        self.due = (shared.at + delay).max(now);
        self.reason = Reason::Retry;
        self.not_after_expiry(remaining, now);
    }

    /// The delay after a failed exchange.
    fn delay(
        &self,
        schedule: &Schedule,
        code: Code,
        retry_after: Option<Duration>,
        remaining: Option<Duration>,
        jitter: Jitter,
    ) -> Duration {
        let entry = code.entry();
        let delay = schedule.retry_delay(entry.step, entry.retry, self.failed, remaining, jitter);
        let Some(retry_after) = retry_after else { return delay };
        // The server may lengthen the delay, but not beyond the last useful attempt.
        let requested = retry_after.min(MAX_RETRY_AFTER);
        let requested = requested + jitter.share_of(requested / 10);
        let latest =
            remaining.map_or(requested, |remaining| remaining.saturating_sub(LAST_ATTEMPT_BEFORE_EXPIRY));
        delay.max(requested.min(latest))
    }

    /// If the token expires during the delay, the next attempt is made at its expiry. Istio's
    /// ztunnel does the same.
    fn not_after_expiry(&mut self, remaining: Option<Duration>, now: BootTime) {
        if let Some(expires) = remaining.map(|remaining| now + remaining).filter(|at| *at < self.due) {
            self.due = expires;
            self.reason = Reason::Expired;
        }
    }

    /// The files that an exchange reads have this fingerprint. If they changed since an exchange
    /// failed because of them, another one is due at once.
    pub(super) fn inputs_seen(&mut self, inputs: Fingerprint, now: BootTime) {
        // An exchange in flight reports the inputs that it read.
        if self.in_flight.is_none() && self.failed_inputs.is_some_and(|failed| failed != inputs) {
            self.failed_inputs = Some(inputs);
            self.failed = 0;
            self.bring_forward(now, Reason::InputChanged);
        }
    }

    /// A signal requests a refresh.
    pub(super) fn requested(&mut self, can_be_written: bool, now: BootTime) {
        let when = match self.requested_at {
            // An earlier request is delayed until then. This request does not delay it further.
            Some(planned) if planned > now => planned,
            last => last.map_or(now, |last| (last + MIN_BETWEEN_REQUESTS).max(now)),
        };
        if self.in_flight.is_none() && self.is_wanted(can_be_written) && self.due <= when {
            // Another exchange is due by then, and serves this request too.
            return;
        }
        self.requested_at = Some(when);
        // An operator sends a signal after a repair, so the delays start again from the initial
        // one.
        self.failed = 0;
        self.bring_forward(when, Reason::Signal);
    }

    /// The latest instant of the exchange that a signal has just requested.
    pub(super) fn request_due(&self, now: BootTime) -> BootTime {
        let in_flight = || self.restart_due().or(self.requested_at).unwrap_or(now);
        if self.in_flight.is_some() { in_flight() } else { self.due.max(now) }
    }

    /// False while no output can be written. A signal and a gone signing key need an exchange in
    /// any case.
    const fn is_wanted(&self, can_be_written: bool) -> bool {
        can_be_written || matches!(self.reason, Reason::Signal | Reason::SigningKeyGone)
    }

    /// The instant at which the exchange in flight is started again, if a signal requested that.
    fn restart_due(&self) -> Option<BootTime> {
        let InFlight { started, next, .. } = self.in_flight.filter(|exchange| !exchange.is_restarted)?;
        let (due, _) = next.filter(|(_, reason)| *reason == Reason::Signal)?;
        Some(due.max(started + MIN_BETWEEN_REQUESTS))
    }

    /// Starts an exchange if one is due, and if the bucket and the other tokens of this Dex allow
    /// it. With an empty bucket it is delayed until a token comes back.
    pub(super) fn start(
        &mut self,
        limits: (&Schedule, &mut Bucket, &mut Slot<'_>),
        can_be_written: bool,
        remaining: Option<Duration>,
        now: BootTime,
    ) -> bool {
        let (schedule, bucket, slot) = limits;
        let is_restarted = self.restart_due().is_some_and(|due| due <= now);
        if is_restarted {
            self.in_flight = None;
            self.due = now;
            self.reason = Reason::Signal;
        }
        if slot.take_release() && self.reason == Reason::Retry {
            self.due = self.due.min(now);
        }
        self.is_held = false;
        if self.in_flight.is_some() || !self.is_wanted(can_be_written) || self.due > now {
            return false;
        }
        match slot.admission() {
            Admission::Granted => {}
            Admission::Held => {
                self.is_held = true;
                return false;
            }
            Admission::Failing(failure) => {
                self.share(schedule, failure, remaining, now);
                if self.due > now {
                    return false;
                }
            }
        }
        match bucket.take(now) {
            Ok(()) => {}
            // A signal bypasses the rate limit; later attempts wait longer.
            Err(_) if self.reason == Reason::Signal => bucket.overdraw(now),
            Err(ready) => {
                self.due = ready;
                return false;
            }
        }
        slot.started();
        self.in_flight = Some(InFlight { started: now, next: None, is_restarted });
        true
    }

    /// The instant at which [`start`](Self::start) has something to do.
    pub(super) fn deadline(&self, can_be_written: bool) -> Option<BootTime> {
        match self.in_flight {
            Some(_) => self.restart_due(),
            None => (self.is_wanted(can_be_written) && !self.is_held).then_some(self.due),
        }
    }
}
