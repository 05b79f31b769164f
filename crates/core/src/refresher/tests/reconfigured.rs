//! A refresher with another configuration.

use super::*;

fn reconfigured(refresher: Driver, schedule: Schedule, outputs: &[Option<usize>], now: f64) -> Driver {
    let period = Some(secs(600));
    refresher.map(|refresher| refresher.reconfigured(schedule, period, outputs, at(now), Jitter::NONE))
}

#[test]
fn a_new_output_gets_the_token_on_disk_without_an_exchange() {
    let mut refresher = reconfigured(holding(86_400), Schedule::default(), &[Some(0), None], 10.0);
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), Decision::Publish(1));
    refresher.refresher.on(Observation::Written(1), at(10.0), Jitter::NONE);
    refresher.suspend_key_check();
    assert_eq!(next_decision(&mut refresher, 10.0), (57_600.0, Decision::Exchange));
}

#[test]
fn outputs_are_the_same_in_another_order() {
    let refresher = reconfigured(holding(600), Schedule::default(), &[None, Some(0)], 1.0);
    let mut refresher = reconfigured(refresher, Schedule::default(), &[Some(1)], 2.0);
    // The write to the new output had not begun, and the other one holds the token.
    assert_eq!(refresher.refresher.health(at(2.0)), Health::Fresh);
    assert!(matches!(refresher.step(at(2.0), Jitter::NONE), Decision::Wait(_)));
}

#[test]
fn an_exchange_and_a_write_in_flight_are_due_again() {
    let mut refresher = new();
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Exchange);
    let mut refresher = reconfigured(refresher, Schedule::default(), &[Some(0)], 1.0);
    assert_eq!(refresher.step(at(1.0), Jitter::NONE), Decision::Exchange);
    refresher.obtained(Lifetime::starting(at(1.0).boot, secs(600)), at(1.0));
    assert_eq!(refresher.step(at(1.0), Jitter::NONE), PUBLISH);
    let mut refresher = reconfigured(refresher, Schedule::default(), &[None, Some(0)], 2.0);
    assert_eq!(refresher.step(at(2.0), Jitter::NONE), Decision::Publish(0), "the issued token");
    assert_eq!(refresher.step(at(2.0), Jitter::NONE), Decision::Publish(1), "again");
}

#[test]
fn another_refresh_margin_counts_at_once() {
    let schedule = Schedule { before: Some(secs(7_200)), ..Schedule::default() };
    let mut refresher = reconfigured(holding(86_400), schedule, &[Some(0)], 10.0);
    refresher.suspend_key_check();
    assert_eq!(next_decision(&mut refresher, 10.0), (79_200.0, Decision::Exchange));
}

#[test]
fn a_reload_does_not_bypass_the_rate_limit() {
    let (mut refresher, mut attempts) = (new(), vec![]);
    for second in 0..120 {
        let now = f64::from(second);
        refresher = reconfigured(refresher, Schedule::default(), &[Some(0)], now);
        if refresher.step(at(now), Jitter::NONE) == Decision::Exchange {
            attempts.push(now);
        }
    }
    assert!(attempts.len() > 20, "an exchange in flight is started again: {attempts:?}");
    assert!(attempts.windows(21).all(|w| w[20] - w[0] >= 60.0), "{attempts:?}");
}

#[test]
fn another_refresh_margin_counts_for_a_new_output_too() {
    let schedule = Schedule { before: Some(secs(7_200)), ..Schedule::default() };
    let mut refresher = reconfigured(holding(86_400), schedule, &[None], 10.0);
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), PUBLISH);
    refresher.published(at(10.0), Jitter::NONE);
    refresher.suspend_key_check();
    assert_eq!(next_decision(&mut refresher, 10.0), (79_200.0, Decision::Exchange));
}

/// Two outputs: the first holds a token that was issued later and expires earlier, as after Dex's
/// operator has shortened the lifetime. The second one could not be written.
fn with_an_old_token_that_expires_later() -> Driver {
    let refresher = holding(3_600);
    let mut refresher = reconfigured(refresher, Schedule::default(), &[Some(0), None], 0.0);
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Publish(1));
    refresher.refresher.on(Observation::Written(1), at(0.0), Jitter::NONE);
    refresher.refresh_requested(at(10.0));
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), Decision::Exchange);
    refresher.obtained(Lifetime::starting(at(10.0).boot, secs(60)), at(10.0));
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), PUBLISH);
    refresher.published(at(10.0), Jitter::NONE);
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), Decision::Publish(1));
    let failed = Observation::WriteFailed { output: 1, code: Code::OutputReadOnly };
    refresher.refresher.on(failed, at(10.0), Jitter::NONE);
    refresher.suspend_key_check();
    refresher
}

