//! Log lines, one event a line, on standard error.
//!
//! A line has a message and then fields as `name=value`, or is a JSON object. It is written once
//! for each change of state, not for each attempt. It never holds a secret: only events of
//! [`dexsidecar_core::event`] are logged, whose fields are failures, paths, names and times. A
//! reader that does not read never delays the work: a line that would block is dropped and counted
//! (F108).

use std::cell::Cell;
use std::fmt::{self, Display, Write as _};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use dexsidecar_core::config::{Level, Log};
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::event::{Event, Value};
use dexsidecar_core::failure::is_unprintable;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::clock::Clock;

/// A pipe that is ready takes this many bytes without blocking (`PIPE_BUF`); no line is longer.
const MAX_LINE: usize = 4096;

/// Writes log lines.
#[derive(Clone, Debug)]
pub struct Logger {
    /// Without it nothing is logged.
    log: Option<Log>,
    clock: Clock,
    /// The token that each line names.
    token: Option<Rc<str>>,
    /// The lines dropped since the last that was written. Clones count together.
    dropped: Rc<Cell<u32>>,
    /// Where lines are counted instead of written.
    #[cfg(any(test, feature = "test-clock"))]
    counted: Option<Rc<Cell<u32>>>,
}

impl Logger {
    /// A logger with this level and format.
    #[must_use]
    pub fn new(log: Log, clock: Clock) -> Self {
        Self {
            log: Some(log),
            clock,
            token: None,
            dropped: Rc::default(),
            #[cfg(any(test, feature = "test-clock"))]
            counted: None,
        }
    }

    /// A logger that logs nothing, for tests of the loop.
    #[cfg(any(test, feature = "test-clock"))]
    #[must_use]
    pub fn silent(clock: Clock) -> Self {
        Self { log: None, clock, token: None, dropped: Rc::default(), counted: None }
    }

    /// One that counts the lines of the default level.
    #[cfg(any(test, feature = "test-clock"))]
    #[must_use]
    pub fn counting(clock: Clock) -> (Self, Rc<Cell<u32>>) {
        let counted = Rc::default();
        let logger = Self { counted: Some(Rc::clone(&counted)), ..Self::new(Log::default(), clock) };
        (logger, counted)
    }

    /// This logger, with the name of a token in each line, or without one.
    #[must_use]
    pub fn for_token(&self, name: Option<&str>) -> Self {
        Self { token: name.map(Into::into), ..self.clone() }
    }

    /// Logs an event at its own level.
    pub fn emit(&self, event: &Event<'_>) {
        self.emit_at(event.level(), event);
    }

    /// Logs an event at another level than its own.
    pub fn emit_at(&self, level: Level, event: &Event<'_>) {
        let Some(log) = self.log.filter(|log| level <= log.level) else { return };
        let time = self.clock.now().unix.as_duration();
        let render = if log.json { json } else { text };
        let line = render(time, level, self.token.as_deref(), event);
        let dropped = self.dropped.get();
        if dropped > 0 {
            let note = Event::LogLinesDropped { lines: dropped.into() };
            if !self.put(&render(time, note.level(), None, &note)) {
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
        #[cfg(any(test, feature = "test-clock"))]
        if let Some(counted) = &self.counted {
            counted.set(counted.get() + 1);
            return true;
        }
        write_unless_blocked(line)
    }
}

/// A panic logs its source location only: its message may quote what was being worked on. It does
/// not wait for a reader.
pub fn keep_panics_short() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let _ = write_unless_blocked(&format!("dexsidecar: panicked at {place}\n"));
    }));
}

/// Writes a line of at most 4096 bytes to standard error if that does not block. False when it
/// would block, or when only a part was written.
pub fn write_unless_blocked(line: &str) -> bool {
    let stderr = rustix::stdio::stderr();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut ready, Some(&at_once)) {
        Ok(0) | Err(_) => false,
        Ok(_) => match rustix::io::write(stderr, line.as_bytes()) {
            Ok(written) => written == line.len(),
            Err(Errno::AGAIN | Errno::INTR) => false,
            // An error of a closed standard error has nowhere to be reported.
            Err(_) => true,
        },
    }
}

