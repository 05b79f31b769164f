//! Readers that read a token file as fast as they can and judge every content that they see.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// The numbers of reads, by what was read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// All reads.
    pub reads: usize,
    /// The file was empty.
    pub empty: usize,
    /// The content was anything but one complete token.
    pub malformed: usize,
    /// The content was a complete token that had expired.
    pub expired: usize,
    /// The file did not exist.
    pub missing: usize,
}

/// The judgement of one content that is not empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// One complete token that has not expired.
    Valid,
    /// A complete token that has expired.
    Expired,
    /// Anything else.
    Malformed,
}

#[derive(Debug, Default)]
struct Counts {
    reads: AtomicUsize,
    empty: AtomicUsize,
    malformed: AtomicUsize,
    expired: AtomicUsize,
    missing: AtomicUsize,
}

/// Running readers, which stop when dropped.
#[derive(Debug)]
pub struct Readers {
    stopping: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts so many readers of a file.
    #[must_use]
    pub fn start(
        readers: usize,
        file: &Path,
        judge: impl Fn(&str) -> Judgement + Send + Sync + 'static,
    ) -> Self {
        let (stopping, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let judge = Arc::new(judge);
        let threads = (0..readers)
            .map(|_| {
                let (stopping, counts, judge) =
                    (Arc::clone(&stopping), Arc::clone(&counts), Arc::clone(&judge));
                let file = file.to_owned();
                std::thread::spawn(move || {
                    while !stopping.load(Ordering::Relaxed) {
                        counts.reads.fetch_add(1, Ordering::Relaxed);
                        let count = match std::fs::read_to_string(&file) {
                            Err(_) => &counts.missing,
                            Ok(text) if text.is_empty() => &counts.empty,
                            Ok(text) => match judge(&text) {
                                Judgement::Valid => continue,
                                Judgement::Expired => &counts.expired,
                                Judgement::Malformed => &counts.malformed,
                            },
                        };
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self { stopping, counts, threads }
    }

    /// The numbers so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Seen {
            reads: read(&self.counts.reads),
            empty: read(&self.counts.empty),
            malformed: read(&self.counts.malformed),
            expired: read(&self.counts.expired),
            missing: read(&self.counts.missing),
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
