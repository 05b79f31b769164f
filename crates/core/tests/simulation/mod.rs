//! Tokens of one Dex in one process, in simulated time.

use std::time::Duration;

use dexsidecar_core::circuit_breaker::{Admission, CircuitBreaker};
use dexsidecar_core::failure::Code;
use dexsidecar_core::refresher::{Decision, Fingerprint, Health, Lifetime, Observation, Refresher};
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::time::{BootTime, Jitter, Now, UnixTime};

use Dex::{Fails, Issues};

/// What Dex does with an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dex {
    /// It issues a token of this many seconds after this many milliseconds.
    Issues(u64, u64),
    /// The attempt fails after this many milliseconds.
    Fails(Code, u64),
}

pub(crate) struct Simulation {
    breaker: CircuitBreaker,
    pub(crate) tokens: Vec<Refresher>,
    /// When the token asks next, in milliseconds.
    wake: Vec<u64>,
    /// The end of the attempt in flight, and what comes of it.
    pub(crate) in_flight: Vec<Option<(u64, Dex)>>,
    now: u64,
    jitters: Box<dyn Iterator<Item = f64>>,
    /// The beginning of each attempt, in milliseconds, and its token.
    pub(crate) attempts: Vec<(u64, usize)>,
    pub(crate) most_in_flight: usize,
    /// Since then a token is ready, and none has an attempt in flight.
    idle_since: Option<u64>,
}

pub(crate) fn at(millis: u64) -> Now {
    let since = Duration::from_millis(millis);
    Now {
        boot: BootTime::from_start(Duration::from_secs(1_000) + since),
        unix: UnixTime::since_epoch(Duration::from_secs(1_700_000_000) + since),
    }
}

impl Simulation {
    pub(crate) fn new(tokens: usize, jitters: &[f64]) -> Self {
        let new = || Refresher::new(Schedule::default(), None, 1, at(0));
        Self {
            breaker: CircuitBreaker::default(),
            tokens: (0..tokens).map(|_| new()).collect(),
            wake: vec![0; tokens],
            in_flight: vec![None; tokens],
            now: 0,
            jitters: Box::new(Vec::from(jitters).into_iter().cycle()),
            attempts: vec![],
            most_in_flight: 0,
            idle_since: None,
        }
    }

    pub(crate) fn jitter(&mut self) -> Jitter {
        Jitter::new(self.jitters.next().expect("it is endless"))
    }

    /// Each token holds a token of this many seconds, issued now.
    pub(crate) fn adopt(&mut self, seconds: impl Fn(usize) -> u64) {
        for index in 0..self.tokens.len() {
            let length = Duration::from_secs(seconds(index));
            let (lifetime, expires) = (Lifetime::starting(at(0).boot, length), at(0).unix + length);
            let adopted = Observation::Adopted { output: 0, lifetime, expires };
            let jitter = self.jitter();
            self.tokens[index].on(adopted, at(0), jitter);
        }
    }

    /// Runs until this second. `dex` answers the attempts.
    pub(crate) fn run(&mut self, until: u64, dex: impl Fn(u64, usize) -> Dex) {
        loop {
            let ends = self.in_flight.iter().flatten().map(|(end, _)| *end);
            let next = self.wake.iter().copied().chain(ends).min().expect("there are tokens");
            if next >= until * 1_000 {
                self.now = until * 1_000;
                return;
            }
            self.now = next;
            // A timer that fires lets all tokens ask, as the scheduler does.
            let timer = self.wake.contains(&next);
            for token in 0..self.tokens.len() {
                if let Some((end, outcome)) = self.in_flight[token]
                    && end <= next
                {
                    self.in_flight[token] = None;
                    self.ended(token, outcome);
                    for held in 0..self.tokens.len() {
                        if self.breaker.has_to_ask(held) {
                            self.wake[held] = next;
                        }
                    }
                }
            }
            for token in 0..self.tokens.len() {
                if timer || self.wake[token] <= next {
                    self.step(token, &dex);
                }
            }
            self.check_that_somebody_tries();
        }
    }

    /// Somebody has the turn whenever a token is ready.
    pub(crate) fn check_that_somebody_tries(&mut self) {
        let now = at(self.now).boot;
        let mut is_ready = false;
        for token in 0..self.tokens.len() {
            let mut member = self.breaker.member(token);
            is_ready |= match member.next_attempt() {
                Some(next) => next <= now,
                None => member.is_waiting() && matches!(member.admission(now), Admission::Held(_)),
            };
        }
        let is_idle = is_ready && self.in_flight.iter().all(Option::is_none);
        self.idle_since = is_idle.then(|| self.idle_since.unwrap_or(self.now));
        let idle = self.idle_since.map_or(0, |since| self.now - since);
        assert!(idle <= 2_500, "idle for {idle} ms at {}", self.now);
    }

    pub(crate) fn ended(&mut self, token: usize, outcome: Dex) {
        let (now, jitter) = (at(self.now), self.jitter());
        let mut member = self.breaker.member(token);
        match outcome {
            Issues(length, millis) => {
                member.issued();
                let requested = at(self.now - millis).boot;
                let issued = Observation::Issued(Lifetime::starting(requested, Duration::from_secs(length)));
                self.tokens[token].on(issued, now, jitter);
            }
            Fails(code, _) => {
                member.failed(code, None, now.boot, jitter);
                let (retry_after, inputs) = (None, Fingerprint(0));
                let failed = Observation::ExchangeFailed { code, retry_after, inputs };
                self.tokens[token].on(failed, now, jitter);
            }
        }
        self.wake[token] = self.now;
    }

    pub(crate) fn step(&mut self, token: usize, dex: &impl Fn(u64, usize) -> Dex) {
        let now = at(self.now);
        loop {
            let jitter = self.jitter();
            match self.tokens[token].step(now, jitter, &mut self.breaker.member(token)) {
                Decision::Exchange => {
                    self.attempts.push((self.now, token));
                    let outcome = dex(self.now / 1_000, token);
                    let (Issues(_, millis) | Fails(_, millis)) = outcome;
                    self.in_flight[token] = Some((self.now + millis, outcome));
                    let in_flight = self.in_flight.iter().flatten().count();
                    self.most_in_flight = self.most_in_flight.max(in_flight);
                }
                Decision::Publish(output) => {
                    let jitter = self.jitter();
                    self.tokens[token].on(Observation::Written(output), now, jitter);
                }
                Decision::CheckKeys | Decision::Expire(_) => {}
                Decision::Wait(until) => {
                    let wait = now.boot.until(until).as_millis().max(1);
                    self.wake[token] = self.now + u64::try_from(wait).expect("short");
                    return;
                }
            }
        }
    }

    pub(crate) fn signal(&mut self) {
        let now = at(self.now);
        self.breaker.reset(now.boot);
        for token in 0..self.tokens.len() {
            self.tokens[token].on(Observation::RefreshRequested, now, Jitter::NONE);
            self.wake[token] = self.now;
        }
    }

    /// The tokens without a valid token on disk.
    pub(crate) fn without_token(&self) -> Vec<usize> {
        let is_missing = |token: &usize| {
            matches!(self.tokens[*token].health(at(self.now)), Health::Starting | Health::Expired)
        };
        (0..self.tokens.len()).filter(is_missing).collect()
    }
}
