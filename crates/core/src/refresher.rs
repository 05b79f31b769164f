//! The state machine of one token: it learns what happened and decides what to do next.
//!
//! The caller reports each [`Observation`] with [`Refresher::on`], and asks [`Refresher::step`]
//! for the next [`Decision`]. A loop that sleeps and a driver that is polled can both use it. What
//! was decided may take long: until its outcome is reported, `step` does not return it again, but
//! it may return other decisions. So an exchange or a write that hangs delays nothing else. The
//! one exception is an exchange that a signal starts again. [`Decision::Expire`] has no outcome.
//! Calling `step` too often is harmless. No observation ends the machine, and every delay has a
//! lower bound.
//!
//! It consists of smaller machines: the plan of the exchanges, a delivery for each output (what it
//! holds and what is written to it), the subject token, the key checks, and the clocks.

mod clocks;
mod decision;
mod delivery;
mod health;
mod in_flight;
mod key_checks;
mod lifetime;
mod moment;
mod observation;
mod on_disk;
mod pending;
mod plan;
mod reason;
mod retries;
mod spacing;
mod start;
mod subject;

use std::time::Duration;

use crate::circuit_breaker::Member;
use crate::failure::Code;
use crate::schedule::{Bucket, SHORT_POLL_INTERVAL, Schedule};
use crate::time::{BootTime, Jitter, Now, UnixTime};
use clocks::Clocks;
pub use decision::Decision;
use delivery::Delivery;
pub use health::Health;
use key_checks::KeyChecks;
pub use lifetime::Lifetime;
use moment::Moment;
pub use observation::{Fingerprint, Observation};
use on_disk::OnDisk;
use plan::Plan;
pub use reason::Reason;
use retries::Retries;
use subject::Subject;

/// With an adopted token, the first exchange is spread over this time. A crash loop, or all pods of
/// a restarted node, then make few requests at once (F109).
const SPREAD_AT_START: Duration = Duration::from_secs(30);
/// An adopted token that is valid for less than this is refreshed at once: the spread and an
/// exchange may take that long.
const MIN_REMAINING_FOR_SPREAD: Duration = Duration::from_secs(60);
/// After a pause of the process, a suspension or a clock step, a due exchange is spread over this
/// time (F92 to F96). All pods of a node see such an event at the same moment.
const SPREAD_AFTER_PAUSE: Duration = Duration::from_secs(5);
/// After a signing key is gone, the exchange is spread over this time, because a whole fleet may
/// see it in the same poll. P13 allows one minute.
const SPREAD_OF_GONE_KEY: Duration = Duration::from_secs(60);
/// After another token is written, the attempt that was due at the expiry of the previous token is
/// made this much later at the earliest: the exchange may have failed just before (P5).
const MIN_AFTER_WRITE: Duration = Duration::from_millis(500);
/// In this time before an expiry the files are polled each five seconds, so that a repaired input
/// is used before readers see an expired token.
const NEAR_EXPIRY: Duration = Duration::from_secs(120);

/// What limits the exchanges of a token: it outlives the token, whose place another one may take.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    bucket: Bucket,
    /// The instant of the last exchange that a signal requested.
    requested_at: Option<BootTime>,
}

/// Keeps one token fresh.
#[derive(Debug)]
pub struct Refresher {
    schedule: Schedule,
    bucket: Bucket,
    plan: Plan,
    outputs: Vec<Delivery>,
    /// The subject token that was read last.
    subject: Option<Subject>,
    key_checks: KeyChecks,
    clocks: Clocks,
    /// The number of the last token that was issued, or that another process wrote, and the number
    /// of the token for which the refresh is planned.
    issued: u32,
    planned: u32,
}

impl Refresher {
    /// A machine without a token: an exchange is due at once. `key_check` is the period of the key
    /// check; `None` switches it off. `outputs` is the number of outputs; without any, nothing is
    /// ever due.
    #[must_use]
    pub fn new(schedule: Schedule, key_check: Option<Duration>, outputs: usize, now: Now) -> Self {
        Self {
            schedule,
            bucket: Bucket::default(),
            plan: Plan::new(now.boot),
            outputs: (0..outputs).map(|_| Delivery::new(now.boot)).collect(),
            subject: None,
            key_checks: KeyChecks::new(key_check),
            clocks: Clocks::default(),
            issued: 0,
            planned: 0,
        }
    }

