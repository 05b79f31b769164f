//! The token file of the agent: adopts, writes, watches and removes it.

use std::time::Duration;

use dexsidecar_core::claims::Claims;
use dexsidecar_core::config::Level;
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::TokenEndpoint;
use dexsidecar_core::failure::Failure;
use dexsidecar_core::refresher::{Lifetime, Observation};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::{BootTime, Now};
use dexsidecar_core::token_file::{EARLIEST_PLAUSIBLE_NOW, TokenFileState};
use dexsidecar_edge::output_file::{self, Written};

use super::{Agent, CurrentToken, first, job};

/// A token found on disk must be valid for longer than this to be adopted: the time that a first
/// exchange may take.
const MIN_ADOPTABLE: Duration = Duration::from_secs(60);

impl<E: TokenEndpoint + 'static> Agent<E> {
    /// Adopts a valid token from before a restart instead of exchanging at once.
    pub(super) fn adopt(&mut self) {
        let Some((token, file)) = output_file::read_with_fingerprint(&self.output) else { return };
        let now = self.clock.now();
        let remaining = match TokenFileState::of(&token, MIN_ADOPTABLE, now.unix) {
            TokenFileState::Valid(Some(remaining)) => remaining,
            TokenFileState::Expired(_) if self.output.remove_expired => {
                return self.removed(&token, output_file::remove_if(&self.output, &token, &self.name_lock));
            }
            _ => return,
        };
        let claims = Claims::peek(&token).unwrap_or_default();
        let Some(expires) = claims.expires.filter(|_| now.unix >= EARLIEST_PLAUSIBLE_NOW) else { return };
        let lifetime = lifetime_on_disk(&claims, remaining, now.boot);
        self.file = Some(file);
        self.current = Some(CurrentToken::on_disk(token, claims, lifetime));
        self.on(Observation::Adopted { output: 0, lifetime, expires });
        let refresh_in = now.boot.until(self.refresher.due());
        let file = &self.output.path.display();
        self.reporter.emit(&Event::TokenAdopted { file, expires_in: remaining, refresh_in });
    }

    /// Starts to write the current token.
    pub(super) fn start_write(&mut self) {
        let Some(current) = &self.current else { return self.on(Observation::NothingToWrite(0)) };
        let (output, lock, log) = (self.output.clone(), self.name_lock.clone(), self.reporter.log().clone());
        self.jobs.write = Some(job::write(output, lock, current.token.clone(), current.on_disk, log));
    }

    /// This token was written.
    pub(super) fn written(&mut self, token: &Secret, is_restore: bool, written: &Written) {
        let now = self.clock.now();
        // The next poll compares the content, so that what others did to the very file meanwhile is
        // noticed.
        self.file = None;
        match &mut self.current {
            Some(current) if current.token == *token => {
                current.on_disk = true;
                current.previous = None;
            }
            // A newer token waits to be written.
            Some(current) if !current.on_disk => current.previous = Some(token.clone()),
            _ => {}
        }
        self.on(Observation::Written(0));
        // A restored token does not mean that Dex has recovered.
        if self.refresher.failures() == 0 {
            self.reporter.recovered();
        }
        self.reporter.written(&self.output.path, written);
        if is_restore {
            return;
        }
        let expires_in =
            self.refresher.on_disk().and_then(|token| token.remaining(now.boot)).unwrap_or_default();
        let refresh_in = now.boot.until(self.refresher.due());
        let file = &self.output.path.display();
        self.reporter.emit(&Event::TokenWritten { file, expires_in, refresh_in });
    }

    /// Compares the token file with what was written. While a job changes it, there is nothing to
    /// compare.
    pub(super) fn poll_output(&mut self, now: Now) {
        if self.jobs.write.is_some() || self.jobs.removal.is_some() {
            return;
        }
        let Some(current) = self.current.as_ref().filter(|current| current.on_disk) else { return };
        if Some(output_file::fingerprint(&self.output)) == self.file {
            return;
        }
        let found = output_file::read_with_fingerprint(&self.output);
        if let Some((_, file)) = found.as_ref().filter(|(token, _)| *token == current.token) {
            // Its metadata changed, its content did not.
            self.file = Some(*file);
            return;
        }
        if let Some((token, file)) = &found
            && let TokenFileState::Valid(Some(left)) = TokenFileState::of(token, MIN_ADOPTABLE, now.unix)
            && let Some(claims) = Claims::peek(token)
            && let Some(expires) = claims.expires.filter(|_| now.unix >= EARLIEST_PLAUSIBLE_NOW)
            && claims.expires > current.expires
            && Claims::peek(&current.token).is_none_or(|ours| ours.has_same_issuer_and_audience(&claims))
        {
            let lifetime = lifetime_on_disk(&claims, left, now.boot);
            self.file = Some(*file);
            self.current = Some(CurrentToken::on_disk(token.clone(), claims, lifetime));
            self.on(Observation::ReplacedByNewer { output: 0, lifetime, expires });
            let file = self.output.path.clone();
            self.report_output_change(&Event::OutputReplacedByNewerToken { file: &file.display() });
            return;
        }
        let is_valid = |token: &Secret| TokenFileState::of(token, Duration::ZERO, now.unix).is_valid();
        let contested = found.is_some_and(|(token, _)| is_valid(&token));
        let planned = self.refresher.restore_due(0);
        self.on(Observation::Modified { output: 0, by_valid_token: contested });
        if self.refresher.restore_due(0) != planned {
            let file = self.output.path.clone();
            self.report_output_change(&Event::OutputRestored { file: &file.display() });
        }
    }

    /// Reports the first change of the token file at its own level, and further ones at `debug`.
    fn report_output_change(&mut self, event: &Event<'_>) {
        let level = if first(&mut self.once.output_changed) { event.level() } else { Level::Debug };
        self.reporter.emit_at(level, event);
    }

    /// The token on disk has expired. Another token that waits to be written is kept.
    pub(super) fn expire(&mut self) {
        self.reporter.emit(&Event::TokenExpired { file: &self.output.path.display() });
        if self.output.remove_expired {
            let Some(expired) = self.current.as_ref().and_then(CurrentToken::in_file).cloned() else {
                return;
            };
            self.jobs.removal = Some(job::remove(self.output.clone(), self.name_lock.clone(), expired));
        }
    }

    /// The file of this expired token was removed, or holds another token that somebody else wrote.
    pub(super) fn removed(&mut self, expired: &Secret, removed: Result<bool, Failure>) {
        match removed {
            Ok(true) => {
                self.reporter.emit(&Event::ExpiredTokenRemoved { file: &self.output.path.display() });
            }
            Ok(false) => return,
            Err(failure) => self.output_not_writable(&failure),
        }
        self.current.take_if(|current| current.on_disk && current.token == *expired);
    }

    pub(super) fn output_not_writable(&self, failure: &Failure) {
        let (code, fix) = (&failure.code, &failure.fix());
        self.reporter.emit(&Event::OutputNotWritable { error: failure, code, fix });
    }
}

/// The lifetime of a token found on disk: its expiry by the wall clock, its length by its own
/// claims. From now on it is never longer than that, whatever a wrong clock shows.
fn lifetime_on_disk(claims: &Claims, left: Duration, now: BootTime) -> Lifetime {
    let length = claims.lifetime().unwrap_or(left);
    let expires = now + left.min(length);
    Lifetime { issued: expires - length, expires }
}
