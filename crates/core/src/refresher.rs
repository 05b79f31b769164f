//! The state machine that applies the schedule: it is told what happened and says what to do next.
//!
//! It serves a loop that sleeps and a driver that is polled alike. Asking [`Refresher::step`] too often is
//! harmless; nothing here ends the loop, and no path through it has no floor.

use std::time::Duration;

use crate::failure::{Failure, Pace, Stage};
use crate::schedule::{Bucket, SHORT_SLICE, Schedule};
use crate::time::{BootTime, Jitter, Now, UnixTime};

/// An adopted token that is still good spreads the first exchange over this, so that a crash loop or a node that
/// comes back does not hammer Dex (F109).
const SPREAD_AT_START: Duration = Duration::from_secs(30);
/// After the process was stopped, or the machine suspended, what is due is spread over this (F95, F96).
const SPREAD_AFTER_PAUSE: Duration = Duration::from_secs(5);
/// A wake that comes this much too late means a pause.
const PAUSE: Duration = Duration::from_secs(5);
/// A whole fleet sees lost keys at about the same time: each exchange is spread over this.
const SPREAD_OF_LOST_KEYS: Duration = Duration::from_secs(60);
/// How long a subject token that looks expired is waited for; then it is sent all the same, since the clock that
/// says so may be the wrong one.
const PATIENCE_WITH_SUBJECT: Duration = Duration::from_secs(30);
/// A signal asks for at most one exchange in this time (F102).
const BETWEEN_SIGNALS: Duration = Duration::from_secs(5);
/// A file that others change is put back at most once in this time (F87).
const BETWEEN_REPAIRS: Duration = Duration::from_secs(60);
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
    pub fn left(self, now: BootTime) -> Option<Duration> {
        Some(now.until(self.expires)).filter(|left| !left.is_zero())
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Read the subject token and exchange it; a token has been taken from the bucket for it.
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
    LastChance,
    /// Dex does not have the key any more that signed the token.
    LostKeys,
    /// The token on disk has expired.
    Expired,
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
    last_chance: UnixTime,
    /// Since when it is known to look expired.
    suspect_since: Option<BootTime>,
    last_chance_taken: bool,
}