    /// This machine with another configuration, for the same exchange. `outputs` has the former
    /// index of each output, or nothing for one that is new: the current token is written to it at
    /// once. A job that runs is given up, so an exchange or a write in flight is due again; an
    /// exchange that a signal requested, five seconds after its start.
    #[must_use]
    pub fn reconfigured(
        mut self,
        schedule: Schedule,
        key_check: Option<Duration>,
        outputs: &[Option<usize>],
        now: Now,
        jitter: Jitter,
    ) -> Self {
        let (current, on_disk) = (Delivery::current(&self.outputs, now.boot), self.on_disk());
        let mut former: Vec<_> = std::mem::take(&mut self.outputs).into_iter().map(Some).collect();
        let mut delivery = |index: &Option<usize>| {
            let former = index.and_then(|index| former.get_mut(index)).and_then(Option::take);
            former.map_or_else(|| Delivery::of(current, now.boot), |former| former.interrupted(now.boot))
        };
        self.outputs = outputs.iter().map(&mut delivery).collect();
        self.plan.interrupted(now.boot);
        let has_token = on_disk.is_some();
        self.key_checks = self.key_checks.reconfigured(key_check, has_token, now, jitter);
        if self.schedule != schedule {
            self.schedule = schedule;
            let is_planned = self.plan.reason == Reason::Schedule && !self.plan.is_requested;
            if let Some(lifetime) = on_disk.filter(|_| is_planned) {
                self.plan.refresh(&schedule, lifetime, now, jitter);
            }
        }
        self
    }

    /// What limits the exchanges to come: those that were made, and those that signals requested.
    #[must_use]
    pub fn rate_limit(&self, now: Now) -> RateLimit {
        RateLimit { bucket: self.bucket, requested_at: self.plan.requested_before(now.boot) }
    }

    /// This machine with the rate limit of another one, which it replaces: the attempts of both
    /// count.
    #[must_use]
    pub const fn with_rate_limit(mut self, limit: RateLimit) -> Self {
        self.bucket = limit.bucket;
        self.plan = self.plan.requested_last(limit.requested_at);
        self
    }

    /// Notes what happened. `jitter` spreads what follows from it.
    ///
    /// # Panics
    /// Never: an output that does not exist is ignored.
    pub fn on(&mut self, observation: Observation, now: Now, jitter: Jitter) {
        match observation {
            Observation::Adopted { output, lifetime, expires } => {
                let Some(delivery) = self.outputs.get_mut(output) else { return };
                delivery.adopted(lifetime, expires);
                let remaining = lifetime.remaining(now.boot).unwrap_or_default();
                let margin = self.schedule.refresh_margin(lifetime.length()).max(MIN_REMAINING_FOR_SPREAD);
                if self.plan.reason == Reason::Start && remaining > margin {
                    self.plan.due = now.boot + jitter.share_of(SPREAD_AT_START);
                }
                self.key_checks.plan(now, jitter);
            }
            Observation::ReplacedByNewer { output, lifetime, expires } => {
                let Some(delivery) = self.outputs.get_mut(output) else { return };
                self.issued = self.issued.saturating_add(1);
                self.planned = self.issued;
                delivery.replaced(lifetime, expires, self.issued);
                self.plan.retries = Retries::default();
                if !self.plan.is_requested {
                    self.plan.refresh(&self.schedule, lifetime, now, jitter);
                }
                self.key_checks.plan(now, jitter);
            }
            Observation::Modified { output, by_valid_token } => {
                if let Some(delivery) = self.outputs.get_mut(output) {
                    delivery.modified(by_valid_token, now.boot);
                }
            }
            Observation::Missing(output) => {
                let newest = self.newest();
                if let Some((delivery, token)) = self.outputs.get_mut(output).zip(newest) {
                    delivery.copy(token, now.boot);
                }
            }
            Observation::Issued(lifetime) => {
                self.plan.issued(lifetime);
                self.issued = self.issued.saturating_add(1);
                for delivery in &mut self.outputs {
                    delivery.issued(lifetime, self.issued, now.boot);
                }
            }
            Observation::ExchangeFailed { code, retry_after, inputs } => {
                let schedule = self.schedule;
                let token = self.moment(&schedule, now, jitter);
                self.plan.failed((code, retry_after), inputs, &token);
            }
            Observation::Written(output) => self.written(output, now, jitter),
            Observation::WriteFailed { output, code } => {
                let remaining = self.remaining(now.boot);
                let Some(delivery) = self.outputs.get_mut(output) else { return };
                let (entry, failed) = (code.entry(), delivery.write_failed());
                let delay = self.schedule.retry_delay(entry.step, entry.retry, failed, remaining, jitter);
                delivery.retry_at(now.boot + delay);
            }
            Observation::NothingToWrite(output) => {
                if let Some(delivery) = self.outputs.get_mut(output) {
                    delivery.discard();
                }
            }
            Observation::InputsPolled(inputs) => self.plan.inputs_seen(inputs, now.boot),
            Observation::SubjectTokenRead { file, issued, expires } => {
                self.subject = Some(Subject::read(self.subject, file, issued, expires, now));
            }
            Observation::RefreshRequested => self.plan.requested(self.can_be_written(), now.boot),
            Observation::KeyCheckDone => self.key_checks.done(now, jitter),
            Observation::KeyCheckInconclusive => self.key_checks.inconclusive(now, jitter),
            Observation::KeyCheckSuspended => self.key_checks.suspend(),
            Observation::SigningKeyGone => {
                self.key_checks.suspend();
                let due = now.boot + jitter.share_of(SPREAD_OF_GONE_KEY);
                self.plan.bring_forward(due, Reason::SigningKeyGone);
            }
        }
    }

