//! The expiry of the subject token.

use super::*;

#[test]
fn a_subject_token_that_is_about_to_expire_is_exchanged_once_more() {
    let mut refresher = holding(86_400);
    refresher.suspend_key_check();
    let now = at(0.0);
    assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(600), now));
    let (when, decision) = next_decision(&mut refresher, 0.0);
    // The subject token expires at 600 s. The token is younger than a tenth of its lifetime then.
    assert_eq!((when, decision), (57_600.0, Decision::Exchange));
    let mut refresher = holding(3_600);
    refresher.suspend_key_check();
    assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(600), now));
    let (when, decision) = next_decision(&mut refresher, 0.0);
    assert_eq!(decision, Decision::Exchange);
    assert!((580.0..600.0).contains(&when), "{when}");
    assert_eq!(refresher.reason(), Reason::SubjectTokenExpiring);
    fail(&mut refresher, Code::AccessDenied, when);
    assert!(matches!(refresher.step(at(when + 1.0), Jitter::NONE), Decision::Wait(_)));
}

#[test]
fn an_expired_subject_token_is_sent_after_thirty_seconds() {
    let mut refresher = new();
    let past = at(-1.0).unix;
    assert!(!refresher.subject_read(INPUTS, None, past, at(0.0)));
    assert!(!refresher.subject_read(INPUTS, None, past, at(29.0)));
    assert!(refresher.subject_read(INPUTS, None, past, at(30.0)));
    assert!(refresher.subject_is_new(Fingerprint(2)) && !refresher.subject_is_new(INPUTS));
    assert!(refresher.subject_read(Fingerprint(2), None, at(60.0).unix, at(30.0)));
}

#[test]
fn a_subject_token_with_another_file_or_expiry_has_a_last_use_of_its_own() {
    let now = at(0.0);
    let last_use = |refresher: &mut Driver| {
        refresher.suspend_key_check();
        next_decision(refresher, 0.0)
    };
    // With a lifetime of 100 s the last use is a tenth of it before the expiry.
    let mut refresher = holding(86_400 / 2);
    refresher.refresher.plan.due = at(99_999.0).boot;
    refresher.refresher.outputs[0] = Delivery::new(at(0.0).boot);
    assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(100), now));
    assert_eq!(last_use(&mut refresher), (90.0, Decision::Exchange));
    refresher.refresher.plan.in_flight = None;
    // It is used for the last time once. The same file with a later expiry is another token.
    assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(200), now));
    refresher.refresher.plan.due = at(99_999.0).boot;
    assert_eq!(last_use(&mut refresher), (180.0, Decision::Exchange));
    refresher.refresher.plan.in_flight = None;
    // The same file with the same expiry is the same token.
    assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(200), now));
    refresher.refresher.plan.due = at(99_999.0).boot;
    assert_eq!(last_use(&mut refresher), (99_999.0, Decision::Exchange));
}

#[test]
fn a_subject_token_is_expired_at_its_exp() {
    let mut refresher = new();
    assert!(!refresher.subject_read(INPUTS, None, at(0.0).unix, at(0.0)));
    assert!(refresher.subject_read(INPUTS, None, at(0.0).unix + Duration::from_nanos(1), at(0.0)));
}

#[test]
fn the_last_use_needs_a_token_of_some_age_and_a_valid_subject_token() {
    let now = at(0.0);
    // The subject token has a lifetime of 600 s. At 590 s it is about to expire, at 600 s it is
    // expired.
    for (held, when, expected) in
        [(5_800, 590.0, true), (5_900, 590.0, true), (5_901, 590.0, false), (3_600, 600.0, false)]
    {
        let mut refresher = holding(held);
        refresher.suspend_key_check();
        assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(600), now));
        let decision = refresher.step(at(when), Jitter::NONE);
        assert_eq!(decision == Decision::Exchange, expected, "{held} s, at {when}: {decision:?}");
    }
}
