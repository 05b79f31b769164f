//! One Dex: what the tokens that use it share.

use std::rc::Rc;

use dexsidecar_core::circuit_breaker::{CircuitBreaker, Slot};
use dexsidecar_core::endpoint_url::EndpointUrl;

/// One Dex, with its client.
#[derive(Debug)]
pub(crate) struct Upstream<E> {
    pub(crate) client: Rc<E>,
    pub(crate) state: UpstreamState,
}

impl<E> Upstream<E> {
    pub(crate) fn new(client: E) -> Self {
        Self { client: Rc::new(client), state: UpstreamState::default() }
    }
}

/// What is known of one Dex. No token has this to itself: a new token begins with what the others
/// have found out.
#[derive(Debug, Default)]
pub(crate) struct UpstreamState {
    pub(crate) breaker: CircuitBreaker,
    /// The index of the address of the endpoint to begin with: the next one after a failure on the
    /// network.
    pub(crate) rotation: usize,
    /// The URL of Dex's published keys, once that is known.
    pub(crate) keys_url: Option<EndpointUrl>,
    /// It was reported that the keys cannot be compared.
    pub(crate) key_check_suspended: bool,
}

impl UpstreamState {
    /// The share of this token in the attempts.
    pub(crate) fn slot(&mut self, token: usize) -> Slot<'_> {
        self.breaker.slot(token)
    }

    /// The next attempt begins with the next address of the host.
    pub(crate) const fn rotate(&mut self) {
        self.rotation = self.rotation.wrapping_add(1);
    }
}
