//! Runs the command of an action: without a shell, in a process group of its own, with bounded time
//! and output, and without the settings of this process in its environment.

mod output;

use std::io::{self, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use dexsidecar_core::action::ExecAction;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::failure::Failure;
use dexsidecar_core::settings::{FIELD_PREFIX, PREFIX};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout};

use super::reaper::{self, Starting};
use super::{Attempt, failed};
use crate::blocking::{OnDrop, run_blocking};
use output::Output;

/// How long a command may take to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long the kernel may take to end it after SIGKILL. A process that waits for a disk takes
/// longer; nobody waits for it.
const KILL_GRACE: Duration = Duration::from_secs(1);
/// How long output is read after the command has ended. A process that has left the process group
/// may hold the pipe open forever.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);
/// How often the command is polled where the kernel or the seccomp profile has no pidfds.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How much of a script is read to find its interpreter, in bytes.
const LONGEST_SHEBANG: u64 = 256;

const FIX_MISSING: &str = "mount the program into the sidecar's container, for example as an image volume: the image \
                           holds dexsidecar only";
const FIX_INTERPRETER: &str = "use a statically linked program, or an image of dexsidecar that has the interpreter or \
                               the dynamic loader";
const FIX_NOT_EXECUTABLE: &str =
    "set the execute permission for this uid, and mount the volume without the option noexec";
const FIX_FORMAT: &str =
    "begin a script with #! and its interpreter, and use a program for the architecture of the node";
const FIX_SLOW: &str = "raise the timeout of the action, or start what takes long from another process";
const FIX_STALLED: &str =
    "repair the volume of the program: it does not answer; or raise the timeout of the action";
const FIX_FAILED: &str =
    "read the lines \"output of an action\" before this one, and the documentation of the program";
const FIX_FLOOD: &str = "make the command write less, for example with >/dev/null in a script";
const FIX_UNUSABLE: &str = "execute the program in the sidecar's container to see the same error, and mount one that \
                            can be executed there";
const FIX_START: &str = "raise the limits of processes and of memory of the container";

/// A command that was started. When dropped, its process group is ended.
struct Running {
    child: Child,
    pid: Pid,
    /// Readable when the command has ended.
    pidfd: Option<AsyncFd<rustix::fd::OwnedFd>>,
    status: Option<ExitStatus>,
    /// Over when the command has ended.
    attempt: Option<Attempt>,
}

impl Running {
    const fn new(child: Child, pid: Pid, attempt: Attempt) -> Self {
        Self { child, pid, pidfd: None, status: None, attempt: Some(attempt) }
    }

    /// Wakes the event loop when the command ends. Without that it is polled.
    #[expect(deprecated, reason = "sound for an OwnedFd; the replacement is unsafe, which is forbidden here")]
    fn watch(&mut self) {
        let pidfd = pidfd_open(self.pid, PidfdFlags::NONBLOCK).ok();
        self.pidfd = pidfd.and_then(|pidfd| AsyncFd::with_interest(pidfd, Interest::READABLE).ok());
    }

