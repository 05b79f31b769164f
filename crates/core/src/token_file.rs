//! Decides whether a token file holds a valid token, for every command that asks.

use std::fmt;
use std::time::Duration;

use crate::claims::Claims;
use crate::duration::HumanDuration;
use crate::output::{Format, StoredToken};
use crate::secret::Secret;
use crate::time::{Now, UnixTime};
use crate::token::{is_bearer_token, is_partial};

/// The date of this release: 2026-11-01T00:00:00Z. A wall clock that shows an earlier time is
/// wrong. Each release moves it.
pub const EARLIEST_PLAUSIBLE_NOW: UnixTime = UnixTime::from_secs(1_793_491_200);

/// The state of a token file. The `Display` text follows the path: "/run/dex/token: expired 5m
/// ago".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenFileState {
    /// A token with this remaining validity. `None` if neither the token nor its file states an
    /// expiry, and no remaining validity is required. Dex never issues such a token.
    Valid(Option<Duration>),
    /// A token whose expiry cannot be read, although it is needed: a remaining validity is
    /// required, or the token has the form of a JSON Web Token.
    NoExpiry,
    /// A token that expires too soon.
    InsufficientLifetime {
        /// The remaining validity.
        remaining: Duration,
        /// The remaining validity that is required (`--min-ttl`).
        required: Duration,
    },
    /// A token that expired this long ago.
    Expired(Duration),
    /// A token that was written before this node started, while the node's clock is wrong. Whether
    /// the token has expired is unknown.
    ClockUntrusted,
    /// Content that is not a token, or a partial token.
    Malformed,
    /// Content that does not have the format with this name.
    WrongFormat(&'static str),
    /// No content.
    Empty,
}

impl TokenFileState {
    /// The state of a file that holds this token at the wall-clock time `now`. `min_ttl` is the
    /// remaining validity that is required.
    #[must_use]
    pub fn of(stored: &StoredToken, min_ttl: Duration, now: UnixTime) -> Self {
        let text = stored.token.expose();
        if text.is_empty() {
            return Self::Empty;
        }
        if !is_bearer_token(text) || is_partial(text) {
            return Self::Malformed;
        }
        let Some(expires) = stored.expires else {
            // A JSON Web Token has an expiry, but that of this one cannot be read. It is not
            // opaque.
            let unreadable = text.starts_with("eyJ")
                && text.split('.').count() == 3
                && Claims::peek(&stored.token).is_none();
            return if min_ttl.is_zero() && !unreadable { Self::Valid(None) } else { Self::NoExpiry };
        };
        if expires <= now {
            return Self::Expired(now.since(expires));
        }
        match now.until(expires) {
            remaining if remaining < min_ttl => Self::InsufficientLifetime { remaining, required: min_ttl },
            remaining => Self::Valid(Some(remaining)),
        }
    }

    /// The state of a file that holds this token and has this modification time, if that is known.
    ///
    /// A clock that shows a time before [`EARLIEST_PLAUSIBLE_NOW`] is wrong, and by such a clock
    /// any token is valid for decades. A file that was written since the node started is then
    /// trusted, because its token is new. An older file is [`ClockUntrusted`](Self::ClockUntrusted)
    /// (F94).
    #[must_use]
    pub fn of_file(stored: &StoredToken, written: Option<UnixTime>, min_ttl: Duration, now: Now) -> Self {
        let since_boot = |written: &UnixTime| {
            // A modification time is rounded down to a whole second. The time since boot is not, so
            // one second is added to it.
            *written <= now.unix && written.until(now.unix) <= now.boot.since_start() + Duration::from_secs(1)
        };
        match Self::of(stored, min_ttl, now.unix) {
            Self::Valid(Some(_))
                if now.unix < EARLIEST_PLAUSIBLE_NOW && !written.as_ref().is_some_and(since_boot) =>
            {
                Self::ClockUntrusted
            }
            state => state,
        }
    }

    /// The state of a file with this content in this format, like [`of_file`](Self::of_file).
    /// Content that does not have the format is [`WrongFormat`](Self::WrongFormat).
    #[must_use]
    pub fn of_content(
        content: &Secret,
        format: &Format,
        written: Option<UnixTime>,
        min_ttl: Duration,
        now: Now,
    ) -> Self {
        if content.is_empty() {
            return Self::Empty;
        }
        match format.read(content) {
            Some(stored) => Self::of_file(&stored, written, min_ttl, now),
            None => Self::WrongFormat(format.name()),
        }
    }

    /// True if readers can use the token.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        matches!(self, Self::Valid(_))
    }
}

