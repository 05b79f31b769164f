//! The refresher before and after, side by side.

use std::time::Duration;

use dexsidecar_core::circuit_breaker::CircuitBreaker;
use dexsidecar_core::failure::{Failure, Step};
use dexsidecar_core::refresher::{self, Fingerprint, Health, Lifetime, Observation, Reason};
use dexsidecar_core::refresher_before as before;
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::time::{BootTime, Jitter, Now, UnixTime};

pub(crate) struct Pair {
    new: refresher::Refresher,
    breaker: CircuitBreaker,
    old: before::Refresher,
}

impl Pair {
    pub(crate) fn new(schedule: Schedule, key_check: Option<Duration>, now: Now) -> Self {
        Self {
            new: refresher::Refresher::new(schedule, key_check, 1, now),
            breaker: CircuitBreaker::default(),
            old: before::Refresher::new(schedule, key_check, now),
        }
    }
    pub(crate) fn same(&self, now: Now) {
        assert_eq!(self.new.on_disk(), self.old.on_disk());
        assert_eq!(self.new.failures(), self.old.failures());
        assert_eq!(self.new.due(), self.old.due());
        assert_eq!(self.new.reason(), self.old.reason());
        assert_eq!(self.new.health(now), self.old.health(now));
    }
    pub(crate) fn adopted(&mut self, lifetime: Lifetime, expires: UnixTime, now: Now, jitter: Jitter) {
        self.new.on(Observation::Adopted { output: 0, lifetime, expires }, now, jitter);
        self.old.adopted(lifetime, expires, now, jitter);
        self.same(now);
    }
    pub(crate) fn replaced_by(&mut self, lifetime: Lifetime, expires: UnixTime, now: Now, jitter: Jitter) {
        self.new.on(Observation::ReplacedByNewer { output: 0, lifetime, expires }, now, jitter);
        self.old.replaced_by(lifetime, expires, now, jitter);
        self.same(now);
    }
    pub(crate) fn obtained(&mut self, lifetime: Lifetime, now: Now) {
        self.breaker.slot(0).answered();
        self.new.on(Observation::Issued(lifetime), now, Jitter::NONE);
        self.old.obtained(lifetime, now);
        self.same(now);
    }
    pub(crate) fn published(&mut self, now: Now, jitter: Jitter) {
        self.new.on(Observation::Written(0), now, jitter);
        self.old.published(now, jitter);
        self.same(now);
    }
    pub(crate) fn discard(&mut self, now: Now) {
        self.new.on(Observation::NothingToWrite(0), now, Jitter::NONE);
        self.old.discard_pending();
        self.same(now);
    }
    pub(crate) fn failed(
        &mut self,
        failure: &Failure,
        inputs: Fingerprint,
        now: Now,
        jitter: Jitter,
    ) -> Duration {
        let (code, retry_after) = (failure.code, failure.retry_after);
        let old = self.old.failed(failure, inputs, now, jitter);
        let new = if code.entry().step == Step::Output {
            self.new.on(Observation::WriteFailed { output: 0, code }, now, jitter);
            self.new.write_due(0).map_or(old, |due| now.boot.until(due))
        } else {
            self.breaker.slot(0).failed(code, retry_after, now.boot, jitter);
            self.new.on(Observation::ExchangeFailed { code, retry_after, inputs }, now, jitter);
            now.boot.until(self.new.due())
        };
        assert_eq!(new, old, "failed");
        self.same(now);
        new
    }
    pub(crate) fn inputs_seen(&mut self, inputs: Fingerprint, now: Now) {
        self.new.on(Observation::InputsPolled(inputs), now, Jitter::NONE);
        self.old.inputs_seen(inputs, now);
        self.same(now);
    }
    pub(crate) fn subject_read(
        &mut self,
        file: Fingerprint,
        issued: Option<UnixTime>,
        expires: UnixTime,
        now: Now,
    ) -> bool {
        self.new.on(Observation::SubjectTokenRead { file, issued, expires }, now, Jitter::NONE);
        let new = !self.new.withholds_subject_token(now);
        assert_eq!(new, self.old.subject_read(file, issued, expires, now), "subject_read");
        for file in [file, Fingerprint(99)] {
            assert_eq!(self.new.subject_token_is_new(file), self.old.subject_is_new(file));
        }
        new
    }
    pub(crate) fn refresh_requested(&mut self, now: Now) -> BootTime {
        self.breaker.reset();
        self.new.on(Observation::RefreshRequested, now, Jitter::NONE);
        let old = self.old.refresh_requested(now);
        self.same(now);
        old
    }
    pub(crate) fn output_changed(&mut self, by_valid_token: bool, now: Now) -> bool {
        let before = self.new.restore_due(0);
        self.new.on(Observation::Modified { output: 0, by_valid_token }, now, Jitter::NONE);
        let new = self.new.restore_due(0) != before;
        assert_eq!(new, self.old.output_changed(by_valid_token, now), "output_changed");
        new
    }
    pub(crate) fn key_check_done(&mut self, now: Now, jitter: Jitter) {
        self.new.on(Observation::KeyCheckDone, now, jitter);
        self.old.key_check_done(now, jitter);
    }
    pub(crate) fn key_check_inconclusive(&mut self, now: Now, jitter: Jitter) {
        self.new.on(Observation::KeyCheckInconclusive, now, jitter);
        self.old.key_check_inconclusive(now, jitter);
    }
    pub(crate) fn suspend_key_check(&mut self) {
        self.new.on(Observation::KeyCheckSuspended, Now::default(), Jitter::NONE);
        self.old.suspend_key_check();
    }
    pub(crate) fn signing_key_gone(&mut self, now: Now, jitter: Jitter) {
        self.new.on(Observation::SigningKeyGone, now, jitter);
        self.old.signing_key_gone(now, jitter);
        self.same(now);
    }
    pub(crate) fn step(&mut self, now: Now, jitter: Jitter) -> before::Action {
        let new = match self.new.step(now, jitter, &mut self.breaker.slot(0)) {
            refresher::Action::Exchange => before::Action::Exchange,
            refresher::Action::Publish(0) => before::Action::Publish,
            refresher::Action::CheckKeys => before::Action::CheckKeys,
            refresher::Action::Expire(0) => before::Action::Expire,
            refresher::Action::Wait(until) => before::Action::Wait(until),
            other => panic!("{other:?}"),
        };
        assert_eq!(new, self.old.step(now, jitter), "step");
        self.same(now);
        new
    }
    pub(crate) fn health(&self, now: Now) -> Health {
        let new = self.new.health(now);
        assert_eq!(new, self.old.health(now), "health");
        new
    }
    pub(crate) fn on_disk(&self) -> Option<Lifetime> {
        self.new.on_disk()
    }
    pub(crate) fn reason(&self) -> Reason {
        self.new.reason()
    }
}
