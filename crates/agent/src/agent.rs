//! Keeps one token fresh: waits until something is due, does it, and hands the outcome to the
//! refresher.

mod job;
mod key_check;
mod output;

use std::rc::Rc;
use std::time::Duration;

use dexsidecar_core::circuit_breaker::CircuitBreaker;
use dexsidecar_core::claims::Claims;
use dexsidecar_core::config::TokenConfig;
use dexsidecar_core::diagnosis;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::TokenEndpoint;
use dexsidecar_core::failure::{Code, Failure, RetryClass, Step};
use dexsidecar_core::key_check::KeyCheck;
use dexsidecar_core::limits::LARGEST_SUBJECT_TOKEN;
use dexsidecar_core::output::Output;
use dexsidecar_core::refresher::{Action, Fingerprint, Lifetime, Observation, Refresher};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::{Jitter, UnixTime};
use dexsidecar_core::token::SubjectToken;
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::output_file::NameLock;
use dexsidecar_edge::signal::RefreshSignal;
use dexsidecar_edge::{input_file, random};

use crate::exchange::{self, Inputs, LastKnown};
use crate::reporter::Reporter;
use job::{Exchanged, FailedExchange, Jobs, Outcome};

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
    /// The token that is in the token file until this one is written.
    previous: Option<Secret>,
}

/// One token being kept fresh.
#[derive(Debug)]
pub struct Agent<E> {
    config: Rc<TokenConfig>,
    output: Output,
    name_lock: NameLock,
    endpoint: Rc<E>,
    clock: Clock,
    refresher: Refresher,
    breaker: CircuitBreaker,
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
    /// The fingerprint of the files that the exchange in flight reads.
    inputs: Fingerprint,
    jobs: Jobs,
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

impl<E: TokenEndpoint + 'static> Agent<E> {
    /// An agent for this configuration. It has done nothing yet.
    pub fn new(config: TokenConfig, output: Output, endpoint: E, clock: Clock, reporter: Reporter) -> Self {
        let refresher = Refresher::new(config.schedule, config.key_check, 1, clock.now());
        Self {
            config: Rc::new(config),
            output,
            name_lock: NameLock::default(),
            endpoint: Rc::new(endpoint),
            clock,
            refresher,
            breaker: CircuitBreaker::default(),
            reporter,
            last_known: LastKnown::default(),
            current: None,
            file: None,
            once: Once::default(),
            keys_url: None,
            key_check: KeyCheck::default(),
            rotation: 0,
            inputs: Fingerprint::default(),
            jobs: Jobs::default(),
        }
    }

    /// Keeps the token fresh until the future is dropped, at any point. Nothing that takes long is
    /// awaited here: while a job runs, the agent handles expiry, signals and files.
    pub async fn run(&mut self, refresh_signal: &mut RefreshSignal) {
        self.adopt();
        loop {
            match self.step() {
                Action::Exchange => self.start_exchange(),
                Action::Publish(_) => self.start_write(),
                Action::CheckKeys => self.start_key_check(),
                Action::Expire(_) => self.expire(),
                Action::Wait(until) => tokio::select! {
                    outcome = self.jobs.next() => self.done(outcome),
                    signal = refresh_signal.requested() => self.refresh_requested(signal),
                    () = self.clock.sleep_until(until) => self.poll_files(),
                },
            }
        }
    }

    /// Exchanges until one token is in its file; `once` is this with a deadline.
    pub async fn run_once(&mut self) {
        while self.current.as_ref().is_none_or(|current| !current.on_disk) {
            match self.step() {
                Action::Exchange => self.start_exchange(),
                Action::Publish(_) => self.start_write(),
                Action::CheckKeys | Action::Expire(_) => {}
                Action::Wait(until) => tokio::select! {
                    outcome = self.jobs.next() => self.done(outcome),
                    () = self.clock.sleep_until(until) => {
                        self.on(Observation::InputsPolled(exchange::fingerprint(&self.config.exchange)));
                    }
                },
            }
        }
    }

