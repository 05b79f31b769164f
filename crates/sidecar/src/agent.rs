//! Keeps one token fresh: waits until something is due, does it, tells the refresher what came of it.

mod key_check;

use std::time::Duration;

use dexsidecar_core::claims::Claims;
use dexsidecar_core::config::{Config, Level, Output};
use dexsidecar_core::duration::Human;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::evidence;
use dexsidecar_core::exchange::TokenEndpoint;
use dexsidecar_core::failure::{Code, Failure, Pace};
use dexsidecar_core::key_check::KeyCheck;
use dexsidecar_core::refresher::{Fingerprint, Lifetime, Refresher, Step};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::time::{BootTime, Jitter, UnixTime};
use dexsidecar_core::token::{LARGEST_SUBJECT, SubjectToken};
use dexsidecar_core::verdict::{BUILT, Verdict};

use crate::edge::clock::Clock;
use crate::edge::log::Fact;
use crate::edge::output_file::{self, Written};
use crate::edge::signal::Nudge;
use crate::edge::thread::{Abandoned, aside};
use crate::edge::{chance, input_file};
use crate::status::Status;
use crate::trade::{self, Inputs, LastGood};

/// A token found on disk at the start must be good for longer than this to be adopted.
const WORTH_ADOPTING: Duration = Duration::from_secs(60);
/// How long a first look at the output may hold up the next try.
const LOOK: Duration = Duration::from_secs(1);
/// How long a write may take before it is told.
const SLOW: Duration = Duration::from_secs(15);
/// A token this near to its end is not put over one that lives longer (F39).
const HARDLY_ALIVE: Duration = Duration::from_secs(10);

/// A token.
#[derive(Debug)]
struct Held {
    token: Secret,
    key_id: Option<String>,
    expires: Option<UnixTime>,
    lifetime: Lifetime,
    /// Whether it is in the file, and not on its way there.
    on_disk: bool,
}

/// One token being kept fresh.
#[derive(Debug)]
pub struct Agent<E> {
    config: Config,
    output: Output,
    endpoint: E,
    clock: Clock,
    refresher: Refresher,
    status: Status,
    last_good: LastGood,
    held: Option<Held>,
    /// The output file as we left it or found it.
    file: Option<u64>,
    /// Said once each.
    said: Said,
    /// Where Dex's keys are, once that is known.
    keys_url: Option<EndpointUrl>,
    key_check: KeyCheck,
    /// With which of the endpoint's addresses to begin: the next one after a failure on the way.
    rotation: usize,
}

/// What was said, or looked at, and is not again.
#[derive(Debug, Default)]
struct Said {
    audience: bool,
    left_behind: bool,
    no_keys: bool,
    other_length: bool,
    other_type: bool,
    output_tried: bool,
    stand_in: bool,
    displaced: bool,
}

/// True the first time.
const fn first(done: &mut bool) -> bool {
    !std::mem::replace(done, true)
}

impl<E: TokenEndpoint> Agent<E> {
    /// An agent for this configuration. It has done nothing yet.
    pub fn new(config: Config, output: Output, endpoint: E, clock: Clock, status: Status) -> Self {
        let refresher = Refresher::new(config.schedule, config.key_check, clock.now());
        Self {
            config,
            output,
            endpoint,
            clock,
            refresher,
            status,
            last_good: LastGood::default(),
            held: None,
            file: None,
            said: Said::default(),
            keys_url: None,
            key_check: KeyCheck::default(),
            rotation: 0,
        }
    }

    /// Keeps the token fresh for ever. Dropping the future ends it at any point; a write that has begun is finished
    /// by its thread.
    pub async fn run(&mut self, nudge: &mut Nudge) {
        self.adopt();
        loop {
            match self.refresher.step(self.clock.now(), chance::jitter()) {
                Step::Exchange => self.exchange().await,
                Step::Publish => self.publish().await,
                Step::CheckKeys => self.check_keys().await,
                Step::Expire => self.expire(),
                Step::Wait(until) => tokio::select! {
                    () = self.clock.sleep_until(until) => self.look(),
                    () = nudge.wait() => self.nudged(),
                },
            }
        }
    }

