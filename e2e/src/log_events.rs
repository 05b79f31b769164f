//! The events of a JSON log, for assertions on codes, fields and numbers instead of messages.

use serde_json::Value;

/// Every line of a log with this event, in order. Lines that are not JSON are left out.
#[must_use]
pub fn events(log: &str, name: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == name).collect()
}
