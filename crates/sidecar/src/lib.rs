//! Doing it for one pod: the parts of the `dexsidecar` program.

pub mod agent;
pub mod check;
pub mod cli;
pub mod edge;
pub mod probe;
pub mod status;
pub mod token;
pub mod trade;
