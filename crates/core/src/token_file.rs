//! Is the token in a file good? One function judges it, for every command that asks.

use std::fmt;
use std::time::Duration;

use crate::claims::Claims;
use crate::duration::HumanDuration;
use crate::secret::Secret;
use crate::time::{Now, UnixTime};
use crate::token::{is_bearer_token, is_partial};

/// No wall clock is right that shows a time before this program was made (2026-11-01).
pub const EARLIEST_PLAUSIBLE_NOW: UnixTime = UnixTime::from_secs(1_793_491_200);

/// What a token file holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenFileState {
    /// A token that is good for this long. One that is no JSON Web Token, which Dex never issues, counts as good
    /// while it stands there whole; it has no known end.
    Valid(Option<Duration>),
    /// A token that does not tell when it expires, where that matters.
    NoExpiry,
    /// A token with less life left than was asked for.
    InsufficientLifetime(Duration),
    /// A token that expired this long ago.
    Expired(Duration),
    /// A token from before this node started, whose clock is wrong: whether it expired cannot be told.
    ClockUntrusted,
    /// Something that is no token.
    Malformed,
    /// Nothing: the file is empty.
    Empty,
}

impl TokenFileState {
    /// Judges a file's content by the wall clock. `min_ttl` is how much life is asked for.
    #[must_use]
    pub fn of(content: &Secret, min_ttl: Duration, now: UnixTime) -> Self {
        let text = content.expose();
        if text.is_empty() {
            return Self::Empty;
        }
        if !is_bearer_token(text) || is_partial(text) {
            return Self::Malformed;
        }
        let claims = Claims::peek(content);
        // It says that it is a JSON Web Token, so that it has an end, which cannot be read here.
        let unreadable = claims.is_none() && text.starts_with("eyJ") && text.split('.').count() == 3;
        let Some(expires) = claims.and_then(|claims| claims.expires) else {
            return if min_ttl.is_zero() && !unreadable { Self::Valid(None) } else { Self::NoExpiry };
        };
        if expires <= now {
            return Self::Expired(now.since(expires));
        }
        match now.until(expires) {
            left if left < min_ttl => Self::InsufficientLifetime(left),
            left => Self::Valid(Some(left)),
        }
    }

    /// The same of a file that was written then, if that is known. A clock that shows a time before this program was made is
    /// wrong, and by it any token is good for decades: what was written since the node started is taken for good; what is left
    /// over from before is not (F94).
    #[must_use]
    pub fn of_file(content: &Secret, written: Option<UnixTime>, min_ttl: Duration, now: Now) -> Self {
        let since_the_start = |written: &UnixTime| {
            // Files know seconds.
            *written <= now.unix && written.until(now.unix) <= now.boot.since_start() + Duration::from_secs(1)
        };
        match Self::of(content, min_ttl, now.unix) {
            Self::Valid(Some(_))
                if now.unix < EARLIEST_PLAUSIBLE_NOW && !written.as_ref().is_some_and(since_the_start) =>
            {
                Self::ClockUntrusted
            }
            state => state,
        }
    }

    /// True for a token that can be used.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        matches!(self, Self::Valid(_))
    }
}

