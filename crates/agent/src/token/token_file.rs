//! The token files of a token: adopts, writes, watches and removes them.

use dexsidecar_core::adoption::{AtStartup, FoundToken, Modified, is_of_the_same_kind, may_be_from};
use dexsidecar_core::config::Level;
use dexsidecar_core::event::Event;
use dexsidecar_core::failure::Failure;
use dexsidecar_core::output::{Format, Output, StoredToken};
use dexsidecar_core::refresher::Observation;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::settings::REQUESTED_TOKEN_TYPE;
use dexsidecar_core::time::{BootTime, Jitter, Now};
use dexsidecar_edge::output_file::{self, NameLock, RenamePlace, Written};

use super::actions::ANNOUNCE_ADOPTED_AFTER;
use super::{CurrentToken, Token};
use crate::job::Job;
use crate::reporter::LOG_AGAIN_AFTER;

/// One token file.
#[derive(Debug)]
pub(super) struct TokenFile {
    output: Output,
    lock: NameLock,
    /// The token that was written to it or found in it last.
    content: Option<Secret>,
    /// Its fingerprint when it was read last. `None`: it has to be read again.
    fingerprint: Option<u64>,
    /// The token that the file holds otherwise: in a former format or with former rights, or of
    /// another exchange. Its expiry is watched all the same.
    leftover: Option<StoredToken>,
    /// The expired token whose file is to be removed.
    unremoved: Option<Secret>,
    /// Its removal has failed, which was reported.
    removal_failed: bool,
    /// The files were polled since then: the removal is tried again.
    removal_due: bool,
    /// The jobs that change the file now. Meanwhile there is nothing to compare.
    jobs: u8,
    /// The place of the issued token in the order of the outputs, until its write begins.
    place: Option<RenamePlace>,
    /// The changes by other processes that were logged, by the name of their event.
    changes_logged: Vec<(&'static str, BootTime)>,
}

impl TokenFile {
    pub(super) fn new(output: &Output) -> Self {
        Self {
            output: output.clone(),
            lock: NameLock::default(),
            content: None,
            fingerprint: None,
            leftover: None,
            unremoved: None,
            removal_failed: false,
            removal_due: false,
            jobs: 0,
            place: None,
            changes_logged: vec![],
        }
    }

    /// This file, with what the same file held under its former configuration. `current` is the
    /// token that it held, if it held the current one.
    pub(super) fn after(mut self, former: Self, current: Option<&StoredToken>) -> Self {
        let held = former.content.filter(|content| current.is_some_and(|current| current.token == *content));
        self.leftover = held.and(current).cloned().or(former.leftover);
        self.unremoved = former.unremoved.filter(|_| self.output.remove_expired);
        self
    }

    /// A job that runs must not replace the file any more: another token may be configured for it.
    pub(super) fn revoke(&self) {
        self.lock.revoke();
    }

    /// This file with the current token in it, for a token with a new configuration. A job that
    /// runs was revoked and ends without a report, so the next poll compares the content.
    pub(super) fn kept(self) -> Self {
        let lock = NameLock::default();
        let changes_logged = vec![];
        Self { lock, fingerprint: None, removal_due: false, jobs: 0, place: None, changes_logged, ..self }
    }

    /// Where it is, and how it is written.
    pub(super) const fn output(&self) -> &Output {
        &self.output
    }

    /// True if this token was written to it or found in it last.
    pub(super) fn holds(&self, token: &Secret) -> bool {
        self.content.as_ref() == Some(token)
    }

    fn remove(&mut self, output: usize, expired: Secret) -> Job {
        self.jobs += 1;
        // A reload may revoke the job.
        self.unremoved = Some(expired.clone());
        Job::Remove { output, file: self.output.clone(), lock: self.lock.clone(), expired }
    }

    /// True while it is being written or removed.
    pub(super) const fn is_busy(&self) -> bool {
        self.jobs > 0
    }

    /// As after a write of this token.
    #[cfg(test)]
    pub(super) fn set_held(&mut self, token: &str) {
        self.content = Some(Secret::new(token.to_owned()));
    }

