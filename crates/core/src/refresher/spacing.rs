//! A minimum time between two events of one kind.

use std::time::Duration;

use crate::time::BootTime;

/// The instant of the next event: now, or `least` after the last one. If that one is still to come,
/// it serves this event too, which does not delay it further.
pub(super) fn spaced(last: Option<BootTime>, least: Duration, now: BootTime) -> BootTime {
    match last {
        Some(planned) if planned > now => planned,
        last => last.map_or(now, |last| (last + least).max(now)),
    }
}
