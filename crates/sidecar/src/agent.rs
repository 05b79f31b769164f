//! Keeps one token fresh: waits until something is due, does it, and hands the outcome to the
//! refresher.

mod key_check;

use std::time::Duration;

use dexsidecar_core::claims::Claims;
use dexsidecar_core::config::{Config, Level, Output};
use dexsidecar_core::diagnosis;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::TokenEndpoint;
use dexsidecar_core::failure::{Code, Failure, RetryClass};
use dexsidecar_core::key_check::KeyCheck;
use dexsidecar_core::refresher::{Action, Fingerprint, Lifetime, Refresher};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::{BootTime, Jitter, UnixTime};
use dexsidecar_core::token::{LARGEST_SUBJECT, SubjectToken};
use dexsidecar_core::token_file::{EARLIEST_PLAUSIBLE_NOW, TokenFileState};

use crate::edge::blocking::{OnDrop, run_blocking};
use crate::edge::clock::Clock;
use crate::edge::output_file::{self, Written};
use crate::edge::signal::RefreshSignal;
use crate::edge::{input_file, random};
use crate::exchange::{self, Inputs, LastKnown};
use crate::reporter::Reporter;

/// A token found on disk must be valid for longer than this to be adopted: the time that a first
/// exchange may take.
const MIN_ADOPTABLE: Duration = Duration::from_secs(60);
/// How long the first trial of the output may delay the next attempt.
const OUTPUT_TRIAL: Duration = Duration::from_secs(1);
/// How long a write may take before it is reported: as long as an attempt by default.
const SLOW_WRITE: Duration = Duration::from_secs(15);
/// A new token with no more remaining validity than this does not replace one that expires later
/// (F39).
const MIN_REMAINING: Duration = Duration::from_secs(10);

/// The current token: the last one that was issued, or the one that was found on disk.
#[derive(Debug)]
struct CurrentToken {
    token: Secret,
    key_id: Option<String>,
    /// When it expires by its own claim.
    expires: Option<UnixTime>,
    lifetime: Lifetime,
    /// Whether it is in the token file; otherwise it waits to be written.
    on_disk: bool,
}

/// One token being kept fresh.
#[derive(Debug)]
pub struct Agent<E> {
    config: Config,
    output: Output,
    endpoint: E,
    clock: Clock,
    refresher: Refresher,
    reporter: Reporter,
    last_known: LastKnown,
    current: Option<CurrentToken>,
    /// The token file as it was written or read last; nothing when it has to be read again.
    file: Option<u64>,
    once: Once,
    /// The URL of Dex's published keys, once that is known.
    keys_url: Option<EndpointUrl>,
    key_check: KeyCheck,
    /// The index of the address of the endpoint to begin with: the next one after a failure on the
    /// network.
    rotation: usize,
}

/// What was logged or tried, and is not again.
#[derive(Debug, Default)]
struct Once {
    audience: bool,
    rotation_invisible: bool,
    key_check_suspended: bool,
    expires_in_differs: bool,
    token_type_differs: bool,
    output_tried: bool,
    input_unreadable: bool,
    output_changed: bool,
}

/// True the first time.
const fn first(done: &mut bool) -> bool {
    !std::mem::replace(done, true)
}

/// A failed exchange, and what is known here of its cause.
struct FailedExchange {
    failure: Failure,
    causes: Vec<String>,
}

impl From<Failure> for FailedExchange {
    fn from(failure: Failure) -> Self {
        Self { failure, causes: vec![] }
    }
}

impl<E: TokenEndpoint> Agent<E> {
    /// An agent for this configuration. It has done nothing yet.
    pub fn new(config: Config, output: Output, endpoint: E, clock: Clock, reporter: Reporter) -> Self {
        let refresher = Refresher::new(config.schedule, config.key_check, clock.now());
        Self {
            config,
            output,
            endpoint,
            clock,
            refresher,
            reporter,
            last_known: LastKnown::default(),
            current: None,
            file: None,
            once: Once::default(),
            keys_url: None,
            key_check: KeyCheck::default(),
            rotation: 0,
        }
    }

    /// Keeps the token fresh until the future is dropped, at any point. A write that has begun is
    /// finished by its thread.
    pub async fn run(&mut self, refresh_signal: &mut RefreshSignal) {
        self.adopt();
        loop {
            match self.refresher.step(self.clock.now(), random::jitter()) {
                Action::Exchange => self.exchange().await,
                Action::Publish => self.publish().await,
                Action::CheckKeys => self.check_keys().await,
                Action::Expire => self.expire(),
                Action::Wait(until) => tokio::select! {
                    () = self.clock.sleep_until(until) => self.poll_files(),
                    signal = refresh_signal.requested() => self.refresh_requested(signal),
                },
            }
        }
    }

