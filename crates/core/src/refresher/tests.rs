//! The machine step by step, and how it answers what happens.

use super::*;
use crate::failure::Code;

mod clocks;
mod key_checks;
mod restores;

const INPUTS: Fingerprint = Fingerprint(1);

fn at(secs: f64) -> Now {
    Now {
        boot: BootTime::from_start(Duration::from_secs_f64(5_000.0 + secs)),
        unix: UnixTime::since_epoch(Duration::from_secs_f64(1_700_000_000.0 + secs)),
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn new() -> Refresher {
    Refresher::new(Schedule::default(), Some(secs(600)), at(0.0))
}

/// A refresher that has just published a token of this length.
fn holding(length: u64) -> Refresher {
    let mut refresher = new();
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Action::Exchange);
    refresher.obtained(Lifetime::starting(at(0.0).boot, secs(length)), at(0.0));
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Action::Publish);
    refresher.published(at(0.0), Jitter::NONE);
    refresher
}

/// Lets time pass as a loop would, doing nothing but waiting, until another step comes.
fn wait_for_step(refresher: &mut Refresher, from: f64) -> (f64, Action) {
    let mut now = from;
    for _ in 0..100_000 {
        match refresher.step(at(now), Jitter::NONE) {
            Action::Wait(until) => {
                let pause = at(now).boot.until(until).as_secs_f64();
                assert!(pause > 0.0, "a wait without a pause at {now}");
                now += pause;
            }
            step => return (now, step),
        }
    }
    panic!("nothing happens");
}

fn fail(refresher: &mut Refresher, code: Code, when: f64) -> Duration {
    refresher.failed(&Failure::new(code, ""), INPUTS, at(when), Jitter::NONE)
}

#[test]
fn the_whole_way_once() {
    let mut refresher = holding(86_400);
    assert_eq!(refresher.health(at(0.0)), Health::Fresh);
    refresher.suspend_key_check();
    let (when, step) = wait_for_step(&mut refresher, 0.0);
    assert_eq!((when, step), (57_600.0, Action::Exchange));
}

#[test]
fn wakes_twice_a_minute_and_no_more_when_idle() {
    let mut refresher = holding(86_400);
    for slice in 0..10 {
        let now = at(f64::from(slice) * 30.0);
        assert_eq!(refresher.step(now, Jitter::NONE), Action::Wait(now.boot + secs(30)));
    }
}

#[test]
fn a_failure_never_ends_it_and_never_hurries_it() {
    let mut refresher = new();
    let mut now = 0.0;
    let mut attempts = vec![];
    while attempts.len() < 50 {
        let (when, step) = wait_for_step(&mut refresher, now);
        assert_eq!(step, Action::Exchange);
        attempts.push(when);
        fail(&mut refresher, Code::InvalidClient, when);
        now = when;
    }
    assert_eq!(refresher.health(at(now)), Health::Starting);
    assert!(attempts.windows(21).all(|w| w[20] - w[0] >= 60.0), "{attempts:?}");
    assert_eq!(attempts[49] - attempts[48], 150.0, "half of five minutes, without jitter");
}

#[test]
fn a_good_token_outlives_failures_and_its_expiry_is_told_once() {
    let mut refresher = holding(600);
    let (mut now, mut step) = wait_for_step(&mut refresher, 0.0);
    assert_eq!((now, step), (300.0, Action::Exchange));
    let mut told = 0;
    while now < 1_200.0 {
        match step {
            Action::Exchange => {
                fail(&mut refresher, Code::ConnectRefused, now);
                let expected = if now < 600.0 { Health::Stale } else { Health::Expired };
                assert_eq!(refresher.health(at(now)), expected);
            }
            Action::Expire => {
                assert_eq!(now, 600.0);
                told += 1;
            }
            Action::CheckKeys => refresher.suspend_key_check(),
            other => panic!("{other:?}"),
        }
        (now, step) = wait_for_step(&mut refresher, now);
    }
    assert_eq!(told, 1);
}

