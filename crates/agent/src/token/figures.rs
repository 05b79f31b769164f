//! What the listener's pages show of a token: judged from its files when somebody asks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dexsidecar_core::action::Action;
use dexsidecar_core::failure::Failure;
use dexsidecar_core::metrics::{ActionFigures, TokenFigures};
use dexsidecar_core::output::Output;
use dexsidecar_core::pages::TokenReadiness;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::{Now, UnixTime};
use dexsidecar_core::token_file::TokenFileState;
use dexsidecar_edge::input_file;

use super::Token;
use super::token_file::TokenFile;

/// The content of one file.
#[derive(Debug)]
struct Content {
    /// `None` if it is not UTF-8.
    text: Option<Secret>,
    modified_at: Option<UnixTime>,
}

/// One file as it was read for a page: its fingerprint before that, and `None` if it is missing or
/// could not be read.
#[derive(Debug)]
pub(super) struct PageFile {
    path: PathBuf,
    fingerprint: u64,
    content: Option<Content>,
}

fn read(path: &Path, largest: usize) -> Option<Content> {
    let content = input_file::read(path, largest).ok()?;
    let text = String::from_utf8(content).ok().map(Secret::new);
    Some(Content { text, modified_at: input_file::modified_at(path) })
}

impl Token {
    /// Reads its files for a page, unless they are as they were for the last page. One that could
    /// not be read is read again.
    pub(crate) fn read_files(&mut self) {
        self.read_files_with(read);
    }

    fn read_files_with(&mut self, read: impl Fn(&Path, usize) -> Option<Content>) {
        let mut known = std::mem::take(&mut self.page_files);
        let files = self.files.iter().map(TokenFile::output).map(|Output { path, format, .. }| {
            let fingerprint = input_file::fingerprint(path);
            let is_same = |known: &PageFile| {
                known.path == *path && known.fingerprint == fingerprint && known.content.is_some()
            };
            match known.iter().position(is_same) {
                Some(same) => known.swap_remove(same),
                None => PageFile { path: path.clone(), fingerprint, content: read(path, format.largest()) },
            }
        });
        self.page_files = files.collect();
    }

    /// Whether its files held valid tokens when they were read, and the last failure.
    pub(crate) fn readiness(&self, now: Now) -> TokenReadiness<'_> {
        let state = |file| self.judge(file, now).map(|judged| judged.state);
        let failure = self.last_failure().map(|failure: &Failure| failure.code);
        TokenReadiness {
            name: &self.config.name,
            outputs: self.files.iter().map(state).collect(),
            failure: failure.or_else(|| self.refresher.exchange_failure()),
        }
    }

    /// What the metrics show of it.
    pub(crate) fn figures(&self, now: Now) -> TokenFigures<'_> {
        let (mut is_ready, mut first) = (true, None::<Times>);
        for file in &self.files {
            let judged = self.judge(file, now);
            is_ready &= judged.as_ref().is_some_and(|judged| judged.state.is_valid());
            // A file without a token comes before any expiry.
            let times = judged.map(|judged| judged.times).unwrap_or_default();
            if first.is_none_or(|first| times.expires < first.expires) {
                first = Some(times);
            }
        }
        let first = first.unwrap_or_default();
        // A refresh has not ended while a file without its token is being changed. One that fails
        // is shown by the metric of failed writes.
        let writing = self.current.as_ref().filter(|current| {
            self.files.iter().any(|file| file.is_busy() && !file.holds(&current.stored.token))
        });
        let unwritten_since = writing.map(|current| current.obtained_at);
        let refresh_due = self.overdue_since.or(unwritten_since).unwrap_or_else(|| self.refresher.due());
        TokenFigures {
            name: &self.config.name,
            is_ready,
            expires: first.expires,
            issued: first.issued,
            refresh_due: Some(now.unix_at(refresh_due)),
            exchanges: &self.counts,
            subject_expires: self.refresher.subject_token_expires(),
            actions: (0..self.config.actions.len()).map(|action| self.action_figures(action)).collect(),
        }
    }

    fn action_figures(&self, action: usize) -> ActionFigures {
        let pending = self.pending_actions();
        ActionFigures {
            label: Action::label(&self.config.actions, action),
            is_pending: pending.is_pending(action),
            failures: pending.failures(action),
        }
    }

    /// Judges one file, as the command `ready` does. `None` if it is missing or cannot be read.
    fn judge(&self, file: &TokenFile, now: Now) -> Option<Judged> {
        let Output { path, format, .. } = file.output();
        let content = self.page_files.iter().find(|read| read.path == *path)?.content.as_ref()?;
        let of_state = |state| Some(Judged { state, times: Times::default() });
        let Some(text) = &content.text else { return of_state(TokenFileState::Malformed) };
        let Some(stored) = format.read(text) else {
            return of_state(TokenFileState::of_content(text, format, None, Duration::ZERO, now));
        };
        let state = TokenFileState::of_file(&stored, content.modified_at, Duration::ZERO, now);
        // The lifetime of an opaque token is known from the response to its exchange only.
        let current = self.current.as_ref().filter(|current| current.stored.token == stored.token);
        let lifetime = current.map(|current| current.lifetime);
        let issued = stored.expires.zip(stored.lifetime).map(|(expires, length)| expires - length);
        let times = Times {
            expires: stored.expires.or_else(|| lifetime.map(|lifetime| now.unix_at(lifetime.expires))),
            issued: issued.or_else(|| lifetime.map(|lifetime| now.unix_at(lifetime.issued))),
        };
        Some(Judged { state, times })
    }
}

