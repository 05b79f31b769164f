//! Finds the other processes of this program, and requests a refresh from one.
//!
//! `/proc/PID/exe` of a process that hides its memory cannot be read without privileges. So a
//! process is recognised by its name and its arguments, and by its handlers for both signals: any
//! other process would be ended by the signal.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal};

use crate::process_handle::ProcessHandle;

/// The name of the program's file in the image.
const NAME: &str = "dexsidecar";

/// Another process of this program, in the same PID namespace.
#[derive(Debug)]
pub struct Running {
    /// Its process id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// Its arguments after the program's name.
    pub arguments: Vec<OsString>,
    /// Whether it runs in the same control group, so in the same container.
    pub is_in_this_container: bool,
    handle: ProcessHandle,
    /// Whether it handles the signals that request a refresh.
    handles_signals: bool,
}

impl Running {
    /// Every other process of this program in this PID namespace.
    ///
    /// # Errors
    /// Those of reading `/proc`.
    pub fn others() -> io::Result<Vec<Self>> {
        let own = Own::read()?;
        let mut found = vec![];
        for entry in fs::read_dir("/proc")?.filter_map(Result::ok) {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid.filter(|pid| *pid != own.pid) {
                found.extend(Self::read(pid, &own));
            }
        }
        Ok(found)
    }

    /// The process with this id, if it is one of this program.
    fn read(pid: i32, own: &Own) -> Option<Self> {
        // Opened first: what is read afterwards is of this process, or the process has ended.
        let handle = ProcessHandle::open(Pid::from_raw(pid)?)?;
        let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
        let name = file("comm")?;
        if name != own.name && name.trim_ascii_end() != NAME.as_bytes() {
            return None;
        }
        let status = String::from_utf8_lossy(&file("status")?).into_owned();
        if namespaces(&status) != own.namespaces {
            return None;
        }
        // A process that has ended has no arguments.
        let mut arguments = arguments(&file("cmdline")?);
        (!arguments.is_empty()).then(|| arguments.remove(0))?;
        Some(Self {
            pid,
            parent: field(&status, "PPid").and_then(|parent| parent.parse().ok()).unwrap_or_default(),
            arguments,
            is_in_this_container: file("cgroup")? == own.control_groups,
            handle,
            handles_signals: handles_both(&status),
        })
    }

    /// Requests a refresh: sends SIGUSR1. False if the process has not installed its handlers yet;
    /// then nothing is sent.
    ///
    /// # Errors
    /// `PermissionDenied` for a process of another uid; `NotFound` if it has ended.
    pub fn request_refresh(&self) -> io::Result<bool> {
        if self.handles_signals {
            self.handle.signal(Signal::USR1)?;
        }
        Ok(self.handles_signals)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.handle.has_ended()
    }
}

/// What is compared, of this process.
struct Own {
    pid: i32,
    name: Vec<u8>,
    namespaces: usize,
    control_groups: Vec<u8>,
}

impl Own {
    fn read() -> io::Result<Self> {
        let file = |name: &str| fs::read(Path::new("/proc/self").join(name));
        Ok(Self {
            pid: rustix::process::getpid().as_raw_pid(),
            name: file("comm")?,
            namespaces: namespaces(&String::from_utf8_lossy(&file("status")?)),
            control_groups: file("cgroup")?,
        })
    }
}

/// The arguments in `/proc/PID/cmdline`: each ends with a NUL byte.
fn arguments(cmdline: &[u8]) -> Vec<OsString> {
    let Some(text) = cmdline.strip_suffix(b"\0") else { return vec![] };
    text.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect()
}

/// A field of `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// How many PID namespaces a process is in, counted from that of `/proc`.
fn namespaces(status: &str) -> usize {
    field(status, "NSpid").map_or(0, |ids| ids.split_ascii_whitespace().count())
}

/// Whether SIGHUP and SIGUSR1 have handlers.
fn handles_both(status: &str) -> bool {
    let bit = |signal: Signal| 1_u64 << (signal.as_raw() - 1);
    let both = bit(Signal::HUP) | bit(Signal::USR1);
    field(status, "SigCgt")
        .and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .is_some_and(|mask| mask & both == both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_separated_by_nul_bytes() {
        assert_eq!(arguments(b"dexsidecar\0run\0\0--log-level\0"), ["dexsidecar", "run", "", "--log-level"]);
        assert_eq!(arguments(b"dexsidecar\0"), ["dexsidecar"]);
        assert!(arguments(b"").is_empty(), "a zombie");
    }

    #[test]
    fn a_process_with_handlers_for_both_signals_may_be_signalled() {
        let status = |mask| format!("Name:\tdexsidecar\nNSpid:\t7\t1\nSigCgt:\t{mask}\n");
        assert_eq!(namespaces(&status("0")), 2);
        for (mask, handles) in [
            ("0000000000000201", true),
            ("0000000100004603", true),
            ("0000000000000200", false),
            ("0000000000000001", false),
            ("0000000000000000", false),
            ("x", false),
        ] {
            assert_eq!(handles_both(&status(mask)), handles, "{mask}");
        }
        assert!(!handles_both("Name:\tdexsidecar\n"));
    }

    #[test]
    fn a_process_of_another_name_is_not_found_and_an_ended_one_is_noticed() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(Running::others().unwrap().iter().all(|found| found.pid != pid));
        let own = Own { name: b"sleep\n".to_vec(), ..Own::read().unwrap() };
        // Until it has become the program, it has this process's name.
        let found = loop {
            if let Some(found) = Running::read(pid, &own) {
                break found;
            }
            std::thread::yield_now();
        };
        assert_eq!((found.arguments.as_slice(), found.is_in_this_container), (&["100".into()][..], true));
        assert!(!found.request_refresh().unwrap() && !found.has_ended(), "it has no handlers");
        let without_pidfd = Running {
            handle: ProcessHandle::without_pidfd(Pid::from_raw(pid).unwrap()),
            ..Running::read(pid, &own).unwrap()
        };
        assert!(!without_pidfd.request_refresh().unwrap() && !without_pidfd.has_ended());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.has_ended() && without_pidfd.has_ended());
    }
}
