//! Tests of clock steps, pauses of the process and suspension.

use super::*;

/// Both clocks at this second, with the wall clock stepped by `by` seconds.
fn stepped(seconds: f64, by: i64) -> Now {
    let now = at(seconds);
    let unix = now.unix.as_duration();
    let unix = if by < 0 { unix - secs(by.unsigned_abs()) } else { unix + secs(by.unsigned_abs()) };
    Now { unix: UnixTime::since_epoch(unix), ..now }
}

#[test]
fn f096_a_long_pause_is_followed_by_one_exchange() {
    let mut refresher = holding(600);
    refresher.suspend_key_check();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    let woken = at(10_000.0);
    assert_eq!(refresher.step(woken, Jitter::new(0.5)), EXPIRE);
    let decision = refresher.step(woken, Jitter::NONE);
    assert_eq!(decision, Decision::Wait(woken.boot + Duration::from_millis(2_500)));
    assert_eq!(refresher.step(at(10_002.5), Jitter::NONE), Decision::Exchange);
}

/// Schedules use the boot clock only.
#[test]
fn f092_f093_a_step_of_the_wall_clock_changes_no_plan() {
    for step in [3_600, 10 * 365 * 86_400, -3_600, -1_600_000_000_i64] {
        let mut refresher = holding(86_400);
        refresher.suspend_key_check();
        let mut now = at(100.0);
        now.unix = UnixTime::from_secs(now.unix.as_duration().as_secs().saturating_add_signed(step));
        assert_eq!(refresher.step(now, Jitter::NONE), Decision::Wait(at(130.0).boot), "stepped by {step} s");
        assert_eq!(refresher.health(now), Health::Fresh);
        assert_eq!(refresher.due(), at(57_600.0).boot);
    }
}

#[test]
fn f095_suspension_counts_as_passed_time() {
    let mut refresher = holding(3_600);
    refresher.suspend_key_check();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    // The machine is suspended over the refresh. One exchange follows, spread over five seconds.
    assert_eq!(refresher.step(at(2_000.0), Jitter::new(0.5)), Decision::Wait(at(2_002.5).boot));
    assert_eq!(refresher.step(at(2_002.5), Jitter::NONE), Decision::Exchange);
    assert_eq!(refresher.health(at(2_002.5)), Health::Fresh);
    // The machine is suspended over the expiry. The health is right at once.
    assert_eq!(refresher.health(at(4_000.0)), Health::Expired);
}

#[test]
fn a_pause_is_a_delay_of_more_than_five_seconds_and_spreads_only_a_due_exchange() {
    // The refresh is due at 1,800 s, which is before the next poll.
    let stopped_until = |when: f64| {
        let mut refresher = holding(3_600);
        refresher.suspend_key_check();
        let _ = refresher.step(at(1_780.0), Jitter::NONE);
        refresher.step(at(when), Jitter::new(1.0))
    };
    assert_eq!(stopped_until(1_800.0), Decision::Exchange);
    assert_eq!(stopped_until(1_805.0), Decision::Exchange);
    assert_eq!(stopped_until(1_806.0), Decision::Wait(at(1_811.0).boot));
    let mut refresher = holding(86_400);
    refresher.suspend_key_check();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    assert_eq!(refresher.step(at(10_000.0), Jitter::new(1.0)), Decision::Wait(at(10_030.0).boot));
    assert_eq!(refresher.due(), at(57_600.0).boot);
}

#[test]
fn f092_f093_a_clock_step_makes_the_expiry_of_a_token_found_on_disk_earlier_but_never_later() {
    let lifetime = |length: u64| Lifetime::starting(at(0.0).boot, secs(length));
    let found = || {
        let mut refresher = new();
        refresher.replaced_by(lifetime(3_600), at(3_600.0).unix, at(0.0), Jitter::NONE);
        refresher.suspend_key_check();
        assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Wait(at(30.0).boot));
        refresher
    };
    // The clock was half an hour slow and is corrected: the refresh is half an hour earlier.
    let mut refresher = found();
    assert_eq!(refresher.due(), at(1_800.0).boot);
    let _ = refresher.step(stepped(20.0, 1_700), Jitter::NONE);
    assert_eq!(refresher.on_disk().map(|token| token.expires), Some(at(1_900.0).boot));
    assert_eq!((refresher.due(), refresher.reason()), (at(100.0).boot, Reason::Schedule));
    // The token has been expired for a long time.
    let mut refresher = found();
    assert_eq!(refresher.step(stepped(20.0, 9_000), Jitter::NONE), EXPIRE);
    assert_eq!(refresher.health(at(20.0)), Health::Expired);
    assert_eq!(refresher.step(stepped(20.0, 9_000), Jitter::NONE), Decision::Exchange);
    // A pending restore of an expired token is not done.
    let mut refresher = found();
    assert!(refresher.output_changed(true, at(1.0)));
    assert_eq!(refresher.step(stepped(20.0, 9_000), Jitter::NONE), EXPIRE);
    // A step backwards does not lengthen the lifetime. Slewing by four seconds is not a step.
    let mut refresher = found();
    let _ = refresher.step(stepped(20.0, -9_000), Jitter::NONE);
    let _ = refresher.step(stepped(21.0, -8_996), Jitter::NONE);
    assert_eq!(refresher.on_disk(), Some(lifetime(3_600)));
    // The step back to the right time changes no plan.
    let _ = refresher.step(at(22.0), Jitter::new(1.0));
    assert_eq!((refresher.on_disk(), refresher.due()), (Some(lifetime(3_600)), at(1_800.0).boot));
    // A retry is not delayed by the earlier expiry.
    let mut refresher = found();
    fail(&mut refresher, Code::ConnectRefused, 1.0);
    let due = refresher.due();
    let _ = refresher.step(stepped(2.0, 1_700), Jitter::NONE);
    assert_eq!(refresher.on_disk().map(|token| token.expires), Some(at(1_900.0).boot));
    assert_eq!((refresher.reason(), refresher.due()), (Reason::Retry, due));
    // No exchange is due while a new token is pending.
    let mut refresher = found();
    refresher.obtained(lifetime(7_200), at(1.0));
    fail(&mut refresher, Code::OutputDiskFull, 1.0);
    let _ = refresher.step(stepped(1.1, 1_700), Jitter::NONE);
    assert_eq!((refresher.reason(), refresher.due()), (Reason::Schedule, at(7_200.0).boot));
    // The lifetime of a token that was exchanged here does not depend on the wall clock.
    let mut issued = holding(3_600);
    let (due, on_disk) = (issued.due(), issued.on_disk());
    let _ = issued.step(at(10.0), Jitter::NONE);
    let _ = issued.step(stepped(20.0, 9_000), Jitter::NONE);
    assert_eq!((issued.due(), issued.on_disk()), (due, on_disk));
}

