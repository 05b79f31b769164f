//! At most one attempt of an action at a time, even if one hangs: a thread on a volume that stalls,
//! or a command that SIGKILL does not end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::reaper;

/// The place for the one attempt of an action.
#[derive(Clone, Debug, Default)]
pub struct AttemptSlot(Arc<AtomicBool>);

impl AttemptSlot {
    /// Begins an attempt. `None` while one is not over.
    #[must_use]
    pub fn begin(&self) -> Option<Attempt> {
        // What the last attempt has left may have ended, and not have been reaped.
        let is_taken = || self.0.swap(true, Ordering::SeqCst);
        if is_taken() {
            reaper::reap();
            if is_taken() {
                return None;
            }
        }
        Some(Attempt(Arc::clone(&self.0)))
    }
}

/// An attempt, until this is dropped: by the thread or the process that does the work.
#[derive(Debug)]
pub struct Attempt(Arc<AtomicBool>);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_attempt_begins_when_the_last_one_is_over() {
        let slot = AttemptSlot::default();
        let attempt = slot.begin().expect("it is free");
        assert!(slot.begin().is_none());
        drop(attempt);
        assert!(slot.begin().is_some());
    }
}