/// What a file holds.
struct Judged {
    state: TokenFileState,
    times: Times,
}

/// From when to when the token of a file is valid, as far as that is known.
#[derive(Clone, Copy, Default)]
struct Times {
    expires: Option<UnixTime>,
    issued: Option<UnixTime>,
}

#[cfg(test)]
mod tests {
    use dexsidecar_core::config::{Config, Outputs, RawSettings};
    use dexsidecar_core::output::Format;
    use dexsidecar_core::refresher::Lifetime;
    use dexsidecar_core::time::Jitter;
    use dexsidecar_edge::clock::Clock;
    use dexsidecar_edge::log::Logger;

    use super::*;
    use crate::readiness::Readiness;
    use crate::reporter::Reporter;
    use crate::termination_message::TerminationMessage;
    use crate::token::CurrentToken;

    /// `{"iat":1000,"exp":1900000000}`.
    const VALID: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpYXQiOjEwMDAsImV4cCI6MTkwMDAwMDAwMH0.c2ln";
    /// `{"exp":1700000000}`.
    const EXPIRED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3MDAwMDAwMDB9.c2ln";

    /// A token with two outputs in this format, which are in the directory.
    fn token(directory: &Path, format: &Format) -> Token {
        let variables = [
            ("dex_endpoint", "https://dex.test/token".to_owned()),
            ("dex_access_token_file", directory.join("one").display().to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), Secret::new(value))).to_vec();
        let mut config =
            Config::read(&RawSettings::of_variables(variables), Outputs::Required).unwrap().tokens.remove(0);
        config.outputs[0].format = format.clone();
        let second = Output { path: directory.join("two"), ..config.outputs[0].clone() };
        config.outputs.push(second);
        let message = TerminationMessage::shared(Some("/dev/null".into()));
        Token::new(0, config, Reporter::new(Logger::silent(Clock::System), message, 0), Clock::System.now())
    }

    #[test]
    fn files_are_read_again_only_after_they_have_changed() {
        let directory = tempfile::tempdir().unwrap();
        let mut token = token(directory.path(), &Format::default());
        let path = |name| directory.path().join(name);
        std::fs::write(path("one"), VALID).unwrap();
        let now = Clock::System.now();
        token.read_files();
        assert!(!token.readiness(now).is_ready(), "the second file is missing");
        std::fs::write(path("two"), VALID).unwrap();
        token.read_files();
        assert!(token.readiness(now).is_ready());
        token.read_files_with(|_, _| panic!("the files have not changed"));
        assert!(token.readiness(now).is_ready());
        // The same length, and another content.
        std::fs::write(path("one.new"), VALID.replace("c2ln", "eHh4")).unwrap();
        std::fs::rename(path("one.new"), path("one")).unwrap();
        token.read_files();
        let read = token.page_files[0].content.as_ref().and_then(|content| content.text.as_ref());
        assert!(read.is_some_and(|text| text.expose().ends_with("eHh4")));
    }

    /// As without file descriptors: the file is as it was before (F106).
    #[test]
    fn f106_a_file_that_could_not_be_read_is_read_again_for_the_next_page() {
        let directory = tempfile::tempdir().unwrap();
        let mut token = token(directory.path(), &Format::default());
        for file in ["one", "two"] {
            std::fs::write(directory.path().join(file), VALID).unwrap();
        }
        let now = Clock::System.now();
        token.read_files_with(|_, _| None);
        assert!(!token.readiness(now).is_ready() && !token.figures(now).is_ready);
        token.read_files();
        assert!(token.readiness(now).is_ready() && token.figures(now).is_ready);
    }

    #[test]
    fn the_pages_judge_a_file_as_the_command_ready_does() {
        let directory = tempfile::tempdir().unwrap();
        let formats = [Format::default(), Format::Json, Format::Incus, Format::ExecCredential];
        for format in &formats {
            let mut token = token(directory.path(), format);
            let stored = |text: &str| dexsidecar_core::output::StoredToken::of(Secret::new(text.to_owned()));
            let mut contents: Vec<Vec<u8>> = [VALID, EXPIRED, "opaque"]
                .iter()
                .flat_map(|text| formats.iter().map(|format| format.render(&stored(text))))
                .map(|content| content.expose().as_bytes().to_vec())
                .collect();
            contents.extend([b"".to_vec(), b"\xff".to_vec(), b"<html>\n".to_vec(), vec![b'a'; 300_000]]);
            let now = Clock::System.now();
            for content in contents {
                for file in ["one", "two"] {
                    std::fs::write(directory.path().join(file), &content).unwrap();
                }
                let path = directory.path().join("one");
                let expected = Readiness::of(&path, Some(format), Duration::ZERO, &Clock::System);
                token.read_files();
                let readiness = token.readiness(now);
                let kind = std::mem::discriminant::<TokenFileState>;
                match (&expected, readiness.outputs[0]) {
                    (Readiness::Judged(expected), Some(found)) => {
                        assert_eq!(kind(&found), kind(expected), "{format:?}: {expected}, {found}");
                    }
                    (Readiness::Unreadable(_), None) => {}
                    (_, found) => panic!("{format:?}: {expected}, {found:?}"),
                }
                assert_eq!(token.figures(now).is_ready, expected.is_ready(), "{format:?}: {expected}");
            }
        }
    }

    /// A write may hang without an end, and fails as little as it succeeds.
    #[test]
    fn a_refresh_is_due_while_the_token_is_being_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut token = token(directory.path(), &Format::default());
        let now = Clock::System.now();
        let due = |token: &Token| token.figures(now).refresh_due;
        let planned = due(&token);
        let obtained_at = now.boot + Duration::from_secs(60);
        let stored = dexsidecar_core::output::StoredToken::of(Secret::new(VALID.to_owned()));
        let lifetime = Lifetime::starting(obtained_at, Duration::from_secs(60));
        token.current = Some(CurrentToken { stored, key_id: None, lifetime, obtained_at, announce_at: None });
        assert_eq!(due(&token), planned, "no write goes on");
        for file in 0..2 {
            assert!(token.start_write(file, now, Jitter::NONE).is_some());
        }
        for file in 0..2 {
            assert_eq!(due(&token), Some(now.unix_at(obtained_at)), "{file} files hold it");
            token.files[file].set_held(VALID);
        }
        assert_eq!(due(&token), planned);
    }

    #[test]
    fn of_several_outputs_the_metrics_show_the_one_that_expires_first() {
        let directory = tempfile::tempdir().unwrap();
        let mut token = token(directory.path(), &Format::default());
        let now = Clock::System.now();
        token.read_files();
        let figures = token.figures(now);
        assert_eq!((figures.is_ready, figures.expires, figures.issued), (false, None, None));

        std::fs::write(directory.path().join("one"), VALID).unwrap();
        let seconds = |time: Option<UnixTime>| time.map(|time| time.as_duration().as_secs());
        token.read_files();
        let figures = token.figures(now);
        assert_eq!((figures.is_ready, figures.expires), (false, None), "the other output is missing");
        std::fs::write(directory.path().join("two"), VALID).unwrap();
        token.read_files();
        let figures = token.figures(now);
        assert_eq!((seconds(figures.expires), seconds(figures.issued)), (Some(1_900_000_000), Some(1_000)));

        std::fs::write(directory.path().join("two"), EXPIRED).unwrap();
        token.read_files();
        assert_eq!(seconds(token.figures(now).expires), Some(1_700_000_000));

        std::fs::write(directory.path().join("two"), VALID).unwrap();
        token.read_files();
        assert!(token.figures(now).is_ready);
        token.adopt(now, Jitter::NONE);
        token.read_files();
        assert!(token.readiness(now).is_ready());
    }
}
