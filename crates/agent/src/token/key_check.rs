//! The key check of a token: compares the keys that Dex publishes with the key of the token on
//! disk.

use dexsidecar_core::event::Event;
use dexsidecar_core::failure::{RetryClass, plain};
use dexsidecar_core::key_check::Finding;
use dexsidecar_core::refresher::Observation;
use dexsidecar_core::signing_keys::Published;
use dexsidecar_core::time::{Jitter, Now};
use dexsidecar_edge::log::Logger;

use super::Token;
use super::once::first;
use crate::job::{Job, KeysRead};
use crate::upstream::UpstreamState;

/// How much of a key's id is logged, in characters.
const LONGEST_KEY_ID: usize = 64;

impl UpstreamState {
    /// The published keys were read, or not.
    pub(crate) fn keys_read(&mut self, keys: &KeysRead, log: &Logger) {
        self.keys_url.clone_from(&keys.keys_url);
        match &keys.published {
            Ok(Published::NotServed) => {
                self.keys_url = None;
                self.report_suspension("no keys are published beside the token endpoint", log);
            }
            Ok(_) => {}
            Err(failure) => {
                if failure.entry().retry != RetryClass::Local {
                    self.rotate();
                }
                log.emit(&Event::PublishedKeysUnreadable { error: failure });
            }
        }
    }

    fn report_suspension(&mut self, cause: &str, log: &Logger) {
        if first(&mut self.key_check_suspended) {
            log.emit(&Event::KeyCheckSuspended { cause: &cause });
        }
    }
}

impl Token {
    /// Starts to read the published keys.
    pub(super) fn start_key_check(
        &mut self,
        now: Now,
        jitter: Jitter,
        upstream: &mut UpstreamState,
    ) -> Option<Job> {
        let Some(key_id) = self.current.as_ref().and_then(|current| current.key_id.clone()) else {
            upstream.keys_url = None;
            upstream.report_suspension("the token does not name its signing key", self.reporter.log());
            self.refresher.on(Observation::KeyCheckSuspended, now, jitter);
            return None;
        };
        Some(Job::ReadKeys {
            endpoint: self.config.exchange.endpoint.url.clone(),
            rotation: upstream.rotation,
            keys_url: upstream.keys_url.clone(),
            key_id,
            started: now.boot,
        })
    }

    /// Compares the published keys with the key that signed the token on disk. The keys were
    /// requested for this token if `is_due`. They also serve a token whose check is planned for
    /// later, so that the keys of a Dex are read once for all its tokens.
    pub(crate) fn keys_read(&mut self, keys: &KeysRead, is_due: bool, now: Now, jitter: Jitter) {
        let Some(current) = self.current.as_ref().filter(|_| is_due || self.refresher.may_compare_keys())
        else {
            return self.key_check_ended(is_due, now, jitter);
        };
        // A token that was issued meanwhile is checked in its turn.
        let is_older = current.lifetime.issued < keys.started;
        let key_id =
            current.key_id.clone().filter(|key_id| if is_due { *key_id == keys.key_id } else { is_older });
        let Some(key_id) = key_id else { return self.key_check_ended(is_due, now, jitter) };
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

    /// Nothing was compared.
    fn key_check_ended(&mut self, is_due: bool, now: Now, jitter: Jitter) {
        if is_due {
            self.refresher.on(Observation::KeyCheckDone, now, jitter);
        }
    }
}
