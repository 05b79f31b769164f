//! From when to when a token is valid.

use std::time::Duration;

use crate::time::{BootTime, Now, UnixTime};

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

    /// Ends with the token's `exp`, by the wall clock after a step of it. `None`: the token was
    /// exchanged here, and the boot clock has measured its lifetime. The end only becomes earlier:
    /// a clock that is wrong now must not lengthen a lifetime. Returns true if it does.
    pub(super) fn end_with(&mut self, wall_expiry: Option<UnixTime>, now: Now) -> bool {
        let Some(wall_expiry) = wall_expiry else { return false };
        let expires = now.boot + now.unix.until(wall_expiry);
        let is_earlier = expires < self.expires;
        if is_earlier {
            *self = Self { issued: expires - self.length(), expires };
        }
        is_earlier
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
