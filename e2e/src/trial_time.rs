//! The times of trials: libtest reports those of ordinary tests, libtest-mimic none.

use std::io::Write as _;
use std::time::Instant;

/// Set by `cargo xtask test`, which names the slowest tests.
const REPORTED: &str = "DEXSIDECAR_E2E_TIMES";

/// Runs a test. If `cargo xtask test` asks for it, a line of JSON on standard output has its name
/// and time, also if it fails.
pub fn timed(name: &str, test: impl FnOnce()) {
    let _time = std::env::var_os(REPORTED).map(|_| Time { name: name.to_owned(), start: Instant::now() });
    test();
}

struct Time {
    name: String,
    start: Instant,
}

impl Drop for Time {
    fn drop(&mut self) {
        let time = serde_json::json!({
            "type": "time",
            "name": self.name,
            "exec_time": self.start.elapsed().as_secs_f64(),
        });
        // In one write, and not by a macro whose output the test harness captures.
        let _ = std::io::stdout().write_all(format!("{time}\n").as_bytes());
    }
}
