//! Reaps processes whose parent has ended, which become children of this process if it is PID 1 of
//! its namespace. It never takes the exit status of a command that somebody waits for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, kill_process_group, waitid};

use super::Attempt;
use super::process_table;
use crate::clock::Clock;

/// How long the start of a command may take at the end of the program. A volume that stalls takes
/// longer; its command has not been executed yet.
const START_GRACE: Duration = Duration::from_millis(200);

/// How long after the end of a command its start may still be at work.
const START_ENDS: Duration = Duration::from_secs(5);

/// The commands that were started and not reaped.
#[derive(Debug, Default)]
struct Commands {
    /// One has been started. Before that there is nothing to reap.
    has_started: bool,
    /// How many are being started: their numbers are not known yet.
    starting: usize,
    /// Those that somebody waits for.
    awaited: Vec<Pid>,
    /// Zombies that may be commands which are being started, and since when they have been seen.
    suspects: Vec<(Pid, Duration)>,
    /// Those that nobody waits for any more, and the attempts that are not over before they end.
    abandoned: Vec<(Pid, Attempt)>,
}

static COMMANDS: Mutex<Commands> = Mutex::new(Commands {
    has_started: false,
    starting: 0,
    awaited: Vec::new(),
    suspects: Vec::new(),
    abandoned: Vec::new(),
});

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
    while commands().starting > 0 && start.elapsed() < START_GRACE {
        std::thread::sleep(Duration::from_millis(2));
    }
    for pid in &commands().awaited {
        let _ = kill_process_group(*pid, Signal::KILL);
        let _ = kill_process(*pid, Signal::KILL);
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
    let orphans = zombies.into_iter().filter(|each| each.parent == own && each.is_zombie());
    let orphans: Vec<Pid> =
        orphans.map(|each| each.pid).filter(|pid| !commands.awaited.contains(pid)).collect();
    let now = Clock::System.now().boot.since_start();
    let is_starting = commands.starting > 0;
    for orphan in certain(&orphans, &mut commands.suspects, is_starting, now) {
        is_running(orphan);
    }
}

/// Those of these zombies that are certainly no command which is being started. Such a command may
/// have ended already, while its number is unknown. Whoever starts it waits for it at once, so a
/// zombie that stays is another one.
fn certain(
    zombies: &[Pid],
    suspects: &mut Vec<(Pid, Duration)>,
    is_starting: bool,
    now: Duration,
) -> Vec<Pid> {
    suspects.retain(|(pid, _)| is_starting && zombies.contains(pid));
    let mut is_certain = |zombie: &Pid| {
        let seen = suspects.iter().find(|(pid, _)| pid == zombie).map(|(_, since)| *since);
        match seen {
            _ if !is_starting => true,
            Some(since) => now >= since + START_ENDS,
            None => {
                suspects.push((*zombie, now));
                false
            }
        }
    };
    zombies.iter().copied().filter(|zombie| is_certain(zombie)).collect()
}

/// Reaps a child if it has ended. False if it has, or if there is no such child.
pub(super) fn is_running(pid: Pid) -> bool {
    matches!(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG), Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_a_start_hangs_a_zombie_is_reaped_when_it_has_stayed() {
        let (zombie, second) = (Pid::from_raw(7).unwrap(), Pid::from_raw(8).unwrap());
        let at = Duration::from_secs;
        let mut suspects = vec![];
        assert_eq!(certain(&[zombie], &mut suspects, false, at(0)), [zombie], "nothing is being started");
        assert_eq!(certain(&[zombie], &mut suspects, true, at(1)), []);
        assert_eq!(certain(&[zombie, second], &mut suspects, true, at(4)), []);
        assert_eq!(certain(&[zombie, second], &mut suspects, true, at(6)), [zombie]);
        // Another process may get its number.
        assert_eq!(certain(&[second], &mut suspects, true, at(7)), []);
        assert_eq!(certain(&[zombie], &mut suspects, true, at(8)), []);
        assert_eq!(certain(&[], &mut suspects, false, at(9)), []);
        assert!(suspects.is_empty());
    }
}
