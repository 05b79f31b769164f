//! Tests of the state machine, event by event.

use super::*;
use crate::failure::{Code, Failure};
use crate::time::UnixTime;
use driver::{Driver, EXPIRE, PUBLISH};

mod clocks;
#[path = "../../tests/driver/mod.rs"]
mod driver;
mod in_flight;
mod key_checks;
mod reconfigured;
mod restores;
mod signals;
mod subject_tokens;

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

fn new() -> Driver {
    Driver::new(Schedule::default(), Some(secs(600)), at(0.0))
}

/// A refresher that has just written a token of this length, in seconds.
fn holding(length: u64) -> Driver {
    let mut refresher = new();
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Exchange);
    refresher.obtained(Lifetime::starting(at(0.0).boot, secs(length)), at(0.0));
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), PUBLISH);
    refresher.published(at(0.0), Jitter::NONE);
    refresher
}

/// Waits as a loop does, until the decision is not a wait. Returns the second and the decision.
fn next_decision(refresher: &mut Driver, from: f64) -> (f64, Decision) {
    let mut now = from;
    for _ in 0..100_000 {
        match refresher.step(at(now), Jitter::NONE) {
            Decision::Wait(until) => {
                let wait = at(now).boot.until(until).as_secs_f64();
                assert!(wait > 0.0, "a wait of zero at {now}");
                now += wait;
            }
            decision => return (now, decision),
        }
    }
    panic!("no decision but waits");
}

fn fail(refresher: &mut Driver, code: Code, when: f64) -> Duration {
    refresher.failed(&Failure::new(code, ""), INPUTS, at(when), Jitter::NONE)
}

#[test]
fn a_token_of_a_day_is_refreshed_after_sixteen_hours() {
    let mut refresher = holding(86_400);
    assert_eq!(refresher.health(at(0.0)), Health::Fresh);
    refresher.suspend_key_check();
    let (when, decision) = next_decision(&mut refresher, 0.0);
    assert_eq!((when, decision), (57_600.0, Decision::Exchange));
}

#[test]
fn an_idle_machine_wakes_up_twice_a_minute() {
    let mut refresher = holding(86_400);
    for wake_up in 0..10 {
        let now = at(f64::from(wake_up) * 30.0);
        assert_eq!(refresher.step(now, Jitter::NONE), Decision::Wait(now.boot + secs(30)));
    }
}

#[test]
fn failures_are_retried_without_end_at_most_twenty_times_a_minute() {
    let mut refresher = new();
    let mut now = 0.0;
    let mut attempts = vec![];
    while attempts.len() < 50 {
        let (when, decision) = next_decision(&mut refresher, now);
        assert_eq!(decision, Decision::Exchange);
        attempts.push(when);
        fail(&mut refresher, Code::InvalidClient, when);
        now = when;
    }
    assert_eq!(refresher.health(at(now)), Health::Starting);
    assert!(attempts.windows(21).all(|w| w[20] - w[0] >= 60.0), "{attempts:?}");
    assert_eq!(attempts[49] - attempts[48], 150.0, "half of five minutes, without jitter");
}

#[test]
fn a_token_stays_valid_through_failures_and_its_expiry_is_reported_once() {
    let mut refresher = holding(600);
    let (mut now, mut decision) = next_decision(&mut refresher, 0.0);
    assert_eq!((now, decision), (300.0, Decision::Exchange));
    let mut reports = 0;
    while now < 1_200.0 {
        match decision {
            Decision::Exchange => {
                fail(&mut refresher, Code::ConnectRefused, now);
                let expected = if now < 600.0 { Health::Stale } else { Health::Expired };
                assert_eq!(refresher.health(at(now)), expected);
            }
            EXPIRE => {
                assert_eq!(now, 600.0);
                reports += 1;
            }
            Decision::CheckKeys => refresher.suspend_key_check(),
            other => panic!("{other:?}"),
        }
        (now, decision) = next_decision(&mut refresher, now);
    }
    assert_eq!(reports, 1);
}

#[test]
fn a_pending_token_is_written_again_without_another_exchange() {
    let mut refresher = new();
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Exchange);
    refresher.obtained(Lifetime::starting(at(0.0).boot, secs(3_600)), at(0.0));
    let mut now = 0.0;
    for _ in 0..20 {
        let (when, decision) = next_decision(&mut refresher, now);
        assert_eq!(decision, PUBLISH);
        fail(&mut refresher, Code::OutputDiskFull, when);
        now = when;
    }
    refresher.published(at(now), Jitter::NONE);
    assert_eq!(refresher.health(at(now)), Health::Fresh);
    // A pending token that expires is replaced.
    let mut refresher = new();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    refresher.obtained(Lifetime::starting(at(0.0).boot, secs(60)), at(0.0));
    let _ = refresher.step(at(0.0), Jitter::NONE);
    fail(&mut refresher, Code::OutputDiskFull, 0.0);
    assert_eq!(refresher.step(at(61.0), Jitter::NONE), Decision::Exchange);
}