fn stamp(time: Duration) -> impl Display {
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + time)
}

/// As `2026-11-18T11:06:40.123Z info  token written file=/run/dex/token expires_in=24h`.
fn text(time: Duration, level: Level, token: Option<&str>, event: &Event<'_>) -> String {
    let mut line = format!("{} {:<5} {}", stamp(time), level.name(), event.message());
    let mut field = |name, value: Value<'_>| {
        let value = match value {
            Value::Text(text) | Value::Label(text) => text.to_string(),
            Value::Duration(duration) => HumanDuration(duration).to_string(),
            Value::Count(count) => count.to_string(),
        };
        let bare =
            !value.is_empty() && !value.contains([' ', '"', '=', '\\']) && !value.contains(is_unprintable);
        // Writing to a String cannot fail.
        let _ =
            if bare { write!(line, " {name}={value}") } else { write!(line, " {name}={}", Quoted(&value)) };
    };
    if let Some(token) = &token {
        field("token", Value::Label(token));
    }
    event.fields(&mut field);
    line_for_pipe(line, "...")
}

/// As `{"time":"2026-11-18T11:06:40.123Z","level":"info","event":"token_written","message":"token
/// written","expires_in":86400}`. Durations are seconds. Half an object would be no JSON, so in a
/// line that would be too long texts are shortened, and in one that still is they are left out.
/// Labels stay.
fn json(time: Duration, level: Level, token: Option<&str>, event: &Event<'_>) -> String {
    let longest = [usize::MAX, 300, 0];
    let mut lines = longest.into_iter().map(|longest| json_with(time, level, token, event, longest));
    let line = lines.find(|line| line.len() < MAX_LINE);
    line_for_pipe(line.unwrap_or_default(), "")
}

/// The same with texts of so many bytes at most; none is shown for 0.
fn json_with(time: Duration, level: Level, token: Option<&str>, event: &Event<'_>, longest: usize) -> String {
    let mut line = format!(
        r#"{{"time":"{}","level":"{}","event":"{}","message":"{}""#,
        stamp(time),
        level.name(),
        event.name(),
        event.message()
    );
    let mut field = |name, value: Value<'_>| {
        // Writing to a String cannot fail.
        let _ = match value {
            Value::Text(_) if longest == 0 => Ok(()),
            Value::Text(text) => {
                let mut text = text.to_string();
                if text.len() > longest {
                    text.truncate(text.floor_char_boundary(longest));
                    text.push_str("...");
                }
                write!(line, ",\"{name}\":{}", Quoted(&text))
            }
            Value::Label(label) => write!(line, ",\"{name}\":{}", Quoted(&label.to_string())),
            Value::Duration(duration) => write!(line, ",\"{name}\":{}", Seconds(duration)),
            Value::Count(count) => write!(line, ",\"{name}\":{count}"),
        };
    };
    if let Some(token) = &token {
        field("token", Value::Label(token));
    }
    event.fields(&mut field);
    line.push('}');
    line
}

/// Seconds as a JSON number, to the millisecond.
struct Seconds(Duration);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.subsec_millis());
        if millis == 0 { write!(f, "{seconds}") } else { write!(f, "{seconds}.{millis:03}") }
    }
}

/// This text with a newline at its end, and never longer than what a pipe takes at once.
#[must_use]
pub fn line_for_pipe(mut line: String, ellipsis: &str) -> String {
    if line.len() >= MAX_LINE {
        let end = MAX_LINE - 1 - ellipsis.len();
        line.truncate((0..=end).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0));
        line.push_str(ellipsis);
    }
    line.push('\n');
    line
}

