//! The state machine of one token: it learns of events and decides the next action.
//!
//! The caller reports each event, asks [`Refresher::step`] for the next [`Action`] and starts it. A
//! loop that sleeps and a driver that is polled can both use it. An action may take long: until its
//! outcome is reported, `step` does not return the same action again, but it returns others. So an
//! exchange or a write that hangs delays nothing else. The one exception is an exchange that a
//! signal starts again. [`Action::Expire`] has no outcome. Calling `step` too often is harmless. No
//! event ends the machine, and every delay has a lower bound.

use std::time::Duration;

use crate::failure::{Failure, RetryClass, Step};
use crate::limits::MAX_RETRY_AFTER;
use crate::refresher::{Fingerprint, Health, Lifetime, Reason};
use crate::schedule::{Bucket, MAX_JITTER, SHORT_POLL_INTERVAL, Schedule};
use crate::time::{BootTime, Jitter, Now, UnixTime};

/// With an adopted token, the first exchange is spread over this time. A crash loop, or all pods of
/// a restarted node, then make few requests at once (F109).
const SPREAD_AT_START: Duration = Duration::from_secs(30);
/// After a pause of the process, a suspension or a clock step, a due exchange is spread over this
/// time (F92 to F96). All pods of a node see such an event at the same moment.
const SPREAD_AFTER_PAUSE: Duration = Duration::from_secs(5);
/// A wait that ends later than planned by more than this was a pause of the process or a
/// suspension. Scheduling delays on a busy node are far shorter.
const MIN_PAUSE: Duration = Duration::from_secs(5);
/// After a signing key is gone, the exchange is spread over this time, because a whole fleet may
/// see it in the same poll. P13 allows one minute.
const SPREAD_OF_GONE_KEY: Duration = Duration::from_secs(60);
/// For this long a subject token that looks expired is not sent, because the kubelet may be about
/// to replace it. Then it is sent nevertheless, because this node's clock may be wrong.
const EXPIRED_SUBJECT_GRACE: Duration = Duration::from_secs(30);
/// Signals cause at most one exchange in this time (F102).
const MIN_BETWEEN_REQUESTS: Duration = Duration::from_secs(5);
/// Steps of the wall clock cause at most one exchange in this time.
const MIN_BETWEEN_CLOCK_STEPS: Duration = Duration::from_secs(60);
/// While another process keeps writing valid tokens, the output is restored at most once in this
/// time (F87).
const MIN_BETWEEN_RESTORES: Duration = Duration::from_secs(60);
/// The maximum delay between two inconclusive key checks, unless their period is longer.
const MAX_BETWEEN_KEY_CHECKS: Duration = Duration::from_secs(3_600);
/// In this time before an expiry the files are polled each five seconds, so that a repaired input
/// is used before readers see an expired token.
const NEAR_EXPIRY: Duration = Duration::from_secs(120);
/// `Retry-After` never delays an attempt beyond this time before the expiry: it leaves two attempts
/// of 15 s, the default of `--attempt-timeout`.
const LAST_ATTEMPT_BEFORE_EXPIRY: Duration = Duration::from_secs(30);
/// The lifetime of a subject token without `iat`: the shortest `expirationSeconds` that Kubernetes
/// accepts for a projected ServiceAccount token.
const ASSUMED_SUBJECT_LIFETIME: Duration = Duration::from_secs(600);
/// The report of an expiry waits so long for a write that has begun (P11).
const WRITE_BEFORE_EXPIRY: Duration = Duration::from_secs(1);
/// A subject token is used for the last time this long before its expiry: it leaves one attempt of
/// 15 s and a poll of 5 s. For a short token it is a tenth of the lifetime.
const MAX_SUBJECT_MARGIN: Duration = Duration::from_secs(20);

