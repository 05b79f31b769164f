//! The refresher before and after it was cut into machines, side by side, with one token and one
//! output: every answer is the same.

#[expect(dead_code, reason = "the histories use the rest")]
mod pair;

use std::time::Duration;

use dexsidecar_core::failure::{Code, Failure, Step};
use dexsidecar_core::refresher::{Fingerprint, Lifetime};
use dexsidecar_core::refresher_before as before;
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::time::{BootTime, Jitter, Now, UnixTime};
use proptest::prelude::*;

use pair::Pair;

/// What comes next: a number of milliseconds passes before it.
#[derive(Clone, Debug)]
enum Next {
    /// Steps until the action is a wait, and passes this share of it.
    Steps(f64),
    /// The exchange in flight brings a token of this many milliseconds.
    Issue(u64),
    /// The exchange in flight fails.
    Fail(Code, Option<u64>),
    /// The write in flight ends.
    Write(bool),
    /// The key check in flight ends.
    Keys(u8),
    Inputs(u64),
    Subject(i64),
    Modified(bool),
    Replaced(u64),
    Adopted(u64),
    Signal,
    ClockStep(i64),
    Pass(u64),
    Discard,
}

fn next() -> impl Strategy<Value = Next> {
    let length = || prop_oneof![1..120_000_u64, 1_000..100_000_000_u64, Just(u64::MAX)];
    prop_oneof![
        12 => prop_oneof![Just(1.0), 0.0..1.2_f64].prop_map(Next::Steps),
        4 => length().prop_map(Next::Issue),
        4 => (0..Code::ALL.len(), proptest::option::of(0..1_000_u64))
            .prop_map(|(code, wait)| Next::Fail(Code::ALL[code], wait)),
        5 => prop_oneof![3 => Just(true), 1 => Just(false)].prop_map(Next::Write),
        2 => (0..4_u8).prop_map(Next::Keys),
        1 => (0..4_u64).prop_map(Next::Inputs),
        1 => (-1_000..10_000_i64).prop_map(Next::Subject),
        1 => any::<bool>().prop_map(Next::Modified),
        1 => length().prop_map(Next::Replaced),
        1 => length().prop_map(Next::Adopted),
        2 => Just(Next::Signal),
        1 => (-400_000_000..400_000_000_i64).prop_map(Next::ClockStep),
        2 => prop_oneof![0..10_000_u64, 0..4_000_000_u64].prop_map(Next::Pass),
        1 => Just(Next::Discard),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(4_000), ..ProptestConfig::default() })]

    /// Outcomes come late, in any order, or never.
    #[test]
    fn late_outcomes_in_any_order(
        before in proptest::option::of(prop_oneof![0..100_u64, 0..200_000_u64]),
        interval in proptest::option::of(prop_oneof![0..100_u64, 0..200_000_u64]),
        key_check in proptest::option::of(1..10_000_u64),
        jitters in proptest::collection::vec(0.0..1.0_f64, 1..8),
        all in proptest::collection::vec(next(), 1..150),
    ) {
        let schedule = Schedule { before: before.map(Duration::from_secs), interval: interval.map(Duration::from_secs) };
        let mut jitter = jitters.iter().cycle().map(|unit| Jitter::new(*unit));
        let mut draw = move || jitter.next().expect("it is endless");
        let (mut boot, mut stepped) = (Duration::from_secs(50_000), 0_i64);
        let at = |boot: Duration, stepped: i64| Now {
            boot: BootTime::from_start(boot),
            unix: UnixTime::from_secs(boot.as_secs().saturating_add(1_700_000_000).saturating_add_signed(stepped)),
        };
        let mut pair = Pair::new(schedule, key_check.map(Duration::from_secs), at(boot, stepped));
        let (mut exchanging, mut writing, mut checking) = (false, false, false);
        let mut inputs = Fingerprint(0);
        for each in all {
            let now = at(boot, stepped);
            match each {
                Next::Steps(share) => for _ in 0..60 {
                    match pair.step(now, draw()) {
                        before::Action::Exchange => exchanging = true,
                        before::Action::Publish => writing = true,
                        before::Action::CheckKeys => checking = true,
                        before::Action::Expire => {}
                        before::Action::Wait(until) => {
                            boot += now.boot.until(until).mul_f64(share);
                            break;
                        }
                    }
                },
                Next::Issue(length) if exchanging => {
                    exchanging = false;
                    pair.obtained(Lifetime::starting(now.boot, Duration::from_millis(length)), now);
                }
                Next::Fail(code, wait) if exchanging && code.entry().step != Step::Output => {
                    exchanging = false;
                    let failure = Failure { retry_after: wait.map(Duration::from_secs), ..Failure::new(code, "") };
                    pair.failed(&failure, inputs, now, draw());
                }
                Next::Write(true) if writing => {
                    writing = false;
                    pair.published(now, draw());
                }
                Next::Write(false) if writing => {
                    writing = false;
                    pair.failed(&Failure::new(Code::OutputDiskFull, ""), inputs, now, draw());
                }
                Next::Keys(found) if checking => {
                    checking = false;
                    match found {
                        0 => pair.key_check_done(now, draw()),
                        1 => pair.key_check_inconclusive(now, draw()),
                        2 => pair.suspend_key_check(),
                        _ => pair.signing_key_gone(now, draw()),
                    }
                }
                Next::Inputs(number) => {
                    inputs = Fingerprint(number);
                    pair.inputs_seen(inputs, now);
                }
                Next::Subject(seconds) => {
                    let expires = now.unix.as_duration().as_secs().saturating_add_signed(seconds);
                    let _ = pair.subject_read(inputs, None, UnixTime::from_secs(expires), now);
                }
                Next::Modified(by_valid_token) => drop(pair.output_changed(by_valid_token, now)),
                Next::Replaced(length) => {
                    let length = Duration::from_millis(length);
                    pair.replaced_by(Lifetime::starting(now.boot, length), now.unix + length, now, draw());
                }
                Next::Adopted(length) => {
                    let length = Duration::from_millis(length);
                    pair.adopted(Lifetime::starting(now.boot, length), now.unix + length, now, draw());
                }
                Next::Signal => drop(pair.refresh_requested(now)),
                Next::ClockStep(seconds) => stepped = stepped.saturating_add(seconds),
                Next::Pass(millis) => boot += Duration::from_millis(millis),
                Next::Discard => {
                    writing = false;
                    pair.discard(now);
                }
                _ => {}
            }
        }
    }
}
