//! Tokens of one Dex in one process, in simulated time (P5, P14).

use std::time::Duration;

use dexsidecar_core::failure::Code;
use dexsidecar_core::refresher::{Health, Lifetime, Observation};
use dexsidecar_core::time::Jitter;
use proptest::prelude::*;

mod simulation;
use simulation::Dex::{Fails, Issues};
use simulation::{Simulation, at};

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

/// Two tokens of broken connectors fail again and again, so that Dex seems to fail: the others
/// have their turns.
#[test]
fn p14_several_tokens_that_fail_delay_no_other_for_more_than_a_minute() {
    for (code, millis) in [(Code::ServerError, 30), (Code::TimedOut, 15_000)] {
        for valid in [false, true] {
            let mut simulation = Simulation::new(8, &[0.7, 0.2, 0.9]);
            if valid {
                simulation.adopt(|_| 7_200);
            }
            let dex = move |_, token| match token {
                1 | 6 => Fails(code, millis),
                _ => Issues(7_200, 20),
            };
            simulation.run(180, dex);
            for token in [0, 2, 3, 4, 5, 7] {
                let at = simulation.attempts.iter().find(|(_, index)| *index == token);
                assert!(at.is_some_and(|(at, _)| *at < 180_000), "{code} {token}: {:?}", simulation.attempts);
            }
            for hour in 1..12 {
                simulation.run(hour * 3_600, dex);
                let bad: &[usize] = if valid && hour < 2 { &[] } else { &[1, 6] };
                assert_eq!(simulation.without_token(), bad, "{code} {hour}");
            }
            let late = |token| {
                let mine: Vec<u64> = simulation
                    .attempts
                    .iter()
                    .filter(|(_, index)| *index == token)
                    .map(|(at, _)| *at)
                    .collect();
                mine.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
            };
            // A token of two hours is refreshed after an hour at the latest.
            assert!(late(0) < 3_600_000 + 120_000, "{code}: {}", late(0));
        }
    }
}

/// A quarter of the tokens has broken connectors, in one part of the list.
#[test]
fn p14_a_quarter_of_broken_tokens_starves_no_other() {
    for (code, millis) in [(Code::ServerError, 30), (Code::TimedOut, 15_000)] {
        for broken in [0..16, 24..40, 48..64] {
            let mut simulation = Simulation::new(64, &[0.7, 0.2, 0.9]);
            let is_broken = broken.clone();
            let dex = move |_, token| match token {
                token if is_broken.contains(&token) => Fails(code, millis),
                _ => Issues(600, 20),
            };
            let expected: Vec<usize> = broken.clone().collect();
            simulation.run(120, &dex);
            assert_eq!(simulation.without_token(), expected, "{code} {broken:?}");
            for step in 1..480 {
                simulation.run(120 + 15 * step, &dex);
                assert_eq!(
                    simulation.without_token(),
                    expected,
                    "{code} {broken:?} at {} s",
                    120 + 15 * step
                );
            }
            let of_one = simulation.attempts.iter().filter(|(_, token)| *token == expected[3]).count();
            assert!(
                (20..=2 * 7_300 / 15).contains(&of_one),
                "{of_one} attempts of a broken token in two hours"
            );
        }
    }
}

/// After an outage, a token that fails for a reason of its own does not look like the outage.
#[test]
fn p3_p14_a_broken_token_does_not_prolong_an_outage_for_others() {
    for (code, millis) in [(Code::Unavailable, 30), (Code::TimedOut, 15_000)] {
        let mut simulation = Simulation::new(20, &[0.7, 0.2, 0.9]);
        let dex = move |second, token| match second {
            _ if token == 0 => Fails(code, millis),
            48_000..57_700 => Fails(Code::ConnectRefused, 1),
            _ => Issues(DAY, 20),
        };
        simulation.run(57_700, dex);
        let before = simulation.attempts.len();
        simulation.run(57_700 + 360, dex);
        let others = simulation.attempts[before..].iter().filter(|(_, token)| *token != 0).count();
        assert_eq!(others, 19, "{code}: each token is refreshed within five minutes");
    }
}