/// What the caller has to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Read the subject token and exchange it. The rate limit is already charged for it. An
    /// exchange that is in flight is given up: a signal requested another one.
    Exchange,
    /// Write the pending token to the output.
    Publish,
    /// Compare the published keys with the key of the token on disk. The rate limit is already
    /// charged for it.
    CheckKeys,
    /// The token on disk has just expired: report it, and remove the file if that is set.
    Expire,
    /// Wait until this instant, poll the files, and call [`Refresher::step`] again.
    Wait(BootTime),
}

/// The subject token that was read last.
#[derive(Clone, Copy, Debug)]
struct Subject {
    /// The fingerprint of the file when it was read.
    file: Fingerprint,
    /// `exp` of the token.
    expires: UnixTime,
    /// Shortly before `expires`: an exchange is due then if the token has not been replaced.
    last_use: UnixTime,
    /// The instant at which the token was first found expired. Cleared when it is found valid,
    /// which happens after a clock step.
    expired_since: Option<BootTime>,
    /// The exchange at `last_use` was made due, or an exchange came after `last_use`.
    last_use_done: bool,
}

/// A token that is to be written to the output.
#[derive(Clone, Copy, Debug)]
struct Pending {
    lifetime: Lifetime,
    /// The token was on disk before and is restored. Writing it changes neither the refresh
    /// schedule nor the key check.
    is_restore: bool,
}

/// The exchange that has been started and has not ended.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    /// The instant at which it was started.
    started: BootTime,
    /// Another exchange that became necessary meanwhile, because this one may have read old inputs.
    next: Option<(BootTime, Reason)>,
    /// A signal has started it again. A second signal waits for its outcome, or a slow Dex would
    /// never be waited for.
    is_restarted: bool,
}

/// Keeps one token fresh.
#[derive(Debug)]
pub struct Refresher {
    schedule: Schedule,
    /// The period of the key check. `None` if it is switched off.
    key_check: Option<Duration>,
    bucket: Bucket,
    /// The lifetime of the token on disk. Set when a token is written, adopted or found; shortened
    /// by a clock step. Never cleared: an expired token stays here.
    on_disk: Option<Lifetime>,
    /// The token to be written. Set by an exchange, and by a restore. Cleared when it is written,
    /// discarded or expired, and when another process's token is kept.
    pending: Option<Pending>,
    /// The token that is being written: from [`Action::Publish`] until the outcome is reported.
    writing: Option<Pending>,
    /// The instant of the last [`Action::Publish`].
    write_started: BootTime,
    /// The exchange in flight: from [`Action::Exchange`] until the outcome is reported.
    exchange: Option<InFlight>,
    /// A key check is in flight: from [`Action::CheckKeys`] until the outcome is reported.
    checking_keys: bool,
    /// [`Action::Expire`] was returned for the token on disk. Cleared when another one is on disk.
    expiry_reported: bool,
    /// The instant at which the next exchange is due. While one is in flight it has no meaning: the
    /// outcome sets it.
    due: BootTime,
    /// Why it is due then.
    reason: Reason,
    /// Failed exchanges in a row. Cleared by an issued token, another process's token, a changed
    /// input and a signal.
    failed_exchanges: u32,
    /// Failed writes in a row. Cleared by a written token, an issued token and another process's
    /// token.
    failed_writes: u32,
    /// The fingerprint of the inputs at the last failed exchange, if its failure may depend on them
    /// or on the clock. Replaced when the inputs change. Cleared by an issued token, another
    /// process's token, and a failure that depends on neither.
    failed_inputs: Option<Fingerprint>,
    /// The instant at which the pending token is to be written. Without one it has no meaning.
    publish_due: BootTime,
    /// The instant of the last restore; it is in the future while the restore is delayed.
    restore_at: Option<BootTime>,
    /// The subject token that was read last.
    subject: Option<Subject>,
    /// The instant of the last exchange that a signal requested; it is in the future while the
    /// exchange is delayed.
    requested_at: Option<BootTime>,
    /// The instant of the next key check. `None` while it is switched off or suspended, and after
    /// the signing key was found gone, until the next token.
    key_check_due: Option<BootTime>,
    /// A key check has been planned at a random instant of a whole period, so that processes that
    /// started together check at different times. Later checks need the small jitter only.
    key_checks_staggered: bool,
    /// Inconclusive key checks in a row. Cleared by another result and by a written token.
    inconclusive_key_checks: u32,
    /// Both clocks at the last call of `step`.
    last_step: Option<Now>,
    /// The instant at which a step of the wall clock last caused an exchange.
    clock_stepped_at: Option<BootTime>,
    /// `exp` of the token on disk, if the token was adopted or comes from another process. `None`
    /// if it was exchanged here: the boot clock has measured its lifetime then.
    wall_expiry: Option<UnixTime>,
    /// The end of the last [`Action::Wait`]. Cleared by the next call of `step`.
    waiting_until: Option<BootTime>,
}

