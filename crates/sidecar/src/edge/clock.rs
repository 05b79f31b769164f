//! The only file that reads the time, and the only one that waits for it.

use std::io;
use std::time::Duration;

use dexsidecar_core::time::{BootTime, Now, UnixTime};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

#[cfg(test)]
thread_local! {
    /// By how much the wall clock of this thread's test was stepped.
    pub static STEPPED: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

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
                Now { boot: start.boot + passed, unix: start.unix + passed + STEPPED.get() }
            }
        }
    }

    /// Waits until then, by the boot clock: a suspended machine does not make it longer.
    ///
    /// A timer of the kernel's own, since tokio's wheel wakes the process twice more on the way to half a minute. Where
    /// there is none to be had, tokio's; it stands still during a suspension, so a caller that counts in hours waits in
    /// slices and looks at the clock in between.
    pub async fn sleep_until(&self, then: BootTime) {
        let left = self.now().boot.until(then);
        let waited = match self {
            _ if left.is_zero() => return tokio::task::yield_now().await,
            Self::System => kernel_timer(then).await,
            #[cfg(test)]
            Self::Paused(..) => Err(io::ErrorKind::Unsupported.into()),
        };
        if waited.is_err() {
            tokio::time::sleep(left).await;
        }
    }
}

#[expect(
    deprecated,
    reason = "sound for an OwnedFd, which stays what it is; its successor is unsafe, which is forbidden here"
)]
async fn kernel_timer(then: BootTime) -> io::Result<()> {
    let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let then = then.since_start();
    let at = Timespec {
        tv_sec: i64::try_from(then.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: then.subsec_nanos().into(),
    };
    let once = Itimerspec { it_interval: Timespec::default(), it_value: at };
    timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &once)?;
    AsyncFd::with_interest(timer, Interest::READABLE)?.readable().await?.clear_ready();
    Ok(())
}

fn duration(time: Timespec) -> Duration {
    // Before 1970 there is nothing to be told from 1970.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