    /// Exchanges until one token is in its file; `once` is this with a deadline.
    pub async fn run_once(&mut self) {
        while self.current.as_ref().is_none_or(|current| !current.on_disk) {
            match self.refresher.step(self.clock.now(), random::jitter()) {
                Action::Exchange => self.exchange().await,
                Action::Publish => self.publish().await,
                Action::CheckKeys | Action::Expire => {}
                Action::Wait(until) => {
                    self.clock.sleep_until(until).await;
                    self.refresher.inputs_seen(exchange::fingerprint(&self.config), self.clock.now());
                }
            }
        }
    }

    /// When `once` gives up.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// The last failure since the last success.
    #[must_use]
    pub const fn last_failure(&self) -> Option<&Failure> {
        self.reporter.last_failure()
    }

    async fn exchange(&mut self) {
        let inputs = exchange::fingerprint(&self.config);
        match self.exchange_once().await {
            Ok(lifetime) => self.refresher.obtained(lifetime, self.clock.now()),
            Err(FailedExchange { failure, causes }) => {
                if first(&mut self.once.output_tried) {
                    self.try_output().await;
                }
                self.rotate_address(&failure);
                self.failed(&failure, &causes, inputs);
            }
        }
    }

    /// The next attempt begins with the next address of the host: one that fails, whatever the
    /// reason, comes last.
    fn rotate_address(&mut self, failure: &Failure) {
        if failure.entry().retry != RetryClass::Local {
            self.rotation = self.rotation.wrapping_add(1);
        }
    }

    /// Reports what will be wrong with the output before there is a token to write (F71).
    async fn try_output(&self) {
        let output = self.output.clone();
        let trying = run_blocking(OnDrop::Detach, move || output_file::check_writable(&output));
        if let Ok(Ok(Err(failure))) = tokio::time::timeout(OUTPUT_TRIAL, trying).await {
            self.output_not_writable(&failure);
        }
    }

    fn output_not_writable(&self, failure: &Failure) {
        let (code, fix) = (&failure.code, &failure.fix());
        self.reporter.emit(&Event::OutputNotWritable { error: failure, code, fix });
    }

    /// Reads the subject token, exchanges it and keeps the issued token; [`Self::publish`] writes
    /// it.
    async fn exchange_once(&mut self) -> Result<Lifetime, FailedExchange> {
        let now = self.clock.now().unix;
        let inputs = Inputs::read(&self.config, &mut self.last_known, now).await?;
        let subject = inputs.subject.as_ref();
        self.subject_seen(subject)?;
        self.report_unreadable_inputs(&inputs.unreadable);
        if let Some(warning) = subject.and_then(diagnosis::meant_for_the_api_server)
            && first(&mut self.once.audience)
        {
            self.reporter.emit(&Event::SubjectTokenWarning { warning: &warning });
        }
        let current = self.current.as_ref().map(|current| &current.token);
        let exchanged =
            inputs.exchange(&self.config, &self.endpoint, &self.clock, self.rotation, current).await;
        let (issued, lifetime) = exchanged.map_err(|failure| {
            let causes = diagnosis::causes(failure.code, &self.config, subject, self.clock.now().unix);
            FailedExchange { failure, causes }
        })?;
        let lifetime = self.accept_if_better(&issued.token, lifetime)?;
        if let Some(issued_token_type) = &issued.differing_type
            && first(&mut self.once.token_type_differs)
        {
            self.reporter.emit(&Event::IssuedTokenTypeDiffers { issued_token_type });
        }
        let claims = issued.claims.unwrap_or_default();
        self.key_check.issued(claims.key_id.as_deref());
        if let Some((response, token)) = issued.differing_expires_in.zip(claims.lifetime())
            && first(&mut self.once.expires_in_differs)
        {
            self.reporter.emit(&Event::ExpiresInDiffers { response, token });
        }
        self.current = Some(CurrentToken {
            token: issued.token,
            key_id: claims.key_id,
            expires: claims.expires,
            lifetime,
            on_disk: false,
        });
        Ok(lifetime)
    }

