//! A child process that ends with the value that holds it, whose output is kept and can be waited for.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Nothing on a busy machine takes longer than this, unless it never happens.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a process printed so far.
#[derive(Debug, Default)]
struct Printed {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Printed {
    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
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
        let printed = Arc::new(Printed::default());
        collect(child.stdout.take(), &printed);
        collect(child.stderr.take(), &printed);
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
        self.printed.lines().iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }

    /// How many lines of what it printed contain this.
    #[must_use]
    pub fn said(&self, words: &str) -> usize {
        self.printed.lines().iter().filter(|line| line.contains(words)).count()
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

    /// Waits until something holds, looked at whenever it prints and every 20 ms.
    ///
    /// # Panics
    /// When the process ends before, or time runs out: with all its output.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait().expect("a child can be asked").is_some();
            if holds(self) {
                return;
            }
            assert!(!ended, "{} ended before this: {what}\n{}", self.name, self.output());
            assert!(start.elapsed() < PATIENCE, "this never happened: {what}\n{}", self.output());
            let lines = self.printed.lines();
            let _unused = self.printed.more.wait_timeout(lines, Duration::from_millis(20));
        }
    }

    /// Sends a signal, by its own pid.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child has a pid");
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{} does not end\n{}", self.name, self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(from: Option<impl Read + Send + 'static>, printed: &Arc<Printed>) {
    let Some(from) = from else { return };
    let printed = Arc::clone(printed);
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            printed.lines().push(String::from_utf8_lossy(&line).into_owned());
            printed.more.notify_all();
        }
    });
}
