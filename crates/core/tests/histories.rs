//! Random histories of answers, clocks, files and signals: whatever happens, the promises hold.

use std::time::Duration;

use dexsidecar_core::claims::Claims;
use dexsidecar_core::duration;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::Answer;
use dexsidecar_core::failure::{Code, Failure, RetryClass, Step};
use dexsidecar_core::key_check::{Finding, KeyCheck};
use dexsidecar_core::refresher::{Action, Fingerprint, Health, Lifetime, Reason, Refresher};
use dexsidecar_core::response::{self, RequestContext};
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::signing_keys::KeySet;
use dexsidecar_core::time::{BootTime, Jitter, Now, UnixTime};
use dexsidecar_core::token::is_bearer_token;
use proptest::prelude::*;

/// What the world does when it is asked, or between two steps.
#[derive(Clone, Debug)]
enum Event {
    /// The next exchange brings a token of so many milliseconds.
    Issue(u64),
    /// The next exchange or write fails so.
    Fail(Code, Option<u64>),
    /// The process is stopped or the machine suspended for so many seconds.
    Stop(u64),
    /// The wait ends early, after so many thousandths of it; at nought the clock stands still.
    Early(u32),
    /// The wall clock is stepped by so many seconds.
    Step(i64),
    /// A file that is read changes.
    Change(u64),
    /// The subject token is seen to live so many seconds from now.
    Subject(i64),
    /// Somebody else touches the output, and leaves a good token there or not.
    Displace(bool),
    /// The keys are lost.
    LoseKeys,
    /// An operator's signal.
    Signal,
    /// Somebody else writes a token of so many milliseconds.
    Replace(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop_oneof![1..120_000_u64, 1_000..100_000_000_u64, Just(u64::MAX)].prop_map(Event::Issue),
        6 => (0..Code::ALL.len(), proptest::option::of(0..1_000_u64))
            .prop_map(|(code, wait)| Event::Fail(Code::ALL[code], wait)),
        1 => (0..200_000_u64).prop_map(Event::Stop),
        1 => (0..1_000_u32).prop_map(Event::Early),
        1 => (-400_000_000..400_000_000_i64).prop_map(Event::Step),
        1 => (0..4_u64).prop_map(Event::Change),
        1 => (-1_000..10_000_i64).prop_map(Event::Subject),
        1 => any::<bool>().prop_map(Event::Displace),
        1 => Just(Event::LoseKeys),
        1 => Just(Event::Signal),
        1 => (1..100_000_000_u64).prop_map(Event::Replace),
    ]
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let setting =
        || proptest::option::of(prop_oneof![0..100_u64, 0..200_000_u64].prop_map(Duration::from_secs));
    (setting(), setting()).prop_map(|(before, interval)| Schedule { before, interval })
}

/// What Dex's token handler itself refuses with.
const OAUTH_ERRORS: [Code; 11] = [
    Code::InvalidClient,
    Code::UnauthorizedClient,
    Code::UnsupportedGrantType,
    Code::InvalidScope,
    Code::RequestNotSupported,
    Code::ConnectorUnknown,
    Code::AccessDenied,
    Code::InvalidRequest,
    Code::InvalidGrant,
    Code::InvalidTarget,
    Code::Rejected,
];

/// What Dex is where a history says nothing of it, and once the history is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    /// It refuses every connection.
    Away,
    /// It issues tokens of an hour.
    Back,
}

/// What Dex's published keys show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shown {
    /// The key that it signs with.
    Now,
    /// Another key, at every check.
    Stale,
}

/// The refresher, and what a reader of the file and a Dex that counts would know.
struct World {
    refresher: Refresher,
    boot: Duration,
    unix: i64,
    /// When something went through the socket, in seconds.
    attempts: Vec<f64>,
    on_disk: Option<Lifetime>,
    /// The end of the one on disk by the wall clock, if it was found there.
    found: Option<UnixTime>,
    in_hand: Option<Lifetime>,
    /// When the last exchange failed, and of what.
    failed: Option<(BootTime, Code)>,
    /// Nobody asked for another token since the one on disk came, and the process was not stopped.
    undisturbed: bool,
    /// When the history was over.
    over: Option<BootTime>,
    key_check: KeyCheck,
    /// The key with which Dex signs, and the key of the newest token.
    keys: (u32, u32),
    shown: Shown,
    /// Exchanges that the key check asked for.
    for_lost_keys: usize,
}

