//! Refreshes that signals request.

use super::*;

/// The operator has repaired the output: the new token brings it up to date.
#[test]
fn a_signal_causes_an_exchange_while_a_write_fails_and_the_token_on_disk_has_expired() {
    let mut refresher = holding(60);
    refresher.suspend_key_check();
    let (when, decision) = next_decision(&mut refresher, 0.0);
    assert_eq!(decision, Decision::Exchange);
    refresher.obtained(Lifetime::starting(at(when).boot, secs(3_600)), at(when));
    let mut second = when;
    while second < 62.0 {
        match refresher.step(at(second), Jitter::NONE) {
            PUBLISH => drop(fail(&mut refresher, Code::OutputDiskFull, second)),
            Decision::Wait(until) => second += at(second).boot.until(until).as_secs_f64(),
            decision => assert_eq!(decision, EXPIRE, "at {second} s"),
        }
    }
    assert_eq!(refresher.health(at(second)), Health::Expired);
    assert_eq!(refresher.refresh_requested(at(second)), at(second).boot);
    assert_eq!(next_decision(&mut refresher, second), (second, Decision::Exchange));
}

#[test]
fn signals_cause_at_most_one_exchange_in_five_seconds() {
    let mut refresher = holding(86_400);
    assert_eq!(refresher.refresh_requested(at(10.0)), at(10.0).boot);
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), Decision::Exchange);
    refresher.obtained(Lifetime::starting(at(10.0).boot, secs(86_400)), at(10.0));
    refresher.published(at(10.0), Jitter::NONE);
    // A signal that comes too soon is delayed and not lost. Further ones are served with it.
    assert_eq!(refresher.refresh_requested(at(11.0)), at(15.0).boot);
    assert_eq!(refresher.refresh_requested(at(12.0)), at(15.0).boot);
    assert_eq!(next_decision(&mut refresher, 12.0), (15.0, Decision::Exchange));
}

#[test]
fn a_delayed_signal_is_not_delayed_further() {
    let refuse = |refresher: &mut Driver, when| {
        let failure = Failure { retry_after: Some(secs(60)), ..Failure::new(Code::RateLimited, "") };
        refresher.failed(&failure, INPUTS, at(when), Jitter::NONE)
    };
    let mut refresher = holding(86_400);
    assert_eq!(refresher.refresh_requested(at(10.0)), at(10.0).boot);
    refuse(&mut refresher, 10.0);
    assert_eq!(refresher.refresh_requested(at(11.0)), at(15.0).boot);
    // A changed input causes an exchange meanwhile. It is refused too, and the next attempt is due
    // in a minute.
    refresher.inputs_seen(Fingerprint(2), at(12.0));
    refuse(&mut refresher, 12.0);
    assert_eq!(refresher.refresh_requested(at(13.0)), at(15.0).boot);
    assert_eq!(next_decision(&mut refresher, 13.0), (15.0, Decision::Exchange));
}

#[test]
fn a_signal_in_the_instant_of_an_exchange_requests_another_one() {
    let mut refresher = holding(86_400);
    assert_eq!(refresher.refresh_requested(at(10.0)), at(10.0).boot);
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), Decision::Exchange);
    refresher.obtained(Lifetime::starting(at(10.0).boot, secs(86_400)), at(10.0));
    refresher.published(at(10.0), Jitter::NONE);
    assert_eq!(refresher.refresh_requested(at(10.0)), at(15.0).boot);
}

#[test]
fn only_a_signal_bypasses_the_rate_limit() {
    for (signal, expected) in [(false, 4.0), (true, 0.0)] {
        let mut refresher = new();
        for _ in 0..5 {
            assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Exchange);
            // Its outcome does not matter here.
            refresher.refresher.plan.in_flight = None;
        }
        if signal {
            assert_eq!(refresher.refresh_requested(at(0.0)), at(0.0).boot);
            // The first signal is served by the exchange that is due already. The second needs its
            // own.
            fail(&mut refresher, Code::InvalidClient, 0.0);
            assert_eq!(refresher.refresh_requested(at(0.0)), at(0.0).boot);
            assert_eq!(refresher.reason(), Reason::Signal);
        }
        assert_eq!(next_decision(&mut refresher, 0.0), (expected, Decision::Exchange));
    }
}