    fn step(&mut self) -> Action {
        self.refresher.step(self.clock.now(), random::jitter(), &mut self.breaker.slot(0))
    }

    fn on(&mut self, observation: Observation) {
        self.refresher.on(observation, self.clock.now(), random::jitter());
    }

    /// The last failure since the last success.
    #[must_use]
    pub const fn last_failure(&self) -> Option<&Failure> {
        self.reporter.last_failure()
    }

    /// Takes the outcome of a job.
    fn done(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::InputsRead { read, last_known } => {
                self.last_known = last_known;
                match read.and_then(|inputs| self.subject_seen(inputs.subject.as_ref()).map(|()| inputs)) {
                    Ok(inputs) => self.send(inputs),
                    Err(failure) => self.exchange_failed(failure.into()),
                }
            }
            Outcome::Exchanged(exchanged) => match self.exchanged(*exchanged) {
                Ok(lifetime) => {
                    self.breaker.slot(0).answered();
                    self.on(Observation::Issued(lifetime));
                }
                Err(failed) => self.exchange_failed(failed),
            },
            Outcome::OutputTried { exchange, output } => {
                if let Some(failure) = output {
                    self.output_not_writable(&failure);
                }
                if self.jobs.exchange.is_none() {
                    self.exchange_failed(exchange);
                } else {
                    // A signal has started another one meanwhile, so nothing is to be planned.
                    let (failure, now) = (&exchange.failure, self.clock.now());
                    let health = self.refresher.health(now);
                    self.reporter.failed(failure, &exchange.causes, health, Duration::ZERO, now);
                }
            }
            Outcome::Written { token, is_restore, result: Ok(written) } => {
                self.written(&token, is_restore, &written);
            }
            Outcome::Written { result: Err(failure), .. } => {
                self.failed(&failure, &[], exchange::fingerprint(&self.config.exchange));
            }
            Outcome::KeysRead { key_id, keys_url, published } => {
                self.keys_url = keys_url;
                self.keys_read(&key_id, published);
            }
            Outcome::Removed { expired, result } => self.removed(&expired, result),
        }
    }

    /// Starts an exchange. One in flight is given up: it hangs, so the next address is tried.
    fn start_exchange(&mut self) {
        if self.jobs.exchange.is_some() {
            self.rotation = self.rotation.wrapping_add(1);
        }
        self.inputs = exchange::fingerprint(&self.config.exchange);
        let (config, now) = (Rc::clone(&self.config), self.clock.now().unix);
        self.jobs.exchange = Some(job::read_inputs(config, self.last_known.clone(), now));
    }

    /// Sends the request of an exchange.
    fn send(&mut self, inputs: Inputs) {
        self.report_unreadable_inputs(&inputs.unreadable);
        if let Some(warning) = inputs.subject.as_ref().and_then(diagnosis::meant_for_the_api_server)
            && first(&mut self.once.audience)
        {
            self.reporter.emit(&Event::SubjectTokenWarning { warning: &warning });
        }
        let (config, endpoint) = (Rc::clone(&self.config), Rc::clone(&self.endpoint));
        let current = self.current.as_ref().map(|current| current.token.clone());
        self.jobs.exchange =
            Some(job::exchange(config, endpoint, self.clock, inputs, self.rotation, current));
    }

    /// Keeps the issued token, to be written. Returns its lifetime.
    fn exchanged(&mut self, Exchanged { inputs, result }: Exchanged) -> Result<Lifetime, FailedExchange> {
        let (issued, lifetime) = result.map_err(|failure| {
            let now = self.clock.now().unix;
            let causes = diagnosis::causes(failure.code, &self.config.exchange, inputs.subject.as_ref(), now);
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
        let previous = self.current.as_ref().and_then(CurrentToken::in_file).cloned();
        self.current = Some(CurrentToken {
            token: issued.token,
            key_id: claims.key_id,
            expires: claims.expires,
            lifetime,
            on_disk: false,
            previous,
        });
        Ok(lifetime)
    }

    /// An exchange failed. After the first one the output is tried, before the failure is reported.
    fn exchange_failed(&mut self, failed: FailedExchange) {
        if first(&mut self.once.output_tried) {
            self.jobs.trial = Some(job::try_output(self.output.clone(), failed));
            return;
        }
        self.rotate_address(&failed.failure);
        self.failed(&failed.failure, &failed.causes, self.inputs);
    }

    /// The next attempt begins with the next address of the host: one that fails, whatever the
    /// reason, comes last.
    fn rotate_address(&mut self, failure: &Failure) {
        if failure.entry().retry != RetryClass::Local {
            self.rotation = self.rotation.wrapping_add(1);
        }
    }

    fn failed(&mut self, failure: &Failure, causes: &[String], inputs: Fingerprint) {
        let (now, jitter, code) = (self.clock.now(), random::jitter(), failure.code);
        let retry_at = if failure.entry().step == Step::Output {
            self.refresher.on(Observation::WriteFailed { output: 0, code }, now, jitter);
            self.refresher.write_due(0).unwrap_or(now.boot)
        } else {
            let retry_after = failure.retry_after;
            self.breaker.slot(0).failed(code, retry_after, now.boot, jitter);
            self.refresher.on(Observation::ExchangeFailed { code, retry_after, inputs }, now, jitter);
            self.refresher.due()
        };
        let retry_in = now.boot.until(retry_at);
        self.reporter.failed(failure, causes, self.refresher.health(now), retry_in, now);
    }

    /// Polls the files that an exchange reads, and the token file.
    fn poll_files(&mut self) {
        let now = self.clock.now();
        self.on(Observation::InputsPolled(exchange::fingerprint(&self.config.exchange)));
        self.poll_subject_token();
        self.poll_output(now);
    }

    /// Reads a rotated subject token, so that its expiry is known in time for a last exchange.
    fn poll_subject_token(&mut self) {
        let Some(path) = self.config.exchange.subject_token_file() else { return };
        if self.current.is_none()
            || !self.refresher.subject_token_is_new(Fingerprint(input_file::fingerprint(path)))
        {
            return;
        }
        if input_file::is_unlinked(path) && first(&mut self.once.rotation_invisible) {
            let fix = &"mount the directory of its volume, without subPath";
            self.reporter.emit(&Event::SubjectTokenRotationInvisible { file: &path.display(), fix });
        }
        if let Ok(content) = input_file::read(path, LARGEST_SUBJECT_TOKEN)
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
        let (Some(claims), Some(path)) = (claims, self.config.exchange.subject_token_file()) else {
            return Ok(());
        };
        let Some(expires) = claims.expires else { return Ok(()) };
        let now = self.clock.now();
        let file = Fingerprint(input_file::fingerprint(path));
        let read = Observation::SubjectTokenRead { file, issued: claims.issued, expires };
        self.refresher.on(read, now, random::jitter());
        if !self.refresher.withholds_subject_token(now) {
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

    fn refresh_requested(&mut self, signal: &str) {
        let now = self.clock.now();
        self.breaker.reset();
        self.on(Observation::RefreshRequested);
        let refresh_in = now.boot.until(self.refresher.request_due(now));
        self.reporter.emit(&Event::RefreshRequested { signal: &signal, refresh_in });
    }
}

impl CurrentToken {
    /// One that was found on disk.
    fn on_disk(token: Secret, claims: Claims, lifetime: Lifetime) -> Self {
        let (key_id, expires) = (claims.key_id, claims.expires);
        Self { token, key_id, expires, lifetime, on_disk: true, previous: None }
    }

    /// The token that was written to the token file last.
    const fn in_file(&self) -> Option<&Secret> {
        if self.on_disk { Some(&self.token) } else { self.previous.as_ref() }
    }
}

#[cfg(test)]
mod tests;
