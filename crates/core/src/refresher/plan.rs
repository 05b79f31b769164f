//! When the next exchange is due, and why.

use super::in_flight::{InFlight, MIN_BETWEEN_REQUESTS};
use super::moment::Moment;
use super::retries::{Failed, Retries};
use super::spacing::spaced;
use super::{Fingerprint, Lifetime, Reason};
use crate::schedule::Schedule;
use crate::time::{BootTime, Jitter, Now};

/// When the next exchange is due, and why.
#[derive(Debug)]
pub(super) struct Plan {
    /// The instant at which the next exchange is due. While one is in flight it has no meaning: the
    /// outcome sets it.
    pub(super) due: BootTime,
    /// Why it is due then.
    pub(super) reason: Reason,
    pub(super) retries: Retries,
    /// The exchange in flight: from [`super::Decision::Exchange`] until the outcome is reported.
    pub(super) in_flight: Option<InFlight>,
    /// The start of the last exchange that a signal requested, or the instant for which it is
    /// planned.
    pub(super) requested_at: Option<BootTime>,
    /// A signal has requested an exchange, and none that began after it has ended.
    pub(super) is_requested: bool,
    /// When an exchange that is due, and waits for its turn or for Dex to work again, asks next.
    pub(super) ask_at: Option<BootTime>,
}

impl Plan {
    pub(super) const fn new(now: BootTime) -> Self {
        Self {
            due: now,
            reason: Reason::Start,
            retries: Retries { count: 0, last: None, inputs: None },
            in_flight: None,
            requested_at: None,
            is_requested: false,
            ask_at: None,
        }
    }

    /// The latest instant at which a signal requested the last exchange that is not to come.
    pub(super) fn requested_before(&self, now: BootTime) -> Option<BootTime> {
        let at = self.requested_at?;
        let is_to_come = at > now || self.in_flight.is_none() && self.reason == Reason::Signal;
        Some(if is_to_come { at - MIN_BETWEEN_REQUESTS } else { at })
    }

    /// This plan, with the last exchange that a signal requested of another one.
    pub(super) const fn requested_last(mut self, at: Option<BootTime>) -> Self {
        self.requested_at = at;
        self
    }

    /// The exchange in flight was given up without an outcome: it is due again, and serves what
    /// became necessary meanwhile.
    pub(super) fn interrupted(&mut self, now: BootTime) {
        if let Some(exchange) = self.in_flight.take() {
            self.due = now;
            if self.is_requested {
                // It bypasses the rate limit, so two starts are five seconds apart (P5).
                self.due = now.max(exchange.started + MIN_BETWEEN_REQUESTS);
                self.reason = Reason::Signal;
                self.requested_at = Some(self.due);
            } else if let Some((_, reason @ Reason::SigningKeyGone)) = exchange.next {
                self.reason = reason;
            }
        }
        self.ask_at = None;
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
        self.retries = Retries { count: 0, last: None, inputs: None };
        self.is_requested = false;
        if let Some((due, Reason::Signal)) = next {
            self.is_requested = true;
            self.bring_forward(due, Reason::Signal);
        }
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
        if let Some(in_flight) = &mut self.in_flight {
            return in_flight.note(due, reason);
        }
        if due < self.due || self.reason == Reason::Schedule && due <= self.due {
            self.due = due;
            self.reason = reason;
        }
    }

    /// An exchange failed.
    pub(super) fn failed(&mut self, failed: Failed, inputs: Fingerprint, token: &Moment<'_>) {
        let next = self.in_flight.take().and_then(|exchange| exchange.next);
        self.is_requested = matches!(next, Some((_, Reason::Signal)));
        self.retries.add(failed.0, inputs);
        self.retry(failed, token.now, token.jitter, token);
        match next {
            // A clock step matters only if the failure may depend on the clock.
            Some((_, Reason::ClockStepped)) if self.retries.inputs.is_none() => self.not_after_expiry(token),
            Some((due, reason)) if due < self.due => {
                if reason == Reason::Signal {
                    self.retries.count = 0;
                }
                self.bring_forward(due, reason);
            }
            _ => self.not_after_expiry(token),
        }
    }

    /// Plans the attempt after one that failed at this instant.
    pub(super) fn retry(&mut self, failed: Failed, at: BootTime, jitter: Jitter, token: &Moment<'_>) {
        let delay = self.retries.delay(token.schedule, failed, token.remaining, jitter);
        self.retries.last = Some(failed.0);
        self.due = (at + delay).max(token.now);
        self.reason = Reason::Retry;
    }

    /// If the token expires during the delay, the next attempt is made at its expiry. Istio's
    /// ztunnel does the same.
    fn not_after_expiry(&mut self, token: &Moment<'_>) {
        let expires = token.remaining.map(|remaining| token.now + remaining);
        if let Some(expires) = expires.filter(|expires| *expires < self.due) {
            self.due = expires;
            self.reason = Reason::Expired;
        }
    }

    /// The files that an exchange reads have this fingerprint. If they changed since an exchange
    /// failed because of them, another one is due at once.
    pub(super) fn inputs_seen(&mut self, inputs: Fingerprint, now: BootTime) {
        // An exchange in flight reports the inputs that it read.
        if self.in_flight.is_none() && self.retries.inputs_changed(inputs) {
            self.bring_forward(now, Reason::InputChanged);
        }
    }

    /// A signal requests a refresh.
    pub(super) fn requested(&mut self, can_be_written: bool, now: BootTime) {
        self.is_requested = true;
        let when = spaced(self.requested_at, MIN_BETWEEN_REQUESTS, now);
        if self.in_flight.is_none() && self.is_wanted(can_be_written) && self.due <= when {
            // Another exchange is due by then, and serves this request too.
            return;
        }
        self.requested_at = Some(when);
        // An operator sends a signal after a repair, so the delays start again from the initial
        // one.
        self.retries.count = 0;
        match &mut self.in_flight {
            Some(in_flight) => in_flight.note(when, Reason::Signal),
            // An exchange that is due earlier is not wanted: the output cannot be written.
            None => (self.due, self.reason) = (when, Reason::Signal),
        }
    }

    /// The latest instant of the exchange that a signal has just requested.
    pub(super) fn request_due(&self, now: BootTime) -> BootTime {
        let in_flight = || self.restart_due().or(self.requested_at).unwrap_or(now);
        if self.in_flight.is_some() { in_flight() } else { self.due.max(now) }
    }

    /// False while no output can be written. A signal and a gone signing key need an exchange in
    /// any case.
    pub(super) const fn is_wanted(&self, can_be_written: bool) -> bool {
        can_be_written || matches!(self.reason, Reason::Signal | Reason::SigningKeyGone)
    }

    /// The instant at which the exchange in flight is started again, if a signal requested that.
    pub(super) fn restart_due(&self) -> Option<BootTime> {
        self.in_flight.and_then(|in_flight| in_flight.restart_due())
    }

    /// The instant at which [`start`](Self::start) has something to do.
    pub(super) fn deadline(&self, can_be_written: bool) -> Option<BootTime> {
        match self.in_flight {
            Some(_) => self.restart_due(),
            None => self.is_wanted(can_be_written).then_some(self.ask_at.unwrap_or(self.due)),
        }
    }
}
