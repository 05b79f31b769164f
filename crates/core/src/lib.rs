//! What dexsidecar decides, without doing any of it.
//!
//! This crate has no I/O, no clock, no randomness, no logging and no async runtime: the time and
//! the jitter are arguments. Whoever drives it asks a [`Refresher`](refresher::Refresher) what to
//! do, does it, and reports the outcome:
//!
//! ```
//! use std::time::Duration;
//!
//! use dexsidecar_core::circuit_breaker::CircuitBreaker;
//! use dexsidecar_core::refresher::{Decision, Health, Lifetime, Observation, Refresher};
//! use dexsidecar_core::schedule::Schedule;
//! use dexsidecar_core::time::{BootTime, Jitter, Now, UnixTime};
//!
//! const HOUR: u64 = 3_600;
//! let at = |seconds| Now {
//!     boot: BootTime::from_start(Duration::from_secs(seconds)),
//!     unix: UnixTime::from_secs(1_800_000_000 + seconds),
//! };
//!
//! // Without a token the first exchange is due at once.
//! let mut dex = CircuitBreaker::default();
//! let mut refresher = Refresher::new(Schedule::default(), None, 1, at(0));
//! let mut step = |refresher: &mut Refresher, now| {
//!     refresher.step(now, Jitter::NONE, &mut dex.member(0))
//! };
//! assert_eq!(step(&mut refresher, at(0)), Decision::Exchange);
//!
//! // Dex issued a token of 24 hours: it has to be written, and is refreshed 8 hours before it
//! // expires.
//! let lifetime = Lifetime::starting(at(0).boot, Duration::from_secs(24 * HOUR));
//! refresher.on(Observation::Issued(lifetime), at(0), Jitter::NONE);
//! assert_eq!(step(&mut refresher, at(0)), Decision::Publish(0));
//! refresher.on(Observation::Written(0), at(0), Jitter::NONE);
//! assert_eq!(refresher.health(at(0)), Health::Fresh);
//! assert_eq!(refresher.due(), at(16 * HOUR).boot);
//!
//! // Until then there is nothing to do but to poll the files every 30 seconds.
//! assert_eq!(step(&mut refresher, at(0)), Decision::Wait(at(30).boot));
//! assert_eq!(step(&mut refresher, at(16 * HOUR)), Decision::Exchange);
//! ```
//!
//! Tests and comments refer to the faults of docs/faults.md as F1, F2 and so on, and to the
//! promises of docs/promises.md as P1, P2 and so on.

#[cfg(test)]
extern crate self as dexsidecar_core;

pub mod action;
pub mod adoption;
pub mod circuit_breaker;
pub mod claims;
pub mod config;
pub mod diagnosis;
pub mod duration;
pub mod endpoint_url;
pub mod event;

pub mod exchange;
pub mod failure;
pub mod github_actions;
pub mod http_request;
mod json;
pub mod key_check;
pub mod limits;
pub mod listen_address;
pub mod metrics;
pub mod needs;
pub mod output;
pub mod pages;
pub mod pending_actions;
pub mod refresher;
pub mod reload;
pub mod response;
pub mod schedule;
pub mod secret;
pub mod settings;
pub mod signing_keys;
pub mod text_file;
pub mod time;
pub mod token;
pub mod token_file;
