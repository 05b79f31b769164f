//! Reaps processes whose parent has ended, which become children of this process if it is PID 1 of
//! its namespace. It never takes the exit status of a command that somebody waits for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process_group, waitid};

use super::Attempt;
use super::process_table::{self, Process};
use crate::clock::Clock;

/// How long the start of a command may take at the end of the program. A volume that stalls takes
/// longer; its command has not been executed yet.
const START_GRACE: Duration = Duration::from_millis(200);

/// The kernel gives the start of a process in hundredths of a second; this is more.
const PRECISION: Duration = Duration::from_secs(1);

/// The commands that were started and not reaped.
#[derive(Debug, Default)]
struct Commands {
    /// One has been started. Before that there is nothing to reap.
    has_started: bool,
    /// Those that are being started, on the boot clock since when: their numbers are not known yet.
    starting: Vec<Duration>,
    /// Those that somebody waits for.
    awaited: Vec<Pid>,
    /// Those that nobody waits for any more, and the attempts that are not over before they end.
    abandoned: Vec<(Pid, Attempt)>,
}

static COMMANDS: Mutex<Commands> = Mutex::new(Commands {
    has_started: false,
    starting: Vec::new(),
    awaited: Vec::new(),
    abandoned: Vec::new(),
});

fn commands() -> MutexGuard<'static, Commands> {
    COMMANDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command is being started, until this is dropped.
#[derive(Debug)]
pub(super) struct Starting(Duration);

impl Starting {
    pub(super) fn begin() -> Self {
        let now = Clock::System.now().boot.since_start();
        let mut commands = commands();
        commands.has_started = true;
        commands.starting.push(now);
        Self(now)
    }

    /// It has this number.
    pub(super) fn started(self, pid: Pid) {
        commands().awaited.push(pid);
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let mut commands = commands();
        if let Some(index) = commands.starting.iter().position(|since| *since == self.0) {
            commands.starting.swap_remove(index);
        }
    }
}

/// The command with this number was reaped.
pub(super) fn reaped(pid: Pid) {
    commands().awaited.retain(|awaited| *awaited != pid);
}

/// Nobody waits for the command with this number any more. Its attempt is over when it has ended.
pub(super) fn abandoned(pid: Pid, attempt: Attempt) {
    let mut commands = commands();
    commands.awaited.retain(|awaited| *awaited != pid);
    commands.abandoned.push((pid, attempt));
}

/// Ends the commands that were being started when everything else ended, at the end of the program.
/// Such a command has no number yet, so its start is waited for. Blocks, at most 200 ms.
#[expect(clippy::disallowed_methods, reason = "the process is shutting down")]
pub fn end_started() {
    let start = Instant::now();
    while !commands().starting.is_empty() && start.elapsed() < START_GRACE {
        std::thread::sleep(Duration::from_millis(2));
    }
    for pid in &commands().awaited {
        let _ = kill_process_group(*pid, Signal::KILL);
    }
}

/// Reaps what nobody waits for: at the end of a command, and at each poll of the files, since a
/// process that has left its group may end much later than its command.
pub fn reap() {
    if !commands().has_started {
        return;
    }
    let is_init = getpid().is_init();
    let zombies = if is_init { process_table::all() } else { vec![] };
    let own = getpid().as_raw_pid();
    let mut commands = commands();
    commands.abandoned.retain(|(pid, _)| is_running(*pid));
    // A command that has ended already might be taken for an orphan while its number is unknown. It
    // is younger than its start, which may hang.
    let oldest = commands.starting.iter().min().copied();
    let may_be_started = |each: &Process| oldest.is_some_and(|since| each.started + PRECISION >= since);
    let orphans = zombies.into_iter().filter(|each| each.parent == own && each.is_zombie());
    let orphans = orphans.filter(|each| !may_be_started(each));
    for orphan in orphans.filter(|orphan| !commands.awaited.contains(&orphan.pid)) {
        is_running(orphan.pid);
    }
}

/// Reaps a child if it has ended. False if it has, or if there is no such child.
pub(super) fn is_running(pid: Pid) -> bool {
    matches!(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG), Ok(None))
}
