//! Tokens of one Dex in one process, in simulated time (P5, P14).

use std::time::Duration;

use dexsidecar_core::circuit_breaker::CircuitBreaker;
use dexsidecar_core::failure::Code;
use dexsidecar_core::refresher::{Action, Fingerprint, Health, Lifetime, Observation, Refresher};
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::time::{BootTime, Jitter, Now, UnixTime};
use proptest::prelude::*;

/// What Dex does with an attempt.
#[derive(Clone, Copy, Debug)]
enum Dex {
    /// It issues a token of this many seconds after this many milliseconds.
    Issues(u64, u64),
    /// The attempt fails after this many milliseconds.
    Fails(Code, u64),
}

use Dex::{Fails, Issues};

struct Simulation {
    breaker: CircuitBreaker,
    tokens: Vec<Refresher>,
    /// When the token asks next, in milliseconds.
    wake: Vec<u64>,
    /// The end of the attempt in flight, and what comes of it.
    in_flight: Vec<Option<(u64, Dex)>>,
    now: u64,
    jitters: Box<dyn Iterator<Item = f64>>,
    /// The beginning of each attempt, in milliseconds, and its token.
    attempts: Vec<(u64, usize)>,
    /// The token that is asked first: the one after the last that made an attempt.
    first: usize,
    most_in_flight: usize,
}

fn at(millis: u64) -> Now {
    let since = Duration::from_millis(millis);
    Now {
        boot: BootTime::from_start(Duration::from_secs(1_000) + since),
        unix: UnixTime::since_epoch(Duration::from_secs(1_700_000_000) + since),
    }
}

impl Simulation {
    fn new(tokens: usize, jitters: &[f64]) -> Self {
        let new = || Refresher::new(Schedule::default(), None, 1, at(0));
        Self {
            breaker: CircuitBreaker::default(),
            tokens: (0..tokens).map(|_| new()).collect(),
            wake: vec![0; tokens],
            in_flight: vec![None; tokens],
            now: 0,
            jitters: Box::new(Vec::from(jitters).into_iter().cycle()),
            attempts: vec![],
            first: 0,
            most_in_flight: 0,
        }
    }

    fn jitter(&mut self) -> Jitter {
        Jitter::new(self.jitters.next().expect("it is endless"))
    }

    /// Each token holds a token of this many seconds, issued now.
    fn adopt(&mut self, seconds: impl Fn(usize) -> u64) {
        for index in 0..self.tokens.len() {
            let length = Duration::from_secs(seconds(index));
            let (lifetime, expires) = (Lifetime::starting(at(0).boot, length), at(0).unix + length);
            let adopted = Observation::Adopted { output: 0, lifetime, expires };
            let jitter = self.jitter();
            self.tokens[index].on(adopted, at(0), jitter);
        }
    }

    /// Runs until this second. `dex` answers the attempts.
    fn run(&mut self, until: u64, dex: impl Fn(u64, usize) -> Dex) {
        loop {
            let ends = self.in_flight.iter().flatten().map(|(end, _)| *end);
            let next = self.wake.iter().copied().chain(ends).min().expect("there are tokens");
            if next >= until * 1_000 {
                self.now = until * 1_000;
                return;
            }
            self.now = next;
            let mut last = None;
            for token in 0..self.tokens.len() {
                let token = (self.first + token) % self.tokens.len();
                if let Some((end, outcome)) = self.in_flight[token]
                    && end <= next
                {
                    self.in_flight[token] = None;
                    self.ended(token, outcome);
                    for held in 0..self.tokens.len() {
                        if self.breaker.take_held(held) {
                            self.wake[held] = next;
                        }
                    }
                }
            }
            for token in 0..self.tokens.len() {
                let token = (self.first + token) % self.tokens.len();
                if self.wake[token] <= next && self.step(token, &dex) {
                    last = Some(token);
                }
            }
            self.first = last.map_or(self.first, |last| last + 1);
        }
    }