impl World {
    fn new(schedule: Schedule, key_check: Option<u64>, shown: Shown) -> Self {
        let (boot, unix) = (Duration::from_secs(50_000), 1_700_000_000_i64);
        let now = Now { boot: BootTime::from_start(boot), unix: UnixTime::from_secs(unix.unsigned_abs()) };
        let refresher = Refresher::new(schedule, key_check.map(Duration::from_secs), now);
        Self {
            refresher,
            boot,
            unix,
            attempts: vec![],
            on_disk: None,
            found: None,
            in_hand: None,
            failed: None,
            undisturbed: true,
            over: None,
            key_check: KeyCheck::default(),
            keys: (0, 0),
            shown,
            for_lost_keys: 0,
        }
    }

    /// Compares what is published with the key of the newest token.
    fn check_keys(&mut self, jitter: Jitter) {
        let now = self.now();
        let published = match self.shown {
            Shown::Now => self.keys.0.to_string(),
            Shown::Stale => "stale".to_owned(),
        };
        match self.key_check.compare(KeySet::of(&[&published]), &self.keys.1.to_string(), now.boot) {
            Finding::Present => self.refresher.key_check_done(now, jitter),
            Finding::Inconclusive { .. } => self.refresher.key_check_inconclusive(now, jitter),
            Finding::Gone => {
                self.for_lost_keys += 1;
                self.refresher.signing_key_gone(now, jitter);
            }
        }
    }

    fn now(&self) -> Now {
        let unix = Duration::from_secs(self.unix.max(0).unsigned_abs()) + self.boot;
        Now { boot: BootTime::from_start(self.boot), unix: UnixTime::since_epoch(unix) }
    }

    fn holds(&mut self, lifetime: Lifetime) {
        self.on_disk = Some(lifetime);
        self.found = None;
        self.in_hand = None;
        self.undisturbed = true;
    }

    /// A step of the wall clock may tell that a token that was found ends sooner, and never later.
    fn end_sooner(&mut self) {
        let (Some(held), Some(expires)) = (self.refresher.on_disk(), self.found) else { return };
        let now = self.now();
        let told = now.boot + now.unix.until(expires);
        if let Some(on_disk) = self.on_disk.as_mut().filter(|on_disk| on_disk.expires > held.expires) {
            assert!(told <= held.expires + Duration::from_millis(1), "{told:?} and {held:?}");
            *on_disk = held;
            self.undisturbed = false;
        }
    }

    /// Health is what a reader of the file would call it, by the clock that nobody steps (P12), and what is done next is
    /// what may be done.
    fn judge(&self, step: Action) -> Result<(), TestCaseError> {
        let now = self.now();
        let left = self.on_disk.and_then(|token| token.remaining(now.boot));
        let health = self.refresher.health(now);
        let told = match (self.on_disk, left) {
            (None, _) => health == Health::Starting,
            (Some(_), None) => health == Health::Expired,
            (Some(_), Some(_)) => matches!(health, Health::Fresh | Health::Stale),
        };
        prop_assert!(told, "{health:?} with {left:?} left of {:?}", self.on_disk);
        match step {
            // P1: what is dead already is not put there.
            Action::Publish => {
                prop_assert!(self.in_hand.is_some_and(|token| token.remaining(now.boot).is_some()))
            }
            Action::Expire => {
                prop_assert!(self.on_disk.is_some() && left.is_none());
                // P2: none dies without an attempt to replace it.
                let long = self.on_disk.is_some_and(|token| token.length() >= Duration::from_secs(20));
                prop_assert!(!(long && self.undisturbed), "{:?} died and nobody had asked", self.on_disk);
            }
            // P12: the end of a token is met at its instant.
            Action::Wait(until) if left.is_some() => {
                prop_assert!(until <= self.on_disk.map_or(until, |token| token.expires));
            }
            // P5: a try follows a failure after a pause.
            Action::Exchange if self.refresher.reason() == Reason::Retry => {
                let (at, code) = self.failed.expect("something failed");
                let floor = if code.entry().retry == RetryClass::Local { 125 } else { 500 };
                prop_assert!(at.until(now.boot) >= Duration::from_millis(floor), "after {code:?}");
            }
            Action::Exchange | Action::CheckKeys | Action::Wait(_) => {}
        }
        Ok(())
    }

