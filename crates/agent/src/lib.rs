//! Keeps one or several tokens fresh, from one or several Dex servers.
//!
//! The [`Scheduler`] owns the tokens and asks each of them what comes next. A token returns a job
//! to run, or the instant until which it has nothing to do. When a job ends, the scheduler
//! reports the outcome to the token, which passes it to its refresher of [`dexsidecar_core`]. A job
//! owns what it needs: [`exchange`] reads the subject token and exchanges it at Dex with the HTTP
//! client of [`dexsidecar_edge`]; other jobs write and remove token files, read Dex's published
//! keys and perform actions. An upstream holds the state that the tokens of one Dex share.
//!
//! The scheduler and its futures are not `Send`: they run on one thread.
//!
//! Comments refer to the faults of docs/faults.md as F1, F2 and so on, and to the promises of
//! docs/promises.md as P1, P2 and so on.

mod action;
pub mod exchange;
mod job;
pub mod readiness;
pub mod reload;
mod reporter;
mod scheduler;
mod termination_message;
mod token;
mod upstream;

pub use reload::log_problems;
pub use scheduler::Scheduler;
pub use termination_message::{read_termination_message, report_problems};