    /// The next decision. `jitter` is used after a pause of the process and after a clock step.
    /// `member` is this token among those of its Dex. After an attempt of another
    /// token at the same Dex has ended, the caller asks again.
    pub fn step(&mut self, now: Now, jitter: Jitter, member: &mut Member<'_>) -> Decision {
        let paused = self.clocks.has_paused(now.boot);
        if paused && !self.plan.is_in_flight() && self.plan.due <= now.boot {
            self.plan.due = now.boot + jitter.share_of(SPREAD_AFTER_PAUSE);
        }
        if self.clocks.is_stepped(now) {
            self.clock_stepped(now, jitter);
        }
        // A write comes before the report of an expiry: the pending token replaces the expired one.
        if let Some(output) = (0..self.outputs.len()).find(|output| self.starts_write(*output, now.boot)) {
            return Decision::Publish(output);
        }
        for output in 0..self.outputs.len() {
            if let Some(expired) = self.outputs[output].take_expiry(now.boot) {
                let number = self.outputs[output].number();
                let is_planned = paused || member.is_waiting() || self.plan.due <= expired.expires;
                if !is_planned && !self.is_elsewhere(output, number, now.boot) {
                    self.plan.bring_forward(now.boot, Reason::Expired);
                }
                return Decision::Expire(output);
            }
        }
        self.use_expiring_subject(now);
        let schedule = self.schedule;
        let token = self.moment(&schedule, now, jitter);
        if self.plan.start(&mut self.bucket, member, &token) {
            return Decision::Exchange;
        }
        // An exchange has priority over a key check.
        if !self.plan.is_in_flight() && self.key_checks.start(&mut self.bucket, now.boot) {
            return Decision::CheckKeys;
        }
        let poll = now.boot + self.poll_interval(now.boot);
        let until = self.next_deadline(now).map_or(poll, |deadline| deadline.min(poll));
        self.clocks.wait(until);
        Decision::Wait(until)
    }

    /// The health of the token: that of its worst output.
    #[must_use]
    pub fn health(&self, now: Now) -> Health {
        let failed = self.has_failed();
        let of = |delivery: &Delivery| match delivery.on_disk() {
            None => Health::Starting,
            Some(token) if token.remaining(now.boot).is_none() => Health::Expired,
            Some(_) if failed => Health::Stale,
            Some(_) => Health::Fresh,
        };
        self.outputs.iter().map(of).max().unwrap_or(Health::Starting)
    }

    /// The lifetime of the token on disk, expired or not. If the outputs hold several, of the
    /// newest one. `None` before the first token.
    #[must_use]
    pub fn on_disk(&self) -> Option<Lifetime> {
        self.newest().map(|token| token.lifetime)
    }

    fn newest(&self) -> Option<OnDisk> {
        self.outputs.iter().filter_map(Delivery::token).max_by_key(OnDisk::newness)
    }

