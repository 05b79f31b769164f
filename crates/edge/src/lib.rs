//! The I/O of dexsidecar: files, DNS, HTTP, clocks, signals, logs, actions. The decisions are in
//! [`dexsidecar_core`].
//!
//! A module uses only a short list of the others, so that each can be read and tested alone. The
//! feature `test-clock` adds a clock and a logger that tests control.
//!
//! Comments refer to the faults of docs/faults.md as F1, F2 and so on, and to the promises of
//! docs/promises.md as P1, P2 and so on.

pub mod action;
pub mod blocking;
pub mod clock;
pub mod dns;
pub mod file_location;
pub mod hardening;
pub mod http_client;
pub mod input_file;
pub mod listener;
pub mod log;
pub mod output_file;
pub mod process_figures;
mod process_handle;
pub mod program_file;
pub mod random;
pub mod running;
pub mod signal;
pub mod subject_token_file;
