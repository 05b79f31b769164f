//! Clocks that are stepped, and time that passes unseen.

use super::*;

/// Both clocks at this second, after the wall clock was stepped by so many.
fn stepped(seconds: f64, by: i64) -> Now {
    let now = at(seconds);
    let unix = now.unix.as_duration();
    let unix = if by < 0 { unix - secs(by.unsigned_abs()) } else { unix + secs(by.unsigned_abs()) };
    Now { unix: UnixTime::since_epoch(unix), ..now }
}

#[test]
fn f096_after_a_long_stop_there_is_one_exchange_and_no_burst() {
    let mut refresher = holding(600);
    refresher.suspend_key_check();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    let woken = at(10_000.0);
    assert_eq!(refresher.step(woken, Jitter::new(0.5)), Action::Expire);
    let step = refresher.step(woken, Jitter::NONE);
    assert_eq!(step, Action::Wait(woken.boot + Duration::from_millis(2_500)));
    assert_eq!(refresher.step(at(10_002.5), Jitter::NONE), Action::Exchange);
}

/// The wall clock may say what it likes: what is counted is the clock that is never stepped.
#[test]
fn f092_f093_a_stepped_wall_clock_changes_no_plan() {
    for step in [3_600, 10 * 365 * 86_400, -3_600, -1_600_000_000_i64] {
        let mut refresher = holding(86_400);
        refresher.suspend_key_check();
        let mut now = at(100.0);
        now.unix = UnixTime::from_secs(now.unix.as_duration().as_secs().saturating_add_signed(step));
        assert_eq!(refresher.step(now, Jitter::NONE), Action::Wait(at(130.0).boot), "stepped by {step} s");
        assert_eq!(refresher.health(now), Health::Fresh);
        assert_eq!(refresher.due(), at(57_600.0).boot);
    }
}

#[test]
fn f095_what_was_slept_counts() {
    let mut refresher = holding(3_600);
    refresher.suspend_key_check();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    // The machine sleeps over the refresh: one exchange, soon and not at once.
    assert_eq!(refresher.step(at(2_000.0), Jitter::new(0.5)), Action::Wait(at(2_002.5).boot));
    assert_eq!(refresher.step(at(2_002.5), Jitter::NONE), Action::Exchange);
    assert_eq!(refresher.health(at(2_002.5)), Health::Fresh);
    // And over the expiry: what it says of itself is true at once.
    assert_eq!(refresher.health(at(4_000.0)), Health::Expired);
}

#[test]
fn a_pause_is_five_seconds_too_much_and_spreads_only_what_is_due() {
    // The refresh is due at 1,800 s; the loop wants to look again after half a minute.
    let stopped_until = |when: f64| {
        let mut refresher = holding(3_600);
        refresher.suspend_key_check();
        let _ = refresher.step(at(1_780.0), Jitter::NONE);
        refresher.step(at(when), Jitter::new(1.0))
    };
    assert_eq!(stopped_until(1_800.0), Action::Exchange);
    assert_eq!(stopped_until(1_805.0), Action::Exchange);
    assert_eq!(stopped_until(1_806.0), Action::Wait(at(1_811.0).boot));
    let mut refresher = holding(86_400);
    refresher.suspend_key_check();
    let _ = refresher.step(at(0.0), Jitter::NONE);
    assert_eq!(refresher.step(at(10_000.0), Jitter::new(1.0)), Action::Wait(at(10_030.0).boot));
    assert_eq!(refresher.due(), at(57_600.0).boot);
}

