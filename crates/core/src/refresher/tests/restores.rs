//! Tests of an output that another process modifies, and of its restore.

use super::*;

#[test]
fn an_output_with_another_valid_token_is_restored_at_most_once_a_minute() {
    let mut refresher = holding(86_400);
    assert!(refresher.output_changed(true, at(1.0)));
    assert_eq!(refresher.step(at(1.0), Jitter::NONE), PUBLISH);
    refresher.published(at(1.0), Jitter::NONE);
    // Another change in the same instant.
    assert!(refresher.output_changed(true, at(1.0)));
    assert_eq!(next_decision(&mut refresher, 1.0), (61.0, PUBLISH));
}

#[test]
fn a_restore_changes_no_plan() {
    let mut refresher = holding(86_400);
    assert_eq!(next_decision(&mut refresher, 0.0), (600.0, Decision::CheckKeys));
    refresher.signing_key_gone(at(600.0), Jitter::new(1.0));
    assert!(refresher.output_changed(true, at(610.0)));
    assert_eq!(refresher.step(at(610.0), Jitter::NONE), PUBLISH);
    refresher.published(at(610.0), Jitter::NONE);
    assert_eq!(refresher.reason(), Reason::SigningKeyGone);
    assert_eq!(next_decision(&mut refresher, 610.0), (660.0, Decision::Exchange));
}

#[test]
fn a_longer_token_of_another_process_replaces_a_pending_restore() {
    let mut refresher = holding(3_600);
    assert!(refresher.output_changed(true, at(1.0)));
    fail(&mut refresher, Code::OutputDiskFull, 1.0);
    let theirs = Lifetime::starting(at(1.0).boot, secs(86_400));
    refresher.replaced_by(theirs, at(90_000.0).unix, at(2.0), Jitter::NONE);
    assert_eq!((refresher.on_disk(), refresher.health(at(2.0))), (Some(theirs), Health::Fresh));
    assert!(matches!(refresher.step(at(30.0), Jitter::NONE), Decision::Wait(_)), "nothing is restored");
}

#[test]
fn while_a_restore_fails_there_is_no_exchange() {
    let mut refresher = holding(3_600);
    refresher.suspend_key_check();
    assert!(refresher.output_changed(true, at(1.0)));
    let mut now = 1.0;
    while now < 2_400.0 {
        let (when, decision) = next_decision(&mut refresher, now);
        assert_eq!(decision, PUBLISH, "at {when}");
        fail(&mut refresher, Code::OutputDiskFull, when);
        now = when;
    }
}

/// Found by a random history: a token of 30 s expired while its restore was delayed.
#[test]
fn a_delayed_restore_does_not_delay_the_refresh() {
    let mut refresher = holding(30);
    refresher.suspend_key_check();
    assert!(refresher.output_changed(true, at(1.0)));
    assert_eq!(refresher.step(at(1.0), Jitter::NONE), PUBLISH);
    refresher.published(at(1.0), Jitter::NONE);
    assert!(refresher.output_changed(true, at(2.0)), "the second restore is due in a minute");
    assert_eq!(next_decision(&mut refresher, 2.0), (15.0, Decision::Exchange));
}

#[test]
fn f088_an_output_without_a_valid_token_is_restored_at_once_each_time() {
    let mut refresher = holding(3_600);
    for when in [1.0, 2.0, 3.0] {
        assert!(refresher.output_changed(false, at(when)));
        assert_eq!(refresher.step(at(when), Jitter::NONE), PUBLISH);
        refresher.published(at(when), Jitter::NONE);
    }
}

#[test]
fn f087_a_delayed_restore_that_was_overtaken_does_not_delay_the_next_one() {
    let mut refresher = new();
    for round in 0..20_u32 {
        let when = f64::from(round) * 9.0;
        refresher.obtained(Lifetime::starting(at(when).boot, secs(20)), at(when));
        refresher.published(at(when), Jitter::NONE);
        assert!(refresher.output_changed(true, at(when + 1.0)));
        if refresher.refresher.write_due(0).is_some_and(|due| due <= at(when + 1.0).boot) {
            refresher.published(at(when + 1.0), Jitter::NONE);
        }
    }
    let delay = at(172.0).boot.until(refresher.refresher.write_due(0).unwrap());
    assert!(delay <= delivery::MIN_BETWEEN_RESTORES, "{delay:?}");
}

#[test]
fn f088_a_restore_delayed_by_another_valid_token_is_due_when_that_token_is_gone() {
    let mut refresher = holding(3_600);
    assert!(refresher.output_changed(true, at(1.0)));
    assert_eq!(refresher.step(at(1.0), Jitter::NONE), PUBLISH);
    refresher.published(at(1.0), Jitter::NONE);
    assert!(refresher.output_changed(true, at(10.0)));
    assert!(matches!(refresher.step(at(10.0), Jitter::NONE), Decision::Wait(_)));
    assert!(!refresher.output_changed(true, at(11.0)), "the other token is still there");
    assert!(refresher.output_changed(false, at(12.0)));
    assert!(!refresher.output_changed(false, at(12.0)), "the restore is due already");
    assert_eq!(refresher.step(at(12.0), Jitter::NONE), PUBLISH);
    // A restore that failed is not brought forward.
    fail(&mut refresher, Code::OutputDiskFull, 12.0);
    assert!(!refresher.output_changed(false, at(12.1)));
    assert!(matches!(refresher.step(at(12.1), Jitter::NONE), Decision::Wait(_)));
}
