//! Work that may stall, on a thread of its own, so that signals are heard meanwhile. The thread ends with its work: an idle
//! process has one.

use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

/// Enough for a write, many times over, in bytes.
const STACK: usize = 128 * 1024;

/// How long work that must be finished may keep the process from ending.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How often it is looked after.
const PAUSE: Duration = Duration::from_micros(200);

/// What becomes of the work when nobody waits for it any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Abandoned {
    /// It is left to itself.
    Left,
    /// It is finished, within half a second.
    Finished,
}

/// Does `work` aside, and gives what came of it.
///
/// # Errors
/// No thread can be made (F107), or it ended without a result.
pub async fn aside<T: Send + 'static>(
    abandoned: Abandoned,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    let thread = Builder::new().stack_size(STACK).spawn(move || {
        // Nobody may be waiting any more.
        let _ = sender.send(work());
    })?;
    let _finishing = (abandoned == Abandoned::Finished).then_some(Finishing(thread));
    // Paused time stands still only for what tokio knows of.
    #[cfg(test)]
    let receiver =
        async { tokio::task::spawn_blocking(move || receiver.blocking_recv()).await.expect("it waits") };
    receiver.await.map_err(io::Error::other)
}

/// Waits for a thread when it is dropped, by polling: joining has no deadline.
struct Finishing(JoinHandle<()>);

impl Drop for Finishing {
    #[expect(
        clippy::disallowed_methods,
        reason = "the loop is over, or the thread is: this is about this very thread"
    )]
    fn drop(&mut self) {
        for _ in 0..LAST_WORDS.as_micros() / PAUSE.as_micros() {
            if self.0.is_finished() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn f101_work_that_must_be_finished_is_finished_even_when_nobody_waits() {
        for (abandoned, finished) in [(Abandoned::Finished, true), (Abandoned::Left, false)] {
            let done = Arc::new(AtomicBool::new(false));
            let (go, gone) = std::sync::mpsc::channel();
            let mine = Arc::clone(&done);
            let work = aside(abandoned, move || {
                let _ = gone.recv();
                #[expect(clippy::disallowed_methods, reason = "something that takes its time")]
                std::thread::sleep(Duration::from_millis(100));
                mine.store(true, Ordering::SeqCst);
            });
            let leaving = async {
                tokio::task::yield_now().await;
                go.send(()).unwrap();
            };
            tokio::select! {
                biased;
                _ = work => panic!("it cannot be done before it may go on"),
                () = leaving => {}
            }
            assert_eq!(done.load(Ordering::SeqCst), finished);
        }
    }

    #[tokio::test]
    async fn what_came_of_it_comes_back() {
        assert_eq!(aside(Abandoned::Left, || 7).await.unwrap(), 7);
    }
}