/// A text in quotes, with everything escaped that JSON and a terminal cannot take.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string(self.0).map_err(|_| fmt::Error)?;
        // JSON escapes the controls of ASCII only. All of these have four hexadecimal digits.
        for c in json.chars() {
            if is_unprintable(c) { write!(f, "\\u{:04x}", u32::from(c))? } else { f.write_char(c)? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(1_795_000_000_123);

    #[test]
    fn text_has_a_message_and_fields_that_are_quoted_where_needed() {
        let event = Event::SettingInvalid {
            place: None,
            setting: &"dex_endpoint",
            error: &"is not set",
            fix: &"do \"this\"",
        };
        assert_eq!(
            text(TIME, Level::Warn, None, &event),
            "2026-11-18T11:06:40.123Z warn  invalid setting setting=dex_endpoint error=\"is not set\" fix=\"do \\\"this\\\"\"\n"
        );
    }

    #[test]
    fn every_event_is_a_line_of_text_and_of_json() {
        let mut page = String::new();
        for event in Event::samples() {
            page += &text(TIME, event.level(), None, &event);
            let line = json(TIME, event.level(), None, &event);
            let value: serde_json::Value = serde_json::from_str(&line).expect("each line is JSON");
            assert_eq!((&value["event"], &value["message"]), (&event.name().into(), &event.message().into()));
            page += &line;
        }
        insta::assert_snapshot!("every_event", page.replace("2026-11-18T11:06:40.123Z", "TIME"));
    }

    #[test]
    fn a_line_of_a_token_names_it_before_the_other_fields() {
        let event = Event::Recovered { attempts: 2 };
        assert_eq!(
            text(TIME, Level::Info, Some("cluster-b"), &event),
            "2026-11-18T11:06:40.123Z info  recovered token=cluster-b attempts=2\n"
        );
        let line = json(TIME, Level::Info, Some("cluster-b"), &event);
        assert!(
            line.ends_with("\"message\":\"recovered\",\"token\":\"cluster-b\",\"attempts\":2}\n"),
            "{line}"
        );
    }

    #[test]
    fn f122_no_character_of_a_value_changes_a_terminal() {
        let value = "\u{1b}\u{7f}\u{9b}\u{202e}\u{2028}\n";
        for render in [text, json] {
            let line = render(TIME, Level::Info, None, &Event::ShuttingDown { signal: &value });
            assert!(!line.trim_end().contains(is_unprintable), "{line:?}");
        }
        let line = json(TIME, Level::Info, None, &Event::ShuttingDown { signal: &value });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["signal"], value);
    }

    #[test]
    fn json_has_numbers_and_seconds() {
        let (expires_in, refresh_in) = (Duration::from_secs(86_400), Duration::from_millis(1_250));
        let line =
            json(TIME, Level::Info, None, &Event::TokenWritten { file: &"/x\n", expires_in, refresh_in });
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["event"], &value["file"]), (&"token_written".into(), &"/x\n".into()));
        assert_eq!((&value["expires_in"], &value["refresh_in"]), (&86_400.into(), &1.25.into()));
        let line = json(TIME, Level::Info, None, &Event::Recovered { attempts: 7 });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["attempts"], 7);
    }

    #[test]
    fn a_json_line_that_would_be_too_long_is_shortened_and_stays_json() {
        for (unit, kept) in [("y", true), ("\u{1}", true), ("\u{1}\u{1}\u{1}\u{1}", false)] {
            for length in [3_900, 3_990, 4_000, 4_010, 9_000] {
                let error = unit.repeat(length);
                let fix: &dyn Display = if kept { &"short" } else { &error };
                let label = &"label";
                let event = Event::AttemptFailed {
                    error: &error,
                    code: label,
                    step: label,
                    owner: label,
                    health: label,
                    attempts: 3,
                    retry_in: Duration::from_secs(5),
                    fix,
                    cause: (!kept).then_some(&error as &dyn Display),
                };
                let line = json(TIME, Level::Info, None, &event);
                assert!(line.len() <= MAX_LINE, "{length}: {}", line.len());
                let value = serde_json::from_str::<serde_json::Value>(&line).unwrap();
                assert_eq!((&value["event"], &value["attempts"]), (&"attempt_failed".into(), &3.into()));
                assert_eq!(value.get("fix").is_some(), kept);
                for name in ["code", "step", "owner", "health"] {
                    assert_eq!(value[name], "label");
                }
            }
        }
    }

    #[test]
    fn no_line_is_longer_than_a_pipe_takes_at_once() {
        let line = text(TIME, Level::Info, None, &Event::ShuttingDown { signal: &"\u{e9}".repeat(9_000) });
        assert!(line.len() <= MAX_LINE && line.ends_with("...\n"), "{}", line.len());
    }
}
