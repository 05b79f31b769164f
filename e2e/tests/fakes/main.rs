//! Tests against fake servers, against files, or against no server: nothing here starts a Dex.

mod answers;
mod atomicity;
mod basic_auth;
mod check_report;
mod check_schema;
mod commands;
mod connections;
mod durations;
mod fault_suite;
mod files;
mod hanging;
mod key_check;
mod log_lines;
mod mounts;
mod output_syscall_failures;
mod output_syscalls;
mod output_tampering;
mod process;
mod rate_limits;
mod resource_exhaustion;
mod secrets;
mod signals;
mod tls;
mod variables;
mod volumes;
mod warnings;
