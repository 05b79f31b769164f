//! A process that may be signalled. A pidfd is used where the kernel and the seccomp profile allow
//! it. So a process that was given the number of an ended one gets no signal.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal, test_kill_process,
};

/// A process by its number, and by a pidfd if there is one.
#[derive(Debug)]
pub(crate) struct ProcessHandle {
    pid: Pid,
    pidfd: Option<OwnedFd>,
}

impl ProcessHandle {
    /// The process with this number. `None` if there is none.
    pub(crate) fn open(pid: Pid) -> Option<Self> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Some(Self { pid, pidfd: Some(pidfd) }),
            Err(Errno::SRCH) => None,
            Err(_) => Some(Self { pid, pidfd: None }),
        }
    }

    /// As where there are no pidfds.
    #[cfg(test)]
    pub(crate) const fn without_pidfd(pid: Pid) -> Self {
        Self { pid, pidfd: None }
    }

    /// Its number.
    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// `ESRCH` if it has ended, `EPERM` if it belongs to another uid.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match &self.pidfd {
            Some(pidfd) => pidfd_send_signal(pidfd, signal),
            None => kill_process(self.pid, signal),
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        let Some(pidfd) = &self.pidfd else {
            return test_kill_process(self.pid) == Err(Errno::SRCH);
        };
        let mut ended = [PollFd::new(pidfd, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut ended, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }
}
