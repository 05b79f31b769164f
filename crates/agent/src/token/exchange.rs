//! The exchanges of a token: starts them, and judges what comes of them.

use dexsidecar_core::adoption;
use dexsidecar_core::claims::Claims;
use dexsidecar_core::diagnosis;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::event::Event;
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::limits::LARGEST_SUBJECT_TOKEN;
use dexsidecar_core::output::StoredToken;
use dexsidecar_core::refresher::{Fingerprint, Lifetime, Observation};
use dexsidecar_core::settings::SCOPE;
use dexsidecar_core::time::{Jitter, Now, UnixTime};
use dexsidecar_core::token::SubjectToken;
use dexsidecar_core::token_file::EARLIEST_PLAUSIBLE_NOW;
use dexsidecar_edge::input_file::{self, is_mounted_version};

use super::{CurrentToken, Token};
use crate::exchange::{self, Inputs};
use crate::job::{Exchanged, FailedExchange, Job};
use crate::upstream::Upstream;

/// The fix of a subject token whose rotations do not arrive.
const WITHOUT_SUB_PATH: &str = "mount the directory of its volume, without subPath";

/// The instant at which an opaque token of this lifetime expires. By a wrong wall clock it is
/// unknown: an instant in the past would make readers refuse the token.
fn stated_expiry(lifetime: Lifetime, now: Now) -> Option<UnixTime> {
    let remaining = lifetime.remaining(now.boot)?;
    (now.unix >= EARLIEST_PLAUSIBLE_NOW).then(|| now.unix + remaining)
}

impl Token {
    /// Starts an exchange. One in flight is given up: it hangs, so the next address is tried.
    pub(super) fn start_exchange(&mut self, now: Now, upstream: &mut Upstream) -> Job {
        if self.is_exchanging {
            upstream.rotate_from(self.rotation);
        }
        self.is_exchanging = true;
        self.counts.attempts += 1;
        self.overdue_since = self.overdue_since.or_else(|| Some(self.refresher.due().min(now.boot)));
        self.inputs = exchange::fingerprint(&self.config.exchange);
        let (config, last_known) = (self.config.clone(), self.last_known.clone());
        Job::ReadInputs { config, last_known, now: now.unix }
    }

    /// The inputs were read: the request comes next.
    pub(super) fn queue_request(&mut self, inputs: Inputs, upstream: &Upstream) {
        self.report_unreadable_inputs(&inputs.unreadable);
        if let Some(warning) = inputs.subject.as_ref().and_then(diagnosis::meant_for_the_api_server) {
            self.reporter.emit(&Event::SubjectTokenWarning { warning: &warning });
        }
        if let Some(path) = self.config.exchange.subject_token_file().filter(|path| is_mounted_version(path))
        {
            let (file, fix) = (&path.display(), &WITHOUT_SUB_PATH);
            self.reporter.emit(&Event::SubjectTokenMountedWithSubPath { file, fix });
        }
        let current = self.current.as_ref().map(|current| current.stored.token.clone());
        self.rotation = upstream.rotation;
        let (config, rotation) = (self.config.clone(), upstream.rotation);
        self.queued = Some(Box::new(Job::Exchange { config, inputs, rotation, current }));
    }

    /// Keeps the issued token, to be written. Returns its lifetime.
    pub(super) fn exchanged(
        &mut self,
        exchanged: Exchanged,
        now: Now,
        upstream: &mut Upstream,
    ) -> Result<Lifetime, FailedExchange> {
        let Exchanged { inputs, rotation, took, result } = exchanged;
        upstream.exchange_ended(took);
        let (issued, lifetime) = result.map_err(|failure| {
            upstream.attempt_failed(&failure, rotation);
            let exchange = &self.config.exchange;
            let subject = inputs.subject.as_ref();
            let causes = diagnosis::causes(failure.code, exchange, subject, now.unix);
            let failure = diagnosis::with_cause(failure, exchange, subject, now.unix);
            FailedExchange { failure, causes }
        })?;
        let current = self.current.as_ref().map(|current| (&current.stored.token, current.lifetime));
        let (on_disk, schedule) = (self.refresher.on_disk(), &self.config.schedule);
        let accepted = adoption::accepted(&issued.token, lifetime, current, on_disk, schedule, now.boot);
        let lifetime = accepted.inspect_err(|failure| upstream.attempt_failed(failure, rotation))?;
        if let Some(issued_token_type) = &issued.differing_type {
            self.reporter.emit(&Event::IssuedTokenTypeDiffers { issued_token_type });
        }
        let claims = issued.claims.unwrap_or_default();
        self.key_check.issued(claims.key_id.as_deref());
        if let Some(expired) = diagnosis::expired_since(&claims, now.unix) {
            self.reporter.emit(&Event::IssuedTokenExpired { expired, fix: &diagnosis::FIX_CLOCKS });
        }
        if let Some((response, token)) = issued.differing_expires_in.zip(claims.lifetime()) {
            self.reporter.emit(&Event::ExpiresInDiffers { response, token });
        }
        let stored = StoredToken {
            expires: claims.expires.or_else(|| stated_expiry(lifetime, now)),
            lifetime: Some(lifetime.length()),
            issued_token_type: issued.issued_type,
            scope: issued.scope.or_else(|| self.config.exchange.field(SCOPE).map(str::to_owned)),
            token: issued.token,
        };
        let (key_id, obtained_at) = (claims.key_id, now.boot);
        self.current =
            Some(CurrentToken { stored, key_id, lifetime, obtained_at, announce_at: Some(now.boot) });
        self.order_outputs();
        Ok(lifetime)
    }

