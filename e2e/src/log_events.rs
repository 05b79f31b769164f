//! The program's log lines in JSON, and selectors that pick some of them.
//!
//! A selector is the name of an event, fields with their values, or both, such as `attempt_failed
//! code=timed_out attempts=3`. Without an event it picks lines of every event. A `*` stands for any
//! value: `code=*` picks the lines that have this field.

use dexsidecar_core::event::Event;
use serde_json::Value;

/// The log lines of a text that a selector picks, in order. Lines that are not JSON are passed
/// over.
///
/// # Panics
/// When no event, or no event of that name, has such fields: the selector would never pick
/// anything.
#[must_use]
pub fn select(text: &str, selector: &str) -> Vec<Value> {
    let words = parse(selector);
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"].is_string() && matches(line, &words)).collect()
}

type Word<'a> = (&'a str, &'a str);

fn parse(selector: &str) -> Vec<Word<'_>> {
    let words: Vec<Word<'_>> = selector
        .split_ascii_whitespace()
        .map(|word| word.split_once('=').unwrap_or(("event", word)))
        .collect();
    let possible = Event::TABLE.iter().any(|entry| {
        words.iter().all(|(name, value)| match *name {
            "event" => *value == entry.name,
            "level" => true,
            field => entry.fields.contains(&field) && !value.is_empty(),
        })
    });
    assert!(possible, "no event of the table has what this asks for: {selector}");
    words
}

fn matches(line: &Value, words: &[Word<'_>]) -> bool {
    words.iter().all(|(name, expected)| match &line[*name] {
        Value::Null => false,
        _ if *expected == "*" => true,
        Value::String(text) => text == expected,
        other => {
            let text = other.to_string();
            text == *expected
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"dexsidecar: not JSON
{"time":"T","level":"info","event":"recovered","message":"recovered","attempts":4}
{"time":"T","level":"warn","event":"attempt_failed","message":"attempt failed","code":"timed_out","attempts":4,"retry_in":1.5}
{"time":"T","level":"debug","event":"attempt_failed","message":"attempt failed","code":"unavailable","attempts":5,"retry_in":2}
"#;

    #[test]
    fn a_selector_picks_lines_by_event_and_by_the_values_of_fields() {
        for (selector, picked) in [
            ("attempt_failed", 2),
            ("attempt_failed code=timed_out", 1),
            ("attempt_failed attempts=5 retry_in=2", 1),
            ("attempt_failed retry_in=1.5 level=warn", 1),
            ("attempts=4", 2),
            ("recovered attempts=5", 0),
            ("code=*", 2),
            ("token_written", 0),
        ] {
            assert_eq!(select(LOG, selector).len(), picked, "{selector}");
        }
    }

    #[test]
    fn a_selector_that_can_never_pick_a_line_is_refused() {
        for selector in ["token_writen", "recovered code=timed_out", "stage=output", "code="] {
            assert!(std::panic::catch_unwind(|| select(LOG, selector)).is_err(), "{selector}");
        }
    }
}
