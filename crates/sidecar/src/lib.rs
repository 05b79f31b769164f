//! Doing it for one pod: the parts of the `dexsidecar` program.

pub mod agent;
pub mod check;
pub mod cli;
pub mod edge;
pub mod exchange;
pub mod probe;
pub mod reporter;
pub mod token;
