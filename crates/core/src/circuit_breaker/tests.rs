//! Tests of the circuit breaker, call by call.

use super::*;

const AT: BootTime = BootTime::from_start(Duration::from_secs(1_000));

fn fail(breaker: &mut CircuitBreaker, token: usize, code: Code) {
    breaker.slot(token).failed(code, None, AT, Jitter::NONE);
}

/// Asks for admission for each of these tokens, and starts those that are granted. Returns their
/// numbers.
fn start(breaker: &mut CircuitBreaker, tokens: std::ops::Range<usize>) -> Vec<usize> {
    let granted = |token: &usize| {
        let is_granted = matches!(breaker.slot(*token).admission(), Admission::Granted);
        if is_granted {
            breaker.slot(*token).started();
        }
        is_granted
    };
    tokens.filter(granted).collect()
}

#[test]
fn before_the_first_answer_one_attempt_at_a_time_is_made_and_then_four() {
    let mut breaker = CircuitBreaker::default();
    assert_eq!(start(&mut breaker, 0..64), [0]);
    assert!((1..64).all(|token| breaker.take_held(token)) && !breaker.take_held(1));
    breaker.slot(0).answered();
    assert_eq!(start(&mut breaker, 1..64), [1, 2, 3, 4]);
    breaker.slot(2).answered();
    assert_eq!(start(&mut breaker, 5..64), [5]);
}

#[test]
fn a_token_in_flight_may_start_again() {
    let mut breaker = CircuitBreaker::default();
    assert_eq!(start(&mut breaker, 0..1), [0]);
    assert_eq!(start(&mut breaker, 0..1), [0], "a signal starts a hanging attempt again");
    assert_eq!(start(&mut breaker, 1..2), [0; 0]);
}

#[test]
fn while_dex_fails_each_token_shares_each_failure_once() {
    let mut breaker = CircuitBreaker::default();
    fail(&mut breaker, 0, Code::ConnectRefused);
    fail(&mut breaker, 1, Code::TimedOut);
    fail(&mut breaker, 1, Code::ServerError);
    let Admission::Failing(failure) = breaker.slot(2).admission() else { panic!("it knows no failure") };
    assert_eq!((failure.code, failure.failures), (Code::ServerError, 3));
    assert!(matches!(breaker.slot(0).admission(), Admission::Failing(_)), "the failures of token 1");
    assert_eq!(start(&mut breaker, 0..3), [0], "one at a time");
    breaker.slot(0).answered();
    assert!(breaker.slot(2).take_release() && breaker.slot(1).take_release());
    assert!(!breaker.slot(2).take_release() && !breaker.slot(0).take_release());
    assert_eq!(start(&mut breaker, 0..4), [0, 1, 2, 3]);
}

#[test]
fn one_token_that_fails_holds_the_others_back_for_an_initial_delay_only() {
    let mut breaker = CircuitBreaker::default();
    for _ in 0..10 {
        fail(&mut breaker, 7, Code::TimedOut);
    }
    breaker.slot(7).started();
    let Admission::Failing(failure) = breaker.slot(2).admission() else { panic!("it knows no failure") };
    assert_eq!(failure.failures, 1);
    assert_eq!(start(&mut breaker, 2..4), [2], "the attempt of the token that fails does not count");
    fail(&mut breaker, 2, Code::TimedOut);
    let Admission::Held = breaker.slot(3).admission() else { panic!("another attempt is in flight") };
    fail(&mut breaker, 7, Code::TimedOut);
    let Admission::Failing(failure) = breaker.slot(3).admission() else { panic!("Dex fails") };
    assert_eq!(failure.failures, 12);
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
fn a_signal_causes_one_attempt_for_all_tokens() {
    let mut breaker = CircuitBreaker::default();
    fail(&mut breaker, 0, Code::ConnectRefused);
    fail(&mut breaker, 1, Code::ConnectRefused);
    breaker.reset();
    assert_eq!(start(&mut breaker, 2..9), [2]);
    fail(&mut breaker, 2, Code::ConnectRefused);
    let Admission::Failing(failure) = breaker.slot(3).admission() else { panic!("it knows no failure") };
    assert_eq!(failure.failures, 1, "the delays begin again");
    breaker.slot(2).answered();
    assert!((0..2).all(|token| breaker.slot(token).take_release()));
}
