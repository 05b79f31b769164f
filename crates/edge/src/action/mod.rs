//! Sends the signals and runs the commands of actions. The HTTP client sends their requests.

mod attempt;
pub mod exec;
mod process_table;
mod reaper;
pub mod signal;

pub use attempt::{Attempt, AttemptSlot};
pub use reaper::{end_started, reap};

use dexsidecar_core::failure::{Code, Failure};

/// A failed action, with its fix.
fn failed(detail: impl Into<String>, fix: &'static str) -> Failure {
    Failure::new(Code::ActionFailed, detail).with_fix(fix)
}