    const fn job_ended(&mut self) {
        self.jobs = self.jobs.saturating_sub(1);
    }
}

impl Token {
    /// Adopts a valid token from before a restart instead of exchanging at once. If the files hold
    /// several, it is the one that expires last. The others get it too, except those that hold a
    /// valid token of another issuer or audience: which of them this configuration asks for is not
    /// known before the first exchange.
    pub(crate) fn adopt(&mut self, now: Now, jitter: Jitter) {
        self.adopt_from_files(true, now, jitter);
    }

    /// Adopts a valid token from the files. It may be of another exchange: no other file gets it.
    /// Those that hold it are written as they are configured now.
    pub(crate) fn adopt_alone(&mut self, now: Now, jitter: Jitter) {
        self.adopt_from_files(false, now, jitter);
    }

    /// Adopts a valid token from the files, and copies it to the others or not.
    fn adopt_from_files(&mut self, copies: bool, now: Now, jitter: Jitter) {
        let mut valid: Vec<(usize, Secret)> = vec![];
        let mut best: Option<(usize, StoredToken, FoundToken)> = None;
        for output in 0..self.files.len() {
            let file = &mut self.files[output];
            let Some((content, seen)) = output_file::content_with_fingerprint(&file.output) else { continue };
            let found = file.output.format.read_at_startup(&content);
            let Some((stored, is_in_format)) = found else { continue };
            file.leftover = Some(stored.clone());
            match AtStartup::of(&stored, now) {
                AtStartup::Adopt(_)
                    if !may_be_from(&stored.token, self.config.exchange.issuer.as_deref()) => {}
                AtStartup::Adopt(found) => {
                    valid.push((output, stored.token.clone()));
                    if is_in_format && output_file::has_permissions(&file.output) {
                        file.fingerprint = Some(seen);
                        file.content = Some(stored.token.clone());
                    }
                    if best.as_ref().is_none_or(|(_, _, best)| best.expires < found.expires) {
                        best = Some((output, stored, found));
                    }
                }
                AtStartup::Expired if file.output.remove_expired => {
                    file.leftover = None;
                    file.unremoved = Some(stored.token);
                    file.removal_due = true;
                }
                AtStartup::Expired | AtStartup::Ignore => {}
            }
        }
        let Some((best, mut stored, found)) = best else { return };
        let requested_type = self.config.exchange.field(REQUESTED_TOKEN_TYPE);
        stored.issued_token_type = stored.issued_token_type.or_else(|| requested_type.map(str::to_owned));
        self.hold_found(stored, &found, now.boot);
        if let Some(current) = &mut self.current {
            current.announce_at = Some(now.boot + ANNOUNCE_ADOPTED_AFTER);
        }
        let FoundToken { lifetime, expires, remaining, .. } = found;
        // The file of the adopted token may have another format or mode than its output has now.
        for output in 0..self.files.len() {
            if output != best && !self.has_current(output) {
                continue;
            }
            if self.has_current(output) {
                self.files[output].leftover = None;
            }
            self.refresher.on(Observation::Adopted { output, lifetime, expires }, now, jitter);
            let refresh_in = now.boot.until(self.refresher.due());
            let file = &self.files[output].output.path.display();
            self.reporter.emit(&Event::TokenAdopted { file, expires_in: remaining, refresh_in });
        }
        let Some(current) = &self.current else { return };
        let ours = current.stored.token.clone();
        if copies {
            valid.retain(|(_, token)| !is_of_the_same_kind(token, &ours));
            self.copy_to_others(&valid, now, jitter);
        } else {
            valid.retain(|(output, token)| *token == ours && !self.has_current(*output));
            for (output, _) in valid {
                self.refresher.on(Observation::Missing(output), now, jitter);
            }
        }
    }

    /// True if this file holds the current token, in its format, and at adoption with its mode and
    /// group.
    fn has_current(&self, output: usize) -> bool {
        self.current.as_ref().is_some_and(|current| self.files[output].holds(&current.stored.token))
    }

    /// The current token was found in a file: the others get it too, except these.
    fn copy_to_others(&mut self, except: &[(usize, Secret)], now: Now, jitter: Jitter) {
        for output in 0..self.files.len() {
            if !self.has_current(output) && except.iter().all(|(other, _)| *other != output) {
                self.refresher.on(Observation::Missing(output), now, jitter);
            }
        }
    }

