//! One output: the token that it holds, and the token that is to be written to it.

use std::time::Duration;

use super::Lifetime;
use super::on_disk::{FOUND, OnDisk};
use super::pending::Pending;
use super::spacing::spaced;
use crate::time::{BootTime, Now, UnixTime};

/// While another process keeps writing valid tokens, the output is restored at most once in this
/// time (F87).
pub(super) const MIN_BETWEEN_RESTORES: Duration = Duration::from_secs(60);
/// The report of an expiry waits so long for a write that has begun (P11).
const WRITE_BEFORE_EXPIRY: Duration = Duration::from_secs(1);

/// One output.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The token on disk. Set when a token is written, adopted or found. Never cleared.
    on_disk: Option<OnDisk>,
    /// The token to be written. Set by an exchange, and by a restore. Cleared when it is written,
    /// discarded or expired, and when another process's token is kept.
    pending: Option<Pending>,
    /// The token that is being written: from [`super::Decision::Publish`] until the outcome is
    /// reported.
    writing: Option<Pending>,
    /// The instant of the last [`super::Decision::Publish`].
    write_started: BootTime,
    /// Failed writes in a row. Cleared by a written token, an issued token and another process's
    /// token.
    failed: u32,
    /// The instant at which the pending token is to be written. Without one it has no meaning.
    due: BootTime,
    /// The instant of the last restore; it is in the future while the restore is delayed.
    restore_at: Option<BootTime>,
}

impl Delivery {
    pub(super) const fn new(now: BootTime) -> Self {
        Self {
            on_disk: None,
            pending: None,
            writing: None,
            write_started: now,
            failed: 0,
            due: now,
            restore_at: None,
        }
    }

    /// A new output, which gets this token at once.
    pub(super) const fn of(token: Option<Pending>, now: BootTime) -> Self {
        let mut new = Self::new(now);
        new.pending = token;
        new
    }

    /// The token that each output has or gets: one that was issued and waits to be written, or else
    /// the newest one on disk, if that is valid.
    pub(super) fn current(outputs: &[Self], now: BootTime) -> Option<Pending> {
        let waiting = outputs.iter().flat_map(|delivery| [delivery.pending, delivery.writing]).flatten();
        let issued = waiting.filter(|pending| !pending.is_restore).max_by_key(|pending| pending.number);
        let on_disk = outputs.iter().filter_map(|delivery| delivery.on_disk);
        let newest = on_disk.max_by_key(OnDisk::newness).filter(|token| token.is_valid(now));
        issued.or_else(|| newest.map(|token| token.pending(false)))
    }

    /// The write in flight was given up without an outcome: it is due again.
    pub(super) fn interrupted(mut self, now: BootTime) -> Self {
        if let Some(writing) = self.writing.take() {
            self.pending = self.pending.or(Some(writing));
            self.due = now;
        }
        self
    }

    /// The token on disk.
    pub(super) const fn token(&self) -> Option<OnDisk> {
        self.on_disk
    }

    /// The lifetime of the token on disk.
    pub(super) fn on_disk(&self) -> Option<Lifetime> {
        self.on_disk.map(|token| token.lifetime)
    }

    /// The number of the token on disk.
    pub(super) fn number(&self) -> u32 {
        self.on_disk.map_or(FOUND, |token| token.number)
    }

    /// True if this token, or a newer one, is on disk and valid.
    pub(super) fn holds(&self, number: u32, now: BootTime) -> bool {
        self.on_disk.is_some_and(|token| token.number >= number && token.is_valid(now))
    }

    /// A token was found on disk at startup.
    pub(super) const fn adopted(&mut self, lifetime: Lifetime, expires: UnixTime) {
        self.on_disk = Some(OnDisk::found(lifetime, expires, FOUND));
    }

    /// Another process has written a newer token, which is kept. It gets this number.
    pub(super) const fn replaced(&mut self, lifetime: Lifetime, expires: UnixTime, number: u32) {
        self.pending = None;
        self.failed = 0;
        self.on_disk = Some(OnDisk::found(lifetime, expires, number));
    }

    /// A token was issued: its write is due at once.
    pub(super) const fn issued(&mut self, lifetime: Lifetime, number: u32, now: BootTime) {
        self.pending = Some(Pending { lifetime, number, wall_expiry: None, is_restore: false });
        self.due = now;
        self.failed = 0;
    }

    /// Another output holds this token, and this one does not.
    pub(super) const fn copy(&mut self, token: OnDisk, now: BootTime) {
        self.pending = Some(token.pending(false));
        self.due = now;
        self.failed = 0;
    }

    /// There is no token to write.
    pub(super) const fn discard(&mut self) {
        self.pending = None;
        self.writing = None;
    }

