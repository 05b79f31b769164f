//! The I/O of the program: files, DNS, HTTP, clocks, signals, logs. The decisions are in
//! [`dexsidecar_core`].

pub mod blocking;
pub mod clock;
pub mod dns;
pub mod hardening;
pub mod http_client;
pub mod input_file;
pub mod log;
pub mod output_file;
pub mod random;
pub mod signal;
pub mod subject_token_file;
