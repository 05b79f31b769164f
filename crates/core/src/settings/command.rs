//! The commands: names, purposes, operands and examples. The command line, `--help`, the man page
//! and the completions read them.

/// A command of the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Keep the token fresh until SIGTERM.
    Run,
    /// Exchange once and exit.
    Once,
    /// Whether the token file holds a valid token.
    Ready,
    /// Block until it does.
    Wait,
    /// Test each step and explain the first failure.
    Check,
    /// Print a token.
    Token,
    /// Request a refresh from the running process.
    Refresh,
    /// Print or validate the configuration.
    Config,
    /// Copy the program.
    Copy,
}

impl Command {
    /// All of them, in the order of the help.
    pub const ALL: [Self; 9] = [
        Self::Run,
        Self::Once,
        Self::Ready,
        Self::Wait,
        Self::Check,
        Self::Token,
        Self::Refresh,
        Self::Config,
        Self::Copy,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Once => "once",
            Self::Ready => "ready",
            Self::Wait => "wait",
            Self::Check => "check",
            Self::Token => "token",
            Self::Refresh => "refresh",
            Self::Config => "config",
            Self::Copy => "copy",
        }
    }

    /// What it does, in half a sentence.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Run => "keep the token fresh until SIGTERM; the default command",
            Self::Once => "exchange once, write the token and exit (for init containers, Jobs, CI)",
            Self::Ready => "exit 0 if the token file holds a valid token (for exec probes)",
            Self::Wait => "block until the token file holds a valid token, then exec CMD",
            Self::Check => "test each step and explain the first failure",
            Self::Token => "print a token (cached between calls)",
            Self::Refresh => "make the running process refresh every token now, and report the outcome",
            Self::Config => "print the effective configuration as a file, or validate one",
            Self::Copy => "copy this program to DEST, a file or a directory, then exec CMD",
        }
    }

    /// What follows the options on its command line, as help shows it; empty for nothing.
    #[must_use]
    pub const fn operands(self) -> &'static str {
        match self {
            Self::Wait => "[-- CMD ARG...]",
            Self::Config => "print | validate [FILE]",
            Self::Copy => "DEST [-- CMD ARG...]",
            Self::Token => "[OPERATION]",
            Self::Run | Self::Once | Self::Ready | Self::Check | Self::Refresh => "",
        }
    }

    /// One to three command lines that a user may copy, each with what it is for.
    #[must_use]
    pub const fn examples(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Run => &[
                ("with a private CA", "DEXSIDECAR_CA_FILE=/etc/dex/ca.pem dexsidecar run"),
                ("with JSON log lines", "dexsidecar run --log-format json"),
            ],
            Self::Once => &[("in an init container", "dexsidecar once --timeout 30s")],
            Self::Ready => &[
                ("as an exec probe", "dexsidecar ready --min-ttl 5m"),
                ("of certain files", "dexsidecar ready --file /run/dex/a --file /run/dex/b"),
            ],
            Self::Wait => &[
                (
                    "start a program when the token is there",
                    "dexsidecar wait --timeout 2m -- /usr/bin/app --serve",
                ),
                (
                    "start it after a minute all the same",
                    "dexsidecar wait --timeout 1m --on-timeout run -- /usr/bin/app",
                ),
            ],
            Self::Check => &[
                ("in a pod", "kubectl exec app -c dexsidecar -- dexsidecar check"),
                ("as JSON", "dexsidecar check --json"),
            ],
            Self::Token => &[
                (
                    "for curl",
                    "curl -H \"Authorization: Bearer $(dexsidecar token --min-ttl 1m)\" https://api.example.com",
                ),
                (
                    "as an exec plugin of kubectl",
                    "kubectl config set-credentials dex --exec-api-version=client.authentication.k8s.io/v1 \
                     --exec-interactive-mode=Never --exec-command=dexsidecar --exec-arg=token \
                     --exec-arg=--format=exec_credential",
                ),
                (
                    "as a credential helper of git 2.46 or later",
                    "git config set --global credential.https://git.example.com.helper '!dexsidecar token --format git'",
                ),
            ],
            Self::Refresh => &[
                ("in a pod", "kubectl exec app -c dexsidecar -- dexsidecar refresh"),
                ("wait longer for the new token", "dexsidecar refresh --wait 2m"),
            ],
            Self::Config => &[
                ("make a file of the environment", "dexsidecar config print"),
                ("in CI", "dexsidecar config validate dexsidecar.yaml"),
            ],
            Self::Copy => &[
                ("in an init container, into a shared volume", "dexsidecar copy /shared"),
                ("under another name", "dexsidecar copy /shared/token-tool"),
                ("in the sidecar, before it runs", "dexsidecar copy /shared -- dexsidecar run"),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn commands_have_distinct_names_and_purposes() {
        let texts: BTreeSet<_> =
            Command::ALL.iter().flat_map(|command| [command.name(), command.purpose()]).collect();
        assert!(texts.len() == 2 * Command::ALL.len() && !texts.contains(""), "{texts:?}");
    }

    #[test]
    fn each_command_has_one_to_three_examples_of_itself() {
        for command in Command::ALL {
            let examples = command.examples();
            assert!((1..=3).contains(&examples.len()), "{command:?}");
            for (purpose, line) in examples {
                let is_call = line.contains("dexsidecar") && line.contains(command.name());
                assert!(is_call && !purpose.is_empty(), "{line}");
            }
        }
    }
}