    /// This token was found in a file and is the current one now.
    fn hold_found(&mut self, stored: StoredToken, found: &FoundToken, now: BootTime) {
        let (key_id, lifetime) = (found.key_id.clone(), found.lifetime);
        self.current =
            Some(CurrentToken { stored, key_id, lifetime, obtained_at: now, announce_at: Some(now) });
        self.overdue_since = None;
    }

    /// A token was issued: the files to which no other write is in progress are replaced together.
    pub(super) fn order_outputs(&mut self) {
        let idle = self.files.iter().filter(|file| file.jobs == 0).count();
        let mut places = RenamePlace::places_for(if idle > 1 { idle } else { 0 }).into_iter();
        for file in &mut self.files {
            // A place that was not used ends here.
            file.place = None;
            if file.jobs == 0 {
                file.place = places.next();
            }
        }
    }

    /// Starts to write the current token, unless it has expired.
    pub(super) fn start_write(&mut self, output: usize, now: Now, jitter: Jitter) -> Option<Job> {
        // It may have expired while an older one that expires later waits to be written.
        let valid = |current: &&CurrentToken| current.lifetime.remaining(now.boot).is_some();
        let Some(current) = self.current.as_ref().filter(valid) else {
            self.refresher.on(Observation::NothingToWrite(output), now, jitter);
            return None;
        };
        let file = &mut self.files[output];
        file.jobs += 1;
        let (token, is_restore) = (current.stored.clone(), file.holds(&current.stored.token));
        let place = file.place.take();
        let (log, lock, file) = (self.reporter.log().clone(), file.lock.clone(), file.output.clone());
        Some(Job::Write { output, file, lock, place, token, is_restore, log })
    }

    /// This token was written.
    pub(super) fn written(
        &mut self,
        output: usize,
        token: &Secret,
        is_restore: bool,
        written: &Written,
        now: Now,
        jitter: Jitter,
    ) {
        let file = &mut self.files[output];
        file.job_ended();
        // The next poll compares the content, so that what others did to the very file meanwhile is
        // noticed.
        file.fingerprint = None;
        file.unremoved = None;
        file.leftover = None;
        file.content = Some(token.clone());
        self.refresher.on(Observation::Written(output), now, jitter);
        self.note_recovery();
        let path = &self.files[output].output.path;
        self.reporter.written(path, written);
        if is_restore {
            return;
        }
        let on_disk = self.refresher.on_disk().and_then(|token| token.remaining(now.boot));
        let (expires_in, refresh_in) = (on_disk.unwrap_or_default(), now.boot.until(self.refresher.due()));
        self.reporter.emit(&Event::TokenWritten { file: &path.display(), expires_in, refresh_in });
    }

    /// Reports that nothing fails any more, if that is so. A restored token, or one that is written
    /// again after a reload, does not mean that Dex has recovered: an exchange is overdue until one
    /// succeeds.
    fn note_recovery(&mut self) {
        if !self.refresher.has_failed() && self.overdue_since.is_none() {
            self.reporter.recovered();
        }
    }

    /// A token could not be written.
    pub(super) fn write_failed(&mut self, output: usize, failure: &Failure, now: Now, jitter: Jitter) {
        self.counts.write_failures += 1;
        self.files[output].job_ended();
        self.refresher.on(Observation::WriteFailed { output, code: failure.code }, now, jitter);
        let retry_at = self.refresher.write_due(output).unwrap_or(now.boot);
        self.report(failure, &[], retry_at, now);
    }

