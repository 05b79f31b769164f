//! What lets the decisions of [`dexsidecar_core`] touch the world. An edge does; it never decides.

pub mod chance;
pub mod clock;
pub mod dns;
pub mod input_file;
pub mod log;
pub mod output_file;
pub mod process;
pub mod signal;
pub mod subject_token_file;
pub mod thread;
pub mod token_endpoint;