    /// Waits until the command has ended. It is not reaped here, so its number stays its own.
    async fn ended(&self) {
        if let Some(pidfd) = &self.pidfd
            && pidfd.readable().await.is_ok()
        {
            return;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(self.pid), options), Ok(None)) {
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Signals the command and what it has started, except for processes that have left its group.
    /// The command itself may have left it too. It is not reaped, so its number is its own.
    fn signal(&self, signal: Signal) {
        if self.status.is_none() {
            let _ = kill_process_group(self.pid, signal);
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Ends what is left of the process group, and reaps the command if it has ended.
    fn reap(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.signal(Signal::KILL);
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let is_running = self.reap().is_none();
        match self.attempt.take().filter(|_| is_running) {
            Some(attempt) => reaper::abandoned(self.pid, attempt),
            None => reaper::reaped(self.pid),
        }
        reaper::reap();
    }
}

/// Runs the command, and hands each line of its output to `line`. The text is not trusted, and has
/// at most 1 KiB.
///
/// # Errors
/// [`ActionFailed`](dexsidecar_core::failure::Code::ActionFailed): the command cannot be started,
/// takes longer than its timeout, writes more than 1 MiB, or ends with another exit code than 0.
pub async fn run(action: &ExecAction, attempt: Attempt, line: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    run_started(start(action, attempt), action.timeout, line).await
}

/// Runs what `start` brings. Both together have this time limit: the start may stall, and is given
/// up then.
async fn run_started(
    start: impl Future<Output = Result<(Running, io::PipeReader), Failure>>,
    limit: Duration,
    line: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let mut timeout_of_action = std::pin::pin!(sleep(limit));
    let (mut running, pipe) = tokio::select! {
        biased;
        started = start => started?,
        () = &mut timeout_of_action => {
            return Err(failed(format!("the command was not started within {}", HumanDuration(limit)), FIX_STALLED));
        }
    };
    running.watch();
    let mut output = Output::new(pipe).map_err(not_enough)?;
    let mut failure = None;
    tokio::select! {
        biased;
        ended = until_ended(&running, &mut output, line) => {
            if let Err(output::TooLong) = ended {
                failure = Some(failed("the command wrote more than 1 MiB, and was ended", FIX_FLOOD));
            }
        }
        () = &mut timeout_of_action => {
            let limit = HumanDuration(limit);
            failure = Some(failed(format!("the command took longer than {limit}, and was ended"), FIX_SLOW));
        }
    }
    if failure.is_some() {
        running.signal(Signal::TERM);
        // A stopped process handles no signal but SIGKILL.
        running.signal(Signal::CONT);
        let ending = async {
            if until_ended(&running, &mut output, line).await.is_err() {
                running.ended().await;
            }
        };
        let _ = timeout(TERM_GRACE, ending).await;
        running.signal(Signal::KILL);
        let _ = timeout(KILL_GRACE, running.ended()).await;
    }
    let status = running.reap();
    let _ = timeout(OUTPUT_GRACE, output.read(line)).await;
    output.end(line);
    match (failure, status) {
        (Some(failure), _) => Err(failure),
        (None, Some(status)) if status.success() => Ok(()),
        (None, status) => Err(failed(ended_with(status), FIX_FAILED)),
    }
}

/// Reads output until the command has ended.
async fn until_ended(
    running: &Running,
    output: &mut Output,
    line: &mut dyn FnMut(&str),
) -> Result<(), output::TooLong> {
    let both = async {
        // The command may close its output long before it ends.
        output.read(line).await?;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        () = running.ended() => Ok(()),
        too_long = both => too_long,
    }
}

/// Starts the command on a thread of its own, since the file system of the program may stall. If
/// nobody waits for it any more, it is ended.
async fn start(action: &ExecAction, attempt: Attempt) -> Result<(Running, io::PipeReader), Failure> {
    let Some((program, arguments)) = action.command.split_first() else {
        return Err(failed("the command is empty", FIX_MISSING));
    };
    let (reader, writer) = io::pipe().map_err(not_enough)?;
    let mut command = command(program, arguments, writer).map_err(not_enough)?;
    let start = move || {
        let starting = Starting::begin();
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        starting.started(pid);
        Ok(Running::new(child, pid, attempt))
    };
    match run_blocking(OnDrop::Detach, start).await {
        Ok(Ok(running)) => Ok((running, reader)),
        Ok(Err(error)) => Err(not_started(program, &error)),
        Err(error) => Err(not_enough(error)),
    }
}

fn command(program: &str, arguments: &[String], output: io::PipeWriter) -> io::Result<Command> {
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).stdin(Stdio::null());
    command.stdout(output.try_clone()?).stderr(output);
    #[expect(clippy::disallowed_methods, reason = "not read, but kept from the command")]
    let variables = std::env::vars_os();
    for (name, _) in variables {
        // The settings hold secrets. The rest is the environment of the container.
        let is_setting = |name: &str| name.starts_with(FIELD_PREFIX) || name.starts_with(PREFIX);
        if is_setting(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    Ok(command)
}

fn not_enough(error: io::Error) -> Failure {
    failed(format!("the command could not be started: {error}"), FIX_START)
}

fn not_started(program: &str, error: &io::Error) -> Failure {
    let (why, fix) = match error.kind() {
        io::ErrorKind::NotFound if Path::new(program).exists() => {
            ("its interpreter or its dynamic loader does not exist".to_owned(), FIX_INTERPRETER)
        }
        io::ErrorKind::NotFound => ("no such file".to_owned(), FIX_MISSING),
        io::ErrorKind::PermissionDenied => {
            let uid = rustix::process::getuid().as_raw();
            (format!("uid {uid} may not execute it"), FIX_NOT_EXECUTABLE)
        }
        _ if Errno::from_io_error(error) == Some(Errno::NOEXEC) => {
            ("it has no format that this machine executes".to_owned(), FIX_FORMAT)
        }
        _ => (error.to_string(), if is_shortage(error) { FIX_START } else { FIX_UNUSABLE }),
    };
    failed(format!("{program}: {why}"), fix)
}

/// Whether processes, memory or descriptors are exhausted.
fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE))
}

fn ended_with(status: Option<ExitStatus>) -> String {
    let code = status.and_then(|status| status.code());
    let signal = status.and_then(|status| status.signal());
    match (code, signal) {
        (Some(code), _) => format!("the command ended with exit code {code}"),
        (_, Some(signal)) => format!("the command was ended by signal {signal}"),
        _ => "the command does not end".to_owned(),
    }
}

/// Checks that the program exists and may be executed, and that the interpreter of a script exists.
///
/// # Errors
/// [`ActionFailed`](dexsidecar_core::failure::Code::ActionFailed).
pub fn check(action: &ExecAction) -> Result<(), Failure> {
    let program = action.command.first().map(String::as_str).unwrap_or_default();
    let error = |error: io::Error| not_started(program, &error);
    let metadata = std::fs::metadata(program).map_err(error)?;
    if !metadata.is_file() {
        return Err(failed(format!("{program}: it is not a regular file"), FIX_MISSING));
    }
    access(program, Access::EXEC_OK).map_err(|errno| error(errno.into()))?;
    match interpreter(program) {
        Some(interpreter) if !Path::new(&interpreter).exists() => {
            Err(failed(format!("{program}: its interpreter {interpreter} does not exist"), FIX_INTERPRETER))
        }
        _ => Ok(()),
    }
}

/// The interpreter of a script. `None` if it is none, or cannot be read.
fn interpreter(program: &str) -> Option<String> {
    let mut begin = Vec::new();
    let file = std::fs::File::open(program).ok()?;
    file.take(LONGEST_SHEBANG).read_to_end(&mut begin).ok()?;
    let line = begin.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    Some(str::from_utf8(line).ok()?.split_ascii_whitespace().next()?.to_owned())
}

#[cfg(test)]
mod tests;
