//! Log lines, one event a line, to standard error.
//!
//! The rules: a line says what happened in words, then facts as `name=value`. One line for each change of state, not
//! for each try. Never a secret: only [`dexsidecar_core`]'s failures, paths, names and times are ever handed in. A
//! reader that does not read never holds up the work: a line that would block is dropped and counted (F108).

use std::cell::Cell;
use std::fmt::{self, Display, Write as _};
use std::time::{Duration, SystemTime};

use dexsidecar_core::config::{Level, Log};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clock::Clock;

/// A pipe that is ready takes this much without blocking (`PIPE_BUF`); no line is longer.
const LONGEST: usize = 4096;

/// Writes log lines.
#[derive(Debug)]
pub struct Logger {
    /// Nothing is said without it.
    log: Option<Log>,
    clock: Clock,
    dropped: Cell<u32>,
    /// Where lines are counted instead of written.
    #[cfg(test)]
    counted: Option<std::rc::Rc<Cell<u32>>>,
}

/// A fact behind the words: its name and its value.
pub type Fact<'a> = (&'a str, &'a dyn Display);

impl Logger {
    /// A logger that says this much, in this way.
    #[must_use]
    pub const fn new(log: Log, clock: Clock) -> Self {
        Self {
            log: Some(log),
            clock,
            dropped: Cell::new(0),
            #[cfg(test)]
            counted: None,
        }
    }

    /// A logger that says nothing, for tests of the loop.
    #[cfg(test)]
    #[must_use]
    pub const fn silent(clock: Clock) -> Self {
        Self { log: None, clock, dropped: Cell::new(0), counted: None }
    }

    /// One that counts what it would say at its usual level.
    #[cfg(test)]
    #[must_use]
    pub fn counting(clock: Clock) -> (Self, std::rc::Rc<Cell<u32>>) {
        let counted = std::rc::Rc::default();
        let logger = Self { counted: Some(std::rc::Rc::clone(&counted)), ..Self::new(Log::default(), clock) };
        (logger, counted)
    }

    /// What needs somebody.
    pub fn error(&self, words: &str, facts: &[Fact<'_>]) {
        self.line(Level::Error, words, facts);
    }

    /// What may need somebody.
    pub fn warn(&self, words: &str, facts: &[Fact<'_>]) {
        self.line(Level::Warn, words, facts);
    }

    /// What happens.
    pub fn info(&self, words: &str, facts: &[Fact<'_>]) {
        self.line(Level::Info, words, facts);
    }

    /// How it happens.
    pub fn debug(&self, words: &str, facts: &[Fact<'_>]) {
        self.line(Level::Debug, words, facts);
    }

    /// One line of this level.
    pub fn line(&self, level: Level, words: &str, facts: &[Fact<'_>]) {
        let Some(log) = self.log.filter(|log| level <= log.level) else { return };
        let time = self.clock.now().unix.as_duration();
        let dropped = self.dropped.get();
        let line = if log.json { json(time, level, words, facts) } else { text(time, level, words, facts) };
        if dropped > 0 {
            let note: &[Fact<'_>] = &[("lines", &dropped)];
            let words = "log lines were dropped, since nobody read them";
            let note = if log.json {
                json(time, Level::Warn, words, note)
            } else {
                text(time, Level::Warn, words, note)
            };
            if !self.put(&note) {
                self.dropped.set(dropped.saturating_add(1));
                return;
            }
            self.dropped.set(0);
        }
        if !self.put(&line) {
            self.dropped.set(self.dropped.get().saturating_add(1));
        }
    }

    fn put(&self, line: &str) -> bool {
        #[cfg(test)]
        if let Some(counted) = &self.counted {
            counted.set(counted.get() + 1);
            return true;
        }
        put(line)
    }
}

/// A panic tells where it happened, and not what: its words may quote what was being worked on. Nor does it wait for somebody
/// to read that.
pub fn keep_panics_short() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let _ = put(&format!("dexsidecar: panicked, at {place}\n"));
    }));
}

/// Writes a line if that does not block. Gives false when it would.
fn put(line: &str) -> bool {
    let stderr = rustix::stdio::stderr();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut ready, Some(&at_once)) {
        Ok(0) => false,
        // A closed one cannot be told; there is nobody to tell it to.
        _ => {
            let _ = rustix::io::write(stderr, line.as_bytes());
            true
        }
    }
}

fn stamp(time: Duration) -> impl Display {
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + time)
}

fn text(time: Duration, level: Level, words: &str, facts: &[Fact<'_>]) -> String {
    let mut line = format!("{} {:<5} {words}", stamp(time), level.name());
    for (name, value) in facts {
        let value = value.to_string();
        let bare =
            !value.is_empty() && !value.contains([' ', '"', '=', '\\']) && !value.contains(char::is_control);
        // Writing to a String cannot fail.
        let _ =
            if bare { write!(line, " {name}={value}") } else { write!(line, " {name}={}", Quoted(&value)) };
    }
    finish(line, "...")
}

fn json(time: Duration, level: Level, words: &str, facts: &[Fact<'_>]) -> String {
    let mut line =
        format!(r#"{{"time":"{}","level":"{}","message":{}"#, stamp(time), level.name(), Quoted(words));
    for (name, value) in facts {
        let _ = write!(line, ",{}:{}", Quoted(name), Quoted(&value.to_string()));
    }
    line.push('}');
    if line.len() >= LONGEST {
        // Half an object would be no JSON: what is left is the words.
        line =
            format!(r#"{{"time":"{}","level":"{}","message":{}}}"#, stamp(time), level.name(), Quoted(words));
    }
    finish(line, "")
}

/// A newline at the end, and never longer than what a pipe takes at once.
fn finish(mut line: String, ellipsis: &str) -> String {
    if line.len() >= LONGEST {
        let end = LONGEST - 1 - ellipsis.len();
        line.truncate((0..=end).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0));
        line.push_str(ellipsis);
    }
    line.push('\n');
    line
}

/// A text in quotes, with what JSON and a terminal could not take escaped.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(1_795_000_000_123);

    #[test]
    fn a_line_is_words_and_facts() {
        let line = text(
            TIME,
            Level::Warn,
            "exchange failed",
            &[("code", &"access_denied"), ("hint", &"do \"this\"")],
        );
        assert_eq!(
            line,
            "2026-11-18T11:06:40.123Z warn  exchange failed code=access_denied hint=\"do \\\"this\\\"\"\n"
        );
    }

    #[test]
    fn json_lines_are_json() {
        let line = json(TIME, Level::Info, "a \"b\"", &[("file", &"/x\n"), ("n", &7)]);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "a \"b\"");
        assert_eq!(value["file"], "/x\n");
        assert_eq!(value["n"], "7");
        let long = json(TIME, Level::Info, "words", &[("x", &"y".repeat(9_000))]);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&long).unwrap()["message"], "words");
    }

    #[test]
    fn no_line_is_longer_than_a_pipe_takes_at_once() {
        let line = text(TIME, Level::Info, &"\u{e9}".repeat(9_000), &[]);
        assert!(line.len() <= LONGEST && line.ends_with("...\n"), "{}", line.len());
    }
}
