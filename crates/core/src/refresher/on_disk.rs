//! The token in one output: its lifetime, and whether its expiry was reported.

use super::Lifetime;
use super::pending::Pending;
use crate::time::{BootTime, UnixTime};

/// The number of a token that was found on disk at startup.
pub(super) const FOUND: u32 = 0;

/// The token that an output holds. It is kept here when it has expired.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnDisk {
    /// Its lifetime: shortened by a clock step.
    pub(super) lifetime: Lifetime,
    /// Its number among the tokens that were issued here or written by another process.
    pub(super) number: u32,
    /// Its `exp`, if the token was adopted or comes from another process. `None` if it was
    /// exchanged here: the boot clock has measured its lifetime then.
    pub(super) wall_expiry: Option<UnixTime>,
    /// Its expiry was reported.
    pub(super) expiry_reported: bool,
}

impl OnDisk {
    /// A token that has just been written.
    pub(super) const fn written(token: Pending) -> Self {
        let Pending { lifetime, number, wall_expiry, .. } = token;
        Self { lifetime, number, wall_expiry, expiry_reported: false }
    }

    /// The token, to be written to this output again, or to another one.
    pub(super) const fn pending(self, is_restore: bool) -> Pending {
        let Self { lifetime, number, wall_expiry, .. } = self;
        Pending { lifetime, number, wall_expiry, is_restore }
    }

    /// A token that was not exchanged here, with its `exp`. It counts as issued with this number.
    pub(super) const fn found(lifetime: Lifetime, expires: UnixTime, number: u32) -> Self {
        Self { lifetime, number, wall_expiry: Some(expires), expiry_reported: false }
    }

    /// Orders tokens from old to new: by number, and those that were found at startup by expiry.
    /// Dex may issue a token that expires before the former one, after its operator has shortened
    /// the lifetime.
    pub(super) const fn newness(&self) -> (u32, BootTime) {
        (self.number, self.lifetime.expires)
    }

    pub(super) fn is_valid(&self, now: BootTime) -> bool {
        self.lifetime.remaining(now).is_some()
    }
}
