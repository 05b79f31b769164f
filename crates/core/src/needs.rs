//! The rights that the process must keep once it knows its configuration.

use crate::action::Action;
use crate::config::{Config, TokenConfig};
use crate::output::Output;

/// The rights that a configuration needs. All others are given up before the first exchange, and
/// cannot be regained.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Needs {
    /// To execute files. Nothing at all is given up then, since a command would inherit it.
    pub execute: bool,
    /// To bind TCP ports and to create Unix sockets.
    pub bind: bool,
    /// To create directories.
    pub make_directories: bool,
    /// To send signals to other processes.
    pub signal: bool,
}

impl Needs {
    /// What this configuration needs: what at least one of its tokens needs.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        // Without `..`, here and below: a new setting does not compile until its needs are decided.
        // The listener is bound before any right is given up.
        let Config { tokens, listen: _, termination_log: _, min_ttl: _, timeout: _, log: _, warnings: _ } =
            config;
        tokens.iter().map(Self::of_token).fold(Self::default(), Self::or)
    }

    fn of_token(token: &TokenConfig) -> Self {
        Self::of_keys(token).map(|(_, needs)| needs).fold(Self::default(), Self::or)
    }

    /// What each key of a token needs, with its path in the token: `on_update[0].exec`.
    pub fn of_keys(token: &TokenConfig) -> impl Iterator<Item = (String, Self)> {
        let TokenConfig { name: _, exchange: _, schedule: _, key_check: _, outputs, actions } = token;
        let of_output =
            |(index, output)| (format!("outputs[{index}].create_directories"), Self::of_output(output));
        let of_action = |(index, action): (usize, &Action)| {
            (format!("on_update[{index}].{}", action.kind()), Self::of_action(action))
        };
        outputs.iter().enumerate().map(of_output).chain(actions.iter().enumerate().map(of_action))
    }

    const fn of_output(output: &Output) -> Self {
        let Output {
            path: _,
            create_directories,
            format: _,
            mode: _,
            group: _,
            write_mode: _,
            remove_expired: _,
        } = output;
        Self { execute: false, bind: false, make_directories: *create_directories, signal: false }
    }

    const fn of_action(action: &Action) -> Self {
        let none = Self { execute: false, bind: false, make_directories: false, signal: false };
        match action {
            Action::Http(_) => none,
            Action::Signal(_) => Self { signal: true, ..none },
            // A command inherits what this process gives up, and may need any of it.
            Action::Exec(_) => Self { execute: true, bind: true, make_directories: true, signal: true },
        }
    }

    /// The rights among these that are not among those that were kept, each as "to execute files".
    pub fn missing_from(self, kept: Self) -> impl Iterator<Item = &'static str> {
        let rights = [
            (self.execute && !kept.execute, "execute files"),
            (self.bind && !kept.bind, "bind ports"),
            (self.make_directories && !kept.make_directories, "create directories"),
            (self.signal && !kept.signal, "send signals"),
        ];
        rights.into_iter().filter(|(is_missing, _)| *is_missing).map(|(_, right)| right)
    }

    /// What either needs.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self {
            execute: self.execute || other.execute,
            bind: self.bind || other.bind,
            make_directories: self.make_directories || other.make_directories,
            signal: self.signal || other.signal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Outputs;
    use crate::config::tests::given;

    /// No setting of the environment form needs any of them.
    #[test]
    fn a_configuration_with_every_variable_needs_no_right() {
        let variables = given(&[
            "dex_endpoint=http://127.0.0.1/token",
            "dex_access_token_file=/run/dex/token",
            "dex_file_basic_auth=/client",
            "dex_file_subject_token=/subject",
            "dex_scope=openid",
            "dex_refresh_before=2h",
            "dex_refresh_interval=10s",
            "DEXSIDECAR_CA_FILE=/ca.pem",
            "DEXSIDECAR_ALLOW_INSECURE_HTTP=true",
            "DEXSIDECAR_OUTPUT_MODE=0640",
            "DEXSIDECAR_OUTPUT_GROUP=1000",
            "DEXSIDECAR_WRITE_MODE=in-place",
            "DEXSIDECAR_ON_EXPIRY=remove",
            "DEXSIDECAR_KEY_CHECK=1s",
            "DEXSIDECAR_TERMINATION_LOG=/dev/termination-log",
        ]);
        let config = Config::read(&variables, Outputs::Required).unwrap();
        assert_eq!(Needs::of(&config), Needs::default());
        assert_eq!(Needs::of(&Config { tokens: vec![], ..config }), Needs::default());
    }

    #[test]
    fn the_needs_of_two_tokens_are_the_needs_of_either() {
        let none = Needs::default();
        let each = [
            Needs { execute: true, ..none },
            Needs { bind: true, ..none },
            Needs { make_directories: true, ..none },
            Needs { signal: true, ..none },
        ];
        for one in each {
            assert_eq!((one.or(none), none.or(one), one.or(one)), (one, one, one));
        }
        let all = Needs { execute: true, bind: true, make_directories: true, signal: true };
        assert_eq!(each.into_iter().fold(none, Needs::or), all);
    }
}
