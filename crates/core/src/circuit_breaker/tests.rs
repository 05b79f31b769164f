//! Tests of the circuit breaker, call by call.

use super::*;

const AT: BootTime = BootTime::from_start(Duration::from_secs(1_000));

/// An attempt that fails, and that may have begun before.
fn fail(breaker: &mut CircuitBreaker, token: usize, code: Code) {
    if !breaker.members.get(token).is_some_and(|member| member.in_flight) {
        breaker.member(token).started();
    }
    breaker.member(token).failed(code, None, AT, Jitter::NONE);
}

/// Asks for admission for each of these tokens, and starts those that are granted. Returns their
/// numbers.
fn start(breaker: &mut CircuitBreaker, tokens: std::ops::Range<usize>) -> Vec<usize> {
    let granted = |token: &usize| match breaker.member(*token).admission(AT) {
        Admission::Granted => {
            breaker.member(*token).started();
            true
        }
        Admission::Held(_) => {
            breaker.member(*token).wait_until(AT);
            false
        }
    };
    tokens.filter(granted).collect()
}

#[test]
fn before_the_first_answer_one_attempt_at_a_time_is_made_and_then_four() {
    let mut breaker = CircuitBreaker::default();
    assert_eq!(start(&mut breaker, 0..64), [0]);
    assert!((1..64).all(|token| breaker.has_to_ask(token)) && !breaker.has_to_ask(0));
    breaker.member(0).issued();
    let four = start(&mut breaker, 1..64);
    assert_eq!(four.len(), 4, "{four:?}");
    assert!(four.windows(2).all(|pair| pair[1] > pair[0] + 1), "not neighbours: {four:?}");
    breaker.member(four[1]).issued();
    assert_eq!(start(&mut breaker, 1..64).len(), 1);
}

#[test]
fn a_token_in_flight_may_start_again() {
    let mut breaker = CircuitBreaker::default();
    assert_eq!(start(&mut breaker, 0..1), [0]);
    assert_eq!(start(&mut breaker, 0..1), [0], "a signal starts a hanging attempt again");
    assert_eq!(start(&mut breaker, 1..2), [0; 0]);
}

/// The failure that this token does not know yet. It waits from now on.
fn learn(breaker: &mut CircuitBreaker, token: usize, ready_at: BootTime) -> SharedFailure {
    let failure = breaker.member(token).news().expect("it does not know the failure");
    breaker.member(token).wait_until(ready_at);
    failure
}

#[test]
fn while_dex_fails_each_token_learns_of_each_failure_and_they_try_in_turn() {
    let later = |seconds| AT + Duration::from_secs(seconds);
    let mut breaker = CircuitBreaker::default();
    for token in [0, 1, 1] {
        breaker.member(token).started();
        fail(&mut breaker, token, if token == 0 { Code::ConnectRefused } else { Code::ServerError });
    }
    let failure = learn(&mut breaker, 2, later(30));
    assert_eq!((failure.code, failure.failures), (Code::ServerError, 3));
    assert_eq!(learn(&mut breaker, 0, later(10)).failures, 3);
    assert_eq!(breaker.member(2).next_attempt(), Some(later(10)), "the pace of the most urgent one");
    assert!(breaker.member(1).next_attempt().is_none(), "it does not wait");
    assert_eq!(start(&mut breaker, 0..3), [2], "it has not tried yet");
    breaker.member(2).failed(Code::ConnectRefused, None, AT, Jitter::NONE);
    for token in [0, 1] {
        assert_eq!(learn(&mut breaker, token, later(20)).failures, 4);
    }
    assert_eq!(start(&mut breaker, 0..3), [0], "its last attempt is the oldest");
    breaker.member(0).issued();
    assert!((0..3).map(|token| breaker.has_to_ask(token)).eq([false, true, true]));
    assert!(breaker.member(2).take_release() && breaker.member(1).take_release());
    assert!(!breaker.member(2).take_release() && !breaker.member(0).take_release());
    assert_eq!(start(&mut breaker, 0..4), [0, 1, 2, 3]);
}

#[test]
fn one_token_that_fails_holds_the_others_back_for_an_initial_delay_only() {
    let mut breaker = CircuitBreaker::default();
    for _ in 0..10 {
        breaker.member(7).failed(Code::RateLimited, Some(Duration::from_secs(300)), AT, Jitter::NONE);
    }
    breaker.member(7).started();
    let failure = learn(&mut breaker, 2, AT);
    assert_eq!((failure.failures, failure.retry_after), (1, None));
    assert_eq!(start(&mut breaker, 2..3), [2], "the attempt of the token that fails does not count");
    fail(&mut breaker, 2, Code::TimedOut);
    assert_eq!(learn(&mut breaker, 3, AT).failures, 2, "two tokens have failed");
    assert_eq!(start(&mut breaker, 3..4), [0; 0], "one at a time");
}

#[test]
fn the_token_that_fails_alone_gives_way_to_one_that_is_ready() {
    let mut breaker = CircuitBreaker::default();
    breaker.member(0).started();
    fail(&mut breaker, 0, Code::TimedOut);
    learn(&mut breaker, 1, AT + Duration::from_secs(1));
    assert_eq!(start(&mut breaker, 0..1), [0], "the other one is not ready");
    fail(&mut breaker, 0, Code::TimedOut);
    breaker.member(1).wait_until(AT);
    assert_eq!(start(&mut breaker, 0..2), [1]);
}

#[test]
fn a_refusal_lets_the_next_token_try_while_dex_fails() {
    let mut breaker = CircuitBreaker::default();
    fail(&mut breaker, 0, Code::ServerError);
    fail(&mut breaker, 1, Code::ServerError);
    for token in [2, 3] {
        learn(&mut breaker, token, AT + Duration::from_secs(30));
    }
    assert_eq!(start(&mut breaker, 2..4), [2]);
    fail(&mut breaker, 2, Code::AccessDenied);
    assert_eq!(breaker.member(3).next_attempt(), Some(AT));
    assert_eq!(start(&mut breaker, 3..9), [3], "one at a time");
}

