//! Ten thousand cores and one Dex, in simulated time: how many requests come in a second, and whether any reader sees an
//! expired token while Dex could be reached.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use dexsidecar_core::failure::{Code, Failure, RetryClass};
use dexsidecar_core::refresher::{Action, Fingerprint, Lifetime, Refresher};
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::time::{BootTime, Jitter, Now, UnixTime};

const HOUR: u64 = 3_600;

/// Chance that is the same at each run: SplitMix64.
struct Chance(u64);

impl Chance {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[expect(clippy::cast_precision_loss, reason = "chance needs no more")]
        let unit = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        unit
    }

    fn jitter(&mut self) -> Jitter {
        Jitter::new(self.unit())
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small"
    )]
    fn below(&mut self, limit: u64) -> u64 {
        (self.unit() * limit as f64) as u64
    }
}

/// What a fleet did.
struct Seen {
    /// Exchanges that were asked for, by second.
    requests: BTreeMap<u64, usize>,
    /// Looks at the published keys, by second.
    looks: BTreeMap<u64, usize>,
    /// How many of them brought a token.
    issued: u64,
    /// Milliseconds that readers spent with an expired token, all together, and the second of the last one.
    expired: (u64, u64),
}

impl Seen {
    /// Until now a reader saw this token: was it good all the time?
    fn gone_without(&mut self, held: Option<Lifetime>, millis: u64) {
        if let Some(late) =
            held.map(|held| held.expires.until(now(millis).boot)).filter(|late| !late.is_zero())
        {
            self.expired.0 += u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
            self.expired.1 = millis / 1_000;
        }
    }

    fn peak(&self, seconds: std::ops::Range<u64>) -> usize {
        self.requests.range(seconds).map(|(_, count)| *count).max().unwrap_or_default()
    }

    fn total(&self, seconds: std::ops::Range<u64>) -> usize {
        self.requests.range(seconds).map(|(_, count)| *count).sum()
    }
}

fn now(millis: u64) -> Now {
    let since = Duration::from_millis(millis);
    Now {
        boot: BootTime::from_start(Duration::from_secs(1_000) + since),
        unix: UnixTime::since_epoch(Duration::from_secs(1_700_000_000) + since),
    }
}

/// Lets so many cores start within a minute and run for so many seconds with tokens of this length, while Dex is there or not;
/// at one second it may lose its keys.
fn fleet(
    cores: usize,
    length: u64,
    seconds: u64,
    keys_lost: Option<u64>,
    is_there: impl Fn(u64) -> bool,
) -> Seen {
    let key_check = Some(Duration::from_secs(600));
    let lost_at = keys_lost.map(|second| now(second * 1_000).boot);
    let mut chance = Chance(7);
    let mut seen = Seen { requests: BTreeMap::new(), looks: BTreeMap::new(), issued: 0, expired: (0, 0) };
    let mut queue = BinaryHeap::new();
    let mut all: Vec<(Option<Refresher>, Option<Lifetime>)> = Vec::new();
    for core in 0..cores {
        all.push((None, None));
        queue.push(Reverse((chance.below(60_000), core)));
    }
    while let Some(Reverse((millis, core))) = queue.pop() {
        if millis >= seconds * 1_000 {
            break;
        }
        let at = now(millis);
        let (refresher, held) = &mut all[core];
        let refresher = refresher.get_or_insert_with(|| Refresher::new(Schedule::default(), key_check, at));
        loop {
            match refresher.step(at, chance.jitter()) {
                Action::Exchange => {
                    *seen.requests.entry(millis / 1_000).or_default() += 1;
                    if is_there(millis / 1_000) {
                        seen.issued += 1;
                        refresher.obtained(Lifetime::starting(at.boot, Duration::from_secs(length)), at);
                    } else {
                        let failure = Failure::new(Code::ConnectRefused, "");
                        let _ = refresher.failed(&failure, Fingerprint(0), at, chance.jitter());
                    }
                }
                Action::Publish => {
                    refresher.published(at, chance.jitter());
                    seen.gone_without(held.take(), millis);
                    *held = refresher.on_disk();
                }
                Action::CheckKeys => {
                    *seen.looks.entry(millis / 1_000).or_default() += 1;
                    let old =
                        |token: &Lifetime| lost_at.is_some_and(|lost| token.issued < lost && lost <= at.boot);
                    if held.as_ref().is_some_and(old) {
                        refresher.signing_key_gone(at, chance.jitter());
                    } else {
                        refresher.key_check_done(at, chance.jitter());
                    }
                }
                Action::Expire => {}
                Action::Wait(until) => {
                    let pause = at.boot.until(until).as_millis().max(1);
                    queue.push(Reverse((millis + u64::try_from(pause).unwrap_or(u64::MAX), core)));
                    break;
                }
            }
        }
    }
    for (_, held) in all {
        assert!(held.is_some(), "each has a token");
        seen.gone_without(held, seconds * 1_000);
    }
    seen
}

/// Tokens of a day, as Dex issues them: an hour's absence is nothing that anybody notices.
#[test]
fn f021_f115_ten_thousand_with_tokens_of_a_day_are_no_load() {
    let (away, back) = (30 * HOUR, 31 * HOUR);
    let seen = fleet(10_000, 24 * HOUR, 48 * HOUR, None, |second| !(away..back).contains(&second));
    assert_eq!(seen.total(0..60), 10_000, "the start: one each");
    let steady = seen.peak(120..away).max(seen.peak(back + HOUR..48 * HOUR));
    assert!(steady <= 10, "{steady} in the worst second");
    let absence = seen.peak(away..back + HOUR);
    assert!(
        absence <= 100,
        "{absence} in the worst second of an absence and after it: one in a hundred of the fleet"
    );
    assert_eq!(seen.expired.0, 0, "no reader saw an expired token");
    assert!(seen.issued >= 30_000, "{} exchanges: three each in two days", seen.issued);
    // The key check is a GET of a few kB that Dex answers without any work: each ten minutes from each.
    let looks = seen.looks.range(HOUR..48 * HOUR).map(|(_, count)| *count).max().unwrap_or_default();
    assert!((18..=60).contains(&looks), "{looks} looks at the keys in the worst second");
}