    /// How long after a failure the next attempt may come, in seconds, if the token on disk is not valid any more. Only an
    /// OAuth error of Dex, or a certificate, is worth more than 30 s.
    fn longest_pause(&self) -> u64 {
        match self.failed.map(|(_, code)| (code, code.entry().retry)) {
            Some((code, RetryClass::Refused)) if OAUTH_ERRORS.contains(&code) => 60,
            Some((code, RetryClass::Config)) if OAUTH_ERRORS.contains(&code) => 300,
            Some((code, RetryClass::Config)) if code.entry().step == Step::Tls => 300,
            _ => 30,
        }
    }
}

/// 4,000, or more by `PROPTEST_CASES`.
fn cases() -> u32 {
    ProptestConfig::default().cases.max(4_000)
}

/// Chance, and what is none.
fn chance() -> impl Strategy<Value = Vec<f64>> {
    let unit = prop_oneof![9 => 0.0..1.0_f64, 1 => any::<f64>()];
    proptest::collection::vec(unit, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// P4, P5: no panic, no spin, never more than twenty attempts in a minute.
    #[test]
    fn no_history_makes_it_hurry_spin_or_fall(
        schedule in schedule(),
        key_check in proptest::option::of(1..10_000_u64),
        jitters in chance(),
        events in proptest::collection::vec(event(), 1..120),
    ) {
        live(schedule, key_check, &jitters, events, Then::Away, Shown::Now)?;
    }

    /// P3: when Dex is back there is a valid token within 30 s, or within the delay of an OAuth error that Dex gave; and one
    /// that is still valid is replaced within five minutes, or within the interval that was set.
    #[test]
    fn whatever_happened_there_is_a_token_soon_after_dex_is_back(
        schedule in schedule(),
        jitters in chance(),
        events in proptest::collection::vec(event(), 1..120),
    ) {
        live(schedule, Some(600), &jitters, without_retry_after(events), Then::Back, Shown::Now)?;
    }

    /// F148: a Dex whose published keys never show the token's key causes one exchange more than its schedule does.
    #[test]
    fn f148_keys_that_never_show_the_token_s_key_cause_one_exchange_at_most(
        key_check in 1..2_000_u64,
        jitters in chance(),
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let events = without_retry_after(events);
        let world = live(Schedule::default(), Some(key_check), &jitters, events, Then::Back, Shown::Stale)?;
        prop_assert!(world.for_lost_keys <= 1, "{}", world.for_lost_keys);
    }

    /// P13: whenever Dex loses its keys, the token on disk is signed with its new key within the key check's period and a
    /// minute.
    #[test]
    fn p13_lost_keys_are_noticed_within_the_period_and_a_minute(
        period in 60..2_000_u64,
        length in 7_200..200_000_u64,
        jitters in proptest::collection::vec(0.0..1.0_f64, 1..8),
        losses in proptest::collection::vec(100..20_000_u64, 1..8),
    ) {
        let mut world = World::new(Schedule::default(), Some(period), Shown::Now);
        let mut jitter = jitters.iter().cycle().map(|unit| Jitter::new(*unit));
        let mut draw = move || jitter.next().expect("it is endless");
        let mut on_disk = 0;
        for after in losses {
            // The next loss comes when this one is over; where keys are lost twice within a period: key_check.rs.
            let lost_at = world.now().boot + Duration::from_secs(after);
            let mut lost = false;
            while !lost || on_disk != world.keys.0 {
                let now = world.now();
                if !lost && now.boot >= lost_at {
                    lost = true;
                    world.keys.0 += 1;
                }
                let patience = Duration::from_secs(period + 60);
                prop_assert!(lost_at.until(now.boot) <= patience, "{:?} late", lost_at.until(now.boot));
                match world.refresher.step(now, draw()) {
                    Action::Exchange => {
                        let lifetime = Lifetime::starting(now.boot, Duration::from_secs(length));
                        world.refresher.obtained(lifetime, now);
                        world.keys.1 = world.keys.0;
                        world.key_check.issued(Some(&world.keys.1.to_string()));
                    }
                    Action::Publish => {
                        world.refresher.published(now, draw());
                        on_disk = world.keys.1;
                    }
                    Action::CheckKeys => world.check_keys(draw()),
                    Action::Expire => prop_assert!(false, "a token has expired"),
                    Action::Wait(until) => {
                        // What comes first: the loss or the end of the wait.
                        let wait = now.boot.until(until);
                        let loss = now.boot.until(lost_at);
                        world.boot += if lost || loss.is_zero() { wait } else { wait.min(loss) };
                    }
                }
            }
        }
    }

    /// P12: while all is well a stepped wall clock changes nothing. (The end of a subject token, and of one that was found,
    /// is told by it, and by nothing else.)
    #[test]
    fn a_wall_clock_that_is_stepped_changes_no_plan(
        jitters in chance(),
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let is_well = |event: &Event| !matches!(event, Event::Subject(_) | Event::Fail(..) | Event::Replace(_));
        let stepped: Vec<_> = events.into_iter().filter(is_well).collect();
        let still = stepped.iter().map(|event| match event {
            Event::Step(_) => Event::Step(0),
            other => other.clone(),
        });
        let still = live(Schedule::default(), Some(600), &jitters, still.collect(), Then::Back, Shown::Now)?;
        let stepped = live(Schedule::default(), Some(600), &jitters, stepped, Then::Back, Shown::Now)?;
        prop_assert_eq!(still.attempts, stepped.attempts);
    }

    /// P4: nothing that it is told, in whatever order and at whatever time of whatever clock, makes it fall.
    #[test]
    fn it_can_be_told_anything_at_any_time(
        schedule in schedule(),
        told in proptest::collection::vec((0..13_u8, any::<u64>(), any::<u64>(), any::<f64>()), 1..80),
    ) {
        let mut refresher = Refresher::new(schedule, Some(Duration::MAX), Now::default());
        for (what, boot, unix, jitter) in told {
            let now = Now { boot: BootTime::from_start(Duration::from_secs(boot)), unix: UnixTime::from_secs(unix) };
            let (jitter, length) = (Jitter::new(jitter), Duration::from_secs(unix.rotate_left(32)));
            let lifetime = Lifetime::starting(now.boot, length);
            let code = Code::ALL[usize::try_from(unix % Code::ALL.len() as u64).expect("small")];
            match what {
                0 => refresher.adopted(lifetime, now.unix, now, jitter),
                1 => refresher.replaced_by(lifetime, now.unix, now, jitter),
                2 => refresher.obtained(lifetime, now),
                3 => refresher.published(now, jitter),
                4 => {
                    let failure = Failure { retry_after: Some(length), ..Failure::new(code, "") };
                    let _ = refresher.failed(&failure, Fingerprint(boot), now, jitter);
                }
                5 => refresher.inputs_seen(Fingerprint(boot), now),
                6 => drop(refresher.subject_read(Fingerprint(boot), Some(now.unix), UnixTime::from_secs(boot), now)),
                7 => drop(refresher.refresh_requested(now)),
                8 => drop(refresher.output_changed(boot % 2 == 0, now)),
                9 => refresher.signing_key_gone(now, jitter),
                10 => refresher.key_check_done(now, jitter),
                11 => refresher.key_check_inconclusive(now, jitter),
                _ => refresher.suspend_key_check(),
            }
            let _ = (refresher.step(now, jitter), refresher.health(now));
        }
    }

    /// P2: a token is refreshed before it expires, and what is left is the budget that is promised.
    #[test]
    fn due_before_expiry_with_the_budget_that_is_promised(
        schedule in schedule(),
        length in prop_oneof![2_000..100_000_u64, 2_000..40_000_000_000_u64],
        jitter in 0.0..1.0_f64,
    ) {
        let length = Duration::from_millis(length);
        let after = schedule.refresh_after(length, Jitter::new(jitter));
        prop_assert!(after < length, "{after:?} of {length:?}");
        prop_assert!(after >= Duration::from_millis(850));
        if length >= Duration::from_secs(20) {
            prop_assert!(length - after >= schedule.refresh_margin(length));
        }
    }

    /// P4: any bytes as an answer give a failure or a token that a header may carry and that lives.
    #[test]
    fn any_answer_is_judged(status in 100..600_u16, body in proptest::collection::vec(any::<u8>(), 0..300), header in ".{0,40}") {
        let answer = Answer {
            status,
            body: body.into(),
            retry_after: Some(header.clone()),
            content_type: Some(header.clone()),
            location: Some(header),
            ..Answer::default()
        };
        judge(&answer)?;
    }

    /// The same with answers that are nearly right.
    #[test]
    fn nearly_right_answers_are_judged(token in "[ -~]{0,40}", kind in "[a-zA-Z]{0,8}", expires in prop_oneof![
        "-?[0-9]{1,25}", "-?[0-9]{1,5}\\.[0-9]{1,5}", "\"[ -!#-~]{0,10}\"", "null|true|\\[\\]|1e999",
    ]) {
        let token = serde_json::to_string(&token).expect("a string");
        let body = format!(r#"{{"access_token":{token},"token_type":"{kind}","expires_in":{expires}}}"#);
        judge(&Answer { status: 200, body: body.into_bytes().into(), ..Answer::default() })?;
    }

    /// P4: no text makes a parser fall.
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,60}", units in "([0-9]{0,20}(\\.[0-9]{0,20})?(ns|us|ms|s|m|h|x)?){0,4}") {
        let _ = duration::parse(&text);
        let _ = duration::parse(&units);
        let _ = EndpointUrl::parse(&text).map(|(url, _)| (url.is_internal_name(), url.to_string(), url.authority()));
        let _ = EndpointUrl::parse(&format!("https://{text}")).map(|(url, _)| url.to_string());
        let _ = Claims::peek(&Secret::new(text));
    }
}