/// Suspects with valid tokens, a token that breaks later, and short tokens beside them.
#[test]
fn p14_suspects_that_rarely_try_and_tokens_that_often_try_do_not_wait_for_each_other() {
    for seed in 0..60_u64 {
        let mut simulation = Simulation::new(8, &[0.7, 0.2, 0.9, 0.4, 0.1]);
        let breaks_at = 300 + 37 * seed;
        let dex = move |second, token| match token {
            0 | 1 if second < 20 => Issues(DAY, 20),
            0 | 1 => Fails(Code::TimedOut, 15_000),
            2 if second > breaks_at => Fails(Code::TimedOut, 15_000),
            _ => Issues(60 + (7 * seed + 40 * token as u64) % 240, 20),
        };
        simulation.run(19, dex);
        simulation.signal();
        for step in 1..100 {
            simulation.run(19 + 40 * step, dex);
            let without = simulation.without_token();
            assert!(without.iter().all(|token| *token <= 2), "{without:?} at {} s, {seed}", 19 + 40 * step);
        }
    }
}

/// Sixteen broken tokens do not take all the turns when Dex returns.
#[test]
fn p3_p14_broken_tokens_do_not_delay_the_end_of_an_outage() {
    for (code, millis) in [(Code::ServerError, 30), (Code::TimedOut, 15_000)] {
        for back in [9_000, 9_111, 9_222, 9_333] {
            let mut simulation = Simulation::new(64, &[0.7, 0.2, 0.9]);
            let dex = move |second, token| match second {
                _ if token < 16 => Fails(code, millis),
                1_000..10_000 if second < back => Fails(Code::ConnectRefused, 1),
                _ => Issues(3_600, 20),
            };
            simulation.run(back, dex);
            assert_eq!(simulation.without_token().len(), 64, "{code} {back}");
            simulation.run(back + 90, dex);
            let without = simulation.without_token();
            assert!(without.iter().all(|token| *token < 16), "{code} {back}: {without:?}");
        }
    }
}

/// Tokens of broken connectors: one without a token, and one whose token is valid for long, so that
/// its delays are long. The first does not wait for the delays of the second.
#[test]
fn p14_a_token_in_its_own_delay_delays_no_other() {
    for seed in 0..40_u64 {
        let mut simulation = Simulation::new(3, &[0.7, 0.2, 0.9, 0.4, 0.1, 0.8, 0.6]);
        let dex = move |second, token| match token {
            0 => Issues(300 + 7 * seed, 50),
            _ if second > 400 + seed => Fails(Code::ServerError, 30),
            1 => Issues(600, 50),
            _ => Issues(DAY, 50),
        };
        simulation.run(80_000, dex);
        let of = |token| simulation.attempts.iter().filter(move |(_, of)| *of == token).map(|(at, _)| *at);
        // When its first attempts fail, Dex seems to fail for all.
        let both_fail = of(2).nth(4).expect("it is refreshed after 16 hours");
        let mine: Vec<u64> = of(1).filter(|at| *at > both_fail).collect();
        let gap = mine.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        assert!((1..=61_000).contains(&gap), "{gap} ms, {seed}");
    }
}

/// More tokens are broken than are not.
#[test]
fn p14_a_few_healthy_tokens_among_many_broken_ones_stay_valid() {
    for (code, millis) in [(Code::ServerError, 30), (Code::TimedOut, 15_000)] {
        let mut simulation = Simulation::new(36, &[0.7, 0.2, 0.9, 0.4, 0.1]);
        let dex = move |_, token| if token < 32 { Fails(code, millis) } else { Issues(600, 20) };
        // Until then it is not known which of them are broken.
        simulation.run(3_000, dex);
        for step in 0..600 {
            let now = 3_000 + 15 * step;
            simulation.run(now, dex);
            assert!(simulation.without_token().iter().all(|token| *token < 32), "{code} at {now} s");
        }
    }
}

/// Another process writes a newer token while this one waits for Dex to work again.
#[test]
fn a_token_that_needs_no_exchange_any_more_takes_no_turn() {
    let mut simulation = Simulation::new(8, &[0.5]);
    simulation.adopt(|_| 600);
    let away = |_, _| Fails(Code::ConnectRefused, 1);
    simulation.run(700, away);
    let (now, length) = (at(700_000), Duration::from_secs(DAY));
    let lifetime = Lifetime::starting(now.boot, length);
    let replaced = Observation::ReplacedByNewer { output: 0, lifetime, expires: now.unix + length };
    simulation.tokens[3].on(replaced, now, Jitter::NONE);
    let before = simulation.attempts.len();
    simulation.run(4_000, away);
    assert!(simulation.attempts[before..].iter().all(|(_, token)| *token != 3));
    assert_eq!(simulation.tokens[3].health(at(4_000_000)), Health::Fresh);
}

