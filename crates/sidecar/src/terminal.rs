//! Standard output and standard error of the commands.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use dexsidecar_core::duration::HumanDuration;

use crate::NEGATIVE;

/// Prints to standard output. A reader that has gone is no failure.
pub(crate) fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => NEGATIVE.into(),
    }
}

/// Prints to standard error.
pub(crate) fn eprint(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// One line for each sentence.
pub(crate) fn lines(sentences: &[String]) -> String {
    sentences.iter().map(|sentence| format!("{sentence}\n")).collect()
}

/// Whether standard output shows colours.
pub(crate) fn has_colours(no_color: bool) -> bool {
    !no_color && io::stdout().is_terminal()
}

/// Why `wait` still waits: on a terminal one line that is rewritten, elsewhere a line after a second and after each minute.
pub(crate) struct Progress {
    terminal: bool,
    /// When the next line is due, as time since the start.
    due: Duration,
}

impl Progress {
    /// For standard error.
    pub(crate) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), due: Duration::from_secs(1) }
    }

    /// Shows the reasons after this time of waiting.
    pub(crate) fn waiting(&mut self, reasons: &[String], waited: Duration) {
        let (waited_for, reasons) =
            (HumanDuration(Duration::from_secs(waited.as_secs())), reasons.join("; "));
        if self.terminal {
            eprint(&format!("\r\x1b[Kwaiting for {waited_for}: {reasons}"));
        } else if waited >= self.due {
            self.due += Duration::from_secs(60);
            eprint(&format!("waiting for {waited_for}: {reasons}\n"));
        }
    }

    /// Removes the line from a terminal.
    pub(crate) fn clear(&self) {
        if self.terminal {
            eprint("\r\x1b[K");
        }
    }
}
