//! Doing it for one pod: the parts of the `dexsidecar` program.

pub mod agent;
pub mod edge;
pub mod status;
pub mod trade;
