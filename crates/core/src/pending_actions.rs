//! Which action of a token runs next: each is repeated until it has worked for the newest token.
//!
//! The caller reports that all outputs hold a newer token ([`PendingActions::begin`]), asks
//! [`PendingActions::next`], and reports the outcome of the action that it ran. Nothing here
//! concerns the refresh of the token: an action that fails or hangs delays only the actions after
//! it.

use std::time::Duration;

use crate::time::{BootTime, Jitter};

/// The shortest time between the starts of two attempts, and the first delay after a failure.
pub const MIN_DELAY: Duration = Duration::from_secs(1);
/// The longest delay after a failure.
pub const MAX_DELAY: Duration = Duration::from_secs(60);

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NextAction {
    /// The action with this index. Its outcome is reported to [`PendingActions::done`].
    Run(usize),
    /// Nothing before this instant.
    Wait(BootTime),
    /// Nothing before an outcome or a newer token.
    Idle,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// The action worked, at this attempt.
    Worked {
        /// The number of this attempt.
        attempts: u32,
    },
    /// The action failed.
    Failed {
        /// The number of this attempt.
        attempts: u32,
        /// When the next one is made.
        retry_at: BootTime,
    },
    /// A newer token came while the action ran: its outcome does not count, and the first action
    /// is next.
    Superseded,
}

/// The actions of one token, in order. At most one runs at a time.
#[derive(Clone, Debug, Default)]
pub struct PendingActions {
    /// The first action that has not worked for the newest token; their number if all have.
    next: usize,
    /// An action runs, for the newest token or for an older one.
    running: Option<Running>,
    /// The failed attempts of the next action in a row.
    failed: u32,
    /// The next action is not started before this instant.
    due: BootTime,
    /// When an action was started last.
    started: Option<BootTime>,
    /// The failed attempts of each action, for metrics.
    failures: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Running {
    ForNewest,
    ForOlder,
}

impl PendingActions {
    /// So many actions, none of them pending.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { next: count, failures: vec![0; count], ..Self::default() }
    }

    /// The failures that were counted before a reload: a counter does not go backwards.
    pub fn count_from(&mut self, action: usize, failures: u64) {
        if let Some(counted) = self.failures.get_mut(action) {
            *counted = failures;
        }
    }

    /// All outputs hold a newer token: every action is pending, the first one is next, not before
    /// this instant. An action that runs is not interrupted. It ends within its time limit, and
    /// then the first one begins.
    pub fn begin(&mut self, not_before: BootTime) {
        self.next = 0;
        self.failed = 0;
        // Another process may replace the output often, each time with a newer token. That must
        // not make an action run in a loop.
        self.due = self.started.map_or(not_before, |started| not_before.max(started + MIN_DELAY));
        if self.running.is_some() {
            self.running = Some(Running::ForOlder);
        }
    }

    /// What comes next.
    pub fn next(&mut self, now: BootTime) -> NextAction {
        if self.running.is_some() || self.next >= self.failures.len() {
            return NextAction::Idle;
        }
        if self.due > now {
            return NextAction::Wait(self.due);
        }
        self.running = Some(Running::ForNewest);
        self.started = Some(now);
        NextAction::Run(self.next)
    }

    /// The outcome of the action that ran.
    pub fn done(&mut self, worked: bool, now: BootTime, jitter: Jitter) -> Progress {
        if self.running.take() != Some(Running::ForNewest) {
            return Progress::Superseded;
        }
        let attempts = self.failed.saturating_add(1);
        if worked {
            self.next += 1;
            self.failed = 0;
            self.due = now;
            return Progress::Worked { attempts };
        }
        if let Some(failures) = self.failures.get_mut(self.next) {
            *failures = failures.saturating_add(1);
        }
        self.failed = attempts;
        // Thirty doublings of 1 s exceed the maximum.
        let delay = MIN_DELAY.saturating_mul(1 << (attempts - 1).min(30)).min(MAX_DELAY);
        self.due = now + (delay / 2 + jitter.share_of(delay / 2)).max(MIN_DELAY);
        Progress::Failed { attempts, retry_at: self.due }
    }

    /// True if this action has not worked yet for the newest token.
    #[must_use]
    pub const fn is_pending(&self, action: usize) -> bool {
        action >= self.next && action < self.failures.len()
    }

    /// The failed attempts of this action since the start.
    #[must_use]
    pub fn failures(&self, action: usize) -> u64 {
        self.failures.get(action).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime::from_start(Duration::from_secs(100) + Duration::from_millis(millis))
    }

    #[test]
    fn the_actions_run_in_order_once_all_outputs_hold_the_token() {
        let mut actions = PendingActions::new(2);
        assert_eq!(actions.next(at(0)), NextAction::Idle, "there is no token yet");
        assert!(!actions.is_pending(0) && !actions.is_pending(1));
        actions.begin(at(0));
        assert_eq!(actions.next(at(0)), NextAction::Run(0));
        assert_eq!(actions.next(at(0)), NextAction::Idle, "it runs");
        assert_eq!(actions.done(true, at(5), Jitter::NONE), Progress::Worked { attempts: 1 });
        assert!(!actions.is_pending(0) && actions.is_pending(1) && !actions.is_pending(2));
        assert_eq!(actions.next(at(5)), NextAction::Run(1));
        assert_eq!(actions.done(true, at(9), Jitter::NONE), Progress::Worked { attempts: 1 });
        assert_eq!((actions.next(at(9)), actions.is_pending(1)), (NextAction::Idle, false));
        actions.begin(at(5_000));
        assert_eq!(actions.next(at(5_000)), NextAction::Run(0));
        assert_eq!(PendingActions::new(0).next(at(0)), NextAction::Idle);
    }