/// The copy to the second output cannot be written.
#[test]
fn a_clock_step_brings_the_refresh_forward_although_an_output_cannot_be_written() {
    let refresher = holding(3_600);
    let of = |refresher: Refresher| {
        refresher.reconfigured(Schedule::default(), None, &[Some(0), None], at(0.0), Jitter::NONE)
    };
    let mut refresher = refresher.map(of);
    assert_eq!(refresher.step(at(0.0), Jitter::NONE), Decision::Publish(1));
    let failed = Observation::WriteFailed { output: 1, code: Code::OutputReadOnly };
    refresher.refresher.on(failed, at(0.0), Jitter::NONE);
    let lifetime = Lifetime::starting(at(1.0).boot, secs(86_400));
    refresher.replaced_by(lifetime, at(86_401.0).unix, at(1.0), Jitter::NONE);
    refresher.refresher.on(Observation::Missing(1), at(1.0), Jitter::NONE);
    assert_eq!(refresher.step(at(1.0), Jitter::NONE), Decision::Publish(1));
    refresher.refresher.on(failed, at(1.0), Jitter::NONE);
    let due = refresher.due();
    assert_eq!(refresher.step(stepped(2.0, 50_000), Jitter::NONE), Decision::Publish(1));
    refresher.refresher.on(failed, stepped(2.0, 50_000), Jitter::NONE);
    let expires = refresher.on_disk().expect("a token").expires;
    assert!(refresher.due() < due && refresher.due() < expires);
    // The second output can be written when the token has expired.
    let expired = at(0.0).boot.until(expires).as_secs_f64() + 1.0;
    for _ in 0..10 {
        assert_ne!(refresher.step(stepped(expired, 50_000), Jitter::NONE), Decision::Publish(1));
    }
    assert_eq!(refresher.refresher.write_due(1), None);
}

#[test]
fn f094_a_refused_exchange_is_retried_after_a_clock_step_at_most_once_a_minute() {
    let failing = |code| {
        let mut refresher = new();
        let _ = refresher.step(at(0.0), Jitter::NONE);
        let delay = (0..9).map(|_| fail(&mut refresher, code, 0.0)).last();
        assert!(delay.is_some_and(|delay| delay >= secs(15)), "{delay:?}");
        refresher
    };
    let mut refresher = failing(Code::AccessDenied);
    let _ = refresher.step(stepped(10.0, 9_000), Jitter::new(1.0));
    assert_eq!((refresher.due(), refresher.reason()), (at(15.0).boot, Reason::ClockStepped));
    fail(&mut refresher, Code::AccessDenied, 15.0);
    let _ = refresher.step(stepped(16.0, 0), Jitter::new(1.0));
    assert_eq!(refresher.reason(), Reason::Retry, "the second step within a minute");
    let _ = refresher.step(stepped(70.0, 9_000), Jitter::new(1.0));
    assert_eq!(refresher.due(), at(75.0).boot);
    // A certificate is refused because of its dates, though its retry class is network.
    let mut refresher = new();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    for _ in 0..9 {
        let _ = refresher.failed(
            &Failure::new(Code::CertificateNotYetValid, ""),
            Fingerprint(0),
            at(0.0),
            Jitter::new(1.0),
        );
    }
    assert_eq!(refresher.due(), at(30.0).boot);
    let _ = refresher.step(stepped(10.0, 9_000), Jitter::new(1.0));
    assert_eq!((refresher.due(), refresher.reason()), (at(15.0).boot, Reason::ClockStepped));
    // A refused connection does not depend on the clock.
    let mut refresher = failing(Code::ConnectRefused);
    let _ = refresher.step(stepped(10.0, 9_000), Jitter::new(1.0));
    assert_eq!(refresher.reason(), Reason::Retry);
}
