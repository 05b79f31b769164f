//! Keeps many tokens fresh: starts what is due, waits until a job ends, a timer fires or a signal
//! arrives, and reports to the tokens.

mod pages;
mod reload;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use dexsidecar_core::action::Notify;
use dexsidecar_core::config::TokenConfig;
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::{Endpoint, TokenEndpoint};
use dexsidecar_core::metrics;
use dexsidecar_core::refresher::RateLimit;
use dexsidecar_core::schedule::{POLL_INTERVAL, SHORT_POLL_INTERVAL};
use dexsidecar_core::time::{BootTime, Now};
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::listener::Listener;
use dexsidecar_edge::log::Logger;
use dexsidecar_edge::random;
use dexsidecar_edge::signal::RefreshSignal;

use crate::job::{Jobs, Outcome};
use crate::reload::Reload;
use crate::reporter::Reporter;
use crate::termination_message::TerminationMessage;
use crate::token::{Next, Token};
use crate::upstream::Upstream;

/// A token, its Dex, and when it is asked again.
#[derive(Debug)]
struct Scheduled<E> {
    token: Token,
    /// The client for its endpoint.
    client: Rc<E>,
    /// The index of its Dex.
    upstream: usize,
    /// The token is not asked before this instant. `None`: it is asked at once.
    wait: Option<BootTime>,
}

/// Keeps tokens fresh. `E` is the client of a Dex.
#[derive(Debug)]
pub struct Scheduler<E> {
    tokens: Vec<Scheduled<E>>,
    upstreams: Vec<Upstream>,
    /// The requests to each Dex that has been removed, and the time that they took together.
    /// Counters do not go backwards.
    removed_exchanges: (u64, Duration),
    /// The rate limits of tokens that a reload removed, and when; the last is the newest. A token
    /// that a reload adds takes one over: a name that changes makes no further attempts possible.
    removed_limits: Vec<(BootTime, RateLimit)>,
    jobs: Jobs,
    clock: Clock,
    log: Logger,
    message: Rc<RefCell<TerminationMessage>>,
    /// When the files of all tokens were polled last.
    polled_at: BootTime,
    /// A token that is in its files is not refreshed.
    until_written: bool,
    /// What came of the last reload of the configuration file; `None` without such a file.
    reload_status: Option<metrics::Reload>,
    /// Serves probes and metrics.
    listener: Option<Listener>,
    started: Now,
}