    fn ended(&mut self, token: usize, outcome: Dex) {
        let (now, jitter) = (at(self.now), self.jitter());
        let mut slot = self.breaker.slot(token);
        match outcome {
            Issues(length, millis) => {
                slot.answered();
                let requested = at(self.now - millis).boot;
                let issued = Observation::Issued(Lifetime::starting(requested, Duration::from_secs(length)));
                self.tokens[token].on(issued, now, jitter);
            }
            Fails(code, _) => {
                slot.failed(code, None, now.boot, jitter);
                let (retry_after, inputs) = (None, Fingerprint(0));
                let failed = Observation::ExchangeFailed { code, retry_after, inputs };
                self.tokens[token].on(failed, now, jitter);
            }
        }
        self.wake[token] = self.now;
    }

    fn step(&mut self, token: usize, dex: &impl Fn(u64, usize) -> Dex) -> bool {
        let now = at(self.now);
        let mut started = false;
        loop {
            let jitter = self.jitter();
            match self.tokens[token].step(now, jitter, &mut self.breaker.slot(token)) {
                Action::Exchange => {
                    self.attempts.push((self.now, token));
                    started = true;
                    let outcome = dex(self.now / 1_000, token);
                    let (Issues(_, millis) | Fails(_, millis)) = outcome;
                    self.in_flight[token] = Some((self.now + millis, outcome));
                    let in_flight = self.in_flight.iter().flatten().count();
                    self.most_in_flight = self.most_in_flight.max(in_flight);
                }
                Action::Publish(output) => {
                    let jitter = self.jitter();
                    self.tokens[token].on(Observation::Written(output), now, jitter);
                }
                Action::CheckKeys | Action::Expire(_) => {}
                Action::Wait(until) => {
                    let wait = now.boot.until(until).as_millis().max(1);
                    self.wake[token] = self.now + u64::try_from(wait).expect("short");
                    return started;
                }
            }
        }
    }

    /// The tokens without a valid token on disk.
    fn without_token(&self) -> Vec<usize> {
        let is_missing = |token: &usize| {
            matches!(self.tokens[*token].health(at(self.now)), Health::Starting | Health::Expired)
        };
        (0..self.tokens.len()).filter(is_missing).collect()
    }
}

const DAY: u64 = 86_400;

#[test]
fn p5_sixty_four_tokens_have_their_first_within_five_seconds_four_at_a_time() {
    let mut simulation = Simulation::new(64, &[0.5]);
    simulation.run(5, |_, _| Issues(DAY, 20));
    assert_eq!((simulation.without_token(), simulation.attempts.len()), (vec![], 64));
    assert_eq!(simulation.most_in_flight, 4);
    assert!(simulation.attempts.last().is_some_and(|(at, _)| *at <= 340), "{:?}", simulation.attempts.last());
}

/// The attempts in each span of the outage are at most those of one token in the same span.
fn assert_at_most_one_token(many: &[(u64, usize)], one: &[(u64, usize)], hours: u64) {
    for minute in (1..hours * 60).chain([hours * 60]) {
        let until =
            |attempts: &[(u64, usize)]| attempts.iter().filter(|(at, _)| *at < minute * 60_000).count();
        assert!(until(many) <= until(one), "in the first {minute} min: {} of {}", until(many), until(one));
    }
}

#[test]
fn p5_while_dex_is_away_many_tokens_make_no_more_attempts_than_one() {
    for (code, millis) in [
        (Code::ConnectRefused, 1),
        (Code::TimedOut, 15_000),
        (Code::Unavailable, 30),
        (Code::NameNotFound, 5),
    ] {
        for jitter in [0.0, 0.5, 1.0] {
            let attempts = |tokens: usize| {
                let mut simulation = Simulation::new(tokens, &[jitter]);
                simulation.run(6 * 3_600, |_, _| Fails(code, millis));
                assert_eq!(simulation.most_in_flight, 1);
                simulation.attempts
            };
            let (many, one) = (attempts(64), attempts(1));
            assert!(one.len() > 300, "{code}: {}", one.len());
            assert_at_most_one_token(&many, &one, 6);
        }
    }
}

