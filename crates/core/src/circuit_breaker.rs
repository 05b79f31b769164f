//! Which token may make an attempt: the attempts in flight at one Dex, and whether Dex itself
//! fails.
//!
//! Tokens of one Dex are members of one [`CircuitBreaker`]. While Dex answers, at most four
//! attempts are in flight. Before the first answer, and while Dex fails, one attempt at a time is
//! made for all tokens that wait, at the pace of the one that is most urgent, by each of them in
//! turn. The first issued token releases all of them. A refusal concerns one token and delays no
//! other. With one token the breaker never delays anything.
//!
//! A token that fails while Dex answers others is a suspect: its connector may hang, for example.
//! Suspects do not make Dex seem to fail, and only one of them has an attempt in flight.

use std::time::Duration;

use crate::failure::{Code, RetryClass, Step};
use crate::time::{BootTime, Jitter};

/// The maximum number of attempts in flight at one Dex (P5).
pub const MAX_IN_FLIGHT: usize = 4;
/// Signals cause at most one attempt in this time (F102).
const MIN_BETWEEN_RESETS: Duration = Duration::from_secs(5);
/// A token whose turn it is not asks again after this time, in case the other one does not.
const ASK_AGAIN: Duration = Duration::from_secs(1);

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
    /// Not before an attempt of another token has ended, or before this instant.
    Held(BootTime),
    /// An attempt of another token has failed because of Dex. The token computes when it would try
    /// again if it had made that attempt, and [waits](Member::wait_until).
    Failing(SharedFailure),
}

/// What is known of Dex.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing yet, or nothing since a signal.
    Unknown {
        /// Before the signal, Dex failed for all.
        failed_before: bool,
    },
    /// The last attempt was answered.
    Closed,
    /// Dex fails.
    Open {
        last: SharedFailure,
        /// The token whose attempt failed first.
        opened_by: usize,
        /// The attempt of another token has failed too.
        is_confirmed: bool,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Unknown { failed_before: false }
    }
}

/// What is known of one token.
#[derive(Clone, Copy, Debug, Default)]
struct MemberState {
    in_flight: bool,
    /// Its attempt failed while Dex answered others, or as the first one. Cleared by an answer.
    is_suspect: bool,
    /// The token was held, and has to be asked again.
    was_held: bool,
    /// The instant at which the token would try again. Set while it waits for Dex to work again.
    ready_at: Option<BootTime>,
    /// The number of the last failure that this token knows.
    seen: u64,
    /// The number of answers to attempts of all tokens before its last attempt began, and before
    /// its last failure.
    answers: (u64, u64),
    /// The number of the last attempt of this token among those of all tokens: the token with the
    /// lowest one is next.
    attempt: u64,
    /// The number of the outage in which the token failed or waited.
    outage: Option<u64>,
}

/// The attempts of all tokens of one Dex.
#[derive(Debug, Default)]
pub struct CircuitBreaker {
    state: State,
    /// Counts failures because of Dex.
    failures: u64,
    /// Counts outages: it changes when one ends.
    outages: u64,
    /// Counts attempts, and answers to them.
    attempts: u64,
    answers: u64,
    /// An attempt has failed because of Dex since the last issued token.
    has_failed: bool,
    /// The instant of the last reset.
    reset_at: Option<BootTime>,
    members: Vec<MemberState>,
}

impl CircuitBreaker {
    /// The token with this number. Numbers are small: they are indexes of a list.
    pub fn member(&mut self, token: usize) -> Member<'_> {
        if self.members.len() <= token {
            self.members.resize(token + 1, MemberState::default());
        }
        Member { breaker: self, token }
    }

    /// The next attempt is made at once, although Dex fails: a signal requests it. It is one
    /// attempt for all tokens, at most once in five seconds.
    pub fn reset(&mut self, now: BootTime) {
        let is_recent = self.reset_at.is_some_and(|last| last.until(now) < MIN_BETWEEN_RESETS);
        if let State::Open { is_confirmed, .. } = self.state
            && !is_recent
        {
            self.state = State::Unknown { failed_before: is_confirmed };
            self.reset_at = Some(now);
        }
    }

    /// True if the token with this number has to be asked again, because an attempt of another
    /// token has ended.
    pub fn has_to_ask(&mut self, token: usize) -> bool {
        let outages = self.outages;
        self.members.get_mut(token).is_some_and(|member| {
            let is_released = member.outage.is_some_and(|outage| outage != outages);
            std::mem::take(&mut member.was_held) || member.ready_at.is_some() || is_released
        })
    }
}

