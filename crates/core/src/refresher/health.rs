//! The state of a token as logs and probes show it.

/// The state of the token on disk, as logs and probes show it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Health {
    /// The token is valid, and the last attempt did not fail.
    Fresh,
    /// The token is valid, but the last exchange or the last write failed.
    Stale,
    /// The token is expired.
    Expired,
    /// No token has been written or adopted yet.
    Starting,
}

impl Health {
    /// The name in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
        }
    }
}
