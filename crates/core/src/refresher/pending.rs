//! A token that waits to be written.

use super::Lifetime;
use crate::time::UnixTime;

/// A token that is to be written to the output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) lifetime: Lifetime,
    /// Its number among the tokens that were issued here or written by another process.
    pub(super) number: u32,
    /// Its `exp`, if it was not exchanged here.
    pub(super) wall_expiry: Option<UnixTime>,
    /// The token was on disk before and is restored. Writing it changes neither the refresh
    /// schedule nor the key check.
    pub(super) is_restore: bool,
}