#[test]
fn p3_p5_after_dex_s_return_all_tokens_are_valid_within_thirty_seconds() {
    for jitter in [0.0, 0.3, 1.0] {
        for back in [10, 333, 4_000, 9_999] {
            // Without a token before, and with tokens that expire at different instants.
            for (adopted, spread) in [(0, 0), (600, 0), (600, 50)] {
                let mut simulation = Simulation::new(64, &[jitter]);
                if adopted > 0 {
                    simulation.adopt(|token| adopted + spread * token as u64);
                }
                let dex = move |second, _| match second {
                    second if second >= back => Issues(DAY, 20),
                    _ => Fails(Code::ConnectRefused, 1),
                };
                simulation.run(back + 31, dex);
                assert_eq!(simulation.without_token(), Vec::<usize>::new(), "{jitter} {back} {adopted}");
                let outage: Vec<_> =
                    simulation.attempts.iter().filter(|(at, _)| *at < back * 1_000).collect();
                assert!(outage.windows(21).all(|w| w[20].0 - w[0].0 >= 60_000), "twenty in a minute");
            }
        }
    }
}

#[test]
fn p14_a_refused_token_delays_no_other() {
    for code in
        [Code::InvalidClient, Code::AccessDenied, Code::TokenTypeUnsupported, Code::SubjectTokenMissing]
    {
        for refused in [0, 5, 63] {
            let mut simulation = Simulation::new(64, &[0.9]);
            let dex = move |_, token| if token == refused { Fails(code, 20) } else { Issues(3_600, 20) };
            simulation.run(5, dex);
            assert_eq!(simulation.without_token(), [refused], "{code}");
            for hour in 1..6 {
                simulation.run(hour * 3_000, dex);
                assert_eq!(simulation.without_token(), [refused], "{code}");
            }
        }
    }
}

/// For example: Dex asks the connector of this token, and that hangs.
#[test]
fn p14_a_token_whose_attempts_time_out_delays_no_other_for_more_than_seconds() {
    for slow in [0, 5, 63] {
        let mut simulation = Simulation::new(64, &[0.9]);
        let dex = move |_, token| match token {
            token if token == slow => Fails(Code::TimedOut, 15_000),
            _ => Issues(3_600, 20),
        };
        // The first attempt of the process is made alone.
        simulation.run(if slow == 0 { 25 } else { 10 }, dex);
        assert_eq!(simulation.without_token(), [slow]);
        let mut before = simulation.attempts.len();
        for hour in 1..6 {
            simulation.run(hour * 3_000, dex);
            assert_eq!(simulation.without_token(), [slow]);
            let others = simulation.attempts[before..].iter().filter(|(_, token)| *token != slow).count();
            assert!((63..=126).contains(&others), "{others} attempts of 63 tokens in 50 min");
            before = simulation.attempts.len();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(300), ..ProptestConfig::default() })]

    /// Dex is away and back at random, some tokens are refused, and expire at random: no token
    /// waits forever, at most four attempts are in flight, and there are no more than 20 a minute
    /// for each token.
    #[test]
    fn p5_p14_no_history_of_many_tokens_leaves_one_behind(
        count in 2..9_usize,
        jitters in proptest::collection::vec(0.0..1.0_f64, 1..30),
        phases in proptest::collection::vec((1..2_000_u64, 0..6_u8, 0..9_usize), 1..12),
        lengths in proptest::collection::vec(30..4_000_u64, 9),
    ) {
        let mut simulation = Simulation::new(count, &jitters);
        let mut end = 0;
        for (seconds, kind, odd) in phases {
            end += seconds;
            let lengths = lengths.clone();
            simulation.run(end, move |_, token| match kind {
                0 => Fails(Code::ConnectRefused, 1),
                1 => Fails(Code::TimedOut, 15_000),
                2 if token == odd => Fails(Code::AccessDenied, 30),
                3 if token == odd => Fails(Code::TimedOut, 15_000),
                4 if token == odd => Fails(Code::SubjectTokenMissing, 1),
                _ => Issues(lengths[token], 50),
            });
        }
        prop_assert!(simulation.most_in_flight <= 5, "four, and one that fails alone");
        // A refusal has a delay of up to 60 s.
        simulation.run(end + 90, |_, _| Issues(3_600, 50));
        prop_assert_eq!(simulation.without_token(), Vec::<usize>::new());
        for token in 0..count {
            let mine: Vec<u64> =
                simulation.attempts.iter().filter(|(_, index)| *index == token).map(|(at, _)| *at).collect();
            prop_assert!(mine.windows(21).all(|w| w[20] - w[0] >= 60_000), "token {}", token);
        }
    }
}