    /// Compares a token file with what was written.
    pub(super) fn poll_output(&mut self, output: usize, now: Now, jitter: Jitter) {
        self.watch_leftover(output, now);
        let file = &mut self.files[output];
        file.removal_due = file.unremoved.is_some() && file.jobs == 0;
        let Some(current) =
            self.current.as_ref().filter(|current| file.jobs == 0 && file.holds(&current.stored.token))
        else {
            return;
        };
        if Some(output_file::fingerprint(&file.output)) == file.fingerprint {
            return;
        }
        let found = output_file::read_with_fingerprint(&file.output);
        if let Some((_, seen)) = found.as_ref().filter(|(found, _)| found.token == current.stored.token) {
            // It holds the same token. Its metadata changed, or a reader has written it again with
            // other members, as the Incus command line does.
            file.fingerprint = Some(*seen);
            return;
        }
        match Modified::of(found.as_ref().map(|(found, _)| found), &current.stored, now) {
            Modified::Newer(newer) => {
                let Some((stored, seen)) = found else { return };
                file.fingerprint = Some(seen);
                file.content = Some(stored.token.clone());
                self.hold_found(stored, &newer, now.boot);
                let FoundToken { lifetime, expires, .. } = newer;
                self.refresher.on(Observation::ReplacedByNewer { output, lifetime, expires }, now, jitter);
                self.note_recovery();
                self.copy_to_others(&[], now, jitter);
                let file = self.files[output].output.path.clone();
                let event = Event::OutputReplacedByNewerToken { file: &file.display() };
                self.report_output_change(output, &event, now.boot);
            }
            Modified::Restore { by_valid_token } => {
                let planned = self.refresher.restore_due(output);
                self.refresher.on(Observation::Modified { output, by_valid_token }, now, jitter);
                if self.refresher.restore_due(output) != planned {
                    let file = self.files[output].output.path.clone();
                    let event = Event::OutputRestored { file: &file.display() };
                    self.report_output_change(output, &event, now.boot);
                }
            }
        }
    }

    /// Reports the first change of this kind to a token file at its own level, and further ones at
    /// `debug`: two processes may overwrite each other without end.
    fn report_output_change(&mut self, output: usize, event: &Event<'_>, now: BootTime) {
        let logged = &mut self.files[output].changes_logged;
        logged.retain(|(_, at)| now.since(*at) < LOG_AGAIN_AFTER);
        let is_known = logged.iter().any(|(name, _)| *name == event.name());
        if !is_known {
            logged.push((event.name(), now));
        }
        self.reporter.emit_at(if is_known { Level::Debug } else { event.level() }, event);
    }

    /// The token in this file has expired. Another token that waits to be written is kept.
    pub(super) fn expired(&mut self, output: usize) -> Option<Job> {
        let file = &mut self.files[output];
        self.reporter.emit(&Event::TokenExpired { file: &file.output.path.display() });
        let leftover = file.leftover.take().map(|stored| stored.token);
        let expired = file.content.clone().or(leftover).filter(|_| file.output.remove_expired)?;
        Some(file.remove(output, expired))
    }

    /// Reports the expiry of a token that the file holds, but that the refresher does not know, and
    /// removes the file if that is configured.
    fn watch_leftover(&mut self, output: usize, now: Now) {
        if self.refresher.knows_token_in(output) {
            return;
        }
        let file = &mut self.files[output];
        let has_expired = |stored: &StoredToken| stored.expires.is_some_and(|expires| expires <= now.unix);
        if file.jobs > 0 || !file.leftover.as_ref().is_some_and(has_expired) {
            return;
        }
        // While the file cannot be read, what it holds stays as it was.
        let found = output_file::read_content(&file.output).and_then(|content| Format::read_any(&content));
        let Some(found) = found else { return };
        let expired = file.leftover.take().filter(|expired| expired.token == found.token);
        if let Some(expired) = expired {
            file.unremoved = Some(expired.token).filter(|_| file.output.remove_expired);
            self.reporter.emit(&Event::TokenExpired { file: &file.output.path.display() });
        }
    }

    /// Tries again to remove the file of an expired token, once after each poll of the files.
    pub(super) fn next_removal(&mut self) -> Option<Job> {
        let output = self.files.iter().position(|file| file.removal_due)?;
        let file = &mut self.files[output];
        file.removal_due = false;
        let expired = file.unremoved.clone()?;
        Some(file.remove(output, expired))
    }

    /// The file of this expired token was removed, or holds another token that somebody else wrote,
    /// or could not be removed.
    pub(super) fn removed(&mut self, output: usize, expired: &Secret, result: Result<bool, Failure>) {
        self.files[output].job_ended();
        self.removal_ended(output, expired, result);
    }

