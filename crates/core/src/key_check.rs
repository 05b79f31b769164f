//! Decides what it means that Dex does not publish the signing key of the token on disk.
//!
//! A Dex that has lost its storage never publishes the old key again, and it publishes the key of
//! the next token. A stale view of the keys behaves differently. Behind a cache, or with several
//! replicas of Dex that keep their keys in memory, the key of a new token is missing too, or a
//! missing key comes back. Another exchange does not help then, and would be repeated without end
//! (dexidp/dex#2759).

use std::time::Duration;

use crate::limits::LONGEST_KEY_ID;
use crate::signing_keys::KeySet;
use crate::time::BootTime;

/// For how long a missing key proves nothing after a missing key has come back. With replicas that
/// have different keys, a day limits the exchanges that are made in vain to one or two a day.
const DISTRUST: Duration = Duration::from_secs(24 * 3600);

/// The result of comparing the published keys with the key of the token on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finding {
    /// The key is published.
    Present,
    /// The key is no longer published: another token is needed.
    Gone,
    /// The key is missing, but the published keys are stale or come from several replicas.
    Inconclusive {
        /// True for the first such result since the published keys were trusted: it is logged.
        first: bool,
    },
}

/// The results of earlier comparisons.
#[derive(Debug, Default)]
pub struct KeyCheck {
    /// The keys of the last comparison. Ids longer than 256 bytes are left out.
    last: KeySet,
    /// The id of the token's key at the last comparison that missed it. Cleared when that key is
    /// published again.
    missing: Option<String>,
    /// A missing key has caused an exchange. Cleared when the key of a token is published: at a
    /// comparison, or at once if the new token's key was among the keys of the last comparison.
    exchanged: bool,
    /// Until this instant a missing key proves nothing. Set when a missing key comes back.
    distrusted_until: Option<BootTime>,
    /// An inconclusive result has been reported. Cleared when the token's key is published and the
    /// published keys are trusted.
    reported: bool,
}

impl KeyCheck {
    /// Compares the published keys with the id of the key that signed the token on disk.
    pub fn compare(&mut self, mut published: KeySet, key_id: &str, now: BootTime) -> Finding {
        if self.missing.take_if(|missing| published.has(missing)).is_some() {
            self.distrusted_until = Some(now + DISTRUST);
        }
        let distrusted = self.distrusted_until.is_some_and(|until| now < until);
        let found = published.has(key_id);
        published.retain(|id| id.len() <= LONGEST_KEY_ID);
        self.last = published;
        if found {
            self.exchanged = false;
            self.reported &= distrusted;
            return Finding::Present;
        }
        self.missing = Some(key_id).filter(|id| id.len() <= LONGEST_KEY_ID).map(str::to_owned);
        if self.exchanged || distrusted {
            return Finding::Inconclusive { first: !std::mem::replace(&mut self.reported, true) };
        }
        self.exchanged = true;
        Finding::Gone
    }

