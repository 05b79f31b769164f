//! What is told to people: one log line for each change of state, and the last failure for `kubectl describe pod`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dexsidecar_core::config::{Level, Problem};
use dexsidecar_core::duration::Human;
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::refresher::Health;
use dexsidecar_core::time::{BootTime, Now};
use rustix::fs::OFlags;

use crate::edge::log::{Fact, Logger};
use crate::edge::output_file::{Method, Shortfall, Written};

/// The same failure is told again after this long.
const AGAIN: Duration = Duration::from_secs(600);

/// Said whichever the reason is.
const IN_PLACE: &str =
    "the output file is overwritten in place: a reader may see half of the new token for a moment";

/// The kubelet's default place for a termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Tells of failures and recoveries.
#[derive(Debug)]
pub struct Status {
    log: Logger,
    termination_log: PathBuf,
    /// The failures that were told and are not over, with the health they met. One entry each, so that two in turn do not
    /// fill the log (F118).
    told: Vec<(Code, Health, BootTime)>,
    tries: u32,
    /// What was left for the kubelet last.
    left: String,
    /// What the output's volume cannot do, by the words that reported it: each once.
    reported: Vec<&'static str>,
}

impl Status {
    /// Tells to this log and, if it can be written, to this file or the kubelet's.
    #[must_use]
    pub fn new(log: Logger, termination_log: Option<PathBuf>) -> Self {
        Self {
            log,
            termination_log: termination_log.unwrap_or_else(|| TERMINATION_LOG.into()),
            told: Vec::new(),
            tries: 0,
            left: String::new(),
            reported: Vec::new(),
        }
    }

    /// The log, for what is no change of state.
    #[must_use]
    pub const fn log(&self) -> &Logger {
        &self.log
    }

