//! The key check of a token: compares the keys that Dex publishes with the key of the token on
//! disk.

use dexsidecar_core::event::Event;
use dexsidecar_core::failure::plain;
use dexsidecar_core::key_check::Finding;
use dexsidecar_core::refresher::Observation;
use dexsidecar_core::signing_keys::Published;
use dexsidecar_core::time::{Jitter, Now};

use super::Token;
use crate::job::{Job, KeysRead};
use crate::upstream::Upstream;

/// How much of a key's id is logged, in characters.
const LONGEST_KEY_ID: usize = 64;

impl Token {
    /// Starts to read the published keys, unless they are being read already.
    pub(super) fn start_key_check(
        &mut self,
        now: Now,
        jitter: Jitter,
        upstream: &mut Upstream,
    ) -> Option<Job> {
        if self.current.as_ref().is_none_or(|current| current.key_id.is_none()) {
            upstream.keys_url = None;
            upstream.report_suspension("the token does not name its signing key", self.reporter.log());
            self.refresher.on(Observation::KeyCheckSuspended, now, jitter);
            return None;
        }
        self.awaits_keys = true;
        (!std::mem::replace(&mut upstream.reads_keys, true)).then(|| Job::ReadKeys {
            endpoint: self.config.exchange.endpoint.url.clone(),
            rotation: upstream.rotation,
            keys_url: upstream.keys_url.clone(),
            started: now.boot,
        })
    }

    /// Compares the published keys with the key that signed the token on disk. They also serve a
    /// token whose check is planned for later, so that the keys of a Dex are read once for all its
    /// tokens.
    pub(crate) fn keys_read(&mut self, keys: &KeysRead, now: Now, jitter: Jitter) {
        let is_due = std::mem::take(&mut self.awaits_keys);
        // A token that was issued meanwhile is checked in its turn.
        let current = self.current.as_ref().filter(|current| current.obtained_at < keys.started);
        let key_id = current.and_then(|current| current.key_id.clone());
        let Some(key_id) = key_id.filter(|_| is_due || self.refresher.may_compare_keys()) else {
            if is_due {
                self.refresher.on(Observation::KeyCheckDone, now, jitter);
            }
            return;
        };
        let published = match &keys.published {
            Ok(Published::Keys(published)) => published.clone(),
            Ok(Published::Unknown) | Err(_) => {
                return self.refresher.on(Observation::KeyCheckDone, now, jitter);
            }
            Ok(Published::NotServed) => {
                return self.refresher.on(Observation::KeyCheckSuspended, now, jitter);
            }
        };
        let key = plain(&key_id, LONGEST_KEY_ID);
        match self.key_check.compare(published, &key_id, now.boot) {
            Finding::Present => self.refresher.on(Observation::KeyCheckDone, now, jitter),
            Finding::Gone => {
                self.refresher.on(Observation::SigningKeyGone, now, jitter);
                let refresh_in = now.boot.until(self.refresher.due());
                self.reporter.emit(&Event::SigningKeyNotPublished { key: &key, refresh_in });
            }
            Finding::Inconclusive { first } => {
                self.refresher.on(Observation::KeyCheckInconclusive, now, jitter);
                if first {
                    let cause =
                        &"a cache in front of Dex's keys, or several Dex replicas with memory storage";
                    self.reporter.emit(&Event::NewSigningKeyNotPublished { key: &key, cause });
                }
            }
        }
    }
}
