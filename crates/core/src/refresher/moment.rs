//! The state of the token at the moment of a decision.

use std::time::Duration;

use crate::schedule::Schedule;
use crate::time::{BootTime, Jitter};

/// What the plan needs to know of the token.
pub(super) struct Moment<'a> {
    pub(super) schedule: &'a Schedule,
    /// The remaining validity of the token on disk.
    pub(super) remaining: Option<Duration>,
    /// An output can be written.
    pub(super) can_be_written: bool,
    pub(super) now: BootTime,
    pub(super) jitter: Jitter,
}
