//! The key check: compares the keys that Dex publishes with the key of the token on disk.

use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::TokenEndpoint;
use dexsidecar_core::failure::{Failure, plain};
use dexsidecar_core::key_check::Finding;
use dexsidecar_core::refresher::Observation;
use dexsidecar_core::signing_keys::Published;

use super::{Agent, first, job};

/// How much of a key's id is logged, in characters.
const LONGEST_KEY_ID: usize = 64;

impl<E: TokenEndpoint + 'static> Agent<E> {
    /// Starts to read the published keys.
    pub(super) fn start_key_check(&mut self) {
        let Some(key_id) = self.current.as_ref().and_then(|current| current.key_id.clone()) else {
            return self.suspend_key_check("the token does not name its signing key");
        };
        let (config, endpoint) = (self.config.clone(), self.endpoint.clone());
        self.jobs.key_check =
            Some(job::read_keys(config, endpoint, self.rotation, key_id, self.keys_url.clone()));
    }

    /// Compares the published keys with the key that signed the token on disk.
    pub(super) fn keys_read(&mut self, key_id: &str, published: Result<Published, Failure>) {
        let now = self.clock.now();
        let published = match published {
            // A token that was issued meanwhile is checked in its turn.
            _ if self.current.as_ref().is_none_or(|current| current.key_id.as_deref() != Some(key_id)) => {
                return self.on(Observation::KeyCheckDone);
            }
            Ok(published) => published,
            Err(failure) => {
                self.rotate_address(&failure);
                self.reporter.emit(&Event::PublishedKeysUnreadable { error: &failure });
                Published::Unknown
            }
        };
        let found = match published {
            Published::Keys(published) => self.key_check.compare(published, key_id, now.boot),
            Published::Unknown => return self.on(Observation::KeyCheckDone),
            Published::NotServed => {
                return self.suspend_key_check("no keys are published beside the token endpoint");
            }
        };
        let key = plain(key_id, LONGEST_KEY_ID);
        match found {
            Finding::Present => self.on(Observation::KeyCheckDone),
            Finding::Gone => {
                self.on(Observation::SigningKeyGone);
                let refresh_in = now.boot.until(self.refresher.due());
                self.reporter.emit(&Event::SigningKeyNotPublished { key: &key, refresh_in });
            }
            Finding::Inconclusive { first } => {
                self.on(Observation::KeyCheckInconclusive);
                if first {
                    let cause =
                        &"a cache in front of Dex's keys, or several Dex replicas with memory storage";
                    self.reporter.emit(&Event::NewSigningKeyNotPublished { key: &key, cause });
                }
            }
        }
    }

    fn suspend_key_check(&mut self, cause: &str) {
        self.on(Observation::KeyCheckSuspended);
        self.keys_url = None;
        if first(&mut self.once.key_check_suspended) {
            self.reporter.emit(&Event::KeyCheckSuspended { cause: &cause });
        }
    }
}
