//! The actions of a token: starts them when all its files hold a new token, and reports what comes
//! of them.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use dexsidecar_core::action::Action;
use dexsidecar_core::config::Level;
use dexsidecar_core::event::Event;
use dexsidecar_core::failure::Failure;
use dexsidecar_core::pending_actions::{NextAction, PendingActions, Progress};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::{BootTime, Jitter, Now};
use dexsidecar_edge::action::AttemptSlot;

use super::{Next, Token};
use crate::job::Job;
use crate::reporter::LOG_AGAIN_AFTER;

/// When the actions start for an adopted token. The restart may have come between the write and
/// the actions. But an adopted token is refreshed within 30 s, and the actions for the new one make
/// those for the adopted one unnecessary.
pub(super) const ANNOUNCE_ADOPTED_AFTER: Duration = Duration::from_secs(60);

/// The actions of a token, and their failures that were logged.
#[derive(Debug)]
pub(super) struct Actions {
    pending: PendingActions,
    /// The last failure of each action that was logged, until the action works.
    logged: Vec<(usize, String, BootTime)>,
    /// For each action, so that none runs twice at once.
    slots: Vec<AttemptSlot>,
    /// What must not be logged of the output of the command that runs. It belongs to its job.
    secrets: Weak<RefCell<Vec<Secret>>>,
}

impl Actions {
    pub(super) fn new(count: usize) -> Self {
        Self {
            pending: PendingActions::new(count),
            logged: vec![],
            slots: (0..count).map(|_| AttemptSlot::default()).collect(),
            secrets: Weak::new(),
        }
    }

    /// Continues the counts of `former` for the actions whose labels stay: the labels of metrics.
    /// An attempt that hangs belongs to the action that is equal, if there is one.
    pub(super) fn counting_from(mut self, former: &Self, labels: (&[Action], &[Action])) -> Self {
        let (new, old) = labels;
        for action in 0..new.len() {
            let label = Action::label(new, action);
            if let Some(same) = (0..old.len()).find(|index| Action::label(old, *index) == label) {
                self.pending.count_from(action, former.pending.failures(same));
            }
            if let Some(same) = old.iter().position(|old| *old == new[action]) {
                self.slots[action] = former.slots[same].clone();
            }
        }
        self
    }

    /// The last failure of this action that was logged, if it is not to be logged again yet.
    fn failure_logged(&self, action: usize, now: BootTime) -> Option<&String> {
        let recent = |(logged, _, at): &&(usize, String, BootTime)| {
            *logged == action && now.since(*at) < LOG_AGAIN_AFTER
        };
        self.logged.iter().find(recent).map(|(_, error, _)| error)
    }
}

impl Token {
    /// Which actions are pending, and how often each has failed.
    pub(crate) const fn pending_actions(&self) -> &PendingActions {
        &self.actions.pending
    }

    /// The next action, where nothing else is to be done before this instant. All actions become
    /// pending when every file holds a token for the first time.
    pub(super) fn next_action(&mut self, now: Now, until: BootTime) -> Next {
        if self.config.actions.is_empty() {
            return Next::Wait(until);
        }
        if self.current.as_ref().is_some_and(|current| current.announce_at.is_some()) && self.is_written() {
            let announce_at = self.current.as_mut().and_then(|current| current.announce_at.take());
            self.actions.pending.begin(announce_at.unwrap_or_default().max(now.boot));
        }
        match self.actions.pending.next(now.boot) {
            NextAction::Run(action) => {
                let (slot, secrets) = (self.actions.slots[action].clone(), Rc::default());
                self.actions.secrets = Rc::downgrade(&secrets);
                self.keep_out_of_log();
                let (config, log) = (Rc::clone(&self.config), self.reporter.log().clone());
                let known = self.actions.failure_logged(action, now.boot).cloned();
                Next::Run(Box::new(Job::Act { config, action, slot, secrets, log, known }))
            }
            NextAction::Wait(due) => Next::Wait(until.min(due)),
            NextAction::Idle => Next::Wait(until),
        }
    }