#[test]
fn a_token_in_hand_is_written_again_without_another_exchange() {
    let mut refresher = new();
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Action::Exchange);
    refresher.obtained(Lifetime::starting(at(0.0).boot, secs(3_600)), at(0.0));
    let mut now = 0.0;
    for _ in 0..20 {
        let (when, step) = wait_for_step(&mut refresher, now);
        assert_eq!(step, Action::Publish);
        fail(&mut refresher, Code::OutputDiskFull, when);
        now = when;
    }
    refresher.published(at(now), Jitter::NONE);
    assert_eq!(refresher.health(at(now)), Health::Fresh);
    // One that was never written in time is replaced.
    let mut refresher = new();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    refresher.obtained(Lifetime::starting(at(0.0).boot, secs(60)), at(0.0));
    let _ = refresher.step(at(0.0), Jitter::NONE);
    fail(&mut refresher, Code::OutputDiskFull, 0.0);
    assert_eq!(refresher.step(at(61.0), Jitter::NONE), Action::Exchange);
}

#[test]
fn retry_after_slows_down_but_not_past_the_last_moment() {
    let mut refresher = new();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    let busy = |wait| Failure { retry_after: Some(secs(wait)), ..Failure::new(Code::RateLimited, "") };
    assert_eq!(refresher.failed(&busy(7), INPUTS, at(0.0), Jitter::NONE), secs(7));
    assert_eq!(refresher.failed(&busy(9_999), INPUTS, at(0.0), Jitter::NONE), secs(300));
    let mut refresher = holding(600);
    let (now, _) = wait_for_step(&mut refresher, 0.0);
    let pause = refresher.failed(&busy(300), INPUTS, at(now + 100.0), Jitter::NONE);
    assert_eq!(pause, secs(170), "thirty seconds before expiry");
}

#[test]
fn a_changed_input_is_tried_at_once_and_only_once() {
    let mut refresher = new();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    for n in 0..9 {
        fail(&mut refresher, Code::InvalidClient, f64::from(n));
    }
    refresher.inputs_seen(INPUTS, at(20.0));
    assert!(matches!(refresher.step(at(20.0), Jitter::NONE), Action::Wait(_)));
    refresher.inputs_seen(Fingerprint(2), at(20.0));
    assert_eq!(refresher.step(at(20.0), Jitter::NONE), Action::Exchange);
    refresher.failed(&Failure::new(Code::InvalidClient, ""), Fingerprint(2), at(20.0), Jitter::NONE);
    refresher.inputs_seen(Fingerprint(2), at(20.1));
    assert!(matches!(refresher.step(at(20.1), Jitter::NONE), Action::Wait(_)));
}

#[test]
fn an_adopted_token_spreads_the_first_exchange() {
    let mut refresher = new();
    refresher.adopted(
        Lifetime { issued: at(-600.0).boot, expires: at(3_000.0).boot },
        at(3_000.0).unix,
        at(0.0),
        Jitter::new(0.5),
    );
    assert_eq!(refresher.health(at(0.0)), Health::Fresh);
    assert_eq!(wait_for_step(&mut refresher, 0.0), (15.0, Action::Exchange));
    // Nearly used up: no time to lose.
    let mut refresher = new();
    refresher.adopted(
        Lifetime { issued: at(-3_000.0).boot, expires: at(600.0).boot },
        at(600.0).unix,
        at(0.0),
        Jitter::new(0.5),
    );
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Action::Exchange);
}

