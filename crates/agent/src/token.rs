//! One token. The scheduler asks it for the next job, and reports the outcome. It never waits.

mod actions;
mod exchange;
mod figures;
mod key_check;
mod reconfigure;
mod token_file;

use std::rc::Rc;
use std::time::Duration;

use dexsidecar_core::config::TokenConfig;
use dexsidecar_core::exchange::Endpoint;
use dexsidecar_core::failure::Failure;
use dexsidecar_core::key_check::KeyCheck;
use dexsidecar_core::metrics::ExchangeCounts;
use dexsidecar_core::output::StoredToken;
use dexsidecar_core::refresher::{Decision, Fingerprint, Lifetime, Observation, Refresher};
use dexsidecar_core::time::{BootTime, Jitter, Now};
use dexsidecar_edge::log::Logger;

use crate::exchange::LastKnown;
use crate::job::{Job, Outcome};
use crate::reporter::Reporter;
use crate::upstream::Upstream;
use actions::Actions;
use figures::PageFile;
use token_file::TokenFile;

/// The current token: the last one that was issued, or the one that was found on disk.
#[derive(Debug)]
struct CurrentToken {
    stored: StoredToken,
    key_id: Option<String>,
    lifetime: Lifetime,
    /// When it was issued to this process, or found on disk.
    obtained_at: BootTime,
    /// The actions start for it after this instant, once all files hold it. `None`: they have.
    announce_at: Option<BootTime>,
}

/// What a token has to do next.
pub(crate) enum Next {
    /// This job. Its outcome is reported to [`Token::done`].
    Run(Box<Job>),
    /// Nothing before this instant.
    Wait(BootTime),
}

/// One token being kept fresh. It is passive: [`next`](Self::next) returns a job, and whoever
/// runs it reports the outcome to [`done`](Self::done).
#[derive(Debug)]
pub(crate) struct Token {
    /// Its number among the tokens of the process. Another token may get it after this one has
    /// ended.
    id: usize,
    config: Rc<TokenConfig>,
    refresher: Refresher,
    reporter: Reporter,
    current: Option<CurrentToken>,
    files: Vec<TokenFile>,
    /// The files as they were read for the last page of the listener.
    page_files: Vec<PageFile>,
    actions: Actions,
    last_known: LastKnown,
    key_check: KeyCheck,
    counts: ExchangeCounts,
    /// When the refresh was due that is in flight, or that fails. Failed attempts do not move it.
    overdue_since: Option<BootTime>,
    /// The fingerprint of the files that the exchange in flight reads.
    inputs: Fingerprint,
    /// An exchange job runs, or is queued.
    is_exchanging: bool,
    /// The number of exchanges when the first one failed and the outputs were tried.
    exchanges_before_trial: u64,
    /// The index of the address that the last request began with.
    rotation: usize,
    /// The keys that are being read are needed for a check of this token that is due.
    awaits_keys: bool,
    /// The next job of an exchange: what came of the one before decides it.
    queued: Option<Box<Job>>,
    /// The outputs were tried after the first failed exchange.
    outputs_tried: bool,
    /// The inputs that could not be read for the last exchange.
    unreadable_inputs: Vec<Failure>,
}

impl Token {
    /// A token that has done nothing yet.
    pub(crate) fn new(id: usize, config: TokenConfig, mut reporter: Reporter, now: Now) -> Self {
        reporter.set_dialect(config.exchange.dialect);
        let files: Vec<_> = config.outputs.iter().map(TokenFile::new).collect();
        Self {
            id,
            refresher: Refresher::new(config.schedule, config.key_check, files.len(), now),
            actions: Actions::new(config.actions.len()),
            config: Rc::new(config),
            reporter,
            current: None,
            files,
            page_files: vec![],
            last_known: LastKnown::default(),
            key_check: KeyCheck::default(),
            counts: ExchangeCounts::default(),
            overdue_since: None,
            inputs: Fingerprint::default(),
            is_exchanging: false,
            exchanges_before_trial: 0,
            rotation: 0,
            awaits_keys: false,
            queued: None,
            outputs_tried: false,
            unreadable_inputs: vec![],
        }
    }

    /// What comes next.
    pub(crate) fn next(&mut self, now: Now, jitter: Jitter, upstream: &mut Upstream) -> Next {
        if let Some(job) = self.queued.take() {
            return Next::Run(job);
        }
        if let Some(job) = self.next_removal() {
            return Next::Run(Box::new(job));
        }
        // The rate limit and the other tokens of this Dex may move it.
        if self.refresher.due() <= now.boot {
            self.overdue_since = self.overdue_since.or_else(|| Some(self.refresher.due()));
        }
        loop {
            let decision = self.refresher.step(now, jitter, &mut upstream.member(self.id));
            let job = match decision {
                Decision::Exchange => Some(self.start_exchange(now, upstream)),
                Decision::Publish(output) => self.start_write(output, now, jitter),
                Decision::CheckKeys => self.start_key_check(now, jitter, upstream),
                Decision::Expire(output) => self.expired(output),
                Decision::Wait(until) => return self.next_action(now, until),
            };
            if let Some(job) = job {
                return Next::Run(Box::new(job));
            }
        }
    }

