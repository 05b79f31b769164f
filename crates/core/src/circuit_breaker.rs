//! Which token may make an attempt: the attempts in flight at one Dex, and whether Dex itself
//! fails.
//!
//! Tokens of one Dex share one [`CircuitBreaker`]. While Dex answers, at most four attempts are in
//! flight. Before the first answer, and while Dex fails, one attempt at a time is made for all
//! tokens, at the pace of one token: each token shares the failures of the others, as if it had
//! made their attempts itself. The first answer releases all of them. A refusal is an answer: it
//! concerns one token and delays no other. With one token the breaker never delays anything.

use std::time::Duration;

use crate::failure::{Code, RetryClass, Step};
use crate::time::{BootTime, Jitter};

/// The maximum number of attempts in flight at one Dex (P5).
pub const MAX_IN_FLIGHT: usize = 4;

/// A failure of Dex itself: of the network, of TLS, or of the server.
#[derive(Clone, Copy, Debug)]
pub struct SharedFailure {
    /// Its code.
    pub code: Code,
    /// The `Retry-After` of the answer.
    pub retry_after: Option<Duration>,
    /// The instant of the failure.
    pub at: BootTime,
    /// The jitter of the delay after it: the same for all tokens, or the earliest of many delays
    /// would be shorter than the delay of one token.
    pub jitter: Jitter,
    /// The failures in a row, at least 1.
    pub failures: u32,
}

/// Whether a token may make an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Admission {
    /// It may, now.
    Granted,
    /// Not before an attempt of another token has ended.
    Held,
    /// Another token's attempt has failed because of Dex: the token shares that failure, and asks
    /// again when its delay is over.
    Failing(SharedFailure),
}

/// What is known of Dex.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Nothing yet, or nothing since a signal.
    #[default]
    Unknown,
    /// The last attempt was answered.
    Closed,
    /// The last attempt failed because of Dex.
    Open {
        last: SharedFailure,
        /// The token whose attempt failed first.
        first: usize,
        /// The attempt of another token has failed since then. Before that, the cause may be the
        /// token's own, such as a connector that hangs.
        is_confirmed: bool,
    },
}

/// The share of one token.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    in_flight: bool,
    /// Asked for admission and was held. Cleared by [`CircuitBreaker::take_held`].
    held: bool,
    /// The number of the last failure that this token knows.
    seen: u64,
    /// The number of the outage in which an attempt of this token failed, or in which it shared a
    /// failure.
    outage: Option<u64>,
}

/// The attempts of all tokens of one Dex.
#[derive(Debug, Default)]
pub struct CircuitBreaker {
    state: State,
    /// Counts failures.
    failures: u64,
    /// Counts outages: it changes when one ends.
    outages: u64,
    /// An attempt has failed since the last answer.
    has_failed: bool,
    members: Vec<Member>,
}

impl CircuitBreaker {
    /// The share of the token with this number. Numbers are small: they are indexes of a list.
    pub fn slot(&mut self, token: usize) -> Slot<'_> {
        if self.members.len() <= token {
            self.members.resize(token + 1, Member::default());
        }
        Slot { breaker: self, token }
    }

    /// The next attempt is made at once, whatever failed before: a signal requests it. It is one
    /// attempt for all tokens.
    pub fn reset(&mut self) {
        self.state = State::Unknown;
    }

    /// True if the token with this number was held since the last call. It asks again after each
    /// attempt of another token.
    pub fn take_held(&mut self, token: usize) -> bool {
        self.members.get_mut(token).is_some_and(|member| std::mem::take(&mut member.held))
    }
}

/// The share of one token in the attempts at its Dex.
#[derive(Debug)]
pub struct Slot<'a> {
    breaker: &'a mut CircuitBreaker,
    token: usize,
}

impl Slot<'_> {
    const fn member(&mut self) -> &mut Member {
        &mut self.breaker.members.as_mut_slice()[self.token]
    }

    /// Asks for an attempt. If it is granted and made, [`started`](Self::started) follows.
    pub fn admission(&mut self) -> Admission {
        let (limit, ignored, shared) = match self.breaker.state {
            State::Closed => (MAX_IN_FLIGHT, None, None),
            State::Unknown => (1, None, None),
            State::Open { last, is_confirmed: true, .. } => (1, None, Some(last)),
            State::Open { first, .. } if first == self.token => (1, None, None),
            // Only one token has failed. Its attempts may fail for a reason of its own, so they
            // hold no other token back for longer than the initial delay.
            State::Open { last, first, .. } => (1, Some(first), Some(SharedFailure { failures: 1, ..last })),
        };
        let others =
            self.breaker.members.iter().enumerate().filter(|(token, member)| {
                member.in_flight && *token != self.token && Some(*token) != ignored
            });
        if others.count() >= limit {
            self.member().held = true;
            return Admission::Held;
        }
        match shared.filter(|_| self.breaker.members[self.token].seen != self.breaker.failures) {
            Some(failure) => {
                self.note_failure();
                Admission::Failing(failure)
            }
            None => Admission::Granted,
        }
    }

    /// The attempt has begun.
    pub const fn started(&mut self) {
        self.member().in_flight = true;
    }

    /// The attempt was answered by Dex, with a token or a refusal.
    pub fn answered(&mut self) {
        let member = self.member();
        member.in_flight = false;
        member.outage = None;
        self.breaker.state = State::Closed;
        self.breaker.outages += u64::from(std::mem::take(&mut self.breaker.has_failed));
    }

    /// The attempt failed. `jitter` is that of the delay that follows.
    pub fn failed(&mut self, code: Code, retry_after: Option<Duration>, now: BootTime, jitter: Jitter) {
        if !is_trouble_of_dex(code) {
            if code.entry().retry == RetryClass::Local {
                // No request was sent.
                self.member().in_flight = false;
                return;
            }
            return self.answered();
        }
        self.member().in_flight = false;
        let (first, is_confirmed, failures) = match self.breaker.state {
            State::Open { first, is_confirmed, last } => {
                (first, is_confirmed || first != self.token, last.failures.saturating_add(1))
            }
            State::Unknown | State::Closed => (self.token, false, 1),
        };
        let last = SharedFailure { code, retry_after, at: now, jitter, failures };
        self.breaker.state = State::Open { last, first, is_confirmed };
        self.breaker.failures += 1;
        self.breaker.has_failed = true;
        self.note_failure();
    }

    /// True once after the end of an outage in which this token failed, or shared a failure.
    pub fn take_release(&mut self) -> bool {
        let outages = self.breaker.outages;
        self.member().outage.take_if(|outage| *outage != outages).is_some()
    }

    fn note_failure(&mut self) {
        let (failures, outages) = (self.breaker.failures, self.breaker.outages);
        let member = self.member();
        member.seen = failures;
        member.outage = Some(outages);
    }
}

/// True if the failure says that Dex cannot be reached or does not work. Then the attempts of other
/// tokens would fail too.
fn is_trouble_of_dex(code: Code) -> bool {
    let entry = code.entry();
    match entry.step {
        Step::Dns | Step::Tcp | Step::Tls => entry.retry != RetryClass::Local,
        // A token that cannot be used is an answer of Dex.
        Step::Exchange => {
            entry.retry == RetryClass::Network
                && !matches!(
                    code,
                    Code::TokenMalformed
                        | Code::TokenTypeUnsupported
                        | Code::TokenExpired
                        | Code::TokenUnchanged
                )
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
