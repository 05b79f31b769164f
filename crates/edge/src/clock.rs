//! The clock of the program. Only this file reads the time or waits for a point in time.

use std::io;
use std::time::Duration;

use dexsidecar_core::time::{BootTime, Now, UnixTime};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

#[cfg(any(test, feature = "test-clock"))]
thread_local! {
    /// The step of the wall clock in the test on this thread.
    pub static STEPPED: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

/// A source of time. Tests of the loop pass one that they control.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The clocks of this machine.
    System,
    /// A clock that shows this time at the given instant of tokio and advances with tokio's clock,
    /// which is paused in tests.
    #[cfg(any(test, feature = "test-clock"))]
    Paused(Now, tokio::time::Instant),
}

impl Clock {
    /// Reads the boot clock and the wall clock.
    #[must_use]
    pub fn now(&self) -> Now {
        match self {
            Self::System => Now {
                boot: BootTime::from_start(duration(clock_gettime(ClockId::Boottime))),
                unix: UnixTime::since_epoch(duration(clock_gettime(ClockId::Realtime))),
            },
            #[cfg(any(test, feature = "test-clock"))]
            Self::Paused(start, instant) => {
                let passed = instant.elapsed();
                Now { boot: start.boot + passed, unix: start.unix + passed + STEPPED.get() }
            }
        }
    }

    /// Waits until a time of the boot clock, which advances while the machine is suspended.
    ///
    /// The wait uses a timer of the kernel (timerfd), because tokio's timer wheel wakes the process
    /// two more times within 30 s. If no timerfd is available, it uses tokio's timer, which stops
    /// while the machine is suspended. So a caller that waits for hours must wait in intervals and
    /// check the clock after each.
    pub async fn sleep_until(&self, then: BootTime) {
        let left = self.now().boot.until(then);
        let waited = match self {
            _ if left.is_zero() => return tokio::task::yield_now().await,
            Self::System => kernel_timer(then).await,
            #[cfg(any(test, feature = "test-clock"))]
            Self::Paused(..) => Err(io::ErrorKind::Unsupported.into()),
        };
        if waited.is_err() {
            tokio::time::sleep(left).await;
        }
    }
}

#[expect(deprecated, reason = "sound for an OwnedFd; the replacement is unsafe, which is forbidden here")]
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
    // Times before 1970 count as 1970.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