/// One token among those of its Dex.
#[derive(Debug)]
pub struct Member<'a> {
    breaker: &'a mut CircuitBreaker,
    token: usize,
}

impl Member<'_> {
    const fn state(&mut self) -> &mut MemberState {
        &mut self.breaker.members.as_mut_slice()[self.token]
    }

    /// Asks for an attempt. If it is granted and made, [`started`](Self::started) follows.
    pub fn admission(&mut self, now: BootTime) -> Admission {
        let is_suspect = self.state().is_suspect;
        let failure = match self.breaker.state {
            State::Open { last, is_confirmed: true, .. } => Some(last),
            // Only suspects have failed. They delay no other token by more than the initial delay.
            State::Open { last, .. } if !is_suspect => {
                Some(SharedFailure { failures: 1, retry_after: None, ..last })
            }
            _ => None,
        };
        if let Some(failure) = failure.filter(|_| self.state().seen != self.breaker.failures) {
            return Admission::Failing(failure);
        }
        if self.rank(now, is_suspect) < self.free_places(is_suspect) {
            return Admission::Granted;
        }
        self.state().was_held = true;
        Admission::Held(now + ASK_AGAIN)
    }

    /// The number of attempts that tokens like this one may begin now.
    fn free_places(&self, is_suspect: bool) -> usize {
        let others = self.breaker.members.iter().enumerate().filter(|(token, _)| *token != self.token);
        let (mut suspects, mut sound) = (0, 0_usize);
        for (_, member) in others.filter(|(_, member)| member.in_flight) {
            *(if member.is_suspect { &mut suspects } else { &mut sound }) += 1;
        }
        let all = suspects + sound;
        match self.breaker.state {
            State::Open { is_confirmed: true, .. } | State::Unknown { failed_before: true } => {
                1_usize.saturating_sub(all)
            }
            // The attempts of suspects do not count for others.
            State::Open { .. } | State::Unknown { .. } if !is_suspect => 1_usize.saturating_sub(sound),
            State::Open { .. } | State::Unknown { .. } => 1_usize.saturating_sub(all),
            State::Closed if !is_suspect => MAX_IN_FLIGHT.saturating_sub(all),
            State::Closed => MAX_IN_FLIGHT.saturating_sub(all).min(1_usize.saturating_sub(suspects)),
        }
    }

    /// The number of waiting tokens whose turn comes before this one's. The one whose last attempt
    /// is the oldest comes first, whether it is ready or not, while Dex fails for all. Otherwise
    /// only those count that are ready, and suspects come last.
    fn rank(&self, now: BootTime, is_suspect: bool) -> usize {
        let takes_turns = match self.breaker.state {
            State::Open { is_confirmed, .. } => is_confirmed || !is_suspect,
            _ => false,
        };
        let key = |(token, member): (usize, &MemberState)| {
            // Tokens that have made no attempt are taken in an order that does not follow the list:
            // neighbours may have the same broken connector.
            let mixed = u32::try_from(token).unwrap_or_default().wrapping_mul(0x9e37_79b9);
            (!takes_turns && member.is_suspect, member.attempt, mixed)
        };
        let mine = key((self.token, &self.breaker.members[self.token]));
        let waiting = self.breaker.members.iter().enumerate().filter(|(_, member)| {
            let is_ready = member.ready_at.is_some_and(|ready_at| takes_turns || ready_at <= now);
            is_ready && (!takes_turns || member.seen == self.breaker.failures)
        });
        waiting.map(key).filter(|other| *other < mine).count()
    }

    /// The token waits for Dex to work again, and would try again at this instant.
    pub fn wait_until(&mut self, ready_at: BootTime) {
        let (failures, outages) = (self.breaker.failures, self.breaker.outages);
        let state = self.state();
        state.seen = failures;
        state.outage = Some(outages);
        state.ready_at = Some(ready_at);
    }

    /// The instant of the next attempt that a waiting token makes: when the first of them is ready.
    /// `None` if this token does not wait, or does not know the last failure.
    pub fn next_attempt(&mut self) -> Option<BootTime> {
        let failures = self.breaker.failures;
        let state = self.state();
        state.ready_at.filter(|_| state.seen == failures)?;
        let waiting = self.breaker.members.iter().filter(|member| member.seen == failures);
        waiting.filter_map(|member| member.ready_at).min()
    }

    /// The token wants no attempt now.
    pub const fn withdraw(&mut self) {
        let state = self.state();
        state.ready_at = None;
        state.was_held = false;
    }

    /// True while the token waits for Dex to work again.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.breaker.members[self.token].ready_at.is_some()
    }

    /// True if the token waits, but does not know the last failure.
    pub fn has_news(&mut self) -> bool {
        let failures = self.breaker.failures;
        let state = self.state();
        state.ready_at.is_some() && state.seen != failures
    }

    /// The attempt has begun.
    pub fn started(&mut self) {
        self.breaker.attempts += 1;
        let (attempt, answers) = (self.breaker.attempts, self.breaker.answers);
        let state = self.state();
        state.answers.0 = answers;
        *state = MemberState { in_flight: true, attempt, ready_at: None, was_held: false, ..*state };
    }

    /// The attempt brought a token: Dex works.
    pub fn issued(&mut self) {
        self.answered();
        self.close();
    }

    /// The attempt failed. `jitter` is that of the delay that follows.
    pub fn failed(&mut self, code: Code, retry_after: Option<Duration>, now: BootTime, jitter: Jitter) {
        self.state().in_flight = false;
        if is_trouble_of_dex(code) {
            self.failed_because_of_dex(SharedFailure { code, retry_after, at: now, jitter, failures: 1 });
        } else if code.entry().retry != RetryClass::Local {
            self.refused(now);
        }
    }

    fn failed_because_of_dex(&mut self, failure: SharedFailure) {
        let answers = self.breaker.answers;
        let state = self.state();
        // Dex has answered others during this attempt, or since this token failed last: it fails
        // for a reason of its own.
        let is_excused = state.answers.0 != answers || state.is_suspect && state.answers.1 != answers;
        state.answers.1 = answers;
        state.is_suspect |= is_excused;
        self.breaker.state = match self.breaker.state {
            State::Open { last, opened_by, is_confirmed: true } => {
                let last = SharedFailure { failures: last.failures.saturating_add(1), ..failure };
                State::Open { last, opened_by, is_confirmed: true }
            }
            _ if is_excused => return,
            State::Open { opened_by, .. } if opened_by == self.token => return,
            State::Open { last, opened_by, .. } => {
                let last = SharedFailure { failures: last.failures.saturating_add(1), ..failure };
                State::Open { last, opened_by, is_confirmed: true }
            }
            State::Unknown { failed_before } => {
                self.state().is_suspect |= !failed_before;
                State::Open { last: failure, opened_by: self.token, is_confirmed: failed_before }
            }
            State::Closed => {
                self.state().is_suspect = true;
                State::Open { last: failure, opened_by: self.token, is_confirmed: false }
            }
        };
        self.breaker.failures += 1;
        self.breaker.has_failed = true;
        let (failures, outages) = (self.breaker.failures, self.breaker.outages);
        let state = self.state();
        state.seen = failures;
        state.outage = Some(outages);
    }

    fn answered(&mut self) {
        self.breaker.answers += 1;
        let state = self.state();
        state.in_flight = false;
        state.is_suspect = false;
        state.outage = None;
    }

    fn close(&mut self) {
        self.breaker.state = State::Closed;
        self.breaker.outages += u64::from(std::mem::take(&mut self.breaker.has_failed));
    }

    /// Dex has refused the token. Whether it works for others is not known while it fails for them:
    /// the next one tries at once.
    fn refused(&mut self, now: BootTime) {
        self.answered();
        if !matches!(self.breaker.state, State::Open { is_confirmed: true, .. }) {
            return self.close();
        }
        for member in &mut self.breaker.members {
            member.ready_at = member.ready_at.map(|ready_at| ready_at.min(now));
        }
    }

    /// True once after the end of an outage in which this token failed or waited. A suspect keeps
    /// its own delays.
    pub fn take_release(&mut self) -> bool {
        let outages = self.breaker.outages;
        let state = self.state();
        state.outage.take_if(|outage| *outage != outages).is_some() && !state.is_suspect
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
