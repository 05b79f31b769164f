//! The two clocks, as values. Nothing here reads one: whoever does hands the reading in.

use std::ops::{Add, Sub};
use std::time::Duration;

macro_rules! instant {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
        pub struct $name(Duration);

        impl $name {
            /// How long ago `earlier` was; zero when it lies ahead.
            #[must_use]
            pub const fn since(self, earlier: Self) -> Duration {
                self.0.saturating_sub(earlier.0)
            }

            /// How long it is until `later`; zero when it has passed.
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
    /// An instant on `CLOCK_BOOTTIME`: time since the machine started, suspension included, never stepped.
    ///
    /// Schedules and lifetimes are counted on it. Arithmetic saturates.
    BootTime
}

instant! {
    /// Wall-clock time: since 1970-01-01 UTC, as `exp` and `iat` of a token count it. It may be wrong or be stepped.
    UnixTime
}

impl BootTime {
    /// The instant that lies this long after the start of the machine.
    #[must_use]
    pub const fn from_start(since: Duration) -> Self {
        Self(since)
    }

    /// How long after the start of the machine.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }
}

impl UnixTime {
    /// The wall time that lies this long after 1970.
    #[must_use]
    pub const fn since_epoch(since: Duration) -> Self {
        Self(since)
    }

    /// The wall time of this many whole seconds since 1970, as a NumericDate of RFC 7519 has it.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// How long after 1970.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        self.0
    }
}

/// One reading of both clocks, taken together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    /// For intervals.
    pub boot: BootTime,
    /// For what a token says of itself.
    pub unix: UnixTime,
}

impl Now {
    /// Whether the wall clock was stepped since then: it moved more than five seconds more, or less, than the boot clock.
    #[must_use]
    pub fn is_stepped_since(self, earlier: Self) -> bool {
        let expected = earlier.unix + earlier.boot.until(self.boot);
        expected.until(self.unix).max(self.unix.until(expected)) > Duration::from_secs(5)
    }
}

/// Chance, drawn by the caller: uniformly distributed in `0.0..1.0`.
///
/// Anything outside, NaN included, is taken as the nearest value inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// No spreading at all.
    pub const NONE: Self = Self(0.0);

    /// The value drawn.
    #[must_use]
    pub const fn new(unit: f64) -> Self {
        // `max` of NaN and 0 is 0.
        Self(unit.max(0.0).min(1.0))
    }

    /// This share of `whole`.
    #[must_use]
    pub fn share_of(self, whole: Duration) -> Duration {
        // The longest duration there is, as a floating-point number, is longer than that.
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
    fn f092_a_step_is_five_seconds_more_than_the_other_clock_tells() {
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
        // Sleep is no step.
        assert!(!at(90_100, 91_000).is_stepped_since(at(100, 1_000)));
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
