//! Judges tokens that are found in an output, and issued tokens: adopt, keep, restore or refuse.

use std::time::Duration;

use crate::claims::Claims;
use crate::duration::HumanDuration;
use crate::failure::{Code, Failure};
use crate::refresher::Lifetime;
use crate::schedule::Schedule;
use crate::secret::Secret;
use crate::time::{BootTime, Jitter, Now, UnixTime};
use crate::token_file::{EARLIEST_PLAUSIBLE_NOW, TokenFileState};

/// A token found on disk must be valid for longer than this to be adopted: the time that a first
/// exchange may take.
const MIN_ADOPTABLE: Duration = Duration::from_secs(60);
/// A new token with no more remaining validity than this does not replace one that expires later
/// (F39).
const MIN_REMAINING: Duration = Duration::from_secs(10);

/// A token that was found in an output and can be used.
#[derive(Debug)]
pub struct FoundToken {
    /// The id of the key that signed it.
    pub key_id: Option<String>,
    /// Its `exp`.
    pub expires: UnixTime,
    /// Its remaining validity by the wall clock.
    pub remaining: Duration,
    /// Its lifetime on the boot clock: from now on it is never longer, whatever a wrong clock
    /// shows.
    pub lifetime: Lifetime,
}

/// A token that an output holds at startup.
#[derive(Debug)]
pub enum AtStartup {
    /// It is adopted: no exchange is needed at once.
    Adopt(FoundToken),
    /// It has expired.
    Expired,
    /// It is of no use.
    Ignore,
}

impl AtStartup {
    /// Judges a token that was found at startup. By a wrong wall clock no token is adopted.
    #[must_use]
    pub fn of(token: &Secret, now: Now) -> Self {
        match TokenFileState::of(token, MIN_ADOPTABLE, now.unix) {
            TokenFileState::Expired(_) => Self::Expired,
            _ => FoundToken::of(token, now).map_or(Self::Ignore, Self::Adopt),
        }
    }
}

/// An output that no longer holds what was written to it.
#[derive(Debug)]
pub enum Modified {
    /// It holds a token of the same issuer and audience that expires later: it is kept (F87).
    Newer(FoundToken),
    /// It is restored. It holds another valid token, or not.
    Restore {
        /// The output holds another valid token.
        by_valid_token: bool,
    },
}

impl Modified {
    /// Judges what was found in an output, if anything, in place of `ours`.
    #[must_use]
    pub fn of(found: Option<&Secret>, ours: &Secret, now: Now) -> Self {
        let our_claims = Claims::peek(ours);
        let our_expiry = our_claims.as_ref().and_then(|claims| claims.expires);
        if let Some(newer) = found.and_then(|token| FoundToken::of(token, now))
            && Some(newer.expires) > our_expiry
            && found
                .and_then(Claims::peek)
                .is_none_or(|theirs| our_claims.is_none_or(|ours| ours.has_same_issuer_and_audience(&theirs)))
        {
            return Self::Newer(newer);
        }
        let is_valid = |token| TokenFileState::of(token, Duration::ZERO, now.unix).is_valid();
        Self::Restore { by_valid_token: found.is_some_and(is_valid) }
    }
}

impl FoundToken {
    fn of(token: &Secret, now: Now) -> Option<Self> {
        let TokenFileState::Valid(Some(remaining)) = TokenFileState::of(token, MIN_ADOPTABLE, now.unix)
        else {
            return None;
        };
        let claims = Claims::peek(token)?;
        let expires = claims.expires.filter(|_| now.unix >= EARLIEST_PLAUSIBLE_NOW)?;
        let lifetime = lifetime_on_disk(&claims, remaining, now.boot);
        Some(Self { key_id: claims.key_id, expires, remaining, lifetime })
    }
}

/// The lifetime of a token found on disk: its expiry by the wall clock, its length by its own
/// claims.
fn lifetime_on_disk(claims: &Claims, remaining: Duration, now: BootTime) -> Lifetime {
    let length = claims.lifetime().unwrap_or(remaining);
    let expires = now + remaining.min(length);
    Lifetime { issued: expires - length, expires }
}

