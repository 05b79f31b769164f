//! The real loop in paused time, against a scripted endpoint and a real file: days pass in milliseconds.

use std::cell::RefCell;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dexsidecar_core::config::RawSettings;
use dexsidecar_core::exchange::{Answer, Request};
use dexsidecar_core::refresher::Health;
use dexsidecar_core::time::Now;
use tempfile::TempDir;

use super::*;
use crate::edge::clock::STEPPED;
use crate::edge::log::Logger;

mod files;
mod lives;
mod subject;

/// What the endpoint does, as a function of the seconds that have passed.
type Script = Box<dyn Fn(f64) -> Played>;

enum Played {
    /// A token of so many seconds, signed with this key.
    Token(u64, &'static str),
    /// The same, after so many seconds.
    Late(u64, u64, &'static str),
    /// Another answer.
    Answer(u16, &'static str),
    /// No answer, but this.
    Failed(Code),
    /// Nobody is there.
    Away,
}

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
    /// When each exchange was asked for, in seconds.
    exchanges: Vec<f64>,
    keys: usize,
    /// With which address each request was to begin.
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
            let body = format!(r#"{{"keys":[{{"kid":"{}"}}]}}"#, (self.published)(seconds));
            let status = if request.url.target().ends_with("/keys") { 200 } else { 404 };
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
            Played::Token(length, key) => {
                let issued = now.unix.as_duration().as_secs();
                let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"kid":"{key}"}}"#));
                let claims = format!(r#"{{"iat":{issued},"exp":{},"n":{seconds}}}"#, issued + length);
                let token = format!("{header}.{}.sig", URL_SAFE_NO_PAD.encode(claims));
                let body =
                    format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":{length}}}"#);
                Ok(Answer { status: 200, body: body.into_bytes().into(), ..Answer::default() })
            }
        }
    }
}

struct World {
    agent: Agent<Scripted>,
    seen: Rc<RefCell<Seen>>,
    clock: Clock,
    folder: TempDir,
}

impl World {
    fn new(
        more: &[(&str, &str)],
        script: impl Fn(f64) -> Played + 'static,
        published: fn(f64) -> &'static str,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("token");
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
        let mut config = Config::read(&RawSettings { variables, ..RawSettings::default() }, true).unwrap();
        let output = config.output.take().unwrap();
        let start = Now {
            boot: BootTime::from_start(Duration::from_secs(9_000)),
            unix: BUILT + Duration::from_secs(9_000),
        };
        let clock = Clock::Paused(start, tokio::time::Instant::now());
        let seen = Rc::new(RefCell::new(Seen::default()));
        let endpoint = Scripted { clock, start, script: Box::new(script), published, seen: Rc::clone(&seen) };
        let status = Reporter::new(Logger::silent(clock), Some("/dev/null".into()));
        Self { agent: Agent::new(config, output, endpoint, clock, status), seen, clock, folder }
    }

    fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
        self.agent.clock = clock;
        self.agent.refresher = Refresher::new(self.agent.config.schedule, None, clock.now());
    }

    /// Lets the agent run for so long; `look` is called each ten seconds with the seconds passed and the file's verdict.
    async fn run(&mut self, seconds: f64, mut look: impl FnMut(f64, Option<Verdict>)) {
        let mut nudge = Nudge::install().unwrap();
        let (clock, path, start) =
            (self.clock, self.folder.path().join("token"), tokio::time::Instant::now());
        let watching = async {
            while start.elapsed().as_secs_f64() < seconds {
                tokio::time::sleep(Duration::from_secs(10)).await;
                let content = std::fs::read_to_string(&path).ok().map(Secret::new);
                let verdict = content.map(|content| Verdict::of(&content, Duration::ZERO, clock.now().unix));
                look(start.elapsed().as_secs_f64(), verdict);
            }
        };
        tokio::select! {
            () = self.agent.run(&mut nudge) => panic!("the loop never ends"),
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
async fn a_day_s_token_costs_two_exchanges_a_day() {
    let mut world = World::new(&[], |_| Played::Token(86_400, "first"), first_key);
    world
        .run(10.0 * DAY, |when, verdict| assert!(verdict.is_some_and(Verdict::is_good), "at {when} s"))
        .await;
    let exchanges = world.exchanges().len();
    assert!((15..=19).contains(&exchanges), "{exchanges} in ten days");
}

#[tokio::test(start_paused = true)]
async fn p2_an_outage_within_the_budget_is_never_seen_by_a_reader() {
    // Away from every hour's first refresh for 29 minutes.
    let away = |when: f64| when % 3_600.0 > 1_500.0 && when % 3_600.0 < 1_500.0 + 1_740.0;
    let script = move |when| if away(when) { Played::Away } else { Played::Token(3_600, "first") };
    let mut world = World::new(&[], script, first_key);
    world.run(2.0 * DAY, |when, verdict| assert!(verdict.is_some_and(Verdict::is_good), "at {when} s")).await;
}

#[tokio::test(start_paused = true)]
async fn f113_a_token_is_there_soon_after_an_outage_that_outlasts_the_one_before() {
    let script =
        |when| if (10.0..40_000.0).contains(&when) { Played::Away } else { Played::Token(3_600, "first") };
    let mut world = World::new(&[], script, first_key);
    let (mut expired, mut back) = (None, None);
    world
        .run(41_000.0, |when, verdict| match verdict {
            Some(Verdict::Expired(_)) => {
                expired.get_or_insert(when);
                assert_eq!(back, None, "at {when} s");
            }
            Some(Verdict::Good(_)) if expired.is_some() => {
                back.get_or_insert(when);
            }
            other => assert!(when < 3_600.0 && other.is_some(), "{other:?} at {when} s"),
        })
        .await;
    assert!(expired.is_some_and(|when| (3_600.0..3_620.0).contains(&when)), "{expired:?}");
    // Thirty seconds, and the ten between two looks of the test.
    assert!(back.is_some_and(|when| when <= 40_000.0 + 30.0 + 10.0), "{back:?}");
    assert_eq!(world.agent.refresher.failures(), 0);
}

/// P3: an ingress answers while Dex has no ready pod, and then Dex is back.
#[tokio::test(start_paused = true)]
async fn f145_a_token_is_there_within_30_s_after_the_pages_of_an_ingress_end() {
    for (status, page) in [
        (404, "404 page not found\n"),
        (403, "<html>"),
        (302, ""),
        (400, "<center>No required SSL certificate was sent</center>"),
        (401, r#"{"message":"no key"}"#),
        (500, "<html>"),
    ] {
        for (first, back) in [(0.0, 55.0), (0.0, 3_000.0), (10.0, 3_000.0)] {
            // With no token before, and with one that expires meanwhile.
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
async fn f070_f114_no_answer_makes_it_hurry_or_end() {
    for (answer, most_in_a_day) in [
        (r#"{"error":"invalid_client"}"#, 600),
        (r#"{"error":"access_denied"}"#, 3_000),
        // Three a minute.
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
async fn p13_lost_keys_are_healed_within_the_period_and_a_minute() {
    let key = |when| if when < 5_000.0 { "first" } else { "second" };
    let mut world =
        World::new(&[("DEXSIDECAR_KEY_CHECK", "10m")], move |when| Played::Token(86_400, key(when)), key);
    world.run(12_000.0, |_, _| {}).await;
    let exchanges = world.exchanges();
    assert_eq!(exchanges.len(), 2, "{exchanges:?}");
    assert!((5_000.0..5_000.0 + 660.0).contains(&exchanges[1]), "{exchanges:?}");
    assert!((18..=26).contains(&world.seen.borrow().keys), "{}", world.seen.borrow().keys);
}

/// The published keys come out of a cache, or from another replica than the tokens.
#[tokio::test(start_paused = true)]
async fn f148_keys_that_never_show_the_token_s_key_cost_one_exchange() {
    let mut world = World::new(
        &[("DEXSIDECAR_KEY_CHECK", "10m")],
        |_| Played::Token(7 * 86_400, "first"),
        |_| "of another replica",
    );
    world.run(0.8 * DAY, |_, verdict| assert!(verdict.is_some_and(Verdict::is_good))).await;
    assert_eq!(world.exchanges().len(), 2, "{:?}", world.exchanges());
    let keys = world.seen.borrow().keys;
    assert!((20..=40).contains(&keys), "{keys} key checks back off to one an hour");
}

/// Two replicas with keys of their own answer in turn.
#[tokio::test(start_paused = true)]
async fn f148_replicas_with_keys_of_their_own_cause_no_loop() {
    let replica = |when: f64| if when % 1_400.0 < 700.0 { "first" } else { "second" };
    let mut world = World::new(
        &[("DEXSIDECAR_KEY_CHECK", "10m")],
        move |when| Played::Token(7 * 86_400, replica(when + 300.0)),
        replica,
    );
    world.run(0.8 * DAY, |_, verdict| assert!(verdict.is_some_and(Verdict::is_good))).await;
    assert!(world.exchanges().len() <= 4, "{:?}", world.exchanges());
}

#[tokio::test(start_paused = true)]
async fn a_dex_without_keys_beside_it_is_asked_once_a_token() {
    // The endpoint publishes no keys below this path.
    let mut world = World::new(
        &[("DEXSIDECAR_KEY_CHECK", "1m"), ("dex_endpoint", "https://dex.test/exchange")],
        |_| Played::Token(86_400, "first"),
        first_key,
    );
    world.run(12_000.0, |_, _| {}).await;
    assert_eq!(world.seen.borrow().keys, 0);
    assert_eq!(world.exchanges().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn f049_another_key_of_dex_is_no_event() {
    let key = |when: f64| if when < 3_000.0 { "first" } else { "second" };
    // Dex goes on publishing the key of tokens that are still good: here, whatever signed the token on disk.
    let mut world = World::new(
        &[("DEXSIDECAR_KEY_CHECK", "10m")],
        move |when| Played::Token(3_600, key(when)),
        |when| if when < 3_400.0 { "first" } else { "second" },
    );
    world.run(20_000.0, |_, verdict| assert!(verdict.is_some_and(Verdict::is_good))).await;
    assert!(world.exchanges().len() <= 14, "{:?}", world.exchanges());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_as_the_old_token_expires_is_kept_where_expired_ones_are_removed() {
    // Away until just before the end, then an answer that takes until after it.
    let script = |when: f64| match when {
        when if when < 10.0 => Played::Token(60, "first"),
        when if when < 55.0 => Played::Away,
        _ => Played::Late(8, 600, "first"),
    };
    let mut world = World::new(&[("DEXSIDECAR_ON_EXPIRY", "remove")], script, first_key);
    world
        .run(300.0, |when, verdict| {
            let good = verdict.is_some_and(Verdict::is_good);
            assert!(good || (60.0..80.0).contains(&when), "{verdict:?} at {when} s");
        })
        .await;
}

/// A machine that has not learnt the time: what lies on disk is not judged by such a clock, and an exchange comes at once.
#[tokio::test(start_paused = true)]
async fn f094_in_1970_what_is_on_disk_is_not_trusted() {
    for (year, adopted) in [(BUILT + Duration::from_secs(9_000), true), (UnixTime::from_secs(1_000), false)] {
        let mut world = World::new(&[], |_| Played::Token(3_600, "first"), first_key);
        let start = Now { unix: year, boot: BootTime::from_start(Duration::from_secs(9_000)) };
        world.set_clock(Clock::Paused(start, tokio::time::Instant::now()));
        let (issued, exp) = (BUILT.as_duration().as_secs(), BUILT.as_duration().as_secs() + 90_000);
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{issued},"exp":{exp}}}"#));
        std::fs::write(world.folder.path().join("token"), format!("e30.{claims}.sig")).unwrap();
        world.agent.adopt();
        assert_eq!(world.agent.current.is_some(), adopted);
    }
}

/// The clock was an hour slow when a token was found on disk, and is set right while Dex is away: the token's end is met
/// when it comes, not an hour later.
#[tokio::test(start_paused = true)]
async fn f093_a_found_token_ends_when_the_clock_that_was_set_right_says_so() {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            STEPPED.set(Duration::ZERO);
        }
    }
    let _reset = Reset;
    // What was refused may have been refused because of the clock.
    let refused = r#"{"error":"access_denied"}"#;
    let script = move |when| if when < 700.0 { Played::Answer(401, refused) } else { Played::Away };
    let mut world = World::new(&[], script, first_key);
    let right = world.clock.now().unix + Duration::from_secs(3_600);
    let exp = (right + Duration::from_secs(1_800)).as_duration().as_secs();
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{},"exp":{exp}}}"#, exp - 7_200));
    std::fs::write(world.folder.path().join("token"), format!("e30.{claims}.sig")).unwrap();
    world
        .run(3_600.0, |when, verdict| {
            if when > 600.0 {
                STEPPED.set(Duration::from_secs(3_600));
            }
            assert_eq!(verdict.is_some_and(Verdict::is_good), when < 1_800.0, "at {when} s");
        })
        .await;
    let exchanges = world.exchanges();
    let after: Vec<_> = exchanges.iter().filter(|when| **when >= 1_800.0).collect();
    assert!(*after[0] < 1_801.0 && after.windows(2).all(|pair| pair[1] - pair[0] <= 30.1), "{after:?}");
    assert!(
        exchanges.iter().any(|when| (600.0..640.0).contains(when)),
        "what failed is tried anew: {exchanges:?}"
    );
}

/// A host that accepts on one address and then stalls is not begun with again: neither after the exchange that went round
/// it, nor by the key check (F11).
#[tokio::test(start_paused = true)]
async fn f011_what_failed_on_its_way_is_begun_with_the_next_address_from_then_on() {
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
async fn f039_a_token_that_dies_on_its_way_is_a_failure_like_others() {
    let mut world = World::new(&[], |_| Played::Late(2, 1, "first"), first_key);
    world.run(3_600.0, |_, verdict| assert_eq!(verdict, None)).await;
    let exchanges = world.exchanges().len();
    assert!((50..=200).contains(&exchanges), "{exchanges} in an hour");
    // The last may be on its way.
    assert!((exchanges - 1..=exchanges).contains(&(world.agent.refresher.failures() as usize)));
}

#[tokio::test]
async fn a_token_that_comes_again_before_it_was_written_has_the_life_it_had() {
    let mut world = World::new(&[], |_| Played::Away, first_key);
    let now = world.clock.now();
    let (on_disk, in_hand) = (
        Lifetime::starting(now.boot, Duration::from_secs(3_600)),
        Lifetime::starting(now.boot, Duration::from_secs(60)),
    );
    world.agent.refresher.adopted(on_disk, now.unix + Duration::from_secs(3_600), now, Jitter::NONE);
    let token = Secret::new("again".to_owned());
    world.agent.current = Some(CurrentToken {
        token: token.clone(),
        key_id: None,
        expires: None,
        lifetime: in_hand,
        on_disk: false,
    });
    let again = Lifetime::starting(now.boot + Duration::from_secs(5), Duration::from_secs(60));
    assert_eq!(world.agent.accept_if_better(&token, again).unwrap(), in_hand);
}

/// Two sidecars over one file: whose token lives longer is kept, if both are of a kind.
#[tokio::test(start_paused = true)]
async fn f087_a_longer_token_is_kept_where_it_is_of_the_same_issuer_and_audience() {
    let exp = (BUILT + Duration::from_secs(9_000 + 50_000)).as_duration().as_secs();
    for (issuer, kept) in [("", true), (r#","iss":"https://elsewhere""#, false)] {
        let mut world = World::new(&[], |_| Played::Token(3_600, "first"), first_key);
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{},"exp":{exp}{issuer}}}"#, exp - 60_000));
        let theirs = format!("e30.{claims}.sig");
        let path = world.folder.path().join("token");
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