    /// A command that runs may print the tokens of now, as well as those of its start.
    pub(super) fn keep_out_of_log(&self) {
        let Some(secrets) = self.actions.secrets.upgrade() else { return };
        let current = self.current.as_ref().map(|current| &current.stored.token);
        let mut secrets = secrets.borrow_mut();
        for secret in current.into_iter().chain(self.last_known.subject_token()) {
            if !secrets.contains(secret) {
                secrets.push(secret.clone());
            }
        }
    }

    /// The actions start again for the current token, when all files hold it.
    pub(super) fn announce_again(&mut self, now: BootTime) {
        if let Some(current) = &mut self.current {
            current.announce_at = Some(now);
        }
    }

    /// An attempt of an action has ended.
    pub(super) fn acted(&mut self, action: usize, result: &Result<(), Failure>, now: Now, jitter: Jitter) {
        let label = &Action::label(&self.config.actions, action);
        match (self.actions.pending.done(result.is_ok(), now.boot, jitter), result) {
            (Progress::Worked { attempts }, _) => {
                self.actions.logged.retain(|(logged, ..)| *logged != action);
                self.reporter.emit(&Event::ActionDone { action: label, attempts: attempts.into() });
            }
            // It is repeated for the newer token.
            (Progress::Superseded { attempts }, _) => {
                self.actions.logged.retain(|(logged, ..)| *logged != action);
                let done = Event::ActionDone { action: label, attempts: attempts.into() };
                self.reporter.emit_at(Level::Debug, &done);
            }
            (Progress::Failed { attempts, retry_at }, Err(failure)) => {
                let retry_in = now.boot.until(retry_at);
                self.action_failed(action, failure, attempts, retry_in, now.boot);
            }
            // Not reached: a failure comes with its reason.
            (Progress::Failed { .. }, Ok(())) => {}
        }
    }

    fn action_failed(
        &mut self,
        action: usize,
        failure: &Failure,
        attempts: u32,
        retry_in: Duration,
        now: BootTime,
    ) {
        let is_known = self.actions.failure_logged(action, now).is_some_and(|error| *error == failure.detail);
        let level = if is_known {
            Level::Debug
        } else {
            let logged = &mut self.actions.logged;
            logged.retain(|(logged, ..)| *logged != action);
            logged.push((action, failure.detail.clone(), now));
            Level::Warn
        };
        let (action, fix) = (&Action::label(&self.config.actions, action), &failure.fix());
        let (error, attempts) = (&failure.detail, attempts.into());
        self.reporter.emit_at(level, &Event::ActionFailed { action, error, fix, attempts, retry_in });
    }
}

#[cfg(test)]
mod tests {
    use dexsidecar_core::action::{ExecAction, SignalAction, SignalTarget};

    use super::*;

    #[test]
    fn a_reload_keeps_the_failures_of_actions_whose_labels_stay() {
        let exec =
            Action::Exec(ExecAction { command: vec!["/bin/reload".to_owned()], timeout: LOG_AGAIN_AFTER });
        let target = SignalTarget::Process("server".to_owned());
        let signal = Action::Signal(SignalAction { target, signal: 1 });
        let mut former = Actions::new(1);
        for seconds in [0, 100] {
            let now = BootTime::from_start(Duration::from_secs(seconds));
            former.pending.begin(now);
            assert_eq!(former.pending.next(now), NextAction::Run(0));
            former.pending.done(false, now, Jitter::NONE);
        }
        let labels = (&[signal, exec.clone()][..], &[exec][..]);
        let new = Actions::new(2).counting_from(&former, labels);
        assert_eq!((new.pending.failures(0), new.pending.failures(1)), (0, 2));
        assert!(!new.pending.is_pending(0) && !new.pending.is_pending(1));
    }
}