    /// A job has ended. If it has read the published keys, the other tokens of this Dex get them
    /// too ([`keys_read`](Self::keys_read)), and after any job those that the circuit breaker names
    /// are asked again.
    pub(crate) fn done(&mut self, outcome: Outcome, now: Now, jitter: Jitter, upstream: &mut Upstream) {
        match outcome {
            Outcome::InputsRead { read, last_known } => {
                self.last_known = last_known;
                match read.and_then(|inputs| self.subject_is_usable(&inputs, now, jitter).map(|()| inputs)) {
                    Ok(inputs) => self.queue_request(inputs, upstream),
                    Err(failure) => self.exchange_failed(failure.into(), now, jitter, upstream),
                }
            }
            Outcome::Exchanged(exchanged) => match self.exchanged(*exchanged, now, upstream) {
                Ok(lifetime) => {
                    self.is_exchanging = false;
                    self.overdue_since = None;
                    self.counts.last_success = Some(now.unix);
                    upstream.member(self.id).issued();
                    self.refresher.on(Observation::Issued(lifetime), now, jitter);
                }
                Err(failed) => self.exchange_failed(failed, now, jitter, upstream),
            },
            Outcome::OutputsTried { exchange, outputs } => {
                for failure in &outputs {
                    self.reporter.output_not_writable(failure);
                }
                if self.counts.attempts != self.exchanges_before_trial {
                    // A signal has started another one meanwhile, so nothing is to be planned.
                    self.counts.failed(exchange.failure.code, exchange.failure.owner());
                    // It may have succeeded.
                    if self.overdue_since.is_some() {
                        self.report(&exchange.failure, &exchange.causes, now.boot, now);
                    }
                } else {
                    self.exchange_failed(exchange, now, jitter, upstream);
                }
            }
            Outcome::Written { output, token, is_restore, result: Ok(written) } => {
                self.written(output, &token, is_restore, &written, now, jitter);
            }
            Outcome::Written { output, result: Err(failure), .. } => {
                self.write_failed(output, &failure, now, jitter);
            }
            Outcome::Removed { output, expired, result } => self.removed(output, &expired, result),
            Outcome::KeysRead(keys) => {
                self.keys_read(&keys, now, jitter);
            }
            Outcome::Acted { action, result } => self.acted(action, &result, now, jitter),
        }
        self.keep_out_of_log();
    }

    /// A signal requests a refresh. Returns the latest instant of the exchange.
    pub(crate) fn refresh_requested(&mut self, now: Now, jitter: Jitter) -> BootTime {
        self.refresher.on(Observation::RefreshRequested, now, jitter);
        self.refresher.request_due(now)
    }

    /// Polls the files that an exchange reads, and the token files.
    pub(crate) fn poll_files(&mut self, now: Now, jitter: Jitter) {
        let inputs = crate::exchange::fingerprint(&self.config.exchange);
        self.refresher.on(Observation::InputsPolled(inputs), now, jitter);
        self.poll_subject_token(now, jitter);
        for output in 0..self.files.len() {
            self.poll_output(output, now, jitter);
        }
        self.keep_out_of_log();
    }

    /// Its number among the tokens of the process.
    pub(crate) const fn id(&self) -> usize {
        self.id
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether this is its configuration.
    pub(crate) fn has_config(&self, config: &TokenConfig) -> bool {
        *self.config == *config
    }

    /// Log lines and messages name it from now on, if that is needed.
    pub(crate) fn set_named(&mut self, is_one_of_several: bool) {
        self.reporter.set_name(self.config.shown_name(is_one_of_several).map(str::to_owned));
    }

    /// The jobs that run must not change its files any more.
    fn revoke_jobs(&self) {
        for file in &self.files {
            file.revoke();
        }
    }

    /// It is gone: nothing of it is reported any more, and its files do not change.
    pub(crate) fn end(self) {
        self.revoke_jobs();
        self.reporter.end();
    }

    /// Its log.
    pub(crate) const fn log(&self) -> &Logger {
        self.reporter.log()
    }

    /// Where it is exchanged, and how that is reached.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.config.exchange.endpoint
    }

    /// True if the current token is in all its files.
    pub(crate) fn is_written(&self) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| self.files.iter().all(|file| file.holds(&current.stored.token)))
    }

    /// Reports that `once` has not written this token in time.
    pub(crate) fn report_timeout(&mut self, timeout: Duration) {
        self.reporter.once_timed_out(timeout);
    }

    /// The last failure since the last success.
    pub(crate) const fn last_failure(&self) -> Option<&Failure> {
        self.reporter.last_failure()
    }

    /// Its configuration.
    #[cfg(test)]
    pub(crate) fn config(&self) -> &TokenConfig {
        &self.config
    }

    /// What the refresher knows.
    #[cfg(test)]
    pub(crate) const fn refresher(&self) -> &Refresher {
        &self.refresher
    }

    /// Reports a failed attempt. The next one is made at this instant.
    fn report(&mut self, failure: &Failure, causes: &[String], retry_at: BootTime, now: Now) {
        let (health, retry_in) = (self.refresher.health(now), now.boot.until(retry_at));
        self.reporter.failed(failure, causes, health, retry_in, now);
    }
}