#[test]
fn a_refusal_is_an_answer_and_a_local_failure_is_none() {
    for (code, is_answer) in [
        (Code::InvalidClient, true),
        (Code::AccessDenied, true),
        (Code::TokenUnchanged, true),
        (Code::SubjectTokenMissing, false),
        (Code::CaFileUnreadable, false),
        (Code::NameNotFound, false),
        (Code::CertificateUntrusted, false),
        (Code::PlainHttpRefused, false),
        (Code::RateLimited, false),
        (Code::NotFromDex, false),
    ] {
        let mut breaker = CircuitBreaker::default();
        assert_eq!(start(&mut breaker, 0..9), [0]);
        fail(&mut breaker, 0, code);
        assert_eq!(start(&mut breaker, 1..9).len() == 4, is_answer, "{code}");
    }
}

#[test]
fn a_signal_causes_one_attempt_for_all_tokens_and_the_delays_begin_again() {
    let mut breaker = CircuitBreaker::default();
    fail(&mut breaker, 0, Code::ConnectRefused);
    fail(&mut breaker, 1, Code::ConnectRefused);
    breaker.reset(AT);
    assert_eq!(start(&mut breaker, 2..9), [2]);
    fail(&mut breaker, 2, Code::ConnectRefused);
    assert_eq!(learn(&mut breaker, 3, AT).failures, 1);
    breaker.reset(AT + Duration::from_secs(4));
    assert_eq!(learn(&mut breaker, 4, AT).failures, 1, "signals cause one attempt in five seconds");
    breaker.member(2).issued();
    assert!(breaker.member(1).take_release() && breaker.member(3).take_release());
    assert!(!breaker.member(0).take_release(), "it failed first, and keeps its own delays");
}

#[test]
fn suspects_have_two_attempts_in_flight_and_do_not_make_dex_seem_to_fail() {
    let mut breaker = CircuitBreaker::default();
    breaker.member(0).issued();
    for token in 1..6 {
        fail(&mut breaker, token, Code::TimedOut);
        breaker.member(0).issued();
    }
    assert_eq!(start(&mut breaker, 1..20), [1, 2, 6, 7], "two suspects, and four in all");
    let mut breaker = CircuitBreaker::default();
    for token in [1, 2] {
        fail(&mut breaker, token, Code::TimedOut);
        breaker.member(0).issued();
    }
    fail(&mut breaker, 1, Code::TimedOut);
    fail(&mut breaker, 2, Code::TimedOut);
    assert_eq!(start(&mut breaker, 1..4), [1, 2, 3], "Dex has answered since they failed last");
    assert!(!breaker.member(1).take_release() && !breaker.member(2).take_release());
    fail(&mut breaker, 1, Code::TimedOut);
    fail(&mut breaker, 2, Code::TimedOut);
    assert_eq!(learn(&mut breaker, 4, AT).failures, 2, "nobody was answered since");
}

#[test]
fn an_attempt_during_which_dex_answers_others_fails_for_a_reason_of_its_own() {
    let mut breaker = CircuitBreaker::default();
    breaker.member(9).issued();
    assert_eq!(start(&mut breaker, 0..4), [0, 1, 2, 3]);
    breaker.member(3).issued();
    for token in 0..3 {
        fail(&mut breaker, token, Code::TimedOut);
    }
    assert_eq!(start(&mut breaker, 3..9), [3, 4, 5, 6], "Dex works");
}

/// A suspect whose last attempt is older than those of the others.
#[test]
fn tokens_and_suspects_do_not_wait_for_each_other() {
    let mut breaker = CircuitBreaker::default();
    let [suspect, sound, broken] = [0, 1, 2];
    breaker.member(suspect).started();
    breaker.member(sound).started();
    breaker.member(sound).issued();
    fail(&mut breaker, suspect, Code::TimedOut);
    breaker.member(sound).started();
    breaker.member(sound).issued();
    breaker.member(broken).started();
    fail(&mut breaker, broken, Code::TimedOut);
    assert_eq!(start(&mut breaker, broken..broken + 1), [broken], "it tries again, and hangs");
    assert_eq!(start(&mut breaker, suspect..suspect + 1), [0; 0]);
    breaker.member(suspect).wait_until(AT);
    let _ = breaker.member(sound).news();
    breaker.member(sound).wait_until(AT);
    fail(&mut breaker, broken, Code::TimedOut);
    breaker.member(broken).wait_until(AT);
    assert!(!start(&mut breaker, 0..3).is_empty());
}

#[test]
fn a_refusal_after_a_signal_does_not_end_an_outage() {
    let mut breaker = CircuitBreaker::default();
    fail(&mut breaker, 0, Code::ServerError);
    fail(&mut breaker, 1, Code::ServerError);
    breaker.reset(AT);
    assert_eq!(start(&mut breaker, 2..9), [2]);
    fail(&mut breaker, 2, Code::AccessDenied);
    assert_eq!(start(&mut breaker, 3..9).len(), 1, "one at a time");
}

#[test]
fn a_suspect_keeps_its_own_delays_when_another_token_fails() {
    let mut breaker = CircuitBreaker::default();
    fail(&mut breaker, 0, Code::TimedOut);
    breaker.member(9).issued();
    breaker.member(0).wait_until(AT + Duration::from_secs(300));
    fail(&mut breaker, 1, Code::TimedOut);
    assert!(breaker.member(0).news().is_none() && breaker.member(0).next_attempt().is_none());
}
