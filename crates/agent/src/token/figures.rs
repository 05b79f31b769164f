//! What the listener's pages show of a token: judged from its files when somebody asks.

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

impl Token {
    /// Whether its files hold valid tokens, and the last failure.
    pub(crate) fn readiness(&self, now: Now) -> TokenReadiness<'_> {
        TokenReadiness {
            name: &self.config.name,
            outputs: self.files.iter().map(|file| Some(self.judge(file, now)?.state)).collect(),
            failure: self.last_failure().map(|failure: &Failure| failure.code),
        }
    }

    /// What the metrics show of it.
    pub(crate) fn figures(&self, now: Now) -> TokenFigures<'_> {
        let (mut is_ready, mut first) = (true, None::<Judged>);
        for file in &self.files {
            let judged = self.judge(file, now);
            is_ready &= judged.as_ref().is_some_and(|judged| judged.state.is_valid());
            if let Some(judged) = judged
                && first.as_ref().is_none_or(|first| judged.expires < first.expires)
            {
                first = Some(judged);
            }
        }
        let refresh_due = self.overdue_since.unwrap_or_else(|| self.refresher.due());
        TokenFigures {
            name: &self.config.name,
            is_ready,
            expires: first.as_ref().and_then(|first| first.expires),
            issued: first.as_ref().and_then(|first| first.issued),
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
        let content = input_file::read(path, format.largest()).ok()?;
        let of_state = |state| Some(Judged { state, expires: None, issued: None });
        let Ok(content) = String::from_utf8(content) else { return of_state(TokenFileState::Malformed) };
        let content = Secret::new(content);
        let Some(stored) = format.read(&content) else {
            return of_state(TokenFileState::of_content(&content, format, None, Duration::ZERO, now));
        };
        let state = TokenFileState::of_file(&stored, input_file::modified_at(path), Duration::ZERO, now);
        // The lifetime of an opaque token is known from the response to its exchange only.
        let current = self.current.as_ref().filter(|current| current.stored.token == stored.token);
        let lifetime = current.map(|current| current.lifetime);
        let issued = stored.expires.zip(stored.lifetime).map(|(expires, length)| expires - length);
        Some(Judged {
            state,
            expires: stored.expires.or_else(|| lifetime.map(|lifetime| now.unix_at(lifetime.expires))),
            issued: issued.or_else(|| lifetime.map(|lifetime| now.unix_at(lifetime.issued))),
        })
    }
}

/// What a file holds.
struct Judged {
    state: TokenFileState,
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
    fn token(directory: &std::path::Path, format: &Format) -> Token {
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
                let expected = Readiness::of(&path, format, Duration::ZERO, &Clock::System);
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

    #[test]
    fn of_several_outputs_the_metrics_show_the_one_that_expires_first() {
        let directory = tempfile::tempdir().unwrap();
        let mut token = token(directory.path(), &Format::default());
        let now = Clock::System.now();
        let figures = token.figures(now);
        assert_eq!((figures.is_ready, figures.expires, figures.issued), (false, None, None));

        std::fs::write(directory.path().join("one"), VALID).unwrap();
        let seconds = |time: Option<UnixTime>| time.map(|time| time.as_duration().as_secs());
        let figures = token.figures(now);
        assert!(!figures.is_ready, "the other output is missing");
        assert_eq!((seconds(figures.expires), seconds(figures.issued)), (Some(1_900_000_000), Some(1_000)));

        std::fs::write(directory.path().join("two"), EXPIRED).unwrap();
        assert_eq!(seconds(token.figures(now).expires), Some(1_700_000_000));

        std::fs::write(directory.path().join("two"), VALID).unwrap();
        assert!(token.figures(now).is_ready);
        token.adopt(now, Jitter::NONE);
        assert!(token.readiness(now).is_ready());
    }
}
