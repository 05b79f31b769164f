//! Progress of a command, in one line. On a terminal its time and latest output are refreshed each
//! second; elsewhere a line is printed each half minute.

use std::io::{IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where there is no terminal, a line is printed this often, so that a log shows that work goes on.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// How much of the line fits on any terminal.
const WIDTH: usize = 100;

/// Something that runs. Its line is removed from the terminal when the value is dropped.
pub(crate) struct Progress {
    start: Instant,
    latest: Option<Sender<String>>,
    line: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts to show a line.
    pub(crate) fn start(label: &str) -> Self {
        let (start, (sender, received)) = (Instant::now(), mpsc::channel::<String>());
        let label = label.to_owned();
        let line = std::thread::spawn(move || {
            let terminal = std::io::stdout().is_terminal();
            let (mut shown, mut last) = (Instant::now(), String::new());
            loop {
                match received.recv_timeout(Duration::from_secs(1)) {
                    Ok(text) => last = text,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                if shown.elapsed() < if terminal { Duration::from_secs(1) } else { LOG_INTERVAL } {
                    continue;
                }
                shown = Instant::now();
                let text = format!("   {label}: {} so far  {last}", seconds(start.elapsed()));
                let text: String = text.trim_end().chars().take(WIDTH).collect();
                if terminal {
                    print!("\r\x1b[K{text}");
                } else {
                    println!("{text}");
                }
                let _ = std::io::stdout().flush();
            }
            if terminal {
                print!("\r\x1b[K");
                let _ = std::io::stdout().flush();
            }
        });
        Self { start, latest: Some(sender), line: Some(line) }
    }

    /// Replaces the text after the time.
    pub(crate) fn show(&self, text: &str) {
        if let Some(latest) = &self.latest {
            let _ = latest.send(text.to_owned());
        }
    }

    /// Prints a line that stays.
    #[expect(clippy::unused_self, reason = "there is a line to be replaced only while there is progress")]
    pub(crate) fn print(&self, text: &str) {
        if std::io::stdout().is_terminal() {
            print!("\r\x1b[K");
        }
        println!("{text}");
    }

    /// Ends the line. Gives how long it took.
    pub(crate) fn end(self) -> Duration {
        self.start.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.latest = None;
        if let Some(line) = self.line.take() {
            let _ = line.join();
        }
    }
}

/// A time as people read it: `4.2 s`, `2 min 05 s`.
pub(crate) fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(100) {
        return format!("{:.1} s", time.as_secs_f64());
    }
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_seconds_or_minutes() {
        for (millis, written) in
            [(4_240, "4.2 s"), (99_900, "99.9 s"), (100_000, "1 min 40 s"), (725_900, "12 min 05 s")]
        {
            assert_eq!(seconds(Duration::from_millis(millis)), written);
        }
    }
}
