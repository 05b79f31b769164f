//! `ready` and `wait`: they judge the token files on disk, with the same function as all other
//! commands.

use std::time::Duration;

use dexsidecar_agent::readiness::Readiness;
use dexsidecar_core::config::Probe;
use dexsidecar_core::failure::printable;
use dexsidecar_core::time::BootTime;
use dexsidecar_edge::clock::Clock;

/// The initial delay between two polls of `wait`; it doubles up to the maximum.
const INITIAL_DELAY: Duration = Duration::from_millis(50);
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Judges every file.
///
/// # Errors
/// A sentence for each file without a valid token.
pub fn ready(probe: &Probe, clock: &Clock) -> Result<Vec<String>, Vec<String>> {
    let (mut valid, mut invalid) = (vec![], vec![]);
    for file in &probe.files {
        let readiness = Readiness::of(&file.path, &file.format, probe.min_ttl, clock);
        if readiness.is_ready() { &mut valid } else { &mut invalid }
            .push(format!("{}: {readiness}", printable(file.path.display().to_string())));
    }
    if invalid.is_empty() { Ok(valid) } else { Err(invalid) }
}

/// Polls until every file holds a valid token. `waiting` is called at each poll that finds one
/// invalid, with the sentences and the time since the start.
///
/// # Errors
/// The sentences of the last poll when the time runs out.
pub async fn wait(
    probe: &Probe,
    clock: &Clock,
    mut waiting: impl FnMut(&[String], Duration),
) -> Result<(), Vec<String>> {
    let start = clock.now().boot;
    let end: BootTime = start + probe.timeout;
    let mut delay = INITIAL_DELAY;
    loop {
        let Err(invalid) = ready(probe, clock) else { return Ok(()) };
        let now = clock.now().boot;
        let left = now.until(end);
        if left.is_zero() {
            return Err(invalid);
        }
        waiting(&invalid, start.until(now));
        tokio::time::sleep(delay.min(left)).await;
        delay = (delay * 2).min(MAX_DELAY);
    }
}