    /// Exchanges until one token is in its file; `once` is this with a deadline.
    pub async fn run_once(&mut self) {
        while self.held.as_ref().is_none_or(|held| !held.on_disk) {
            match self.refresher.step(self.clock.now(), chance::jitter()) {
                Step::Exchange => self.exchange().await,
                Step::Publish => self.publish().await,
                Step::CheckKeys | Step::Expire => {}
                Step::Wait(until) => {
                    self.clock.sleep_until(until).await;
                    self.refresher.inputs_seen(trade::fingerprint(&self.config), self.clock.now());
                }
            }
        }
    }

    /// When `once` gives up.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.config.timeout
    }

    async fn exchange(&mut self) {
        let inputs = trade::fingerprint(&self.config);
        match self.exchange_once().await {
            Ok(lifetime) => self.refresher.obtained(lifetime, self.clock.now()),
            Err(failure) => {
                if first(&mut self.said.output_tried) {
                    self.try_output().await;
                }
                self.turn(&failure);
                self.failed(&failure, inputs);
            }
        }
    }

    /// A host of which one address does not do, whatever is wrong with it, is not begun with that again.
    fn turn(&mut self, failure: &Failure) {
        if failure.entry().pace != Pace::Local {
            self.rotation = self.rotation.wrapping_add(1);
        }
    }

    /// What will be wrong with the output once there is a token is told before there is one (F71).
    async fn try_output(&self) {
        let output = self.output.clone();
        let trying = aside(Abandoned::Left, move || output_file::try_output(&output));
        if let Ok(Ok(Err(failure))) = tokio::time::timeout(LOOK, trying).await {
            self.status.warn(&failure);
        }
    }

    /// The product, together with [`Self::publish`]: read the subject token, exchange it, keep what comes back.
    async fn exchange_once(&mut self) -> Result<Lifetime, Failure> {
        let inputs = Inputs::read(&self.config, &mut self.last_good, self.clock.now().unix).await?;
        self.subject_seen(inputs.subject.as_ref())?;
        self.stand_ins_used(&inputs.stand_ins);
        if let Some(oddity) = inputs.subject.as_ref().and_then(evidence::meant_for_the_api_server)
            && first(&mut self.said.audience)
        {
            self.status.log().warn("the subject token is odd", &[("why", &oddity)]);
        }
        let held = self.held.as_ref().map(|held| &held.token);
        let (issued, lifetime) =
            inputs.trade(&self.config, &self.endpoint, &self.clock, self.rotation, held).await?;
        let lifetime = self.improves(&issued.token, lifetime)?;
        if let Some(other) = &issued.other_type
            && first(&mut self.said.other_type)
        {
            self.status
                .log()
                .warn("another type of token was issued than was asked for", &[("issued", other)]);
        }
        let claims = issued.claims.unwrap_or_default();
        self.key_check.issued(claims.key_id.as_deref());
        if let Some((told, own)) = issued.other_length.zip(claims.length())
            && first(&mut self.said.other_length)
        {
            let facts: [Fact<'_>; 2] = [("expires_in", &Human(told)), ("token", &Human(own))];
            self.status.log().warn("answer and token differ about its life; the shorter counts", &facts);
        }
        self.held = Some(Held {
            token: issued.token,
            key_id: claims.key_id,
            expires: claims.expires,
            lifetime,
            on_disk: false,
        });
        Ok(lifetime)
    }

    async fn publish(&mut self) {
        let Some(held) = &self.held else { return self.refresher.nothing_in_hand() };
        let (output, token) = (self.output.clone(), held.token.clone());
        let write = move || output_file::write(&output, &token);
        // Aside: a disk may stall, and signals must still be heard (F86). Where no thread can be made, it is done here.
        let mut writing = std::pin::pin!(aside(Abandoned::Finished, write.clone()));
        let written = match tokio::time::timeout(SLOW, &mut writing).await {
            Ok(written) => written,
            Err(_) => {
                let path = self.output.path.display();
                self.status.log().warn("the output's volume does not answer", &[("file", &path)]);
                writing.await
            }
        };
        let written = written.unwrap_or_else(|_| write());
        match written {
            Ok(written) => self.published(&written),
            Err(failure) => self.failed(&failure, trade::fingerprint(&self.config)),
        }
    }

    fn published(&mut self, written: &Written) {
        let now = self.clock.now();
        // The next look compares the content: what others did to the very file meanwhile is not taken for ours.
        self.file = None;
        let put_back = self.held.as_ref().is_some_and(|held| held.on_disk);
        if let Some(held) = &mut self.held {
            held.on_disk = true;
        }
        self.refresher.published(now, chance::jitter());
        // What is put back is no sign that Dex is well again.
        if self.refresher.failures() == 0 {
            self.status.recovered();
        }
        self.status.written(&self.output.path, written);
        if put_back {
            return;
        }
        let left = self.refresher.held().and_then(|held| held.left(now.boot)).unwrap_or_default();
        let due = now.boot.until(self.refresher.due());
        let path = self.output.path.display();
        self.status.log().info(
            "token written",
            &[("file", &path), ("good_for", &Human(left)), ("next_exchange_in", &Human(due))],
        );
    }

    fn failed(&mut self, failure: &Failure, inputs: Fingerprint) {
        let now = self.clock.now();
        let pause = self.refresher.failed(failure, inputs, now, chance::jitter());
        self.status.failed(failure, self.refresher.health(now), pause, now);
    }

    /// A token from before a restart is as good as one of ours.
    fn adopt(&mut self) {
        let Some((token, file)) = output_file::read_with_fingerprint(&self.output) else { return };
        let now = self.clock.now();
        let left = match Verdict::of(&token, WORTH_ADOPTING, now.unix) {
            Verdict::Good(Some(left)) => left,
            Verdict::Expired(_) if self.output.remove_expired => return self.remove(),
            _ => return,
        };
        let claims = Claims::peek(&token).unwrap_or_default();
        let Some(expires) = claims.expires.filter(|_| now.unix >= BUILT) else { return };
        let lifetime = lifetime_on_disk(&claims, left, now.boot);
        self.file = Some(file);
        self.held = Some(Held::found(token, claims, lifetime));
        self.refresher.adopted(lifetime, expires, now, chance::jitter());
        let path = self.output.path.display();
        let due = now.boot.until(self.refresher.due());
        self.status.log().info(
            "the token on disk is still good",
            &[("file", &path), ("good_for", &Human(left)), ("next_exchange_in", &Human(due))],
        );
    }

    /// A look at the files: what an exchange reads, and what became of the output.
    fn look(&mut self) {
        let now = self.clock.now();
        self.refresher.inputs_seen(trade::fingerprint(&self.config), now);
        self.look_at_subject();
        let Some(held) = self.held.as_ref().filter(|held| held.on_disk) else { return };
        if Some(output_file::fingerprint(&self.output)) == self.file {
            return;
        }
        let found = output_file::read_with_fingerprint(&self.output);
        if let Some((_, file)) = found.as_ref().filter(|(token, _)| *token == held.token) {
            // Touched, but not changed.
            self.file = Some(*file);
            return;
        }
        if let Some((token, file)) = &found
            && let Verdict::Good(Some(left)) = Verdict::of(token, WORTH_ADOPTING, now.unix)
            && let Some(claims) = Claims::peek(token)
            && let Some(expires) = claims.expires.filter(|_| now.unix >= BUILT)
            && claims.expires > held.expires
            && Claims::peek(&held.token).is_none_or(|ours| ours.is_of_a_kind_with(&claims))
        {
            let lifetime = lifetime_on_disk(&claims, left, now.boot);
            self.file = Some(*file);
            self.held = Some(Held::found(token.clone(), claims, lifetime));
            self.refresher.replaced_by(lifetime, expires, now, chance::jitter());
            self.said_displaced(
                "something else wrote a token that lives longer into the output file; it is kept",
            );
            return;
        }
        let good = |token: &Secret| Verdict::of(token, Duration::ZERO, now.unix).is_good();
        let contested = found.is_some_and(|(token, _)| good(&token));
        if self.refresher.displaced(contested, now) {
            self.said_displaced("something else changed the output file; the token is put back");
        }
    }

    fn said_displaced(&mut self, words: &str) {
        let level = if self.said.displaced { Level::Debug } else { Level::Warn };
        self.said.displaced = true;
        self.status.log().line(level, words, &[("file", &self.output.path.display())]);
    }

    /// A replaced subject token has a new life, which must be known to see its end coming.
    fn look_at_subject(&mut self) {
        let Some(path) = self.config.subject_token_file() else { return };
        if self.held.is_none() || !self.refresher.subject_is_new(Fingerprint(input_file::fingerprint(path))) {
            return;
        }
        if input_file::is_left_behind(path) && first(&mut self.said.left_behind) {
            self.status.log().warn(
                "the subject token's file was replaced, and is not seen here",
                &[("file", &path.display()), ("hint", &"mount its volume whole, without subPath")],
            );
        }
        if let Ok(content) = input_file::read(path, LARGEST_SUBJECT)
            && let Ok(SubjectToken(token)) = SubjectToken::parse(content, None)
        {
            let claims = Claims::peek(&token);
            // What looks expired is told when it is to be sent.
            let _ = self.subject_seen(claims.as_ref());
        }
    }

    /// A subject token that looks expired is waited for a little, then sent all the same.
    fn subject_seen(&mut self, claims: Option<&Claims>) -> Result<(), Failure> {
        let (Some(claims), Some(path)) = (claims, self.config.subject_token_file()) else { return Ok(()) };
        let Some(expires) = claims.expires else { return Ok(()) };
        let now = self.clock.now();
        let file = Fingerprint(input_file::fingerprint(path));
        if self.refresher.subject_read(file, claims.issued, expires, now) {
            return Ok(());
        }
        let ago = Human(now.unix.since(expires));
        Err(Failure::new(Code::SubjectTokenExpired, format!("{} expired {ago} ago", path.display())))
    }

    fn stand_ins_used(&mut self, stand_ins: &[Failure]) {
        if stand_ins.is_empty() {
            self.said.stand_in = false;
        } else if !self.said.stand_in {
            self.said.stand_in = true;
            for failure in stand_ins {
                let words = "a file cannot be read; what it held before is used";
                self.status.log().warn(words, &[("why", failure), ("hint", &failure.entry().hint)]);
            }
        }
    }

    /// Whether a token just issued is better than the one on disk. One that was held already has the life it had.
    fn improves(&self, token: &Secret, lifetime: Lifetime) -> Result<Lifetime, Failure> {
        let now = self.clock.now();
        if let Some(Held { token: known, lifetime: old, .. }) = &self.held
            && known == token
        {
            // It is as good as new only while nobody would ask for another: else each exchange would make the next one due.
            let soonest = self.config.schedule.refresh_after(old.length(), Jitter::new(1.0));
            let fresh = now.boot < old.issued + soonest;
            return if fresh { Ok(*old) } else { Err(Failure::new(Code::TokenUnchanged, "")) };
        }
        let left = self.refresher.held().and_then(|held| held.left(now.boot));
        let new = lifetime.left(now.boot).unwrap_or_default();
        if new <= HARDLY_ALIVE && left.is_some_and(|left| left > new) {
            return Err(Failure::new(
                Code::TokenExpired,
                format!("it lives {}, and the one on disk longer", Human(new)),
            ));
        }
        Ok(lifetime)
    }

    fn expire(&mut self) {
        let path = self.output.path.display();
        self.status.log().error("the token on disk has expired", &[("file", &path)]);
        // What somebody else put there meanwhile is not what expired.
        let ours = self.held.as_ref().filter(|held| held.on_disk).map(|held| &held.token);
        if self.output.remove_expired && output_file::read(&self.output).as_ref() == ours {
            self.remove();
            // A token on its way into the file is another one.
            self.held.take_if(|held| held.on_disk);
        }
    }

    fn remove(&self) {
        let path = self.output.path.display();
        match output_file::remove(&self.output) {
            Ok(()) => self.status.log().info("the expired token's file was removed", &[("file", &path)]),
            Err(failure) => self.status.warn(&failure),
        }
    }

    fn nudged(&mut self) {
        let now = self.clock.now();
        let when = now.boot.until(self.refresher.signalled(now));
        self.status.log().info("exchanging, as a signal asks", &[("in", &Human(when))]);
    }
}

impl Held {
    /// One that was found on disk.
    fn found(token: Secret, claims: Claims, lifetime: Lifetime) -> Self {
        Self { token, key_id: claims.key_id, expires: claims.expires, lifetime, on_disk: true }
    }
}

/// The life of a token found on disk: its end by the wall clock, its length by its own word. None lives longer than that from
/// now on, whatever a wrong clock says.
fn lifetime_on_disk(claims: &Claims, left: Duration, now: BootTime) -> Lifetime {
    let length = claims.length().unwrap_or(left);
    let expires = now + left.min(length);
    Lifetime { issued: expires - length, expires }
}

#[cfg(test)]
mod tests;
