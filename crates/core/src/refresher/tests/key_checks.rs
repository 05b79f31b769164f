//! Looks at the published keys, and keys that are lost.

use super::*;

#[test]
fn lost_keys_are_healed_within_a_minute() {
    let mut refresher = holding(86_400);
    assert_eq!(wait_for_step(&mut refresher, 0.0), (600.0, Action::CheckKeys));
    refresher.key_check_done(at(600.0), Jitter::NONE);
    assert_eq!(wait_for_step(&mut refresher, 600.0), (1_200.0, Action::CheckKeys));
    refresher.signing_key_gone(at(1_200.0), Jitter::new(1.0));
    assert_eq!(refresher.reason(), Reason::SigningKeyGone);
    assert_eq!(wait_for_step(&mut refresher, 1_200.0), (1_260.0, Action::Exchange));
}

#[test]
fn keys_that_are_gone_are_not_looked_at_again_before_there_is_another_token() {
    let mut refresher = Refresher::new(Schedule::default(), Some(secs(10)), at(0.0));
    refresher.adopted(
        Lifetime::starting(at(0.0).boot, secs(86_400)),
        at(86_400.0).unix,
        at(0.0),
        Jitter::new(0.5),
    );
    assert_eq!(wait_for_step(&mut refresher, 0.0), (5.0, Action::CheckKeys), "the first at any time");
    refresher.signing_key_gone(at(5.0), Jitter::new(1.0));
    assert_eq!(wait_for_step(&mut refresher, 5.0), (15.0, Action::Exchange), "the start's own exchange");
    refresher.obtained(Lifetime::starting(at(15.0).boot, secs(86_400)), at(15.0));
    refresher.published(at(15.0), Jitter::new(0.5));
    assert_eq!(wait_for_step(&mut refresher, 15.0), (20.0, Action::CheckKeys), "all have exchanged together");
    refresher.key_check_done(at(20.0), Jitter::new(1.0));
    assert_eq!(
        wait_for_step(&mut refresher, 20.0),
        (28.5, Action::CheckKeys),
        "and the others in their time"
    );
}

#[test]
fn f148_key_checks_that_prove_nothing_back_off_and_exchange_nothing() {
    let mut refresher = holding(86_400);
    let mut now = 600.0;
    for delay in [1_200.0, 2_400.0, 3_600.0, 3_600.0] {
        assert_eq!(wait_for_step(&mut refresher, now), (now, Action::CheckKeys));
        refresher.key_check_inconclusive(at(now), Jitter::NONE);
        assert_eq!(refresher.reason(), Reason::Schedule);
        now += delay;
    }
    assert_eq!(wait_for_step(&mut refresher, now), (now, Action::CheckKeys));
    refresher.key_check_done(at(now), Jitter::NONE);
    assert_eq!(wait_for_step(&mut refresher, now), (now + 600.0, Action::CheckKeys));
    // A period of more than an hour is kept, and one of any length overflows nothing.
    let mut refresher = Refresher::new(Schedule::default(), Some(secs(7_200)), at(0.0));
    refresher.key_check_inconclusive(at(0.0), Jitter::NONE);
    assert_eq!(refresher.key_check_due, Some(at(7_200.0).boot));
    let mut refresher = Refresher::new(Schedule::default(), Some(Duration::MAX), at(0.0));
    for _ in 0..100 {
        refresher.key_check_inconclusive(at(0.0), Jitter::NONE);
    }
}

#[test]
fn a_signal_or_lost_keys_over_a_full_disk_cost_one_exchange() {
    let mut refresher = holding(86_400);
    refresher.suspend_key_check();
    let _ = refresher.refresh_requested(at(10.0));
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), Action::Exchange);
    refresher.obtained(Lifetime::starting(at(10.0).boot, secs(86_400)), at(10.0));
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), Action::Publish);
    let mut now = 10.0;
    for _ in 0..20 {
        fail(&mut refresher, Code::OutputDiskFull, now);
        let (when, step) = wait_for_step(&mut refresher, now);
        assert_eq!(step, Action::Publish, "at {when}");
        now = when;
    }
    // The next signal is heard all the same.
    fail(&mut refresher, Code::OutputDiskFull, now);
    let _ = refresher.refresh_requested(at(now));
    assert_eq!(refresher.step(at(now), Jitter::NONE), Action::Exchange);
}
