//! When a refresh is due, how long to wait after a failure, and the bucket in front of the socket.
//!
//! The figures are explained in docs/how-it-works.md. A third of a token's life is kept as failure budget, half
//! of a short one; jitter only ever makes things earlier, in proportion to the interval, so that a fleet that
//! started together drifts apart (kubernetes #124646 shows what a fixed ten seconds do).

use std::time::Duration;

use crate::failure::{RetryClass, Step};
use crate::time::{BootTime, Jitter};

/// No token is kept longer than this without a look at what Dex says now (groups change upstream, F53).
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

/// The longest pause between two looks at the files.
pub const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// The same while something is about to happen: expiry is near, or a file is in trouble.
pub const SHORT_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The settings of the schedule.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Schedule {
    /// `dex_refresh_before`: how long before expiry; unset means a third of the life, one hour at least.
    pub before: Option<Duration>,
    /// `dex_refresh_interval`, if it was set: the longest delay between attempts while the token is valid, and
    /// between polls of the files. Without a valid token it does not count.
    pub interval: Option<Duration>,
}

impl Schedule {
    /// How long before its expiry a token of this length is refreshed at the latest: the failure budget.
    #[must_use]
    pub fn refresh_margin(&self, length: Duration) -> Duration {
        let early = self.before.unwrap_or_else(|| HOUR.max(length / 3));
        // Something must be left for the exchange itself, whatever was set.
        early.max(Duration::from_secs(10).min(length / 10)).min(length / 2)
    }

    /// How long after its issue a token of this length is refreshed.
    ///
    /// Before expiry for every length of two seconds or more; never sooner than 0.85 s.
    #[must_use]
    pub fn refresh_after(&self, length: Duration, jitter: Jitter) -> Duration {
        let floor = Duration::from_secs(10).min(length / 2).max(Duration::from_secs(1));
        let latest = (length - self.refresh_margin(length)).min(LONGEST).max(floor);
        latest - jitter.share_of(latest.mul_f64(0.15))
    }

    /// How long to wait after the `tries`th failure in a row (1 is the first). `left` is what remains of the
    /// token on disk, if it is still good.
    ///
    /// Equal jitter: between half of it and all of it, so that there always is a floor.
    #[must_use]
    pub fn retry_delay(
        &self,
        stage: Step,
        pace: RetryClass,
        tries: u32,
        left: Option<Duration>,
        jitter: Jitter,
    ) -> Duration {
        let (base, cap) = self.bounds(stage, pace, left);
        // Thirty doublings pass every cap.
        let grown = base.saturating_mul(1 << tries.saturating_sub(1).min(30));
        let whole = grown.min(cap);
        whole / 2 + jitter.share_of(whole / 2)
    }

    fn bounds(&self, stage: Step, pace: RetryClass, left: Option<Duration>) -> (Duration, Duration) {
        const fn secs(n: u64) -> Duration {
            Duration::from_secs(n)
        }
        let tenth = |floor: u64, left: Duration| (left / 10).clamp(secs(floor), secs(300));
        let (base, cap) = match (pace, left) {
            // Looking at a file costs nothing and disturbs nobody.
            (RetryClass::Local, _) if stage == Step::Output => return (secs(1), secs(30)),
            (RetryClass::Local, _) => return (Duration::from_millis(250), secs(5)),
            (RetryClass::Network, None) => return (secs(1), secs(30)),
            (RetryClass::Refused, None) => return (secs(1), secs(60)),
            (RetryClass::Config, None) => return (secs(1), secs(300)),
            (RetryClass::Network, Some(left)) => (secs(5), tenth(30, left)),
            (RetryClass::Refused, Some(left)) => (secs(10), tenth(60, left)),
            (RetryClass::Config, Some(_)) => (secs(30), secs(300)),
        };
        let cap = self.interval.map_or(cap, |interval| interval.max(secs(2)));
        (base.min(cap), cap)
    }

    /// The longest pause between two looks at the files: 1 s to 30 s.
    #[must_use]
    pub fn poll_interval(&self) -> Duration {
        self.interval.map_or(POLL_INTERVAL, |interval| interval.clamp(Duration::from_secs(1), POLL_INTERVAL))
    }
}

/// The token bucket in front of the socket: five at once, then one every four seconds, so twenty in any minute
/// at the most. Whatever else goes wrong, no path sends more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When the bucket will be full again (the "theoretical arrival time" of GCRA).
    full_at: BootTime,
}

impl Bucket {
    const REFILL: Duration = Duration::from_secs(4);
    const BURST: u32 = 5;

    /// Takes one token out, or says when there will be one.
    ///
    /// # Errors
    /// The instant from which a token is there.
    pub fn take(&mut self, now: BootTime) -> Result<(), BootTime> {
        let full_at = self.full_at.max(now);
        let ready = full_at - Self::REFILL * (Self::BURST - 1);
        if ready > now {
            return Err(ready);
        }
        self.full_at = full_at + Self::REFILL;
        Ok(())
    }