    async fn publish(&mut self) {
        let Some(current) = &self.current else { return self.refresher.discard_pending() };
        let (output, token) = (self.output.clone(), current.token.clone());
        let write = move || output_file::write(&output, &token);
        // On a thread of its own, since a disk may stall and signals must still be handled (F86).
        // Where no thread can be made, it is done here.
        let mut writing = std::pin::pin!(run_blocking(OnDrop::Join, write.clone()));
        let written = match tokio::time::timeout(SLOW_WRITE, &mut writing).await {
            Ok(written) => written,
            Err(_) => {
                self.reporter.emit(&Event::WriteSlow { file: &self.output.path.display() });
                writing.await
            }
        };
        let written = written.unwrap_or_else(|_| write());
        match written {
            Ok(written) => self.published(&written),
            Err(failure) => self.failed(&failure, &[], exchange::fingerprint(&self.config)),
        }
    }

    fn published(&mut self, written: &Written) {
        let now = self.clock.now();
        // The next poll compares the content, so that what others did to the very file meanwhile is
        // noticed.
        self.file = None;
        let restored = self.current.as_ref().is_some_and(|current| current.on_disk);
        if let Some(current) = &mut self.current {
            current.on_disk = true;
        }
        self.refresher.published(now, random::jitter());
        // A restored token does not mean that Dex has recovered.
        if self.refresher.failures() == 0 {
            self.reporter.recovered();
        }
        self.reporter.written(&self.output.path, written);
        if restored {
            return;
        }
        let expires_in =
            self.refresher.on_disk().and_then(|held| held.remaining(now.boot)).unwrap_or_default();
        let refresh_in = now.boot.until(self.refresher.due());
        self.reporter.emit(&Event::TokenWritten {
            file: &self.output.path.display(),
            expires_in,
            refresh_in,
        });
    }

    fn failed(&mut self, failure: &Failure, causes: &[String], inputs: Fingerprint) {
        let now = self.clock.now();
        let retry_in = self.refresher.failed(failure, inputs, now, random::jitter());
        self.reporter.failed(failure, causes, self.refresher.health(now), retry_in, now);
    }

    /// Adopts a valid token from before a restart instead of exchanging at once.
    fn adopt(&mut self) {
        let Some((token, file)) = output_file::read_with_fingerprint(&self.output) else { return };
        let now = self.clock.now();
        let left = match TokenFileState::of(&token, MIN_ADOPTABLE, now.unix) {
            TokenFileState::Valid(Some(left)) => left,
            TokenFileState::Expired(_) if self.output.remove_expired => return self.remove(),
            _ => return,
        };
        let claims = Claims::peek(&token).unwrap_or_default();
        let Some(expires) = claims.expires.filter(|_| now.unix >= EARLIEST_PLAUSIBLE_NOW) else { return };
        let lifetime = lifetime_on_disk(&claims, left, now.boot);
        self.file = Some(file);
        self.current = Some(CurrentToken::on_disk(token, claims, lifetime));
        self.refresher.adopted(lifetime, expires, now, random::jitter());
        let refresh_in = now.boot.until(self.refresher.due());
        let file = &self.output.path.display();
        self.reporter.emit(&Event::TokenAdopted { file, expires_in: left, refresh_in });
    }

