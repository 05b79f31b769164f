//! Runs blocking work on a separate thread, so that signals are handled meanwhile. The thread ends
//! with its work: an idle process has one thread.

use std::cell::Cell;
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// The stack of the thread, in bytes. Writing a file needs a fraction of it.
const STACK_BYTES: usize = 128 * 1024;

/// The longest wait for [`OnDrop::Join`], for all threads together: the process is shutting down.
const JOIN_TIMEOUT: Duration = Duration::from_millis(500);

/// How often [`OnDrop::Join`] checks whether the thread has ended.
const POLL_INTERVAL: Duration = Duration::from_micros(200);

/// What happens to the work when the future of [`run_blocking`] is dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnDrop {
    /// It continues in the background.
    Detach,
    /// The drop waits for its end, up to 500 ms.
    Join,
}

/// Runs `work` on a separate thread and returns its result.
///
/// # Errors
/// No thread can be created (F107), or it ended without a result.
pub async fn run_blocking<T: Send + 'static>(
    on_drop: OnDrop,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    let thread = Builder::new().stack_size(STACK_BYTES).spawn(move || {
        // Fails if the receiver was dropped.
        let _ = sender.send(work());
    })?;
    let mut joining = JoinOnDrop(Some(thread).filter(|_| on_drop == OnDrop::Join));
    // Paused time does not advance while tokio runs a blocking task, which this makes of the wait.
    #[cfg(any(test, feature = "test-clock"))]
    let receiver = async {
        tokio::task::spawn_blocking(move || receiver.blocking_recv()).await.expect("the blocking task runs")
    };
    let result = receiver.await.map_err(io::Error::other);
    // It has ended, or is about to.
    joining.0 = None;
    result
}

thread_local! {
    /// Until when this thread waits for others: set by the first wait. Several writes that hang
    /// would otherwise delay the end of the process one after the other (P7).
    static JOIN_DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Waits for a thread when dropped. It polls, because `JoinHandle::join` has no timeout.
struct JoinOnDrop(Option<JoinHandle<()>>);

impl Drop for JoinOnDrop {
    #[expect(
        clippy::disallowed_methods,
        reason = "the process is shutting down, or the thread has ended: nothing else needs this thread"
    )]
    fn drop(&mut self) {
        while self.0.as_ref().is_some_and(|thread| !thread.is_finished()) {
            let now = Instant::now();
            let deadline = JOIN_DEADLINE.get().unwrap_or(now + JOIN_TIMEOUT);
            JOIN_DEADLINE.set(Some(deadline));
            if now >= deadline {
                return;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn f101_dropping_the_future_waits_for_the_work_only_with_join() {
        for (on_drop, finished) in [(OnDrop::Join, true), (OnDrop::Detach, false)] {
            let done = Arc::new(AtomicBool::new(false));
            let (start, started) = std::sync::mpsc::channel();
            let shared = Arc::clone(&done);
            let work = run_blocking(on_drop, move || {
                let _ = started.recv();
                #[expect(clippy::disallowed_methods, reason = "work that takes 100 ms")]
                std::thread::sleep(Duration::from_millis(100));
                shared.store(true, Ordering::SeqCst);
            });
            let starting = async {
                tokio::task::yield_now().await;
                start.send(()).unwrap();
            };
            tokio::select! {
                biased;
                _ = work => panic!("the work has not started"),
                () = starting => {}
            }
            assert_eq!(done.load(Ordering::SeqCst), finished);
        }
    }

    #[tokio::test]
    async fn f101_many_threads_that_hang_are_waited_for_together() {
        let (ended, end) = std::sync::mpsc::channel::<()>();
        let end = Arc::new(std::sync::Mutex::new(end));
        let mut deadlines = vec![];
        for _ in 0..3 {
            let end = Arc::clone(&end);
            let hanging = run_blocking(OnDrop::Join, move || drop(end.lock().map(|end| end.recv())));
            tokio::select! {
                biased;
                _ = hanging => panic!("the work does not end"),
                () = tokio::task::yield_now() => {}
            }
            deadlines.push(JOIN_DEADLINE.get());
        }
        assert!(deadlines[0].is_some() && deadlines.iter().all(|each| *each == deadlines[0]));
        drop(ended);
    }

    #[tokio::test]
    async fn the_result_is_returned_and_nothing_is_waited_for() {
        for on_drop in [OnDrop::Detach, OnDrop::Join] {
            assert_eq!(run_blocking(on_drop, || 7).await.unwrap(), 7);
        }
        assert_eq!(JOIN_DEADLINE.get(), None, "the process is not shutting down");
    }
}