/// A server that asks to be left alone is obeyed, and P3 does not hold for it.
fn without_retry_after(mut events: Vec<Event>) -> Vec<Event> {
    events.retain(|event| !matches!(event, Event::Fail(_, Some(_))));
    events
}

/// Lives through these events, and some time after them.
fn live(
    schedule: Schedule,
    key_check: Option<u64>,
    jitters: &[f64],
    events: Vec<Event>,
    then: Then,
    shown: Shown,
) -> Result<World, TestCaseError> {
    let mut world = World::new(schedule, key_check, shown);
    let mut jitter = jitters.iter().cycle().map(|unit| Jitter::new(*unit));
    let mut draw = move || jitter.next().expect("it is endless");
    let mut inputs = Fingerprint(0);
    let mut events = events.into_iter();
    let mut idle = 0;
    let mut at_once = 0;
    while idle < 40 {
        let now = world.now();
        if events.len() == 0 && world.over.is_none() {
            world.over = Some(now.boot);
        }
        let step = world.refresher.step(now, draw());
        world.end_sooner();
        world.judge(step)?;
        if let (Then::Back, Some(over)) = (then, world.over) {
            recovers(&world, over, schedule)?;
        }
        let Action::Wait(until) = step else {
            at_once += 1;
            prop_assert!(at_once < 60, "sixty steps without a pause, the last is {step:?}");
            if matches!(step, Action::Exchange | Action::CheckKeys) {
                world.attempts.push(world.boot.as_secs_f64());
            }
            world.undisturbed &= step != Action::Exchange;
            answer(&mut world, step, &mut events, inputs, then, &mut draw);
            continue;
        };
        prop_assert!(until > now.boot, "a wait without a pause");
        prop_assert!(now.boot.until(until) <= Duration::from_secs(30));
        at_once = 0;
        let event = events.next();
        let wait = now.boot.until(until);
        world.boot += match event {
            Some(Event::Early(thousandths)) => wait * thousandths / 1_000,
            _ => wait,
        };
        match event {
            Some(Event::Stop(seconds)) => {
                world.boot += Duration::from_secs(seconds);
                world.undisturbed = false;
            }
            Some(Event::Step(seconds)) => world.unix += seconds,
            Some(Event::Change(number)) => {
                inputs = Fingerprint(number);
                world.refresher.inputs_seen(inputs, world.now());
            }
            Some(Event::Subject(left)) => {
                let now = world.now();
                let expires = now.unix.as_duration().as_secs().saturating_add_signed(left);
                let _ = world.refresher.subject_read(inputs, None, UnixTime::from_secs(expires), now);
            }
            Some(Event::Displace(contested)) => {
                if world.refresher.output_changed(contested, world.now()) {
                    world.in_hand = world.on_disk;
                }
            }
            Some(Event::LoseKeys) => {
                world.keys.0 += 1;
                if shown == Shown::Now {
                    // At any time, not only when they are compared.
                    world.refresher.signing_key_gone(world.now(), draw());
                }
            }
            Some(Event::Signal) => {
                let now = world.now();
                let when = world.refresher.refresh_requested(now);
                prop_assert!(when >= now.boot && now.boot.until(when) <= Duration::from_secs(5));
            }
            Some(Event::Replace(length)) => {
                let now = world.now();
                let lifetime = Lifetime::starting(now.boot, Duration::from_millis(length));
                // What the wall clock says of its end is all that is known of it.
                let expires = now.unix + Duration::from_millis(length);
                world.refresher.replaced_by(lifetime, expires, now, draw());
                world.holds(lifetime);
                world.found = Some(expires);
            }
            Some(Event::Issue(_) | Event::Fail(..) | Event::Early(_)) => {}
            None => idle += 1,
        }
    }
    // P5: five at once and one each four seconds; an operator's signal may come before its turn.
    for (burst, seconds) in [(7, 4.0), (22, 60.0)] {
        for window in world.attempts.windows(burst) {
            prop_assert!(window[burst - 1] - window[0] >= seconds - 0.001, "{window:?}");
        }
    }
    Ok(world)
}

