//! The state machine that applies the schedule: it is told what happened and says what to do next.
//!
//! It serves a loop that sleeps and a driver that is polled alike. Asking [`Refresher::step`] too often is
//! harmless; nothing here ends the loop, and no path through it has no floor.

use std::time::Duration;

use crate::failure::{Failure, RetryClass, Step};
use crate::schedule::{Bucket, SHORT_POLL_INTERVAL, Schedule};
use crate::time::{BootTime, Jitter, Now, UnixTime};

/// An adopted token that is still good spreads the first exchange over this, so that a crash loop or a node that
/// comes back does not hammer Dex (F109).
const SPREAD_AT_START: Duration = Duration::from_secs(30);
/// After the process was stopped, the machine suspended or the wall clock stepped, what is due is spread over this (F92 to
/// F96).
const SPREAD_AFTER_PAUSE: Duration = Duration::from_secs(5);
/// A wake that comes this much too late means a pause.
const PAUSE: Duration = Duration::from_secs(5);
/// A whole fleet sees lost keys at about the same time: each exchange is spread over this.
const SPREAD_OF_LOST_KEYS: Duration = Duration::from_secs(60);
/// How long a subject token that looks expired is waited for; then it is sent all the same, since the clock that
/// says so may be the wrong one.
const EXPIRED_SUBJECT_GRACE: Duration = Duration::from_secs(30);
/// A signal asks for at most one exchange in this time (F102).
const BETWEEN_SIGNALS: Duration = Duration::from_secs(5);
/// A wall clock that is stepped asks for at most one exchange in this time.
const BETWEEN_STEPS: Duration = Duration::from_secs(60);
/// A file that others change is put back at most once in this time (F87).
const BETWEEN_REPAIRS: Duration = Duration::from_secs(60);
/// The longest delay between two key checks that prove nothing, unless their period is longer.
const LONGEST_BETWEEN_KEY_CHECKS: Duration = Duration::from_secs(3_600);
/// A token nearer to its expiry than this keeps the process looking often.
const NEAR_EXPIRY: Duration = Duration::from_secs(120);

/// From when to when a token is good, on the clock that is never stepped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetime {
    /// When it was asked for.
    pub issued: BootTime,
    /// From when on it is not good any more.
    pub expires: BootTime,
}

impl Lifetime {
    /// A life of this length, counted from the instant the request was sent: early is safe.
    #[must_use]
    pub fn starting(asked: BootTime, length: Duration) -> Self {
        Self { issued: asked, expires: asked + length }
    }

    /// From beginning to end.
    #[must_use]
    pub const fn length(self) -> Duration {
        self.expires.since(self.issued)
    }

    /// What is left of it; nothing when it is over.
    #[must_use]
    pub fn remaining(self, now: BootTime) -> Option<Duration> {
        Some(now.until(self.expires)).filter(|left| !left.is_zero())
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Read the subject token and exchange it; a token has been taken from the bucket for it, unless a signal asks.
    Exchange,
    /// Put the token in hand into its file.
    Publish,
    /// Compare Dex's published keys with the token on disk; a token has been taken from the bucket for it.
    CheckKeys,
    /// The token on disk has expired just now.
    Expire,
    /// Nothing before then; look at the files when it comes, and ask again.
    Wait(BootTime),
}

/// Why the next exchange is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// There has been none yet.
    Start,
    /// The schedule says so.
    Schedule,
    /// The last one failed.
    Retry,
    /// A file that an exchange reads has changed since it failed.
    InputChanged,
    /// A signal asked for it.
    Signal,
    /// The subject token is about to die and was not replaced.
    SubjectTokenExpiring,
    /// Dex does not have the key any more that signed the token.
    SigningKeyGone,
    /// The token on disk has expired.
    Expired,
    /// The wall clock was stepped since it failed.
    ClockStepped,
}

/// What the outside may know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// No token yet.
    Starting,
    /// A good token, and nothing wrong.
    Fresh,
    /// The token is still good, but refreshing it fails.
    Stale,
    /// The token is not good any more.
    Expired,
}

impl Health {
    /// Its name in logs and as a label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
        }
    }
}