#[test]
fn f092_f093_a_found_token_s_end_is_told_anew_by_a_stepped_clock_and_is_never_later() {
    let life = |length: u64| Lifetime::starting(at(0.0).boot, secs(length));
    let found = || {
        let mut refresher = new();
        refresher.replaced_by(life(3_600), at(3_600.0).unix, at(0.0), Jitter::NONE);
        refresher.suspend_key_check();
        assert_eq!(refresher.step(at(0.0), Jitter::NONE), Action::Wait(at(30.0).boot));
        refresher
    };
    // Half an hour slow, and set right: it is refreshed half an hour sooner.
    let mut refresher = found();
    assert_eq!(refresher.due(), at(1_800.0).boot);
    let _ = refresher.step(stepped(20.0, 1_700), Jitter::NONE);
    assert_eq!(refresher.on_disk().map(|held| held.expires), Some(at(1_900.0).boot));
    assert_eq!((refresher.due(), refresher.reason()), (at(100.0).boot, Reason::Schedule));
    // It had died long ago.
    let mut refresher = found();
    assert_eq!(refresher.step(stepped(20.0, 9_000), Jitter::NONE), Action::Expire);
    assert_eq!(refresher.health(at(20.0)), Health::Expired);
    assert_eq!(refresher.step(stepped(20.0, 9_000), Jitter::NONE), Action::Exchange);
    // One that waits to be put back is not put back dead.
    let mut refresher = found();
    assert!(refresher.output_changed(true, at(1.0)));
    assert_eq!(refresher.step(stepped(20.0, 9_000), Jitter::NONE), Action::Expire);
    // A clock that is set back wins nothing, nor does a little slewing, nor a step for what was issued here.
    let mut refresher = found();
    let _ = refresher.step(stepped(20.0, -9_000), Jitter::NONE);
    let _ = refresher.step(stepped(21.0, -8_996), Jitter::NONE);
    assert_eq!(refresher.on_disk(), Some(life(3_600)));
    // And set right again it changes no plan.
    let _ = refresher.step(at(22.0), Jitter::new(1.0));
    assert_eq!((refresher.on_disk(), refresher.due()), (Some(life(3_600)), at(1_800.0).boot));
    // A try that is owed is not put off by a token that ends sooner,
    let mut refresher = found();
    fail(&mut refresher, Code::ConnectRefused, 1.0);
    let due = refresher.due();
    let _ = refresher.step(stepped(2.0, 1_700), Jitter::NONE);
    assert_eq!(refresher.on_disk().map(|held| held.expires), Some(at(1_900.0).boot));
    assert_eq!((refresher.reason(), refresher.due()), (Reason::Retry, due));
    // nor is another asked for while a new one is in hand.
    let mut refresher = found();
    refresher.obtained(life(7_200), at(1.0));
    fail(&mut refresher, Code::OutputDiskFull, 1.0);
    let _ = refresher.step(stepped(1.1, 1_700), Jitter::NONE);
    assert_eq!((refresher.reason(), refresher.due()), (Reason::Schedule, at(7_200.0).boot));
    let mut issued = holding(3_600);
    let (due, held) = (issued.due(), issued.on_disk());
    let _ = issued.step(at(10.0), Jitter::NONE);
    let _ = issued.step(stepped(20.0, 9_000), Jitter::NONE);
    assert_eq!((issued.due(), issued.on_disk()), (due, held));
}

#[test]
fn f094_what_was_refused_is_tried_again_soon_after_a_step_and_once_a_minute_at_most() {
    let failing = |code| {
        let mut refresher = new();
        let _ = refresher.step(at(0.0), Jitter::NONE);
        let pause = (0..9).map(|_| fail(&mut refresher, code, 0.0)).last();
        assert!(pause.is_some_and(|pause| pause >= secs(15)), "{pause:?}");
        refresher
    };
    let mut refresher = failing(Code::AccessDenied);
    let _ = refresher.step(stepped(10.0, 9_000), Jitter::new(1.0));
    assert_eq!((refresher.due(), refresher.reason()), (at(15.0).boot, Reason::ClockStepped));
    fail(&mut refresher, Code::AccessDenied, 15.0);
    let _ = refresher.step(stepped(16.0, 0), Jitter::new(1.0));
    assert_eq!(refresher.reason(), Reason::Retry, "it steps to and fro");
    let _ = refresher.step(stepped(70.0, 9_000), Jitter::new(1.0));
    assert_eq!(refresher.due(), at(75.0).boot);
    // A certificate's dates do, though it is tried as often as the network.
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
    // The network does not care what time it is.
    let mut refresher = failing(Code::ConnectRefused);
    let _ = refresher.step(stepped(10.0, 9_000), Jitter::new(1.0));
    assert_eq!(refresher.reason(), Reason::Retry);
}
