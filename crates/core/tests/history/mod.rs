//! A random history: what happens, and what the reader of the output and Dex know.

use std::time::Duration;

use dexsidecar_core::failure::{Code, RetryClass, Step};
use dexsidecar_core::key_check::{Finding, KeyCheck};
use dexsidecar_core::refresher::{Decision, Health, Lifetime, Reason};
use dexsidecar_core::schedule::Schedule;
use dexsidecar_core::signing_keys::KeySet;
use dexsidecar_core::time::{BootTime, Jitter, Now, UnixTime};
use proptest::prelude::*;

use crate::driver::Driver;

/// The outcome of the next decision, or something that happens during a wait.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The next exchange brings a token of this many milliseconds.
    Issue(u64),
    /// The next exchange or write fails with this code and this `Retry-After` in seconds.
    Fail(Code, Option<u64>),
    /// The process is stopped or the machine suspended for this many seconds.
    Pause(u64),
    /// The wait ends after this many thousandths of it; with zero no time passes.
    Early(u32),
    /// The wall clock is stepped by this many seconds.
    ClockStep(i64),
    /// The inputs have this fingerprint now.
    InputChange(u64),
    /// A subject token is read that expires in this many seconds.
    Subject(i64),
    /// Another process modifies the output. The flag says whether it holds a valid token now.
    OutputChange(bool),
    /// Dex loses its signing keys.
    LoseKeys,
    /// A signal requests a refresh.
    Signal,
    /// Another process writes a token of this many milliseconds.
    Replace(u64),
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop_oneof![1..120_000_u64, 1_000..100_000_000_u64, Just(u64::MAX)].prop_map(Event::Issue),
        6 => (0..Code::ALL.len(), proptest::option::of(0..1_000_u64))
            .prop_map(|(code, wait)| Event::Fail(Code::ALL[code], wait)),
        1 => (0..200_000_u64).prop_map(Event::Pause),
        1 => (0..1_000_u32).prop_map(Event::Early),
        1 => (-400_000_000..400_000_000_i64).prop_map(Event::ClockStep),
        1 => (0..4_u64).prop_map(Event::InputChange),
        1 => (-1_000..10_000_i64).prop_map(Event::Subject),
        1 => any::<bool>().prop_map(Event::OutputChange),
        1 => Just(Event::LoseKeys),
        1 => Just(Event::Signal),
        1 => (1..100_000_000_u64).prop_map(Event::Replace),
    ]
}

pub(crate) fn schedule() -> impl Strategy<Value = Schedule> {
    let setting =
        || proptest::option::of(prop_oneof![0..100_u64, 0..200_000_u64].prop_map(Duration::from_secs));
    (setting(), setting()).prop_map(|(before, interval)| Schedule { before, interval })
}

/// The codes for OAuth errors of Dex's token handler.
pub(crate) const OAUTH_ERRORS: [Code; 11] = [
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

/// The state of Dex where a history has no outcome for an exchange, and after the history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Then {
    /// It refuses every connection.
    Down,
    /// It issues tokens of an hour.
    Up,
}

/// The keys that Dex publishes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PublishedKey {
    /// The key that it signs with.
    Current,
    /// Another key, at every check.
    Stale,
}

/// A refresher, and the facts that a reader of the output and Dex know.
pub(crate) struct World {
    pub(crate) refresher: Driver,
    /// The boot clock.
    pub(crate) boot: Duration,
    /// The wall clock at the start of the boot clock, in seconds.
    pub(crate) unix: i64,
    /// The instants of exchanges and key checks, in seconds.
    pub(crate) attempts: Vec<f64>,
    pub(crate) on_disk: Option<Lifetime>,
    /// `exp` of the token on disk, if another process wrote it.
    pub(crate) wall_expiry: Option<UnixTime>,
    pub(crate) pending: Option<Lifetime>,
    /// The instant of the last failed exchange, and its code.
    pub(crate) failed: Option<(BootTime, Code)>,
    /// Since the token on disk was written there was no exchange, no failed write, no pause, and no
    /// clock step that made its expiry earlier.
    pub(crate) undisturbed: bool,
    /// The instant of the end of the history.
    pub(crate) over: Option<BootTime>,
    pub(crate) key_check: KeyCheck,
    /// The key that Dex signs with, and the key of the newest token.
    pub(crate) keys: (u32, u32),
    pub(crate) published: PublishedKey,
    /// The number of exchanges that the key check has caused.
    pub(crate) for_gone_key: usize,
}