#[test]
fn a_dying_subject_token_buys_one_more() {
    let mut refresher = holding(86_400);
    refresher.suspend_key_check();
    let now = at(0.0);
    assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(600), now));
    let (when, step) = wait_for_step(&mut refresher, 0.0);
    // The token is younger than a tenth of its life, and the subject token dies at 600 s.
    assert_eq!((when, step), (57_600.0, Action::Exchange));
    let mut refresher = holding(3_600);
    refresher.suspend_key_check();
    assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(600), now));
    let (when, step) = wait_for_step(&mut refresher, 0.0);
    assert_eq!(step, Action::Exchange);
    assert!((580.0..600.0).contains(&when), "{when}");
    assert_eq!(refresher.reason(), Reason::SubjectTokenExpiring);
    fail(&mut refresher, Code::AccessDenied, when);
    assert!(matches!(refresher.step(at(when + 1.0), Jitter::NONE), Action::Wait(_)));
}

#[test]
fn an_expired_subject_token_is_waited_for_and_then_sent() {
    let mut refresher = new();
    let past = at(-1.0).unix;
    assert!(!refresher.subject_read(INPUTS, None, past, at(0.0)));
    assert!(!refresher.subject_read(INPUTS, None, past, at(29.0)));
    assert!(refresher.subject_read(INPUTS, None, past, at(30.0)));
    assert!(refresher.subject_is_new(Fingerprint(2)) && !refresher.subject_is_new(INPUTS));
    assert!(refresher.subject_read(Fingerprint(2), None, at(60.0).unix, at(30.0)));
}

#[test]
fn a_signal_asks_for_an_exchange_but_not_for_a_storm() {
    let mut refresher = holding(86_400);
    assert_eq!(refresher.refresh_requested(at(10.0)), at(10.0).boot);
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), Action::Exchange);
    refresher.obtained(Lifetime::starting(at(10.0).boot, secs(86_400)), at(10.0));
    refresher.published(at(10.0), Jitter::NONE);
    // One that comes too soon is not lost, and further ones are the same one.
    assert_eq!(refresher.refresh_requested(at(11.0)), at(15.0).boot);
    assert_eq!(refresher.refresh_requested(at(12.0)), at(15.0).boot);
    assert_eq!(wait_for_step(&mut refresher, 12.0), (15.0, Action::Exchange));
}

#[test]
fn a_signal_that_was_put_off_is_not_put_off_further() {
    let refuse = |refresher: &mut Refresher, when| {
        let failure = Failure { retry_after: Some(secs(60)), ..Failure::new(Code::RateLimited, "") };
        refresher.failed(&failure, INPUTS, at(when), Jitter::NONE)
    };
    let mut refresher = holding(86_400);
    assert_eq!(refresher.refresh_requested(at(10.0)), at(10.0).boot);
    refuse(&mut refresher, 10.0);
    assert_eq!(refresher.refresh_requested(at(11.0)), at(15.0).boot);
    // Something else leads to an exchange meanwhile; it is refused too, and the next attempt is a long way off.
    refresher.inputs_seen(Fingerprint(2), at(12.0));
    refuse(&mut refresher, 12.0);
    assert_eq!(refresher.refresh_requested(at(13.0)), at(15.0).boot);
    assert_eq!(wait_for_step(&mut refresher, 13.0), (15.0, Action::Exchange));
}

#[test]
fn a_token_in_hand_is_written_before_the_old_one_is_said_to_have_expired() {
    let mut refresher = holding(3_600);
    refresher.suspend_key_check();
    assert_eq!(wait_for_step(&mut refresher, 0.0), (1_800.0, Action::Exchange));
    // The answer takes until after the expiry.
    refresher.obtained(Lifetime::starting(at(1_800.0).boot, secs(3_600)), at(3_601.0));
    assert_eq!(refresher.step(at(3_601.0), Jitter::NONE), Action::Publish);
}

#[test]
fn an_adopted_token_at_its_budget_is_exchanged_at_once() {
    // Of two hours one is kept in reserve.
    let lifetime = Lifetime { issued: at(-3_600.0).boot, expires: at(3_600.0).boot };
    let mut refresher = new();
    refresher.adopted(lifetime, at(90_000.0).unix, at(0.0), Jitter::new(1.0));
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Action::Exchange);
}

