//! A refresher with one output that is alone at its Dex. Each method reports one observation and
//! returns what the refresher makes of it.

use std::time::Duration;

use dexsidecar_core::circuit_breaker::CircuitBreaker;
use dexsidecar_core::failure::{Failure, Step};
use dexsidecar_core::refresher::{Decision, Fingerprint, Health, Lifetime, Observation, Reason, Refresher};
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::time::{BootTime, Jitter, Now, UnixTime};

/// The decision that writes the only output.
pub(crate) const PUBLISH: Decision = Decision::Publish(0);
/// The decision that reports the expiry of the token in the only output.
pub(crate) const EXPIRE: Decision = Decision::Expire(0);

/// A refresher, and the attempts at its Dex.
pub(crate) struct Driver {
    pub(crate) refresher: Refresher,
    breaker: CircuitBreaker,
}

impl Driver {
    pub(crate) fn new(schedule: Schedule, key_check: Option<Duration>, now: Now) -> Self {
        let refresher = Refresher::new(schedule, key_check, 1, now);
        Self { refresher, breaker: CircuitBreaker::default() }
    }

    /// The same with another refresher, at a Dex that knows nothing of the former.
    #[allow(dead_code, reason = "not every test that includes this file reconfigures")]
    pub(crate) fn map(mut self, refresher: impl FnOnce(Refresher) -> Refresher) -> Self {
        self.breaker.remove(0);
        Self { refresher: refresher(self.refresher), breaker: self.breaker }
    }

    pub(crate) fn step(&mut self, now: Now, jitter: Jitter) -> Decision {
        self.refresher.step(now, jitter, &mut self.breaker.member(0))
    }

    pub(crate) fn adopted(&mut self, lifetime: Lifetime, expires: UnixTime, now: Now, jitter: Jitter) {
        self.refresher.on(Observation::Adopted { output: 0, lifetime, expires }, now, jitter);
    }

    pub(crate) fn replaced_by(&mut self, lifetime: Lifetime, expires: UnixTime, now: Now, jitter: Jitter) {
        self.refresher.on(Observation::ReplacedByNewer { output: 0, lifetime, expires }, now, jitter);
    }

    pub(crate) fn obtained(&mut self, lifetime: Lifetime, now: Now) {
        self.breaker.member(0).issued();
        self.refresher.on(Observation::Issued(lifetime), now, Jitter::NONE);
    }

    pub(crate) fn published(&mut self, now: Now, jitter: Jitter) {
        self.refresher.on(Observation::Written(0), now, jitter);
    }

    pub(crate) fn discard_pending(&mut self) {
        self.refresher.on(Observation::NothingToWrite(0), Now::default(), Jitter::NONE);
    }

    /// An exchange failed, or a write, as the code says. Returns the delay until the next attempt.
    pub(crate) fn failed(
        &mut self,
        failure: &Failure,
        inputs: Fingerprint,
        now: Now,
        jitter: Jitter,
    ) -> Duration {
        let (code, retry_after) = (failure.code, failure.retry_after);
        if code.entry().step == Step::Output {
            self.refresher.on(Observation::WriteFailed { output: 0, code }, now, jitter);
            return now.boot.until(self.refresher.write_due(0).unwrap_or(now.boot));
        }
        self.breaker.member(0).failed(code, retry_after, now.boot, jitter);
        self.refresher.on(Observation::ExchangeFailed { code, retry_after, inputs }, now, jitter);
        now.boot.until(self.refresher.due())
    }

    pub(crate) fn inputs_seen(&mut self, inputs: Fingerprint, now: Now) {
        self.refresher.on(Observation::InputsPolled(inputs), now, Jitter::NONE);
    }

    /// Returns false if the token is not to be sent yet.
    pub(crate) fn subject_read(
        &mut self,
        file: Fingerprint,
        issued: Option<UnixTime>,
        expires: UnixTime,
        now: Now,
    ) -> bool {
        self.refresher.on(Observation::SubjectTokenRead { file, issued, expires }, now, Jitter::NONE);
        !self.refresher.withholds_subject_token(now)
    }

    pub(crate) fn subject_is_new(&self, file: Fingerprint) -> bool {
        self.refresher.subject_token_is_new(file)
    }

    /// Returns the latest instant of the exchange.
    pub(crate) fn refresh_requested(&mut self, now: Now) -> BootTime {
        self.breaker.reset(now.boot);
        self.refresher.on(Observation::RefreshRequested, now, Jitter::NONE);
        self.refresher.request_due(now)
    }

    /// Returns true if a restore was planned or brought forward.
    pub(crate) fn output_changed(&mut self, by_valid_token: bool, now: Now) -> bool {
        let before = self.refresher.restore_due(0);
        self.refresher.on(Observation::Modified { output: 0, by_valid_token }, now, Jitter::NONE);
        self.refresher.restore_due(0) != before
    }

    pub(crate) fn key_check_done(&mut self, now: Now, jitter: Jitter) {
        self.refresher.on(Observation::KeyCheckDone, now, jitter);
    }

    pub(crate) fn key_check_inconclusive(&mut self, now: Now, jitter: Jitter) {
        self.refresher.on(Observation::KeyCheckInconclusive, now, jitter);
    }

    pub(crate) fn suspend_key_check(&mut self) {
        self.refresher.on(Observation::KeyCheckSuspended, Now::default(), Jitter::NONE);
    }

    pub(crate) fn signing_key_gone(&mut self, now: Now, jitter: Jitter) {
        self.refresher.on(Observation::SigningKeyGone, now, jitter);
    }

    pub(crate) fn health(&self, now: Now) -> Health {
        self.refresher.health(now)
    }

    pub(crate) fn on_disk(&self) -> Option<Lifetime> {
        self.refresher.on_disk()
    }

    pub(crate) const fn due(&self) -> BootTime {
        self.refresher.due()
    }

    pub(crate) const fn reason(&self) -> Reason {
        self.refresher.reason()
    }

    pub(crate) const fn failures(&self) -> u32 {
        self.refresher.failures()
    }
}
