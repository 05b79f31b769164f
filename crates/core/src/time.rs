//! Instants of the two clocks, and jitter, as values.
//!
//! Nothing here reads a clock. The caller reads both clocks and passes a [`Now`].

use std::ops::{Add, Sub};
use std::time::Duration;

macro_rules! instant {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
        pub struct $name(Duration);

        impl $name {
            /// The time from `earlier` to this instant; zero if `earlier` is later.
            #[must_use]
            pub const fn since(self, earlier: Self) -> Duration {
                self.0.saturating_sub(earlier.0)
            }

            /// The time from this instant to `later`; zero if `later` has passed.
            #[must_use]
            pub const fn until(self, later: Self) -> Duration {
                later.since(self)
            }
        }

        impl Add<Duration> for $name {
            type Output = Self;
            fn add(self, rhs: Duration) -> Self {
                Self(self.0.saturating_add(rhs))
            }
        }

        impl Sub<Duration> for $name {
            type Output = Self;
            fn sub(self, rhs: Duration) -> Self {
                Self(self.0.saturating_sub(rhs))
            }
        }
    };
}

instant! {
    /// An instant of `CLOCK_BOOTTIME`: the time since the machine started, including suspension.
    /// This clock is never stepped.
    ///
    /// Schedules and lifetimes use it. Arithmetic saturates.
    BootTime
}

instant! {
    /// An instant of the wall clock: the time since 1970-01-01T00:00:00Z, as in `exp` and `iat` of
    /// a token. This clock may be wrong and may be stepped. Arithmetic saturates.
    UnixTime
}

impl BootTime {
    /// The instant this long after the start of the machine.
    #[must_use]
    pub const fn from_start(since: Duration) -> Self {
        Self(since)
    }

    /// The time from the start of the machine to this instant.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }
}

impl UnixTime {
    /// The instant this long after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn since_epoch(since: Duration) -> Self {
        Self(since)
    }

    /// The instant of a NumericDate in whole seconds (RFC 7519 §2).
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// The time from 1970-01-01T00:00:00Z to this instant.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

/// A reading of both clocks, taken at the same moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    /// The boot clock, for intervals and lifetimes.
    pub boot: BootTime,
    /// The wall clock, for the times in a token.
    pub unix: UnixTime,
}

impl Now {
    /// The wall-clock time at an instant of the boot clock, by what the wall clock shows now.
    #[must_use]
    pub fn unix_at(self, instant: BootTime) -> UnixTime {
        // One of the two spans is zero.
        self.unix + self.boot.until(instant) - self.boot.since(instant)
    }

    /// True if the wall clock was stepped since `earlier`: it moved by over five seconds more or
    /// less than the boot clock. Slewing changes the wall clock by at most 500 ppm (adjtimex(2)),
    /// which is 15 ms in the 30 s between two polls.
    #[must_use]
    pub fn is_stepped_since(self, earlier: Self) -> bool {
        let expected = earlier.unix + earlier.boot.until(self.boot);
        expected.until(self.unix).max(self.unix.until(expected)) > Duration::from_secs(5)
    }
}

/// A random number, uniformly distributed in `0.0..1.0`. The caller draws it.
///
/// A value outside is replaced by the nearest end of the range, and NaN by zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// Zero: nothing is spread.
    pub const NONE: Self = Self(0.0);

    /// Jitter of the number that was drawn.
    #[must_use]
    pub const fn new(unit: f64) -> Self {
        // `max` of NaN and 0 is 0.
        Self(unit.max(0.0).min(1.0))
    }

    /// `whole` times the number that was drawn.
    #[must_use]
    pub fn share_of(self, whole: Duration) -> Duration {
        // `Duration::MAX` as a floating-point number is rounded up and does not convert back.
        Duration::try_from_secs_f64(whole.as_secs_f64() * self.0).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f098_arithmetic_saturates() {
        let end = BootTime::from_start(Duration::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(BootTime::default() - Duration::from_secs(1), BootTime::default());
        assert_eq!(BootTime::default().since(end), Duration::ZERO);
    }

    #[test]
    fn f092_a_step_is_a_difference_of_more_than_five_seconds_between_the_clocks() {
        let at = |boot: u64, unix: u64| Now {
            boot: BootTime::from_start(Duration::from_secs(boot)),
            unix: UnixTime::from_secs(unix),
        };
        for (boot, unix, stepped) in [
            (130, 1_030, false),
            (130, 1_035, false),
            (130, 1_036, true),
            (130, 1_025, false),
            (130, 1_024, true),
        ] {
            assert_eq!(at(boot, unix).is_stepped_since(at(100, 1_000)), stepped, "{boot} {unix}");
        }
        // Both clocks count suspension, so it is not a step.
        assert!(!at(90_100, 91_000).is_stepped_since(at(100, 1_000)));
    }

    #[test]
    fn an_instant_of_the_boot_clock_has_a_wall_clock_time() {
        let boot = |secs| BootTime::from_start(Duration::from_secs(secs));
        let now = Now { boot: boot(100), unix: UnixTime::from_secs(1_000) };
        for (instant, unix) in [(100, 1_000), (130, 1_030), (40, 940)] {
            assert_eq!(now.unix_at(boot(instant)), UnixTime::from_secs(unix));
        }
    }

    #[test]
    fn jitter_stays_within_its_range() {
        let hour = Duration::from_secs(3600);
        assert_eq!(Jitter::new(f64::NAN).share_of(hour), Duration::ZERO);
        assert_eq!(Jitter::new(-1.0).share_of(hour), Duration::ZERO);
        assert_eq!(Jitter::new(7.0).share_of(hour), hour);
        assert_eq!(Jitter::new(0.5).share_of(hour), hour / 2);
        assert_eq!(Jitter::new(1.0).share_of(Duration::MAX), Duration::MAX);
    }
}