#[test]
fn nothing_in_hand_is_nothing_to_publish() {
    let mut refresher = new();
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Action::Exchange);
    refresher.obtained(Lifetime::starting(at(0.0).boot, secs(60)), at(0.0));
    refresher.discard_pending();
    refresher.suspend_key_check();
    assert_eq!(wait_for_step(&mut refresher, 0.0), (60.0, Action::Exchange));
}

#[test]
fn what_a_server_asks_for_is_spread_by_a_tenth() {
    let mut refresher = new();
    let busy = Failure { retry_after: Some(secs(100)), ..Failure::new(Code::RateLimited, "") };
    assert_eq!(refresher.failed(&busy, INPUTS, at(0.0), Jitter::new(1.0)), secs(110));
}

#[test]
fn a_token_that_runs_out_before_the_next_try_is_a_reason_for_one() {
    for (when, pause, reason) in [(598.0, 2.0, Reason::Expired), (597.5, 2.5, Reason::Retry)] {
        let mut refresher = holding(600);
        assert_eq!(fail(&mut refresher, Code::ConnectRefused, when).as_secs_f64(), pause);
        assert_eq!((refresher.due(), refresher.reason()), (at(600.0).boot, reason));
        assert_eq!(refresher.failures(), 1);
    }
}

#[test]
fn failures_in_a_row_are_counted() {
    let mut refresher = new();
    for times in 1..5 {
        fail(&mut refresher, Code::ConnectRefused, 0.0);
        assert_eq!(refresher.failures(), times);
    }
    refresher.obtained(Lifetime::starting(at(0.0).boot, secs(60)), at(0.0));
    assert_eq!(refresher.failures(), 0);
}

#[test]
fn a_subject_token_is_another_one_when_its_file_or_its_end_is() {
    let now = at(0.0);
    let chance = |refresher: &mut Refresher| {
        refresher.suspend_key_check();
        wait_for_step(refresher, 0.0)
    };
    // A hundred seconds: the last chance is a tenth before the end.
    let mut refresher = holding(86_400 / 2);
    refresher.due = at(99_999.0).boot;
    refresher.on_disk = None;
    assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(100), now));
    assert_eq!(chance(&mut refresher), (90.0, Action::Exchange));
    // Taken once; but what is in the file now ends later, although nothing else about it changed.
    assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(200), now));
    refresher.due = at(99_999.0).boot;
    assert_eq!(chance(&mut refresher), (180.0, Action::Exchange));
    // The same once more is the same.
    assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(200), now));
    refresher.due = at(99_999.0).boot;
    assert_eq!(chance(&mut refresher), (99_999.0, Action::Exchange));
}

#[test]
fn a_subject_token_at_its_very_end_has_expired() {
    let mut refresher = new();
    assert!(!refresher.subject_read(INPUTS, None, at(0.0).unix, at(0.0)));
    assert!(refresher.subject_read(INPUTS, None, at(0.0).unix + Duration::from_nanos(1), at(0.0)));
}

#[test]
fn the_last_chance_is_for_a_token_of_some_age_and_ends_with_the_subject() {
    let now = at(0.0);
    // Looked at when the subject token has sixty seconds left of its ten minutes, and when it has none.
    for (held, when, expected) in
        [(5_800, 590.0, true), (5_900, 590.0, true), (5_901, 590.0, false), (3_600, 600.0, false)]
    {
        let mut refresher = holding(held);
        refresher.suspend_key_check();
        assert!(refresher.subject_read(INPUTS, Some(now.unix), now.unix + secs(600), now));
        let step = refresher.step(at(when), Jitter::NONE);
        assert_eq!(step == Action::Exchange, expected, "{held} s, at {when}: {step:?}");
    }
}

#[test]
fn a_second_signal_in_the_same_instant_is_a_second_one() {
    let mut refresher = holding(86_400);
    assert_eq!(refresher.refresh_requested(at(10.0)), at(10.0).boot);
    assert_eq!(refresher.step(at(10.0), Jitter::NONE), Action::Exchange);
    refresher.obtained(Lifetime::starting(at(10.0).boot, secs(86_400)), at(10.0));
    refresher.published(at(10.0), Jitter::NONE);
    assert_eq!(refresher.refresh_requested(at(10.0)), at(15.0).boot);
}

