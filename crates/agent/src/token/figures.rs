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
