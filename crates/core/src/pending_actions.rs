//! Which action of a token runs next: each is repeated until it has worked for the newest token.
//!
//! The caller reports that all outputs hold a newer token ([`PendingActions::begin`]), asks
//! [`PendingActions::next`], and reports the outcome of the action that it ran. Nothing here
//! concerns the refresh of the token: an action that fails or hangs delays only the actions after
//! it.
//!
//! A newer token begins again with the first action. Where tokens are replaced faster than the
//! actions end, that would keep the later ones from ever running. So from the second time on that a
//! newer token overtakes actions that work, they continue in turn instead, until all have worked
//! for one token.

use std::time::Duration;

use crate::time::{BootTime, Jitter};

/// The shortest time between the starts of two attempts, and the first delay after a failure.
pub const MIN_DELAY: Duration = Duration::from_secs(1);
/// The longest delay after a failure.
pub const MAX_DELAY: Duration = Duration::from_secs(60);
/// From so many tokens on that overtook actions in a row, the actions continue in turn.
const OVERTAKEN_OFTEN: u32 = 2;

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
    /// The action worked, but a newer token came while it ran: it is pending for that token.
    Superseded {
        /// The number of this attempt.
        attempts: u32,
    },
}

/// The actions of one token, in order. At most one runs at a time.
#[derive(Clone, Debug, Default)]
pub struct PendingActions {
    /// The action that comes first for the newest token. The others follow in a circle.
    first: usize,
    /// How many of them have worked for the newest token, from the first one on.
    worked: usize,
    /// The attempt that runs.
    running: Option<Running>,
    /// How many tokens in a row came before all actions had worked for the token before, although
    /// none failed.
    overtaken: u32,
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
struct Running {
    action: usize,
    /// The number of the attempt.
    attempts: u32,
    /// A newer token has come since it was started.
    is_superseded: bool,
}

impl PendingActions {
    /// So many actions, none of them pending.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { worked: count, failures: vec![0; count], ..Self::default() }
    }

    /// The failures that were counted before a reload: a counter does not go backwards.
    pub fn count_from(&mut self, action: usize, failures: u64) {
        if let Some(counted) = self.failures.get_mut(action) {
            *counted = failures;
        }
    }

    /// All outputs hold a newer token: every action is pending, the first one is next, not before
    /// this instant. An action that runs is not interrupted: it ends within its time limit.
    pub fn begin(&mut self, not_before: BootTime) {
        match &mut self.running {
            // The next one is decided when it has ended.
            Some(running) => running.is_superseded = true,
            None => {
                let is_between = self.failed == 0 && (1..self.count()).contains(&self.worked);
                self.overtaken += u32::from(is_between && self.overtaken < OVERTAKEN_OFTEN);
                self.first = self.first_after(self.next_action());
            }
        }
        self.worked = 0;
        self.failed = 0;
        // Another process may replace the output often, each time with a newer token. That must
        // not make an action run in a loop.
        self.due = self.started.map_or(not_before, |started| not_before.max(started + MIN_DELAY));
    }

    const fn count(&self) -> usize {
        self.failures.len()
    }

    /// The action that comes next, if one is pending.
    fn next_action(&self) -> usize {
        (self.first + self.worked).checked_rem(self.count()).unwrap_or_default()
    }

    /// The first action for a newer token, where this one would have been next for the older one.
    const fn first_after(&self, next: usize) -> usize {
        if self.overtaken < OVERTAKEN_OFTEN { 0 } else { next }
    }

    /// What comes next.
    pub fn next(&mut self, now: BootTime) -> NextAction {
        if self.running.is_some() || self.worked >= self.count() {
            return NextAction::Idle;
        }
        if self.due > now {
            return NextAction::Wait(self.due);
        }
        let action = self.next_action();
        self.running =
            Some(Running { action, attempts: self.failed.saturating_add(1), is_superseded: false });
        self.started = Some(now);
        NextAction::Run(action)
    }

