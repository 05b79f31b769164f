//! Sends the signal of an action.

use std::io;
use std::path::Path;
use std::time::Duration;

use dexsidecar_core::action::{SignalAction, SignalTarget};
use dexsidecar_core::failure::Failure;
use dexsidecar_core::token_file::EARLIEST_PLAUSIBLE_NOW;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, test_kill_process};

use super::failed;
use super::process_table::{self, Process};
use crate::clock::Clock;
use crate::input_file;
use crate::process_handle::ProcessHandle;

/// The longest content of a pid file, in bytes.
const LONGEST_PID_FILE: usize = 64;
/// A process that was started so long after its pid file was written is another one. Processes
/// write the file before or shortly after they start, and the wall clock may be set meanwhile.
const START_TOLERANCE: Duration = Duration::from_secs(60);

const FIX_NAME: &str = "set shareProcessNamespace: true in the pod's spec, and process to the name in the second \
                        column of ps -e in that container";
const FIX_PID_FILE: &str = "set shareProcessNamespace: true in the pod's spec, and mount the volume of the pid file \
                            in both containers";
const FIX_STALE: &str = "remove the pid file when the process ends, or set process instead of pid_file";
const FIX_NOT_PERMITTED: &str = "run both containers with the same runAsUser: without CAP_KILL a process can signal \
                                 only those of its own uid; or use an http action";
const FIX_REFUSED: &str = "allow kill and pidfd_send_signal in the seccomp profile of the container, or use an http \
                           action";
const FIX_SIGNAL: &str = "set signal to the name of a signal, such as HUP";

/// Sends the signal to all its processes, and returns their number. If one of them refuses signals,
/// none gets it: the action is repeated, and would signal the others again and again. It reads
/// `/proc`, so it may take some milliseconds.
///
/// # Errors
/// [`ActionFailed`](dexsidecar_core::failure::Code::ActionFailed): there is no such process, or not
/// all of them can be signalled.
pub fn send(action: &SignalAction) -> Result<usize, Failure> {
    let signal = named(action)?;
    all_or_none(action, |process| test_kill_process(process.pid()), |process| process.signal(signal))
}

/// Checks that [`send`] would succeed, without a signal.
///
/// # Errors
/// Those of [`send`].
pub fn check(action: &SignalAction) -> Result<usize, Failure> {
    named(action)?;
    for_each(&targets(&action.target)?, action, |process| test_kill_process(process.pid()))
}

/// The signal. A real-time signal has no name.
fn named(action: &SignalAction) -> Result<Signal, Failure> {
    let signal = Signal::from_named_raw(action.signal);
    signal.ok_or_else(|| failed(format!("there is no signal {}", action.signal), FIX_SIGNAL))
}

/// Sends to all targets, unless the test of one fails.
fn all_or_none(
    action: &SignalAction,
    test: impl Fn(&ProcessHandle) -> Result<(), Errno>,
    send: impl Fn(&ProcessHandle) -> Result<(), Errno>,
) -> Result<usize, Failure> {
    let targets = targets(&action.target)?;
    for_each(&targets, action, test)?;
    for_each(&targets, action, send)
}

fn for_each(
    targets: &[ProcessHandle],
    action: &SignalAction,
    send: impl Fn(&ProcessHandle) -> Result<(), Errno>,
) -> Result<usize, Failure> {
    let mut refused = None;
    let mut reached = 0;
    for process in targets {
        match send(process) {
            Ok(()) => reached += 1,
            // It has ended meanwhile.
            Err(Errno::SRCH) => {}
            Err(error) => refused = Some((process.pid(), error)),
        }
    }
    let uid = rustix::process::getuid().as_raw();
    match refused {
        Some((pid, Errno::PERM)) => Err(failed(
            format!("process {} refuses signals from uid {uid}", pid.as_raw_pid()),
            FIX_NOT_PERMITTED,
        )),
        Some((pid, error)) => {
            Err(failed(format!("process {}: {}", pid.as_raw_pid(), io::Error::from(error)), FIX_REFUSED))
        }
        None if reached == 0 => Err(none(&action.target)),
        None => Ok(reached),
    }
}

fn none(target: &SignalTarget) -> Failure {
    match target {
        SignalTarget::Process(name) => failed(format!("no process has the name {name}"), FIX_NAME),
        SignalTarget::PidFile(path) => {
            failed(format!("the process of {} has ended", path.display()), FIX_PID_FILE)
        }
    }
}

