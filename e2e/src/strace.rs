//! strace around the program: it records system calls, and makes them fail, wait or kill the
//! program. It comes from an unpacked Debian package.

use std::fs;
use std::path::{Path, PathBuf};

use dexsidecar_fetch::counterparts::STRACE;
use tempfile::TempDir;

use crate::prebuilt;
use crate::sidecar::{Setup, program};

/// The record of a program that strace runs.
#[derive(Debug)]
pub struct Trace {
    directory: TempDir,
}

impl Trace {
    /// Puts strace with these arguments, split at spaces, before the program of a set-up. Threads
    /// are followed.
    ///
    /// # Panics
    /// Without strace.
    #[must_use]
    pub fn of(setup: Setup, arguments: &str) -> (Self, Setup) {
        Self::of_program(program(), setup, arguments)
    }

    /// The same for a program other than the one that is built for tests.
    ///
    /// # Panics
    /// Without strace.
    #[must_use]
    pub fn of_program(program: PathBuf, setup: Setup, arguments: &str) -> (Self, Setup) {
        let root = prebuilt::packages(&STRACE);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (strace, file) = (root.join("usr/bin/strace"), directory.path().join("trace"));
        let mut words: Vec<PathBuf> = vec![strace, "-f".into(), "-qq".into(), "-o".into(), file];
        words.extend(arguments.split_ascii_whitespace().map(PathBuf::from));
        words.push(program);
        let words: Vec<&Path> = words.iter().map(PathBuf::as_path).collect();
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let setup = setup.program(&words).set("LD_LIBRARY_PATH", libraries.to_str().expect("UTF-8"));
        (Self { directory }, setup)
    }

    /// The lines so far, each as `PID call(arguments) = result`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join("trace")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