/// What can be told of a file without reading it; equal for an unchanged file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fingerprint(pub u64);

/// What the last look at the subject token told.
#[derive(Clone, Copy, Debug)]
struct Subject {
    file: Fingerprint,
    expires: UnixTime,
    /// Shortly before it dies; the exchange of last chance is due then.
    last_use: UnixTime,
    /// Since when it is known to look expired.
    expired_since: Option<BootTime>,
    last_use_done: bool,
}

/// A token on its way into the file.
#[derive(Clone, Copy, Debug)]
struct Pending {
    lifetime: Lifetime,
    /// It was there before and is put back: nothing about it is new.
    is_restore: bool,
}

/// Keeps one token fresh. Built at start, told of everything that happens.
#[derive(Debug)]
pub struct Refresher {
    schedule: Schedule,
    key_check: Option<Duration>,
    bucket: Bucket,
    /// The token on disk.
    on_disk: Option<Lifetime>,
    /// The token in hand that is not on disk yet.
    pending: Option<Pending>,
    expiry_reported: bool,
    due: BootTime,
    reason: Reason,
    /// Failures in a row of the exchange, and of putting the token into its file.
    failed_exchanges: u32,
    failed_writes: u32,
    /// The inputs as they were when the last exchange was refused.
    failed_inputs: Option<Fingerprint>,
    publish_due: BootTime,
    restore_at: Option<BootTime>,
    subject: Option<Subject>,
    requested_at: Option<BootTime>,
    key_check_due: Option<BootTime>,
    /// Whether the looks at the keys have a time of their own: a fleet that started together has not.
    key_checks_staggered: bool,
    /// Key checks in a row that proved nothing.
    inconclusive_key_checks: u32,
    /// Both clocks at the last step, and when a step of the wall clock asked for an exchange.
    last_step: Option<Now>,
    clock_stepped_at: Option<BootTime>,
    /// The end of the token on disk by the wall clock, where nothing else tells it.
    wall_expiry: Option<UnixTime>,
    /// Until when the last [`Action::Wait`] was meant to last.
    waiting_until: Option<BootTime>,
}

impl Refresher {
    /// Nothing is known yet: an exchange is due at once. `key_check` is the period of the key check, if there is
    /// to be one.
    #[must_use]
    pub fn new(schedule: Schedule, key_check: Option<Duration>, now: Now) -> Self {
        Self {
            schedule,
            key_check,
            bucket: Bucket::default(),
            on_disk: None,
            pending: None,
            expiry_reported: false,
            due: now.boot,
            reason: Reason::Start,
            failed_exchanges: 0,
            failed_writes: 0,
            failed_inputs: None,
            publish_due: now.boot,
            restore_at: None,
            subject: None,
            requested_at: None,
            key_check_due: None,
            key_checks_staggered: false,
            inconclusive_key_checks: 0,
            last_step: None,
            clock_stepped_at: None,
            wall_expiry: None,
            waiting_until: None,
        }
    }

    /// A token that is still good was found on disk at the start, whose end is told by the wall clock alone. The first
    /// exchange is never left out, since settings may have changed; it is spread over thirty seconds when the token has more
    /// than its budget left.
    pub fn adopted(&mut self, lifetime: Lifetime, expires: UnixTime, now: Now, jitter: Jitter) {
        self.hold(lifetime, Some(expires));
        let left = lifetime.remaining(now.boot).unwrap_or_default();
        if self.reason == Reason::Start && left > self.schedule.refresh_margin(lifetime.length()) {
            self.due = now.boot + jitter.share_of(SPREAD_AT_START);
        }
        self.plan_key_check(now, jitter);
    }

    /// Somebody else put a token there that lives longer than ours, by the wall clock: it is kept, and refreshed in its time
    /// (F87).
    pub fn replaced_by(&mut self, lifetime: Lifetime, expires: UnixTime, now: Now, jitter: Jitter) {
        self.pending = None;
        self.failed_exchanges = 0;
        self.failed_writes = 0;
        self.failed_inputs = None;
        self.hold(lifetime, Some(expires));
        self.plan_refresh(lifetime, now, jitter);
        self.plan_key_check(now, jitter);
    }

