//! A child process that is killed when its value is dropped. Its output is kept, and a test can
//! wait for a line of it.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::log_events;
use crate::sidecar::assert_no_secret;

/// How long a test waits for something before it fails: long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long the output of a process that has ended is waited for. A child that it leaves may hold
/// its pipes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The stream that a line was printed to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// One line that a process printed.
#[derive(Clone, Debug)]
pub struct Line {
    /// The time from the start of the process to the reading of the line.
    pub at: Duration,
    /// The stream that it was printed to.
    pub from: Stream,
    /// The line without its newline.
    pub text: String,
}

#[derive(Debug)]
struct Printed {
    start: Instant,
    state: Mutex<State>,
    /// Notified with each line and each end of a stream.
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    /// The number of streams that have not ended.
    open: usize,
}

impl Printed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child process, killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    printed: Arc<Printed>,
}

/// A command for a program that the kernel kills when the thread that started it ends. It needs
/// `setpriv` (util-linux); without it the program is started as it is.
#[must_use]
pub fn killed_with_parent(program: &Path) -> Command {
    let has_setpriv = Path::new("/usr/bin/setpriv").exists();
    let mut command = Command::new(if has_setpriv { "/usr/bin/setpriv".as_ref() } else { program });
    if has_setpriv {
        command.args(["--pdeathsig", "KILL"]).arg(program);
    }
    command
}

impl Process {
    /// Starts a command and collects its output.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let state = Mutex::new(State { lines: vec![], open: 2 });
        let printed = Arc::new(Printed { start: Instant::now(), state, more: Condvar::new() });
        collect(child.stdout.take(), Stream::Output, &printed);
        collect(child.stderr.take(), Stream::Error, &printed);
        Self { name: name.to_owned(), child, printed }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines of both streams so far, in the order in which they were read.
    #[must_use]
    pub fn output(&self) -> String {
        self.render(|text, line| writeln!(text, "{}", line.text))
    }

    /// The same, each line with its second and a mark: `!` for standard error, `|` for standard
    /// output. For the message of a failed assertion.
    #[must_use]
    pub fn timeline(&self) -> String {
        self.render(|text, line| {
            let mark = if line.from == Stream::Error { '!' } else { '|' };
            writeln!(text, "{:9.3} {mark} {}", line.at.as_secs_f64(), line.text)
        })
    }

    /// Every line so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.printed.state().lines.clone()
    }

    /// The number of lines that contain this text.
    #[must_use]
    pub fn lines_with(&self, words: &str) -> usize {
        self.printed.state().lines.iter().filter(|line| line.text.contains(words)).count()
    }

    /// Waits until so many lines contain this text.
    ///
    /// # Panics
    /// When the process ends before, or time runs out.
    pub fn until_line(&mut self, words: &str, times: usize) {
        self.until(&format!("{} prints {words:?} {times} times", self.name), |process| {
            process.lines_with(words) >= times
        });
    }

    /// The log lines in JSON that a selector picks, such as `attempt_failed code=timed_out
    /// attempts=3` (see [`log_events`]).
    #[must_use]
    pub fn events(&self, selector: &str) -> Vec<Value> {
        log_events::select(&self.output(), selector)
    }

    /// The number of log lines that a selector picks.
    #[must_use]
    pub fn logged(&self, selector: &str) -> usize {
        self.events(selector).len()
    }

    /// Waits until a selector picks so many log lines.
    ///
    /// # Panics
    /// When the process ends before, or time runs out.
    pub fn until_logged(&mut self, selector: &str, times: usize) {
        self.until(&format!("{} logs {selector:?} {times} times", self.name), |process| {
            process.logged(selector) >= times
        });
    }

    /// Waits until a condition holds. It is checked with each line and every 20 ms.
    ///
    /// # Panics
    /// When the process ends before, or time runs out. The message has the timeline.
    pub fn until(&mut self, what: &str, holds: impl FnMut(&Self) -> bool) {
        self.until_within(PATIENCE, what, holds);
    }

    /// The same for a condition that takes longer than [`PATIENCE`].
    ///
    /// # Panics
    /// When the process ends before, or time runs out. The message has the timeline.
    pub fn until_within(&mut self, patience: Duration, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait().expect("a child can be asked").is_some();
            if ended {
                self.drain();
            }
            if holds(self) {
                return;
            }
            assert!(!ended, "{} ended before this: {what}\n{}", self.name, self.timeline());
            assert!(start.elapsed() < patience, "this never happened: {what}\n{}", self.timeline());
            let state = self.printed.state();
            let _unused = self.printed.more.wait_timeout(state, Duration::from_millis(20));
        }
    }

    /// Sends a signal. A process that has ended gets none.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child has a pid");
        let _ = kill_process(pid, signal);
    }

    /// The process id of its only child: the program that `unshare` or strace started.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn child(&self) -> Pid {
        let first = self.children().first().copied();
        first.unwrap_or_else(|| panic!("{} has no child", self.name))
    }

    fn children(&self) -> Vec<Pid> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let pids = children.unwrap_or_default();
        pids.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }

    /// Sends a signal to its only child. A child that has ended gets none.
    pub fn signal_child(&self, signal: Signal) {
        let _ = kill_process(self.child(), signal);
    }

    /// Sends a signal to its only child if there is one, else to the process: strace runs the
    /// program as a child, and most other wrappers become the program.
    pub fn signal_program(&self, signal: Signal) {
        let program = self.children().first().copied();
        match program {
            Some(pid) => drop(kill_process(pid, signal)),
            None => self.signal(signal),
        }
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When time runs out.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                self.drain();
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{} does not end\n{}", self.name, self.timeline());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits this long until it ends. None when it still runs; the inner option is none when a
    /// signal ended it.
    ///
    /// # Panics
    /// Never: a child can be waited for.
    pub fn wait_within(&mut self, patience: Duration) -> Option<Option<i32>> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                self.drain();
                return Some(status.code());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Kills it and its children.
    pub fn kill(&mut self) {
        // The child of strace or unshare would outlive it.
        for child in self.children() {
            let _ = kill_process(child, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.drain();
    }

    /// Reads what an ended process left in its pipes.
    fn drain(&self) {
        let state = self.printed.state();
        let _unused = self.printed.more.wait_timeout_while(state, DRAIN_TIMEOUT, |state| state.open > 0);
    }

    fn render(&self, write: impl Fn(&mut String, &Line) -> std::fmt::Result) -> String {
        self.printed.state().lines.iter().fold(String::new(), |mut text, line| {
            write(&mut text, line).expect("a string can always be written to");
            text
        })
    }
}

/// Searches the output of every dexsidecar for secrets, however it was started and however it
/// ended.
impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if self.name.starts_with("dexsidecar") && !std::thread::panicking() {
            assert_no_secret(&self.output());
        }
    }
}

fn collect(stream: Option<impl Read + Send + 'static>, from: Stream, printed: &Arc<Printed>) {
    let printed = Arc::clone(printed);
    std::thread::spawn(move || {
        let lines = stream.into_iter().flat_map(|stream| BufReader::new(stream).split(b'\n'));
        for line in lines.map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).into_owned();
            printed.state().lines.push(Line { at: printed.start.elapsed(), from, text });
            printed.more.notify_all();
        }
        printed.state().open -= 1;
        printed.more.notify_all();
    });
}
