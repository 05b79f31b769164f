//! The output of a command, line by line. It ends when the command exits, even if a process that
//! the command leaves behind still holds the pipe.

use std::io::{self, BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// How long the pipes may stay open after the exit. What the command itself wrote is in them by
/// then, 64 KiB at most (pipe(7)), and is read in much less time.
const GRACE: Duration = Duration::from_secs(10);

/// A line, and where it came from.
#[derive(Debug, Eq, PartialEq)]
pub enum Line {
    /// Standard output.
    Output(String),
    /// Standard error.
    Error(String),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct End {
    /// Whether it exited with 0.
    pub succeeded: bool,
    /// Whether a pipe was still open ten seconds after the exit: a process that the command started
    /// holds it, and what that process writes is lost.
    pub is_cut: bool,
}

impl End {
    /// A line for a person if the output was cut. `name` is that of the command.
    #[must_use]
    pub fn note(self, name: &str) -> Option<String> {
        self.is_cut.then(|| {
            format!(
                "the output of {name} was cut: a process that it started holds its pipe open after its exit"
            )
        })
    }
}

/// Runs a command with a pipe for each stream. Passes on each line as it is printed.
///
/// # Errors
/// If the command does not start.
pub fn separate(command: &mut Command, each: impl FnMut(Line)) -> io::Result<End> {
    separate_with(command, GRACE, each)
}

fn separate_with(command: &mut Command, grace: Duration, each: impl FnMut(Line)) -> io::Result<End> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (sender, received) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        read(stdout, Line::Output, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        read(stderr, Line::Error, sender.clone());
    }
    wait(child, sender);
    follow(&received, grace, each)
}

/// Runs a command with one pipe for both streams, which keeps their lines in order.
///
/// # Errors
/// If the command does not start.
pub fn merged(command: &mut Command, each: impl FnMut(String)) -> io::Result<End> {
    merged_with(command, GRACE, each)
}

fn merged_with(command: &mut Command, grace: Duration, each: impl FnMut(String)) -> io::Result<End> {
    let (reader, writer) = io::pipe()?;
    let child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command holds the writing end, and the pipe is open as long as it does.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (sender, received) = mpsc::channel();
    read(reader, |line| line, sender.clone());
    wait(child, sender);
    follow(&received, grace, each)
}

/// What the threads report.
enum Event<T> {
    Line(T),
    Exited(io::Result<ExitStatus>),
}

/// Reads a stream in a thread, to its end or until nobody receives its lines.
fn read<T: Send + 'static>(
    stream: impl Read + Send + 'static,
    wrap: fn(String) -> T,
    sender: Sender<Event<T>>,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = wrap(String::from_utf8_lossy(&line).into_owned());
            if sender.send(Event::Line(line)).is_err() {
                return;
            }
        }
    });
}

/// Waits for the exit in a thread.
fn wait<T: Send + 'static>(mut child: Child, sender: Sender<Event<T>>) {
    std::thread::spawn(move || {
        let _ = sender.send(Event::Exited(child.wait()));
    });
}

/// Receives until all streams have ended, and no longer than `grace` after the exit.
fn follow<T>(
    received: &mpsc::Receiver<Event<T>>,
    grace: Duration,
    mut each: impl FnMut(T),
) -> io::Result<End> {
    let mut exit: Option<(bool, Instant)> = None;
    loop {
        let left = exit.map_or(Duration::MAX, |(_, time)| grace.saturating_sub(time.elapsed()));
        match (received.recv_timeout(left), exit) {
            (Ok(Event::Exited(status)), _) => exit = Some((status?.success(), Instant::now())),
            // A process that goes on writing does not lengthen the wait.
            (Ok(Event::Line(_)) | Err(RecvTimeoutError::Timeout), Some((succeeded, _))) if left.is_zero() => {
                return Ok(End { succeeded, is_cut: true });
            }
            (Ok(Event::Line(line)), _) => each(line),
            (Err(RecvTimeoutError::Disconnected), Some((succeeded, _))) => {
                return Ok(End { succeeded, is_cut: false });
            }
            (Err(RecvTimeoutError::Disconnected), None) => {
                return Err(io::Error::other("the exit code was not reported"));
            }
            // The next round has no time left.
            (Err(RecvTimeoutError::Timeout), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A process that a shell left behind. It ends with the test.
    struct LeftBehind(String);

    impl LeftBehind {
        fn is_running(&self) -> bool {
            Path::new("/proc").join(&self.0).exists()
        }
    }

    impl Drop for LeftBehind {
        fn drop(&mut self) {
            let _ = Command::new("kill").arg(&self.0).status();
        }
    }

    /// A shell that prints the process ID of a `sleep` that holds its pipes, and exits when `seen`
    /// exists.
    fn shell(seen: &Path) -> Command {
        let script = r#"sleep 600 & echo $!; until [ -e "$0" ]; do sleep 0.01; done; exit 3"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(seen);
        shell
    }

    #[test]
    fn a_process_that_holds_the_pipes_after_the_exit_cuts_the_output() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let seen = directory.path().join("seen");
        let mut left_behind = None;
        let end = separate_with(&mut shell(&seen), Duration::from_millis(10), |line| {
            let Line::Output(process) = line else { panic!("{line:?}") };
            left_behind = Some(LeftBehind(process));
            fs::write(&seen, "").expect("a temporary file");
        });
        let end = end.expect("sh starts");
        assert!(left_behind.expect("a line of output").is_running());
        assert_eq!(end, End { succeeded: false, is_cut: true });
        let note = end.note("sh").expect("a note");
        assert!(note.starts_with("the output of sh was cut: "), "{note}");
    }

    #[test]
    fn a_process_that_holds_the_merged_pipe_after_the_exit_cuts_the_output() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let seen = directory.path().join("seen");
        let mut left_behind = None;
        let end = merged_with(&mut shell(&seen), Duration::from_millis(10), |process| {
            left_behind = Some(LeftBehind(process));
            fs::write(&seen, "").expect("a temporary file");
        });
        assert_eq!(end.expect("sh starts"), End { succeeded: false, is_cut: true });
        assert!(left_behind.expect("a line of output").is_running());
    }

    #[test]
    fn all_lines_of_a_command_are_passed_on() {
        let script = "echo one; echo two >&2; printf three";
        let (mut output, mut error) = (vec![], vec![]);
        let end = separate(Command::new("sh").args(["-c", script]), |line| match line {
            Line::Output(line) => output.push(line),
            Line::Error(line) => error.push(line),
        });
        assert_eq!(end.expect("sh starts"), End { succeeded: true, is_cut: false });
        assert_eq!((output, error), (vec!["one".to_owned(), "three".to_owned()], vec!["two".to_owned()]));

        let mut lines = vec![];
        let end = merged(Command::new("sh").args(["-c", script]), |line| lines.push(line));
        assert_eq!(end.expect("sh starts"), End { succeeded: true, is_cut: false });
        assert_eq!(lines, ["one", "two", "three"]);
    }
}
