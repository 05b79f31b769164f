//! The only file that reads the time, and the only one that waits for it.

use std::time::Duration;

use dexsidecar_core::time::{BootTime, Now, UnixTime};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Where the time comes from. A value, so that tests of the loop can hand in one that moves as they like.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's clocks.
    System,
    /// A clock that shows this at the given instant of tokio's, and moves with it: paused time in tests.
    #[cfg(test)]
    Paused(Now, tokio::time::Instant),
}

impl Clock {
    /// Both clocks, read now.
    #[must_use]
    pub fn now(&self) -> Now {
        match self {
            Self::System => Now {
                boot: BootTime::from_start(duration(clock_gettime(ClockId::Boottime))),
                unix: UnixTime::since_epoch(duration(clock_gettime(ClockId::Realtime))),
            },
            #[cfg(test)]
            Self::Paused(start, instant) => {
                let passed = instant.elapsed();
                Now { boot: start.boot + passed, unix: start.unix + passed }
            }
        }
    }

    /// Waits until then. The timer below stands still while the machine is suspended, so a caller that counts in
    /// hours waits in slices and looks at the clock in between.
    pub async fn sleep_until(&self, then: BootTime) {
        tokio::time::sleep(self.now().boot.until(then)).await;
    }
}

fn duration(time: Timespec) -> Duration {
    // Before 1970 there is nothing to be told from 1970.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
