//! The configuration of one token: how it is exchanged, when it is refreshed, where it is written.

use std::time::Duration;

use crate::action::Action;
use crate::exchange::Exchange;
use crate::output::Output;
use crate::schedule::Schedule;

/// The name of the token of the environment form, which has no setting for it.
pub const DEFAULT_NAME: &str = "default";

/// The configuration of one token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenConfig {
    /// The name, by which logs and commands refer to the token. Not empty.
    pub name: String,
    /// The request that obtains the token.
    pub exchange: Exchange,
    /// When to refresh.
    pub schedule: Schedule,
    /// The period of the key check, at least 1 s. `None` disables it.
    pub key_check: Option<Duration>,
    /// Where the token is written. Empty only for the command `token`.
    pub outputs: Vec<Output>,
    /// What is done after all outputs hold a new token, in this order.
    pub actions: Vec<Action>,
}

impl TokenConfig {
    /// The name that log lines show. A single token without a name of its own has none, as in the
    /// environment form.
    #[must_use]
    pub fn shown_name(&self, is_one_of_several: bool) -> Option<&str> {
        (is_one_of_several || self.name != DEFAULT_NAME).then_some(&self.name)
    }
}