    /// Takes one that is not there yet: it is owed, and those that come after wait for it.
    pub fn overdraw(&mut self, now: BootTime) {
        self.full_at = self.full_at.max(now) + Self::REFILL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn window(schedule: Schedule, length: u64) -> (u64, u64) {
        let at = |jitter| schedule.refresh_after(secs(length), jitter).as_secs();
        (at(Jitter::new(1.0)), at(Jitter::NONE))
    }

    /// The table of docs/how-it-works.md: lifetime, earliest and latest refresh.
    #[test]
    fn f115_refreshes_within_the_documented_window() {
        let adaptive = Schedule::default();
        for (length, earliest, latest) in [
            (20, 8, 10),
            (60, 25, 30),
            (600, 255, 300),
            (3_600, 1_530, 1_800),
            (7_200, 3_060, 3_600),
            (43_200, 24_480, 28_800),
            (86_400, 48_960, 57_600),
            (604_800, 73_440, 86_400),
        ] {
            assert_eq!(window(adaptive, length), (earliest, latest), "{length} s");
        }
        let hour = Schedule { before: Some(secs(3_600)), interval: None };
        assert_eq!(window(hour, 60), (25, 30));
        assert_eq!(window(hour, 43_200), (33_660, 39_600));
        assert_eq!(window(hour, 86_400), (70_380, 82_800));
    }

    #[test]
    fn something_is_left_for_the_exchange_whatever_was_set() {
        let late = Schedule { before: Some(Duration::ZERO), interval: None };
        assert_eq!((late.refresh_margin(secs(50)), late.refresh_margin(secs(3_600))), (secs(5), secs(10)));
    }

    #[test]
    fn is_due_before_expiry_from_two_seconds_on() {
        for length in (2_000..200_000).step_by(37) {
            let length = Duration::from_millis(length);
            assert!(Schedule::default().refresh_after(length, Jitter::NONE) < length, "{length:?}");
            let late = Schedule { before: Some(Duration::ZERO), interval: None };
            assert!(late.refresh_after(length, Jitter::NONE) < length, "{length:?}");
        }
    }

    #[test]
    fn f117_failures_pace_as_documented() {
        let schedule = Schedule::default();
        let longest = |pace, left: Option<u64>| {
            let retry = |n| schedule.retry_delay(Step::Exchange, pace, n, left.map(secs), Jitter::new(1.0));
            (retry(1), retry(1_000))
        };
        assert_eq!(longest(RetryClass::Network, None), (secs(1), secs(30)));
        assert_eq!(longest(RetryClass::Refused, None), (secs(1), secs(60)));
        assert_eq!(longest(RetryClass::Config, None), (secs(1), secs(300)));
        assert_eq!(longest(RetryClass::Network, Some(100)), (secs(5), secs(30)));
        assert_eq!(longest(RetryClass::Network, Some(1_000)), (secs(5), secs(100)));
        assert_eq!(longest(RetryClass::Network, Some(9_000)), (secs(5), secs(300)));
        assert_eq!(longest(RetryClass::Refused, Some(100)), (secs(10), secs(60)));
        assert_eq!(longest(RetryClass::Config, Some(100)), (secs(30), secs(300)));
        assert_eq!(longest(RetryClass::Local, None), (Duration::from_millis(250), secs(5)));
        let output = |n| schedule.retry_delay(Step::Output, RetryClass::Local, n, None, Jitter::NONE);
        assert_eq!((output(1), output(50)), (Duration::from_millis(500), secs(15)));
    }

    #[test]
    fn an_interval_bounds_the_pauses_of_a_good_token() {
        let schedule = Schedule { before: None, interval: Some(secs(20)) };
        let retry =
            schedule.retry_delay(Step::Exchange, RetryClass::Config, 9, Some(secs(9_000)), Jitter::new(1.0));
        assert_eq!((retry, schedule.poll_interval()), (secs(20), secs(20)));
        let tiny = Schedule { before: None, interval: Some(Duration::from_nanos(1)) };
        assert_eq!(tiny.poll_interval(), secs(1));
    }

    /// P3: nobody waits longer for a token because an interval was set for quieter times.
    #[test]
    fn f145_an_interval_changes_no_delay_while_there_is_no_valid_token() {
        for pace in [RetryClass::Network, RetryClass::Refused, RetryClass::Config] {
            let longest = |interval: Option<u64>| {
                let schedule = Schedule { before: None, interval: interval.map(secs) };
                schedule.retry_delay(Step::Exchange, pace, 1_000, None, Jitter::new(1.0))
            };
            for interval in [0, 20, 3_600, u64::MAX] {
                assert_eq!(longest(Some(interval)), longest(None), "{pace:?} {interval}");
            }
        }
    }

    #[test]
    fn f114_the_bucket_lets_twenty_a_minute_through() {
        let mut bucket = Bucket::default();
        let start = BootTime::from_start(secs(1_000));
        let passed: Vec<u64> = (0..600_u64)
            .filter(|tenth| bucket.take(start + Duration::from_millis(tenth * 100)).is_ok())
            .collect();
        assert_eq!(passed.len(), 19, "{passed:?}");
        assert_eq!(passed[..5], [0, 1, 2, 3, 4]);
        assert_eq!(bucket.take(start + secs(60)), Ok(()));
        assert_eq!(bucket.take(start + secs(60)), Err(start + secs(64)));
        bucket.overdraw(start + secs(60));
        assert_eq!(bucket.take(start + secs(64)), Err(start + secs(68)));
    }
}
