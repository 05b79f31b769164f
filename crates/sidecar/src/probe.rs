//! `ready` and `wait`: they judge the token files on disk, with the same function as all other
//! commands.

use std::time::Duration;

use dexsidecar_agent::readiness::Readiness;
use dexsidecar_core::config::{Probe, ProbedFile};
use dexsidecar_core::failure::printable;
use dexsidecar_core::time::BootTime;
use dexsidecar_edge::clock::Clock;

/// The delays between two polls of `wait`: a tenth of the time that has passed, within these
/// bounds. So it starts the app at most a tenth later than it could.
const MIN_DELAY: Duration = Duration::from_millis(20);
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Judges every file.
///
/// # Errors
/// A sentence for each file without a valid token.
pub fn ready(probe: &Probe, clock: &Clock) -> Result<Vec<String>, Vec<String>> {
    let (mut valid, mut invalid) = (vec![], vec![]);
    for file in &probe.files {
        let readiness = Readiness::of(&file.path, file.format.as_ref(), probe.min_ttl, clock);
        if readiness.is_ready() { &mut valid } else { &mut invalid }
            .push(format!("{}: {readiness}", name_of(file, probe)));
    }
    if invalid.is_empty() { Ok(valid) } else { Err(invalid) }
}

/// The path of a file, and its token if there are several.
#[must_use]
pub fn name_of(file: &ProbedFile, probe: &Probe) -> String {
    let path = printable(file.path.display().to_string());
    let several = probe.files.iter().any(|other| other.token != file.token);
    match file.token.as_ref().filter(|_| several) {
        Some(token) => format!("{path} (token {token})"),
        None => path,
    }
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
    loop {
        let Err(invalid) = ready(probe, clock) else { return Ok(()) };
        let now = clock.now().boot;
        let left = now.until(end);
        if left.is_zero() {
            return Err(invalid);
        }
        let waited = start.until(now);
        waiting(&invalid, waited);
        tokio::time::sleep(delay_after(waited).min(left)).await;
    }
}

/// The delay until the next poll, after this time of waiting.
fn delay_after(waited: Duration) -> Duration {
    (waited / 10).clamp(MIN_DELAY, MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use dexsidecar_core::config::RawSettings;
    use dexsidecar_core::output::Format;
    use dexsidecar_core::secret::Secret;

    use super::*;

    #[test]
    fn a_token_is_found_at_most_a_tenth_late_and_long_waits_poll_once_a_second() {
        let polls = |until: Duration| {
            let (mut now, mut polls) = (Duration::ZERO, 0);
            while now < until {
                let delay = delay_after(now);
                assert!(delay <= MIN_DELAY.max(now / 10) && delay <= MAX_DELAY, "{delay:?} after {now:?}");
                (now, polls) = (now + delay, polls + 1);
            }
            polls
        };
        let seconds = [1, 10, 300].map(|seconds| polls(Duration::from_secs(seconds)));
        assert_eq!(seconds, [27, 52, 342]);
    }

    #[test]
    fn with_several_tokens_each_sentence_names_the_token_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let given = [("dex_access_token_file".to_owned(), Secret::new("/run/dex/token".to_owned()))];
        let mut probe = Probe::read(&RawSettings::of_variables(given.to_vec())).unwrap();
        let file = |token: &str, name: &str, format| ProbedFile {
            token: Some(token.to_owned()),
            path: at(name),
            format: Some(format),
        };
        probe.files = vec![file("a", "1", Format::default()), file("a", "2", Format::Incus)];
        std::fs::write(at("1"), "opaque").unwrap();
        std::fs::write(at("2"), "{\"access_token\":\"opaque\"}").unwrap();
        let sentence =
            |name: &str, token: &str, state: &str| format!("{}{token}: {state}", at(name).display());
        let valid = "valid, expiry unknown";
        let each = ["1", "2"].map(|name| sentence(name, "", valid));
        assert_eq!(ready(&probe, &Clock::System), Ok(each.to_vec()));
        probe.files.push(file("b", "2", Format::Json));
        let wrong = sentence("2", " (token b)", "not in the format json");
        assert_eq!(ready(&probe, &Clock::System), Err(vec![wrong]));
        std::fs::write(at("3"), "opaque").unwrap();
        probe.files[2] = file("b", "3", Format::default());
        let each = [("1", " (token a)"), ("2", " (token a)"), ("3", " (token b)")];
        assert_eq!(
            ready(&probe, &Clock::System),
            Ok(each.map(|(name, token)| sentence(name, token, valid)).to_vec())
        );
    }
}