/// Some tokens are refused while Dex fails for the rest.
#[test]
fn p5_refusals_while_dex_fails_do_not_release_the_others() {
    let mut simulation = Simulation::new(64, &[0.5]);
    simulation.run(3_600, |_, token| match token {
        0..10 => Fails(Code::AccessDenied, 30),
        _ => Fails(Code::ServerError, 30),
    });
    let failing: Vec<u64> =
        simulation.attempts.iter().filter(|(_, token)| *token >= 10).map(|(at, _)| *at).collect();
    assert!(failing.windows(21).all(|w| w[20] - w[0] >= 60_000), "twenty in a minute");
    let sustained = failing.iter().filter(|at| **at > 300_000).count();
    assert!(sustained <= 55 * 6, "{sustained} in 55 minutes");
}

/// Tokens with different lifetimes expire during an outage, one after the other.
#[test]
fn p5_tokens_that_expire_during_an_outage_make_no_more_attempts_than_one_without_a_token() {
    let attempts = |tokens: usize, adopt: bool| {
        let mut simulation = Simulation::new(tokens, &[0.5]);
        if adopt {
            simulation.adopt(|token| 600 + 100 * token as u64);
        }
        simulation.run(4 * 3_600, |_, _| Fails(Code::ConnectRefused, 1));
        simulation.attempts.len()
    };
    let (many, one) = (attempts(64, true), attempts(1, false));
    assert!(many <= one, "{many} and {one}");
}

/// A signal during an outage, and while attempts hang.
#[test]
fn a_signal_causes_one_attempt_of_all_that_wait_and_restarts_those_that_hang() {
    let mut simulation = Simulation::new(16, &[0.5]);
    simulation.run(600, |_, _| Fails(Code::ConnectRefused, 1));
    let before = simulation.attempts.len();
    simulation.signal();
    simulation.run(601, |_, _| Fails(Code::ConnectRefused, 1));
    let after = simulation.attempts.len() - before;
    assert!((1..=2).contains(&after), "{after} attempts");

    let mut simulation = Simulation::new(16, &[0.5]);
    simulation.run(10, |_, _| Issues(86_400, 20));
    simulation.signal();
    simulation.run(20, |_, _| Fails(Code::TimedOut, 300_000));
    assert_eq!(simulation.in_flight.iter().flatten().count(), 4);
    let before = simulation.attempts.len();
    simulation.signal();
    simulation.run(21, |_, _| Issues(86_400, 20));
    assert!(simulation.attempts.len() - before >= 16, "{:?}", &simulation.attempts[before..]);
    assert!(simulation.in_flight.iter().all(Option::is_none));
}

/// The end of an outage is noticed by a token that waits, and expires meanwhile.
#[test]
fn a_token_that_expires_while_it_waits_is_released_by_the_first_issued_token() {
    let mut simulation = Simulation::new(2, &[0.9]);
    simulation.adopt(|token| if token == 0 { 60 } else { 105 });
    let dex = |second, _| if second < 93 { Fails(Code::ConnectRefused, 1) } else { Issues(DAY, 20) };
    simulation.run(93, dex);
    assert_eq!(simulation.without_token(), [0]);
    simulation.run(93 + 30, dex);
    let issued: Vec<_> = simulation.attempts.iter().filter(|(at, _)| *at >= 93_000).collect();
    assert!(issued.len() == 2 && issued[1].0 - issued[0].0 < 100, "{issued:?}");
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
        phases in proptest::collection::vec((1..2_000_u64, 0..9_u8, 0..9_usize), 1..12),
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
                5 if token % 2 == odd % 2 => Fails(Code::ServerError, 30),
                6 if token % 2 == odd % 2 => Fails(Code::TimedOut, 15_000),
                7 => Fails(if token == odd { Code::AccessDenied } else { Code::ServerError }, 30),
                _ => Issues(lengths[token], 50),
            });
        }
        prop_assert!(simulation.most_in_flight <= 4);
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
