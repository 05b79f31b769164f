//! Reaps processes whose parent has ended, which become children of this process if it is PID 1 of
//! its namespace. It never takes the exit status of a command that somebody waits for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process_group, waitid};

use super::process_table;

/// How long the start of a command may take at the end of the program. A volume that stalls takes
/// longer; its command has not been executed yet.
const START_GRACE: Duration = Duration::from_millis(200);

/// The commands that were started and not reaped.
#[derive(Debug, Default)]
struct Commands {
    /// One has been started. Before that there is nothing to reap.
    has_started: bool,
    /// How many are being started: their numbers are not known yet.
    starting: usize,
    /// Those that somebody waits for.
    awaited: Vec<Pid>,
    /// Those that nobody waits for any more.
    abandoned: Vec<Pid>,
}

static COMMANDS: Mutex<Commands> =
    Mutex::new(Commands { has_started: false, starting: 0, awaited: Vec::new(), abandoned: Vec::new() });

fn commands() -> MutexGuard<'static, Commands> {
    COMMANDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command is being started, until this is dropped.
#[derive(Debug)]
pub(super) struct Starting(());

impl Starting {
    pub(super) fn begin() -> Self {
        let mut commands = commands();
        commands.has_started = true;
        commands.starting += 1;
        Self(())
    }

    /// It has this number.
    pub(super) fn started(self, pid: Pid) {
        commands().awaited.push(pid);
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        commands().starting -= 1;
    }
}

/// The command with this number was reaped, or nobody waits for it any more.
pub(super) fn ended(pid: Pid, reaped: bool) {
    let mut commands = commands();
    commands.awaited.retain(|awaited| *awaited != pid);
    if !reaped {
        commands.abandoned.push(pid);
    }
}

/// Ends the commands that were being started when everything else ended, at the end of the program.
/// Such a command has no number yet, so its start is waited for. Blocks, at most 200 ms.
#[expect(clippy::disallowed_methods, reason = "the process is shutting down")]
pub fn end_started() {
    let start = Instant::now();
    while commands().starting > 0 && start.elapsed() < START_GRACE {
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
    commands.abandoned.retain(|pid| is_running(*pid));
    // A command that has ended already might be taken for an orphan while its number is unknown.
    if commands.starting > 0 {
        return;
    }
    let orphans = zombies.into_iter().filter(|each| each.parent == own && each.is_zombie());
    for orphan in orphans.filter(|orphan| !commands.awaited.contains(&orphan.pid)) {
        is_running(orphan.pid);
    }
}

/// Reaps a child if it has ended. False if it has, or if there is no such child.
pub(super) fn is_running(pid: Pid) -> bool {
    matches!(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG), Ok(None))
}
