//! The key check: asks Dex for its published keys and compares them with the key of the token on
//! disk.

use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::{Answer, Request, TokenEndpoint};
use dexsidecar_core::failure::plain;
use dexsidecar_core::key_check::Finding;
use dexsidecar_core::signing_keys::{self, Discovery, Published};

use super::{Agent, first};
use crate::edge::random;

/// How much of a key's id is logged, in characters.
const LONGEST_KEY_ID: usize = 64;

impl<E: TokenEndpoint> Agent<E> {
    /// Compares the published keys with the key that signed the token on disk.
    pub(super) async fn check_keys(&mut self) {
        let Some(key_id) = self.current.as_ref().and_then(|current| current.key_id.clone()) else {
            self.suspend_key_check("the token does not name its signing key");
            return;
        };
        let published = match self.published_keys().await {
            Some(answer) => signing_keys::published(&answer),
            None => Published::Unknown,
        };
        let now = self.clock.now();
        let found = match published {
            Published::Keys(published) => self.key_check.compare(published, &key_id, now.boot),
            Published::Unknown => return self.refresher.key_check_done(now, random::jitter()),
            Published::NotServed => {
                return self.suspend_key_check("no keys are published beside the token endpoint");
            }
        };
        let key = plain(&key_id, LONGEST_KEY_ID);
        match found {
            Finding::Present => self.refresher.key_check_done(now, random::jitter()),
            Finding::Gone => {
                self.refresher.signing_key_gone(now, random::jitter());
                let refresh_in = now.boot.until(self.refresher.due());
                self.reporter.emit(&Event::SigningKeyNotPublished { key: &key, refresh_in });
            }
            Finding::Inconclusive { first } => {
                self.refresher.key_check_inconclusive(now, random::jitter());
                if first {
                    let cause =
                        &"a cache in front of Dex's keys, or several Dex replicas with memory storage";
                    self.reporter.emit(&Event::NewSigningKeyNotPublished { key: &key, cause });
                }
            }
        }
    }

    fn suspend_key_check(&mut self, cause: &str) {
        self.refresher.suspend_key_check();
        self.keys_url = None;
        if first(&mut self.once.key_check_suspended) {
            self.reporter.emit(&Event::KeyCheckSuspended { cause: &cause });
        }
    }

    /// The response with the keys; nothing when there was none. Their URL is read from the
    /// discovery document once.
    async fn published_keys(&mut self) -> Option<Answer> {
        if self.keys_url.is_none() {
            let discovery = match signing_keys::discovery_url(&self.config.endpoint) {
                Some(url) => Discovery::read(&self.get(url).await?),
                None => None,
            };
            self.keys_url = signing_keys::keys_url(&self.config.endpoint, discovery.as_ref());
        }
        let Some(url) = self.keys_url.clone() else {
            return Some(Answer { status: 404, ..Answer::default() });
        };
        self.get(url).await
    }

    async fn get(&mut self, url: EndpointUrl) -> Option<Answer> {
        let request = Request { url, authorization: None, form: None };
        match self.endpoint.send(&request, self.rotation).await {
            Ok(answer) => Some(answer),
            Err(failure) => {
                self.rotate_address(&failure);
                self.reporter.emit(&Event::PublishedKeysUnreadable { error: &failure });
                None
            }
        }
    }
}