impl World {
    pub(crate) fn new(schedule: Schedule, key_check: Option<u64>, published: PublishedKey) -> Self {
        let (boot, unix) = (Duration::from_secs(50_000), 1_700_000_000_i64);
        let now = Now { boot: BootTime::from_start(boot), unix: UnixTime::from_secs(unix.unsigned_abs()) };
        let refresher = Driver::new(schedule, key_check.map(Duration::from_secs), now);
        Self {
            refresher,
            boot,
            unix,
            attempts: vec![],
            on_disk: None,
            wall_expiry: None,
            pending: None,
            failed: None,
            undisturbed: true,
            over: None,
            key_check: KeyCheck::default(),
            keys: (0, 0),
            published,
            for_gone_key: 0,
        }
    }

    /// Compares the published key with the key of the newest token.
    pub(crate) fn check_keys(&mut self, jitter: Jitter) {
        let now = self.now();
        let published = match self.published {
            PublishedKey::Current => self.keys.0.to_string(),
            PublishedKey::Stale => "stale".to_owned(),
        };
        match self.key_check.compare(KeySet::of(&[&published]), &self.keys.1.to_string(), now.boot) {
            Finding::Present => self.refresher.key_check_done(now, jitter),
            Finding::Inconclusive { .. } => self.refresher.key_check_inconclusive(now, jitter),
            Finding::Gone => {
                self.for_gone_key += 1;
                self.refresher.signing_key_gone(now, jitter);
            }
        }
    }

    pub(crate) fn now(&self) -> Now {
        let unix = Duration::from_secs(self.unix.max(0).unsigned_abs()) + self.boot;
        Now { boot: BootTime::from_start(self.boot), unix: UnixTime::since_epoch(unix) }
    }

    /// This token is on disk now.
    pub(crate) fn written(&mut self, lifetime: Lifetime) {
        self.on_disk = Some(lifetime);
        self.wall_expiry = None;
        self.pending = None;
        self.undisturbed = true;
    }

    /// After a step of the wall clock, the expiry of a token of another process may be earlier, and
    /// never later.
    pub(crate) fn follow_clock_step(&mut self) {
        let (Some(token), Some(wall_expiry)) = (self.refresher.on_disk(), self.wall_expiry) else { return };
        let now = self.now();
        let expires = now.boot + now.unix.until(wall_expiry);
        if let Some(on_disk) = self.on_disk.as_mut().filter(|on_disk| on_disk.expires > token.expires) {
            assert!(expires <= token.expires + Duration::from_millis(1), "{expires:?} and {token:?}");
            *on_disk = token;
            self.undisturbed = false;
        }
    }

    /// Checks that the health is right by the boot clock (P12), and that the decision is allowed.
    pub(crate) fn check(&self, decision: Decision) -> Result<(), TestCaseError> {
        let now = self.now();
        let remaining = self.on_disk.and_then(|token| token.remaining(now.boot));
        let health = self.refresher.health(now);
        let is_right = match (self.on_disk, remaining) {
            (None, _) => health == Health::Starting,
            (Some(_), None) => health == Health::Expired,
            (Some(_), Some(_)) => matches!(health, Health::Fresh | Health::Stale),
        };
        prop_assert!(is_right, "{health:?} with {remaining:?} remaining of {:?}", self.on_disk);
        match decision {
            // P1: an expired token is not written.
            Decision::Publish(_) => {
                prop_assert!(self.pending.is_some_and(|token| token.remaining(now.boot).is_some()));
            }
            Decision::Expire(_) => {
                prop_assert!(self.on_disk.is_some() && remaining.is_none());
                // P2: no token expires without an attempt to replace it.
                let long = self.on_disk.is_some_and(|token| token.length() >= Duration::from_secs(20));
                prop_assert!(!(long && self.undisturbed), "{:?} expired without an attempt", self.on_disk);
            }
            // P12: no wait goes beyond the expiry.
            Decision::Wait(until) if remaining.is_some() => {
                prop_assert!(until <= self.on_disk.map_or(until, |token| token.expires));
            }
            // P5: an attempt follows a failure after a delay.
            Decision::Exchange if self.refresher.reason() == Reason::Retry => {
                let (at, code) = self.failed.expect("a failed exchange");
                let floor = if code.entry().retry == RetryClass::Local { 125 } else { 500 };
                prop_assert!(at.until(now.boot) >= Duration::from_millis(floor), "after {code:?}");
            }
            Decision::Exchange | Decision::CheckKeys | Decision::Wait(_) => {}
        }
        Ok(())
    }

    /// The maximum delay after a failure without a valid token, in seconds. Only an OAuth error of
    /// Dex and a certificate have more than 30 s.
    pub(crate) fn max_delay(&self) -> u64 {
        match self.failed.map(|(_, code)| (code, code.entry().retry)) {
            Some((code, RetryClass::Refused)) if OAUTH_ERRORS.contains(&code) => 60,
            Some((code, RetryClass::Config)) if OAUTH_ERRORS.contains(&code) => 300,
            Some((code, RetryClass::Config)) if code.entry().step == Step::Tls => 300,
            _ => 30,
        }
    }
}
