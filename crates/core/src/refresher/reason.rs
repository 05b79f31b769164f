//! Why the next exchange is due.

/// Why the next exchange is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// No exchange has been made yet.
    Start,
    /// The refresh schedule.
    Schedule,
    /// The last exchange failed.
    Retry,
    /// A file that an exchange reads has changed since the last exchange failed.
    InputChanged,
    /// A signal requested a refresh.
    Signal,
    /// The subject token is about to expire and has not been replaced.
    SubjectTokenExpiring,
    /// The signing key of the token on disk is no longer published.
    SigningKeyGone,
    /// The token on disk has expired.
    Expired,
    /// The wall clock was stepped since the last exchange failed.
    ClockStepped,
}
