//! `ready` and `wait`: they judge the token files on disk, with the same function as all other
//! commands.

use std::path::Path;
use std::time::Duration;

use dexsidecar_core::config::Probe;
use dexsidecar_core::failure::printable;
use dexsidecar_core::limits::LARGEST_ISSUED_TOKEN;
use dexsidecar_core::output::Format;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::BootTime;
use dexsidecar_core::token_file::TokenFileState;
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::input_file;

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
        let (is_valid, sentence) = judge_file(file, probe.min_ttl, clock);
        if is_valid { &mut valid } else { &mut invalid }
            .push(format!("{}: {sentence}", printable(file.display().to_string())));
    }
    if invalid.is_empty() { Ok(valid) } else { Err(invalid) }
}

fn judge_file(file: &Path, min_ttl: Duration, clock: &Clock) -> (bool, String) {
    let content = match input_file::read(file, LARGEST_ISSUED_TOKEN) {
        Ok(content) => content,
        Err(why) => return (false, format!("cannot be read: {why}")),
    };
    let Ok(text) = String::from_utf8(content) else {
        return (false, TokenFileState::Malformed.to_string());
    };
    // The environment form, whose files are judged here, writes no other format.
    let state = judge_content(file, &Secret::new(text), &Format::default(), min_ttl, clock);
    (state.is_valid(), state.to_string())
}

/// Judges a file with this content in this format now.
#[must_use]
pub fn judge_content(
    file: &Path,
    content: &Secret,
    format: &Format,
    min_ttl: Duration,
    clock: &Clock,
) -> TokenFileState {
    TokenFileState::of_content(content, format, input_file::modified_at(file), min_ttl, clock.now())
}

/// Judges a file that holds this token now.
#[must_use]
pub fn judge(file: &Path, token: &Secret, min_ttl: Duration, clock: &Clock) -> TokenFileState {
    TokenFileState::of_file(token, input_file::modified_at(file), min_ttl, clock.now())
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
