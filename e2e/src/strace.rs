//! System calls seen and spoiled: the program under strace, of Debian, unpacked.

use std::fs;
use std::path::{Path, PathBuf};

use dexsidecar_fetch::counterparts::STRACE;
use tempfile::TempDir;

use crate::prebuilt;
use crate::sidecar::{Setup, program};

/// A trace that is being written.
#[derive(Debug)]
pub struct Trace {
    folder: TempDir,
}

impl Trace {
    /// Traces a sidecar with these arguments of strace, split at spaces; threads are followed.
    ///
    /// # Panics
    /// Without strace.
    #[must_use]
    pub fn of(setup: Setup, arguments: &str) -> (Self, Setup) {
        Self::of_program(program(), setup, arguments)
    }

    /// The same of another program than the one that is built for tests.
    ///
    /// # Panics
    /// Without strace.
    #[must_use]
    pub fn of_program(program: PathBuf, setup: Setup, arguments: &str) -> (Self, Setup) {
        let root = prebuilt::packages(&STRACE);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (strace, file) = (root.join("usr/bin/strace"), folder.path().join("trace"));
        let mut words: Vec<PathBuf> = vec![strace, "-f".into(), "-qq".into(), "-o".into(), file];
        words.extend(arguments.split_ascii_whitespace().map(PathBuf::from));
        words.push(program);
        let words: Vec<&Path> = words.iter().map(PathBuf::as_path).collect();
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let setup = setup.program(&words).set("LD_LIBRARY_PATH", libraries.to_str().expect("UTF-8"));
        (Self { folder }, setup)
    }

    /// The lines so far, each `PID call(arguments) = result`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("trace")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
