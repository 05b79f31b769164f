//! What the refresher wants done.

use crate::time::BootTime;

/// What the caller has to do next. An output is named by its index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Read the subject token and exchange it. The rate limit is already charged for it. An
    /// exchange that is in flight is given up: a signal requested another one.
    Exchange,
    /// Write the pending token to this output.
    Publish(usize),
    /// Compare the published keys with the key of the token on disk. The rate limit is already
    /// charged for it.
    CheckKeys,
    /// The token in this output has just expired: report it, and remove the file if that is set.
    Expire(usize),
    /// Wait until this instant, poll the files, and call
    /// [`Refresher::step`](super::Refresher::step) again.
    Wait(BootTime),
}