#[test]
fn a_signal_passes_the_bucket_and_nothing_else_does() {
    for (signal, expected) in [(false, 4.0), (true, 0.0)] {
        let mut refresher = new();
        for _ in 0..5 {
            assert_eq!(refresher.step(at(0.0), Jitter::NONE), Action::Exchange);
        }
        if signal {
            assert_eq!(refresher.refresh_requested(at(0.0)), at(0.0).boot);
            // One was due already, so it is that one. The next is a signal's own.
            fail(&mut refresher, Code::InvalidClient, 0.0);
            assert_eq!(refresher.refresh_requested(at(0.0)), at(0.0).boot);
            assert_eq!(refresher.reason(), Reason::Signal);
        }
        assert_eq!(wait_for_step(&mut refresher, 0.0), (expected, Action::Exchange));
    }
}

#[test]
fn what_was_spread_after_a_pause_comes_at_the_expiry_at_the_latest() {
    for (woken, reason, exchange) in [(598.0, Reason::Expired, 600.0), (595.0, Reason::Schedule, 600.0)] {
        let mut refresher = holding(600);
        refresher.suspend_key_check();
        let _ = refresher.step(at(0.0), Jitter::NONE);
        let step = refresher.step(at(woken), Jitter::new(1.0));
        assert_eq!(step, Action::Wait(at(600.0).boot));
        assert_eq!(refresher.step(at(600.0), Jitter::NONE), Action::Expire);
        assert_eq!(refresher.reason(), reason);
        assert_eq!(wait_for_step(&mut refresher, 600.0), (exchange, Action::Exchange));
    }
}

#[test]
fn a_write_that_fails_makes_it_stale_too() {
    let mut refresher = holding(3_600);
    assert!(refresher.output_changed(true, at(1.0)));
    fail(&mut refresher, Code::OutputDiskFull, 1.0);
    assert_eq!(refresher.health(at(1.0)), Health::Stale);
}

/// Found by a random history: the exchange that lost keys asked for had failed, and was forgotten.
#[test]
fn what_is_asked_for_while_a_token_waits_to_be_written_is_done_after_it() {
    let mut refresher = new();
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Action::Exchange);
    refresher.obtained(Lifetime::starting(at(0.0).boot, Duration::from_secs(3_600)), at(0.0));
    fail(&mut refresher, Code::OutputDiskFull, 0.0);
    refresher.signing_key_gone(at(0.1), Jitter::NONE);
    assert_eq!(refresher.step(at(0.1), Jitter::NONE), Action::Exchange);
    fail(&mut refresher, Code::ConnectRefused, 0.1);
    assert_eq!(wait_for_step(&mut refresher, 0.1), (0.5, Action::Publish));
    refresher.published(at(0.5), Jitter::NONE);
    assert_eq!((refresher.reason(), refresher.health(at(0.5))), (Reason::Retry, Health::Stale));
    assert_eq!(wait_for_step(&mut refresher, 0.5), (0.6, Action::Exchange));
}

#[test]
fn that_the_old_one_expired_while_a_token_waited_asks_for_nothing_more() {
    let mut refresher = new();
    refresher.adopted(Lifetime::starting(at(0.0).boot, secs(70)), at(70.0).unix, at(0.0), Jitter::NONE);
    refresher.obtained(Lifetime::starting(at(1.0).boot, secs(3_600)), at(1.0));
    for _ in 0..6 {
        fail(&mut refresher, Code::OutputDiskFull, 69.0);
    }
    assert_eq!(refresher.step(at(70.0), Jitter::NONE), Action::Expire);
    assert_eq!(refresher.reason(), Reason::Expired);
    refresher.published(at(71.0), Jitter::NONE);
    assert_eq!((refresher.reason(), refresher.due()), (Reason::Schedule, at(1_801.0).boot));
}

