//! What the refresher learns.

use std::time::Duration;

use super::Lifetime;
use crate::failure::Code;
use crate::time::UnixTime;

/// What the refresher learns.
#[derive(Clone, Copy, Debug)]
pub enum Observation {
    /// A valid token was found in this output at startup and is adopted. An exchange follows in any
    /// case, because settings may have changed. It is spread over thirty seconds if the remaining
    /// validity exceeds the refresh margin and sixty seconds, and is due at once otherwise.
    Adopted {
        /// The index of the output.
        output: usize,
        /// The lifetime of the token.
        lifetime: Lifetime,
        /// Its `exp`.
        expires: UnixTime,
    },
    /// Another process has written a token to this output that expires later than ours. It is kept,
    /// and refreshed on its own schedule (F87).
    ReplacedByNewer {
        /// The index of the output.
        output: usize,
        /// The lifetime of the token.
        lifetime: Lifetime,
        /// Its `exp`.
        expires: UnixTime,
    },
    /// Another process has modified this output. The token on disk is restored if it is still
    /// valid; no exchange is needed. The restore is due at once, unless the output now holds
    /// another valid token: then it is due at most once a minute (F88).
    Modified {
        /// The index of the output.
        output: usize,
        /// The output holds another valid token.
        by_valid_token: bool,
    },
    /// This output does not hold the token that another output holds: it is written there at once.
    Missing(usize),
    /// An exchange brought a token of this lifetime. Its writes are due at once.
    Issued(Lifetime),
    /// An exchange failed.
    ExchangeFailed {
        /// The code of the failure.
        code: Code,
        /// The `Retry-After` of the answer.
        retry_after: Option<Duration>,
        /// The fingerprint of the files that the exchange read.
        inputs: Fingerprint,
    },
    /// The token that was being written to this output is on disk.
    Written(usize),
    /// A write to this output failed. The token stays pending, and no other exchange is needed
    /// (F71).
    WriteFailed {
        /// The index of the output.
        output: usize,
        /// The code of the failure.
        code: Code,
    },
    /// The caller has no valid token to write, so nothing is pending.
    NothingToWrite(usize),
    /// The files that an exchange reads were polled and have this fingerprint. If they changed
    /// since an exchange failed because of them, another one is due at once.
    InputsPolled(Fingerprint),
    /// The subject token was read.
    SubjectTokenRead {
        /// The fingerprint of its file.
        file: Fingerprint,
        /// Its `iat`.
        issued: Option<UnixTime>,
        /// Its `exp`.
        expires: UnixTime,
    },
    /// A signal requests a refresh. It bypasses the rate limit, but at most once in five seconds.
    /// An exchange that has been in flight for five seconds is started again, since the operator
    /// may have repaired what it waits for.
    RefreshRequested,
    /// A key check found the key published, or could not read the keys.
    KeyCheckDone,
    /// A key check was inconclusive. The next one is planned, with twice the delay.
    KeyCheckInconclusive,
    /// No key check is possible until the next token is written.
    KeyCheckSuspended,
    /// The signing key of the token on disk is no longer published: an exchange is due within a
    /// minute. There is no key check until that exchange has brought a token.
    SigningKeyGone,
}

/// A number that changes when a file changes. It is made of the file's metadata, without reading
/// it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fingerprint(pub u64);