/// A Dex that lost its keys is found out by each in its own time, and not by all at once.
#[test]
fn f050_p13_ten_thousand_find_lost_keys_within_eleven_minutes_and_not_at_once() {
    let (lost, healed) = (30 * HOUR, 30 * HOUR + 660);
    let seen = fleet(10_000, 24 * HOUR, 31 * HOUR, Some(lost), |_| true);
    let peak = seen.peak(lost..healed);
    assert!(peak <= 100, "{peak} in the worst second: one in a hundred of the fleet");
    assert!(seen.total(lost..healed) >= 10_000, "each has exchanged anew");
    assert!(seen.peak(healed..31 * HOUR) <= 10, "and that was that");
}

/// Tokens of an hour, with half of it as reserve: they run out in an hour's absence. That a new one is there within thirty
/// seconds of Dex's return (P3) means that the fleet asks that often: a thirtieth of it each second, and not in step.
#[test]
fn f021_f115_ten_thousand_with_tokens_of_an_hour_are_back_within_half_a_minute_and_not_at_once() {
    let (away, back) = (4 * HOUR, 5 * HOUR);
    let seen = fleet(10_000, HOUR, 7 * HOUR, None, |second| !(away..back).contains(&second));
    let steady = seen.peak(120..away);
    assert!(steady <= 100, "{steady} in the worst second of a steady state: one in a hundred of the fleet");
    let absence = seen.peak(away..back + 60);
    assert!(absence <= 600, "{absence} in the worst second of an absence");
    assert!(
        (back..=back + 30).contains(&seen.expired.1),
        "the last reader has a good token at {}",
        seen.expired.1
    );
    let after = seen.peak(back + 60..7 * HOUR);
    assert!(after <= 100, "{after} in the worst second after it: it does not come back in step");
}

/// A year of outages of every length that the reserve allows, drawn anew each time, with no more between them than the longest
/// pause between two tries: Dex can be reached once in each reserve, and no reader notices anything.
#[test]
fn p2_a_year_of_outages_within_the_budget_is_never_seen_by_a_reader() {
    const YEAR: u64 = 365 * 24 * HOUR;
    let schedule = Schedule::default();
    for (length, longest_pause) in [(24 * HOUR, 300), (HOUR, 180), (600, 30)] {
        let reserve = schedule.refresh_margin(Duration::from_secs(length)).as_secs();
        let mut chance = Chance(length);
        // The seconds at which it comes and goes, in turn; it is there at first.
        let mut turns = vec![];
        let mut second = 0;
        while second < YEAR {
            second += longest_pause;
            turns.push(second);
            second += 1 + chance.below(reserve - longest_pause);
            turns.push(second);
        }
        let seen =
            fleet(3, length, YEAR, None, |second| turns.partition_point(|turn| *turn <= second) % 2 == 0);
        assert_eq!(seen.expired.0, 0, "tokens of {length} s");
        // Refreshed no earlier than it would be in calm, 0.85 of what is before the reserve, and no later than its end.
        let soonest = (length - reserve) * 85 / 100;
        let exchanges = 3 * YEAR / length..=3 * YEAR / soonest + 3;
        assert!(exchanges.contains(&seen.issued), "{} exchanges with {length} s", seen.issued);
        // And in the long outages it did not hammer: one try in twenty seconds at most, all in all.
        let tries = seen.total(0..YEAR);
        assert!(tries as u64 <= 3 * YEAR / 20, "{tries} tries with {length} s");
    }
}

/// A year of calm costs two exchanges a day.
#[test]
fn p5_a_year_of_calm_costs_two_exchanges_a_day() {
    let seen = fleet(1, 24 * HOUR, 365 * 24 * HOUR, None, |_| true);
    assert!((560..=640).contains(&seen.issued), "{} exchanges in a year", seen.issued);
    assert_eq!((seen.total(0..u64::MAX) as u64, seen.expired.0), (seen.issued, 0));
}

/// Whatever Dex or the network says, and for however long: three tries a minute. (What goes wrong on this side of the socket
/// is tried more often, and costs Dex nothing.)
#[test]
fn f114_no_failure_is_worth_more_than_three_tries_a_minute() {
    for code in Code::ALL.iter().filter(|code| code.entry().retry != RetryClass::Local) {
        let (mut chance, mut millis, mut tries) = (Chance(3), 0, 0_u64);
        let mut refresher = Refresher::new(Schedule::default(), None, now(0));
        while millis < 10 * HOUR * 1_000 {
            let at = now(millis);
            match refresher.step(at, chance.jitter()) {
                Action::Exchange => {
                    tries += 1;
                    let _ = refresher.failed(&Failure::new(*code, ""), Fingerprint(0), at, chance.jitter());
                }
                Action::Wait(until) => {
                    millis += u64::try_from(at.boot.until(until).as_millis()).unwrap_or(u64::MAX).max(1);
                }
                step => panic!("{step:?} and no token"),
            }
        }
        assert!(tries <= 10 * 60 * 3, "{code:?}: {tries} tries in ten hours");
        // Nor is any given up.
        assert!(tries >= 10 * 60 / 5, "{code:?}: {tries} tries in ten hours");
    }
}
