//! A child process that ends with the value that holds it, whose output is kept and can be waited for.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::sidecar::assert_no_secret;

/// Nothing on a busy machine takes longer than this, unless it never happens.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a process that has ended may leave its pipes to others.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where a line was printed.
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
    /// How long after the start it was read.
    pub at: Duration,
    /// Where it was printed.
    pub from: Stream,
    /// The line, without its end.
    pub text: String,
}

/// What a process printed so far.
#[derive(Debug)]
struct Printed {
    start: Instant,
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    /// How many streams may still bring something.
    open: usize,
}

impl Printed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    printed: Arc<Printed>,
}

/// A command for a program that dies with the thread that starts it, where `setpriv` is to be had.
#[must_use]
pub fn tied(program: &Path) -> Command {
    let tied = Path::new("/usr/bin/setpriv").exists();
    let mut command = Command::new(if tied { "/usr/bin/setpriv".as_ref() } else { program });
    if tied {
        command.args(["--pdeathsig", "KILL"]).arg(program);
    }
    command
}

impl Process {
    /// Starts a command and collects all that it prints.
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

    /// All it has printed so far, standard output and standard error as they came.
    #[must_use]
    pub fn output(&self) -> String {
        self.told(|text, line| writeln!(text, "{}", line.text))
    }

    /// The same with the second of each line and the stream it came by: for a person who asks why a test failed.
    #[must_use]
    pub fn timeline(&self) -> String {
        self.told(|text, line| {
            let mark = if line.from == Stream::Error { '!' } else { '|' };
            writeln!(text, "{:9.3} {mark} {}", line.at.as_secs_f64(), line.text)
        })
    }

    /// Every line so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.printed.state().lines.clone()
    }

    /// How many lines of what it printed contain this.
    #[must_use]
    pub fn said(&self, words: &str) -> usize {
        self.printed.state().lines.iter().filter(|line| line.text.contains(words)).count()
    }

    /// Waits until it has printed these words so many times.
    ///
    /// # Panics
    /// When it ends before, or time runs out.
    pub fn until_said(&mut self, words: &str, times: usize) {
        self.until(&format!("{} says {words:?} {times} times", self.name), |process| {
            process.said(words) >= times
        });
    }

    /// How many log lines match: an event, fields, or both, as `attempt_failed code=timed_out attempts=3`. A field without an
    /// event counts in any line.
    #[must_use]
    pub fn logged(&self, selector: &str) -> usize {
        self.printed.state().lines.iter().filter(|line| matches(&line.text, selector)).count()
    }

    /// Waits until so many log lines match.
    ///
    /// # Panics
    /// When it ends before, or time runs out.
    pub fn until_logged(&mut self, selector: &str, times: usize) {
        self.until(&format!("{} logs {selector:?} {times} times", self.name), |process| {
            process.logged(selector) >= times
        });
    }

    /// Waits until something holds, looked at whenever it prints and every 20 ms.
    ///
    /// # Panics
    /// When the process ends before, or time runs out: with all its output.
    pub fn until(&mut self, what: &str, holds: impl FnMut(&Self) -> bool) {
        self.until_within(PATIENCE, what, holds);
    }

    /// The same with a patience of its own, for what takes its time by design.
    ///
    /// # Panics
    /// When the process ends before, or time runs out: with all its output.
    pub fn until_within(&mut self, patience: Duration, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait().expect("a child can be asked").is_some();
            if ended {
                self.hear_out();
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

    /// Sends a signal, by its own pid.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child has a pid");
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }

    /// Its only child: what `unshare`, strace and others like them have become the parent of.
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

    /// Sends its only child a signal. One that has ended by itself gets none.
    pub fn signal_child(&self, signal: Signal) {
        let _ = kill_process(self.child(), signal);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                self.hear_out();
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{} does not end\n{}", self.name, self.timeline());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end, and gives its code if it has one; nothing when it does not end in this time.
    ///
    /// # Panics
    /// Never: a child can be waited for.
    pub fn ended_within(&mut self, patience: Duration) -> Option<Option<i32>> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                self.hear_out();
                return Some(status.code());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // What strace or unshare started would outlive it.
        for child in self.children() {
            let _ = kill_process(child, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.hear_out();
    }

    /// What an ended process left in its pipes is read before anybody judges its output.
    fn hear_out(&self) {
        let state = self.printed.state();
        let _unused = self.printed.more.wait_timeout_while(state, LAST_WORDS, |state| state.open > 0);
    }

    fn told(&self, tell: impl Fn(&mut String, &Line) -> std::fmt::Result) -> String {
        self.printed.state().lines.iter().fold(String::new(), |mut text, line| {
            tell(&mut text, line).expect("a string can always be written to");
            text
        })
    }
}

/// Whether a line is a JSON log line of this event with these fields.
fn matches(line: &str, selector: &str) -> bool {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return false };
    selector.split_ascii_whitespace().all(|word| match word.split_once('=') {
        None => line["event"] == word,
        Some((name, expected)) => match &line[name] {
            Value::String(text) => text == expected,
            Value::Null => false,
            other => other.to_string() == expected,
        },
    })
}

/// However it was started and whatever becomes of it, what dexsidecar says is searched for secrets.
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
