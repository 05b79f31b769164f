//! Tests of key checks and of signing keys that are no longer published.

use super::*;

#[test]
fn a_gone_signing_key_causes_an_exchange_within_a_minute() {
    let mut refresher = holding(86_400);
    assert_eq!(next_decision(&mut refresher, 0.0), (600.0, Decision::CheckKeys));
    refresher.key_check_done(at(600.0), Jitter::NONE);
    assert_eq!(next_decision(&mut refresher, 600.0), (1_200.0, Decision::CheckKeys));
    refresher.signing_key_gone(at(1_200.0), Jitter::new(1.0));
    assert_eq!(refresher.reason(), Reason::SigningKeyGone);
    assert_eq!(next_decision(&mut refresher, 1_200.0), (1_260.0, Decision::Exchange));
}

#[test]
fn after_a_gone_signing_key_there_is_no_key_check_until_the_next_token() {
    let mut refresher = Driver::new(Schedule::default(), Some(secs(10)), at(0.0));
    refresher.adopted(
        Lifetime::starting(at(0.0).boot, secs(86_400)),
        at(86_400.0).unix,
        at(0.0),
        Jitter::new(0.5),
    );
    assert_eq!(
        next_decision(&mut refresher, 0.0),
        (5.0, Decision::CheckKeys),
        "the first check is spread over the period"
    );
    refresher.signing_key_gone(at(5.0), Jitter::new(1.0));
    assert_eq!(next_decision(&mut refresher, 5.0), (15.0, Decision::Exchange), "the exchange of the startup");
    refresher.obtained(Lifetime::starting(at(15.0).boot, secs(86_400)), at(15.0));
    refresher.published(at(15.0), Jitter::new(0.5));
    assert_eq!(
        next_decision(&mut refresher, 15.0),
        (20.0, Decision::CheckKeys),
        "the first check of a token is spread again"
    );
    refresher.key_check_done(at(20.0), Jitter::new(1.0));
    assert_eq!(
        next_decision(&mut refresher, 20.0),
        (28.5, Decision::CheckKeys),
        "a later check has the small jitter"
    );
}

#[test]
fn f148_inconclusive_key_checks_back_off_and_cause_no_exchange() {
    let mut refresher = holding(86_400);
    let mut now = 600.0;
    for delay in [1_200.0, 2_400.0, 3_600.0, 3_600.0] {
        assert_eq!(next_decision(&mut refresher, now), (now, Decision::CheckKeys));
        refresher.key_check_inconclusive(at(now), Jitter::NONE);
        assert_eq!(refresher.reason(), Reason::Schedule);
        now += delay;
    }
    assert_eq!(next_decision(&mut refresher, now), (now, Decision::CheckKeys));
    refresher.key_check_done(at(now), Jitter::NONE);
    assert_eq!(next_decision(&mut refresher, now), (now + 600.0, Decision::CheckKeys));
    // A period of more than an hour is kept. The longest period does not overflow.
    let mut refresher = Driver::new(Schedule::default(), Some(secs(7_200)), at(0.0));
    refresher.key_check_inconclusive(at(0.0), Jitter::NONE);
    assert_eq!(refresher.refresher.key_checks.deadline(), Some(at(7_200.0).boot));
    let mut refresher = Driver::new(Schedule::default(), Some(Duration::MAX), at(0.0));
    for _ in 0..100 {
        refresher.key_check_inconclusive(at(0.0), Jitter::NONE);
    }
}

#[test]
fn a_signal_with_a_full_disk_causes_one_exchange() {
    let mut refresher = holding(86_400);
    refresher.suspend_key_check();
    let _ = refresher.refresh_requested(at(10.0));
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), Decision::Exchange);
    refresher.obtained(Lifetime::starting(at(10.0).boot, secs(86_400)), at(10.0));
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), PUBLISH);
    let mut now = 10.0;
    for _ in 0..20 {
        fail(&mut refresher, Code::OutputDiskFull, now);
        let (when, decision) = next_decision(&mut refresher, now);
        assert_eq!(decision, PUBLISH, "at {when}");
        now = when;
    }
    // The next signal causes an exchange too.
    fail(&mut refresher, Code::OutputDiskFull, now);
    let _ = refresher.refresh_requested(at(now));
    assert_eq!(refresher.step(at(now), Jitter::NONE), Decision::Exchange);
}