    /// A token signed with this key was issued. If the last comparison saw that key, the published
    /// keys are up to date, and the next missing key is worth an exchange again.
    pub fn issued(&mut self, key_id: Option<&str>) {
        if key_id.is_some_and(|id| self.last.has(id)) {
            self.exchanged = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INCONCLUSIVE: Finding = Finding::Inconclusive { first: false };
    const REPORTED: Finding = Finding::Inconclusive { first: true };

    fn at(secs: u64) -> BootTime {
        BootTime::from_start(Duration::from_secs(secs))
    }

    /// Compares at each of these seconds and expects these findings.
    fn expect(check: &mut KeyCheck, steps: &[(u64, &[&str], &str, Finding)]) {
        for (secs, published, key_id, finding) in steps {
            let found = check.compare(KeySet::of(published), key_id, at(*secs));
            assert_eq!(found, *finding, "{published:?} and {key_id} at {secs} s");
        }
    }

    #[test]
    fn p13_each_of_several_losses_of_keys_is_found() {
        let mut check = KeyCheck::default();
        expect(&mut check, &[(0, &["a"], "a", Finding::Present), (600, &["b"], "a", Finding::Gone)]);
        check.issued(Some("b"));
        expect(&mut check, &[(1_200, &["b"], "b", Finding::Present)]);
        // Keys are lost twice between two comparisons. The key of the second token was seen before.
        expect(&mut check, &[(1_800, &["c"], "b", Finding::Gone)]);
        check.issued(Some("c"));
        expect(&mut check, &[(2_400, &["d"], "c", Finding::Gone)]);
        check.issued(Some("d"));
        expect(&mut check, &[(3_000, &["d"], "d", Finding::Present)]);
    }

    #[test]
    fn p13_a_key_that_was_never_seen_published_causes_one_exchange() {
        let mut check = KeyCheck::default();
        expect(&mut check, &[(600, &["b"], "a", Finding::Gone)]);
        check.issued(Some("b"));
        expect(&mut check, &[(1_200, &["b"], "b", Finding::Present)]);
    }

    #[test]
    fn f148_a_cache_that_never_shows_the_token_s_key_causes_one_exchange() {
        for issued in ["b", "c"] {
            let mut check = KeyCheck::default();
            expect(&mut check, &[(600, &["a"], "b", Finding::Gone)]);
            check.issued(Some(issued));
            expect(&mut check, &[(1_200, &["a"], issued, REPORTED)]);
            for round in 3..500 {
                // Tokens of later refreshes cause none either, nor do tokens without a key id.
                check.issued([Some("d"), None][round % 2]);
                expect(&mut check, &[(600 * round as u64, &["a"], "d", INCONCLUSIVE)]);
            }
        }
    }

    #[test]
    fn f148_a_cache_that_catches_up_is_trusted_again_after_a_day() {
        let mut check = KeyCheck::default();
        expect(&mut check, &[(600, &["a"], "b", Finding::Gone)]);
        check.issued(Some("b"));
        expect(&mut check, &[(1_200, &["a"], "b", REPORTED), (1_800, &["a", "b"], "b", Finding::Present)]);
        expect(&mut check, &[(2_400, &["a", "b"], "c", INCONCLUSIVE)]);
        expect(&mut check, &[(3_000, &["a", "b", "c"], "c", Finding::Present)]);
        let day = 3_000 + 86_400;
        expect(&mut check, &[(day - 1, &["d"], "c", INCONCLUSIVE), (day, &["d"], "c", Finding::Gone)]);
    }

    #[test]
    fn f148_replicas_with_different_keys_cause_at_most_two_exchanges_a_day() {
        // Each replica answers in turn. Exchanges go to one of them, or to both in turn.
        for tokens in [["a", "a"], ["b", "b"], ["a", "b"], ["b", "a"]] {
            let mut check = KeyCheck::default();
            let (mut token_key, mut gone) = ("a", vec![]);
            for round in 1..=2_000_usize {
                let published = KeySet::of(&[["a", "b"][round / 2 % 2]]);
                let secs = 600 * round as u64;
                if check.compare(published, token_key, at(secs)) == Finding::Gone {
                    gone.push(secs);
                    token_key = tokens[gone.len() % 2];
                    check.issued(Some(token_key));
                }
            }
            let days = 2_000 * 600 / 86_400 + 1;
            assert!(gone.len() <= 1 + 2 * days, "{tokens:?}: {gone:?}");
        }
    }

    #[test]
    fn f148_an_inconclusive_result_is_reported_once_until_the_keys_are_trusted_again() {
        let mut check = KeyCheck::default();
        expect(&mut check, &[(0, &["a"], "x", Finding::Gone), (600, &["a"], "y", REPORTED)]);
        expect(&mut check, &[(1_200, &["a"], "y", INCONCLUSIVE), (1_800, &["z"], "z", Finding::Present)]);
        expect(&mut check, &[(2_400, &["a"], "z", Finding::Gone), (3_000, &["a"], "w", REPORTED)]);
    }

    #[test]
    fn f029_key_ids_longer_than_256_bytes_are_compared_but_not_remembered() {
        let long = "x".repeat(LONGEST_KEY_ID + 1);
        let mut check = KeyCheck::default();
        expect(
            &mut check,
            &[(0, &[&long, "a"], &long, Finding::Present), (600, &["a"], &long, Finding::Gone)],
        );
        assert_eq!((check.last, check.missing), (KeySet::of(&["a"]), None));
    }
}
