//! Keeps one token fresh for one pod.
//!
//! The life of a token: [`exchange`] reads the subject token and exchanges it at Dex with the HTTP
//! client of [`dexsidecar_edge`]; [`agent`] asks the refresher of [`dexsidecar_core`] when to do
//! that, writes the issued token to the token file, and polls the files; [`reporter`] turns what
//! happened into log lines and the termination message.
//!
//! Comments refer to the faults of docs/faults.md as F1, F2 and so on, and to the promises of
//! docs/promises.md as P1, P2 and so on.

pub mod agent;
pub mod exchange;
pub mod reporter;
