//! From when to when a token is valid.

use std::time::Duration;

use crate::time::BootTime;

/// The lifetime of a token, on the clock that is never stepped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetime {
    /// The instant at which the request for the token was sent.
    pub issued: BootTime,
    /// The instant from which the token is expired.
    pub expires: BootTime,
}

impl Lifetime {
    /// A lifetime of this length from the instant at which the request was sent. Dex issued the
    /// token later, so the token is valid for a little longer than this lifetime.
    #[must_use]
    pub fn starting(requested: BootTime, length: Duration) -> Self {
        Self { issued: requested, expires: requested + length }
    }

    /// The time from issue to expiry.
    #[must_use]
    pub const fn length(self) -> Duration {
        self.expires.since(self.issued)
    }

    /// The remaining validity. `None` if the token is expired.
    #[must_use]
    pub fn remaining(self, now: BootTime) -> Option<Duration> {
        Some(now.until(self.expires)).filter(|remaining| !remaining.is_zero())
    }
}
