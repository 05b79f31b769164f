//! Reads the header `Retry-After`.

use std::time::Duration;

use crate::exchange::Answer;
use crate::limits::MAX_RETRY_AFTER;
use crate::time::UnixTime;

/// The value of `Retry-After` in both of its forms (RFC 9110 §10.2.3). `None` if it is missing or
/// invalid. A date is counted from the `Date` of the same response, so that a wrong clock on this
/// node does not matter; `now` replaces a missing `Date`.
pub(super) fn retry_after(answer: &Answer, now: UnixTime) -> Option<Duration> {
    let text = answer.retry_after.as_deref()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let date = |text: &str| {
        let time = httpdate::parse_http_date(text).ok()?;
        Some(UnixTime::since_epoch(time.duration_since(std::time::UNIX_EPOCH).ok()?))
    };
    let from = answer.date.as_deref().and_then(date).unwrap_or(now);
    Some(from.until(date(text)?).min(MAX_RETRY_AFTER))
}