#[test]
fn retry_after_delays_the_next_attempt_until_thirty_seconds_before_expiry_at_most() {
    let mut refresher = new();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    let limited = |wait| Failure { retry_after: Some(secs(wait)), ..Failure::new(Code::RateLimited, "") };
    assert_eq!(refresher.failed(&limited(7), INPUTS, at(0.0), Jitter::NONE), secs(7));
    assert_eq!(refresher.failed(&limited(9_999), INPUTS, at(0.0), Jitter::NONE), secs(300));
    let mut refresher = holding(600);
    let (now, _) = next_decision(&mut refresher, 0.0);
    let delay = refresher.failed(&limited(300), INPUTS, at(now + 100.0), Jitter::NONE);
    assert_eq!(delay, secs(170), "thirty seconds before expiry");
}

#[test]
fn a_changed_input_causes_one_exchange_at_once() {
    let mut refresher = new();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    for n in 0..9 {
        fail(&mut refresher, Code::InvalidClient, f64::from(n));
    }
    refresher.inputs_seen(INPUTS, at(20.0));
    assert!(matches!(refresher.step(at(20.0), Jitter::NONE), Decision::Wait(_)));
    refresher.inputs_seen(Fingerprint(2), at(20.0));
    assert_eq!(refresher.step(at(20.0), Jitter::NONE), Decision::Exchange);
    refresher.failed(&Failure::new(Code::InvalidClient, ""), Fingerprint(2), at(20.0), Jitter::NONE);
    refresher.inputs_seen(Fingerprint(2), at(20.1));
    assert!(matches!(refresher.step(at(20.1), Jitter::NONE), Decision::Wait(_)));
}

#[test]
fn the_first_exchange_is_spread_if_a_token_is_adopted() {
    let mut refresher = new();
    refresher.adopted(
        Lifetime { issued: at(-600.0).boot, expires: at(3_000.0).boot },
        at(3_000.0).unix,
        at(0.0),
        Jitter::new(0.5),
    );
    assert_eq!(refresher.health(at(0.0)), Health::Fresh);
    assert_eq!(next_decision(&mut refresher, 0.0), (15.0, Decision::Exchange));
    // The remaining validity is within the refresh margin, so the exchange is due at once.
    let mut refresher = new();
    refresher.adopted(
        Lifetime { issued: at(-3_000.0).boot, expires: at(600.0).boot },
        at(600.0).unix,
        at(0.0),
        Jitter::new(0.5),
    );
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Exchange);
}

#[test]
fn a_pending_token_is_written_before_the_expiry_of_the_old_one_is_reported() {
    let mut refresher = holding(3_600);
    refresher.suspend_key_check();
    assert_eq!(next_decision(&mut refresher, 0.0), (1_800.0, Decision::Exchange));
    // The response comes after the expiry.
    refresher.obtained(Lifetime::starting(at(1_800.0).boot, secs(3_600)), at(3_601.0));
    assert_eq!(refresher.step(at(3_601.0), Jitter::NONE), PUBLISH);
}

#[test]
fn an_adopted_token_within_its_refresh_margin_is_exchanged_at_once() {
    // The refresh margin of two hours is one hour.
    let lifetime = Lifetime { issued: at(-3_600.0).boot, expires: at(3_600.0).boot };
    let mut refresher = new();
    refresher.adopted(lifetime, at(90_000.0).unix, at(0.0), Jitter::new(1.0));
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Exchange);
}

#[test]
fn an_adopted_token_that_expires_within_a_minute_is_valid_and_exchanged_at_once() {
    for length in [20, 86_400] {
        let lifetime = Lifetime { issued: at(19.0).boot - secs(length), expires: at(19.0).boot };
        let mut refresher = new();
        refresher.adopted(lifetime, at(19.0).unix, at(0.0), Jitter::new(1.0));
        assert_eq!(refresher.health(at(0.0)), Health::Fresh);
        assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Exchange);
        fail(&mut refresher, Code::ConnectRefused, 1.0);
        assert_eq!(refresher.health(at(1.0)), Health::Stale);
    }
}

