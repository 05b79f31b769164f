//! What ARCHITECTURE.md says of the sources, held by parsing them; and the map of the files.
//!
//! Each rule has a test that shows that evading forms are found. Nothing here builds or runs the
//! program.

mod cargo_command;
mod code_map;
mod comments;
mod cycles;
mod edges;
mod secrets;
mod sources;
mod spelling;
