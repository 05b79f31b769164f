//! One Dex: what the tokens that use it share.

use std::time::Duration;

use dexsidecar_core::circuit_breaker::{CircuitBreaker, Member};
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::event::Event;
use dexsidecar_core::failure::{Failure, RetryClass};
use dexsidecar_core::signing_keys::Published;
use dexsidecar_edge::log::Logger;

use crate::job::KeysRead;

/// What is known of one Dex. A new token begins with what the others have found out.
#[derive(Debug, Default)]
pub(crate) struct Upstream {
    pub(crate) breaker: CircuitBreaker,
    /// The index of the address of the endpoint to begin with: the next one after a failure on the
    /// network.
    pub(crate) rotation: usize,
    /// The URL of Dex's published keys, once that is known.
    pub(crate) keys_url: Option<EndpointUrl>,
    /// The published keys are being read.
    pub(crate) reads_keys: bool,
    /// The number of requests to the token endpoint that have ended, and the time that they took
    /// together.
    pub(crate) exchanges_ended: (u64, Duration),
    /// Keys were published since the program started.
    has_published_keys: bool,
    /// It was reported that the keys cannot be compared.
    key_check_suspended: bool,
}

impl Upstream {
    /// The token with this number among those of the process.
    pub(crate) fn member(&mut self, token: usize) -> Member<'_> {
        self.breaker.member(token)
    }

    /// A request to the token endpoint has ended after this time.
    pub(crate) fn exchange_ended(&mut self, took: Duration) {
        let (count, sum) = self.exchanges_ended;
        self.exchanges_ended = (count + 1, sum.saturating_add(took));
    }

    /// An attempt that began with this address has failed, whatever the reason: the next attempt
    /// begins with the next one. Of several attempts that fail together, the first counts.
    pub(crate) const fn rotate_from(&mut self, used: usize) {
        if self.rotation == used {
            self.rotation = used.wrapping_add(1);
        }
    }

    /// An attempt that began with this address has failed.
    pub(crate) fn attempt_failed(&mut self, failure: &Failure, used: usize) {
        if failure.entry().retry != RetryClass::Local {
            self.rotate_from(used);
        }
    }

    /// The published keys were read, or not. A Dex that has published keys before does so again: an
    /// ingress answers 404 while Dex is being replaced, which is when its keys may be lost.
    pub(crate) fn keys_read(&mut self, keys: &mut KeysRead, log: &Logger) {
        self.reads_keys = false;
        self.keys_url.clone_from(&keys.keys_url);
        if self.has_published_keys && keys.published == Ok(Published::NotServed) {
            self.keys_url = None;
            keys.published = Ok(Published::Unknown);
        }
        match &keys.published {
            Ok(Published::NotServed) => {
                self.keys_url = None;
                self.report_suspension("no keys are published beside the token endpoint", log);
            }
            Ok(Published::Keys(_)) => (self.has_published_keys, self.key_check_suspended) = (true, false),
            Ok(Published::Unknown) => {}
            Err(failure) => {
                self.attempt_failed(failure, keys.rotation);
                log.emit(&Event::PublishedKeysUnreadable { error: failure });
            }
        }
    }

    /// Reports that keys cannot be compared, once until they are.
    pub(crate) fn report_suspension(&mut self, cause: &str, log: &Logger) {
        if !std::mem::replace(&mut self.key_check_suspended, true) {
            log.emit(&Event::KeyCheckSuspended { cause: &cause });
        }
    }
}
