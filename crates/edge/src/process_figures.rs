//! CPU time and memory of the process, for the metrics.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time that the process has used, in user and system mode.
#[must_use]
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs().try_into().unwrap_or_default())
}

/// The resident memory in bytes. `None` without `/proc`.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    // Total size, then resident size, in pages (proc_pid_statm(5)).
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_computes_uses_cpu_time_and_memory() {
        let before = cpu_time();
        let mut numbers: Vec<u64> = (0..2_000_000).collect();
        numbers.reverse();
        assert!(cpu_time() > before && numbers[0] > 0);
        let resident = resident_bytes().unwrap();
        assert!((16_000_000..16_000_000_000).contains(&resident), "{resident}");
    }
}
