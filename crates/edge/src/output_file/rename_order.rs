//! The order in which the outputs of one token are replaced: each is prepared, then they get their
//! names one after another. So readers of two outputs see the same token, except for the time of a
//! few renames.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest wait for other outputs: one that hangs must not delay the others for longer (P14).
/// Together with the rename it is shorter than the wait for a write at shutdown.
const PATIENCE: Duration = Duration::from_millis(300);

/// How far one output is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Progress {
    Preparing,
    Prepared,
    Done,
}

#[derive(Debug)]
struct Shared {
    outputs: Mutex<Vec<Progress>>,
    changed: Condvar,
}

/// The place of one output in the order. A place that is dropped is done.
#[derive(Debug)]
pub struct RenamePlace {
    shared: Arc<Shared>,
    index: usize,
}

impl RenamePlace {
    /// The places of so many outputs, in their order.
    #[must_use]
    pub fn places_for(outputs: usize) -> Vec<Self> {
        let shared = Arc::new(Shared {
            outputs: Mutex::new(vec![Progress::Preparing; outputs]),
            changed: Condvar::new(),
        });
        (0..outputs).map(|index| Self { shared: Arc::clone(&shared), index }).collect()
    }

    /// Waits until every output is prepared and those before this one have their names, for at most
    /// 300 ms. Blocks.
    pub fn wait(&self) {
        let mut outputs = self.set(Progress::Prepared);
        let blocks = |outputs: &mut Vec<Progress>| {
            let before = &outputs[..self.index];
            outputs.contains(&Progress::Preparing) || before.contains(&Progress::Prepared)
        };
        outputs = match self.shared.changed.wait_timeout_while(outputs, PATIENCE, |outputs| blocks(outputs)) {
            Ok((outputs, _)) => outputs,
            Err(poisoned) => poisoned.into_inner().0,
        };
        drop(outputs);
    }

    fn set(&self, progress: Progress) -> MutexGuard<'_, Vec<Progress>> {
        let mut outputs = self.shared.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        outputs[self.index] = progress;
        self.shared.changed.notify_all();
        outputs
    }
}

impl Drop for RenamePlace {
    fn drop(&mut self) {
        drop(self.set(Progress::Done));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn no_output_is_renamed_before_all_are_prepared_and_the_order_is_that_of_the_outputs() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut places: Vec<_> = RenamePlace::places_for(3).into_iter().map(Some).collect();
            let (sender, renamed) = channel();
            let mut threads = vec![];
            for (number, index) in order.into_iter().enumerate() {
                assert!(renamed.try_recv().is_err(), "{number} of 3 are prepared");
                let (place, sender) = (places[index].take().unwrap(), sender.clone());
                threads.push(thread::spawn(move || {
                    place.wait();
                    sender.send(index).unwrap();
                    drop(place);
                }));
            }
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(renamed.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
        }
    }

    #[test]
    fn an_output_that_fails_or_hangs_does_not_stop_the_others() {
        let mut places = RenamePlace::places_for(3);
        let hanging = places.remove(0);
        // This one has failed before it was prepared.
        drop(places.remove(0));
        places[0].wait();
        drop(hanging);
        places[0].wait();
    }
}