    /// The outcome of the action that ran.
    pub fn done(&mut self, worked: bool, now: BootTime, jitter: Jitter) -> Progress {
        let running = self.running.take();
        let Some(Running { action, attempts, is_superseded }) = running else {
            // Nothing ran.
            return Progress::Superseded { attempts: 0 };
        };
        if worked && is_superseded {
            self.overtaken += u32::from(self.overtaken < OVERTAKEN_OFTEN);
            self.first = self.first_after((action + 1).checked_rem(self.count()).unwrap_or_default());
            return Progress::Superseded { attempts };
        }
        if worked {
            self.worked += 1;
            self.failed = 0;
            self.due = now;
            if self.worked >= self.count() {
                self.overtaken = 0;
                self.first = 0;
            }
            return Progress::Worked { attempts };
        }
        if let Some(failures) = self.failures.get_mut(action) {
            *failures = failures.saturating_add(1);
        }
        // A newer token begins again with the first action, which must not wait for this one.
        self.overtaken = 0;
        if is_superseded {
            self.first = 0;
            return Progress::Failed { attempts, retry_at: self.due.max(now) };
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
        let count = self.count();
        action < count && (action + count - self.first) % count >= self.worked
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
        assert_eq!(actions.done(true, at(9_000), Jitter::NONE), Progress::Superseded { attempts: 1 });
        assert!(actions.is_pending(0) && actions.is_pending(1));
        assert_eq!(actions.next(at(9_000)), NextAction::Run(0));
        // The delay after a failure ends with a newer token.
        actions.done(false, at(9_000), Jitter::NONE);
        assert_eq!(actions.next(at(10_000)), NextAction::Run(0));
        assert!(matches!(actions.done(false, at(10_000), Jitter::new(1.0)), Progress::Failed { .. }));
        assert_eq!(actions.next(at(11_500)), NextAction::Wait(at(12_000)));
        actions.begin(at(11_500));
        assert_eq!(actions.next(at(11_500)), NextAction::Run(0));
    }

    #[test]
    fn a_failed_attempt_that_a_newer_token_overtook_is_counted_and_the_first_action_is_next() {
        let mut actions = PendingActions::new(2);
        actions.begin(at(0));
        for failures in 1..=3 {
            assert_eq!(actions.next(at(0)), NextAction::Run(0));
            actions.done(true, at(0), Jitter::NONE);
            assert_eq!(actions.next(at(0)), NextAction::Run(1));
            actions.begin(at(0));
            let failed = Progress::Failed { attempts: 1, retry_at: at(60_000) };
            assert_eq!(actions.done(false, at(60_000), Jitter::NONE), failed);
            assert_eq!((actions.failures(0), actions.failures(1)), (0, failures));
            actions.started = None;
            actions.due = at(0);
        }
    }

    #[test]
    fn actions_that_are_slower_than_the_refresh_period_run_in_turn() {
        // The actions before the slow one end at once. The slow one ends after the next token.
        for (slow, order) in [
            (0..3, "0 0 1 2 0 1 2 0 1 2"),
            (0..1, "0 0 1 2 0 1 2 0 1 2"),
            (1..2, "0 1 0 1 2 0 1 2 0 1"),
            (2..3, "0 1 2 0 1 2 0 1 2 0"),
        ] {
            let mut actions = PendingActions::new(3);
            actions.begin(at(0));
            let mut seen = vec![];
            for second in (0..).map(|index| index * 2_000).take(10) {
                let NextAction::Run(action) = actions.next(at(second)) else { panic!("one is next") };
                seen.push(action.to_string());
                if slow.contains(&action) {
                    actions.begin(at(second));
                }
                actions.done(true, at(second), Jitter::NONE);
            }
            assert_eq!(seen.join(" "), order, "{slow:?}");
        }
    }

    #[test]
    fn a_newer_token_begins_with_the_first_action_again_once_all_have_worked_for_one_token() {
        let mut actions = PendingActions::new(2);
        actions.begin(at(0));
        let mut now = 0;
        for (is_overtaken, expected) in
            [(true, 0), (true, 0), (false, 1), (false, 0), (true, 0), (false, 0), (false, 1)]
        {
            now += 2_000;
            assert_eq!(actions.next(at(now)), NextAction::Run(expected), "at {now}");
            if is_overtaken {
                actions.begin(at(now));
            }
            actions.done(true, at(now), Jitter::NONE);
            if !actions.is_pending(0) && !actions.is_pending(1) {
                actions.begin(at(now));
            }
        }
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
            let mut failures = vec![0; count];
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
                        let is_superseded = matches!(progress, Progress::Superseded { .. });
                        prop_assert_eq!(is_superseded, works && of != token);
                        failures[action] += u64::from(!works);
                        prop_assert_eq!(actions.failures(action), failures[action]);
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
                            let before = worked.last().map(|before| (before + 1) % count);
                            prop_assert!(!worked.contains(&action));
                            prop_assert!(before.is_none_or(|next| next == action), "in a circle");
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

        /// Whenever newer tokens come, an action that works gets its turn, and so does the first
        /// one.
        #[test]
        fn no_action_that_works_waits_for_ever(
            count in 1_usize..5,
            history in proptest::collection::vec((any::<bool>(), any::<bool>(), 0..3_000_u64), 200..300),
        ) {
            let mut actions = PendingActions::new(count);
            actions.begin(at(0));
            let (mut now, mut waits) = (0, vec![0; count]);
            for (is_overtaken, between, passes) in history {
                match actions.next(at(now)) {
                    NextAction::Run(action) => {
                        waits.iter_mut().for_each(|waited| *waited += 1);
                        waits[action] = 0;
                        if is_overtaken {
                            actions.begin(at(now));
                        }
                        now += passes;
                        actions.done(true, at(now), Jitter::NONE);
                    }
                    NextAction::Wait(until) => now = now.max(at(0).until(until).as_millis() as u64),
                    NextAction::Idle => actions.begin(at(now)),
                }
                if between {
                    actions.begin(at(now));
                }
                // The rest of a round, two rounds that are overtaken, and one in turn.
                prop_assert!(waits.iter().all(|waited| *waited <= 4 * count), "{:?}", waits);
            }
        }
    }
}
