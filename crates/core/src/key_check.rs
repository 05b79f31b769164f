//! The key check: does Dex still publish the key that signed the token on disk, and what does it prove when it does not?
//!
//! A Dex that lost its storage never publishes the old key again, and the next token is signed by a key that it does publish.
//! A stale view of the keys behaves differently: behind a cache, or with several replicas of Dex that keep their keys in
//! memory, the key of a new token is missing too, or a key that was missing comes back. Another exchange does not help
//! then, and would be repeated without end (dexidp/dex#2759).

use std::time::Duration;

use crate::signing_keys::KeySet;
use crate::time::BootTime;

/// After a key came back, a missing key proves nothing for this long.
const DOUBT: Duration = Duration::from_secs(24 * 3600);

/// No issuer has longer key ids, in bytes. What is longer is not remembered.
const LONGEST_KEY_ID: usize = 256;

/// What a comparison of the published keys with the key of the token on disk tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finding {
    /// The key is published.
    Present,
    /// The key is no longer published: another token is needed.
    Gone,
    /// The key is missing, and that proves nothing.
    Inconclusive {
        /// True once, until the published keys can be trusted again.
        first: bool,
    },
}

/// What the published keys have shown so far.
#[derive(Debug, Default)]
pub struct KeyCheck {
    /// The keys of the last comparison.
    last: KeySet,
    /// The key that was missing last.
    missing: Option<String>,
    /// An exchange was asked for since a key was missing, and the key of no token since then was seen.
    tried: bool,
    /// Until when a missing key proves nothing, since a key that was missing came back.
    doubted_until: Option<BootTime>,
    reported: bool,
}

impl KeyCheck {
    /// Compares what is published now with the key of the token on disk.
    pub fn compare(&mut self, mut published: KeySet, key_id: &str, now: BootTime) -> Finding {
        if self.missing.take_if(|missing| published.has(missing)).is_some() {
            self.doubted_until = Some(now + DOUBT);
        }
        let doubted = self.doubted_until.is_some_and(|until| now < until);
        let found = published.has(key_id);
        published.retain(|id| id.len() <= LONGEST_KEY_ID);
        self.last = published;
        if found {
            self.tried = false;
            self.reported &= doubted;
            return Finding::Present;
        }
        self.missing = Some(key_id).filter(|id| id.len() <= LONGEST_KEY_ID).map(str::to_owned);
        if self.tried || doubted {
            return Finding::Inconclusive { first: !std::mem::replace(&mut self.reported, true) };
        }
        self.tried = true;
        Finding::Gone
    }

    /// A token with this key was issued. One whose key was among those seen last shows that they can be trusted.
    pub fn issued(&mut self, key_id: Option<&str>) {
        if key_id.is_some_and(|id| self.last.has(id)) {
            self.tried = false;
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

    /// Compares at each of these times, and expects these findings.
    fn expect(check: &mut KeyCheck, steps: &[(u64, &[&str], &str, Finding)]) {
        for (secs, published, key_id, finding) in steps {
            let found = check.compare(KeySet::of(published), key_id, at(*secs));
            assert_eq!(found, *finding, "{published:?} and {key_id} at {secs} s");
        }
    }

    #[test]
    fn p13_keys_that_are_lost_again_and_again_are_noticed_each_time() {
        let mut check = KeyCheck::default();
        expect(&mut check, &[(0, &["a"], "a", Finding::Present), (600, &["b"], "a", Finding::Gone)]);
        check.issued(Some("b"));
        expect(&mut check, &[(1_200, &["b"], "b", Finding::Present)]);
        // Twice between two comparisons: the second token's key had been seen.
        expect(&mut check, &[(1_800, &["c"], "b", Finding::Gone)]);
        check.issued(Some("c"));
        expect(&mut check, &[(2_400, &["d"], "c", Finding::Gone)]);
        check.issued(Some("d"));
        expect(&mut check, &[(3_000, &["d"], "d", Finding::Present)]);
    }

    #[test]
    fn p13_a_key_that_was_never_seen_published_is_worth_one_exchange() {
        let mut check = KeyCheck::default();
        expect(&mut check, &[(600, &["b"], "a", Finding::Gone)]);
        check.issued(Some("b"));
        expect(&mut check, &[(1_200, &["b"], "b", Finding::Present)]);
    }

    #[test]
    fn f148_a_cache_that_never_shows_the_token_s_key_is_worth_one_exchange() {
        for issued in ["b", "c"] {
            let mut check = KeyCheck::default();
            expect(&mut check, &[(600, &["a"], "b", Finding::Gone)]);
            check.issued(Some(issued));
            expect(&mut check, &[(1_200, &["a"], issued, REPORTED)]);
            for round in 3..500 {
                // Also for the tokens of later refreshes, and for those that do not tell their key.
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
    fn f148_replicas_with_keys_of_their_own_are_worth_one_exchange_a_day() {
        // Each replica answers in turn; exchanges go to one, or to both in turn.
        for tokens in [["a", "a"], ["b", "b"], ["a", "b"], ["b", "a"]] {
            let mut check = KeyCheck::default();
            let (mut held, mut lost) = ("a", vec![]);
            for round in 1..=2_000_usize {
                let published = KeySet::of(&[["a", "b"][round / 2 % 2]]);
                let secs = 600 * round as u64;
                if check.compare(published, held, at(secs)) == Finding::Gone {
                    lost.push(secs);
                    held = tokens[lost.len() % 2];
                    check.issued(Some(held));
                }
            }
            let days = 2_000 * 600 / 86_400 + 1;
            assert!(lost.len() <= 1 + 2 * days, "{tokens:?}: {lost:?}");
        }
    }

    #[test]
    fn f148_an_unproven_finding_is_reported_once_until_all_is_well_again() {
        let mut check = KeyCheck::default();
        expect(&mut check, &[(0, &["a"], "x", Finding::Gone), (600, &["a"], "y", REPORTED)]);
        expect(&mut check, &[(1_200, &["a"], "y", INCONCLUSIVE), (1_800, &["z"], "z", Finding::Present)]);
        expect(&mut check, &[(2_400, &["a"], "z", Finding::Gone), (3_000, &["a"], "w", REPORTED)]);
    }

    #[test]
    fn f029_key_ids_that_no_issuer_has_are_compared_and_not_remembered() {
        let long = "x".repeat(LONGEST_KEY_ID + 1);
        let mut check = KeyCheck::default();
        expect(
            &mut check,
            &[(0, &[&long, "a"], &long, Finding::Present), (600, &["a"], &long, Finding::Gone)],
        );
        assert_eq!((check.last, check.missing), (KeySet::of(&["a"]), None));
    }
}
