//! What the listener's pages show of a token: judged from its files when somebody asks. Files that
//! have changed since the last page are read on a thread, because a volume may hang.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dexsidecar_core::action::Action;
use dexsidecar_core::failure::Failure;
use dexsidecar_core::metrics::{ActionFigures, TokenFigures};
use dexsidecar_core::output::Output;
use dexsidecar_core::pages::TokenReadiness;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::{Now, UnixTime};
use dexsidecar_core::token_file::TokenFileState;
use dexsidecar_edge::blocking::{OnDrop, run_blocking};
use dexsidecar_edge::input_file;

use super::Token;
use super::token_file::TokenFile;

/// How long a page waits for the files of a token.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// The fingerprint of a missing file.
const MISSING: u64 = 0;

/// The content of one file.
#[derive(Clone, Debug)]
struct Content {
    /// `None` if it is not UTF-8.
    text: Option<Secret>,
    modified_at: Option<UnixTime>,
}

/// One file as it was read: its fingerprint before that, and `None` if it is missing or cannot be
/// read.
#[derive(Clone, Debug)]
pub(crate) struct FileRead {
    path: PathBuf,
    fingerprint: u64,
    content: Option<Content>,
}

#[cfg(test)]
impl FileRead {
    pub(crate) fn missing(path: &str) -> Self {
        Self { path: path.into(), fingerprint: MISSING, content: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// What was read of files. A file that could not be read in time is not among them.
pub(crate) type Contents = Vec<FileRead>;

/// Reads the files of a token.
pub(crate) type ReadFiles = Pin<Box<dyn Future<Output = Contents>>>;

/// A file could not be read in time.
struct TimedOut;

fn read(path: &Path, largest: usize) -> Option<Content> {
    let content = input_file::read(path, largest).ok()?;
    let text = String::from_utf8(content).ok().map(Secret::new);
    Some(Content { text, modified_at: input_file::modified_at(path) })
}

impl Token {
    /// Reads its files for a page, unless they are as they were for the last page. They are read on
    /// a thread, for at most [`READ_TIMEOUT`]. The result is empty if that has passed. While a
    /// thread hangs, it is empty at once: at most one thread hangs for each token.
    pub(crate) fn read_files(&self) -> ReadFiles {
        self.read_files_with(read)
    }

    fn read_files_with(&self, read: impl Fn(&Path, usize) -> Option<Content> + Send + 'static) -> ReadFiles {
        if Arc::strong_count(&self.page_reader) > 1 {
            return Box::pin(std::future::ready(vec![]));
        }
        let reader = Arc::clone(&self.page_reader);
        let outputs = self.files.iter().map(TokenFile::output);
        let files: Vec<_> = outputs
            .map(|Output { path, format, .. }| {
                (path.clone(), input_file::fingerprint(path), format.largest())
            })
            .collect();
        let is_known = |(path, fingerprint, _): &(PathBuf, u64, usize)| {
            self.page_files.iter().any(|known| known.path == *path && known.fingerprint == *fingerprint)
        };
        if files.iter().all(is_known) {
            return Box::pin(std::future::ready(self.page_files.clone()));
        }
        let contents = run_blocking(OnDrop::Detach, move || {
            let read = |(path, fingerprint, largest): (PathBuf, u64, usize)| {
                let content = read(&path, largest);
                FileRead { path, fingerprint, content }
            };
            let contents: Contents = files.into_iter().map(read).collect();
            drop(reader);
            contents
        });
        Box::pin(async {
            // Without a thread nothing can be read either.
            tokio::time::timeout(READ_TIMEOUT, contents).await.ok().and_then(Result::ok).unwrap_or_default()
        })
    }

    /// Keeps what was read of its files for the next page. A failed read says nothing of the next
    /// one, unless the file is missing.
    pub(crate) fn keep_files_read(&mut self, contents: &mut Contents) {
        let outputs = &self.config.outputs;
        let own = contents.extract_if(.., |read| outputs.iter().any(|output| output.path == read.path));
        let own: Contents =
            own.filter(|read| read.content.is_some() || read.fingerprint == MISSING).collect();
        if !own.is_empty() {
            self.page_files = own;
        }
    }

    /// Whether its files hold valid tokens, and the last failure.
    pub(crate) fn readiness(&self, contents: &Contents, now: Now) -> TokenReadiness<'_> {
        let state = |file| Ok(self.judge(file, contents, now)?.map(|judged| judged.state));
        let outputs: Result<Vec<_>, TimedOut> = self.files.iter().map(state).collect();
        TokenReadiness {
            name: &self.config.name,
            is_timed_out: outputs.is_err(),
            outputs: outputs.unwrap_or_default(),
            failure: self.last_failure().map(|failure: &Failure| failure.code),
        }
    }

    /// What the metrics show of it.
    pub(crate) fn figures(&self, contents: &Contents, now: Now) -> TokenFigures<'_> {
        let (mut is_ready, mut first) = (true, None::<Times>);
        for file in &self.files {
            let judged = self.judge(file, contents, now).unwrap_or_default();
            is_ready &= judged.as_ref().is_some_and(|judged| judged.state.is_valid());
            // A file without a token comes before any expiry.
            let times = judged.map(|judged| judged.times).unwrap_or_default();
            if first.is_none_or(|first| times.expires < first.expires) {
                first = Some(times);
            }
        }
        let first = first.unwrap_or_default();
        let refresh_due = self.overdue_since.unwrap_or_else(|| self.refresher.due());
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
    fn judge(&self, file: &TokenFile, contents: &Contents, now: Now) -> Result<Option<Judged>, TimedOut> {
        let Output { path, format, .. } = file.output();
        let read = contents.iter().find(|read| read.path == *path).ok_or(TimedOut)?;
        let Some(content) = &read.content else { return Ok(None) };
        let of_state = |state| Ok(Some(Judged { state, times: Times::default() }));
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
        Ok(Some(Judged { state, times }))
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
    use dexsidecar_core::config::{Config, RawSettings};
    use dexsidecar_core::output::Format;
    use dexsidecar_core::time::Jitter;
    use dexsidecar_edge::clock::Clock;
    use dexsidecar_edge::log::Logger;

    use super::*;
    use crate::readiness::Readiness;
    use crate::reporter::Reporter;
    use crate::termination_message::TerminationMessage;

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
        let mut config = Config::read(&RawSettings::of_variables(variables), true).unwrap().tokens.remove(0);
        config.outputs[0].format = format.clone();
        let second = Output { path: directory.join("two"), ..config.outputs[0].clone() };
        config.outputs.push(second);
        let message = TerminationMessage::shared(Some("/dev/null".into()));
        Token::new(0, config, Reporter::new(Logger::silent(Clock::System), message, 0), Clock::System.now())
    }

    fn contents_of(token: &Token) -> Contents {
        let outputs = token.files.iter().map(TokenFile::output);
        outputs
            .map(|Output { path, format, .. }| FileRead {
                path: path.clone(),
                fingerprint: 0,
                content: read(path, format.largest()),
            })
            .collect()
    }

    #[tokio::test]
    async fn files_are_read_again_only_after_they_have_changed() {
        let directory = tempfile::tempdir().unwrap();
        let mut token = token(directory.path(), &Format::default());
        let path = |name| directory.path().join(name);
        std::fs::write(path("one"), VALID).unwrap();
        let now = Clock::System.now();
        // The second file is missing.
        let mut contents = token.read_files().await;
        assert!(!token.readiness(&contents, now).is_ready());
        token.keep_files_read(&mut contents);
        let unread = |_: &Path, _: usize| panic!("the files have not changed");
        assert!(!token.readiness(&token.read_files_with(unread).await, now).is_ready());
        std::fs::write(path("two"), VALID).unwrap();
        let mut contents = token.read_files().await;
        assert!(token.readiness(&contents, now).is_ready());
        token.keep_files_read(&mut contents);
        assert!(token.readiness(&token.read_files_with(unread).await, now).is_ready());
        // The same length, and another content.
        std::fs::write(path("one.new"), VALID.replace("c2ln", "eHh4")).unwrap();
        std::fs::rename(path("one.new"), path("one")).unwrap();
        let contents = token.read_files().await;
        let read = contents[0].content.as_ref().and_then(|content| content.text.as_ref());
        assert!(read.is_some_and(|text| text.expose().ends_with("eHh4")));
    }

    /// As without file descriptors: the file is as it was before (F106).
    #[tokio::test]
    async fn f106_a_file_that_could_not_be_read_is_read_again_for_the_next_page() {
        let directory = tempfile::tempdir().unwrap();
        let mut token = token(directory.path(), &Format::default());
        for file in ["one", "two"] {
            std::fs::write(directory.path().join(file), VALID).unwrap();
        }
        let now = Clock::System.now();
        let mut contents = token.read_files_with(|_, _| None).await;
        assert!(!token.readiness(&contents, now).is_ready());
        token.keep_files_read(&mut contents);
        assert!(token.readiness(&token.read_files().await, now).is_ready());
    }

    #[tokio::test]
    async fn a_page_does_not_wait_for_files_that_hang_and_starts_no_second_thread() {
        let directory = tempfile::tempdir().unwrap();
        let token = token(directory.path(), &Format::default());
        for file in ["one", "two"] {
            std::fs::write(directory.path().join(file), VALID).unwrap();
        }
        let now = Clock::System.now();
        let contents = token.read_files().await;
        assert!(token.readiness(&contents, now).is_ready() && token.figures(&contents, now).is_ready);

        let (end, ended) = std::sync::mpsc::channel::<()>();
        let ended = std::sync::Mutex::new(ended);
        let hanging = token.read_files_with(move |path, largest| {
            let _ = ended.lock().map(|ended| ended.recv());
            read(path, largest)
        });
        let contents = hanging.await;
        assert!(contents.is_empty());
        let readiness = token.readiness(&contents, now);
        assert!(readiness.is_timed_out && !readiness.is_ready());
        assert!(!token.figures(&contents, now).is_ready);
        let second = token.read_files_with(|_, _| panic!("the first thread hangs"));
        assert!(second.await.is_empty());

        drop(end);
        while Arc::strong_count(&token.page_reader) > 1 {
            tokio::task::yield_now().await;
        }
        assert!(token.readiness(&token.read_files().await, now).is_ready());
    }

    #[test]
    fn the_pages_judge_a_file_as_the_command_ready_does() {
        let directory = tempfile::tempdir().unwrap();
        let formats = [Format::default(), Format::Json, Format::Incus, Format::ExecCredential];
        for format in &formats {
            let token = token(directory.path(), format);
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
                let contents = contents_of(&token);
                let readiness = token.readiness(&contents, now);
                let kind = std::mem::discriminant::<TokenFileState>;
                match (&expected, readiness.outputs[0]) {
                    (Readiness::Judged(expected), Some(found)) => {
                        assert_eq!(kind(&found), kind(expected), "{format:?}: {expected}, {found}");
                    }
                    (Readiness::Unreadable(_), None) => {}
                    (_, found) => panic!("{format:?}: {expected}, {found:?}"),
                }
                assert_eq!(
                    token.figures(&contents, now).is_ready,
                    expected.is_ready(),
                    "{format:?}: {expected}"
                );
            }
        }
    }

    #[test]
    fn of_several_outputs_the_metrics_show_the_one_that_expires_first() {
        let directory = tempfile::tempdir().unwrap();
        let mut token = token(directory.path(), &Format::default());
        let now = Clock::System.now();
        let figures = token.figures(&contents_of(&token), now);
        assert_eq!((figures.is_ready, figures.expires, figures.issued), (false, None, None));

        std::fs::write(directory.path().join("one"), VALID).unwrap();
        let seconds = |time: Option<UnixTime>| time.map(|time| time.as_duration().as_secs());
        let figures = token.figures(&contents_of(&token), now);
        assert_eq!((figures.is_ready, figures.expires), (false, None), "the other output is missing");
        std::fs::write(directory.path().join("two"), VALID).unwrap();
        let figures = token.figures(&contents_of(&token), now);
        assert_eq!((seconds(figures.expires), seconds(figures.issued)), (Some(1_900_000_000), Some(1_000)));

        std::fs::write(directory.path().join("two"), EXPIRED).unwrap();
        assert_eq!(seconds(token.figures(&contents_of(&token), now).expires), Some(1_700_000_000));

        std::fs::write(directory.path().join("two"), VALID).unwrap();
        assert!(token.figures(&contents_of(&token), now).is_ready);
        token.adopt(now, Jitter::NONE);
        assert!(token.readiness(&contents_of(&token), now).is_ready());
    }
}
