//! Fleets of up to ten thousand processes and one Dex, in simulated time.
//!
//! The tests count the requests in each second, and check that no reader sees an expired token
//! while Dex is reachable often enough.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use dexsidecar_core::failure::{Code, Failure, RetryClass};
use dexsidecar_core::refresher::{Decision, Fingerprint, Lifetime};
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::time::{BootTime, Jitter, Now, UnixTime};

#[expect(dead_code, reason = "other tests use the rest")]
mod driver;
use driver::Driver;

const HOUR: u64 = 3_600;

/// A random number generator that is the same at each run: SplitMix64.
struct Random(u64);

impl Random {
    /// Uniformly distributed in `0.0..1.0`.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit into the mantissa")]
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

/// The requests of a fleet, and the time that its readers had no valid token.
struct Record {
    /// The requested exchanges, by second.
    requests: BTreeMap<u64, usize>,
    /// The key checks, by second.
    key_checks: BTreeMap<u64, usize>,
    /// The number of exchanges that brought a token.
    issued: u64,
    /// The milliseconds that all readers together saw an expired token, and the last such second.
    expired: (u64, u64),
}

impl Record {
    /// Readers have seen this token until now: records the time since its expiry.
    fn record_expired(&mut self, token: Option<Lifetime>, millis: u64) {
        if let Some(late) =
            token.map(|token| token.expires.until(now(millis).boot)).filter(|late| !late.is_zero())
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

/// Starts `size` processes within a minute and runs them for `seconds` with tokens of `length`
/// seconds. Dex is reachable in the seconds for which `is_reachable` is true. At the second
/// `keys_lost` it loses its signing keys.
fn fleet(
    size: usize,
    length: u64,
    seconds: u64,
    keys_lost: Option<u64>,
    is_reachable: impl Fn(u64) -> bool,
) -> Record {
    let key_check = Some(Duration::from_secs(600));
    let lost_at = keys_lost.map(|second| now(second * 1_000).boot);
    let mut random = Random(7);
    let mut record =
        Record { requests: BTreeMap::new(), key_checks: BTreeMap::new(), issued: 0, expired: (0, 0) };
    let mut queue = BinaryHeap::new();
    let mut all: Vec<(Option<Driver>, Option<Lifetime>)> = Vec::new();
    for process in 0..size {
        all.push((None, None));
        queue.push(Reverse((random.below(60_000), process)));
    }
    while let Some(Reverse((millis, process))) = queue.pop() {
        if millis >= seconds * 1_000 {
            break;
        }
        let at = now(millis);
        let (refresher, on_disk) = &mut all[process];
        let refresher = refresher.get_or_insert_with(|| Driver::new(Schedule::default(), key_check, at));
        loop {
            match refresher.step(at, random.jitter()) {
                Decision::Exchange => {
                    *record.requests.entry(millis / 1_000).or_default() += 1;
                    if is_reachable(millis / 1_000) {
                        record.issued += 1;
                        refresher.obtained(Lifetime::starting(at.boot, Duration::from_secs(length)), at);
                    } else {
                        let failure = Failure::new(Code::ConnectRefused, "");
                        let _ = refresher.failed(&failure, Fingerprint(0), at, random.jitter());
                    }
                }
                Decision::Publish(_) => {
                    refresher.published(at, random.jitter());
                    record.record_expired(on_disk.take(), millis);
                    *on_disk = refresher.on_disk();
                }
                Decision::CheckKeys => {
                    *record.key_checks.entry(millis / 1_000).or_default() += 1;
                    let old =
                        |token: &Lifetime| lost_at.is_some_and(|lost| token.issued < lost && lost <= at.boot);
                    if on_disk.as_ref().is_some_and(old) {
                        refresher.signing_key_gone(at, random.jitter());
                    } else {
                        refresher.key_check_done(at, random.jitter());
                    }
                }
                Decision::Expire(_) => {}
                Decision::Wait(until) => {
                    let wait = at.boot.until(until).as_millis().max(1);
                    queue.push(Reverse((millis + u64::try_from(wait).unwrap_or(u64::MAX), process)));
                    break;
                }
            }
        }
    }
    for (_, on_disk) in all {
        assert!(on_disk.is_some(), "each process has a token");
        record.record_expired(on_disk, seconds * 1_000);
    }
    record
}

/// Dex issues tokens of a day. Readers do not notice an outage of one hour.
#[test]
fn f021_f115_ten_thousand_processes_with_tokens_of_a_day_make_at_most_a_hundred_requests_a_second() {
    let (down, up) = (30 * HOUR, 31 * HOUR);
    let record = fleet(10_000, 24 * HOUR, 48 * HOUR, None, |second| !(down..up).contains(&second));
    assert_eq!(record.total(0..60), 10_000, "one request each at startup");
    let steady = record.peak(120..down).max(record.peak(up + HOUR..48 * HOUR));
    assert!(steady <= 10, "{steady} in the worst second");
    let outage = record.peak(down..up + HOUR);
    assert!(
        outage <= 100,
        "{outage} in the worst second of an outage and the hour after it: a hundredth of the fleet"
    );
    assert_eq!(record.expired.0, 0, "no reader saw an expired token");
    assert!(record.issued >= 30_000, "{} exchanges: three each in two days", record.issued);
    // A key check is a GET of a few kB, which costs Dex little. Each process makes one in ten
    // minutes.
    let key_checks =
        record.key_checks.range(HOUR..48 * HOUR).map(|(_, count)| *count).max().unwrap_or_default();
    assert!((18..=60).contains(&key_checks), "{key_checks} key checks in the worst second");
}

#[test]
fn f050_p13_ten_thousand_processes_replace_tokens_of_lost_keys_within_eleven_minutes_and_not_at_once() {
    let (lost, replaced) = (30 * HOUR, 30 * HOUR + 660);
    let record = fleet(10_000, 24 * HOUR, 31 * HOUR, Some(lost), |_| true);
    let peak = record.peak(lost..replaced);
    assert!(peak <= 100, "{peak} in the worst second: a hundredth of the fleet");
    assert!(record.total(lost..replaced) >= 10_000, "each process has another token");
    assert!(record.peak(replaced..31 * HOUR) <= 10, "no further exchanges");
}

/// The refresh margin of a token of one hour is half an hour, so tokens expire in an outage of one
/// hour. A new token within 30 s of Dex's return (P3) needs a thirtieth of the fleet in each
/// second, and not all at once.
#[test]
fn f021_f115_ten_thousand_processes_with_tokens_of_an_hour_have_one_within_thirty_seconds_of_an_outage() {
    let (down, up) = (4 * HOUR, 5 * HOUR);
    let record = fleet(10_000, HOUR, 7 * HOUR, None, |second| !(down..up).contains(&second));
    let steady = record.peak(120..down);
    assert!(steady <= 100, "{steady} in the worst second of a steady state: a hundredth of the fleet");
    let outage = record.peak(down..up + 60);
    assert!(outage <= 600, "{outage} in the worst second of an outage");
    assert!(
        (up..=up + 30).contains(&record.expired.1),
        "the last reader has a valid token at {}",
        record.expired.1
    );
    let after = record.peak(up + 60..7 * HOUR);
    assert!(after <= 100, "{after} in the worst second after it: refreshes do not coincide");
}

/// A year of outages of random lengths within the refresh margin. Between two outages Dex is
/// reachable for the maximum delay, so that each margin contains an attempt that succeeds.
#[test]
fn p2_no_reader_sees_an_expired_token_in_a_year_of_outages_within_the_refresh_margin() {
    const YEAR: u64 = 365 * 24 * HOUR;
    let schedule = Schedule::default();
    for (length, max_delay) in [(24 * HOUR, 300), (HOUR, 180), (600, 30)] {
        let margin = schedule.refresh_margin(Duration::from_secs(length)).as_secs();
        let mut random = Random(length);
        // The seconds at which Dex goes down and comes up in turn. At first it is up.
        let mut changes = vec![];
        let mut second = 0;
        while second < YEAR {
            second += max_delay;
            changes.push(second);
            second += 1 + random.below(margin - max_delay);
            changes.push(second);
        }
        let is_up = |second| changes.partition_point(|change| *change <= second) % 2 == 0;
        let record = fleet(3, length, YEAR, None, is_up);
        assert_eq!(record.expired.0, 0, "tokens of {length} s");
        // No refresh comes earlier than without outages, which is 0.85 of the time before the
        // margin, and none later than the expiry.
        let soonest = (length - margin) * 85 / 100;
        let exchanges = 3 * YEAR / length..=3 * YEAR / soonest + 3;
        assert!(exchanges.contains(&record.issued), "{} exchanges with {length} s", record.issued);
        // Over the year, each process makes at most one attempt in twenty seconds.
        let attempts = record.total(0..YEAR);
        assert!(attempts as u64 <= 3 * YEAR / 20, "{attempts} attempts with {length} s");
    }
}

#[test]
fn p5_a_year_without_failures_takes_two_exchanges_a_day() {
    let record = fleet(1, 24 * HOUR, 365 * 24 * HOUR, None, |_| true);
    assert!((560..=640).contains(&record.issued), "{} exchanges in a year", record.issued);
    assert_eq!((record.total(0..u64::MAX) as u64, record.expired.0), (record.issued, 0));
}

/// Local failures are retried more often: they send nothing to Dex.
#[test]
fn f114_any_failure_of_dex_or_the_network_is_retried_at_most_three_times_a_minute_without_end() {
    for code in Code::ALL.iter().filter(|code| code.entry().retry != RetryClass::Local) {
        let (mut random, mut millis, mut attempts) = (Random(3), 0, 0_u64);
        let mut refresher = Driver::new(Schedule::default(), None, now(0));
        while millis < 10 * HOUR * 1_000 {
            let at = now(millis);
            match refresher.step(at, random.jitter()) {
                Decision::Exchange => {
                    attempts += 1;
                    let _ = refresher.failed(&Failure::new(*code, ""), Fingerprint(0), at, random.jitter());
                }
                Decision::Wait(until) => {
                    millis += u64::try_from(at.boot.until(until).as_millis()).unwrap_or(u64::MAX).max(1);
                }
                decision => panic!("{decision:?} without a token"),
            }
        }
        assert!(attempts <= 10 * 60 * 3, "{code:?}: {attempts} attempts in ten hours");
        // No failure ends the attempts.
        assert!(attempts >= 10 * 60 / 5, "{code:?}: {attempts} attempts in ten hours");
    }
}