impl fmt::Display for TokenFileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid(Some(remaining)) => write!(f, "valid, expires in {}", HumanDuration(*remaining)),
            Self::Valid(None) => f.write_str("valid, expiry unknown"),
            Self::NoExpiry => f.write_str("expiry unknown, so its remaining validity cannot be checked"),
            Self::InsufficientLifetime { remaining, required } => write!(
                f,
                "expires in {}, less than the required {}",
                HumanDuration(*remaining),
                HumanDuration(*required)
            ),
            Self::Expired(ago) => write!(f, "expired {} ago", HumanDuration(*ago)),
            Self::ClockUntrusted => f.write_str(
                "written before this node started, and the node's clock is wrong, so it may have expired",
            ),
            Self::WrongFormat(name) => write!(f, "not in the format {name}"),
            Self::Malformed => f.write_str("not a token"),
            Self::Empty => f.write_str("empty"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::tests::jwt;
    use crate::output::tests::formats;
    use crate::time::BootTime;

    #[test]
    fn the_state_follows_from_exp_and_the_required_validity() {
        let token = StoredToken::of(jwt("{}", r#"{"exp":1000}"#));
        let secs = Duration::from_secs;
        let at = |now, min_ttl| TokenFileState::of(&token, secs(min_ttl), UnixTime::from_secs(now));
        assert_eq!(at(900, 0), TokenFileState::Valid(Some(secs(100))));
        assert_eq!(at(900, 100), TokenFileState::Valid(Some(secs(100))));
        assert_eq!(
            at(900, 101),
            TokenFileState::InsufficientLifetime { remaining: secs(100), required: secs(101) }
        );
        assert_eq!(at(1_000, 0), TokenFileState::Expired(secs(0)));
    }

    #[test]
    fn f094_in_1970_only_a_file_written_since_boot_is_valid() {
        let token = StoredToken::of(jwt("{}", r#"{"exp":1800000000}"#));
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
        assert!(!of(Some(8), 40, 50), "an earlier boot was in 1970 too");
        assert!(!of(Some(51), 40, 50) && !of(Some(1_793_500_000), 40, 50) && !of(None, 40, 50));
        // A plausible clock is trusted, even if the file seems to be from the future.
        let plausible = EARLIEST_PLAUSIBLE_NOW.as_duration().as_secs();
        assert!(of(Some(1_799_999_999), 40, plausible) && of(None, 40, plausible));
        assert!(!of(Some(1_799_999_999), 40, plausible - 1));
    }

    #[test]
    fn each_state_has_a_text_and_only_valid_counts_as_valid() {
        let (hour, minute) = (Duration::from_secs(3_600), Duration::from_secs(60));
        for (state, valid, text) in [
            (TokenFileState::Valid(Some(hour)), true, "valid, expires in 1h"),
            (TokenFileState::Valid(None), true, "valid, expiry unknown"),
            (TokenFileState::NoExpiry, false, "expiry unknown, so its remaining validity cannot be checked"),
            (
                TokenFileState::InsufficientLifetime { remaining: minute, required: hour },
                false,
                "expires in 1m, less than the required 1h",
            ),
            (TokenFileState::Expired(hour), false, "expired 1h ago"),
            (
                TokenFileState::ClockUntrusted,
                false,
                "written before this node started, and the node's clock is wrong, so it may have expired",
            ),
            (TokenFileState::Malformed, false, "not a token"),
            (TokenFileState::WrongFormat("json"), false, "not in the format json"),
            (TokenFileState::Empty, false, "empty"),
        ] {
            assert_eq!((state.is_valid(), state.to_string().as_str()), (valid, text));
        }
    }

    #[test]
    fn the_content_of_a_file_is_judged_as_the_token_that_it_holds() {
        let now = Now { boot: BootTime::from_start(Duration::ZERO), unix: EARLIEST_PLAUSIBLE_NOW };
        let valid = jwt("{}", r#"{"exp":1900000000}"#);
        for token in [valid, jwt("{}", r#"{"exp":1000}"#), Secret::new("opaque".to_owned())] {
            for format in formats() {
                let content = format.render(&StoredToken::of(token.clone()));
                assert_eq!(
                    TokenFileState::of_content(&content, &format, None, Duration::ZERO, now),
                    TokenFileState::of_file(&StoredToken::of(token.clone()), None, Duration::ZERO, now)
                );
            }
        }
        let states = |content: &str| {
            let content = Secret::new(content.to_owned());
            formats().map(|format| TokenFileState::of_content(&content, &format, None, Duration::ZERO, now))
        };
        assert!(states("").into_iter().all(|state| state == TokenFileState::Empty));
        let names = ["raw", "json", "incus", "exec_credential"].map(TokenFileState::WrongFormat);
        let [header, json, incus, exec_credential] = names;
        assert_eq!(states("a page\n"), [TokenFileState::Malformed, header, json, incus, exec_credential]);
        let valid = TokenFileState::Valid(None);
        assert_eq!(states("opaque"), [valid, header, json, incus, exec_credential]);
        assert_eq!(
            states("{\"access_token\":\"opaque\"}"),
            [TokenFileState::Malformed, header, json, valid, exec_credential]
        );
    }

    #[test]
    fn an_opaque_token_is_valid_and_a_page_is_not() {
        let state = |text: &str| {
            let stored = StoredToken::of(Secret::new(text.to_owned()));
            TokenFileState::of(&stored, Duration::ZERO, UnixTime::default())
        };
        assert_eq!(state("opaque"), TokenFileState::Valid(None));
        assert_eq!(state(""), TokenFileState::Empty);
        assert_eq!(state("<html>\n"), TokenFileState::Malformed);
        let opaque = StoredToken::of(Secret::new("opaque".to_owned()));
        let second = Duration::from_secs(1);
        assert_eq!(TokenFileState::of(&opaque, second, UnixTime::default()), TokenFileState::NoExpiry);
        // Its file may state its expiry.
        let opaque = StoredToken { expires: Some(UnixTime::from_secs(1)), ..opaque };
        assert_eq!(
            TokenFileState::of(&opaque, second, UnixTime::default()),
            TokenFileState::Valid(Some(second))
        );
    }

    #[test]
    fn a_partial_token_is_malformed() {
        let complete = jwt("{\"alg\":\"none\"}", "{\"exp\":1000}");
        let text = complete.expose();
        let last = text.rfind('.').unwrap();
        for length in 3..=last + 1 {
            let partial = StoredToken::of(Secret::new(text[..length].to_owned()));
            assert_eq!(
                TokenFileState::of(&partial, Duration::ZERO, UnixTime::default()),
                TokenFileState::Malformed,
                "{length}"
            );
        }
        let encrypted = StoredToken::of(Secret::new("eyJ.a.b.c.d".to_owned()));
        assert!(TokenFileState::of(&encrypted, Duration::ZERO, UnixTime::default()).is_valid());
    }
}