impl fmt::Display for TokenFileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid(Some(left)) => write!(f, "holds a token that is good for {}", HumanDuration(*left)),
            Self::Valid(None) => f.write_str("holds a token that does not tell when it expires"),
            Self::NoExpiry => f.write_str("holds a token that does not tell whether it is good for so long"),
            Self::InsufficientLifetime(left) => {
                write!(f, "holds a token that is good for {} only", HumanDuration(*left))
            }
            Self::Expired(ago) => write!(f, "holds a token that expired {} ago", HumanDuration(*ago)),
            Self::ClockUntrusted => f.write_str(
                "holds a token of which this node's clock, which is wrong, does not tell whether it expired",
            ),
            Self::Malformed => f.write_str("holds something that is no token"),
            Self::Empty => f.write_str("is empty"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::tests::jwt;
    use crate::time::BootTime;

    #[test]
    fn judges_by_exp() {
        let token = jwt("{}", r#"{"exp":1000}"#);
        let secs = Duration::from_secs;
        let at = |now, min_ttl| TokenFileState::of(&token, secs(min_ttl), UnixTime::from_secs(now));
        assert_eq!(at(900, 0), TokenFileState::Valid(Some(secs(100))));
        assert_eq!(at(900, 100), TokenFileState::Valid(Some(secs(100))));
        assert_eq!(at(900, 101), TokenFileState::InsufficientLifetime(secs(100)));
        assert_eq!(at(1_000, 0), TokenFileState::Expired(secs(0)));
    }

    #[test]
    fn f094_in_1970_only_what_was_written_since_is_good() {
        let token = jwt("{}", r#"{"exp":1800000000}"#);
        let of = |written: Option<u64>, up: u64, unix: u64| {
            let now =
                Now { boot: BootTime::from_start(Duration::from_secs(up)), unix: UnixTime::from_secs(unix) };
            let state =
                TokenFileState::of_file(&token, written.map(UnixTime::from_secs), Duration::ZERO, now);
            assert!(state.is_valid() || state == TokenFileState::ClockUntrusted, "{state:?}");
            state.is_valid()
        };
        // Up for forty seconds, at second 50 of 1970.
        assert!(of(Some(50), 40, 50) && of(Some(10), 40, 50) && of(Some(9), 40, 50));
        assert!(!of(Some(8), 40, 50), "it was 1970 before this start, too");
        assert!(!of(Some(51), 40, 50) && !of(Some(1_793_500_000), 40, 50) && !of(None, 40, 50));
        // With a clock that may be right a file of the future is no reason for doubt.
        let built = EARLIEST_PLAUSIBLE_NOW.as_duration().as_secs();
        assert!(of(Some(1_799_999_999), 40, built) && of(None, 40, built));
        assert!(!of(Some(1_799_999_999), 40, built - 1));
    }

    #[test]
    fn only_a_good_one_is_good_and_each_says_what_it_is() {
        let hour = Duration::from_secs(3_600);
        for (state, good, words) in [
            (TokenFileState::Valid(Some(hour)), true, "holds a token that is good for 1h"),
            (TokenFileState::Valid(None), true, "holds a token that does not tell when it expires"),
            (
                TokenFileState::NoExpiry,
                false,
                "holds a token that does not tell whether it is good for so long",
            ),
            (TokenFileState::InsufficientLifetime(hour), false, "holds a token that is good for 1h only"),
            (TokenFileState::Expired(hour), false, "holds a token that expired 1h ago"),
            (
                TokenFileState::ClockUntrusted,
                false,
                "holds a token of which this node's clock, which is wrong, does not tell whether it expired",
            ),
            (TokenFileState::Malformed, false, "holds something that is no token"),
            (TokenFileState::Empty, false, "is empty"),
        ] {
            assert_eq!((state.is_valid(), state.to_string().as_str()), (good, words));
        }
    }

    #[test]
    fn an_opaque_token_is_good_and_rubbish_is_not() {
        let judge = |text: &str| {
            TokenFileState::of(&Secret::new(text.to_owned()), Duration::ZERO, UnixTime::default())
        };
        assert_eq!(judge("opaque"), TokenFileState::Valid(None));
        assert_eq!(judge(""), TokenFileState::Empty);
        assert_eq!(judge("<html>\n"), TokenFileState::Malformed);
        let opaque = Secret::new("opaque".to_owned());
        assert_eq!(
            TokenFileState::of(&opaque, Duration::from_secs(1), UnixTime::default()),
            TokenFileState::NoExpiry
        );
    }

    #[test]
    fn half_a_token_is_none() {
        let whole = jwt("{\"alg\":\"none\"}", "{\"exp\":1000}");
        let text = whole.expose();
        let last = text.rfind('.').unwrap();
        for length in 3..=last + 1 {
            let half = Secret::new(text[..length].to_owned());
            assert_eq!(
                TokenFileState::of(&half, Duration::ZERO, UnixTime::default()),
                TokenFileState::Malformed,
                "{length}"
            );
        }
        let encrypted = Secret::new("eyJ.a.b.c.d".to_owned());
        assert!(TokenFileState::of(&encrypted, Duration::ZERO, UnixTime::default()).is_valid());
    }
}
