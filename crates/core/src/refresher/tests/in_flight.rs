//! An exchange, a write or a key check hangs: the others go on.

use super::*;

/// A refresher whose exchange is in flight since 0 s, with a token of this many seconds on disk.
fn exchanging(length: u64) -> Driver {
    let mut refresher = holding(length);
    refresher.suspend_key_check();
    refresher.refresher.plan.bring_forward(at(0.0).boot, Reason::Retry);
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Exchange);
    refresher
}

#[test]
fn an_exchange_in_flight_is_not_started_again() {
    let mut refresher = new();
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Exchange);
    for second in 0..1_000 {
        let now = at(f64::from(second));
        assert!(matches!(refresher.step(now, Jitter::NONE), Decision::Wait(until) if until > now.boot));
    }
}

#[test]
fn f160_the_expiry_is_reported_while_an_exchange_is_in_flight() {
    let mut refresher = exchanging(60);
    assert_eq!(next_decision(&mut refresher, 0.0), (60.0, EXPIRE));
    assert!(matches!(refresher.step(at(60.0), Jitter::NONE), Decision::Wait(_)), "it is in flight still");
    assert_eq!(fail(&mut refresher, Code::TimedOut, 70.0), Duration::from_millis(500));
    assert_eq!(refresher.health(at(70.0)), Health::Expired);
}

#[test]
fn f160_a_signal_starts_an_exchange_again_that_is_in_flight_for_five_seconds() {
    for (signal, restart) in [(0.0, 5.0), (3.0, 5.0), (5.0, 5.0), (9.0, 9.0)] {
        let mut refresher = exchanging(86_400);
        assert_eq!(refresher.refresh_requested(at(signal)), at(restart).boot);
        assert_eq!(next_decision(&mut refresher, signal), (restart, Decision::Exchange));
        // Once: the next signal waits for five seconds.
        assert!(matches!(refresher.step(at(restart), Jitter::NONE), Decision::Wait(_)));
    }
}

#[test]
fn a_signal_during_an_exchange_is_served_by_another_one_when_that_ends() {
    let mut refresher = exchanging(86_400);
    refresher.refresh_requested(at(1.0));
    fail(&mut refresher, Code::ConnectorUnknown, 2.0);
    assert_eq!((refresher.reason(), refresher.failures()), (Reason::Signal, 0));
    assert_eq!(next_decision(&mut refresher, 2.0), (2.0, Decision::Exchange));

    let mut refresher = exchanging(86_400);
    refresher.refresh_requested(at(1.0));
    refresher.obtained(Lifetime::starting(at(0.0).boot, secs(86_400)), at(2.0));
    assert_eq!(refresher.step(at(2.0), Jitter::NONE), PUBLISH);
    assert_eq!(refresher.step(at(2.0), Jitter::NONE), Decision::Exchange);
    // That is all: the write of the first token does not request a third exchange.
    refresher.published(at(2.1), Jitter::NONE);
    refresher.obtained(Lifetime::starting(at(2.0).boot, secs(86_400)), at(2.2));
    assert_eq!(refresher.step(at(2.2), Jitter::NONE), PUBLISH);
    assert!(matches!(refresher.step(at(2.2), Jitter::NONE), Decision::Wait(_)));
    refresher.published(at(2.3), Jitter::NONE);
    assert!(matches!(refresher.step(at(2.3), Jitter::NONE), Decision::Wait(_)));
}

/// The exchange was started again at five seconds, because of the first signal.
#[test]
fn a_signal_after_a_restart_is_served_five_seconds_after_the_restart() {
    let mut refresher = exchanging(86_400);
    refresher.refresh_requested(at(1.0));
    refresher.refresh_requested(at(4.0));
    assert_eq!(next_decision(&mut refresher, 4.0), (5.0, Decision::Exchange));
    refresher.obtained(Lifetime::starting(at(5.0).boot, secs(86_400)), at(5.2));
    assert_eq!(refresher.step(at(5.2), Jitter::NONE), PUBLISH);
    refresher.published(at(5.2), Jitter::NONE);
    refresher.refresh_requested(at(5.3));
    refresher.suspend_key_check();
    assert_eq!(next_decision(&mut refresher, 5.3), (10.0, Decision::Exchange));
}

#[test]
fn signals_start_an_exchange_again_once_until_it_has_an_outcome() {
    let mut refresher = exchanging(86_400);
    refresher.refresh_requested(at(6.0));
    assert_eq!(refresher.step(at(6.0), Jitter::NONE), Decision::Exchange);
    for second in 7..60 {
        let now = at(f64::from(second));
        refresher.refresh_requested(now);
        assert!(
            matches!(refresher.step(now, Jitter::NONE), Decision::Wait(until) if until > now.boot),
            "{second}"
        );
    }
    fail(&mut refresher, Code::TimedOut, 60.0);
    assert_eq!(next_decision(&mut refresher, 60.0).1, Decision::Exchange);
}