/// The lifetime of an issued token, if it is accepted. `current` is the token that was issued or
/// found before, and `on_disk` the lifetime of the token on disk.
///
/// # Errors
/// `token_unchanged`: Dex, or a cache, has answered with the current token, whose refresh is due.
/// `token_expired`: it expires at once, and the token on disk expires later.
pub fn accepted(
    token: &Secret,
    lifetime: Lifetime,
    current: Option<(&Secret, Lifetime)>,
    on_disk: Option<Lifetime>,
    schedule: &Schedule,
    now: BootTime,
) -> Result<Lifetime, Failure> {
    if let Some((_, old)) = current.filter(|(current, _)| *current == token) {
        // A cached token is accepted, with the lifetime that it had, only until its own refresh is
        // due. Otherwise each exchange would make the next one due at once.
        let soonest = schedule.refresh_after(old.length(), Jitter::new(1.0));
        let fresh = now < old.issued + soonest;
        return if fresh { Ok(old) } else { Err(Failure::new(Code::TokenUnchanged, "")) };
    }
    let on_disk = on_disk.and_then(|token| token.remaining(now));
    let new = lifetime.remaining(now).unwrap_or_default();
    if new <= MIN_REMAINING && on_disk.is_some_and(|on_disk| on_disk > new) {
        let new = HumanDuration(new);
        let detail = format!("it expires in {new}, and the token on disk expires later");
        return Err(Failure::new(Code::TokenExpired, detail));
    }
    Ok(lifetime)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn now() -> Now {
        let since = Duration::from_secs(50_000);
        Now { boot: BootTime::from_start(since), unix: EARLIEST_PLAUSIBLE_NOW + since }
    }

    /// A token of this issuer that was issued and expires these many seconds from now.
    fn token(issuer: &str, issued: i64, expires: i64) -> Secret {
        let at = |seconds| now().unix.as_duration().as_secs().saturating_add_signed(seconds);
        let claims = format!(r#"{{"iss":"{issuer}","aud":"a","iat":{},"exp":{}}}"#, at(issued), at(expires));
        let segment = |text: &str| URL_SAFE_NO_PAD.encode(text);
        Secret::new(format!("{}.{}.sig", segment(r#"{"alg":"RS256"}"#), segment(&claims)))
    }

    #[test]
    fn at_startup_a_token_that_is_valid_for_a_minute_is_adopted() {
        let AtStartup::Adopt(found) = AtStartup::of(&token("dex", -600, 3_000), now()) else {
            panic!("it is valid for 50 min")
        };
        assert_eq!((found.remaining, found.lifetime.length()), (HOUR * 5 / 6, HOUR));
        assert_eq!(found.lifetime.expires, now().boot + HOUR * 5 / 6);
        assert!(matches!(AtStartup::of(&token("dex", -600, 59), now()), AtStartup::Ignore));
        assert!(matches!(AtStartup::of(&token("dex", -600, -1), now()), AtStartup::Expired));
        assert!(matches!(AtStartup::of(&Secret::new("opaque".to_owned()), now()), AtStartup::Ignore));
    }

    #[test]
    fn f094_by_a_clock_in_1970_no_token_is_adopted_or_kept() {
        let wrong = Now { unix: UnixTime::from_secs(1_000), ..now() };
        let found = token("dex", 0, 3_600);
        assert!(matches!(AtStartup::of(&found, wrong), AtStartup::Ignore));
        let modified = Modified::of(Some(&found), &token("dex", 0, 60), wrong);
        assert!(matches!(modified, Modified::Restore { by_valid_token: true }));
    }

    #[test]
    fn a_lifetime_is_never_longer_than_the_token_s_own() {
        // By this node's clock the token is issued in the future.
        let AtStartup::Adopt(found) = AtStartup::of(&token("dex", 600, 4_200), now()) else {
            panic!("it is valid")
        };
        assert_eq!((found.lifetime.issued, found.lifetime.length()), (now().boot, HOUR));
    }

    #[test]
    fn f087_only_a_token_of_the_same_issuer_that_expires_later_is_kept() {
        let ours = token("dex", 0, 1_000);
        let of = |found: Option<&Secret>| Modified::of(found, &ours, now());
        assert!(matches!(of(Some(&token("dex", 0, 1_001))), Modified::Newer(_)));
        for (found, by_valid_token) in [
            (Some(token("dex", 0, 1_000)), true),
            (Some(token("other", 0, 9_000)), true),
            (Some(Secret::new("opaque".to_owned())), true),
            (Some(token("dex", -90, -1)), false),
            (Some(Secret::new(String::new())), false),
            (None, false),
        ] {
            let Modified::Restore { by_valid_token: is_valid } = of(found.as_ref()) else {
                panic!("{found:?} is kept")
            };
            assert_eq!(is_valid, by_valid_token, "{found:?}");
        }
        let opaque = Secret::new("opaque".to_owned());
        assert!(matches!(Modified::of(Some(&ours), &opaque, now()), Modified::Newer(_)));
    }

    #[test]
    fn f039_a_token_that_expires_at_once_is_accepted_only_without_a_better_one() {
        let (schedule, at) = (Schedule::default(), now().boot);
        let new = token("dex", 0, 10);
        let lifetime = |seconds| Lifetime::starting(at, Duration::from_secs(seconds));
        for (length, on_disk, code) in [
            (10, None, None),
            (10, Some(9), None),
            (10, Some(11), Some(Code::TokenExpired)),
            (11, Some(3_600), None),
        ] {
            let accepted = accepted(&new, lifetime(length), None, on_disk.map(lifetime), &schedule, at);
            assert_eq!(accepted.err().map(|failure| failure.code), code, "{length} {on_disk:?}");
        }
    }

    #[test]
    fn a_cached_token_is_accepted_until_its_refresh_is_due_and_keeps_its_lifetime() {
        let (schedule, at) = (Schedule::default(), now().boot);
        let same = token("dex", 0, 3_600);
        for (age, is_accepted) in [(0, true), (1_529, true), (1_530, false), (3_000, false)] {
            let old = Lifetime::starting(at - Duration::from_secs(age), HOUR);
            let new = Lifetime::starting(at, HOUR);
            let accepted = accepted(&same, new, Some((&same, old)), Some(old), &schedule, at);
            assert_eq!(accepted.ok(), is_accepted.then_some(old), "{age} s");
        }
    }
}