/// The processes that get the signal: at least one, and never this one.
fn targets(target: &SignalTarget) -> Result<Vec<ProcessHandle>, Failure> {
    let own = rustix::process::getpid();
    match target {
        SignalTarget::Process(name) => {
            let all = process_table::all();
            let named: Vec<_> = all
                .iter()
                .filter(|each| !each.is_zombie() && each.pid != own && each.is_named(name))
                .collect();
            let is_named = |pid| named.iter().any(|other| other.pid.as_raw_pid() == pid);
            let leaders = named.iter().filter(|each| !is_named(each.parent));
            // The name is read again with the descriptor open: it means the same process then.
            let still = |found: &Process| {
                let handle = ProcessHandle::open(found.pid)?;
                let now = Process::read(found.pid)?;
                (now.started == found.started && now.is_named(name)).then_some(handle)
            };
            let targets: Vec<_> = leaders.filter_map(|found| still(found)).collect();
            if targets.is_empty() { Err(none(target)) } else { Ok(targets) }
        }
        SignalTarget::PidFile(path) => {
            let pid = read_pid_file(path)?;
            if pid == own {
                return Err(failed(
                    format!("{} holds the number of dexsidecar's own process", path.display()),
                    fix_of_own(own),
                ));
            }
            let found =
                ProcessHandle::open(pid).zip(Process::read(pid)).filter(|(_, process)| !process.is_zombie());
            let Some((handle, process)) = found else { return Err(none(target)) };
            if is_recycled(&process, path) {
                let detail = format!(
                    "process {} was started after {} was written, so it is another one",
                    pid.as_raw_pid(),
                    path.display()
                );
                return Err(failed(detail, FIX_STALE));
            }
            Ok(vec![handle])
        }
    }
}

/// What to do about a pid file that holds the number of this process. In containers with a PID
/// namespace each, every first process has the number 1.
fn fix_of_own(own: Pid) -> &'static str {
    if own == Pid::INIT { FIX_PID_FILE } else { FIX_STALE }
}

fn read_pid_file(path: &Path) -> Result<Pid, Failure> {
    let content = input_file::read(path, LONGEST_PID_FILE)
        .map_err(|why| failed(format!("pid file {}: {why}", path.display()), FIX_PID_FILE))?;
    let number = str::from_utf8(&content).ok().and_then(|text| text.trim().parse().ok());
    number.filter(|pid| *pid > 0).and_then(Pid::from_raw).ok_or_else(|| {
        failed(format!("pid file {} does not hold the number of a process", path.display()), FIX_PID_FILE)
    })
}