    /// An exchange brought a token: it is in hand, and to be published. Whatever asked for it has been answered.
    pub fn obtained(&mut self, lifetime: Lifetime, now: Now) {
        self.pending = Some(Pending { lifetime, is_restore: false });
        self.publish_due = now.boot;
        self.due = lifetime.expires;
        self.reason = Reason::Schedule;
        self.failed_exchanges = 0;
        self.failed_writes = 0;
        self.failed_inputs = None;
    }

    /// There is nothing to publish after all.
    pub fn discard_pending(&mut self) {
        self.pending = None;
    }

    /// The token in hand is on disk. One that was put back changes no plan.
    pub fn published(&mut self, now: Now, jitter: Jitter) {
        let Some(Pending { lifetime, is_restore }) = self.pending.take() else { return };
        self.failed_writes = 0;
        if is_restore {
            return;
        }
        self.hold(lifetime, None);
        let (due, reason) = (self.due, self.reason);
        self.plan_refresh(lifetime, now, jitter);
        // What was asked for since this token was issued is owed still; that the one before it expired is not.
        match reason {
            Reason::Expired if self.failed_exchanges > 0 => self.bring_forward(due, Reason::Retry),
            Reason::Schedule | Reason::Expired => {}
            asked => self.bring_forward(due, asked),
        }
        self.inconclusive_key_checks = 0;
        self.plan_key_check(now, jitter);
        self.key_checks_staggered = true;
    }

    /// An attempt failed. A failed write keeps the token in hand, and costs no new exchange (F71). `inputs` are
    /// the files an exchange reads, as they were then. Gives how long the pause will be.
    pub fn failed(&mut self, failure: &Failure, inputs: Fingerprint, now: Now, jitter: Jitter) -> Duration {
        let entry = failure.entry();
        let left = self.on_disk.and_then(|held| held.remaining(now.boot));
        if entry.step == Step::Output {
            self.failed_writes = self.failed_writes.saturating_add(1);
            let pause = self.schedule.retry_delay(entry.step, entry.retry, self.failed_writes, left, jitter);
            self.publish_due = now.boot + pause;
            return pause;
        }
        self.failed_exchanges = self.failed_exchanges.saturating_add(1);
        // A certificate is refused by what is in the CA file, and by the clock.
        let depends_on_us = entry.retry != RetryClass::Network || entry.step == Step::Tls;
        self.failed_inputs = depends_on_us.then_some(inputs);
        let mut pause =
            self.schedule.retry_delay(entry.step, entry.retry, self.failed_exchanges, left, jitter);
        if let Some(asked_for) = failure.retry_after {
            // A server may slow us down, but not past the last moment at which a try makes sense.
            let told = asked_for.min(Duration::from_secs(300));
            let told = told + jitter.share_of(told / 10);
            let latest = left.map_or(told, |left| left.saturating_sub(Duration::from_secs(30)));
            pause = pause.max(told.min(latest));
        }
        self.due = now.boot + pause;
        self.reason = Reason::Retry;
        // A good token that runs out meanwhile is a reason to try again then (ztunnel does the same).
        if let Some(left) = left.filter(|left| *left < pause) {
            self.due = now.boot + left;
            self.reason = Reason::Expired;
            return left;
        }
        pause
    }

    /// The files an exchange reads, as they are now. One that was refused, or could not be read, is tried again at
    /// once when they have changed since.
    pub fn inputs_seen(&mut self, inputs: Fingerprint, now: Now) {
        if self.failed_inputs.is_some_and(|refused| refused != inputs) {
            self.failed_inputs = Some(inputs);
            self.failed_exchanges = 0;
            self.bring_forward(now.boot, Reason::InputChanged);
        }
    }

