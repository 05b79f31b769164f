//! Random histories of responses, clocks, files and signals. The promises (docs/faults.md) hold in
//! each.

use std::time::Duration;

use dexsidecar_core::failure::{Code, Failure, Step};
use dexsidecar_core::refresher::{Decision, Fingerprint, Health, Lifetime};
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::time::{BootTime, Jitter, Now, UnixTime};
use proptest::prelude::*;

#[expect(dead_code, reason = "other tests use the rest")]
mod driver;
use driver::Driver;
mod history;
use history::{Event, PublishedKey, Then, World, event, schedule};

/// The number of histories: 4,000, or more with `PROPTEST_CASES`.
fn cases() -> u32 {
    ProptestConfig::default().cases.max(4_000)
}

/// Random numbers for jitter, and numbers outside of its range.
fn jitters() -> impl Strategy<Value = Vec<f64>> {
    let unit = prop_oneof![9 => 0.0..1.0_f64, 1 => any::<f64>()];
    proptest::collection::vec(unit, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// P4, P5: no panic, no endless loop without a wait, at most twenty attempts in a minute.
    #[test]
    fn no_history_causes_a_panic_an_endless_loop_or_too_many_attempts(
        schedule in schedule(),
        key_check in proptest::option::of(1..10_000_u64),
        jitters in jitters(),
        events in proptest::collection::vec(event(), 1..120),
    ) {
        run(schedule, key_check, &jitters, events, Then::Down, PublishedKey::Current)?;
    }

    /// P3: after Dex's return there is a valid token within 30 s, or within the delay of an OAuth
    /// error of Dex. A token that is still valid is replaced within five minutes or the interval
    /// that is set.
    #[test]
    fn after_any_history_there_is_a_token_soon_after_dex_returns(
        schedule in schedule(),
        jitters in jitters(),
        events in proptest::collection::vec(event(), 1..120),
    ) {
        run(schedule, Some(600), &jitters, without_retry_after(events), Then::Up, PublishedKey::Current)?;
    }

    #[test]
    fn f148_published_keys_that_never_contain_the_token_s_key_cause_one_exchange_at_most(
        key_check in 1..2_000_u64,
        jitters in jitters(),
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let events = without_retry_after(events);
        let world =
            run(Schedule::default(), Some(key_check), &jitters, events, Then::Up, PublishedKey::Stale)?;
        prop_assert!(world.for_gone_key <= 1, "{}", world.for_gone_key);
    }

    /// P13: after each loss of keys, the token on disk is signed with Dex's new key within the
    /// period of the key check and one minute.
    #[test]
    fn p13_a_token_of_lost_keys_is_replaced_within_the_period_and_a_minute(
        period in 60..2_000_u64,
        length in 7_200..200_000_u64,
        jitters in proptest::collection::vec(0.0..1.0_f64, 1..8),
        losses in proptest::collection::vec(100..20_000_u64, 1..8),
    ) {
        let mut world = World::new(Schedule::default(), Some(period), PublishedKey::Current);
        let mut jitter = jitters.iter().cycle().map(|unit| Jitter::new(*unit));
        let mut draw = move || jitter.next().expect("it is endless");
        let mut on_disk = 0;
        for after in losses {
            // The next loss comes after this one is repaired. key_check.rs tests two losses in a
            // period.
            let lost_at = world.now().boot + Duration::from_secs(after);
            let mut lost = false;
            while !lost || on_disk != world.keys.0 {
                let now = world.now();
                if !lost && now.boot >= lost_at {
                    lost = true;
                    world.keys.0 += 1;
                }
                let limit = Duration::from_secs(period + 60);
                prop_assert!(lost_at.until(now.boot) <= limit, "after {:?}", lost_at.until(now.boot));
                match world.refresher.step(now, draw()) {
                    Decision::Exchange => {
                        let lifetime = Lifetime::starting(now.boot, Duration::from_secs(length));
                        world.refresher.obtained(lifetime, now);
                        world.keys.1 = world.keys.0;
                        world.key_check.issued(Some(&world.keys.1.to_string()));
                    }
                    Decision::Publish(_) => {
                        world.refresher.published(now, draw());
                        on_disk = world.keys.1;
                    }
                    Decision::CheckKeys => world.check_keys(draw()),
                    Decision::Expire(_) => prop_assert!(false, "a token has expired"),
                    Decision::Wait(until) => {
                        // The wait is interrupted by the loss, if that comes first.
                        let wait = now.boot.until(until);
                        let loss = now.boot.until(lost_at);
                        world.boot += if lost || loss.is_zero() { wait } else { wait.min(loss) };
                    }
                }
            }
        }
    }

    /// P12: without failures a step of the wall clock changes no attempt. Subject tokens and tokens
    /// of other processes are left out, because only the wall clock shows their expiry.
    #[test]
    fn without_failures_a_step_of_the_wall_clock_changes_no_attempt(
        jitters in jitters(),
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let is_kept = |event: &Event| !matches!(event, Event::Subject(_) | Event::Fail(..) | Event::Replace(_));
        let stepped: Vec<_> = events.into_iter().filter(is_kept).collect();
        let steady = stepped.iter().map(|event| match event {
            Event::ClockStep(_) => Event::ClockStep(0),
            other => other.clone(),
        });
        let steady = steady.collect();
        let steady = run(Schedule::default(), Some(600), &jitters, steady, Then::Up, PublishedKey::Current)?;
        let stepped = run(Schedule::default(), Some(600), &jitters, stepped, Then::Up, PublishedKey::Current)?;
        prop_assert_eq!(steady.attempts, stepped.attempts);
    }

    /// P4: no event panics, in any order and with any reading of the clocks.
    #[test]
    fn any_event_is_accepted_at_any_time(
        schedule in schedule(),
        events in proptest::collection::vec((0..13_u8, any::<u64>(), any::<u64>(), any::<f64>()), 1..80),
    ) {
        let mut refresher = Driver::new(schedule, Some(Duration::MAX), Now::default());
        for (what, boot, unix, jitter) in events {
            let now = Now { boot: BootTime::from_start(Duration::from_secs(boot)), unix: UnixTime::from_secs(unix) };
            let (jitter, length) = (Jitter::new(jitter), Duration::from_secs(unix.rotate_left(32)));
            let lifetime = Lifetime::starting(now.boot, length);
            let code = Code::ALL[usize::try_from(unix % Code::ALL.len() as u64).expect("small")];
            match what {
                0 => refresher.adopted(lifetime, now.unix, now, jitter),
                1 => refresher.replaced_by(lifetime, now.unix, now, jitter),
                2 => refresher.obtained(lifetime, now),
                3 => refresher.published(now, jitter),
                4 => {
                    let failure = Failure { retry_after: Some(length), ..Failure::new(code, "") };
                    let _ = refresher.failed(&failure, Fingerprint(boot), now, jitter);
                }
                5 => refresher.inputs_seen(Fingerprint(boot), now),
                6 => drop(refresher.subject_read(Fingerprint(boot), Some(now.unix), UnixTime::from_secs(boot), now)),
                7 => drop(refresher.refresh_requested(now)),
                8 => drop(refresher.output_changed(boot % 2 == 0, now)),
                9 => refresher.signing_key_gone(now, jitter),
                10 => refresher.key_check_done(now, jitter),
                11 => refresher.key_check_inconclusive(now, jitter),
                _ => refresher.suspend_key_check(),
            }
            let _ = (refresher.step(now, jitter), refresher.health(now));
        }
    }

    /// P2: a refresh leaves at least the refresh margin before the expiry.
    #[test]
    fn a_token_is_refreshed_at_least_the_refresh_margin_before_its_expiry(
        schedule in schedule(),
        length in prop_oneof![2_000..100_000_u64, 2_000..40_000_000_000_u64],
        jitter in 0.0..1.0_f64,
    ) {
        let length = Duration::from_millis(length);
        let after = schedule.refresh_after(length, Jitter::new(jitter));
        prop_assert!(after < length, "{after:?} of {length:?}");
        prop_assert!(after >= Duration::from_millis(850));
        if length >= Duration::from_secs(20) {
            prop_assert!(length - after >= schedule.refresh_margin(length));
        }
    }
}

/// Removes failures with `Retry-After`: it is obeyed, so P3 does not hold with it.
fn without_retry_after(mut events: Vec<Event>) -> Vec<Event> {
    events.retain(|event| !matches!(event, Event::Fail(_, Some(_))));
    events
}

/// Runs a refresher through these events, and through some waits after them.
fn run(
    schedule: Schedule,
    key_check: Option<u64>,
    jitters: &[f64],
    events: Vec<Event>,
    then: Then,
    published: PublishedKey,
) -> Result<World, TestCaseError> {
    let mut world = World::new(schedule, key_check, published);
    let mut jitter = jitters.iter().cycle().map(|unit| Jitter::new(*unit));
    let mut draw = move || jitter.next().expect("it is endless");
    let mut inputs = Fingerprint(0);
    let mut events = events.into_iter();
    let mut idle = 0;
    let mut at_once = 0;
    while idle < 40 {
        let now = world.now();
        if events.len() == 0 && world.over.is_none() {
            world.over = Some(now.boot);
        }
        let decision = world.refresher.step(now, draw());
        world.follow_clock_step();
        world.check(decision)?;
        if let (Then::Up, Some(over)) = (then, world.over) {
            check_recovery(&world, over, schedule)?;
        }
        let Decision::Wait(until) = decision else {
            at_once += 1;
            prop_assert!(at_once < 60, "sixty decisions without a wait, the last is {decision:?}");
            if matches!(decision, Decision::Exchange | Decision::CheckKeys) {
                world.attempts.push(world.boot.as_secs_f64());
            }
            world.undisturbed &= decision != Decision::Exchange;
            perform(&mut world, decision, &mut events, inputs, then, &mut draw);
            continue;
        };
        prop_assert!(until > now.boot, "a wait of zero");
        prop_assert!(now.boot.until(until) <= Duration::from_secs(30));
        at_once = 0;
        let event = events.next();
        let wait = now.boot.until(until);
        world.boot += match event {
            Some(Event::Early(thousandths)) => wait * thousandths / 1_000,
            _ => wait,
        };
        match event {
            Some(Event::Pause(seconds)) => {
                world.boot += Duration::from_secs(seconds);
                world.undisturbed = false;
            }
            Some(Event::ClockStep(seconds)) => world.unix += seconds,
            Some(Event::InputChange(number)) => {
                inputs = Fingerprint(number);
                world.refresher.inputs_seen(inputs, world.now());
            }
            Some(Event::Subject(seconds)) => {
                let now = world.now();
                let expires = now.unix.as_duration().as_secs().saturating_add_signed(seconds);
                let _ = world.refresher.subject_read(inputs, None, UnixTime::from_secs(expires), now);
            }
            Some(Event::OutputChange(by_valid_token)) => {
                if world.refresher.output_changed(by_valid_token, world.now()) {
                    world.pending = world.on_disk;
                }
            }
            Some(Event::LoseKeys) => {
                world.keys.0 += 1;
                if published == PublishedKey::Current {
                    // The event comes at any time, not only after a key check.
                    world.refresher.signing_key_gone(world.now(), draw());
                }
            }
            Some(Event::Signal) => {
                let now = world.now();
                let when = world.refresher.refresh_requested(now);
                prop_assert!(when >= now.boot && now.boot.until(when) <= Duration::from_secs(5));
            }
            Some(Event::Replace(length)) => {
                let now = world.now();
                let lifetime = Lifetime::starting(now.boot, Duration::from_millis(length));
                let wall_expiry = now.unix + Duration::from_millis(length);
                world.refresher.replaced_by(lifetime, wall_expiry, now, draw());
                world.written(lifetime);
                world.wall_expiry = Some(wall_expiry);
            }
            Some(Event::Issue(_) | Event::Fail(..) | Event::Early(_)) => {}
            None => idle += 1,
        }
    }
    // P5: five at once and then one each four seconds. A signal may bypass the limit once in 5 s.
    for (burst, seconds) in [(7, 4.0), (22, 60.0)] {
        for window in world.attempts.windows(burst) {
            prop_assert!(window[burst - 1] - window[0] >= seconds - 0.001, "{window:?}");
        }
    }
    Ok(world)
}

/// Checks P3. Since the instant `since`, Dex issues tokens and the output can be written.
fn check_recovery(world: &World, since: BootTime, schedule: Schedule) -> Result<(), TestCaseError> {
    let now = world.now();
    let remaining = world.on_disk.and_then(|token| token.remaining(now.boot));
    let without_token_since = world.on_disk.map_or(since, |token| since.max(token.expires));
    let limit = Duration::from_secs(world.max_delay());
    prop_assert!(
        remaining.is_some() || without_token_since.until(now.boot) <= limit,
        "no valid token for {:?} after {:?}",
        without_token_since.until(now.boot),
        world.failed
    );
    // While the token is valid, a longer interval is obeyed.
    let limit = Duration::from_secs(300).max(schedule.interval.unwrap_or_default());
    prop_assert!(
        world.refresher.health(now) != Health::Stale || since.until(now.boot) <= limit,
        "stale {:?} after Dex's return",
        since.until(now.boot)
    );
    Ok(())
}

/// Each history of four events out of fifteen.
#[test]
fn no_history_of_four_events_causes_a_panic_an_endless_loop_or_too_many_attempts() {
    let kinds = [
        Event::Issue(1_500),
        Event::Issue(3_600_000),
        Event::Issue(u64::MAX),
        Event::Fail(Code::ConnectRefused, None),
        Event::Fail(Code::RateLimited, Some(900)),
        Event::Fail(Code::InvalidClient, None),
        Event::Pause(4_000),
        Event::Early(0),
        Event::ClockStep(-400_000_000),
        Event::InputChange(1),
        Event::Subject(5),
        Event::OutputChange(false),
        Event::LoseKeys,
        Event::Signal,
        Event::Replace(60_000),
    ];
    let mut places = [0; 4];
    loop {
        let events = places.map(|place: usize| kinds[place].clone()).to_vec();
        let jitters = [0.0, 0.999, 0.5];
        let schedule = Schedule::default();
        let result = run(schedule, Some(600), &jitters, events.clone(), Then::Down, PublishedKey::Current);
        assert!(result.is_ok(), "{events:?}: {:?}", result.err());
        let Some(place) = places.iter().rposition(|place| place + 1 < kinds.len()) else { return };
        places[place] += 1;
        places[place + 1..].fill(0);
    }
}

/// Performs the decision. The next event is its outcome.
fn perform(
    world: &mut World,
    decision: Decision,
    events: &mut impl Iterator<Item = Event>,
    inputs: Fingerprint,
    then: Then,
    draw: &mut impl FnMut() -> Jitter,
) {
    let now = world.now();
    let event = match (events.next(), then) {
        (Some(event @ (Event::Issue(_) | Event::Fail(..))), _) => Some(event),
        (_, Then::Up) if decision == Decision::Exchange => Some(Event::Issue(3_600_000)),
        (event, _) => event,
    };
    match (decision, event) {
        (Decision::Exchange, Some(Event::Issue(length))) => {
            let lifetime = Lifetime::starting(now.boot, Duration::from_millis(length));
            world.refresher.obtained(lifetime, now);
            world.pending = Some(lifetime);
            world.keys.1 = world.keys.0;
            world.key_check.issued(Some(&world.keys.1.to_string()));
        }
        (Decision::Publish(_), Some(Event::Fail(..))) => {
            let failure = Failure::new(Code::OutputDiskFull, "");
            let _ = world.refresher.failed(&failure, inputs, now, draw());
            world.undisturbed = false;
        }
        (Decision::Publish(_), _) => {
            world.refresher.published(now, draw());
            if let Some(published) = world.pending.take().filter(|token| Some(*token) != world.on_disk) {
                world.written(published);
            }
        }
        (Decision::CheckKeys, Some(Event::OutputChange(_))) => world.refresher.suspend_key_check(),
        (Decision::CheckKeys, event) => {
            world.keys.0 += u32::from(matches!(event, Some(Event::LoseKeys)));
            world.check_keys(draw());
        }
        (Decision::Exchange, event) => {
            let (code, wait) = match event {
                // An exchange does not fail with a code of the step output.
                Some(Event::Fail(code, wait)) if code.entry().step != Step::Output => (code, wait),
                _ => (Code::ConnectRefused, None),
            };
            let failure = Failure { retry_after: wait.map(Duration::from_secs), ..Failure::new(code, "") };
            let _ = world.refresher.failed(&failure, inputs, now, draw());
            world.failed = Some((now.boot, code));
        }
        (Decision::Expire(_) | Decision::Wait(_), _) => {}
    }
}