#[test]
fn a_discarded_token_is_not_written() {
    let mut refresher = new();
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Exchange);
    refresher.obtained(Lifetime::starting(at(0.0).boot, secs(60)), at(0.0));
    refresher.discard_pending();
    refresher.suspend_key_check();
    assert_eq!(next_decision(&mut refresher, 0.0), (60.0, Decision::Exchange));
}

#[test]
fn retry_after_is_lengthened_by_a_jitter_of_a_tenth() {
    let mut refresher = new();
    let limited = Failure { retry_after: Some(secs(100)), ..Failure::new(Code::RateLimited, "") };
    assert_eq!(refresher.failed(&limited, INPUTS, at(0.0), Jitter::new(1.0)), secs(110));
}

#[test]
fn a_token_that_expires_during_a_delay_is_exchanged_at_its_expiry() {
    for (when, delay, reason) in [(598.0, 2.0, Reason::Expired), (597.5, 2.5, Reason::Retry)] {
        let mut refresher = holding(600);
        assert_eq!(fail(&mut refresher, Code::ConnectRefused, when).as_secs_f64(), delay);
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
fn an_exchange_spread_after_a_pause_comes_at_the_expiry_at_the_latest() {
    for (woken, reason, exchange) in [(598.0, Reason::Expired, 600.0), (595.0, Reason::Schedule, 600.0)] {
        let mut refresher = holding(600);
        refresher.suspend_key_check();
        let _ = refresher.step(at(0.0), Jitter::NONE);
        let decision = refresher.step(at(woken), Jitter::new(1.0));
        assert_eq!(decision, Decision::Wait(at(600.0).boot));
        assert_eq!(refresher.step(at(600.0), Jitter::NONE), EXPIRE);
        assert_eq!(refresher.reason(), reason);
        assert_eq!(next_decision(&mut refresher, 600.0), (exchange, Decision::Exchange));
    }
}

#[test]
fn health_is_stale_after_a_failed_write() {
    let mut refresher = holding(3_600);
    assert!(refresher.output_changed(true, at(1.0)));
    fail(&mut refresher, Code::OutputDiskFull, 1.0);
    assert_eq!(refresher.health(at(1.0)), Health::Stale);
}

/// Found by a random history: an exchange because of a gone signing key failed while a token was
/// pending, and was not retried.
#[test]
fn an_exchange_that_failed_while_a_token_was_pending_is_retried_after_the_write() {
    let mut refresher = new();
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Exchange);
    refresher.obtained(Lifetime::starting(at(0.0).boot, Duration::from_secs(3_600)), at(0.0));
    fail(&mut refresher, Code::OutputDiskFull, 0.0);
    refresher.signing_key_gone(at(0.1), Jitter::NONE);
    assert_eq!(refresher.step(at(0.1), Jitter::NONE), Decision::Exchange);
    fail(&mut refresher, Code::ConnectRefused, 0.1);
    assert_eq!(next_decision(&mut refresher, 0.1), (0.5, PUBLISH));
    refresher.published(at(0.5), Jitter::NONE);
    assert_eq!((refresher.reason(), refresher.health(at(0.5))), (Reason::Retry, Health::Stale));
    assert_eq!(next_decision(&mut refresher, 0.5), (0.6, Decision::Exchange));
}

#[test]
fn the_expiry_of_the_old_token_while_another_was_pending_causes_no_exchange() {
    let mut refresher = new();
    refresher.adopted(Lifetime::starting(at(0.0).boot, secs(70)), at(70.0).unix, at(0.0), Jitter::NONE);
    refresher.obtained(Lifetime::starting(at(1.0).boot, secs(3_600)), at(1.0));
    for _ in 0..6 {
        fail(&mut refresher, Code::OutputDiskFull, 69.0);
    }
    assert_eq!(refresher.step(at(70.0), Jitter::NONE), EXPIRE);
    assert_eq!(refresher.reason(), Reason::Expired);
    refresher.published(at(71.0), Jitter::NONE);
    assert_eq!((refresher.reason(), refresher.due()), (Reason::Schedule, at(1_801.0).boot));
}

#[test]
fn an_exchange_that_failed_while_a_token_was_pending_is_retried_though_the_old_one_expires() {
    let mut refresher = new();
    refresher.adopted(Lifetime::starting(at(0.0).boot, secs(70)), at(70.0).unix, at(0.0), Jitter::NONE);
    refresher.obtained(Lifetime::starting(at(1.0).boot, secs(3_600)), at(1.0));
    fail(&mut refresher, Code::OutputDiskFull, 1.0);
    refresher.signing_key_gone(at(40.0), Jitter::NONE);
    // The delay would exceed the remaining validity of the old token.
    for _ in 0..6 {
        fail(&mut refresher, Code::InvalidClient, 41.0);
    }
    assert_eq!((refresher.reason(), refresher.due()), (Reason::Expired, at(70.0).boot));
    refresher.published(at(42.0), Jitter::NONE);
    assert_eq!((refresher.reason(), refresher.due()), (Reason::Retry, at(70.0).boot));
}

/// Found by a random history: a token was written just after an exchange had failed, which was due
/// again at the expiry of the previous token.
#[test]
fn an_exchange_that_failed_just_before_a_token_is_written_is_not_retried_at_once() {
    let mut refresher = new();
    refresher.adopted(Lifetime::starting(at(0.0).boot, secs(70)), at(70.0).unix, at(0.0), Jitter::NONE);
    refresher.obtained(Lifetime::starting(at(1.0).boot, secs(3_600)), at(1.0));
    for _ in 0..7 {
        fail(&mut refresher, Code::OutputDiskFull, 60.0);
    }
    refresher.refresh_requested(at(69.9));
    assert_eq!(refresher.step(at(69.9), Jitter::NONE), Decision::Exchange);
    fail(&mut refresher, Code::ConnectRefused, 69.9);
    assert_eq!((refresher.reason(), refresher.due()), (Reason::Expired, at(70.0).boot));
    assert_eq!(refresher.step(at(70.0), Jitter::NONE), EXPIRE);
    refresher.published(at(70.1), Jitter::NONE);
    refresher.suspend_key_check();
    assert_eq!(next_decision(&mut refresher, 70.1), (70.6, Decision::Exchange));
}

#[test]
fn of_two_reasons_for_one_instant_the_schedule_gives_way() {
    let mut refresher = holding(86_400);
    refresher.signing_key_gone(at(57_540.0), Jitter::new(1.0));
    assert_eq!((refresher.due(), refresher.reason()), (at(57_600.0).boot, Reason::SigningKeyGone));
    // Another reason for the same instant changes nothing.
    let mut refresher = new();
    let delay = fail(&mut refresher, Code::InvalidClient, 0.0);
    assert_eq!(delay, Duration::from_millis(500));
    refresher.inputs_seen(Fingerprint(2), at(0.5));
    assert_eq!((refresher.due(), refresher.reason()), (at(0.5).boot, Reason::Retry));
    // A reason for a later instant changes nothing either.
    let mut refresher = holding(86_400);
    refresher.signing_key_gone(at(57_590.0), Jitter::new(1.0));
    assert_eq!((refresher.due(), refresher.reason()), (at(57_600.0).boot, Reason::Schedule));
}

#[test]
fn files_are_polled_each_five_seconds_while_a_change_would_matter_soon() {
    let interval = |refresher: &mut Driver, when: f64| match refresher.step(at(when), Jitter::NONE) {
        Decision::Wait(until) => at(when).boot.until(until).as_secs(),
        decision => panic!("{decision:?}"),
    };
    // No exchange and no key check is due in the next minutes.
    let idle = |length: u64| {
        let mut refresher = holding(length);
        refresher.suspend_key_check();
        refresher.refresher.plan.due = at(99_999.0).boot;
        refresher
    };
    assert_eq!(interval(&mut idle(600), 100.0), 30);
    assert_eq!(interval(&mut idle(600), 480.0), 30, "two minutes before the expiry");
    assert_eq!(interval(&mut idle(600), 481.0), 5);
    assert_eq!(interval(&mut idle(120), 10.0), 30, "it never lived longer than two minutes");
    let mut refused = idle(600);
    refused.refresher.plan.retries.inputs = Some(INPUTS);
    assert_eq!(interval(&mut refused, 100.0), 5);
    let mut suspect = idle(600);
    assert!(!suspect.subject_read(INPUTS, None, at(0.0).unix, at(1.0)));
    assert_eq!(interval(&mut suspect, 100.0), 5);
    let mut sound = idle(600);
    assert!(sound.subject_read(INPUTS, None, at(9_000.0).unix, at(1.0)));
    assert_eq!(interval(&mut sound, 100.0), 30);
    let mut unwritten = idle(600);
    assert!(unwritten.output_changed(true, at(100.0)));
    unwritten.refresher.outputs[0].retry_at(at(200.0).boot);
    assert_eq!(interval(&mut unwritten, 100.0), 5);
}

#[test]
fn each_health_has_its_name() {
    let names = [Health::Starting, Health::Fresh, Health::Stale, Health::Expired].map(Health::name);
    assert_eq!(names, ["starting", "fresh", "stale", "expired"]);
}
