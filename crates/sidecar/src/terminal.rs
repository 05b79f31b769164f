//! Standard output and standard error of the commands.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use dexsidecar_core::duration::HumanDuration;
use dexsidecar_edge::log::{line_for_pipe, write_unless_blocked};

use crate::NEGATIVE;
use crate::environment::{is_dumb_terminal, no_color};

/// Prints to standard output. A reader that has gone is no failure.
pub(crate) fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => NEGATIVE.into(),
    }
}

/// Prints to standard error, and waits for a reader.
pub(crate) fn eprint(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// One line for each sentence.
pub(crate) fn lines(sentences: &[String]) -> String {
    sentences.iter().map(|sentence| format!("{sentence}\n")).collect()
}

/// Whether standard output shows colours.
pub(crate) fn has_colours() -> bool {
    !no_color() && !is_dumb_terminal() && io::stdout().is_terminal()
}

/// The longest progress line. The narrowest terminal in use has 80 columns, and a line that wraps
/// cannot be rewritten.
const PROGRESS_COLUMNS: usize = 79;

/// Why `wait` or `refresh` still waits: on a terminal one line that is rewritten, elsewhere a line
/// after a second and after each ten.
pub(crate) struct Progress {
    terminal: bool,
    /// When the next line is due, as time since the start.
    due: Duration,
}

impl Progress {
    /// For standard error.
    pub(crate) fn new() -> Self {
        Self { terminal: !is_dumb_terminal() && io::stderr().is_terminal(), due: Duration::from_secs(1) }
    }

    /// Shows the reasons after this time of waiting.
    pub(crate) fn waiting(&mut self, reasons: &[String], waited: Duration) {
        let (waited_for, reasons) =
            (HumanDuration(Duration::from_secs(waited.as_secs())), reasons.join("; "));
        let line = format!("waiting for {waited_for}: {reasons}");
        // Nobody may read standard error, and the timeout must hold all the same.
        if self.terminal {
            let line: String = line.chars().take(PROGRESS_COLUMNS).collect();
            write_unless_blocked(&format!("\r\x1b[K{line}"));
        } else if waited >= self.due {
            self.due = waited + Duration::from_secs(10);
            write_unless_blocked(&line_for_pipe(line, "..."));
        }
    }

    /// Removes the line from a terminal.
    pub(crate) fn clear(&self) {
        if self.terminal {
            write_unless_blocked("\r\x1b[K");
        }
    }
}
