//! Tests against fake servers, against files, or against no server: nothing here starts a Dex.

mod answers;
mod basic;
mod check_report;
mod check_schema;
mod commands;
mod connections;
mod durations;
mod failed_calls;
mod files;
mod key_check;
mod limits;
mod log_lines;
mod meddling;
mod mounts;
mod pace;
mod process;
mod secrets;
mod signals;
mod storm;
mod survive;
mod system_calls;
mod tls;
mod told;
mod variables;
mod volumes;