    #[test]
    fn a_failed_action_is_repeated_after_1_s_to_60_s_until_it_works() {
        let mut actions = PendingActions::new(2);
        actions.begin(at(0));
        let (mut now, mut delays) = (0, vec![]);
        for attempts in 1..=9 {
            assert_eq!(actions.next(at(now)), NextAction::Run(0));
            let Progress::Failed { attempts: counted, retry_at } =
                actions.done(false, at(now), Jitter::new(1.0))
            else {
                panic!("it failed")
            };
            assert_eq!((counted, actions.next(at(now))), (attempts, NextAction::Wait(retry_at)));
            let delay = at(now).until(retry_at).as_secs();
            delays.push(delay);
            now += delay * 1_000;
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!((actions.failures(0), actions.failures(1)), (9, 0));
        assert_eq!(actions.next(at(now)), NextAction::Run(0));
        assert_eq!(actions.done(true, at(now), Jitter::NONE), Progress::Worked { attempts: 10 });
        assert_eq!(actions.next(at(now)), NextAction::Run(1), "the delay was that of the first action");
    }

    #[test]
    fn a_newer_token_drops_what_is_pending_and_starts_again_at_the_first_action() {
        let mut actions = PendingActions::new(2);
        actions.begin(at(0));
        assert_eq!(actions.next(at(0)), NextAction::Run(0));
        actions.done(true, at(0), Jitter::NONE);
        assert_eq!(actions.next(at(0)), NextAction::Run(1));
        // It hangs while two newer tokens come. Its outcome says nothing of them.
        actions.begin(at(7_000));
        actions.begin(at(8_000));
        assert_eq!(actions.next(at(8_000)), NextAction::Idle, "never two at once");
        assert_eq!(actions.done(true, at(9_000), Jitter::NONE), Progress::Superseded);
        assert!(actions.is_pending(0) && actions.is_pending(1));
        assert_eq!(actions.next(at(9_000)), NextAction::Run(0));
        // The delay after a failure ends with a newer token.
        for _ in 0..6 {
            actions.done(false, at(9_000), Jitter::NONE);
            actions.running = Some(Running::ForNewest);
        }
        actions.running = None;
        actions.begin(at(10_500));
        assert_eq!(actions.next(at(10_500)), NextAction::Run(0));
    }

    #[test]
    fn the_actions_for_an_adopted_token_are_dropped_if_a_newer_one_comes_first() {
        let mut actions = PendingActions::new(1);
        actions.begin(at(60_000));
        assert_eq!((actions.next(at(0)), actions.is_pending(0)), (NextAction::Wait(at(60_000)), true));
        actions.begin(at(10_000));
        assert_eq!(actions.next(at(10_000)), NextAction::Run(0));
        actions.done(true, at(10_000), Jitter::NONE);
        assert_eq!(actions.next(at(60_000)), NextAction::Idle);
    }

    #[derive(Clone, Copy, Debug)]
    enum Happens {
        NewToken,
        Ends(bool),
        Passes(u64),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            1 => Just(Happens::NewToken),
            4 => any::<bool>().prop_map(Happens::Ends),
            3 => (0..90_000_u64).prop_map(Happens::Passes),
        ]
    }

    proptest! {
        /// One at a time, in order, never before a second has passed since the same action was
        /// started, and all of them for the newest token in the end.
        #[test]
        fn no_history_runs_two_actions_at_once_or_skips_one(
            count in 0_usize..5,
            history in proptest::collection::vec(happens(), 0..200),
            jitter in 0.0..1.0,
        ) {
            let (mut actions, jitter) = (PendingActions::new(count), Jitter::new(jitter));
            let mut now = 0;
            // The newest token, the token and the action of the attempt that runs, and those that
            // have worked for the newest token.
            let (mut token, mut running, mut worked) = (0, None, vec![]);
            let mut starts: Vec<Option<u64>> = vec![None; count];
            let settle = (0..40 * count).flat_map(|_| [Happens::Passes(61_000), Happens::Ends(true)]);
            for happened in history.into_iter().chain(settle) {
                match happened {
                    Happens::NewToken => {
                        token += 1;
                        worked.clear();
                        actions.begin(at(now));
                    }
                    Happens::Ends(works) => {
                        let Some((of, action)) = running.take() else { continue };
                        let progress = actions.done(works, at(now), jitter);
                        prop_assert_eq!(progress == Progress::Superseded, of != token);
                        if works && of == token {
                            worked.push(action);
                        }
                    }
                    Happens::Passes(millis) => now += millis,
                }
                for _ in 0..2 {
                    match actions.next(at(now)) {
                        NextAction::Run(action) => {
                            prop_assert_eq!(running, None);
                            prop_assert_eq!(action, worked.len());
                            prop_assert!(starts[action].is_none_or(|before| now >= before + 1_000));
                            starts[action] = Some(now);
                            running = Some((token, action));
                        }
                        NextAction::Wait(until) => prop_assert!(until > at(now) && until <= at(now + 60_000)),
                        NextAction::Idle => prop_assert!(running.is_some() || token == 0 || worked.len() == count),
                    }
                }
                let pending = (0..count).filter(|action| actions.is_pending(*action)).count();
                prop_assert_eq!(pending, if token == 0 { 0 } else { count - worked.len() });
            }
            prop_assert_eq!(worked.len(), if token == 0 { 0 } else { count });
        }
    }
}
