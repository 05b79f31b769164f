//! `Retry-After`.

use std::time::Duration;

use crate::exchange::Answer;
use crate::time::UnixTime;

/// No server is believed when it asks to be left alone for longer (F24).
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Retry-After in both its forms (RFC 9110 §10.2.3). A date is counted from the server's own `Date`, so that no
/// clock but the server's matters; nonsense is as if absent.
pub(super) fn retry_after(answer: &Answer, now: UnixTime) -> Option<Duration> {
    let text = answer.retry_after.as_deref()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    }
    let date = |text: &str| {
        let time = httpdate::parse_http_date(text).ok()?;
        Some(UnixTime::since_epoch(time.duration_since(std::time::UNIX_EPOCH).ok()?))
    };
    let from = answer.date.as_deref().and_then(date).unwrap_or(now);
    Some(from.until(date(text)?).min(LONGEST_RETRY_AFTER))
}
