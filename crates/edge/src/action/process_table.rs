//! The processes of this PID namespace, as `/proc` shows them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, RawPid};

use crate::input_file;

/// The unit of times in `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that is released.
const TICKS_PER_SECOND: u64 = 100;
/// `comm` has at most this many bytes (`TASK_COMM_LEN` without the final NUL).
const LONGEST_COMM: usize = 15;
/// How much of `/proc/PID/stat` and `/proc/PID/cmdline` is read, in bytes.
const LONGEST_STAT: usize = 4096;
const LONGEST_CMDLINE: usize = 128 * 1024;

/// A process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Process {
    pub(super) pid: Pid,
    /// The name of its main thread, cut after 15 bytes.
    comm: String,
    /// Its state, such as `S` for sleeping and `Z` for a zombie.
    state: char,
    /// The process that started it, or that it was handed to. 0 if that is in another namespace.
    pub(super) parent: RawPid,
    /// When it was started, on the boot clock.
    pub(super) started: Duration,
}

impl Process {
    /// Reads the entry of one process. `None` if there is none.
    pub(super) fn read(pid: Pid) -> Option<Self> {
        let stat = read(&format!("/proc/{}/stat", pid.as_raw_pid()), LONGEST_STAT)?;
        Self::parse(pid, &String::from_utf8_lossy(&stat))
    }

    /// Parses `PID (COMM) STATE PPID …`, with the start as the 22nd field (proc_pid_stat(5)). The
    /// name may hold spaces and parentheses.
    fn parse(pid: Pid, stat: &str) -> Option<Self> {
        let (before, after) = stat.rsplit_once(')')?;
        let (_, comm) = before.split_once('(')?;
        let mut fields = after.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let ticks: u64 = fields.nth(17)?.parse().ok()?;
        let started = Duration::from_millis(ticks.saturating_mul(1_000 / TICKS_PER_SECOND));
        Some(Self { pid, comm: comm.to_owned(), state, parent, started })
    }

    /// True if it has ended and was not waited for.
    pub(super) const fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// True if this is its name: that of its main thread, or the file name of its first argument,
    /// which is not cut.
    pub(super) fn is_named(&self, name: &str) -> bool {
        if name.len() <= LONGEST_COMM && self.comm == name {
            return true;
        }
        let command = read(&format!("/proc/{}/cmdline", self.pid.as_raw_pid()), LONGEST_CMDLINE);
        command.is_some_and(|command| {
            let first = command.split(|byte| *byte == 0).next().unwrap_or_default();
            first.rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes())
        })
    }
}

/// All processes that have not ended, and zombies.
pub(super) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return vec![] };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: RawPid| Process::read(Pid::from_raw(pid)?)).collect()
}

fn read(path: &str, largest: usize) -> Option<Vec<u8>> {
    input_file::read(Path::new(path), largest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_parsed_whatever_the_name_is() {
        let rest = "S 7 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 2 3";
        let pid = Pid::from_raw(42).unwrap();
        for comm in ["nginx", "a b", "((x) 1 2)", "", ") S 1 1"] {
            let process = Process::parse(pid, &format!("42 ({comm}) {rest}")).unwrap();
            assert_eq!((process.comm.as_str(), process.state, process.parent), (comm, 'S', 7));
            assert_eq!(process.started, Duration::from_millis(123_450));
        }
        for broken in ["", "42", "42 (x", "42 (x)", "42 (x) S", "42 (x) S y", "42 (x) S 1 1"] {
            assert_eq!(Process::parse(pid, broken), None, "{broken}");
        }
    }

    #[test]
    fn this_process_is_in_the_table_with_its_name_and_parent() {
        let own = rustix::process::getpid();
        let process = all().into_iter().find(|process| process.pid == own).unwrap();
        assert!(!process.is_zombie());
        assert_eq!(Some(process.parent), rustix::process::getppid().map(Pid::as_raw_pid));
        let program = std::env::current_exe().unwrap();
        let name = program.file_name().unwrap().to_str().unwrap();
        assert!(name.len() > LONGEST_COMM && process.is_named(name), "by its first argument");
        assert!(!process.is_named(&name[..LONGEST_COMM]) || process.comm == name[..LONGEST_COMM]);
        assert!(!process.is_named("") && !process.is_named("no-such-name"));
    }
}