    fn removal_ended(&mut self, output: usize, expired: &Secret, result: Result<bool, Failure>) {
        let file = &mut self.files[output];
        let failed_before = std::mem::replace(&mut file.removal_failed, result.is_err());
        file.unremoved = result.is_err().then(|| expired.clone());
        if !matches!(result, Ok(false)) && file.holds(expired) {
            file.content = None;
            self.current.take_if(|current| current.stored.token == *expired);
        }
        if result.is_ok() || !failed_before {
            self.report_removal(output, result);
        }
    }

    fn report_removal(&mut self, output: usize, result: Result<bool, Failure>) {
        match result {
            Ok(true) => {
                let file = &self.files[output].output.path.display();
                self.reporter.emit(&Event::ExpiredTokenRemoved { file });
            }
            Ok(false) => {}
            Err(failure) => self.reporter.output_not_writable(&failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use dexsidecar_core::config::{Config, Outputs, RawSettings, TokenConfig};
    use dexsidecar_core::failure::Code;
    use dexsidecar_core::output::Format;
    use dexsidecar_core::refresher::Lifetime;
    use dexsidecar_edge::clock::Clock;
    use dexsidecar_edge::log::Logger;

    use super::*;
    use crate::job::Outcome;
    use crate::reporter::Reporter;
    use crate::termination_message::TerminationMessage;
    use crate::token::Next;
    use crate::upstream::Upstream;

    fn config(directory: &Path) -> TokenConfig {
        let variables = [
            ("dex_endpoint", "https://dex.test/token".to_owned()),
            ("dex_access_token_file", directory.join("token").display().to_string()),
            ("DEXSIDECAR_ON_EXPIRY", "remove".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), Secret::new(value))).to_vec();
        Config::read(&RawSettings::of_variables(variables), Outputs::Required).unwrap().tokens.remove(0)
    }

    /// A mode that was tightened must not wait for the next exchange.
    #[test]
    fn an_adopted_file_with_another_mode_than_configured_is_written_again() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (path, now) = (directory.path().join("token"), Clock::System.now());
        let expires = now.unix.as_duration().as_secs() + 7_200;
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{},"exp":{expires}}}"#, expires - 9_000));
        std::fs::write(&path, format!("e30.{claims}.sig")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        for (mode, is_written) in [(None, false), (Some(0o644), false), (Some(0o600), true)] {
            let mut config = config(directory.path());
            config.outputs[0].mode = mode;
            let message = TerminationMessage::shared(Some("/dev/null".into()));
            let reporter = Reporter::new(Logger::silent(Clock::System), message, 0);
            let mut token = Token::new(0, config, reporter, now);
            token.adopt(now, Jitter::NONE);
            let next = token.next(now, Jitter::NONE, &mut Upstream::default());
            let found = matches!(next, Next::Run(job) if matches!(*job, Job::Write { .. }));
            assert_eq!(found, is_written, "{mode:?}");
        }
    }