/// Since this instant Dex issues tokens, and the output can be written.
fn recovers(world: &World, since: BootTime, schedule: Schedule) -> Result<(), TestCaseError> {
    let now = world.now();
    let left = world.on_disk.and_then(|token| token.remaining(now.boot));
    // From when on there was none, or none that was good.
    let bare = world.on_disk.map_or(since, |token| since.max(token.expires));
    let patience = Duration::from_secs(world.longest_pause());
    prop_assert!(
        left.is_some() || bare.until(now.boot) <= patience,
        "bare for {:?} after {:?}",
        bare.until(now.boot),
        world.failed
    );
    // An interval that was set is obeyed while the token is valid.
    let patience = Duration::from_secs(300).max(schedule.interval.unwrap_or_default());
    prop_assert!(
        world.refresher.health(now) != Health::Stale || since.until(now.boot) <= patience,
        "stale {:?} after Dex came back",
        since.until(now.boot)
    );
    Ok(())
}

/// The same for every history of four events there is, drawn from one of each kind.
#[test]
fn no_short_history_makes_it_hurry_spin_or_fall() {
    let kinds = [
        Event::Issue(1_500),
        Event::Issue(3_600_000),
        Event::Issue(u64::MAX),
        Event::Fail(Code::ConnectRefused, None),
        Event::Fail(Code::RateLimited, Some(900)),
        Event::Fail(Code::InvalidClient, None),
        Event::Stop(4_000),
        Event::Early(0),
        Event::Step(-400_000_000),
        Event::Change(1),
        Event::Subject(5),
        Event::Displace(false),
        Event::LoseKeys,
        Event::Signal,
        Event::Replace(60_000),
    ];
    let mut places = [0; 4];
    loop {
        let events = places.map(|place: usize| kinds[place].clone()).to_vec();
        let lived =
            live(Schedule::default(), Some(600), &[0.0, 0.999, 0.5], events.clone(), Then::Away, Shown::Now);
        assert!(lived.is_ok(), "{events:?}: {:?}", lived.err());
        let Some(place) = places.iter().rposition(|place| place + 1 < kinds.len()) else { return };
        places[place] += 1;
        places[place + 1..].fill(0);
    }
}

