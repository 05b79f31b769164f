//! The key check: asks Dex for its published keys and compares them with the key of the token on disk.

use dexsidecar_core::duration::Human;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::{Answer, Request, TokenEndpoint};
use dexsidecar_core::failure::plain;
use dexsidecar_core::key_check::Finding;
use dexsidecar_core::keys::{self, Discovery, Published};

use super::{Agent, first};
use crate::edge::chance;

/// How much of a key's id is logged, in characters.
const LONGEST_KEY_ID: usize = 64;

impl<E: TokenEndpoint> Agent<E> {
    /// Compares the published keys with the key that signed the token on disk.
    pub(super) async fn check_keys(&mut self) {
        let Some(key_id) = self.held.as_ref().and_then(|held| held.key_id.clone()) else {
            self.keys_rest("the token does not name its key");
            return;
        };
        let published = match self.published_keys().await {
            Some(answer) => keys::published(&answer),
            None => Published::Unknown,
        };
        let now = self.clock.now();
        let found = match published {
            Published::Keys(published) => self.key_check.compare(published, &key_id, now.boot),
            Published::Unknown => return self.refresher.keys_checked(now, chance::jitter()),
            Published::Nowhere => return self.keys_rest("no keys are published beside the token endpoint"),
        };
        let key = plain(&key_id, LONGEST_KEY_ID);
        match found {
            Finding::Published => self.refresher.keys_checked(now, chance::jitter()),
            Finding::Lost => {
                self.refresher.keys_lost(now, chance::jitter());
                let due = now.boot.until(self.refresher.due());
                self.status.log().warn(
                    "Dex no longer publishes the signing key of the token on disk: refreshing the token",
                    &[("key", &key), ("in", &Human(due))],
                );
            }
            Finding::Unproven { first } => {
                self.refresher.keys_prove_nothing(now, chance::jitter());
                if first {
                    let why = "a cache in front of Dex's keys, or several Dex replicas with memory storage";
                    self.status.log().warn(
                        "Dex does not publish the signing key of a new token either: not refreshing it for that",
                        &[("key", &key), ("likely_cause", &why)],
                    );
                }
            }
        }
    }

    fn keys_rest(&mut self, why: &str) {
        self.refresher.keys_rest();
        self.keys_url = None;
        if first(&mut self.said.no_keys) {
            self.status
                .log()
                .info("the key check rests: a Dex that loses its keys will not be noticed", &[("why", &why)]);
        }
    }

    /// The answer with the keys; nothing when none came. Where they are is asked once.
    async fn published_keys(&mut self) -> Option<Answer> {
        if self.keys_url.is_none() {
            let discovery = match keys::discovery_url(&self.config.endpoint) {
                Some(url) => Discovery::read(&self.get(url).await?),
                None => None,
            };
            self.keys_url = keys::keys_url(&self.config.endpoint, discovery.as_ref());
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
                self.turn(&failure);
                self.status.log().debug("Dex's published keys could not be read", &[("why", &failure)]);
                None
            }
        }
    }
}