    /// The token that was being written is on disk. Returns it, unless it is a restored one: that
    /// changes no plan.
    pub(super) fn written(&mut self, now: BootTime) -> Option<Pending> {
        let written = self.writing.take().or_else(|| self.pending.take())?;
        self.failed = 0;
        if written.is_restore {
            // The write began before the expiry and ended after it: the file holds an expired token
            // again.
            if let Some(token) = &mut self.on_disk {
                token.expiry_reported &= written.lifetime.remaining(now).is_some();
            }
            return None;
        }
        self.on_disk = Some(OnDisk::written(written));
        Some(written)
    }

    /// A write failed. The token stays pending, unless a token that was issued meanwhile replaces
    /// it. Returns the number of failed writes in a row.
    pub(super) fn write_failed(&mut self) -> u32 {
        let failed = self.writing.take();
        self.pending = self.pending.or(failed);
        self.failed = self.failed.saturating_add(1);
        self.failed
    }

    /// The next write is made at this instant.
    pub(super) const fn retry_at(&mut self, due: BootTime) {
        self.due = due;
    }

    /// The instant of the next write, if a token is to be written.
    pub(super) fn write_due(&self) -> Option<BootTime> {
        self.pending.filter(|_| self.writing.is_none()).map(|_| self.due)
    }

    /// The instant of the next restore, if one is planned.
    pub(super) fn restore_due(&self) -> Option<BootTime> {
        self.pending.filter(|pending| pending.is_restore).map(|_| self.due)
    }

    /// The output was modified by another process, and holds another valid token or not. A restore
    /// is planned or brought forward if the token that was on disk is still valid.
    pub(super) fn modified(&mut self, by_valid_token: bool, now: BootTime) {
        let Some(token) = self.on_disk.filter(|token| token.is_valid(now)) else { return };
        if let Some(Pending { is_restore, .. }) = self.pending {
            // A restore that is delayed because of another valid token is due at once when that
            // token is gone.
            if is_restore && self.failed == 0 && self.due > now && !by_valid_token {
                self.due = now;
            }
            return;
        }
        if self.writing.is_some() {
            return;
        }
        // A delayed restore may have been overtaken by a new token.
        let ready = spaced(self.restore_at.filter(|_| by_valid_token), MIN_BETWEEN_RESTORES, now);
        self.restore_at = Some(ready);
        self.pending = Some(token.pending(true));
        self.due = ready;
    }

    /// Removes and returns the pending token if it has expired.
    pub(super) fn take_expired(&mut self, now: BootTime) -> Option<Pending> {
        self.pending.take_if(|pending| pending.lifetime.remaining(now).is_none())
    }

    /// Starts the write of the pending token if it is due.
    pub(super) fn start_write(&mut self, now: BootTime) -> bool {
        let starts = self.pending.is_some() && self.due <= now && self.writing.is_none();
        if starts {
            self.writing = self.pending.take();
            self.write_started = now;
        }
        starts
    }

    /// The lifetime of the token on disk, if it has just expired: once for each token.
    pub(super) fn take_expiry(&mut self, now: BootTime) -> Option<Lifetime> {
        let reported_at = self.report_expiry_at();
        let token = self.on_disk.as_mut().filter(|token| !token.is_valid(now) && !token.expiry_reported)?;
        token.expiry_reported = now >= reported_at;
        token.expiry_reported.then_some(token.lifetime)
    }

    /// Before this instant no expiry is reported: a new token is being written, and a write that
    /// does not hang replaces the expired one.
    fn report_expiry_at(&self) -> BootTime {
        let replaces = self.writing.is_some_and(|writing| !writing.is_restore);
        self.write_started + if replaces { WRITE_BEFORE_EXPIRY } else { Duration::ZERO }
    }

    /// The instant at which the expiry has to be reported.
    pub(super) fn expiry_due(&self) -> Option<BootTime> {
        let token = self.on_disk.filter(|token| !token.expiry_reported)?;
        Some(token.lifetime.expires.max(self.report_expiry_at()))
    }

    /// The wall clock was stepped. Returns true if that makes the expiry of the token on disk
    /// earlier.
    pub(super) fn clock_stepped(&mut self, now: Now) -> bool {
        for waiting in [&mut self.pending, &mut self.writing].into_iter().flatten() {
            waiting.lifetime.end_with(waiting.wall_expiry, now);
        }
        self.on_disk.as_mut().is_some_and(|token| token.lifetime.end_with(token.wall_expiry, now))
    }

    /// False while a pending token cannot be written: another token could not be written either. A
    /// delayed restore does not prevent an exchange, because its token may be near its expiry.
    pub(super) fn can_be_written(&self) -> bool {
        match self.pending.or(self.writing) {
            None => true,
            Some(Pending { is_restore, .. }) => is_restore && self.failed == 0,
        }
    }

    /// True if a token is to be written, or is being written.
    pub(super) const fn is_busy(&self) -> bool {
        self.pending.is_some() || self.writing.is_some()
    }

    /// True if the last write failed.
    pub(super) const fn has_failed(&self) -> bool {
        self.failed > 0
    }
}