/// True if the process cannot be the one that wrote the file, because it was started later.
fn is_recycled(process: &Process, pid_file: &Path) -> bool {
    let now = Clock::System.now();
    let Ok(written) = std::fs::metadata(pid_file).and_then(|metadata| metadata.modified()) else {
        return false;
    };
    let written = written.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // The clock of the node was wrong when the file was written, as before the first contact with a
    // time server. The age is unknown.
    if written < EARLIEST_PLAUSIBLE_NOW.as_duration() {
        return false;
    }
    let file_age = now.unix.as_duration().saturating_sub(written);
    let age = now.boot.since_start().saturating_sub(process.started);
    age + START_TOLERANCE < file_age
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command};
    use std::time::SystemTime;

    use dexsidecar_core::failure::Code;
    use rustix::process::kill_process;

    use super::*;

    const TERM: i32 = 15;

    /// A process with a name of its own, which ends with the test.
    struct Sleeper(Child);

    impl Sleeper {
        fn named(name: &str) -> Self {
            use std::os::unix::process::CommandExt as _;
            Self(Command::new("/bin/sleep").arg0(name).arg("60").spawn().unwrap())
        }

        fn pid(&self) -> u32 {
            self.0.id()
        }

        fn ended_by(&mut self) -> Option<i32> {
            self.0.wait().unwrap().signal()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A name that no other test has.
    fn name(of: &str) -> String {
        format!("dexsidecar-test-{of}-{}", std::process::id())
    }

    fn to_process(name: &str) -> SignalAction {
        SignalAction { target: SignalTarget::Process(name.to_owned()), signal: TERM }
    }

    fn to_pid_file(path: &Path) -> SignalAction {
        SignalAction { target: SignalTarget::PidFile(path.to_owned()), signal: TERM }
    }

    #[test]
    fn every_process_with_the_name_gets_the_signal_and_no_other() {
        let (name, other) = (name("every"), name("other"));
        let mut named = [Sleeper::named(&name), Sleeper::named(&name)];
        let mut other = Sleeper::named(&other);
        assert_eq!(check(&to_process(&name)), Ok(2));
        assert_eq!(send(&to_process(&name)), Ok(2));
        assert_eq!(named.each_mut().map(Sleeper::ended_by), [Some(TERM); 2]);
        assert!(other.0.try_wait().unwrap().is_none());
        let failure = send(&to_process(&name)).unwrap_err();
        assert_eq!((failure.code, failure.fix()), (Code::ActionFailed, FIX_NAME));
        assert!(failure.detail.contains(&name), "{failure}");
    }

    #[test]
    fn no_process_gets_the_signal_where_one_of_them_refuses_it() {
        let name = name("refuses");
        let sleepers = [Sleeper::named(&name), Sleeper::named(&name)];
        let refuses = Pid::from_raw(sleepers[1].pid().cast_signed());
        let test = |process: &ProcessHandle| {
            if Some(process.pid()) == refuses { Err(Errno::PERM) } else { Ok(()) }
        };
        let failure = all_or_none(&to_process(&name), test, |_| panic!("none is signalled")).unwrap_err();
        assert_eq!(failure.fix(), FIX_NOT_PERMITTED);
    }

    /// As nginx and its workers: a signal to a worker would end it, or be refused.
    #[test]
    fn a_process_whose_parent_has_the_name_too_gets_no_signal() {
        let directory = tempfile::tempdir().unwrap();
        let (name, marker) = (name("parent"), directory.path().join("worker"));
        let script =
            format!("(exec -a {name} sleep 60) & echo $! > {0}.new; mv {0}.new {0}; wait", marker.display());
        let mut command = Command::new("/bin/bash");
        std::os::unix::process::CommandExt::arg0(&mut command, &name);
        let mut parent = Sleeper(command.args(["-c", &script]).spawn().unwrap());
        let worker = loop {
            if let Ok(worker) = std::fs::read_to_string(&marker) {
                break Pid::from_raw(worker.trim().parse().unwrap()).unwrap();
            }
            std::thread::yield_now();
        };
        while !Process::read(worker).unwrap().is_named(&name) {
            std::thread::yield_now();
        }
        assert_eq!(send(&to_process(&name)), Ok(1));
        assert_eq!(parent.ended_by(), Some(TERM));
        assert_eq!(test_kill_process(worker), Ok(()));
        kill_process(worker, Signal::KILL).unwrap();
    }

    #[test]
    fn the_process_of_a_pid_file_gets_the_signal() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let mut sleeper = Sleeper::named(&name("pid-file"));
        std::fs::write(&file, format!(" {}\n", sleeper.pid())).unwrap();
        assert_eq!((check(&to_pid_file(&file)), send(&to_pid_file(&file))), (Ok(1), Ok(1)));
        assert_eq!(sleeper.ended_by(), Some(TERM));
        let failure = send(&to_pid_file(&file)).unwrap_err();
        assert!(failure.detail.ends_with("has ended"), "{failure}");
    }

    #[test]
    fn a_pid_file_with_anything_else_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let own = std::process::id().to_string();
        for content in ["", "0", "-1", "-4", "1x", "99999999999", "1 2", "\u{663}", &"1".repeat(65), &own] {
            std::fs::write(&file, content).unwrap();
            let failure = send(&to_pid_file(&file)).unwrap_err();
            assert_eq!(failure.code, Code::ActionFailed, "{content}: {failure}");
        }
        for missing in [directory.path().to_owned(), directory.path().join("none")] {
            assert!(send(&to_pid_file(&missing)).is_err());
        }
    }

    #[test]
    fn a_process_that_was_started_long_after_its_pid_file_gets_no_signal() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let mut sleeper = Sleeper::named(&name("recycled"));
        std::fs::write(&file, sleeper.pid().to_string()).unwrap();
        let old =
            SystemTime::UNIX_EPOCH + Clock::System.now().unix.as_duration() - Duration::from_secs(3_600);
        std::fs::File::options().append(true).open(&file).unwrap().set_modified(old).unwrap();
        let failure = send(&to_pid_file(&file)).unwrap_err();
        assert!(failure.detail.contains("is another one") && failure.fix() == FIX_STALE, "{failure}");
        assert!(sleeper.0.try_wait().unwrap().is_none());
    }

    #[test]
    fn a_pid_file_that_was_written_while_the_clock_was_wrong_says_nothing_of_its_age() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let mut sleeper = Sleeper::named(&name("wrong-clock"));
        std::fs::write(&file, sleeper.pid().to_string()).unwrap();
        for seconds in [0, 90, 1_000_000] {
            let written = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            std::fs::File::options().append(true).open(&file).unwrap().set_modified(written).unwrap();
            assert_eq!(check(&to_pid_file(&file)), Ok(1), "{seconds}");
        }
        assert_eq!(send(&to_pid_file(&file)), Ok(1));
        assert_eq!(sleeper.ended_by(), Some(TERM));
    }

    #[test]
    fn the_number_1_is_that_of_another_pid_namespace_and_any_other_own_number_is_stale() {
        assert_eq!(fix_of_own(Pid::INIT), FIX_PID_FILE);
        assert_eq!(fix_of_own(rustix::process::getpid()), FIX_STALE);
    }

    #[test]
    fn an_unknown_signal_and_this_process_are_refused() {
        let action = SignalAction { signal: 99, ..to_process("nginx") };
        assert!(send(&action).unwrap_err().detail.contains("99"));
        let own_parent = SignalTarget::Process(name("none"));
        for signal in [0, 34, 64, 99] {
            let failure = check(&SignalAction { target: own_parent.clone(), signal }).unwrap_err();
            assert_eq!(failure.fix(), FIX_SIGNAL, "{signal}");
        }
        let own = std::env::current_exe().unwrap();
        let own = own.file_name().unwrap().to_str().unwrap();
        assert!(send(&to_process(own)).is_err(), "it would have ended this test");
    }
}
