//! Keeps tokens fresh: for a pod, one or several, from one Dex or several.
//!
//! A [`Scheduler`] owns the tokens. A token is passive: asked what comes next, it answers with a
//! job or with an instant; told what came of a job, it decides with the refresher of
//! [`dexsidecar_core`]. A job owns what it needs: [`exchange`] reads the subject token and
//! exchanges it at Dex with the HTTP client of [`dexsidecar_edge`]; other jobs write and remove
//! token files and read Dex's published keys. What the tokens of one Dex share is an upstream.
//!
//! The scheduler and its futures are not `Send`: they run on one thread.
//!
//! Comments refer to the faults of docs/faults.md as F1, F2 and so on, and to the promises of
//! docs/promises.md as P1, P2 and so on.

pub mod exchange;
mod job;
mod reporter;
mod scheduler;
mod termination_message;
mod token;
mod upstream;

pub use scheduler::Scheduler;
pub use termination_message::report_problems;
