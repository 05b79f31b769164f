//! Keeps many tokens fresh: starts what is due, waits until a job ends, a timer fires or a signal
//! arrives, and tells the tokens.

use std::path::PathBuf;
use std::rc::Rc;

use dexsidecar_core::config::TokenConfig;
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::{Endpoint, TokenEndpoint};
use dexsidecar_core::failure::Failure;
use dexsidecar_core::time::BootTime;
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::log::Logger;
use dexsidecar_edge::random;
use dexsidecar_edge::signal::RefreshSignal;

use crate::job::{Jobs, Kind, Outcome};
use crate::reporter::Reporter;
use crate::termination_message::TerminationMessage;
use crate::token::{Next, Token};
use crate::upstream::Upstream;

/// A token, its Dex, and when it is asked again.
#[derive(Debug)]
struct Scheduled {
    token: Token,
    /// The index of its Dex.
    upstream: usize,
    /// The token is not asked before this instant. `None`: it is asked at once.
    wait: Option<BootTime>,
}

/// Keeps tokens fresh. `E` is the client of a Dex.
#[derive(Debug)]
pub struct Scheduler<E> {
    tokens: Vec<Scheduled>,
    upstreams: Vec<Upstream<E>>,
    jobs: Jobs,
    clock: Clock,
    log: Logger,
    /// The token that is asked first: the one after the last that started an exchange. So no token
    /// is always the one that finds out whether Dex is back.
    first: usize,
}

impl<E: TokenEndpoint + 'static> Scheduler<E> {
    /// A scheduler of these tokens. It has done nothing yet. Tokens with equal endpoints share the
    /// client that `connect` makes, and everything else that concerns their Dex. Each token reports
    /// to `log` and, if it can be written, to the termination message's file.
    pub fn new(
        tokens: Vec<TokenConfig>,
        connect: impl Fn(&Endpoint) -> E,
        clock: Clock,
        log: Logger,
        termination_log: Option<PathBuf>,
    ) -> Self {
        let message = TerminationMessage::shared(termination_log);
        let mut endpoints: Vec<Endpoint> = vec![];
        let mut upstreams = vec![];
        let scheduled = tokens.into_iter().enumerate().map(|(index, config)| {
            let endpoint = &config.exchange.endpoint;
            let known = endpoints.iter().position(|known| known == endpoint);
            let upstream = known.unwrap_or_else(|| {
                endpoints.push(endpoint.clone());
                upstreams.push(Upstream::new(connect(endpoint)));
                upstreams.len() - 1
            });
            let reporter = Reporter::new(log.clone(), Rc::clone(&message), index);
            Scheduled { token: Token::new(index, config, reporter, clock.now()), upstream, wait: None }
        });
        let tokens = scheduled.collect();
        Self { tokens, upstreams, jobs: Jobs::default(), clock, log, first: 0 }
    }

    /// Keeps the tokens fresh until the future is dropped, at any point. Nothing that takes long is
    /// awaited here: while a job runs, expiry, signals and files are handled.
    pub async fn run(&mut self, refresh_signal: &mut RefreshSignal) {
        for Scheduled { token, .. } in &mut self.tokens {
            token.adopt(self.clock.now(), random::jitter());
        }
        loop {
            let until = self.start_what_is_due();
            tokio::select! {
                (token, outcome) = self.jobs.next() => self.done(token, outcome),
                signal = refresh_signal.requested() => self.refresh_requested(signal),
                () = self.clock.sleep_until(until) => self.poll_files(),
            }
        }
    }

    /// Exchanges until each token is in its files; `once` is this with a deadline.
    pub async fn run_once(&mut self) {
        while !self.tokens.iter().all(|each| each.token.is_written()) {
            let until = self.start_what_is_due();
            tokio::select! {
                (token, outcome) = self.jobs.next() => self.done(token, outcome),
                () = self.clock.sleep_until(until) => self.poll_files(),
            }
        }
    }

    /// The last failure since the last success, of the first token that has one.
    #[must_use]
    pub fn last_failure(&self) -> Option<&Failure> {
        self.tokens.iter().find_map(|each| each.token.last_failure())
    }

    /// Asks each token that does not wait, and starts its jobs. Returns when the first token has to
    /// be asked again.
    fn start_what_is_due(&mut self) -> BootTime {
        let count = self.tokens.len();
        let first = self.first;
        for index in (0..count).map(|offset| (first + offset) % count) {
            let Scheduled { token, upstream, wait } = &mut self.tokens[index];
            let Upstream { client, state } = &mut self.upstreams[*upstream];
            while wait.is_none() {
                match token.next(self.clock.now(), random::jitter(), state) {
                    Next::Wait(until) => *wait = Some(until),
                    Next::Run(job) => {
                        let kind = job.kind();
                        if kind == Kind::Exchange {
                            self.first = index + 1;
                        }
                        self.jobs.add(index, kind, job.start(Rc::clone(client), self.clock));
                    }
                }
            }
        }
        let earliest = self.tokens.iter().filter_map(|each| each.wait).min();
        earliest.unwrap_or_else(|| self.clock.now().boot)
    }

    /// Tells a token what came of its job. Published keys concern every token of the same Dex, and
    /// the end of an exchange those that wait for it.
    fn done(&mut self, index: usize, outcome: Outcome) {
        let (now, upstream) = (self.clock.now(), self.tokens[index].upstream);
        let state = &mut self.upstreams[upstream].state;
        match outcome {
            Outcome::KeysRead(keys) => {
                state.keys_read(&keys, &self.log);
                for (other, each) in self.tokens.iter_mut().enumerate() {
                    if each.upstream == upstream {
                        each.token.keys_read(&keys, other == index, now, random::jitter());
                        each.wait = None;
                    }
                }
            }
            outcome => self.tokens[index].token.done(outcome, now, random::jitter(), state),
        }
        self.tokens[index].wait = None;
        for (other, each) in self.tokens.iter_mut().enumerate() {
            if each.upstream == upstream && state.breaker.take_held(other) {
                each.wait = None;
            }
        }
    }

    /// A signal requests a refresh of all tokens.
    fn refresh_requested(&mut self, signal: &str) {
        let now = self.clock.now();
        for Upstream { state, .. } in &mut self.upstreams {
            state.breaker.reset();
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

    /// Polls the files of all tokens. They share one timer, so that the process wakes up as often
    /// with many tokens as with one.
    fn poll_files(&mut self) {
        for Scheduled { token, wait, .. } in &mut self.tokens {
            token.poll_files(self.clock.now(), random::jitter());
            *wait = None;
        }
    }
}

#[cfg(test)]
mod tests;
