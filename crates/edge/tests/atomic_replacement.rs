//! Readers during thousands of replacements of a token file. The program replaces one every few
//! seconds at most (the rate limit); the code that writes it has no such limit. With
//! `DEXSIDECAR_E2E_LONG` set there are ten million reads.

#![expect(clippy::disallowed_methods, reason = "a test may read the clock and its environment")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dexsidecar_core::output::{Format, Output, WriteMode};
use dexsidecar_core::secret::Secret;
use dexsidecar_edge::output_file;

/// With more of them than processors, the writer would mostly wait.
const READERS: usize = 2;

/// The numbers of reads, by what was read.
#[derive(Default)]
struct Reads {
    all: AtomicUsize,
    missing: AtomicUsize,
    /// Empty, cut off, or a mixture of two tokens.
    partial: AtomicUsize,
}

impl Reads {
    fn counts(&self) -> (usize, usize, usize) {
        let [all, missing, partial] =
            [&self.all, &self.missing, &self.partial].map(|count| count.load(Ordering::Relaxed));
        (all, missing, partial)
    }
}

fn read(path: &Path, tokens: &[String], reads: &Reads, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Relaxed) {
        match std::fs::read_to_string(path) {
            Err(_) => reads.missing.fetch_add(1, Ordering::Relaxed),
            Ok(text) if tokens.contains(&text) => 0,
            Ok(_) => reads.partial.fetch_add(1, Ordering::Relaxed),
        };
        reads.all.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes tokens of four lengths in turn until it is enough: `enough` gets all reads, the partial
/// ones, and the number of writes. Returns the numbers of all, missing and partial reads.
fn write_and_read(
    write_mode: WriteMode,
    enough: impl Fn(usize, usize, usize) -> bool,
) -> (usize, usize, usize) {
    let tokens: Vec<String> =
        "abcd".chars().zip([400, 1_900, 700, 5_000]).map(|(c, n)| c.to_string().repeat(n)).collect();
    // A file system in memory, if there is one: most of the time would be spent on flushing to
    // disk.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let directory = directory.expect("a temporary directory");
    let path = directory.path().join("token");
    let output = Output {
        path: path.clone(),
        create_directories: false,
        format: Format::default(),
        mode: None,
        group: None,
        write_mode,
        remove_expired: false,
    };
    let secrets: Vec<Secret> = tokens.iter().cloned().map(Secret::new).collect();
    let write = |number: usize| {
        output_file::write(&output, &secrets[number % secrets.len()]).expect("a writable directory");
    };
    write(0);
    let (reads, stopping) = (Reads::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| read(&path, &tokens, &reads, &stopping));
        }
        let (start, mut writes) = (Instant::now(), 0);
        loop {
            let (all, _, partial) = reads.counts();
            let hangs = start.elapsed() > Duration::from_secs(600);
            if hangs || enough(all, partial, writes) {
                stopping.store(true, Ordering::Relaxed);
                assert!(!hangs, "{writes} writes, {all} reads, {partial} of them partial");
                break;
            }
            writes += 1;
            write(writes);
        }
    });
    reads.counts()
}

#[test]
fn f089_no_read_during_thousands_of_atomic_replacements_is_partial() {
    let long = std::env::var_os("DEXSIDECAR_E2E_LONG").is_some();
    let (wanted, writes) = if long { (10_000_000, 100_000) } else { (200_000, 2_000) };
    let (_, missing, partial) =
        write_and_read(WriteMode::Atomic, |all, _, written| all >= wanted && written >= writes);
    assert_eq!((missing, partial), (0, 0));
}

/// This also shows that the readers of the test above would see a partial token.
#[test]
fn f080_reads_while_a_file_is_overwritten_in_place_may_be_partial_and_the_file_is_never_missing() {
    let (_, missing, _) = write_and_read(WriteMode::InPlace, |_, partial, _| partial > 0);
    assert_eq!(missing, 0);
}