#[test]
fn another_refresh_margin_counts_for_the_newest_token_though_an_older_one_expires_later() {
    let refresher = with_an_old_token_that_expires_later();
    let expires = at(70.0).boot;
    assert_eq!(refresher.on_disk().map(|token| token.expires), Some(expires));
    assert!(refresher.due() < expires);
    let schedule = Schedule { before: Some(secs(25)), ..Schedule::default() };
    let refresher = reconfigured(refresher, schedule, &[Some(0), Some(1)], 12.0);
    assert_eq!(refresher.due(), at(45.0).boot);
}

#[test]
fn a_new_output_gets_the_newest_token_though_an_older_one_expires_later() {
    let refresher = with_an_old_token_that_expires_later();
    let mut refresher = reconfigured(refresher, Schedule::default(), &[Some(0), None], 12.0);
    assert_eq!(refresher.step(at(12.0), Jitter::NONE), Decision::Publish(1));
    refresher.refresher.on(Observation::Written(1), at(12.0), Jitter::NONE);
    assert!((0..10).any(|_| refresher.step(at(71.0), Jitter::NONE) == Decision::Expire(1)));
}

/// Readers of the new output would get the expired token: it is the one that is written.
#[test]
fn a_new_output_gets_nothing_while_the_newest_token_is_expired() {
    let mut refresher = with_an_old_token_that_expires_later();
    while refresher.step(at(71.0), Jitter::NONE) != Decision::Exchange {}
    fail(&mut refresher, Code::InvalidClient, 71.0);
    let mut refresher = reconfigured(refresher, Schedule::default(), &[Some(0), None], 72.0);
    for _ in 0..10 {
        assert_ne!(refresher.step(at(72.0), Jitter::NONE), Decision::Publish(1));
    }
    assert_eq!(refresher.refresher.write_due(1), None);
}

/// A refresh that a signal has requested, or that a gone signing key needs, is not forgotten.
#[test]
fn what_became_necessary_during_an_exchange_outlives_a_reload() {
    let schedule = Schedule { before: Some(secs(7_200)), ..Schedule::default() };
    let note: [fn(&mut Driver); 2] = [
        |refresher| {
            refresher.refresh_requested(at(57_601.0));
        },
        |refresher| refresher.signing_key_gone(at(57_601.0), Jitter::NONE),
    ];
    for (note, due) in note.into_iter().zip([57_605.0, 57_602.0]) {
        let mut refresher = holding(86_400);
        refresher.suspend_key_check();
        assert_eq!(next_decision(&mut refresher, 57_590.0), (57_600.0, Decision::Exchange));
        note(&mut refresher);
        let mut refresher = reconfigured(refresher, schedule, &[Some(0)], 57_602.0);
        refresher.suspend_key_check();
        assert_eq!(next_decision(&mut refresher, 57_602.0), (due, Decision::Exchange));
    }
}

#[test]
fn a_reload_with_a_signal_in_each_second_does_not_bypass_the_rate_limit() {
    let (mut refresher, mut attempts) = (new(), vec![]);
    for second in 0..240 {
        let now = f64::from(second);
        refresher = reconfigured(refresher, Schedule::default(), &[Some(0)], now);
        refresher.refresh_requested(at(now));
        if refresher.step(at(now), Jitter::NONE) == Decision::Exchange {
            attempts.push(now);
        }
    }
    assert!(attempts.len() > 20, "{attempts:?}");
    assert!(attempts.windows(21).all(|w| w[20] - w[0] >= 60.0), "{attempts:?}");
}

#[test]
fn a_refresh_is_requested_until_its_exchange_has_ended() {
    let mut refresher = holding(86_400);
    refresher.suspend_key_check();
    assert!(!refresher.refresher.is_requested());
    assert_eq!(next_decision(&mut refresher, 57_590.0), (57_600.0, Decision::Exchange));
    refresher.refresh_requested(at(57_601.0));
    assert!(refresher.refresher.is_requested(), "it follows the exchange in flight");
    fail(&mut refresher, Code::ConnectRefused, 57_602.0);
    assert_eq!(next_decision(&mut refresher, 57_602.0).1, Decision::Exchange);
    assert!(refresher.refresher.is_requested(), "in flight");
    refresher.obtained(Lifetime::starting(at(57_606.0).boot, secs(86_400)), at(57_606.0));
    assert!(!refresher.refresher.is_requested());
}

/// The second of two signals is served five seconds after the first.
#[test]
fn the_token_of_another_process_does_not_replace_a_requested_refresh() {
    let mut refresher = holding(86_400);
    refresher.refresh_requested(at(10.0));
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), Decision::Exchange);
    refresher.obtained(Lifetime::starting(at(10.0).boot, secs(86_400)), at(10.0));
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), PUBLISH);
    refresher.published(at(10.0), Jitter::NONE);
    refresher.refresh_requested(at(10.1));
    let lifetime = Lifetime::starting(at(10.0).boot, secs(90_000));
    refresher.replaced_by(lifetime, at(90_010.0).unix, at(10.2), Jitter::NONE);
    assert_eq!((refresher.reason(), refresher.due()), (Reason::Signal, at(15.0).boot));
}

