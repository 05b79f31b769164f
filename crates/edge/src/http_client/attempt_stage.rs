//! The stage that an attempt has reached, for the message and the owner of a timeout.

use std::cell::{Cell, RefCell};
use std::fmt;

use dexsidecar_core::failure::{Code, Owner, Step};

use super::tunnel;

/// What an attempt is waiting for.
#[derive(Debug, Default)]
pub(super) enum Stage {
    /// Nothing yet.
    #[default]
    Start,
    /// The addresses of this name, with the errors so far.
    Resolving(String),
    /// A connection to one of these addresses.
    Connecting(String),
    /// A tunnel through this proxy.
    Tunnelling(String),
    /// The TLS handshake with this peer.
    Handshaking(String),
    /// The response of this peer.
    AwaitingResponse(String),
}

/// The stage of an attempt, shared by its parts.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stage: RefCell<Stage>,
    /// The variable that names the proxy, while the connection to the proxy is made.
    proxy: Cell<Option<&'static str>>,
}

impl Progress {
    /// Starts at this stage.
    pub(super) const fn new(stage: Stage) -> Self {
        Self { stage: RefCell::new(stage), proxy: Cell::new(None) }
    }

    /// The owner of a timeout at this stage.
    pub(super) fn owner(&self) -> Owner {
        match &*self.stage.borrow() {
            Stage::Start | Stage::AwaitingResponse(_) => Owner::DexOperator,
            Stage::Resolving(_) | Stage::Connecting(_) | Stage::Tunnelling(_) | Stage::Handshaking(_) => {
                Owner::Network
            }
        }
    }

    /// The step of `check` to which a timeout at this stage belongs.
    pub(super) fn step(&self) -> Step {
        match &*self.stage.borrow() {
            Stage::Resolving(_) => Step::Dns,
            Stage::Connecting(_) | Stage::Tunnelling(_) => Step::Tcp,
            Stage::Handshaking(_) => Step::Tls,
            Stage::Start | Stage::AwaitingResponse(_) => Step::Exchange,
        }
    }

    /// What to do about a timeout at this stage; nothing if the fix of the table is right.
    pub(super) fn fix(&self) -> Option<&'static str> {
        match &*self.stage.borrow() {
            Stage::Start | Stage::AwaitingResponse(_) => None,
            Stage::Resolving(_) | Stage::Connecting(_) if self.proxy.get().is_some() => {
                Some(tunnel::FIX_UNREACHABLE)
            }
            Stage::Resolving(_) => Some(Code::NameLookupFailed.entry().fix),
            Stage::Connecting(_) => Some(Code::ConnectFailed.entry().fix),
            Stage::Tunnelling(_) => Some(
                "check the scheme of the proxy in the named variable, its load, and whether it reaches Dex",
            ),
            Stage::Handshaking(_) => Some(Code::TlsFailed.entry().fix),
        }
    }

    /// Enters this stage.
    pub(super) fn enter(&self, stage: Stage) {
        self.stage.replace(stage);
    }

    /// The next connection is one to the proxy that this variable names, or to the server itself.
    pub(super) fn connect_to_proxy(&self, variable: Option<&'static str>) {
        self.proxy.set(variable);
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.stage.borrow() {
            Stage::Start => f.write_str("before the first step"),
            Stage::Resolving(host) => write!(f, "during the DNS lookup of {host}"),
            Stage::Connecting(to) => write!(f, "while connecting to {to}"),
            Stage::Tunnelling(proxy) => write!(f, "while waiting for a tunnel through the proxy {proxy}"),
            Stage::Handshaking(peer) => write!(f, "during the TLS handshake with {peer}"),
            Stage::AwaitingResponse(peer) => write!(f, "while waiting for the response from {peer}"),
        }?;
        match self.proxy.get() {
            Some(variable) => write!(f, ", the proxy of {variable}"),
            None => Ok(()),
        }
    }
}