    #[test]
    fn an_expired_token_is_removed_at_startup_in_whatever_format_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (path, now) = (directory.path().join("token"), Clock::System.now());
        let jwt = |exp: u64| {
            let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{},"exp":{exp}}}"#, exp - 7_200));
            Secret::new(format!("e30.{claims}.sig"))
        };
        // The removal is a job: the file system may stall.
        let is_removed = |config: TokenConfig| {
            let message = TerminationMessage::shared(Some("/dev/null".into()));
            let reporter = Reporter::new(Logger::silent(Clock::System), message, 0);
            let mut token = Token::new(0, config, reporter, now);
            token.adopt(now, Jitter::NONE);
            assert!(path.exists());
            let next = token.next(now, Jitter::NONE, &mut Upstream::default());
            matches!(next, Next::Run(job) if matches!(*job, Job::Remove { .. }))
        };
        let raw = |prefix: &str| Format::Raw { prefix: prefix.to_owned() };
        let formats = [raw(""), raw("Bearer "), Format::Json, Format::Incus, Format::ExecCredential];
        let (hour, now) = (3_600, now.unix.as_duration().as_secs());
        for (former, format) in formats.iter().flat_map(|former| formats.iter().map(move |new| (former, new)))
        {
            for (expires, stays) in [(now - hour, false), (now + hour, true)] {
                let stored = StoredToken::of(jwt(expires));
                std::fs::write(&path, former.render(&stored).expose()).unwrap();
                let mut config = config(directory.path());
                config.outputs[0].format = format.clone();
                assert_eq!(is_removed(config), !stays, "{former:?} is {format:?} now");
            }
        }
        // What is no token is left alone.
        std::fs::write(&path, "a file of somebody else").unwrap();
        assert!(!is_removed(config(directory.path())));
    }

    #[test]
    fn an_expired_token_that_cannot_be_removed_is_tried_again_after_each_poll() {
        let directory = tempfile::tempdir().unwrap();
        let (logger, lines) = Logger::counting(Clock::System);
        let reporter = Reporter::new(logger, TerminationMessage::shared(Some("/dev/null".into())), 0);
        let now = Now::default();
        let mut token = Token::new(0, config(directory.path()), reporter, now);
        let mut upstream = Upstream::default();
        let expired = Secret::new("expired".to_owned());
        let mut next = |token: &mut Token| match token.next(now, Jitter::NONE, &mut upstream) {
            Next::Run(job) => Some(matches!(*job, Job::Remove { .. })),
            Next::Wait(_) => None,
        };
        assert_eq!(next(&mut token), Some(false), "the first exchange");
        for round in 0..3 {
            let result = Err(Failure::new(Code::OutputNotPermitted, ""));
            token.removed(0, &expired, result);
            assert_eq!(next(&mut token), None, "not before the next poll");
            token.poll_files(now, Jitter::NONE);
            assert_eq!(next(&mut token), Some(true));
            assert_eq!((lines.get(), next(&mut token)), (1, None), "round {round}: it is reported once");
        }
        let removed = Outcome::Removed { output: 0, expired, result: Ok(true) };
        token.done(removed, now, Jitter::NONE, &mut Upstream::default());
        token.poll_files(now, Jitter::NONE);
        assert_eq!((lines.get(), next(&mut token)), (2, None));
    }

    /// An older token that expires later may wait for its write, which writes the current one.
    #[test]
    fn an_expired_token_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let message = TerminationMessage::shared(Some("/dev/null".into()));
        let reporter = Reporter::new(Logger::silent(Clock::System), message, 0);
        let now = Now::default();
        let mut token = Token::new(0, config(directory.path()), reporter, now);
        for (length, is_written) in [(60, true), (0, false)] {
            let stored = StoredToken::of(Secret::new("opaque".to_owned()));
            let lifetime = Lifetime::starting(now.boot, Duration::from_secs(length));
            token.current = Some(CurrentToken {
                stored,
                key_id: None,
                lifetime,
                obtained_at: now.boot,
                announce_at: None,
            });
            assert_eq!(token.start_write(0, now, Jitter::NONE).is_some(), is_written, "{length}");
        }
    }

    #[test]
    fn a_removal_that_a_reload_revokes_is_started_again() {
        let directory = tempfile::tempdir().unwrap();
        let reporter = Reporter::new(
            Logger::silent(Clock::System),
            TerminationMessage::shared(Some("/dev/null".into())),
            0,
        );
        let (now, mut upstream) = (Now::default(), Upstream::default());
        let mut token = Token::new(0, config(directory.path()), reporter, now);
        token.files[0].content = Some(Secret::new("expired".to_owned()));
        assert!(matches!(token.expired(0), Some(Job::Remove { .. })));
        let mut config = config(directory.path());
        config.schedule.before = Some(Duration::from_secs(60));
        let mut token = token.reconfigured(config, now, Jitter::NONE);
        token.poll_files(now, Jitter::NONE);
        let mut jobs = std::iter::from_fn(|| match token.next(now, Jitter::NONE, &mut upstream) {
            Next::Run(job) => Some(matches!(*job, Job::Remove { .. })),
            Next::Wait(_) => None,
        });
        assert!(jobs.any(|is_removal| is_removal));
    }
}