/// The retry of a failed exchange serves a second signal.
#[test]
fn a_request_that_an_earlier_attempt_serves_is_not_forgotten() {
    let requested = || {
        let mut refresher = holding(86_400);
        refresher.refresh_requested(at(10.0));
        assert_eq!(refresher.step(at(10.0), Jitter::NONE), Decision::Exchange);
        fail(&mut refresher, Code::ConnectRefused, 10.0);
        refresher.refresh_requested(at(10.1));
        assert_eq!((refresher.reason(), refresher.refresher.is_requested()), (Reason::Retry, true));
        refresher
    };
    let mut refresher = requested();
    let due = refresher.due();
    let lifetime = Lifetime::starting(at(10.0).boot, secs(90_000));
    refresher.replaced_by(lifetime, at(90_010.0).unix, at(10.2), Jitter::NONE);
    assert_eq!(refresher.due(), due);
    let mut refresher = requested();
    refresher.suspend_key_check();
    assert_eq!(next_decision(&mut refresher, 10.1).1, Decision::Exchange);
    fail(&mut refresher, Code::ConnectRefused, 15.0);
    assert!(!refresher.refresher.is_requested());
}

/// A clock step during its exchange is a weaker reason.
#[test]
fn a_gone_key_outlives_a_clock_step_and_a_reload() {
    let mut refresher = holding(86_400);
    refresher.signing_key_gone(at(1.0), Jitter::NONE);
    assert_eq!(refresher.step(at(1.0), Jitter::NONE), Decision::Exchange);
    let stepped = Now { unix: at(900.0).unix, ..at(2.0) };
    let _ = refresher.step(stepped, Jitter::NONE);
    let refresher = reconfigured(refresher, Schedule::default(), &[Some(0)], 3.0);
    assert_eq!((refresher.reason(), refresher.due()), (Reason::SigningKeyGone, at(3.0).boot));
}

/// Another process writes a newer token to the first output, while the write of the issued one to
/// the second output hangs.
#[test]
fn a_new_output_gets_the_token_of_another_process_while_a_write_of_the_issued_one_hangs() {
    let refresher = reconfigured(holding(3_600), Schedule::default(), &[Some(0), None], 0.0);
    let mut refresher = refresher;
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Publish(1));
    let lifetime = Lifetime::starting(at(12.0).boot, secs(7_200));
    refresher.replaced_by(lifetime, at(7_212.0).unix, at(12.0), Jitter::NONE);
    refresher.refresher.on(Observation::Missing(1), at(12.0), Jitter::NONE);
    let outputs = [Some(0), Some(1), None];
    let mut refresher = reconfigured(refresher, Schedule::default(), &outputs, 13.0);
    for output in [1, 2] {
        assert_eq!(refresher.step(at(13.0), Jitter::NONE), Decision::Publish(output));
        refresher.refresher.on(Observation::Written(output), at(13.0), Jitter::NONE);
    }
    assert_eq!(refresher.health(at(7_211.0)), Health::Fresh);
}

/// Another process may write a token that is newer than the issued one.
#[test]
fn the_token_of_another_process_is_newer_than_the_issued_one() {
    let mut refresher = with_an_old_token_that_expires_later();
    let lifetime = Lifetime::starting(at(12.0).boot, secs(100));
    refresher.replaced_by(lifetime, at(112.0).unix, at(12.0), Jitter::NONE);
    assert_eq!(refresher.on_disk(), Some(lifetime));
    refresher.refresher.on(Observation::Missing(1), at(12.0), Jitter::NONE);
    assert_eq!(refresher.step(at(12.0), Jitter::NONE), Decision::Publish(1));
    refresher.refresher.on(Observation::Written(1), at(12.0), Jitter::NONE);
    assert_eq!(refresher.health(at(111.0)), Health::Fresh);
    assert_eq!(refresher.health(at(113.0)), Health::Expired);
}

#[test]
fn a_new_output_gets_no_expired_token_and_causes_no_attempt() {
    let (mut refresher, mut now) = (holding(60), 0.0);
    while refresher.refresher.health(at(now)) != Health::Expired {
        let (when, decision) = next_decision(&mut refresher, now);
        now = when;
        if decision == Decision::Exchange {
            fail(&mut refresher, Code::InvalidClient, now);
        }
    }
    assert_eq!(next_decision(&mut refresher, now), (now, Decision::Exchange), "at its expiry");
    fail(&mut refresher, Code::InvalidClient, now);
    let due = refresher.refresher.due();
    let now = now + 1.0;
    let mut refresher = reconfigured(refresher, Schedule::default(), &[Some(0), None], now);
    assert!(matches!(refresher.step(at(now), Jitter::NONE), Decision::Wait(_)));
    assert_eq!(refresher.refresher.due(), due);
}