fn judge(answer: &Answer) -> Result<(), TestCaseError> {
    let (endpoint, _) = EndpointUrl::parse("http://dex.dex.svc/token").expect("a URL");
    let now = UnixTime::from_secs(1_700_000_000);
    let asked = RequestContext { endpoint: &endpoint, now, requested_type: None, secrets: &[] };
    match response::read(answer, asked) {
        Ok(issued) => {
            prop_assert!(is_bearer_token(issued.token.expose()) && !issued.lifetime.is_zero());
        }
        Err(failure) => {
            prop_assert!(failure.to_string().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
            prop_assert!(failure.retry_after.unwrap_or_default() <= Duration::from_secs(300));
        }
    }
    Ok(())
}

/// Does what the step asks for, with the next event's outcome.
fn answer(
    world: &mut World,
    step: Action,
    events: &mut impl Iterator<Item = Event>,
    inputs: Fingerprint,
    then: Then,
    draw: &mut impl FnMut() -> Jitter,
) {
    let now = world.now();
    let event = match (events.next(), then) {
        (Some(event @ (Event::Issue(_) | Event::Fail(..))), _) => Some(event),
        (_, Then::Back) if step == Action::Exchange => Some(Event::Issue(3_600_000)),
        (event, _) => event,
    };
    match (step, event) {
        (Action::Exchange, Some(Event::Issue(length))) => {
            let lifetime = Lifetime::starting(now.boot, Duration::from_millis(length));
            world.refresher.obtained(lifetime, now);
            world.in_hand = Some(lifetime);
            world.keys.1 = world.keys.0;
            world.key_check.issued(Some(&world.keys.1.to_string()));
        }
        (Action::Publish, Some(Event::Fail(..))) => {
            let failure = Failure::new(Code::OutputDiskFull, "");
            let _ = world.refresher.failed(&failure, inputs, now, draw());
            world.undisturbed = false;
        }
        (Action::Publish, _) => {
            world.refresher.published(now, draw());
            if let Some(published) = world.in_hand.take().filter(|token| Some(*token) != world.on_disk) {
                world.holds(published);
            }
        }
        (Action::CheckKeys, Some(Event::Displace(_))) => world.refresher.suspend_key_check(),
        (Action::CheckKeys, event) => {
            world.keys.0 += u32::from(matches!(event, Some(Event::LoseKeys)));
            world.check_keys(draw());
        }
        (Action::Exchange, event) => {
            let (code, wait) = match event {
                // A write's code cannot come from an exchange.
                Some(Event::Fail(code, wait)) if code.entry().step != Step::Output => (code, wait),
                _ => (Code::ConnectRefused, None),
            };
            let failure = Failure { retry_after: wait.map(Duration::from_secs), ..Failure::new(code, "") };
            let _ = world.refresher.failed(&failure, inputs, now, draw());
            world.failed = Some((now.boot, code));
        }
        (Action::Expire | Action::Wait(_), _) => {}
    }
}
