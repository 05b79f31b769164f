//! Starts the exchange that is due, if the rate limit and the other tokens of its Dex allow it.

use super::Reason;
use super::in_flight::InFlight;
use super::moment::Moment;
use super::plan::Plan;
use crate::circuit_breaker::{Admission, Member, SharedFailure};
use crate::schedule::Bucket;

impl Plan {
    /// Starts an exchange if one is due, and if the other tokens of this Dex and the bucket allow
    /// it. With an empty bucket it is delayed until a token comes back.
    pub(super) fn start(&mut self, bucket: &mut Bucket, member: &mut Member<'_>, token: &Moment<'_>) -> bool {
        let now = token.now;
        let is_restarted = self.restart_due().is_some_and(|due| due <= now);
        if is_restarted {
            // It replaces an attempt in flight, so it needs no admission.
            self.in_flight = None;
            self.due = now;
            self.reason = Reason::Signal;
        } else if !self.is_admitted(member, token) {
            return false;
        }
        match bucket.take(now) {
            Ok(()) => {}
            // A signal bypasses the rate limit; later attempts wait longer.
            Err(_) if self.reason == Reason::Signal => bucket.overdraw(now),
            Err(ready) => {
                self.due = ready;
                member.withdraw();
                return false;
            }
        }
        if self.reason == Reason::Signal {
            self.requested_at = Some(now);
        }
        member.started();
        self.in_flight = Some(InFlight::new(now, is_restarted));
        true
    }

    /// True if an exchange is due, and the other tokens of this Dex allow it.
    fn is_admitted(&mut self, member: &mut Member<'_>, token: &Moment<'_>) -> bool {
        if member.take_release() && matches!(self.reason, Reason::Retry | Reason::Expired) {
            self.retries.count = 0;
            self.due = self.due.min(token.now);
        }
        self.ask_at = None;
        let is_idle = self.in_flight.is_some() || self.reason == Reason::Schedule && self.due > token.now;
        if is_idle || !self.is_wanted(token.can_be_written) {
            member.withdraw();
            return false;
        }
        if (self.due <= token.now || member.is_waiting())
            && let Some(failure) = member.news()
        {
            self.adopt_failure(failure, token);
            member.wait_until(self.due);
        }
        let next = member.next_attempt();
        let due = next.map_or(self.due, |next| next.min(self.due));
        if due > token.now {
            // This token is in a delay of its own: it has no turn, and no other waits for it.
            if next.is_none() {
                member.withdraw();
            }
            self.ask_at = Some(due);
            return false;
        }
        match member.admission(token.now) {
            Admission::Granted => true,
            Admission::Held(until) => {
                member.wait_until(self.due.min(token.now));
                self.ask_at = Some(until);
                false
            }
        }
    }

    /// The attempt of another token failed because of Dex. This token would have failed too: the
    /// next attempt comes when it would come then. If the token expires before that, it is as
    /// urgent as a token that has expired.
    fn adopt_failure(&mut self, shared: SharedFailure, token: &Moment<'_>) {
        self.retries.count = self.retries.count.max(shared.failures);
        let failed = (shared.code, shared.retry_after);
        self.retry(failed, shared.at, shared.jitter, token);
        let Some(expires) = token.remaining.map(|remaining| token.now + remaining) else { return };
        let expired = self.retries.delay(token.schedule, failed, None, shared.jitter);
        self.due = self.due.min(expires.max(shared.at + expired));
    }
}
