//! `ready` and `wait`: they look at the files on disk, with the one verdict that everything else uses too.

use std::path::Path;
use std::time::Duration;

use dexsidecar_core::config::Probe;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::BootTime;
use dexsidecar_core::token::LARGEST_ISSUED;
use dexsidecar_core::verdict::Verdict;

use crate::edge::clock::Clock;
use crate::edge::input_file;

/// The first pause of `wait`; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Looks at every file.
///
/// # Errors
/// What is wrong with each that holds no good token, a sentence each.
pub fn ready(probe: &Probe, clock: &Clock) -> Result<Vec<String>, Vec<String>> {
    let (mut good, mut bad) = (vec![], vec![]);
    for file in &probe.files {
        let (is_good, sentence) = look(file, probe.min_ttl, clock);
        if is_good { &mut good } else { &mut bad }.push(format!("{} {sentence}", file.display()));
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

fn look(file: &Path, min_ttl: Duration, clock: &Clock) -> (bool, String) {
    let content = match input_file::read(file, LARGEST_ISSUED) {
        Ok(content) => content,
        Err(why) => return (false, format!("cannot be used: {why}")),
    };
    let Ok(text) = String::from_utf8(content) else {
        return (false, Verdict::NoToken.to_string());
    };
    let verdict = judge(file, &Secret::new(text), min_ttl, clock);
    (verdict.is_good(), verdict.to_string())
}

/// What this content of a file is worth now.
#[must_use]
pub fn judge(file: &Path, content: &Secret, min_ttl: Duration, clock: &Clock) -> Verdict {
    Verdict::of_file(content, input_file::written(file), min_ttl, clock.now())
}

/// Looks until every file holds a good token.
///
/// # Errors
/// What was wrong when time ran out.
pub async fn wait(probe: &Probe, clock: &Clock) -> Result<(), Vec<String>> {
    let end: BootTime = clock.now().boot + probe.timeout;
    let mut pause = FIRST_PAUSE;
    loop {
        let Err(bad) = ready(probe, clock) else { return Ok(()) };
        let left = clock.now().boot.until(end);
        if left.is_zero() {
            return Err(bad);
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