#[test]
fn an_exchange_that_failed_while_a_token_waited_is_owed_though_the_old_one_expired_meanwhile() {
    let mut refresher = new();
    refresher.adopted(Lifetime::starting(at(0.0).boot, secs(70)), at(70.0).unix, at(0.0), Jitter::NONE);
    refresher.obtained(Lifetime::starting(at(1.0).boot, secs(3_600)), at(1.0));
    fail(&mut refresher, Code::OutputDiskFull, 1.0);
    refresher.signing_key_gone(at(40.0), Jitter::NONE);
    // The pause would be longer than the old one lives.
    for _ in 0..6 {
        fail(&mut refresher, Code::InvalidClient, 41.0);
    }
    assert_eq!((refresher.reason(), refresher.due()), (Reason::Expired, at(70.0).boot));
    refresher.published(at(42.0), Jitter::NONE);
    assert_eq!((refresher.reason(), refresher.due()), (Reason::Retry, at(70.0).boot));
}

#[test]
fn of_two_reasons_for_one_instant_the_schedule_s_gives_way() {
    let mut refresher = holding(86_400);
    refresher.signing_key_gone(at(57_540.0), Jitter::new(1.0));
    assert_eq!((refresher.due(), refresher.reason()), (at(57_600.0).boot, Reason::SigningKeyGone));
    // Another that comes for the same instant changes nothing.
    let mut refresher = new();
    let pause = fail(&mut refresher, Code::InvalidClient, 0.0);
    assert_eq!(pause, Duration::from_millis(500));
    refresher.inputs_seen(Fingerprint(2), at(0.5));
    assert_eq!((refresher.due(), refresher.reason()), (at(0.5).boot, Reason::Retry));
    // And one that comes later less so, whatever the reason.
    let mut refresher = holding(86_400);
    refresher.signing_key_gone(at(57_590.0), Jitter::new(1.0));
    assert_eq!((refresher.due(), refresher.reason()), (at(57_600.0).boot, Reason::Schedule));
}

#[test]
fn looks_often_while_something_is_about_to_happen() {
    let slice = |refresher: &mut Refresher, when: f64| match refresher.step(at(when), Jitter::NONE) {
        Action::Wait(until) => at(when).boot.until(until).as_secs(),
        step => panic!("{step:?}"),
    };
    // Nothing else is planned for the next minutes.
    let calm = |length: u64| {
        let mut refresher = holding(length);
        refresher.suspend_key_check();
        refresher.due = at(99_999.0).boot;
        refresher
    };
    assert_eq!(slice(&mut calm(600), 100.0), 30);
    assert_eq!(slice(&mut calm(600), 480.0), 30, "two minutes before the expiry");
    assert_eq!(slice(&mut calm(600), 481.0), 5);
    assert_eq!(slice(&mut calm(120), 10.0), 30, "it never lived longer than two minutes");
    let mut refused = calm(600);
    refused.failed_inputs = Some(INPUTS);
    assert_eq!(slice(&mut refused, 100.0), 5);
    let mut suspect = calm(600);
    assert!(!suspect.subject_read(INPUTS, None, at(0.0).unix, at(1.0)));
    assert_eq!(slice(&mut suspect, 100.0), 5);
    let mut sound = calm(600);
    assert!(sound.subject_read(INPUTS, None, at(9_000.0).unix, at(1.0)));
    assert_eq!(slice(&mut sound, 100.0), 30);
    let mut unwritten = calm(600);
    assert!(unwritten.output_changed(true, at(100.0)));
    unwritten.publish_due = at(200.0).boot;
    assert_eq!(slice(&mut unwritten, 100.0), 5);
}

#[test]
fn health_has_four_names() {
    let names = [Health::Starting, Health::Fresh, Health::Stale, Health::Expired].map(Health::name);
    assert_eq!(names, ["starting", "fresh", "stale", "expired"]);
}