/// Keeps one token fresh. Built at start, told of everything that happens.
#[derive(Debug)]
pub struct Refresher {
    schedule: Schedule,
    key_check: Option<Duration>,
    bucket: Bucket,
    /// The token on disk.
    held: Option<Lifetime>,
    /// The token in hand that is not on disk yet.
    in_hand: Option<Lifetime>,
    expiry_told: bool,
    due: BootTime,
    reason: Reason,
    /// Failures in a row of the exchange, and of putting the token into its file.
    failed: u32,
    failed_writes: u32,
    /// The inputs as they were when the last exchange was refused.
    refused_with: Option<Fingerprint>,
    publish_due: BootTime,
    repaired: Option<BootTime>,
    subject: Option<Subject>,
    signalled: Option<BootTime>,
    keys_due: Option<BootTime>,
    /// Until when the last [`Step::Wait`] was meant to last.
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
            held: None,
            in_hand: None,
            expiry_told: false,
            due: now.boot,
            reason: Reason::Start,
            failed: 0,
            failed_writes: 0,
            refused_with: None,
            publish_due: now.boot,
            repaired: None,
            subject: None,
            signalled: None,
            keys_due: None,
            waiting_until: None,
        }
    }

    /// A token that is still good was found on disk at the start. The first exchange is never left out, since
    /// settings may have changed; it is spread over thirty seconds when the token has more than its budget left.
    pub fn adopted(&mut self, lifetime: Lifetime, now: Now, jitter: Jitter) {
        self.hold(lifetime);
        let left = lifetime.left(now.boot).unwrap_or_default();
        if self.reason == Reason::Start && left > self.schedule.budget(lifetime.length()) {
            self.due = now.boot + jitter.share_of(SPREAD_AT_START);
        }
        self.plan_key_check(now, jitter);
    }

    /// Somebody else put a token there that lives longer than ours: it is kept, and refreshed in its time (F87).
    pub fn replaced_by(&mut self, lifetime: Lifetime, now: Now, jitter: Jitter) {
        self.hold(lifetime);
        self.plan_refresh(lifetime, now, jitter);
    }

    /// An exchange brought a token: it is in hand, and to be published.
    pub fn obtained(&mut self, lifetime: Lifetime, now: Now) {
        self.in_hand = Some(lifetime);
        self.publish_due = now.boot;
        self.failed = 0;
        self.failed_writes = 0;
        self.refused_with = None;
    }

    /// The token in hand is on disk.
    pub fn published(&mut self, now: Now, jitter: Jitter) {
        let Some(lifetime) = self.in_hand.take() else { return };
        self.failed_writes = 0;
        self.hold(lifetime);
        self.plan_refresh(lifetime, now, jitter);
        self.plan_key_check(now, jitter);
    }

    /// An attempt failed. A failed write keeps the token in hand, and costs no new exchange (F71). `inputs` are
    /// the files an exchange reads, as they were then. Gives how long the pause will be.
    pub fn failed(&mut self, failure: &Failure, inputs: Fingerprint, now: Now, jitter: Jitter) -> Duration {
        let entry = failure.entry();
        let left = self.held.and_then(|held| held.left(now.boot));
        if entry.stage == Stage::Output {
            self.failed_writes = self.failed_writes.saturating_add(1);
            let pause = self.schedule.retry_after(entry.stage, entry.pace, self.failed_writes, left, jitter);
            self.publish_due = now.boot + pause;
            return pause;
        }
        self.failed = self.failed.saturating_add(1);
        self.refused_with = (entry.pace != Pace::Network).then_some(inputs);
        let mut pause = self.schedule.retry_after(entry.stage, entry.pace, self.failed, left, jitter);
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
        if self.refused_with.is_some_and(|refused| refused != inputs) {
            self.refused_with = Some(inputs);
            self.failed = 0;
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
            Subject {
                file,
                expires,
                last_chance: expires - margin,
                suspect_since: None,
                last_chance_taken: false,
            }
        });
        let send = if expires > now.unix {
            subject.suspect_since = None;
            true
        } else {
            let since = *subject.suspect_since.get_or_insert(now.boot);
            now.boot.since(since) >= PATIENCE_WITH_SUBJECT
        };
        if now.unix >= subject.last_chance {
            // What is about to be sent is the last chance already.
            subject.last_chance_taken = true;
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
    /// seconds. Gives whether it will be done.
    pub fn signalled(&mut self, now: Now) -> bool {
        if self.signalled.is_some_and(|last| now.boot.since(last) < BETWEEN_SIGNALS) {
            return false;
        }
        self.signalled = Some(now.boot);
        self.failed = 0;
        self.bucket = Bucket::default();
        self.bring_forward(now.boot, Reason::Signal);
        true
    }

    /// The file does not hold any more what was put there. The token is taken in hand again, if it is still good;
    /// no exchange is needed. Gives whether it will be put back.
    pub fn displaced(&mut self, now: Now) -> bool {
        let Some(held) = self.held.filter(|held| held.left(now.boot).is_some()) else { return false };
        if self.in_hand.is_some() {
            return false;
        }
        let ready = self.repaired.map_or(now.boot, |last| (last + BETWEEN_REPAIRS).max(now.boot));
        self.repaired = Some(ready);
        self.in_hand = Some(held);
        self.publish_due = ready;
        true
    }

    /// The keys were looked at, or could not be. The next look is planned.
    pub fn keys_checked(&mut self, now: Now, jitter: Jitter) {
        self.plan_key_check(now, jitter);
    }

    /// There is nothing to look at: the check rests until the next exchange.
    pub fn keys_rest(&mut self) {
        self.keys_due = None;
    }

    /// The key that signed the token is gone: an exchange is due, within a minute.
    pub fn keys_lost(&mut self, now: Now, jitter: Jitter) {
        self.bring_forward(now.boot + jitter.share_of(SPREAD_OF_LOST_KEYS), Reason::LostKeys);
        self.plan_key_check(now, jitter);
    }

    /// What to do now. `jitter` is used when the process turns out to have been stopped for a while.
    pub fn step(&mut self, now: Now, jitter: Jitter) -> Step {
        let paused = self.notice_a_pause(now, jitter);
        if let Some(expired) = self.held.filter(|held| held.left(now.boot).is_none() && !self.expiry_told) {
            self.expiry_told = true;
            if self.due > expired.expires && !paused {
                self.bring_forward(now.boot, Reason::Expired);
            }
            return Step::Expire;
        }
        if let Some(in_hand) = self.in_hand {
            if in_hand.left(now.boot).is_none() {
                // Never written in time: a new one is needed.
                self.in_hand = None;
                self.bring_forward(now.boot, Reason::Expired);
            } else if self.publish_due <= now.boot {
                return Step::Publish;
            }
        }
        self.notice_a_dying_subject(now);
        // What the bucket does not let through is put off until it does; an exchange goes before a look at the keys.
        if self.exchange_wanted() && self.due <= now.boot {
            match self.bucket.take(now.boot) {
                Ok(()) => return Step::Exchange,
                Err(ready) => self.due = ready,
            }
        }
        if let Some(due) = self.keys_due.as_mut().filter(|due| **due <= now.boot) {
            match self.bucket.take(now.boot) {
                Ok(()) => return Step::CheckKeys,
                Err(ready) => *due = ready,
            }
        }
        let until = self.next_deadline(now).min(now.boot + self.slice(now));
        self.waiting_until = Some(until);
        Step::Wait(until)
    }

    /// What the outside may know.
    #[must_use]
    pub fn health(&self, now: Now) -> Health {
        match self.held {
            None => Health::Starting,
            Some(held) if held.left(now.boot).is_none() => Health::Expired,
            Some(_) if self.failed > 0 || self.failed_writes > 0 => Health::Stale,
            Some(_) => Health::Fresh,
        }
    }

    /// The life of the token on disk.
    #[must_use]
    pub const fn held(&self) -> Option<Lifetime> {
        self.held
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
        self.failed
    }

    fn hold(&mut self, lifetime: Lifetime) {
        self.held = Some(lifetime);
        self.expiry_told = false;
    }

    fn plan_refresh(&mut self, lifetime: Lifetime, now: Now, jitter: Jitter) {
        let due = lifetime.issued + self.schedule.refresh_after(lifetime.length(), jitter);
        self.due = due.max(now.boot);
        self.reason = Reason::Schedule;
    }

    fn plan_key_check(&mut self, now: Now, jitter: Jitter) {
        self.keys_due =
            self.key_check.map(|period| now.boot + (period - jitter.share_of(period.mul_f64(0.15))));
    }

    fn bring_forward(&mut self, due: BootTime, reason: Reason) {
        if due < self.due || self.reason == Reason::Schedule && due <= self.due {
            self.due = due;
            self.reason = reason;
        }
    }

    /// While a token is in hand and cannot be written, another one would not help.
    const fn exchange_wanted(&self) -> bool {
        self.in_hand.is_none() || matches!(self.reason, Reason::Signal | Reason::LostKeys)
    }

    /// True when the process was stopped or the machine suspended; what became due meanwhile is spread then.
    fn notice_a_pause(&mut self, now: Now, jitter: Jitter) -> bool {
        let late = self.waiting_until.take().is_some_and(|until| now.boot.since(until) > PAUSE);
        if late && self.due <= now.boot {
            self.due = now.boot + jitter.share_of(SPREAD_AFTER_PAUSE);
        }
        late
    }

    /// The subject token is about to die and nobody replaced it: while it still works it buys one more token. Not
    /// for a token that is younger than a tenth of its life.
    fn notice_a_dying_subject(&mut self, now: Now) {
        let Some(subject) = self.subject.as_mut() else { return };
        let young = self.held.is_some_and(|held| now.boot.since(held.issued) < held.length() / 10);
        if !subject.last_chance_taken
            && now.unix >= subject.last_chance
            && now.unix < subject.expires
            && !young
        {
            subject.last_chance_taken = true;
            self.bring_forward(now.boot, Reason::LastChance);
        }
    }

    fn next_deadline(&self, now: Now) -> BootTime {
        let exchange = self.exchange_wanted().then_some(self.due);
        let publish = self.in_hand.map(|_| self.publish_due);
        let expiry = self.held.filter(|_| !self.expiry_told).map(|held| held.expires);
        let last_chance = self
            .subject
            .filter(|subject| !subject.last_chance_taken && subject.last_chance > now.unix)
            .map(|subject| now.boot + now.unix.until(subject.last_chance));
        let next = [exchange, publish, expiry, last_chance, self.keys_due].into_iter().flatten().min();
        next.unwrap_or(self.due)
    }

    fn slice(&self, now: Now) -> Duration {
        let near = self.held.is_some_and(|held| {
            let left = held.left(now.boot).unwrap_or_default();
            // A token that never lived longer than this is always near its expiry; its deadlines are near too.
            left < NEAR_EXPIRY && held.length() > NEAR_EXPIRY
        });
        let suspect = self.subject.is_some_and(|subject| subject.suspect_since.is_some());
        let troubled = near || suspect || self.in_hand.is_some() || self.refused_with.is_some();
        let slice = self.schedule.slice();
        if troubled { slice.min(SHORT_SLICE) } else { slice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    const INPUTS: Fingerprint = Fingerprint(1);

    fn at(secs: f64) -> Now {
        Now {
            boot: BootTime::from_start(Duration::from_secs_f64(5_000.0 + secs)),
            unix: UnixTime::since_epoch(Duration::from_secs_f64(1_700_000_000.0 + secs)),
        }
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn new() -> Refresher {
        Refresher::new(Schedule::default(), Some(secs(600)), at(0.0))
    }

    /// A refresher that has just published a token of this length.
    fn holding(length: u64) -> Refresher {
        let mut refresher = new();
        assert_eq!(refresher.step(at(0.0), Jitter::NONE), Step::Exchange);
        refresher.obtained(Lifetime::starting(at(0.0).boot, secs(length)), at(0.0));
        assert_eq!(refresher.step(at(0.0), Jitter::NONE), Step::Publish);
        refresher.published(at(0.0), Jitter::NONE);
        refresher
    }

    /// Lets time pass as a loop would, doing nothing but waiting, until another step comes.
    fn wait_for_step(refresher: &mut Refresher, from: f64) -> (f64, Step) {
        let mut now = from;
        for _ in 0..100_000 {
            match refresher.step(at(now), Jitter::NONE) {
                Step::Wait(until) => {
                    let pause = at(now).boot.until(until).as_secs_f64();
                    assert!(pause > 0.0, "a wait without a pause at {now}");
                    now += pause;
                }
                step => return (now, step),
            }
        }
        panic!("nothing happens");
    }

    fn fail(refresher: &mut Refresher, code: Code, when: f64) -> Duration {
        refresher.failed(&Failure::new(code, ""), INPUTS, at(when), Jitter::NONE)
    }

    #[test]
    fn the_whole_way_once() {
        let mut refresher = holding(86_400);
        assert_eq!(refresher.health(at(0.0)), Health::Fresh);
        refresher.keys_rest();
        let (when, step) = wait_for_step(&mut refresher, 0.0);
        assert_eq!((when, step), (57_600.0, Step::Exchange));
    }

    #[test]
    fn wakes_twice_a_minute_and_no_more_when_idle() {
        let mut refresher = holding(86_400);
        for slice in 0..10 {
            let now = at(f64::from(slice) * 30.0);
            assert_eq!(refresher.step(now, Jitter::NONE), Step::Wait(now.boot + secs(30)));
        }
    }

    #[test]
    fn a_failure_never_ends_it_and_never_hurries_it() {
        let mut refresher = new();
        let mut now = 0.0;
        let mut attempts = vec![];
        while attempts.len() < 50 {
            let (when, step) = wait_for_step(&mut refresher, now);
            assert_eq!(step, Step::Exchange);
            attempts.push(when);
            fail(&mut refresher, Code::InvalidClient, when);
            now = when;
        }
        assert_eq!(refresher.health(at(now)), Health::Starting);
        assert!(attempts.windows(21).all(|w| w[20] - w[0] >= 60.0), "{attempts:?}");
        assert_eq!(attempts[49] - attempts[48], 150.0, "half of five minutes, without jitter");
    }

    #[test]
    fn a_good_token_outlives_failures_and_its_expiry_is_told_once() {
        let mut refresher = holding(600);
        let (mut now, mut step) = wait_for_step(&mut refresher, 0.0);
        assert_eq!((now, step), (300.0, Step::Exchange));
        let mut told = 0;
        while now < 1_200.0 {
            match step {
                Step::Exchange => {
                    fail(&mut refresher, Code::ConnectRefused, now);
                    let expected = if now < 600.0 { Health::Stale } else { Health::Expired };
                    assert_eq!(refresher.health(at(now)), expected);
                }
                Step::Expire => {
                    assert_eq!(now, 600.0);
                    told += 1;
                }
                Step::CheckKeys => refresher.keys_rest(),
                other => panic!("{other:?}"),
            }
            (now, step) = wait_for_step(&mut refresher, now);
        }
        assert_eq!(told, 1);
    }

    #[test]
    fn a_token_in_hand_is_written_again_without_another_exchange() {
        let mut refresher = new();
        assert_eq!(refresher.step(at(0.0), Jitter::NONE), Step::Exchange);
        refresher.obtained(Lifetime::starting(at(0.0).boot, secs(3_600)), at(0.0));
        let mut now = 0.0;
        for _ in 0..20 {
            let (when, step) = wait_for_step(&mut refresher, now);
            assert_eq!(step, Step::Publish);
            fail(&mut refresher, Code::OutputDiskFull, when);
            now = when;
        }
        refresher.published(at(now), Jitter::NONE);
        assert_eq!(refresher.health(at(now)), Health::Fresh);
        // One that was never written in time is replaced.
        let mut refresher = new();
        let _ = refresher.step(at(0.0), Jitter::NONE);
        refresher.obtained(Lifetime::starting(at(0.0).boot, secs(60)), at(0.0));
        let _ = refresher.step(at(0.0), Jitter::NONE);
        fail(&mut refresher, Code::OutputDiskFull, 0.0);
        assert_eq!(refresher.step(at(61.0), Jitter::NONE), Step::Exchange);
    }

    #[test]
    fn retry_after_slows_down_but_not_past_the_last_moment() {
        let mut refresher = new();
        let _ = refresher.step(at(0.0), Jitter::NONE);
        let busy = |wait| Failure { retry_after: Some(secs(wait)), ..Failure::new(Code::RateLimited, "") };
        assert_eq!(refresher.failed(&busy(7), INPUTS, at(0.0), Jitter::NONE), secs(7));
        assert_eq!(refresher.failed(&busy(9_999), INPUTS, at(0.0), Jitter::NONE), secs(300));
        let mut refresher = holding(600);
        let (now, _) = wait_for_step(&mut refresher, 0.0);
        let pause = refresher.failed(&busy(300), INPUTS, at(now + 100.0), Jitter::NONE);
        assert_eq!(pause, secs(170), "thirty seconds before expiry");
    }

    #[test]
    fn a_changed_input_is_tried_at_once_and_only_once() {
        let mut refresher = new();
        let _ = refresher.step(at(0.0), Jitter::NONE);
        for n in 0..9 {
            fail(&mut refresher, Code::InvalidClient, f64::from(n));
        }
        refresher.inputs_seen(INPUTS, at(20.0));
        assert!(matches!(refresher.step(at(20.0), Jitter::NONE), Step::Wait(_)));
        refresher.inputs_seen(Fingerprint(2), at(20.0));
        assert_eq!(refresher.step(at(20.0), Jitter::NONE), Step::Exchange);
        refresher.failed(&Failure::new(Code::InvalidClient, ""), Fingerprint(2), at(20.0), Jitter::NONE);
        refresher.inputs_seen(Fingerprint(2), at(20.1));
        assert!(matches!(refresher.step(at(20.1), Jitter::NONE), Step::Wait(_)));
    }

    #[test]
    fn an_adopted_token_spreads_the_first_exchange() {
        let mut refresher = new();
        refresher.adopted(
            Lifetime { issued: at(-600.0).boot, expires: at(3_000.0).boot },
            at(0.0),
            Jitter::new(0.5),
        );
        assert_eq!(refresher.health(at(0.0)), Health::Fresh);
        assert_eq!(wait_for_step(&mut refresher, 0.0), (15.0, Step::Exchange));
        // Nearly used up: no time to lose.
        let mut refresher = new();
        refresher.adopted(
            Lifetime { issued: at(-3_000.0).boot, expires: at(600.0).boot },
            at(0.0),
            Jitter::new(0.5),
        );
        assert_eq!(refresher.step(at(0.0), Jitter::NONE), Step::Exchange);
    }

    #[test]
    fn lost_keys_are_healed_within_a_minute() {
        let mut refresher = holding(86_400);
        assert_eq!(wait_for_step(&mut refresher, 0.0), (600.0, Step::CheckKeys));
        refresher.keys_checked(at(600.0), Jitter::NONE);
        assert_eq!(wait_for_step(&mut refresher, 600.0), (1_200.0, Step::CheckKeys));
        refresher.keys_lost(at(1_200.0), Jitter::new(1.0));
        assert_eq!(refresher.reason(), Reason::LostKeys);
        assert_eq!(wait_for_step(&mut refresher, 1_200.0), (1_260.0, Step::Exchange));
    }

    #[test]
    fn a_dying_subject_token_buys_one_more() {
        let mut refresher = holding(86_400);
        refresher.keys_rest();
        let now = at(0.0);
        assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(600), now));
        let (when, step) = wait_for_step(&mut refresher, 0.0);
        // The token is younger than a tenth of its life, and the subject token dies at 600 s.
        assert_eq!((when, step), (57_600.0, Step::Exchange));
        let mut refresher = holding(3_600);
        refresher.keys_rest();
        assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(600), now));
        let (when, step) = wait_for_step(&mut refresher, 0.0);
        assert_eq!(step, Step::Exchange);
        assert!((580.0..600.0).contains(&when), "{when}");
        assert_eq!(refresher.reason(), Reason::LastChance);
        fail(&mut refresher, Code::AccessDenied, when);
        assert!(matches!(refresher.step(at(when + 1.0), Jitter::NONE), Step::Wait(_)));
    }

    #[test]
    fn an_expired_subject_token_is_waited_for_and_then_sent() {
        let mut refresher = new();
        let past = at(-1.0).unix;
        assert!(!refresher.subject_read(INPUTS, None, past, at(0.0)));
        assert!(!refresher.subject_read(INPUTS, None, past, at(29.0)));
        assert!(refresher.subject_read(INPUTS, None, past, at(30.0)));
        assert!(refresher.subject_is_new(Fingerprint(2)) && !refresher.subject_is_new(INPUTS));
        assert!(refresher.subject_read(Fingerprint(2), None, at(60.0).unix, at(30.0)));
    }

    #[test]
    fn a_displaced_token_is_put_back_once_a_minute_at_most() {
        let mut refresher = holding(86_400);
        assert!(refresher.displaced(at(1.0)));
        assert_eq!(refresher.step(at(1.0), Jitter::NONE), Step::Publish);
        refresher.published(at(1.0), Jitter::NONE);
        assert!(refresher.displaced(at(2.0)));
        assert_eq!(wait_for_step(&mut refresher, 2.0), (61.0, Step::Publish));
    }

    #[test]
    fn a_signal_asks_for_an_exchange_but_not_for_a_storm() {
        let mut refresher = holding(86_400);
        assert!(refresher.signalled(at(10.0)));
        assert_eq!(refresher.step(at(10.0), Jitter::NONE), Step::Exchange);
        assert!(!refresher.signalled(at(11.0)));
        assert!(refresher.signalled(at(15.0)));
    }

    #[test]
    fn f96_after_a_long_stop_there_is_one_exchange_and_no_burst() {
        let mut refresher = holding(600);
        refresher.keys_rest();
        let _ = refresher.step(at(0.0), Jitter::NONE);
        let woken = at(10_000.0);
        assert_eq!(refresher.step(woken, Jitter::new(0.5)), Step::Expire);
        let step = refresher.step(woken, Jitter::NONE);
        assert_eq!(step, Step::Wait(woken.boot + Duration::from_millis(2_500)));
        assert_eq!(refresher.step(at(10_002.5), Jitter::NONE), Step::Exchange);
    }
}
