//! The refresh schedule, the delays after failures, and the rate limit of requests.
//!
//! docs/how-it-works.md explains the figures. The refresh margin is a third of a token's lifetime:
//! at least one hour, at most half of the lifetime. Jitter only makes a refresh earlier, in
//! proportion to the interval, so that processes that started together drift apart. With a fixed
//! jitter of ten seconds they do not (kubernetes/kubernetes#124646).

use std::time::Duration;

use crate::failure::{RetryClass, Step};
use crate::time::{BootTime, Jitter};

/// The longest time from the issue of a token to its refresh. Groups change in the identity
/// provider, and with this limit a new token has the current ones at least once a day (F53).
const MAX_REFRESH_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The shortest refresh margin, unless half of the lifetime is shorter. It applies to tokens of up
/// to three hours: an outage of Dex of one hour goes unnoticed with tokens of two hours or more.
const MIN_MARGIN: Duration = Duration::from_secs(3600);

/// The part of an interval that jitter takes away at most. A fleet's refreshes of 24 h tokens
/// spread over 2.4 h with it, and the peak stays below a hundredth of the fleet in a second
/// (tests/fleet.rs).
pub(crate) const MAX_JITTER: f64 = 0.15;

/// The longest time between two polls of the files: two wake-ups a minute.
pub const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// The longest time between two polls while the expiry is near or an attempt has failed. It is the
/// time within which a repaired input is noticed.
pub const SHORT_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The settings of the schedule.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Schedule {
    /// `dex_refresh_before`: the refresh margin. `None` means a third of the lifetime and at least
    /// one hour.
    pub before: Option<Duration>,
    /// `dex_refresh_interval`: the maximum delay between attempts while the token is valid, and the
    /// time between two polls of the files. Without a valid token it has no effect on delays.
    pub interval: Option<Duration>,
}

impl Schedule {
    /// The refresh margin: how long before its expiry a token of this length is refreshed at the
    /// latest.
    #[must_use]
    pub fn refresh_margin(&self, length: Duration) -> Duration {
        let margin = self.before.unwrap_or_else(|| MIN_MARGIN.max(length / 3));
        // An exchange takes time, so a setting of zero still leaves ten seconds or a tenth.
        margin.max(Duration::from_secs(10).min(length / 10)).min(length / 2)
    }

    /// The time from the issue of a token of this length to its refresh.
    ///
    /// It ends before the expiry for every length of at least two seconds, and is at least 0.85 s.
    #[must_use]
    pub fn refresh_after(&self, length: Duration, jitter: Jitter) -> Duration {
        let floor = Duration::from_secs(10).min(length / 2).max(Duration::from_secs(1));
        let latest = (length - self.refresh_margin(length)).min(MAX_REFRESH_AFTER).max(floor);
        latest - jitter.share_of(latest.mul_f64(MAX_JITTER))
    }

    /// The delay after a failed attempt. `attempts` is the number of failed attempts in a row, from
    /// 1. `remaining` is the remaining validity of the token on disk, `None` without a valid token.
    ///
    /// The delay doubles from the initial to the maximum delay of the retry class. Jitter takes
    /// away at most half of it ("equal jitter"), so that a delay never becomes zero.
    #[must_use]
    pub fn retry_delay(
        &self,
        step: Step,
        class: RetryClass,
        attempts: u32,
        remaining: Option<Duration>,
        jitter: Jitter,
    ) -> Duration {
        let (initial, maximum) = self.delay_bounds(step, class, remaining);
        // Thirty doublings of 250 ms exceed every maximum.
        let grown = initial.saturating_mul(1 << attempts.saturating_sub(1).min(30));
        let delay = grown.min(maximum);
        delay / 2 + jitter.share_of(delay / 2)
    }

    /// The initial and the maximum delay. The table in docs/how-it-works.md has the same figures.
    fn delay_bounds(
        &self,
        step: Step,
        class: RetryClass,
        remaining: Option<Duration>,
    ) -> (Duration, Duration) {
        const fn secs(n: u64) -> Duration {
            Duration::from_secs(n)
        }
        let tenth = |floor: u64, remaining: Duration| (remaining / 10).clamp(secs(floor), secs(300));
        let (initial, maximum) = match (class, remaining) {
            // A local file costs no request, so these delays are short and ignore the interval.
            (RetryClass::Local, _) if step == Step::Output => return (secs(1), secs(30)),
            (RetryClass::Local, _) => return (Duration::from_millis(250), secs(5)),
            (RetryClass::Network, None) => return (secs(1), secs(30)),
            (RetryClass::Refused, None) => return (secs(1), secs(60)),
            (RetryClass::Config, None) => return (secs(1), secs(300)),
            (RetryClass::Network, Some(remaining)) => (secs(5), tenth(30, remaining)),
            (RetryClass::Refused, Some(remaining)) => (secs(10), tenth(60, remaining)),
            (RetryClass::Config, Some(_)) => (secs(30), secs(300)),
        };
        let maximum = self.interval.map_or(maximum, |interval| interval.max(secs(2)));
        (initial.min(maximum), maximum)
    }

    /// The longest time between two polls of the files: the interval, from 1 s to 30 s.
    #[must_use]
    pub fn poll_interval(&self) -> Duration {
        self.interval.map_or(POLL_INTERVAL, |interval| interval.clamp(Duration::from_secs(1), POLL_INTERVAL))
    }
}

