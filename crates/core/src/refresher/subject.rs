//! The subject token: when it is used for the last time, and how long an expired one is withheld.

use std::time::Duration;

use super::Fingerprint;
use crate::time::{BootTime, Now, UnixTime};

/// For this long a subject token that looks expired is not sent, because the kubelet may be about
/// to replace it. Then it is sent nevertheless, because this node's clock may be wrong.
const EXPIRED_SUBJECT_GRACE: Duration = Duration::from_secs(30);
/// The lifetime of a subject token without `iat`: the shortest `expirationSeconds` that Kubernetes
/// accepts for a projected ServiceAccount token.
const ASSUMED_SUBJECT_LIFETIME: Duration = Duration::from_secs(600);
/// A subject token is used for the last time this long before its expiry: it leaves one attempt of
/// 15 s and a poll of 5 s. For a short token it is a tenth of the lifetime.
const MAX_SUBJECT_MARGIN: Duration = Duration::from_secs(20);

/// The subject token that was read last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    /// The fingerprint of the file when it was read.
    file: Fingerprint,
    /// `exp` of the token.
    expires: UnixTime,
    /// Shortly before `expires`: an exchange is due then if the token has not been replaced.
    last_use: UnixTime,
    /// The instant at which the token was first found expired. Cleared when it is found valid,
    /// which happens after a clock step.
    expired_since: Option<BootTime>,
    /// The exchange at `last_use` was made due, or an exchange came after `last_use`.
    last_use_done: bool,
}

impl Subject {
    /// The subject token as it was read now. `known` is the one that was read before.
    pub(super) fn read(
        known: Option<Self>,
        file: Fingerprint,
        issued: Option<UnixTime>,
        expires: UnixTime,
        now: Now,
    ) -> Self {
        let known = known.filter(|subject| subject.file == file && subject.expires == expires);
        let mut subject = known.unwrap_or_else(|| {
            let length = issued.map_or(ASSUMED_SUBJECT_LIFETIME, |issued| expires.since(issued));
            let margin = (length / 10).min(MAX_SUBJECT_MARGIN);
            Self { file, expires, last_use: expires - margin, expired_since: None, last_use_done: false }
        });
        if expires > now.unix {
            subject.expired_since = None;
        } else {
            subject.expired_since.get_or_insert(now.boot);
        }
        if now.unix >= subject.last_use {
            // The exchange that is about to be made is the last use.
            subject.last_use_done = true;
        }
        subject
    }

    /// True while the token looks expired and is not to be sent yet.
    pub(super) fn is_withheld(&self, now: BootTime) -> bool {
        self.expired_since.is_some_and(|since| now.since(since) < EXPIRED_SUBJECT_GRACE)
    }

    /// True if the file, which has this fingerprint now, was replaced since it was read.
    pub(super) fn is_replaced_by(&self, file: Fingerprint) -> bool {
        self.file != file
    }

    /// `exp` of the token.
    pub(super) const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// True if the token looked expired when it was read.
    pub(super) const fn looks_expired(&self) -> bool {
        self.expired_since.is_some()
    }

    /// True once: when the last use of the token has come.
    pub(super) fn take_last_use(&mut self, now: UnixTime) -> bool {
        let due = !self.last_use_done && now >= self.last_use && now < self.expires;
        self.last_use_done |= due;
        due
    }

    /// The instant of the last use, if it is to come.
    pub(super) fn deadline(&self, now: Now) -> Option<BootTime> {
        let to_come = !self.last_use_done && self.last_use > now.unix;
        to_come.then(|| now.boot + now.unix.until(self.last_use))
    }
}
