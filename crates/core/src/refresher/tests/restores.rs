//! What others do to the file, and when it is put back.

use super::*;

#[test]
fn a_displaced_token_is_put_back_once_a_minute_at_most() {
    let mut refresher = holding(86_400);
    assert!(refresher.output_changed(true, at(1.0)));
    assert_eq!(refresher.step(at(1.0), Jitter::NONE), Action::Publish);
    refresher.published(at(1.0), Jitter::NONE);
    // In the same instant.
    assert!(refresher.output_changed(true, at(1.0)));
    assert_eq!(wait_for_step(&mut refresher, 1.0), (61.0, Action::Publish));
}

#[test]
fn a_token_that_is_put_back_changes_no_plan() {
    let mut refresher = holding(86_400);
    assert_eq!(wait_for_step(&mut refresher, 0.0), (600.0, Action::CheckKeys));
    refresher.signing_key_gone(at(600.0), Jitter::new(1.0));
    assert!(refresher.output_changed(true, at(610.0)));
    assert_eq!(refresher.step(at(610.0), Jitter::NONE), Action::Publish);
    refresher.published(at(610.0), Jitter::NONE);
    assert_eq!(refresher.reason(), Reason::SigningKeyGone);
    assert_eq!(wait_for_step(&mut refresher, 610.0), (660.0, Action::Exchange));
}

#[test]
fn what_somebody_else_wrote_takes_the_place_of_what_was_to_be_put_back() {
    let mut refresher = holding(3_600);
    assert!(refresher.output_changed(true, at(1.0)));
    fail(&mut refresher, Code::OutputDiskFull, 1.0);
    let theirs = Lifetime::starting(at(1.0).boot, secs(86_400));
    refresher.replaced_by(theirs, at(90_000.0).unix, at(2.0), Jitter::NONE);
    assert_eq!((refresher.on_disk(), refresher.health(at(2.0))), (Some(theirs), Health::Fresh));
    assert!(matches!(refresher.step(at(30.0), Jitter::NONE), Action::Wait(_)), "nothing is put back");
}

#[test]
fn while_a_token_cannot_be_put_back_no_other_is_asked_for() {
    let mut refresher = holding(3_600);
    refresher.suspend_key_check();
    assert!(refresher.output_changed(true, at(1.0)));
    let mut now = 1.0;
    while now < 2_400.0 {
        let (when, step) = wait_for_step(&mut refresher, now);
        assert_eq!(step, Action::Publish, "at {when}");
        fail(&mut refresher, Code::OutputDiskFull, when);
        now = when;
    }
}

/// Found by a random history: a token of half a minute died while it waited.
#[test]
fn a_token_that_waits_to_be_put_back_is_replaced_in_its_time() {
    let mut refresher = holding(30);
    refresher.suspend_key_check();
    assert!(refresher.output_changed(true, at(1.0)));
    assert_eq!(refresher.step(at(1.0), Jitter::NONE), Action::Publish);
    refresher.published(at(1.0), Jitter::NONE);
    assert!(refresher.output_changed(true, at(2.0)), "once more, in a minute");
    assert_eq!(wait_for_step(&mut refresher, 2.0), (15.0, Action::Exchange));
}

#[test]
fn f088_what_nobody_contests_is_put_back_at_once_each_time() {
    let mut refresher = holding(3_600);
    for when in [1.0, 2.0, 3.0] {
        assert!(refresher.output_changed(false, at(when)));
        assert_eq!(refresher.step(at(when), Jitter::NONE), Action::Publish);
        refresher.published(at(when), Jitter::NONE);
    }
}

#[test]
fn f087_a_repair_that_never_came_puts_the_next_one_off_no_further() {
    let mut refresher = new();
    for round in 0..20_u32 {
        let when = f64::from(round) * 9.0;
        refresher.obtained(Lifetime::starting(at(when).boot, secs(20)), at(when));
        refresher.published(at(when), Jitter::NONE);
        assert!(refresher.output_changed(true, at(when + 1.0)));
        if refresher.publish_due <= at(when + 1.0).boot {
            refresher.published(at(when + 1.0), Jitter::NONE);
        }
    }
    let put_off = at(172.0).boot.until(refresher.publish_due);
    assert!(put_off <= MIN_BETWEEN_RESTORES, "{put_off:?}");
}

#[test]
fn f088_a_repair_that_waits_for_another_s_token_waits_no_more_when_that_is_gone() {
    let mut refresher = holding(3_600);
    assert!(refresher.output_changed(true, at(1.0)));
    assert_eq!(refresher.step(at(1.0), Jitter::NONE), Action::Publish);
    refresher.published(at(1.0), Jitter::NONE);
    assert!(refresher.output_changed(true, at(10.0)));
    assert!(matches!(refresher.step(at(10.0), Jitter::NONE), Action::Wait(_)));
    assert!(!refresher.output_changed(true, at(11.0)), "nothing has changed");
    assert!(refresher.output_changed(false, at(12.0)));
    assert!(!refresher.output_changed(false, at(12.0)), "it is on its way");
    assert_eq!(refresher.step(at(12.0), Jitter::NONE), Action::Publish);
    // Where it cannot be written there is nothing to hurry.
    fail(&mut refresher, Code::OutputDiskFull, 12.0);
    assert!(!refresher.output_changed(false, at(12.1)));
    assert!(matches!(refresher.step(at(12.1), Jitter::NONE), Action::Wait(_)));
}