    /// Something that will fail, told before it does.
    pub fn warn(&self, failure: &Failure) {
        let entry = failure.entry();
        let facts: [Fact<'_>; 3] = [("why", &failure.detail), ("code", &failure.code), ("hint", &entry.hint)];
        self.log.warn(entry.summary, &facts[usize::from(failure.detail.is_empty())..]);
    }

    /// A failure, and how long the pause is now. Said once, and again when health changed or after ten minutes.
    pub fn failed(&mut self, failure: &Failure, health: Health, pause: Duration, now: Now) {
        self.tries = self.tries.saturating_add(1);
        self.told.retain(|(_, _, when)| now.boot.since(*when) < AGAIN);
        let entry = failure.entry();
        // The last failure is what the kubelet is to show, told or not.
        self.leave(&format!("{failure}\nhint: {}\n", entry.hint));
        if self.told.iter().any(|(code, then, _)| *code == failure.code && *then == health) {
            let facts: [Fact<'_>; 3] =
                [("why", failure), ("code", &failure.code), ("next_try_in", &Human(pause))];
            self.log.debug("failed again", &facts);
            return;
        }
        self.told.push((failure.code, health, now.boot));
        // While the token on disk is good nobody has noticed yet.
        let level = if health == Health::Stale { Level::Warn } else { Level::Error };
        // What others said stands as a fact, and never among the words, where it could pass for facts of ours (F122).
        let facts: [Fact<'_>; 8] = [
            ("why", &failure.detail),
            ("code", &failure.code),
            ("stage", &entry.stage.name()),
            ("health", &health.name()),
            ("tries", &self.tries),
            ("next_try_in", &Human(pause)),
            ("whose_move", &failure.owner().name()),
            ("hint", &entry.hint),
        ];
        self.log.line(level, entry.summary, &facts[usize::from(failure.detail.is_empty())..]);
    }

    /// A token was written. Reports, once each, what the volume did not allow.
    pub fn written(&mut self, path: &Path, written: &Written) {
        let file = path.display();
        match written.method {
            Method::Replaced => {}
            Method::ReplacedLink => self
                .log
                .warn("a symbolic link stood in the output's place and was replaced", &[("file", &file)]),
            Method::InPlace => {
                let hint = "mount the directory instead of the file, without subPath";
                self.once(Level::Warn, IN_PLACE, &[("file", &file), ("hint", &hint)]);
            }
            Method::InPlaceWithoutRename(refused) => {
                let hint = "the volume cannot rename files: use an emptyDir";
                self.once(Level::Warn, IN_PLACE, &[("file", &file), ("why", &refused), ("hint", &hint)]);
            }
        }
        for shortfall in &written.shortfalls {
            match shortfall {
                Shortfall::Mode(refused, mode) => {
                    let mode = format!("{mode:04o}");
                    let hint = "if readers need another mode, set it with the volume's mount options \
                                (file_mode, fmask)";
                    self.once(
                        Level::Warn,
                        "the mode of the token file cannot be set: it stays as the volume gives it",
                        &[("file", &file), ("mode", &mode), ("why", refused), ("hint", &hint)],
                    );
                }
                Shortfall::FileFlush(refused) => self.once(
                    Level::Warn,
                    "the token file cannot be flushed to disk: a power failure may lose it",
                    &[("file", &file), ("why", refused)],
                ),
                Shortfall::DirectoryFlush(refused) => self.once(
                    Level::Debug,
                    "the token file's directory cannot be flushed to disk: a power failure may bring the \
                     old token back",
                    &[("file", &file), ("why", refused)],
                ),
            }
        }
    }

    fn once(&mut self, level: Level, words: &'static str, facts: &[Fact<'_>]) {
        if !self.reported.contains(&words) {
            self.reported.push(words);
            self.log.line(level, words, facts);
        }
    }

    /// All is well again.
    pub fn recovered(&mut self) {
        if self.tries > 0 {
            self.told.clear();
            self.log.info("recovered", &[("failed_tries", &self.tries)]);
            self.leave("");
        }
        self.tries = 0;
    }

    /// Leaves a text where the kubelet finds it when the container ends. There may be no such place.
    fn leave(&mut self, text: &str) {
        if self.left != text {
            text.clone_into(&mut self.left);
            leave(&self.termination_log, text);
        }
    }
}

/// Leaves the mistakes in the settings where the kubelet finds them.
pub fn leave_problems(file: Option<&Path>, problems: &[Problem]) {
    let text: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    leave(file.unwrap_or_else(|| Path::new(TERMINATION_LOG)), &text);
}

fn leave(path: &Path, text: &str) {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        OpenOptions::new().write(true).truncate(true).custom_flags(flags.bits().cast_signed()).open(path);
    if let Ok(mut file) = file {
        // The kubelet reads no more than this.
        let end = text.floor_char_boundary(4096);
        let _ = file.write_all(&text.as_bytes()[..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::clock::Clock;

    #[test]
    fn f118_failures_in_turn_are_told_once_each_and_left_for_the_kubelet() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("log");
        std::fs::write(&left, "").unwrap();
        let mut status = Status::new(Logger::silent(Clock::System), Some(left.clone()));
        let at = |secs| Now { boot: BootTime::from_start(Duration::from_secs(secs)), ..Now::default() };
        let text = || std::fs::read_to_string(&left).unwrap();
        for second in 0..101 {
            let code = if second % 2 == 0 { Code::TimedOut } else { Code::ConnectRefused };
            status.failed(&Failure::new(code, ""), Health::Stale, Duration::from_secs(1), at(second));
        }
        assert_eq!(status.told.len(), 2);
        assert!(text().starts_with("there was no answer in time\nhint: "), "the last one: {}", text());
        status.failed(
            &Failure::new(Code::TimedOut, "at last"),
            Health::Stale,
            Duration::from_secs(1),
            at(700),
        );
        assert!(text().contains("at last"), "after ten minutes it is told again");
        status.recovered();
        assert_eq!((text().as_str(), status.told.len()), ("", 0));
    }
}
