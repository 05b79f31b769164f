//! Judges tokens that are found in an output, and issued tokens: adopt, keep, restore or refuse.

use std::time::Duration;

use crate::claims::Claims;
use crate::duration::HumanDuration;
use crate::failure::{Code, Failure};
use crate::output::StoredToken;
use crate::refresher::Lifetime;
use crate::schedule::Schedule;
use crate::secret::Secret;
use crate::time::{BootTime, Jitter, Now, UnixTime};
use crate::token_file::{EARLIEST_PLAUSIBLE_NOW, TokenFileState};

/// A token that another process has written takes the place of ours if it is valid for at least
/// this time: an exchange may take that long.
const MIN_NEWER: Duration = Duration::from_secs(60);
/// A new token with no more remaining validity than this does not replace one that expires later
/// (F39).
const MIN_REMAINING: Duration = Duration::from_secs(10);

/// A token that was found in an output and can be used.
#[derive(Debug)]
pub struct FoundToken {
    /// The id of the key that signed it.
    pub key_id: Option<String>,
    /// The instant of its expiry, as the token or its file states it.
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
    pub fn of(stored: &StoredToken, now: Now) -> Self {
        match TokenFileState::of(stored, Duration::ZERO, now.unix) {
            TokenFileState::Expired(_) => Self::Expired,
            _ => FoundToken::of(stored, Duration::ZERO, now).map_or(Self::Ignore, Self::Adopt),
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
    pub fn of(found: Option<&StoredToken>, ours: &StoredToken, now: Now) -> Self {
        if let Some((stored, newer)) =
            found.and_then(|stored| FoundToken::of(stored, MIN_NEWER, now).map(|newer| (stored, newer)))
            && Some(newer.expires) > ours.expires
            && is_of_the_same_kind(&stored.token, &ours.token)
        {
            return Self::Newer(newer);
        }
        let is_valid = |stored| TokenFileState::of(stored, Duration::ZERO, now.unix).is_valid();
        Self::Restore { by_valid_token: found.is_some_and(is_valid) }
    }
}

/// True if this token may be one of this issuer, if that is known. An opaque token states none.
#[must_use]
pub fn may_be_from(token: &Secret, issuer: Option<&str>) -> bool {
    let Some(issuer) = issuer else { return true };
    Claims::peek(token).is_none_or(|claims| claims.issuer.as_deref() == Some(issuer))
}

/// True if readers that accept our token accept this one as well: it has the same issuer and
/// audience. Nothing is known of an opaque token, so it takes the place of another opaque one only.
#[must_use]
pub fn is_of_the_same_kind(theirs: &Secret, ours: &Secret) -> bool {
    match (Claims::peek(theirs), Claims::peek(ours)) {
        (Some(theirs), Some(ours)) => ours.has_same_issuer_and_audience(&theirs),
        (None, Some(_)) => false,
        (_, None) => true,
    }
}

impl FoundToken {
    fn of(stored: &StoredToken, min_ttl: Duration, now: Now) -> Option<Self> {
        let TokenFileState::Valid(Some(remaining)) = TokenFileState::of(stored, min_ttl, now.unix) else {
            return None;
        };
        let expires = stored.expires.filter(|_| now.unix >= EARLIEST_PLAUSIBLE_NOW)?;
        let key_id = Claims::peek(&stored.token).and_then(|claims| claims.key_id);
        let lifetime = lifetime_on_disk(stored.lifetime, remaining, now.boot);
        Some(Self { key_id, expires, remaining, lifetime })
    }
}

/// The lifetime of a token found on disk: its expiry by the wall clock, its length as the token or
/// its file states it.
fn lifetime_on_disk(length: Option<Duration>, remaining: Duration, now: BootTime) -> Lifetime {
    let length = length.filter(|length| !length.is_zero()).unwrap_or(remaining);
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
    fn token(issuer: &str, issued: i64, expires: i64) -> StoredToken {
        let at = |seconds| now().unix.as_duration().as_secs().saturating_add_signed(seconds);
        let claims = format!(r#"{{"iss":"{issuer}","aud":"a","iat":{},"exp":{}}}"#, at(issued), at(expires));
        let segment = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token = format!("{}.{}.sig", segment(r#"{"alg":"RS256"}"#), segment(&claims));
        StoredToken::of(Secret::new(token))
    }

    fn opaque(text: &str) -> StoredToken {
        StoredToken::of(Secret::new(text.to_owned()))
    }

    #[test]
    fn at_startup_a_valid_token_is_adopted() {
        let AtStartup::Adopt(found) = AtStartup::of(&token("dex", -600, 3_000), now()) else {
            panic!("it is valid for 50 min")
        };
        assert_eq!((found.remaining, found.lifetime.length()), (HOUR * 5 / 6, HOUR));
        assert_eq!(found.lifetime.expires, now().boot + HOUR * 5 / 6);
        assert!(matches!(AtStartup::of(&token("dex", -600, 1), now()), AtStartup::Adopt(_)));
        assert!(matches!(AtStartup::of(&token("dex", -600, -1), now()), AtStartup::Expired));
        assert!(matches!(AtStartup::of(&opaque("opaque"), now()), AtStartup::Ignore));
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
        let of = |found: Option<&StoredToken>| Modified::of(found, &ours, now());
        assert!(matches!(of(Some(&token("dex", 0, 1_001))), Modified::Newer(_)));
        for (found, by_valid_token) in [
            (Some(token("dex", 0, 1_000)), true),
            (Some(token("other", 0, 9_000)), true),
            (Some(opaque("opaque")), true),
            (Some(token("dex", -90, -1)), false),
            (Some(opaque("")), false),
            (None, false),
        ] {
            let Modified::Restore { by_valid_token: is_valid } = of(found.as_ref()) else {
                panic!("{found:?} is kept")
            };
            assert_eq!(is_valid, by_valid_token, "{found:?}");
        }
        assert!(matches!(Modified::of(Some(&ours), &opaque("opaque"), now()), Modified::Newer(_)));
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
            let accepted = accepted(&new.token, lifetime(length), None, on_disk.map(lifetime), &schedule, at);
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
            let accepted = accepted(&same.token, new, Some((&same.token, old)), Some(old), &schedule, at);
            assert_eq!(accepted.ok(), is_accepted.then_some(old), "{age} s");
        }
    }

    /// In a format that states the expiry of an opaque token.
    #[test]
    fn an_opaque_token_whose_file_states_its_expiry_is_adopted_and_kept_in_place_of_an_opaque_one_only() {
        let expires = |seconds| Some(now().unix + Duration::from_secs(seconds));
        let stated = StoredToken { expires: expires(1_800), lifetime: Some(HOUR), ..opaque("stated") };
        let AtStartup::Adopt(found) = AtStartup::of(&stated, now()) else { panic!("it is valid for 30 min") };
        assert_eq!((found.remaining, found.lifetime.length(), found.key_id), (HOUR / 2, HOUR, None));
        let of = |ours: &StoredToken| Modified::of(Some(&stated), ours, now());
        assert!(matches!(of(&StoredToken { expires: expires(1_799), ..opaque("ours") }), Modified::Newer(_)));
        for ours in [StoredToken { expires: expires(1_800), ..opaque("ours") }, token("dex", 0, 1_000)] {
            assert!(matches!(of(&ours), Modified::Restore { by_valid_token: true }));
        }
        let expired = StoredToken { expires: Some(now().unix), ..opaque("stated") };
        assert!(matches!(AtStartup::of(&expired, now()), AtStartup::Expired));
    }

    /// A file may state nonsense.
    #[test]
    fn a_lifetime_of_zero_that_a_file_states_is_replaced_by_the_remaining_validity() {
        let expires = Some(now().unix + HOUR);
        let stated = StoredToken { expires, lifetime: Some(Duration::ZERO), ..opaque("stated") };
        let AtStartup::Adopt(found) = AtStartup::of(&stated, now()) else { panic!("it is valid") };
        assert_eq!((found.lifetime.issued, found.lifetime.length()), (now().boot, HOUR));
    }
}