    /// Polls the files that an exchange reads, and the token file.
    fn poll_files(&mut self) {
        let now = self.clock.now();
        self.refresher.inputs_seen(exchange::fingerprint(&self.config), now);
        self.poll_subject_token();
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
            self.refresher.replaced_by(lifetime, expires, now, random::jitter());
            let file = self.output.path.clone();
            self.report_output_change(&Event::OutputReplacedByNewerToken { file: &file.display() });
            return;
        }
        let is_valid = |token: &Secret| TokenFileState::of(token, Duration::ZERO, now.unix).is_valid();
        let contested = found.is_some_and(|(token, _)| is_valid(&token));
        if self.refresher.output_changed(contested, now) {
            let file = self.output.path.clone();
            self.report_output_change(&Event::OutputRestored { file: &file.display() });
        }
    }

    /// Reports the first change of the token file at its own level, and further ones at `debug`.
    fn report_output_change(&mut self, event: &Event<'_>) {
        let level = if first(&mut self.once.output_changed) { event.level() } else { Level::Debug };
        self.reporter.emit_at(level, event);
    }

    /// Reads a rotated subject token, so that its expiry is known in time for a last exchange.
    fn poll_subject_token(&mut self) {
        let Some(path) = self.config.subject_token_file() else { return };
        if self.current.is_none()
            || !self.refresher.subject_is_new(Fingerprint(input_file::fingerprint(path)))
        {
            return;
        }
        if input_file::is_unlinked(path) && first(&mut self.once.rotation_invisible) {
            let fix = &"mount the directory of its volume, without subPath";
            self.reporter.emit(&Event::SubjectTokenRotationInvisible { file: &path.display(), fix });
        }
        if let Ok(content) = input_file::read(path, LARGEST_SUBJECT)
            && let Ok(SubjectToken(token)) = SubjectToken::parse(content, None)
        {
            let claims = Claims::peek(&token);
            // One that looks expired is reported when it is to be sent.
            let _ = self.subject_seen(claims.as_ref());
        }
    }

    /// Notes the expiry of the subject token. One that looks expired is retried for a while, and
    /// then sent all the same, since this node's clock may be wrong.
    fn subject_seen(&mut self, claims: Option<&Claims>) -> Result<(), Failure> {
        let (Some(claims), Some(path)) = (claims, self.config.subject_token_file()) else { return Ok(()) };
        let Some(expires) = claims.expires else { return Ok(()) };
        let now = self.clock.now();
        let file = Fingerprint(input_file::fingerprint(path));
        if self.refresher.subject_read(file, claims.issued, expires, now) {
            return Ok(());
        }
        let ago = HumanDuration(now.unix.since(expires));
        Err(Failure::new(Code::SubjectTokenExpired, format!("{} expired {ago} ago", path.display())))
    }

    fn report_unreadable_inputs(&mut self, failures: &[Failure]) {
        if failures.is_empty() {
            self.once.input_unreadable = false;
        } else if first(&mut self.once.input_unreadable) {
            for failure in failures {
                let (code, fix) = (&failure.code, &failure.fix());
                self.reporter.emit(&Event::InputUnreadable { error: failure, code, fix });
            }
        }
    }

    /// Accepts an issued token unless the token on disk is better, and gives its lifetime. A token
    /// that was issued before keeps the lifetime that it had.
    fn accept_if_better(&self, token: &Secret, lifetime: Lifetime) -> Result<Lifetime, Failure> {
        let now = self.clock.now();
        if let Some(CurrentToken { token: known, lifetime: old, .. }) = &self.current
            && known == token
        {
            // A cached token is accepted only until its own refresh is due. Otherwise each exchange
            // would make the next one due at once.
            let soonest = self.config.schedule.refresh_after(old.length(), Jitter::new(1.0));
            let fresh = now.boot < old.issued + soonest;
            return if fresh { Ok(*old) } else { Err(Failure::new(Code::TokenUnchanged, "")) };
        }
        let on_disk = self.refresher.on_disk().and_then(|token| token.remaining(now.boot));
        let new = lifetime.remaining(now.boot).unwrap_or_default();
        if new <= MIN_REMAINING && on_disk.is_some_and(|on_disk| on_disk > new) {
            let new = HumanDuration(new);
            let detail = format!("it expires in {new}, and the token on disk expires later");
            return Err(Failure::new(Code::TokenExpired, detail));
        }
        Ok(lifetime)
    }

    fn expire(&mut self) {
        self.reporter.emit(&Event::TokenExpired { file: &self.output.path.display() });
        // A token that another process wrote meanwhile is kept.
        let ours = self.current.as_ref().filter(|current| current.on_disk).map(|current| &current.token);
        if self.output.remove_expired && output_file::read(&self.output).as_ref() == ours {
            self.remove();
            // A token that waits to be written is another one.
            self.current.take_if(|current| current.on_disk);
        }
    }

    fn remove(&self) {
        match output_file::remove(&self.output) {
            Ok(()) => {
                self.reporter.emit(&Event::ExpiredTokenRemoved { file: &self.output.path.display() });
            }
            Err(failure) => self.output_not_writable(&failure),
        }
    }

    fn refresh_requested(&mut self, signal: &str) {
        let now = self.clock.now();
        let refresh_in = now.boot.until(self.refresher.refresh_requested(now));
        self.reporter.emit(&Event::RefreshRequested { signal: &signal, refresh_in });
    }
}

impl CurrentToken {
    /// One that was found on disk.
    fn on_disk(token: Secret, claims: Claims, lifetime: Lifetime) -> Self {
        Self { token, key_id: claims.key_id, expires: claims.expires, lifetime, on_disk: true }
    }
}

/// The lifetime of a token found on disk: its expiry by the wall clock, its length by its own
/// claims. From now on it is never longer than that, whatever a wrong clock shows.
fn lifetime_on_disk(claims: &Claims, left: Duration, now: BootTime) -> Lifetime {
    let length = claims.lifetime().unwrap_or(left);
    let expires = now + left.min(length);
    Lifetime { issued: expires - length, expires }
}

#[cfg(test)]
mod tests;