    /// An exchange failed. After the first one the outputs are tried, before the failure is
    /// reported.
    pub(super) fn exchange_failed(
        &mut self,
        failed: FailedExchange,
        now: Now,
        jitter: Jitter,
        upstream: &mut Upstream,
    ) {
        self.is_exchanging = false;
        if !std::mem::replace(&mut self.outputs_tried, true) {
            let config = self.config.clone();
            self.exchanges_before_trial = self.counts.attempts;
            self.queued = Some(Box::new(Job::TryOutputs { config, exchange: failed }));
            return;
        }
        let FailedExchange { failure, causes } = failed;
        self.counts.failed(failure.code, failure.owner());
        let (code, retry_after, inputs) = (failure.code, failure.retry_after, self.inputs);
        upstream.member(self.id).failed(code, retry_after, now.boot, jitter);
        self.refresher.on(Observation::ExchangeFailed { code, retry_after, inputs }, now, jitter);
        self.report(&failure, &causes, self.refresher.due(), now);
    }

    /// Reads a rotated subject token, so that its expiry is known in time for a last exchange.
    pub(super) fn poll_subject_token(&mut self, now: Now, jitter: Jitter) {
        let config = self.config.clone();
        let Some(path) = config.exchange.subject_token_file() else { return };
        let file = Fingerprint(input_file::fingerprint(path));
        if self.current.is_none() || !self.refresher.subject_token_is_new(file) {
            return;
        }
        if input_file::is_unlinked(path) {
            let (file, fix) = (&path.display(), &WITHOUT_SUB_PATH);
            self.reporter.emit(&Event::SubjectTokenRotationInvisible { file, fix });
        }
        if let Ok(content) = input_file::read(path, LARGEST_SUBJECT_TOKEN)
            && let Ok(SubjectToken(token)) = SubjectToken::parse(content, None)
        {
            // One that looks expired is reported when it is to be sent.
            self.note_subject(Claims::peek(&token).as_ref(), now, jitter);
        }
    }

    /// Notes the expiry of the subject token.
    fn note_subject(&mut self, claims: Option<&Claims>, now: Now, jitter: Jitter) {
        let path = self.config.exchange.subject_token_file();
        if let (Some(claims), Some(path)) = (claims, path)
            && let Some(expires) = claims.expires
        {
            let file = Fingerprint(input_file::fingerprint(path));
            let read = Observation::SubjectTokenRead { file, issued: claims.issued, expires };
            self.refresher.on(read, now, jitter);
        }
    }

    /// Notes the expiry of the subject token. One that looks expired is retried for a while, and
    /// then sent all the same, since this node's clock may be wrong.
    pub(super) fn subject_is_usable(
        &mut self,
        inputs: &Inputs,
        now: Now,
        jitter: Jitter,
    ) -> Result<(), Failure> {
        self.note_subject(inputs.subject.as_ref(), now, jitter);
        let expires = inputs.subject.as_ref().and_then(|claims| claims.expires);
        let path = self.config.exchange.subject_token_file();
        match expires.zip(path) {
            Some((expires, path)) if self.refresher.withholds_subject_token(now) => {
                let ago = HumanDuration(now.unix.since(expires));
                let detail = format!("{} expired {ago} ago", path.display());
                Err(Failure::new(Code::SubjectTokenExpired, detail))
            }
            _ => Ok(()),
        }
    }

    /// Reports the inputs that could be read for the exchange before.
    fn report_unreadable_inputs(&mut self, failures: &[Failure]) {
        for failure in failures.iter().filter(|failure| !self.unreadable_inputs.contains(failure)) {
            self.reporter.input_unreadable(failure);
        }
        self.unreadable_inputs = failures.to_vec();
    }
}