    /// The subject token's file was read: what it says of its own life. The answer is false when it looks expired
    /// and should be waited for a little before it is sent.
    pub fn subject_read(
        &mut self,
        file: Fingerprint,
        issued: Option<UnixTime>,
        expires: UnixTime,
        now: Now,
    ) -> bool {
        let known = self.subject.filter(|subject| subject.file == file && subject.expires == expires);
        let mut subject = known.unwrap_or_else(|| {
            let length = issued.map_or(Duration::from_secs(600), |issued| expires.since(issued));
            let margin = (length / 10).min(Duration::from_secs(20));
            Subject { file, expires, last_use: expires - margin, expired_since: None, last_use_done: false }
        });
        let send = if expires > now.unix {
            subject.expired_since = None;
            true
        } else {
            let since = *subject.expired_since.get_or_insert(now.boot);
            now.boot.since(since) >= EXPIRED_SUBJECT_GRACE
        };
        if now.unix >= subject.last_use {
            // What is about to be sent is the last chance already.
            subject.last_use_done = true;
        }
        self.subject = Some(subject);
        send
    }

    /// The subject token's file as it is now, unread. Gives true when it was replaced since it was last read, so
    /// that it must be read again to know its life.
    #[must_use]
    pub fn subject_is_new(&self, file: Fingerprint) -> bool {
        self.subject.is_none_or(|subject| subject.file != file)
    }

    /// Somebody asked for an exchange now, by a signal. It may pass the bucket, but not more than once in five
    /// seconds. Gives when it will be done.
    pub fn refresh_requested(&mut self, now: Now) -> BootTime {
        let when = match self.requested_at {
            // It was put off, and what came between has changed the plan: the same instant is still the one.
            Some(planned) if planned > now.boot => planned,
            last => last.map_or(now.boot, |last| (last + BETWEEN_SIGNALS).max(now.boot)),
        };
        if self.exchange_wanted() && self.due <= when {
            // One is due by then anyway.
            return self.due.max(now.boot);
        }
        self.requested_at = Some(when);
        // Whoever asks has mended something.
        self.failed_exchanges = 0;
        self.bring_forward(when, Reason::Signal);
        when
    }

    /// The file does not hold any more what was put there. The token is taken in hand again, if it is still good;
    /// no exchange is needed. Where somebody else keeps a token there, it is put back only so often; where nothing good is
    /// there, at once (F88). Gives whether it will be put back.
    pub fn output_changed(&mut self, by_valid_token: bool, now: Now) -> bool {
        let Some(held) = self.on_disk.filter(|held| held.remaining(now.boot).is_some()) else { return false };
        if let Some(Pending { is_restore, .. }) = self.pending {
            // What it waited for is over when the other's token has gone, too.
            let waits = is_restore && self.failed_writes == 0 && self.publish_due > now.boot;
            if waits && !by_valid_token {
                self.publish_due = now.boot;
            }
            return waits && !by_valid_token;
        }
        let ready = match self.restore_at.filter(|_| by_valid_token) {
            // It was put off, and then there was another token: the same instant is still the one.
            Some(planned) if planned > now.boot => planned,
            last => last.map_or(now.boot, |last| (last + BETWEEN_REPAIRS).max(now.boot)),
        };
        self.restore_at = Some(ready);
        self.pending = Some(Pending { lifetime: held, is_restore: true });
        self.publish_due = ready;
        true
    }

    /// The key is published, or that could not be found out. The next key check is planned.
    pub fn key_check_done(&mut self, now: Now, jitter: Jitter) {
        self.key_checks_staggered = true;
        self.inconclusive_key_checks = 0;
        self.plan_key_check(now, jitter);
    }

    /// The key is missing, and that proves nothing. The next key check is planned, later each time.
    pub fn key_check_inconclusive(&mut self, now: Now, jitter: Jitter) {
        self.key_checks_staggered = true;
        self.inconclusive_key_checks = self.inconclusive_key_checks.saturating_add(1);
        self.plan_key_check(now, jitter);
    }

    /// There is nothing to look at: the check rests until the next exchange.
    pub fn suspend_key_check(&mut self) {
        self.key_check_due = None;
    }

    /// The key that signed the token is gone: an exchange is due, within a minute. Until it has brought another token
    /// there is nothing more to learn from the keys.
    pub fn signing_key_gone(&mut self, now: Now, jitter: Jitter) {
        self.bring_forward(now.boot + jitter.share_of(SPREAD_OF_LOST_KEYS), Reason::SigningKeyGone);
        self.key_check_due = None;
    }

