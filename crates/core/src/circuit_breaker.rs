//! Which token may make an attempt: the attempts in flight at one Dex, and whether Dex itself
//! fails.
//!
//! Tokens of one Dex are members of one [`CircuitBreaker`]. With one token it never delays
//! anything.
//!
//! - **Unknown**, at the start, and after a signal during an outage: one attempt is in flight.
//! - **Closed**, by an issued token, and by a refusal unless an outage is confirmed: four attempts
//!   are in flight.
//! - **Open**, by a failure of Dex: one attempt is in flight, beside those of suspects.
//! - **Open and confirmed**, by the failure of a second token: one attempt is in flight.
//!
//! The token that made its last attempt the longest ago is next. Suspects come last, but not at
//! every fourth attempt of a confirmed outage.
//!
//! While it is open, a waiting token learns of the failures of others, and computes when it would
//! try again. The most urgent of the waiting tokens sets the instant of the next attempt. The first
//! issued token releases all of them. A refusal concerns one token and delays no other.
//!
//! A token that fails while Dex answers others is a suspect: its connector may hang, for example.
//! Suspects do not make Dex seem to fail, and at most two of them have an attempt in flight.

use std::time::Duration;

use crate::failure::{Code, RetryClass, Step};
use crate::time::{BootTime, Jitter};