impl<E: TokenEndpoint + Notify + 'static> Scheduler<E> {
    /// A scheduler of these tokens. It has done nothing yet. `connect` makes a client for each
    /// different endpoint. Tokens with the same URL share everything that concerns their Dex. Each
    /// token reports to `log` and, if it can be written, to the termination message's file.
    pub fn new(
        tokens: Vec<TokenConfig>,
        connect: impl Fn(&Endpoint) -> E,
        clock: Clock,
        log: Logger,
        termination_log: Option<PathBuf>,
    ) -> Self {
        let mut scheduler = Self {
            tokens: Vec::with_capacity(tokens.len()),
            upstreams: vec![],
            removed_exchanges: Default::default(),
            removed_limits: vec![],
            jobs: Jobs::default(),
            clock,
            log,
            message: TerminationMessage::shared(termination_log),
            polled_at: clock.now().boot,
            until_written: false,
            reload_status: None,
            listener: None,
            started: clock.now(),
        };
        let several = tokens.len() > 1;
        let mut known = vec![];
        for (id, config) in tokens.into_iter().enumerate() {
            let (client, upstream) = scheduler.client_for(&config.exchange.endpoint, &mut known, &connect);
            let mut token = Token::new(id, config, scheduler.reporter(id), clock.now());
            token.set_named(several);
            scheduler.tokens.push(Scheduled { token, client, upstream, wait: None });
        }
        scheduler
    }

    fn reporter(&self, token: usize) -> Reporter {
        Reporter::new(self.log.clone(), Rc::clone(&self.message), token)
    }

    /// Keeps the tokens fresh until the future is dropped, at any point. Nothing that takes long is
    /// awaited here: while a job runs, expiry, signals and files are handled. With a configuration
    /// file, changes of it are applied.
    pub async fn run(&mut self, refresh_signal: &mut RefreshSignal, mut reload: Option<Reload<'_, E>>) {
        self.reload_status = reload.as_ref().map(Reload::status);
        for Scheduled { token, .. } in &mut self.tokens {
            token.adopt(self.clock.now(), random::jitter());
        }
        loop {
            self.turn(Some(refresh_signal), reload.as_mut()).await;
        }
    }

    /// Exchanges until each token is in its files; `once` is this with a deadline.
    pub async fn run_once(&mut self) {
        self.until_written = true;
        while !self.tokens.iter().all(|each| each.token.is_written()) {
            self.turn(None, None).await;
        }
    }

    /// Starts what is due, and handles one thing that happens.
    async fn turn(&mut self, refresh_signal: Option<&mut RefreshSignal>, reload: Option<&mut Reload<'_, E>>) {
        let until = self.start_what_is_due();
        let requested = async {
            match refresh_signal {
                Some(refresh_signal) => refresh_signal.requested().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (token, outcome) = self.jobs.next() => self.done(token, outcome),
            request = requested => {
                if request.reloads() {
                    self.reload(reload, true);
                }
                self.refresh_requested(request.signal());
            }
            request = pages::next(&mut self.listener) => self.answer(request),
            () = self.clock.sleep_until(until) => self.poll_files(reload),
        }
    }

    /// Reports that `once` has no more time: an event for each token that was not written.
    pub fn report_timeout(&mut self, timeout: Duration) {
        for each in self.tokens.iter_mut().filter(|each| !each.token.is_written()) {
            each.token.report_timeout(timeout);
        }
    }

    /// Asks each token that does not wait, and starts its jobs. Returns when the first token has to
    /// be asked again.
    fn start_what_is_due(&mut self) -> BootTime {
        // What happens in between does not delay the next poll.
        let mut earliest = self.polled_at + POLL_INTERVAL;
        for Scheduled { token, client, upstream, wait } in &mut self.tokens {
            if self.until_written && token.is_written() {
                self.upstreams[*upstream].member(token.id()).withdraw();
                continue;
            }
            let until = loop {
                if let Some(until) = *wait {
                    break until;
                }
                match token.next(self.clock.now(), random::jitter(), &mut self.upstreams[*upstream]) {
                    Next::Wait(until) => *wait = Some(until),
                    Next::Run(job) => {
                        let kind = job.kind();
                        self.jobs.add(token.id(), kind, job.start(Rc::clone(client), self.clock));
                    }
                }
            };
            earliest = earliest.min(until);
        }
        earliest
    }

    /// Tells a token what came of its job. Published keys concern every token of the same Dex, and
    /// the end of an exchange those that wait for it.
    fn done(&mut self, id: usize, mut outcome: Outcome) {
        let now = self.clock.now();
        let Some(index) = self.tokens.iter().position(|each| each.token.id() == id) else { return };
        let upstream = self.tokens[index].upstream;
        let state = &mut self.upstreams[upstream];
        if let Outcome::KeysRead(keys) = &mut outcome {
            state.keys_read(keys, self.tokens[index].token.log());
            for (other, each) in self.tokens.iter_mut().enumerate() {
                if each.upstream == upstream && other != index {
                    each.token.keys_read(keys, now, random::jitter());
                    each.wait = None;
                }
            }
        }
        self.tokens[index].token.done(outcome, now, random::jitter(), state);
        self.tokens[index].wait = None;
        for each in &mut self.tokens {
            if each.upstream == upstream && state.breaker.has_to_ask(each.token.id()) {
                each.wait = None;
            }
        }
    }

    /// A signal requests a refresh of all tokens.
    fn refresh_requested(&mut self, signal: &str) {
        let now = self.clock.now();
        for upstream in &mut self.upstreams {
            upstream.breaker.reset(now.boot);
        }
        let mut first = None;
        for Scheduled { token, wait, .. } in &mut self.tokens {
            let due = token.refresh_requested(now, random::jitter());
            first = Some(first.map_or(due, |first: BootTime| first.min(due)));
            *wait = None;
        }
        let refresh_in = first.map(|first| now.boot.until(first)).unwrap_or_default();
        self.log.emit(&Event::RefreshRequested { signal: &signal, refresh_in });
    }

    /// Polls the configuration file, and the files of the tokens whose wait is over. All tokens are
    /// asked again, and if that is due, the files of all are polled. So they share one timer, and
    /// the process wakes up as often with many tokens as with one.
    fn poll_files(&mut self, reload: Option<&mut Reload<'_, E>>) {
        let now = self.clock.now();
        let all = self.polled_at.until(now.boot) >= SHORT_POLL_INTERVAL;
        if all {
            self.polled_at = now.boot;
            dexsidecar_edge::action::reap();
            self.reload(reload, false);
        }
        for Scheduled { token, wait, .. } in &mut self.tokens {
            if all || wait.is_none_or(|until| until <= now.boot) {
                token.poll_files(self.clock.now(), random::jitter());
            }
            *wait = None;
        }
    }
}

#[cfg(test)]
mod tests;