    /// What to do now. `jitter` is used when the process turns out to have been stopped for a while.
    pub fn step(&mut self, now: Now, jitter: Jitter) -> Action {
        let paused = self.on_pause(now, jitter);
        self.on_clock_step(now, jitter);
        // A better token that can be written goes before the end of the old one.
        if let Some(Pending { lifetime, .. }) = self.pending {
            if lifetime.remaining(now.boot).is_none() {
                // Never written in time: a new one is needed.
                self.pending = None;
                self.bring_forward(now.boot, Reason::Expired);
            } else if self.publish_due <= now.boot {
                return Action::Publish;
            }
        }
        if let Some(expired) =
            self.on_disk.filter(|held| held.remaining(now.boot).is_none() && !self.expiry_reported)
        {
            self.expiry_reported = true;
            if self.due > expired.expires && !paused {
                self.bring_forward(now.boot, Reason::Expired);
            }
            return Action::Expire;
        }
        self.on_subject_token_expiring(now);
        // What the bucket does not let through is put off until it does; an exchange goes before a look at the keys.
        if self.exchange_wanted() && self.due <= now.boot {
            match self.bucket.take(now.boot) {
                Err(_) if self.reason == Reason::Signal => {
                    // It goes first, and others wait the longer.
                    self.bucket.overdraw(now.boot);
                    return Action::Exchange;
                }
                Err(ready) => self.due = ready,
                Ok(()) => return Action::Exchange,
            }
        }
        if let Some(due) = self.key_check_due.as_mut().filter(|due| **due <= now.boot) {
            match self.bucket.take(now.boot) {
                Ok(()) => return Action::CheckKeys,
                Err(ready) => *due = ready,
            }
        }
        let until = self.next_deadline(now).min(now.boot + self.poll_interval(now));
        self.waiting_until = Some(until);
        Action::Wait(until)
    }

    /// What the outside may know.
    #[must_use]
    pub fn health(&self, now: Now) -> Health {
        match self.on_disk {
            None => Health::Starting,
            Some(held) if held.remaining(now.boot).is_none() => Health::Expired,
            Some(_) if self.failed_exchanges > 0 || self.failed_writes > 0 => Health::Stale,
            Some(_) => Health::Fresh,
        }
    }

    /// The life of the token on disk.
    #[must_use]
    pub const fn on_disk(&self) -> Option<Lifetime> {
        self.on_disk
    }

    /// When the next exchange is due, as planned now.
    #[must_use]
    pub const fn due(&self) -> BootTime {
        self.due
    }