/// The maximum number of attempts in flight at one Dex (P5).
pub const MAX_IN_FLIGHT: usize = 4;
/// The maximum number of suspects in flight while Dex answers: it leaves places for the others.
const MAX_SUSPECTS_IN_FLIGHT: usize = 2;
/// At every fourth attempt of a confirmed outage, suspects do not come last.
const TURN_OF_ALL: u64 = 4;
/// Signals cause at most one attempt in this time (F102).
const MIN_BETWEEN_RESETS: Duration = Duration::from_secs(5);
/// A held token asks again after this time, even if no attempt has ended.
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
        /// The token whose attempt failed first, unless it is gone.
        opened_by: Option<usize>,
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
    /// The instant from which the token would try again. Set while it waits for Dex to work again,
    /// or for its turn.
    ready_at: Option<BootTime>,
    /// The number of the last failure that this token knows.
    known_failure: u64,
    /// The number of answers to attempts of all tokens before its last attempt began.
    answers_at_start: u64,
    /// The number of answers to attempts of all tokens before its last failure.
    answers_at_failure: u64,
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
    /// The token with this number. Numbers are small: they are indexes of a list of tokens, of this
    /// Dex or of several.
    pub fn member(&mut self, token: usize) -> Member<'_> {
        if self.members.len() <= token {
            self.members.resize(token + 1, MemberState::default());
        }
        Member { breaker: self, token }
    }

    /// The token with this number has ended, or has a new configuration. Another token may get its
    /// number.
    pub fn remove(&mut self, token: usize) {
        if let Some(member) = self.members.get_mut(token) {
            *member = MemberState::default();
        }
        if let State::Open { opened_by, .. } = &mut self.state
            && *opened_by == Some(token)
        {
            *opened_by = None;
        }
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
    #[must_use]
    pub fn has_to_ask(&self, token: usize) -> bool {
        self.members.get(token).is_some_and(|member| {
            let is_released = member.outage.is_some_and(|outage| outage != self.outages);
            member.ready_at.is_some() || is_released
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

    /// A failure of Dex that this token does not know, if it is one that the token would have had
    /// too. The token computes when it would try again after it, and [waits](Self::wait_until).
    pub fn news(&mut self) -> Option<SharedFailure> {
        let failures = self.breaker.failures;
        let state = self.state();
        let (is_known, is_suspect) = (state.known_failure == failures, state.is_suspect);
        match self.breaker.state {
            State::Open { last, is_confirmed: true, .. } if !is_known => Some(last),
            // Only suspects have failed. They delay no other token by more than the initial delay.
            State::Open { last, is_confirmed: false, .. } if !is_known && !is_suspect => {
                Some(SharedFailure { failures: 1, retry_after: None, ..last })
            }
            _ => None,
        }
    }

    /// Asks for an attempt. If it is granted and made, [`started`](Self::started) follows. If not,
    /// [`wait_until`](Self::wait_until) follows.
    pub fn admission(&mut self, now: BootTime) -> Admission {
        let is_suspect = self.state().is_suspect;
        if self.tokens_before(now, is_suspect) < self.free_places(is_suspect) {
            return Admission::Granted;
        }
        Admission::Held(now + ASK_AGAIN)
    }

    /// The number of attempts that tokens like this one may begin now.
    fn free_places(&self, is_suspect: bool) -> usize {
        let all = self.breaker.members.iter().enumerate();
        let in_flight = all.filter(|(token, member)| member.in_flight && *token != self.token);
        let (mut suspects, mut others) = (0, 0);
        for (_, member) in in_flight {
            *(if member.is_suspect { &mut suspects } else { &mut others }) += 1;
        }
        let all: usize = suspects + others;
        match self.breaker.state {
            State::Open { is_confirmed: true, .. } | State::Unknown { failed_before: true } => {
                1_usize.saturating_sub(all)
            }
            // The attempts of suspects do not count for others.
            State::Open { .. } | State::Unknown { .. } if !is_suspect => 1_usize.saturating_sub(others),
            State::Open { .. } | State::Unknown { .. } => 1_usize.saturating_sub(all),
            State::Closed if !is_suspect => MAX_IN_FLIGHT.saturating_sub(all),
            State::Closed => {
                MAX_IN_FLIGHT.saturating_sub(all).min(MAX_SUSPECTS_IN_FLIGHT.saturating_sub(suspects))
            }
        }
    }

    /// The number of waiting tokens whose turn comes before this one's: of those that are ready, or
    /// of all while Dex fails for this token too. The token whose last attempt is the oldest comes
    /// first. Suspects come last, since they may fail whether Dex works or not. While Dex fails for
    /// all, every fourth turn is theirs too.
    fn tokens_before(&self, now: BootTime, is_suspect: bool) -> usize {
        let is_confirmed = matches!(self.breaker.state, State::Open { is_confirmed: true, .. });
        let is_open = matches!(self.breaker.state, State::Open { .. });
        let of_all = is_confirmed || is_open && !is_suspect;
        let suspects_last = !is_confirmed || !self.breaker.attempts.is_multiple_of(TURN_OF_ALL);
        let key = |(token, member): (usize, &MemberState)| {
            // Tokens that have made no attempt are taken in an order that does not follow the list:
            // neighbours may have the same broken connector.
            let mixed = u32::try_from(token).unwrap_or_default().wrapping_mul(0x9e37_79b9);
            (suspects_last && member.is_suspect, member.attempt, mixed)
        };
        let mine = key((self.token, &self.breaker.members[self.token]));
        let waiting = self.breaker.members.iter().enumerate().filter(|(_, member)| {
            let is_ready = member.ready_at.is_some_and(|ready_at| of_all || ready_at <= now);
            is_ready && (!of_all || member.known_failure == self.breaker.failures)
        });
        waiting.map(key).filter(|other| *other < mine).count()
    }

    /// The token waits for Dex to work again, and would try again at this instant.
    pub fn wait_until(&mut self, ready_at: BootTime) {
        let (failures, outages) = (self.breaker.failures, self.breaker.outages);
        let state = self.state();
        state.known_failure = failures;
        state.outage = Some(outages);
        state.ready_at = Some(ready_at);
    }

    /// The instant of the next attempt that one of the waiting tokens makes: when the first of them
    /// is ready. `None` if this token does not wait for Dex to work again.
    pub fn next_attempt(&mut self) -> Option<BootTime> {
        let failures = self.breaker.failures;
        let state = *self.state();
        let State::Open { is_confirmed, .. } = self.breaker.state else { return None };
        let waits_with =
            |member: &&MemberState| member.known_failure == failures && (is_confirmed || !member.is_suspect);
        Some(&state).filter(waits_with)?.ready_at?;
        self.breaker.members.iter().filter(waits_with).filter_map(|member| member.ready_at).min()
    }

    /// The token wants no attempt now.
    pub const fn withdraw(&mut self) {
        self.state().ready_at = None;
    }

    /// True while the token waits for Dex to work again, or for its turn.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.breaker.members[self.token].ready_at.is_some()
    }

    /// The attempt has begun.
    pub fn started(&mut self) {
        self.breaker.attempts += 1;
        let (attempt, answers) = (self.breaker.attempts, self.breaker.answers);
        let state = self.state();
        state.in_flight = true;
        state.attempt = attempt;
        state.answers_at_start = answers;
        state.ready_at = None;
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
        let is_excused =
            state.answers_at_start != answers || state.is_suspect && state.answers_at_failure != answers;
        state.answers_at_failure = answers;
        state.is_suspect |= is_excused;
        self.breaker.state = match self.breaker.state {
            State::Open { last, opened_by, is_confirmed: true } => {
                let last = SharedFailure { failures: last.failures.saturating_add(1), ..failure };
                State::Open { last, opened_by, is_confirmed: true }
            }
            _ if is_excused => return,
            State::Open { opened_by, .. } if opened_by == Some(self.token) => return,
            State::Open { last, opened_by, .. } => {
                let last = SharedFailure { failures: last.failures.saturating_add(1), ..failure };
                State::Open { last, opened_by, is_confirmed: true }
            }
            State::Unknown { failed_before } => {
                self.state().is_suspect |= !failed_before;
                State::Open { last: failure, opened_by: Some(self.token), is_confirmed: failed_before }
            }
            State::Closed => {
                self.state().is_suspect = true;
                State::Open { last: failure, opened_by: Some(self.token), is_confirmed: false }
            }
        };
        self.breaker.failures += 1;
        self.breaker.has_failed = true;
        let (failures, outages) = (self.breaker.failures, self.breaker.outages);
        let state = self.state();
        state.known_failure = failures;
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
        let fails_for_all = matches!(
            self.breaker.state,
            State::Open { is_confirmed: true, .. } | State::Unknown { failed_before: true }
        );
        if !fails_for_all {
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
                        | Code::IssuerUnexpected
                )
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
