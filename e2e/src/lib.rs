//! The proving ground: the counterparts of dexsidecar, each started into a value that stops it when
//! dropped.
//!
//! The stories that are played with them are the files of `tests/`.

pub mod app_image;
pub mod blackhole;
pub mod certificates;
pub mod check_schema;
pub mod config_schema;
pub mod consumer_page;
pub mod control_plane;
pub mod coredns;
pub mod dex;
pub mod dex_error_table;
pub mod dex_version;
pub mod dns_server;
pub mod doc_manifests;
pub mod fake_api_server;
pub mod fake_dex;
pub mod fake_github_actions;
pub mod fault_suite;
pub mod faults;
pub mod file_readers;
pub mod fixture;
pub mod go_reference;
pub mod how_to_see;
pub mod image;
pub mod incus;
pub mod injection;
pub mod listener;
pub mod log_events;
pub mod node;
pub mod pod;
pub mod prebuilt;
pub mod process;
pub mod projected_volume;
pub mod raw_http;
pub mod rendered;
pub mod sandbox;
pub mod shell_commands;
pub mod sidecar;
pub mod signing_key;
pub mod strace;
pub mod token_verifier;
pub mod trial_time;