    /// True if the token that this output holds is known, so that its expiry is reported on time.
    #[must_use]
    pub fn knows_token_in(&self, output: usize) -> bool {
        self.outputs.get(output).is_some_and(|delivery| delivery.on_disk().is_some())
    }

    /// The instant at which the next exchange is due. Later events may change it.
    #[must_use]
    pub const fn due(&self) -> BootTime {
        self.plan.due
    }

    /// Why the next exchange is due.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.plan.reason
    }

    /// True if a signal has requested an exchange, and none that began after it has ended.
    #[must_use]
    pub const fn is_requested(&self) -> bool {
        self.plan.is_requested
    }

    /// Why exchanges fail: the code of the last one that failed, of this token or of another one at
    /// the same Dex. `None` while none has failed since a success.
    #[must_use]
    pub fn exchange_failure(&self) -> Option<Code> {
        self.plan.retries.last.filter(|_| self.plan.retries.count > 0)
    }

    /// The number of failed exchanges in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.plan.retries.count
    }

    /// True if the last exchange or the last write to an output failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.plan.retries.count > 0 || self.outputs.iter().any(Delivery::has_failed)
    }

    /// The latest instant of the exchange that a signal has just requested.
    #[must_use]
    pub fn request_due(&self, now: Now) -> BootTime {
        self.plan.request_due(now.boot)
    }

    /// The instant of the next write to this output, if a token waits to be written.
    #[must_use]
    pub fn write_due(&self, output: usize) -> Option<BootTime> {
        self.outputs.get(output)?.write_due()
    }

    /// The instant at which this output is restored, if that is planned.
    #[must_use]
    pub fn restore_due(&self, output: usize) -> Option<BootTime> {
        self.outputs.get(output)?.restore_due()
    }

    /// True while the subject token looks expired and is not to be sent yet. The caller retries the
    /// file for up to 30 s.
    #[must_use]
    pub fn withholds_subject_token(&self, now: Now) -> bool {
        self.subject.is_some_and(|subject| subject.is_withheld(now.boot))
    }

    /// True if the subject token's file, which has this fingerprint now, was replaced since it was
    /// read. The caller then reads it again to learn its expiry.
    #[must_use]
    pub fn subject_token_is_new(&self, file: Fingerprint) -> bool {
        self.subject.is_none_or(|subject| subject.is_replaced_by(file))
    }

    /// The expiry of the subject token that was read last, if that is known.
    #[must_use]
    pub fn subject_token_expires(&self) -> Option<UnixTime> {
        self.subject.map(|subject| subject.expires())
    }

    /// True if a key check is planned and no exchange is in flight: the published keys may be
    /// compared with the key of the token on disk.
    #[must_use]
    pub const fn may_compare_keys(&self) -> bool {
        self.key_checks.is_planned() && !self.plan.is_in_flight()
    }

    /// The token that was being written to this output is on disk. A restored token changes no
    /// plan, and neither does one for which the refresh is planned already.
    fn written(&mut self, output: usize, now: Now, jitter: Jitter) {
        let written = self.outputs.get_mut(output).and_then(|delivery| delivery.written(now.boot));
        let Some(written) = written.filter(|written| written.number > self.planned) else { return };
        self.planned = written.number;
        let (due, reason) = (self.plan.due, self.plan.reason);
        self.plan.refresh(&self.schedule, written.lifetime, now, jitter);
        // A reason that came up while this token was pending still holds, such as a signal. The
        // expiry of the previous token does not.
        match reason {
            // The exchange in flight serves the reason for which it was started.
            _ if self.plan.is_in_flight() => self.plan.reason = reason,
            Reason::Expired if self.plan.retries.count > 0 => {
                self.plan.bring_forward(due.max(now.boot + MIN_AFTER_WRITE), Reason::Retry);
            }
            Reason::Schedule | Reason::Expired => {}
            reason => self.plan.bring_forward(due, reason),
        }
        self.key_checks.token_written(now, jitter);
    }

    /// Starts the write to this output if it is due. A token that expired before it could be
    /// written is dropped.
    fn starts_write(&mut self, output: usize, now: BootTime) -> bool {
        if let Some(expired) = self.outputs[output].take_expired(now) {
            if !self.is_elsewhere(output, expired.number, now) {
                self.plan.bring_forward(now, Reason::Expired);
            }
            return false;
        }
        self.outputs[output].start_write(now)
    }

    /// True if another output holds the token with this number, or a newer one, and it is valid.
    fn is_elsewhere(&self, output: usize, number: u32, now: BootTime) -> bool {
        let mut all = self.outputs.iter().enumerate();
        all.any(|(index, delivery)| index != output && delivery.holds(number, now))
    }

    /// The wall clock was stepped. An exchange that failed may have failed because of the wrong
    /// clock, so another one is due.
    fn clock_stepped(&mut self, now: Now, jitter: Jitter) {
        let mut is_earlier = false;
        for delivery in &mut self.outputs {
            is_earlier |= delivery.clock_stepped(now);
        }
        // A newer token that waits to be written changes the plan when it is written.
        let newest = self.newest().filter(|token| is_earlier && token.number == self.issued);
        if let Some(token) = newest
            && !self.plan.is_in_flight()
            && self.plan.reason == Reason::Schedule
        {
            self.plan.refresh(&self.schedule, token.lifetime, now, jitter);
        }
        // Whether the exchange in flight will depend on the clock is not known yet.
        let may_depend = self.plan.retries.inputs.is_some() || self.plan.is_in_flight();
        if may_depend && self.clocks.may_cause_exchange(now.boot) {
            let due = now.boot + jitter.share_of(SPREAD_AFTER_PAUSE);
            self.plan.bring_forward(due, Reason::ClockStepped);
        }
    }

    /// The subject token is about to expire and has not been replaced: one more exchange is due
    /// while it is still valid. It is not needed if the token on disk is younger than a tenth of
    /// its lifetime.
    fn use_expiring_subject(&mut self, now: Now) {
        if self.plan.is_in_flight() {
            return;
        }
        let young = self.on_disk().is_some_and(|token| now.boot.since(token.issued) < token.length() / 10);
        let Some(subject) = self.subject.as_mut().filter(|_| !young) else { return };
        if subject.take_last_use(now.unix) {
            self.plan.bring_forward(now.boot, Reason::SubjectTokenExpiring);
        }
    }

    fn moment<'a>(&self, schedule: &'a Schedule, now: Now, jitter: Jitter) -> Moment<'a> {
        let (remaining, can_be_written) = (self.remaining(now.boot), self.can_be_written());
        Moment { schedule, remaining, can_be_written, now: now.boot, jitter }
    }

    /// False while no output can be written: another token could not be written either.
    fn can_be_written(&self) -> bool {
        self.outputs.iter().any(Delivery::can_be_written)
    }

    /// The remaining validity of the token on disk: of the output that is worst off.
    fn remaining(&self, now: BootTime) -> Option<Duration> {
        let of = |delivery: &Delivery| delivery.on_disk().and_then(|token| token.remaining(now));
        self.outputs.iter().map(of).min().flatten()
    }

    /// The earliest instant at which `step` has something to do besides polling.
    fn next_deadline(&self, now: Now) -> Option<BootTime> {
        let idle = !self.plan.is_in_flight();
        let last_use = self.subject.filter(|_| idle).and_then(|subject| subject.deadline(now));
        let key_check = self.key_checks.deadline().filter(|_| idle);
        let writes = self.outputs.iter().filter_map(Delivery::write_due);
        let expiries = self.outputs.iter().filter_map(Delivery::expiry_due);
        let exchange = self.plan.deadline(self.can_be_written());
        [exchange, last_use, key_check].into_iter().flatten().chain(writes).chain(expiries).min()
    }

    /// The time until the next poll of the files. It is short while a changed file would matter
    /// soon.
    fn poll_interval(&self, now: BootTime) -> Duration {
        let near_expiry = |token: Lifetime| {
            let remaining = token.remaining(now).unwrap_or_default();
            // A token with a lifetime of two minutes or less would be polled at the short interval
            // all the time. Its refresh is near in any case.
            remaining < NEAR_EXPIRY && token.length() > NEAR_EXPIRY
        };
        let short = self
            .outputs
            .iter()
            .any(|delivery| delivery.is_busy() || delivery.on_disk().is_some_and(near_expiry))
            || self.subject.is_some_and(|subject| subject.looks_expired())
            || self.plan.retries.inputs.is_some();
        let interval = self.schedule.poll_interval();
        if short { interval.min(SHORT_POLL_INTERVAL) } else { interval }
    }
}

#[cfg(test)]
mod tests;