impl Refresher {
    /// A machine without a token: an exchange is due at once. `key_check` is the period of the key
    /// check; `None` switches it off.
    #[must_use]
    pub fn new(schedule: Schedule, key_check: Option<Duration>, now: Now) -> Self {
        Self {
            schedule,
            key_check,
            bucket: Bucket::default(),
            on_disk: None,
            pending: None,
            writing: None,
            write_started: now.boot,
            exchange: None,
            checking_keys: false,
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

    /// A valid token was found on disk at startup and is adopted. `expires` is its `exp`.
    ///
    /// An exchange follows in any case, because settings may have changed. It is spread over thirty
    /// seconds if the remaining validity exceeds the refresh margin, and is due at once otherwise.
    pub fn adopted(&mut self, lifetime: Lifetime, expires: UnixTime, now: Now, jitter: Jitter) {
        self.hold(lifetime, Some(expires));
        let remaining = lifetime.remaining(now.boot).unwrap_or_default();
        if self.reason == Reason::Start && remaining > self.schedule.refresh_margin(lifetime.length()) {
            self.due = now.boot + jitter.share_of(SPREAD_AT_START);
        }
        self.plan_key_check(now, jitter);
    }

    /// Another process has written a token that expires later than ours. It is kept, and refreshed
    /// on its own schedule (F87). `expires` is its `exp`.
    pub fn replaced_by(&mut self, lifetime: Lifetime, expires: UnixTime, now: Now, jitter: Jitter) {
        self.pending = None;
        self.failed_exchanges = 0;
        self.failed_writes = 0;
        self.failed_inputs = None;
        self.hold(lifetime, Some(expires));
        self.plan_refresh(lifetime, now, jitter);
        self.plan_key_check(now, jitter);
    }

    /// An exchange brought a token. It is pending, and its write is due at once. Every earlier
    /// reason for an exchange is settled.
    ///
    /// Only a signal that arrived while the exchange was in flight is not: the operator may have
    /// repaired something that this exchange did not see.
    pub fn obtained(&mut self, lifetime: Lifetime, now: Now) {
        let next = self.exchange.take().and_then(|exchange| exchange.next);
        self.pending = Some(Pending { lifetime, is_restore: false });
        self.publish_due = now.boot;
        self.due = lifetime.expires;
        self.reason = Reason::Schedule;
        self.failed_exchanges = 0;
        self.failed_writes = 0;
        self.failed_inputs = None;
        if let Some((due, Reason::Signal)) = next {
            self.bring_forward(due, Reason::Signal);
        }
    }

    /// The caller has no token to write, so nothing is pending.
    pub fn discard_pending(&mut self) {
        self.pending = None;
        self.writing = None;
    }

    /// The token that was being written is on disk. A restored token changes no plan.
    pub fn published(&mut self, now: Now, jitter: Jitter) {
        let written = self.writing.take().or_else(|| self.pending.take());
        let Some(Pending { lifetime, is_restore }) = written else { return };
        self.failed_writes = 0;
        if is_restore {
            // The write began before the expiry and ended after it: the file holds an expired token
            // again.
            self.expiry_reported &= lifetime.remaining(now.boot).is_some();
            return;
        }
        self.hold(lifetime, None);
        let (due, reason) = (self.due, self.reason);
        self.plan_refresh(lifetime, now, jitter);
        // A reason that came up while this token was pending still holds, such as a signal. The
        // expiry of the previous token does not.
        match reason {
            // The exchange in flight serves the reason for which it was started.
            _ if self.exchange.is_some() => {}
            Reason::Expired if self.failed_exchanges > 0 => self.bring_forward(due, Reason::Retry),
            Reason::Schedule | Reason::Expired => {}
            reason => self.bring_forward(due, reason),
        }
        self.inconclusive_key_checks = 0;
        self.plan_key_check(now, jitter);
        self.key_checks_staggered = true;
    }

    /// An exchange or a write failed. After a failed write the token stays pending, and no other
    /// exchange is needed (F71). `inputs` is the fingerprint of the files that an exchange reads.
    /// Returns the delay until the next attempt.
    pub fn failed(&mut self, failure: &Failure, inputs: Fingerprint, now: Now, jitter: Jitter) -> Duration {
        let entry = failure.entry();
        let remaining = self.on_disk.and_then(|token| token.remaining(now.boot));
        if entry.step == Step::Output {
            // A token that was issued meanwhile replaces the one that could not be written.
            let failed = self.writing.take();
            self.pending = self.pending.or(failed);
            self.failed_writes = self.failed_writes.saturating_add(1);
            let delay =
                self.schedule.retry_delay(entry.step, entry.retry, self.failed_writes, remaining, jitter);
            self.publish_due = now.boot + delay;
            return delay;
        }
        let next = self.exchange.take().and_then(|exchange| exchange.next);
        self.failed_exchanges = self.failed_exchanges.saturating_add(1);
        // A failure of TLS has the class network, but may be due to the CA file or to the clock.
        let depends_on_us = entry.retry != RetryClass::Network || entry.step == Step::Tls;
        self.failed_inputs = depends_on_us.then_some(inputs);
        let mut delay =
            self.schedule.retry_delay(entry.step, entry.retry, self.failed_exchanges, remaining, jitter);
        if let Some(retry_after) = failure.retry_after {
            // The server may lengthen the delay, but not beyond the last useful attempt.
            let requested = retry_after.min(MAX_RETRY_AFTER);
            let requested = requested + jitter.share_of(requested / 10);
            let latest =
                remaining.map_or(requested, |remaining| remaining.saturating_sub(LAST_ATTEMPT_BEFORE_EXPIRY));
            delay = delay.max(requested.min(latest));
        }
        self.due = now.boot + delay;
        self.reason = Reason::Retry;
        match next {
            // A clock step matters only if the failure may depend on the clock.
            Some((_, Reason::ClockStepped)) if self.failed_inputs.is_none() => {}
            Some((due, reason)) if due < self.due => {
                if reason == Reason::Signal {
                    self.failed_exchanges = 0;
                }
                self.bring_forward(due, reason);
                return now.boot.until(due);
            }
            _ => {}
        }
        // If the token expires during the delay, the next attempt is made at its expiry. Istio's
        // ztunnel does the same.
        if let Some(remaining) = remaining.filter(|remaining| *remaining < delay) {
            self.due = now.boot + remaining;
            self.reason = Reason::Expired;
            return remaining;
        }
        delay
    }

    /// The files that an exchange reads were polled; `inputs` is their fingerprint. If they changed
    /// since an exchange failed because of them, another one is due at once.
    pub fn inputs_seen(&mut self, inputs: Fingerprint, now: Now) {
        // An exchange in flight reports the inputs that it read.
        if self.exchange.is_none() && self.failed_inputs.is_some_and(|failed| failed != inputs) {
            self.failed_inputs = Some(inputs);
            self.failed_exchanges = 0;
            self.bring_forward(now.boot, Reason::InputChanged);
        }
    }

    /// The subject token was read. `issued` and `expires` are its `iat` and `exp`.
    ///
    /// Returns false if the token looks expired and is not to be sent yet: the caller retries the
    /// file for up to 30 s.
    pub fn subject_read(
        &mut self,
        file: Fingerprint,
        issued: Option<UnixTime>,
        expires: UnixTime,
        now: Now,
    ) -> bool {
        let known = self.subject.filter(|subject| subject.file == file && subject.expires == expires);
        let mut subject = known.unwrap_or_else(|| {
            let length = issued.map_or(ASSUMED_SUBJECT_LIFETIME, |issued| expires.since(issued));
            let margin = (length / 10).min(MAX_SUBJECT_MARGIN);
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
            // The exchange that is about to be made is the last use.
            subject.last_use_done = true;
        }
        self.subject = Some(subject);
        send
    }

    /// True if the subject token's file, which has this fingerprint now, was replaced since it was
    /// read. The caller then reads it again to learn its expiry.
    #[must_use]
    pub fn subject_is_new(&self, file: Fingerprint) -> bool {
        self.subject.is_none_or(|subject| subject.file != file)
    }

    /// A signal requests a refresh. It bypasses the rate limit, but at most once in five seconds.
    /// An exchange that has been in flight for five seconds is started again, since the operator
    /// may have repaired what it waits for. Returns the latest instant of the exchange.
    pub fn refresh_requested(&mut self, now: Now) -> BootTime {
        let when = match self.requested_at {
            // An earlier request is delayed until then. This request does not delay it further.
            Some(planned) if planned > now.boot => planned,
            last => last.map_or(now.boot, |last| (last + MIN_BETWEEN_REQUESTS).max(now.boot)),
        };
        let in_flight = self.exchange.is_some();
        if !in_flight && self.exchange_wanted() && self.due <= when {
            // Another exchange is due by then, and serves this request too.
            return self.due.max(now.boot);
        }
        self.requested_at = Some(when);
        // An operator sends a signal after a repair, so the delays start again from the initial
        // one.
        self.failed_exchanges = 0;
        self.bring_forward(when, Reason::Signal);
        self.restart_due().unwrap_or(when)
    }

    /// The output was modified by another process. The token on disk is restored if it is still
    /// valid; no exchange is needed. The restore is due at once, unless the output now holds
    /// another valid token: then it is due at most once a minute (F88).
    ///
    /// Returns true if a restore was planned or brought forward.
    pub fn output_changed(&mut self, by_valid_token: bool, now: Now) -> bool {
        let Some(token) = self.on_disk.filter(|token| token.remaining(now.boot).is_some()) else {
            return false;
        };
        if let Some(Pending { is_restore, .. }) = self.pending {
            // A restore that is delayed because of another valid token is due at once when that
            // token is gone.
            let delayed = is_restore && self.failed_writes == 0 && self.publish_due > now.boot;
            if delayed && !by_valid_token {
                self.publish_due = now.boot;
            }
            return delayed && !by_valid_token;
        }
        if self.writing.is_some() {
            return false;
        }
        let ready = match self.restore_at.filter(|_| by_valid_token) {
            // A delayed restore was overtaken by a new token. This one does not delay it further.
            Some(planned) if planned > now.boot => planned,
            last => last.map_or(now.boot, |last| (last + MIN_BETWEEN_RESTORES).max(now.boot)),
        };
        self.restore_at = Some(ready);
        self.pending = Some(Pending { lifetime: token, is_restore: true });
        self.publish_due = ready;
        true
    }

    /// A key check found the key published, or could not read the keys. The next one is planned.
    pub fn key_check_done(&mut self, now: Now, jitter: Jitter) {
        self.checking_keys = false;
        self.key_checks_staggered = true;
        self.inconclusive_key_checks = 0;
        self.plan_key_check(now, jitter);
    }

    /// A key check was inconclusive. The next one is planned, with twice the delay.
    pub fn key_check_inconclusive(&mut self, now: Now, jitter: Jitter) {
        self.checking_keys = false;
        self.key_checks_staggered = true;
        self.inconclusive_key_checks = self.inconclusive_key_checks.saturating_add(1);
        self.plan_key_check(now, jitter);
    }

    /// No key check is possible. It is suspended until the next token is written.
    pub fn suspend_key_check(&mut self) {
        self.checking_keys = false;
        self.key_check_due = None;
    }

    /// The signing key of the token on disk is no longer published: an exchange is due within a
    /// minute. There is no key check until that exchange has brought a token.
    pub fn signing_key_gone(&mut self, now: Now, jitter: Jitter) {
        self.checking_keys = false;
        self.bring_forward(now.boot + jitter.share_of(SPREAD_OF_GONE_KEY), Reason::SigningKeyGone);
        self.key_check_due = None;
    }

    /// The next action. `jitter` is used after a pause of the process and after a clock step.
    pub fn step(&mut self, now: Now, jitter: Jitter) -> Action {
        let paused = self.on_pause(now, jitter);
        self.on_clock_step(now, jitter);
        // A write comes before the report of an expiry: the pending token replaces the expired one.
        if let Some(Pending { lifetime, .. }) = self.pending {
            if lifetime.remaining(now.boot).is_none() {
                // The token expired before it could be written.
                self.pending = None;
                self.bring_forward(now.boot, Reason::Expired);
            } else if self.publish_due <= now.boot && self.writing.is_none() {
                self.writing = self.pending.take();
                self.write_started = now.boot;
                return Action::Publish;
            }
        }
        let expired = self.on_disk.filter(|token| token.remaining(now.boot).is_none());
        if let Some(expired) =
            expired.filter(|_| !self.expiry_reported && now.boot >= self.report_expiry_at())
        {
            self.expiry_reported = true;
            if self.due > expired.expires && !paused {
                self.bring_forward(now.boot, Reason::Expired);
            }
            return Action::Expire;
        }
        self.on_subject_token_expiring(now);
        // With an empty bucket both are delayed until a token comes back. An exchange has priority
        // over a key check.
        let is_restarted = self.restart_due().is_some_and(|due| due <= now.boot);
        if is_restarted {
            self.exchange = None;
            self.due = now.boot;
            self.reason = Reason::Signal;
        }
        if self.exchange.is_none() && self.exchange_wanted() && self.due <= now.boot {
            let ready = match self.bucket.take(now.boot) {
                // A signal bypasses the rate limit; later attempts wait longer.
                Err(_) if self.reason == Reason::Signal => {
                    self.bucket.overdraw(now.boot);
                    None
                }
                taken => taken.err(),
            };
            match ready {
                Some(ready) => self.due = ready,
                None => {
                    self.exchange = Some(InFlight { started: now.boot, next: None, is_restarted });
                    return Action::Exchange;
                }
            }
        }
        if let Some(due) = self.key_check_due.filter(|due| *due <= now.boot && self.may_check_keys()) {
            match self.bucket.take(now.boot) {
                Ok(()) => {
                    self.checking_keys = true;
                    return Action::CheckKeys;
                }
                Err(ready) => self.key_check_due = Some(ready.max(due)),
            }
        }
        let until = self.next_deadline(now).min(now.boot + self.poll_interval(now));
        self.waiting_until = Some(until);
        Action::Wait(until)
    }

    /// The health of the token on disk.
    #[must_use]
    pub fn health(&self, now: Now) -> Health {
        match self.on_disk {
            None => Health::Starting,
            Some(token) if token.remaining(now.boot).is_none() => Health::Expired,
            Some(_) if self.failed_exchanges > 0 || self.failed_writes > 0 => Health::Stale,
            Some(_) => Health::Fresh,
        }
    }

    /// The lifetime of the token on disk, expired or not. `None` before the first token.
    #[must_use]
    pub const fn on_disk(&self) -> Option<Lifetime> {
        self.on_disk
    }

    /// The instant at which the next exchange is due. Later events may change it.
    #[must_use]
    pub const fn due(&self) -> BootTime {
        self.due
    }

    /// Why the next exchange is due.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The number of failed exchanges in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failed_exchanges
    }

    /// This token is on disk now. `wall_expiry` is the `exp` of a token that was not exchanged
    /// here.
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
        // The first check comes at a random instant of a whole period, so that processes that
        // started together do not check at the same time.
        self.key_check_due = self.key_check.map(|period| {
            let longest = period.max(MAX_BETWEEN_KEY_CHECKS);
            let period = period.saturating_mul(1 << self.inconclusive_key_checks.min(30)).min(longest);
            let spread = if self.key_checks_staggered { period.mul_f64(MAX_JITTER) } else { period };
            now.boot + period.saturating_sub(jitter.share_of(spread))
        });
    }

    /// Makes an exchange due at `due`, if none is due earlier. The reason `Schedule` gives way to
    /// any other reason for the same instant.
    ///
    /// While one is in flight, only what it cannot serve makes another one due.
    fn bring_forward(&mut self, due: BootTime, reason: Reason) {
        if let Some(InFlight { next, .. }) = &mut self.exchange {
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

    /// False while a pending token cannot be written: another token could not be written either. A
    /// delayed restore does not prevent an exchange, because its token may be near its expiry. A
    /// signal and a gone signing key need an exchange in any case.
    const fn exchange_wanted(&self) -> bool {
        let unwritten = match self.pending {
            None => self.writing,
            pending => pending,
        };
        let can_be_written = match unwritten {
            None => true,
            Some(Pending { is_restore, .. }) => is_restore && self.failed_writes == 0,
        };
        can_be_written || matches!(self.reason, Reason::Signal | Reason::SigningKeyGone)
    }

    /// The instant at which the exchange in flight is started again, if a signal requested that.
    fn restart_due(&self) -> Option<BootTime> {
        let InFlight { started, next, .. } = self.exchange.filter(|exchange| !exchange.is_restarted)?;
        let (due, _) = next.filter(|(_, reason)| *reason == Reason::Signal)?;
        Some(due.max(started + MIN_BETWEEN_REQUESTS))
    }

    /// Returns true after a pause of the process or a suspension of the machine. An exchange that
    /// became due during it is spread.
    fn on_pause(&mut self, now: Now, jitter: Jitter) -> bool {
        let paused = self.waiting_until.take().is_some_and(|until| now.boot.since(until) > MIN_PAUSE);
        if paused && self.exchange.is_none() && self.due <= now.boot {
            self.due = now.boot + jitter.share_of(SPREAD_AFTER_PAUSE);
        }
        paused
    }

    /// Handles a step of the wall clock since the last call.
    ///
    /// The expiry of a token that was not exchanged here is computed again from its `exp`. It only
    /// becomes earlier: a clock that is wrong now must not lengthen a lifetime. An exchange that
    /// failed may have failed because of the wrong clock, so another one is due.
    fn on_clock_step(&mut self, now: Now, jitter: Jitter) {
        let Some(before) = self.last_step.replace(now) else { return };
        if !now.is_stepped_since(before) {
            return;
        }
        if let (Some(token), Some(wall_expiry)) = (self.on_disk, self.wall_expiry) {
            let expires = now.boot + now.unix.until(wall_expiry);
            if expires < token.expires {
                let lifetime = Lifetime { issued: expires - token.length(), expires };
                self.on_disk = Some(lifetime);
                for restore in [&mut self.pending, &mut self.writing] {
                    if let Some(restore) = restore.as_mut().filter(|pending| pending.is_restore) {
                        restore.lifetime = lifetime;
                    }
                }
                let restores = [self.pending, self.writing].into_iter().flatten().all(|each| each.is_restore);
                if self.exchange.is_none() && self.reason == Reason::Schedule && restores {
                    self.plan_refresh(lifetime, now, jitter);
                }
            }
        }
        let recent = self.clock_stepped_at.is_some_and(|last| last.until(now.boot) < MIN_BETWEEN_CLOCK_STEPS);
        // Whether the exchange in flight will depend on the clock is not known yet.
        if (self.failed_inputs.is_some() || self.exchange.is_some()) && !recent {
            self.clock_stepped_at = Some(now.boot);
            self.bring_forward(now.boot + jitter.share_of(SPREAD_AFTER_PAUSE), Reason::ClockStepped);
        }
    }

    /// The subject token is about to expire and has not been replaced: one more exchange is due
    /// while it is still valid. It is not needed if the token on disk is younger than a tenth of
    /// its lifetime.
    fn on_subject_token_expiring(&mut self, now: Now) {
        if self.exchange.is_some() {
            return;
        }
        let Some(subject) = self.subject.as_mut() else { return };
        let young = self.on_disk.is_some_and(|token| now.boot.since(token.issued) < token.length() / 10);
        if !subject.last_use_done && now.unix >= subject.last_use && now.unix < subject.expires && !young {
            subject.last_use_done = true;
            self.bring_forward(now.boot, Reason::SubjectTokenExpiring);
        }
    }

    /// The earliest instant at which `step` has something to do besides polling.
    fn next_deadline(&self, now: Now) -> BootTime {
        let exchange = match self.exchange {
            Some(_) => self.restart_due(),
            None => self.exchange_wanted().then_some(self.due),
        };
        let publish = self.pending.filter(|_| self.writing.is_none()).map(|_| self.publish_due);
        let expiry = self.on_disk.filter(|_| !self.expiry_reported).map(|token| token.expires);
        let expiry = expiry.map(|expires| expires.max(self.report_expiry_at()));
        let last_use = self
            .subject
            .filter(|subject| !subject.last_use_done && subject.last_use > now.unix)
            .filter(|_| self.exchange.is_none())
            .map(|subject| now.boot + now.unix.until(subject.last_use));
        let key_check = self.key_check_due.filter(|_| self.may_check_keys());
        let next = [exchange, publish, expiry, last_use, key_check].into_iter().flatten().min();
        // Without a deadline, the files are polled.
        next.unwrap_or_else(|| now.boot + self.poll_interval(now))
    }

    /// Before this instant no expiry is reported: a new token is being written, and a write that
    /// does not hang replaces the expired one.
    fn report_expiry_at(&self) -> BootTime {
        let replaces = self.writing.is_some_and(|writing| !writing.is_restore);
        self.write_started + if replaces { WRITE_BEFORE_EXPIRY } else { Duration::ZERO }
    }

    /// An exchange in flight has priority over a key check.
    const fn may_check_keys(&self) -> bool {
        self.exchange.is_none() && !self.checking_keys
    }

    /// The time until the next poll of the files. It is short while a changed file would matter
    /// soon.
    fn poll_interval(&self, now: Now) -> Duration {
        let near_expiry = self.on_disk.is_some_and(|token| {
            let remaining = token.remaining(now.boot).unwrap_or_default();
            // A token with a lifetime of two minutes or less would be polled at the short interval
            // all the time. Its refresh is near in any case.
            remaining < NEAR_EXPIRY && token.length() > NEAR_EXPIRY
        });
        let subject_expired = self.subject.is_some_and(|subject| subject.expired_since.is_some());
        let short = near_expiry
            || subject_expired
            || self.pending.is_some()
            || self.writing.is_some()
            || self.failed_inputs.is_some();
        let interval = self.schedule.poll_interval();
        if short { interval.min(SHORT_POLL_INTERVAL) } else { interval }
    }
}
