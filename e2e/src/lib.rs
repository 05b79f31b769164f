//! The proving ground: the counterparts of dexsidecar, each started into a value that stops it when dropped.
//!
//! The stories that are played with them are the files of `tests/`.

pub mod app_image;
pub mod certificates;
pub mod check_schema;
pub mod control_plane;
pub mod coredns;
pub mod counterpart;
pub mod dex;
pub mod dex_answers;
pub mod dex_version;
pub mod endpoint;
pub mod faults;
pub mod go;
pub mod how_to_see;
pub mod image;
pub mod incus;
pub mod issuer;
pub mod log_events;
pub mod names;
pub mod namespaces;
pub mod node;
pub mod pages;
pub mod pod;
pub mod process;
pub mod reader;
pub mod relay;
pub mod scenes;
pub mod sidecar;
pub mod signing_key;
pub mod strace;
pub mod trial_time;
pub mod volume;
pub mod wire;
