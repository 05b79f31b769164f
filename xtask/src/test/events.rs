//! What a test binary reports with `--format json`, libtest's and libtest-mimic's alike, and on
//! standard error.

use serde_json::Value;

/// A line of a test binary.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// How many tests are going to run.
    Started(usize),
    /// A test passed.
    Passed(String),
    /// A test failed; with its captured output.
    Failed(String, String),
    /// A test is marked as ignored; with the reason, if there is one.
    Ignored(String),
    /// A test that passed had nothing to test on this machine: with its name and the reason.
    Skipped(String),
    /// How long a test took, in seconds.
    Time(String, f64),
    /// All tests have ended.
    Ended,
    /// Something that a person should know.
    Note(String),
    /// Any other output.
    Text(String),
}

/// Reads a line of standard output.
pub(super) fn of_output(line: &str) -> Vec<Event> {
    let Some(value) = serde_json::from_str::<Value>(line).ok().filter(Value::is_object) else {
        return vec![Event::Text(line.to_owned())];
    };
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut events = Vec::new();
    match (value["type"].as_str(), value["event"].as_str()) {
        (Some("suite"), Some("started")) => {
            let count = value["test_count"].as_u64().and_then(|count| usize::try_from(count).ok());
            events.push(Event::Started(count.unwrap_or_default()));
        }
        (Some("suite"), Some("ok" | "failed")) => events.push(Event::Ended),
        (Some("test"), Some("ok")) => events.push(Event::Passed(text("name"))),
        (Some("test"), Some("failed")) => {
            events.push(Event::Failed(text("name"), text("stdout") + &text("message")));
        }
        (Some("test"), Some("ignored")) => events.push(Event::Ignored(text("message"))),
        _ => {}
    }
    if matches!(value["type"].as_str(), Some("test" | "time"))
        && let Some(time) = value["exec_time"].as_f64()
    {
        events.push(Event::Time(text("name"), time));
    }
    events
}

/// Reads a line of standard error.
pub(super) fn of_error(line: &str) -> Event {
    if let Some(skipped) = line.strip_prefix("skipped: ") {
        return Event::Skipped(skipped.to_owned());
    }
    line.strip_prefix("note: ")
        .map_or_else(|| Event::Text(line.to_owned()), |note| Event::Note(note.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_libtest_and_of_libtest_mimic_are_understood() {
        let name = || "a::b".to_owned();
        let cases = [
            (r#"{ "type": "suite", "event": "started", "test_count": 3 }"#, vec![Event::Started(3)]),
            (r#"{ "type": "test", "event": "started", "name": "a::b" }"#, vec![]),
            (
                r#"{ "type": "test", "name": "a::b", "event": "ok", "exec_time": 1.5 }"#,
                vec![Event::Passed(name()), Event::Time(name(), 1.5)],
            ),
            (r#"{ "type": "test", "name": "a::b", "event": "ok" }"#, vec![Event::Passed(name())]),
            (r#"{"exec_time":0.5,"name":"a::b","type":"time"}"#, vec![Event::Time(name(), 0.5)]),
            (
                r#"{ "type": "test", "name": "a::b", "event": "failed", "stdout": "boom\n" }"#,
                vec![Event::Failed(name(), "boom\n".to_owned())],
            ),
            (
                r#"{ "type": "test", "event": "ignored", "name": "a::b", "message": "long" }"#,
                vec![Event::Ignored("long".to_owned())],
            ),
            (
                r#"{ "type": "suite", "event": "ok", "passed": 1, "failed": 0, "exec_time": 2.0 }"#,
                vec![Event::Ended],
            ),
            ("hello", vec![Event::Text("hello".to_owned())]),
        ];
        for (line, events) in cases {
            assert_eq!(of_output(line), events, "{line}");
        }
    }

    #[test]
    fn a_test_that_says_it_has_nothing_to_test_is_skipped() {
        assert_eq!(of_error("skipped: a: no root"), Event::Skipped("a: no root".to_owned()));
        assert_eq!(of_error("note: no node"), Event::Note("no node".to_owned()));
        assert_eq!(of_error("thread panicked"), Event::Text("thread panicked".to_owned()));
    }
}
