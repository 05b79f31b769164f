//! The parts of the `dexsidecar` program that are not the agent.
//!
//! [`check`], [`probe`], [`refresh`] and [`token`] are the commands beside `run` and `once`, which
//! run the agent of [`dexsidecar_agent`]. [`cli`] parses the command line. The I/O that all of them
//! need is in [`dexsidecar_edge`].
//!
//! Comments refer to the faults of docs/faults.md as F1, F2 and so on, and to the promises of
//! docs/promises.md as P1, P2 and so on.

pub mod check;
pub mod cli;
pub mod exec_plugin;
pub mod git_credential;
pub mod json;
pub mod probe;
pub mod refresh;
pub mod token;