/// The token bucket that limits attempts: five at once, then one each four seconds. That is at most
/// twenty in any minute (P5). Each attempt takes a token first; only a refresh that a signal
/// requests may overdraw the bucket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// The instant at which the bucket is full again: the "theoretical arrival time" of the generic
    /// cell rate algorithm (ITU-T I.371).
    full_at: BootTime,
}

impl Bucket {
    /// The time in which one token comes back.
    const REFILL: Duration = Duration::from_secs(4);
    /// The tokens in a full bucket.
    const BURST: u32 = 5;

    /// Takes a token.
    ///
    /// # Errors
    /// The bucket is empty: the instant at which the next token comes back.
    pub fn take(&mut self, now: BootTime) -> Result<(), BootTime> {
        let full_at = self.full_at.max(now);
        let ready = full_at - Self::REFILL * (Self::BURST - 1);
        if ready > now {
            return Err(ready);
        }
        self.full_at = full_at + Self::REFILL;
        Ok(())
    }

    /// Takes a token from an empty bucket. Later requests wait longer to compensate.
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

    /// The table of docs/how-it-works.md: lifetime, earliest and latest refresh, in seconds.
    #[test]
    fn f115_a_token_is_refreshed_within_the_documented_window() {
        let default = Schedule::default();
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
            assert_eq!(window(default, length), (earliest, latest), "{length} s");
        }
        let hour = Schedule { before: Some(secs(3_600)), interval: None };
        assert_eq!(window(hour, 60), (25, 30));
        assert_eq!(window(hour, 43_200), (33_660, 39_600));
        assert_eq!(window(hour, 86_400), (70_380, 82_800));
    }

    #[test]
    fn a_refresh_before_of_zero_still_leaves_time_for_an_exchange() {
        let late = Schedule { before: Some(Duration::ZERO), interval: None };
        assert_eq!((late.refresh_margin(secs(50)), late.refresh_margin(secs(3_600))), (secs(5), secs(10)));
    }

    #[test]
    fn a_token_of_two_seconds_or_more_is_refreshed_before_its_expiry() {
        for length in (2_000..200_000).step_by(37) {
            let length = Duration::from_millis(length);
            assert!(Schedule::default().refresh_after(length, Jitter::NONE) < length, "{length:?}");
            let late = Schedule { before: Some(Duration::ZERO), interval: None };
            assert!(late.refresh_after(length, Jitter::NONE) < length, "{length:?}");
        }
    }

    #[test]
    fn f117_each_retry_class_has_the_documented_delays() {
        let schedule = Schedule::default();
        let bounds = |class, remaining: Option<u64>| {
            let retry =
                |n| schedule.retry_delay(Step::Exchange, class, n, remaining.map(secs), Jitter::new(1.0));
            (retry(1), retry(1_000))
        };
        assert_eq!(bounds(RetryClass::Network, None), (secs(1), secs(30)));
        assert_eq!(bounds(RetryClass::Refused, None), (secs(1), secs(60)));
        assert_eq!(bounds(RetryClass::Config, None), (secs(1), secs(300)));
        assert_eq!(bounds(RetryClass::Network, Some(100)), (secs(5), secs(30)));
        assert_eq!(bounds(RetryClass::Network, Some(1_000)), (secs(5), secs(100)));
        assert_eq!(bounds(RetryClass::Network, Some(9_000)), (secs(5), secs(300)));
        assert_eq!(bounds(RetryClass::Refused, Some(100)), (secs(10), secs(60)));
        assert_eq!(bounds(RetryClass::Config, Some(100)), (secs(30), secs(300)));
        assert_eq!(bounds(RetryClass::Local, None), (Duration::from_millis(250), secs(5)));
        let output = |n| schedule.retry_delay(Step::Output, RetryClass::Local, n, None, Jitter::NONE);
        assert_eq!((output(1), output(50)), (Duration::from_millis(500), secs(15)));
    }

    #[test]
    fn an_interval_limits_the_delays_while_the_token_is_valid() {
        let schedule = Schedule { before: None, interval: Some(secs(20)) };
        let retry =
            schedule.retry_delay(Step::Exchange, RetryClass::Config, 9, Some(secs(9_000)), Jitter::new(1.0));
        assert_eq!((retry, schedule.poll_interval()), (secs(20), secs(20)));
        let tiny = Schedule { before: None, interval: Some(Duration::from_nanos(1)) };
        assert_eq!(tiny.poll_interval(), secs(1));
    }

    /// P3: an interval is meant for the time with a valid token. It delays no first token.
    #[test]
    fn f145_an_interval_changes_no_delay_while_there_is_no_valid_token() {
        for class in [RetryClass::Network, RetryClass::Refused, RetryClass::Config] {
            let longest = |interval: Option<u64>| {
                let schedule = Schedule { before: None, interval: interval.map(secs) };
                schedule.retry_delay(Step::Exchange, class, 1_000, None, Jitter::new(1.0))
            };
            for interval in [0, 20, 3_600, u64::MAX] {
                assert_eq!(longest(Some(interval)), longest(None), "{class:?} {interval}");
            }
        }
    }

    #[test]
    fn f114_the_bucket_passes_at_most_twenty_requests_a_minute() {
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
