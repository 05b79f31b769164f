//! The scheduler in paused time, with a scripted endpoint and a real token file: days take
//! milliseconds.

use std::cell::RefCell;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dexsidecar_core::action::HttpAction;
use dexsidecar_core::config::{Config, Outputs, RawSettings};
use dexsidecar_core::exchange::{Answer, Request};
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::output::StoredToken;
use dexsidecar_core::refresher::{Health, Refresher};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::{Jitter, Now, UnixTime};
use dexsidecar_core::token_file::{EARLIEST_PLAUSIBLE_NOW, TokenFileState};
use dexsidecar_edge::clock::STEPPED;
use dexsidecar_edge::log::Logger;
use tempfile::TempDir;

use super::*;

mod actions;
mod files;
mod formats;
mod key_checks;
mod lifetimes;
mod many_tokens;
mod reload;
mod subject;

/// The response of the endpoint, as a function of the seconds since the start.
type Script = Box<dyn Fn(f64) -> Played>;

enum Played {
    /// A token with this lifetime in seconds, signed with this key.
    Token(u64, &'static str),
    /// The same, after a delay in seconds.
    Late(u64, u64, &'static str),
    /// Another response.
    Answer(u16, &'static str),
    /// No response, but this failure.
    Failed(Code),
    /// Connection refused.
    Away,
}

/// In place of a published key: there is no such page.
const NOT_SERVED: &str = "not served";

struct Scripted {
    clock: Clock,
    start: Now,
    script: Script,
    /// The key that `/keys` publishes, as a function of time.
    published: fn(f64) -> &'static str,
    seen: Rc<RefCell<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The time of each exchange request, in seconds.
    exchanges: Vec<f64>,
    keys: usize,
    /// The address rotation of each request.
    rotations: Vec<usize>,
}

impl TokenEndpoint for Scripted {
    async fn send(&self, request: &Request, rotation: usize) -> Result<Answer, Failure> {
        let now = self.clock.now();
        self.seen.borrow_mut().rotations.push(rotation);
        let seconds = now.boot.since(self.start.boot).as_secs_f64();
        let away = || Err(Failure::new(Code::ConnectRefused, "scripted"));
        if request.form.is_none() {
            self.seen.borrow_mut().keys += 1;
            if matches!((self.script)(seconds), Played::Away) {
                return away();
            }
            let key = (self.published)(seconds);
            let body = format!(r#"{{"keys":[{{"kid":"{key}"}}]}}"#);
            let is_served = request.url.target().ends_with("/keys") && key != NOT_SERVED;
            let status = if is_served { 200 } else { 404 };
            return Ok(Answer { status, body: body.into_bytes().into(), ..Answer::default() });
        }
        self.seen.borrow_mut().exchanges.push(seconds);
        let played = match (self.script)(seconds) {
            Played::Late(pause, length, key) => {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                Played::Token(length, key)
            }
            other => other,
        };
        match played {
            Played::Late(..) => unreachable!("it is a token by now"),
            Played::Away => away(),
            Played::Failed(code) => Err(Failure::new(code, "scripted")),
            Played::Answer(status, body) => {
                Ok(Answer { status, body: body.as_bytes().to_vec().into(), ..Answer::default() })
            }
            Played::Token(length, key) => Ok(answer(now, length, key, seconds)),
        }
    }
}

impl Notify for Scripted {
    async fn notify(&self, action: &HttpAction) -> Result<(), Failure> {
        actions::notify(self.clock, action).await
    }
}

/// The answer with a token of this length in seconds, signed with this key. `number` makes it
/// unique.
fn answer(now: Now, length: u64, key: &str, number: f64) -> Answer {
    let issued = now.unix.as_duration().as_secs();
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"kid":"{key}"}}"#));
    let claims = format!(r#"{{"iat":{issued},"exp":{},"n":{number}}}"#, issued + length);
    let token = format!("{header}.{}.sig", URL_SAFE_NO_PAD.encode(claims));
    let body = format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":{length}}}"#);
    Answer { status: 200, body: body.into_bytes().into(), ..Answer::default() }
}

struct World {
    scheduler: Scheduler<Scripted>,
    client: Option<Rc<Scripted>>,
    config: TokenConfig,
    seen: Rc<RefCell<Seen>>,
    clock: Clock,
    directory: TempDir,
}

impl World {
    fn new(
        more: &[(&str, &str)],
        script: impl Fn(f64) -> Played + 'static,
        published: fn(f64) -> &'static str,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("token");
        let all = [
            ("dex_endpoint", "https://dex.test/dex/token"),
            ("dex_access_token_file", output.to_str().unwrap()),
            ("dex_subject_token", "subject"),
            ("DEXSIDECAR_KEY_CHECK", "0s"),
        ];
        let mut variables: Vec<(String, Secret)> = Vec::new();
        for (name, value) in all.iter().chain(more) {
            variables.retain(|(known, _)| known != name);
            variables.push(((*name).to_owned(), Secret::new((*value).to_owned())));
        }
        let config = Config::read(&RawSettings::of_variables(variables), Outputs::Required).unwrap();
        let config = config.tokens[0].clone();
        let start = Now {
            boot: BootTime::from_start(Duration::from_secs(9_000)),
            unix: EARLIEST_PLAUSIBLE_NOW + Duration::from_secs(9_000),
        };
        let clock = Clock::Paused(start, tokio::time::Instant::now());
        let seen = Rc::new(RefCell::new(Seen::default()));
        let endpoint = Scripted { clock, start, script: Box::new(script), published, seen: Rc::clone(&seen) };
        let scheduler =
            Scheduler::new(vec![], |_| unreachable!("no token"), clock, Logger::silent(clock), None);
        let mut world = Self { scheduler, client: None, config, seen, clock, directory };
        world.scheduler.upstreams.push(Upstream::default());
        world.client = Some(Rc::new(endpoint));
        world.restart(Logger::silent(clock));
        world
    }

    /// The token begins again, with nothing known.
    fn restart(&mut self, log: Logger) {
        let message = TerminationMessage::shared(Some("/dev/null".into()));
        let token = Token::new(0, self.config.clone(), Reporter::new(log, message, 0), self.clock.now());
        let client = self.client.clone().expect("it was made");
        self.scheduler.tokens = vec![Scheduled { token, client, upstream: 0, wait: None }];
    }

    fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
        self.scheduler.clock = clock;
        self.restart(Logger::silent(clock));
    }

    fn refresher(&self) -> &Refresher {
        self.scheduler.tokens[0].token.refresher()
    }

    /// Runs the scheduler for this many seconds. `look` is called every ten seconds with the time
    /// and the state of the token file.
    async fn run(&mut self, seconds: f64, mut look: impl FnMut(f64, Option<TokenFileState>)) {
        let mut refresh_signal = RefreshSignal::install().unwrap();
        let (clock, path, start) =
            (self.clock, self.directory.path().join("token"), tokio::time::Instant::now());
        let watching = async {
            while start.elapsed().as_secs_f64() < seconds {
                tokio::time::sleep(Duration::from_secs(10)).await;
                let content = std::fs::read_to_string(&path).ok().map(Secret::new);
                let verdict = content.map(|content| {
                    TokenFileState::of(&StoredToken::of(content), Duration::ZERO, clock.now().unix)
                });
                look(start.elapsed().as_secs_f64(), verdict);
            }
        };
        tokio::select! {
            () = self.scheduler.run(&mut refresh_signal, None) => panic!("the loop never ends"),
            () = watching => {}
        }
    }

    fn exchanges(&self) -> Vec<f64> {
        self.seen.borrow().exchanges.clone()
    }
}

const DAY: f64 = 86_400.0;

fn first_key(_: f64) -> &'static str {
    "first"
}

#[tokio::test(start_paused = true)]
async fn a_24h_token_costs_at_most_two_exchanges_a_day() {
    let mut world = World::new(&[], |_| Played::Token(86_400, "first"), first_key);
    world
        .run(10.0 * DAY, |when, verdict| {
            assert!(verdict.is_some_and(TokenFileState::is_valid), "at {when} s")
        })
        .await;
    let exchanges = world.exchanges().len();
    assert!((15..=19).contains(&exchanges), "{exchanges} in ten days");
}

#[tokio::test(start_paused = true)]
async fn p2_readers_never_see_an_outage_within_the_refresh_margin() {
    // Dex is away for 29 minutes from the first refresh of each hour.
    let away = |when: f64| when % 3_600.0 > 1_500.0 && when % 3_600.0 < 1_500.0 + 1_740.0;
    let script = move |when| if away(when) { Played::Away } else { Played::Token(3_600, "first") };
    let mut world = World::new(&[], script, first_key);
    world
        .run(2.0 * DAY, |when, verdict| assert!(verdict.is_some_and(TokenFileState::is_valid), "at {when} s"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn f113_a_new_token_comes_soon_after_an_outage_longer_than_the_lifetime() {
    let script =
        |when| if (10.0..40_000.0).contains(&when) { Played::Away } else { Played::Token(3_600, "first") };
    let mut world = World::new(&[], script, first_key);
    let (mut expired, mut back) = (None, None);
    world
        .run(41_000.0, |when, verdict| match verdict {
            Some(TokenFileState::Expired(_)) => {
                expired.get_or_insert(when);
                assert_eq!(back, None, "at {when} s");
            }
            Some(TokenFileState::Valid(_)) if expired.is_some() => {
                back.get_or_insert(when);
            }
            other => assert!(when < 3_600.0 && other.is_some(), "{other:?} at {when} s"),
        })
        .await;
    assert!(expired.is_some_and(|when| (3_600.0..3_620.0).contains(&when)), "{expired:?}");
    // Thirty seconds, and the ten between two observations of the test.
    assert!(back.is_some_and(|when| when <= 40_000.0 + 30.0 + 10.0), "{back:?}");
    assert_eq!(world.refresher().failures(), 0);
}

/// P3: an ingress answers with pages while Dex has no ready pod; then Dex returns.
#[tokio::test(start_paused = true)]
async fn f145_a_token_comes_within_30_s_after_an_ingress_stops_answering_with_pages() {
    for (status, page) in [
        (404, "404 page not found\n"),
        (403, "<html>"),
        (302, ""),
        (400, "<center>No required SSL certificate was sent</center>"),
        (401, r#"{"message":"no key"}"#),
        (500, "<html>"),
    ] {
        for (first, back) in [(0.0, 55.0), (0.0, 3_000.0), (10.0, 3_000.0)] {
            // Without a token before, and with one that expires meanwhile.
            let script = move |when| match when {
                when if when < first || when >= back => Played::Token(600, "first"),
                _ => Played::Answer(status, page),
            };
            let mut world = World::new(&[], script, first_key);
            world.run(back + 60.0, |_, _| {}).await;
            let exchanges = world.exchanges();
            let after = exchanges.iter().find(|when| **when >= back);
            assert!(after.is_some_and(|when| *when <= back + 30.0), "{status}, {first} s: {exchanges:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f070_f114_no_response_exceeds_the_rate_limit_or_ends_the_agent() {
    for (answer, most_in_a_day) in [
        (r#"{"error":"invalid_client"}"#, 600),
        (r#"{"error":"access_denied"}"#, 3_000),
        // Three attempts a minute.
        ("<html>", 4_320),
        (r#"{"access_token":"abc","token_type":"bearer","expires_in":0}"#, 4_320),
    ] {
        let status = if answer.contains("error") { 401 } else { 200 };
        let mut world = World::new(&[], move |_| Played::Answer(status, answer), first_key);
        world.run(DAY, |_, verdict| assert_eq!(verdict, None)).await;
        let exchanges = world.exchanges();
        assert!(exchanges.len() <= most_in_a_day, "{answer}: {}", exchanges.len());
        assert!(exchanges.len() > 250, "{answer}: it goes on trying");
        assert!(exchanges.windows(21).all(|w| w[20] - w[0] >= 60.0), "{answer}: twenty in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_issued_at_the_expiry_of_the_old_one_survives_its_removal() {
    // Dex is away until just before the expiry; its response then arrives after it.
    let script = |when: f64| match when {
        when if when < 10.0 => Played::Token(60, "first"),
        when if when < 55.0 => Played::Away,
        _ => Played::Late(8, 600, "first"),
    };
    let mut world = World::new(&[("DEXSIDECAR_ON_EXPIRY", "remove")], script, first_key);
    world
        .run(300.0, |when, verdict| {
            let good = verdict.is_some_and(TokenFileState::is_valid);
            assert!(good || (60.0..80.0).contains(&when), "{verdict:?} at {when} s");
        })
        .await;
}

/// A node whose clock is not set yet: the token on disk is not judged by that clock, and an
/// exchange is made at once.
#[tokio::test(start_paused = true)]
async fn f094_a_token_on_disk_is_not_trusted_by_a_clock_in_1970() {
    for (year, adopted) in
        [(EARLIEST_PLAUSIBLE_NOW + Duration::from_secs(9_000), true), (UnixTime::from_secs(1_000), false)]
    {
        let mut world = World::new(&[], |_| Played::Token(3_600, "first"), first_key);
        let start = Now { unix: year, boot: BootTime::from_start(Duration::from_secs(9_000)) };
        world.set_clock(Clock::Paused(start, tokio::time::Instant::now()));
        let (issued, exp) = (
            EARLIEST_PLAUSIBLE_NOW.as_duration().as_secs(),
            EARLIEST_PLAUSIBLE_NOW.as_duration().as_secs() + 90_000,
        );
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{issued},"exp":{exp}}}"#));
        std::fs::write(world.directory.path().join("token"), format!("e30.{claims}.sig")).unwrap();
        world.scheduler.tokens[0].token.adopt(world.clock.now(), Jitter::NONE);
        assert_eq!(world.refresher().on_disk().is_some(), adopted);
    }
}

/// The clock is an hour slow when a token is adopted, and is corrected while Dex is away: the token
/// expires on time, not an hour later.
#[tokio::test(start_paused = true)]
async fn f093_an_adopted_token_expires_by_the_corrected_clock() {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            STEPPED.set(Duration::ZERO);
        }
    }
    let _reset = Reset;
    // The refusal may have been caused by the clock.
    let refused = r#"{"error":"access_denied"}"#;
    let script = move |when| if when < 700.0 { Played::Answer(401, refused) } else { Played::Away };
    let mut world = World::new(&[], script, first_key);
    let right = world.clock.now().unix + Duration::from_secs(3_600);
    let exp = (right + Duration::from_secs(1_800)).as_duration().as_secs();
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{},"exp":{exp}}}"#, exp - 7_200));
    std::fs::write(world.directory.path().join("token"), format!("e30.{claims}.sig")).unwrap();
    world
        .run(3_600.0, |when, verdict| {
            if when > 600.0 {
                STEPPED.set(Duration::from_secs(3_600));
            }
            assert_eq!(verdict.is_some_and(TokenFileState::is_valid), when < 1_800.0, "at {when} s");
        })
        .await;
    let exchanges = world.exchanges();
    let after: Vec<_> = exchanges.iter().filter(|when| **when >= 1_800.0).collect();
    assert!(*after[0] < 1_801.0 && after.windows(2).all(|pair| pair[1] - pair[0] <= 30.1), "{after:?}");
    assert!(
        exchanges.iter().any(|when| (600.0..640.0).contains(when)),
        "a failed exchange is retried: {exchanges:?}"
    );
}

/// An address that accepts a connection and then stalls is not the first choice again: neither for
/// the next exchange nor for the key check (F11).
#[tokio::test(start_paused = true)]
async fn f011_after_a_network_failure_attempts_begin_with_the_next_address() {
    let script = |when| match when {
        when if when < 0.9 => Played::Away,
        when if when < 2.9 => Played::Answer(403, "<html>"),
        _ => Played::Token(3_600, "first"),
    };
    let mut world = World::new(&[("DEXSIDECAR_KEY_CHECK", "10m")], script, first_key);
    world.run(7_000.0, |_, _| {}).await;
    let seen = world.seen.borrow();
    let failed = seen.exchanges.iter().filter(|when| **when < 2.9).count();
    assert!(failed >= 2 && seen.keys >= 8 && seen.exchanges.len() >= failed + 4, "{seen:?}");
    let expected: Vec<_> = (0..seen.rotations.len()).map(|n| n.min(failed)).collect();
    assert_eq!(seen.rotations, expected);
}

#[tokio::test(start_paused = true)]
async fn f039_a_token_that_expires_on_its_way_is_a_failure() {
    let mut world = World::new(&[], |_| Played::Late(2, 1, "first"), first_key);
    world.run(3_600.0, |_, verdict| assert_eq!(verdict, None)).await;
    let exchanges = world.exchanges().len();
    assert!((50..=200).contains(&exchanges), "{exchanges} in an hour");
    // The last request may be in flight.
    assert!((exchanges - 1..=exchanges).contains(&(world.refresher().failures() as usize)));
}

#[tokio::test(start_paused = true)]
async fn a_newer_token_of_another_process_ends_the_failure() {
    let script = |when| if when < 100.0 { Played::Token(3_600, "first") } else { Played::Away };
    let mut world = World::new(&[], script, first_key);
    let exp = (EARLIEST_PLAUSIBLE_NOW + Duration::from_secs(9_000 + 50_000)).as_duration().as_secs();
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{},"exp":{exp}}}"#, exp - 60_000));
    let path = world.directory.path().join("token");
    let (logger, lines) = Logger::counting(world.clock);
    world.restart(logger);
    let mut before = 0;
    world
        .run(2_560.0, |when, _| {
            if when.round() == 2_500.0 {
                before = lines.get();
                std::fs::write(&path, format!("e30.{claims}.sig")).unwrap();
            }
        })
        .await;
    assert_eq!(lines.get(), before + 2, "another token is kept, and nothing fails any more");
    let token = &world.scheduler.tokens[0].token;
    assert_eq!((token.last_failure(), token.readiness(world.clock.now()).failure), (None, None));
}

/// Two sidecars write one file: the token that expires later is kept if both have the same issuer
/// and audience.
#[tokio::test(start_paused = true)]
async fn f087_a_later_expiring_token_is_kept_if_issuer_and_audience_are_the_same() {
    let exp = (EARLIEST_PLAUSIBLE_NOW + Duration::from_secs(9_000 + 50_000)).as_duration().as_secs();
    for (issuer, kept) in [("", true), (r#","iss":"https://elsewhere""#, false)] {
        let mut world = World::new(&[], |_| Played::Token(3_600, "first"), first_key);
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{},"exp":{exp}{issuer}}}"#, exp - 60_000));
        let theirs = format!("e30.{claims}.sig");
        let path = world.directory.path().join("token");
        let mut written = false;
        world
            .run(200.0, |when, _| {
                if !written && when > 20.0 {
                    written = true;
                    std::fs::write(&path, &theirs).unwrap();
                }
            })
            .await;
        let found = std::fs::read_to_string(&path).unwrap();
        assert_eq!(found == theirs, kept, "{issuer}");
    }
}