    /// Why it is due.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// How many exchanges have failed in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failed_exchanges
    }

    /// `found` is the end by the wall clock of a token that nothing else tells the end of.
    fn hold(&mut self, lifetime: Lifetime, wall_expiry: Option<UnixTime>) {
        self.on_disk = Some(lifetime);
        self.wall_expiry = wall_expiry;
        self.expiry_reported = false;
    }

    fn plan_refresh(&mut self, lifetime: Lifetime, now: Now, jitter: Jitter) {
        let due = lifetime.issued + self.schedule.refresh_after(lifetime.length(), jitter);
        self.due = due.max(now.boot);
        self.reason = Reason::Schedule;
    }

    fn plan_key_check(&mut self, now: Now, jitter: Jitter) {
        // The first may come at any time, so that a fleet that started together does not look together.
        self.key_check_due = self.key_check.map(|period| {
            let longest = period.max(LONGEST_BETWEEN_KEY_CHECKS);
            let period = period.saturating_mul(1 << self.inconclusive_key_checks.min(30)).min(longest);
            let spread = if self.key_checks_staggered { period.mul_f64(0.15) } else { period };
            now.boot + period.saturating_sub(jitter.share_of(spread))
        });
    }

    fn bring_forward(&mut self, due: BootTime, reason: Reason) {
        if due < self.due || self.reason == Reason::Schedule && due <= self.due {
            self.due = due;
            self.reason = reason;
        }
    }

    /// While a token is in hand and cannot be written, another one would not help. One that only waits for its turn to be
    /// put back holds nothing up: it may be near its end.
    const fn exchange_wanted(&self) -> bool {
        let can_be_written = match self.pending {
            None => true,
            Some(Pending { is_restore, .. }) => is_restore && self.failed_writes == 0,
        };
        can_be_written || matches!(self.reason, Reason::Signal | Reason::SigningKeyGone)
    }

    /// True when the process was stopped or the machine suspended; what became due meanwhile is spread then.
    fn on_pause(&mut self, now: Now, jitter: Jitter) -> bool {
        let late = self.waiting_until.take().is_some_and(|until| now.boot.since(until) > PAUSE);
        if late && self.due <= now.boot {
            self.due = now.boot + jitter.share_of(SPREAD_AFTER_PAUSE);
        }
        late
    }

    /// When the wall clock was stepped, a token that was found on disk may end sooner than it seemed, and never later: a clock
    /// that is wrong now must not lengthen what was right. And what was refused may have been refused because of it.
    fn on_clock_step(&mut self, now: Now, jitter: Jitter) {
        let Some(before) = self.last_step.replace(now) else { return };
        if !now.is_stepped_since(before) {
            return;
        }
        if let (Some(held), Some(expires)) = (self.on_disk, self.wall_expiry) {
            let told = now.boot + now.unix.until(expires);
            if told < held.expires {
                let lifetime = Lifetime { issued: told - held.length(), expires: told };
                self.on_disk = Some(lifetime);
                if let Some(pending) = self.pending.as_mut().filter(|pending| pending.is_restore) {
                    pending.lifetime = lifetime;
                }
                if self.reason == Reason::Schedule && self.pending.is_none_or(|pending| pending.is_restore) {
                    self.plan_refresh(lifetime, now, jitter);
                }
            }
        }
        let lately = self.clock_stepped_at.is_some_and(|last| last.until(now.boot) < BETWEEN_STEPS);
        if self.failed_inputs.is_some() && !lately {
            self.clock_stepped_at = Some(now.boot);
            self.bring_forward(now.boot + jitter.share_of(SPREAD_AFTER_PAUSE), Reason::ClockStepped);
        }
    }

    /// The subject token is about to die and nobody replaced it: while it still works it buys one more token. Not
    /// for a token that is younger than a tenth of its life.
    fn on_subject_token_expiring(&mut self, now: Now) {
        let Some(subject) = self.subject.as_mut() else { return };
        let young = self.on_disk.is_some_and(|held| now.boot.since(held.issued) < held.length() / 10);
        if !subject.last_use_done && now.unix >= subject.last_use && now.unix < subject.expires && !young {
            subject.last_use_done = true;
            self.bring_forward(now.boot, Reason::SubjectTokenExpiring);
        }
    }

    fn next_deadline(&self, now: Now) -> BootTime {
        let exchange = self.exchange_wanted().then_some(self.due);
        let publish = self.pending.map(|_| self.publish_due);
        let expiry = self.on_disk.filter(|_| !self.expiry_reported).map(|held| held.expires);
        let last_use = self
            .subject
            .filter(|subject| !subject.last_use_done && subject.last_use > now.unix)
            .map(|subject| now.boot + now.unix.until(subject.last_use));
        let next = [exchange, publish, expiry, last_use, self.key_check_due].into_iter().flatten().min();
        next.unwrap_or(self.due)
    }

    fn poll_interval(&self, now: Now) -> Duration {
        let near = self.on_disk.is_some_and(|held| {
            let left = held.remaining(now.boot).unwrap_or_default();
            // A token that never lived longer than this is always near its expiry; its deadlines are near too.
            left < NEAR_EXPIRY && held.length() > NEAR_EXPIRY
        });
        let suspect = self.subject.is_some_and(|subject| subject.expired_since.is_some());
        let troubled = near || suspect || self.pending.is_some() || self.failed_inputs.is_some();
        let slice = self.schedule.poll_interval();
        if troubled { slice.min(SHORT_POLL_INTERVAL) } else { slice }
    }
}

#[cfg(test)]
mod tests;
