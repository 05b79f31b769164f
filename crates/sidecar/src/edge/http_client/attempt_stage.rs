//! How far an attempt has come, for the words of a failure when time runs out.

use std::cell::RefCell;
use std::fmt;

use dexsidecar_core::failure::{self, Owner};

/// What is being waited for, and from whom.
#[derive(Debug, Default)]
pub(super) enum Step {
    /// Nothing yet.
    #[default]
    Beginning,
    /// The addresses of this name.
    Resolving(String),
    /// One of these addresses.
    Connecting(String),
    /// This proxy's tunnel.
    Tunnelling(String),
    /// The other half of a TLS handshake.
    Handshaking(String),
    /// The answer.
    Answering(String),
}

/// The step an attempt is at.
#[derive(Debug, Default)]
pub(super) struct Progress(RefCell<Step>);

impl Progress {
    /// An attempt that begins there.
    pub(super) const fn new(step: Step) -> Self {
        Self(RefCell::new(step))
    }

    /// Who owns a time-out at this step.
    pub(super) fn owner(&self) -> Owner {
        match &*self.0.borrow() {
            Step::Beginning | Step::Answering(_) => Owner::DexOperator,
            Step::Resolving(_) | Step::Connecting(_) | Step::Tunnelling(_) | Step::Handshaking(_) => {
                Owner::Network
            }
        }
    }

    /// The step of `check` that a time-out belongs to.
    pub(super) fn step(&self) -> failure::Step {
        match &*self.0.borrow() {
            Step::Resolving(_) => failure::Step::Dns,
            Step::Connecting(_) | Step::Tunnelling(_) => failure::Step::Tcp,
            Step::Handshaking(_) => failure::Step::Tls,
            Step::Beginning | Step::Answering(_) => failure::Step::Exchange,
        }
    }

    /// From now on it is at this step.
    pub(super) fn reached(&self, step: Step) {
        self.0.replace(step);
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0.borrow() {
            Step::Beginning => f.write_str("before it began"),
            Step::Resolving(host) => write!(f, "while looking up {host}"),
            Step::Connecting(to) => write!(f, "while connecting to {to}"),
            Step::Tunnelling(proxy) => write!(f, "while the proxy {proxy} was making a tunnel"),
            Step::Handshaking(peer) => write!(f, "in the TLS handshake with {peer}"),
            Step::Answering(peer) => write!(f, "while waiting for the answer of {peer}"),
        }
    }
}
