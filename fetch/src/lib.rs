//! What the tests and tools need besides this workspace: programs built from Go modules, packages of Debian. Fetched once,
//! kept in a cache outside the clone; nothing of the system changes.

pub mod cache;
pub mod debian;
pub mod go;