#[test]
fn a_restore_that_ends_after_the_expiry_is_reported_as_expired_again() {
    let mut refresher = holding(60);
    refresher.suspend_key_check();
    refresher.refresher.plan.due = at(10_000.0).boot;
    assert!(refresher.output_changed(false, at(59.0)));
    assert_eq!(refresher.step(at(59.0), Jitter::NONE), PUBLISH);
    assert_eq!(next_decision(&mut refresher, 59.0), (60.0, EXPIRE));
    refresher.published(at(61.0), Jitter::NONE);
    assert_eq!(next_decision(&mut refresher, 61.0).1, EXPIRE, "the file holds it again");
}

#[test]
fn an_expiry_is_not_reported_while_a_new_token_is_just_being_written() {
    let mut refresher = exchanging(60);
    refresher.obtained(Lifetime::starting(at(0.0).boot, secs(3_600)), at(60.0));
    assert_eq!(refresher.step(at(60.0), Jitter::NONE), PUBLISH);
    assert_eq!(refresher.step(at(60.0), Jitter::NONE), Decision::Wait(at(61.0).boot));
    refresher.published(at(60.1), Jitter::NONE);
    assert!(matches!(refresher.step(at(60.1), Jitter::NONE), Decision::Wait(_)), "it was replaced in time");
}

#[test]
fn a_gone_key_is_not_forgotten_because_of_a_clock_step() {
    let mut refresher = exchanging(86_400);
    refresher.signing_key_gone(at(1.0), Jitter::NONE);
    let stepped = Now { boot: at(2.0).boot, unix: at(100_000.0).unix };
    assert!(matches!(refresher.step(stepped, Jitter::NONE), Decision::Wait(_)));
    let now = Now { boot: at(3.0).boot, unix: at(100_001.0).unix };
    refresher.failed(&Failure::new(Code::ConnectRefused, ""), INPUTS, now, Jitter::NONE);
    assert_eq!(refresher.reason(), Reason::SigningKeyGone);
}

#[test]
fn a_clock_step_during_an_exchange_causes_another_one_if_its_failure_may_depend_on_the_clock() {
    for (code, expected) in
        [(Code::CertificateExpired, Reason::ClockStepped), (Code::ConnectRefused, Reason::Retry)]
    {
        let mut refresher = exchanging(86_400);
        let stepped = Now { boot: at(1.0).boot, unix: at(100_000.0).unix };
        assert!(matches!(refresher.step(stepped, Jitter::NONE), Decision::Wait(_)));
        let now = Now { boot: at(2.0).boot, unix: at(100_001.0).unix };
        refresher.failed(&Failure::new(code, ""), INPUTS, now, Jitter::NONE);
        assert_eq!(refresher.reason(), expected, "{code}");
    }
}

#[test]
fn f160_a_write_in_flight_is_not_started_again_and_a_newer_token_is_written_after_it() {
    let mut refresher = exchanging(600);
    refresher.obtained(Lifetime::starting(at(0.0).boot, secs(700)), at(0.0));
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), PUBLISH);
    // Another token could not be written either, so only a signal causes another exchange.
    assert_eq!(refresher.refresh_requested(at(500.0)), at(500.0).boot);
    assert_eq!(refresher.step(at(500.0), Jitter::NONE), Decision::Exchange);
    refresher.obtained(Lifetime::starting(at(500.0).boot, secs(3_600)), at(501.0));
    assert_eq!(next_decision(&mut refresher, 501.0), (600.0, EXPIRE), "the first is in flight");
    // The first write fails: the newer token is written, after the delay.
    fail(&mut refresher, Code::OutputDiskFull, 603.0);
    assert_eq!(next_decision(&mut refresher, 603.0), (603.5, PUBLISH));
    refresher.published(at(604.0), Jitter::NONE);
    assert_eq!(refresher.on_disk().map(Lifetime::length), Some(secs(3_600)));
}

#[test]
fn no_key_check_is_started_during_an_exchange_and_a_key_check_delays_no_exchange() {
    let mut refresher = holding(86_400);
    let (when, decision) = next_decision(&mut refresher, 0.0);
    assert_eq!(decision, Decision::CheckKeys);
    assert!(matches!(refresher.step(at(when), Jitter::NONE), Decision::Wait(_)), "it is in flight");
    refresher.refresh_requested(at(when + 1.0));
    assert_eq!(refresher.step(at(when + 1.0), Jitter::NONE), Decision::Exchange);
    refresher.key_check_done(at(when + 2.0), Jitter::NONE);
    let (later, decision) = next_decision(&mut refresher, when + 2.0);
    assert!(later > 86_000.0, "no key check while the exchange is in flight: {decision:?} at {later}");
}
