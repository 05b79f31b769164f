//! The one table of settings. Options, variables, `--help`, docs/settings.md, the reader and "did
//! you mean" read it; a setting's name is spelled here and in the fixes of failures only.

mod command;
mod dialect;
pub mod keys;

use std::time::Duration;

use crate::duration::HumanDuration;
use crate::limits::LONGEST_QUOTED_WORD;
pub use command::Command;

pub use dialect::Dialect;

/// The values that a setting takes, and its default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// On or off, off by default: an option without a value, a variable that is `true` or `false`.
    Switch,
    /// Text; its placeholder in help, and its default in words.
    Text(&'static str, &'static str),
    /// One of these words; the default.
    Word(&'static [&'static str], &'static str),
    /// A duration within a range.
    Duration {
        /// The defaults, each with the commands that it is for.
        defaults: &'static [(&'static [Command], Duration)],
        /// The shortest and the longest; nothing for no limit.
        range: Option<(Duration, Duration)>,
        /// What 0s means where it is allowed outside the range.
        zero: Option<&'static str>,
    },
}

/// One option with its variable.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The option, without its dashes.
    pub option: &'static str,
    /// The variable; empty for an option that makes sense on a command line only.
    pub variable: &'static str,
    /// Its values and its default.
    pub kind: Kind,
    /// The commands that know it.
    pub commands: &'static [Command],
    /// What it means.
    pub meaning: &'static str,
}

impl Setting {
    /// The word for its value in help; empty for a switch.
    #[must_use]
    pub fn placeholder(&self) -> String {
        match self.kind {
            Kind::Switch => String::new(),
            Kind::Text(placeholder, _) => placeholder.to_owned(),
            Kind::Word(words, _) => words.join("|"),
            Kind::Duration { .. } => "D".to_owned(),
        }
    }

    /// The default of a duration for this command.
    ///
    /// # Panics
    /// When the setting is no duration or has no default for this command: an error in the table,
    /// which a test excludes.
    #[must_use]
    pub fn default_duration(&self, command: Command) -> Duration {
        let Kind::Duration { defaults, .. } = self.kind else {
            unreachable!("{} is no duration", self.option)
        };
        let default = defaults.iter().find(|(commands, _)| commands.contains(&command));
        default.map(|(_, default)| *default).unwrap_or_default()
    }

    /// Its default, in words.
    #[must_use]
    pub fn default_text(&self) -> String {
        self.kind.default_text()
    }

    /// Its range, in words; nothing where there is no limit.
    #[must_use]
    pub fn range_text(&self) -> Option<String> {
        self.kind.range_text()
    }
}

impl Kind {
    /// The default, in words.
    #[must_use]
    pub fn default_text(self) -> String {
        match self {
            Self::Switch => "off".to_owned(),
            Self::Text(_, default) | Self::Word(_, default) => default.to_owned(),
            Self::Duration { defaults: [(_, default)], .. } => HumanDuration(*default).to_string(),
            Self::Duration { defaults, .. } => {
                let each = defaults.iter().map(|(commands, default)| {
                    let names: Vec<_> = commands.iter().map(|command| command.name()).collect();
                    format!("{} for {}", HumanDuration(*default), names.join(" and "))
                });
                each.collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// The range, in words; nothing where there is no limit.
    #[must_use]
    pub fn range_text(self) -> Option<String> {
        let Self::Duration { range: Some((shortest, longest)), zero, .. } = self else { return None };
        let range = if longest == Duration::MAX {
            format!("{} or more", HumanDuration(shortest))
        } else {
            format!("{} to {}", HumanDuration(shortest), HumanDuration(longest))
        };
        Some(zero.map_or_else(|| range.clone(), |zero| format!("{range}, or 0s {zero}")))
    }
}

use Command::{Check, Config, Once, Ready, Refresh, Run, Token, Wait};

/// The commands that exchange a token.
pub const EXCHANGING: &[Command] = &[Run, Once, Check, Token];
const WRITING: &[Command] = &[Run, Once, Check];
const LOGGING: &[Command] = &[Run, Once, Ready, Wait, Check, Token, Refresh, Config];

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

macro_rules! settings {
    ($($name:ident = $option:literal, $variable:literal, $kind:expr, $commands:expr, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $name: &Setting = &Setting {
            option: $option, variable: $variable, kind: $kind, commands: $commands, meaning: $meaning,
        };)*

        /// Every option, in the order of the help.
        pub const SETTINGS: &[&Setting] = &[$($name,)*];
    };
}

settings! {
    CONFIG_FILE = "config", "DEXSIDECAR_CONFIG", Kind::Text("FILE", "none: the environment"), LOGGING,
        "configuration file with all tokens, in place of the dex_ variables (docs/configuration.md)";
    TOKEN = "token", "", Kind::Text("NAME", "every token; required for token if there are several"), &[Ready, Wait, Check, Token, Refresh],
        "token of the configuration file that the command is for";
    CA_FILE = "ca-file", "DEXSIDECAR_CA_FILE", Kind::Text("FILE", "the system's CA certificates"), EXCHANGING,
        "PEM file with the CA certificates to trust for Dex, instead of the system's; read at each attempt";
    ATTEMPT_TIMEOUT = "attempt-timeout", "DEXSIDECAR_ATTEMPT_TIMEOUT",
        Kind::Duration {
            defaults: &[(EXCHANGING, seconds(15))],
            range: Some((Duration::from_millis(100), seconds(300))),
            zero: None,
        },
        EXCHANGING, "time limit of one attempt, from DNS lookup to last byte";
    ALLOW_INSECURE_HTTP = "allow-insecure-http", "DEXSIDECAR_ALLOW_INSECURE_HTTP", Kind::Switch, EXCHANGING,
        "accept an http:// endpoint at a public address; other addresses are accepted without it";
    SUBJECT_TOKEN_SOURCE = "subject-token-source", "DEXSIDECAR_SUBJECT_TOKEN_SOURCE",
        Kind::Word(&["file", "github-actions"], "file"), EXCHANGING,
        "file for dex_file_subject_token or dex_subject_token; github-actions requests a subject token from GitHub in a job with permissions: id-token: write";
    SUBJECT_TOKEN_AUDIENCE = "subject-token-audience", "DEXSIDECAR_SUBJECT_TOKEN_AUDIENCE",
        Kind::Text("AUDIENCE", "the URL of the repository's owner"), EXCHANGING,
        "audience of the subject token that is requested from GitHub";
    OUTPUT_MODE = "output-mode", "DEXSIDECAR_OUTPUT_MODE", Kind::Text("MODE", "0644, or 0640 in a setgid directory"), WRITING,
        "permissions of the token file, in octal";
    OUTPUT_GROUP = "output-group", "DEXSIDECAR_OUTPUT_GROUP", Kind::Text("GID", "the directory's"), WRITING,
        "group of the token file, as a number";
    WRITE_MODE = "write-mode", "DEXSIDECAR_WRITE_MODE", Kind::Word(&["auto", "atomic", "in-place"], "auto"), WRITING,
        "atomic replaces the token file, in-place overwrites it; auto overwrites it only where it cannot be replaced: a mount point (subPath), a volume without rename";
    ON_EXPIRY = "on-expiry", "DEXSIDECAR_ON_EXPIRY", Kind::Word(&["keep", "remove"], "keep"), &[Run],
        "keep or remove the token file after its token has expired";
    KEY_CHECK = "key-check", "DEXSIDECAR_KEY_CHECK",
        Kind::Duration {
            defaults: &[(&[Run], seconds(600))],
            range: Some((seconds(1), Duration::MAX)),
            zero: Some("to disable it"),
        },
        &[Run], "how often Dex's published keys are compared with the signing key of the token on disk";
    LISTEN = "listen", "DEXSIDECAR_LISTEN", Kind::Text("ADDR:PORT", "no listener"), &[Run],
        "address of the listener for probes and metrics (/livez, /readyz, /metrics); :9090 means all addresses";
    TERMINATION_LOG = "termination-log", "DEXSIDECAR_TERMINATION_LOG", Kind::Text("FILE", "/dev/termination-log if it exists"), &[Run, Once, Refresh],
        "existing file for the last failure, which kubectl describe pod and refresh show";
    MIN_TTL = "min-ttl", "DEXSIDECAR_MIN_TTL",
        Kind::Duration { defaults: &[(&[Ready, Wait, Token], Duration::ZERO)], range: None, zero: None },
        &[Ready, Wait, Token],
        "minimum remaining validity of the token; for token --format exec_credential and git 1m by default, but at most half of the token's lifetime";
    TIMEOUT = "timeout", "DEXSIDECAR_TIMEOUT",
        Kind::Duration { defaults: &[(&[Wait], seconds(300)), (&[Once, Token], seconds(60))], range: None, zero: None },
        &[Wait, Once, Token], "overall timeout of the command";
    ON_TIMEOUT = "on-timeout", "DEXSIDECAR_ON_TIMEOUT", Kind::Word(&["fail", "run"], "fail"), &[Wait],
        "at the timeout: fail exits with 1; run logs a warning and executes CMD all the same";
    WAIT = "wait", "",
        Kind::Duration { defaults: &[(&[Refresh], seconds(30))], range: None, zero: None },
        &[Refresh], "how long to wait for the new token; 0s requests a refresh without waiting";
    PID = "pid", "", Kind::Text("PID", "the only one that is found"), &[Refresh],
        "the process that is to refresh, where several run";
    FORMAT = "format", "", Kind::Word(&["raw", "json", "exec_credential", "git"], "raw"), &[Token],
        "form of the printed token: json as in RFC 8693, exec_credential for kubectl, git for a credential helper";
    FILE = "file", "", Kind::Text("FILE", "dex_access_token_file"), &[Ready, Wait, Refresh],
        "token file to judge; may be repeated";
    JSON = "json", "", Kind::Switch, &[Check, Config],
        "print the result as JSON (for check: docs/check.schema.json)";
    LOG_LEVEL = "log-level", "DEXSIDECAR_LOG", Kind::Word(&["error", "warn", "info", "debug"], "info"), LOGGING,
        "log level";
    LOG_FORMAT = "log-format", "DEXSIDECAR_LOG_FORMAT", Kind::Word(&["text", "json"], "text"), LOGGING,
        "log format";
}

/// The prefix of the variables of options; a variable with it that is not in the table is an error.
pub const PREFIX: &str = "DEXSIDECAR_";

/// The prefix of the compatibility variables; one that is not a setting below is a form field.
pub const FIELD_PREFIX: &str = "dex_";

/// The prefix of a form field whose value is the content of a file.
pub const FILE_PREFIX: &str = "dex_file_";

/// A compatibility variable that is a setting and no form field.
#[derive(Clone, Copy, Debug)]
pub struct OriginalSetting {
    /// Its name without the prefix.
    pub name: &'static str,
    /// Its default, in words.
    pub default: &'static str,
    /// The commands that use it. The others that exchange validate it.
    pub commands: &'static [Command],
    /// What it means.
    pub meaning: &'static str,
}

/// URL of the token endpoint.
pub const ENDPOINT: &str = "endpoint";
/// The token file.
pub const ACCESS_TOKEN_FILE: &str = "access_token_file";
/// The client.
pub const BASIC_AUTH: &str = "basic_auth";
/// How long before expiry to refresh.
pub const REFRESH_BEFORE: &str = "refresh_before";
/// The maximum delay between polls and between attempts.
pub const REFRESH_INTERVAL: &str = "refresh_interval";

/// The settings of the original (miscord-dev/dexsidecar). Their names are stable.
pub const ORIGINAL: &[OriginalSetting] = &[
    OriginalSetting {
        name: ENDPOINT,
        default: "required",
        commands: EXCHANGING,
        meaning: "URL of Dex's token endpoint: its issuer followed by /token",
    },
    OriginalSetting {
        name: ACCESS_TOKEN_FILE,
        default: "required, but optional for token and check",
        commands: EXCHANGING,
        meaning: "the token file: it holds the bare token, without a newline",
    },
    OriginalSetting {
        name: BASIC_AUTH,
        default: "none",
        commands: EXCHANGING,
        meaning: "the client's id:secret, split at the first colon; id or id: for a public client. Each half is \
                  form-encoded (RFC 6749 §2.3.1) unless it is already. dex_file_basic_auth reads it from a file",
    },
    OriginalSetting {
        name: REFRESH_BEFORE,
        default: "a third of the token's lifetime, at least 1h",
        commands: &[Run],
        meaning: "refresh margin: how long before expiry the token is refreshed, at most half its lifetime",
    },
    OriginalSetting {
        name: REFRESH_INTERVAL,
        default: "none; files are polled every 30s",
        commands: &[Run],
        meaning: "longest time between two polls of the files (1s to 30s), and between two attempts while refreshing \
                  fails but the token on disk is still valid",
    },
];

/// The form fields that Dex reads, for a warning when a name is similar to one of them.
pub const KNOWN_FIELDS: &[&str] = &[
    "grant_type",
    "connector_id",
    "subject_token",
    "subject_token_type",
    "requested_token_type",
    "scope",
    "client_id",
    "client_secret",
    "audience",
    "resource",
    "actor_token",
    "actor_token_type",
];

/// Whether a form field is no secret, so that its value may be quoted. Token types are none either.
#[must_use]
pub fn is_public_field(name: &str) -> bool {
    ["connector_id", "client_id", "scope", "audience", "resource"].contains(&name) || name.ends_with("_type")
}

/// The name of the form field with the subject token.
pub const SUBJECT_TOKEN: &str = "subject_token";

/// The name of the form field with the actor token.
pub const ACTOR_TOKEN: &str = "actor_token";
/// The name of the client's id.
pub const CLIENT_ID: &str = "client_id";
/// The name of the client's secret.
pub const CLIENT_SECRET: &str = "client_secret";

/// The name of the form field with the scopes.
pub const SCOPE: &str = "scope";
/// The name of the form field with the type of the subject token.
pub const SUBJECT_TOKEN_TYPE: &str = "subject_token_type";
/// The name of the form field with the type of the issued token.
pub const REQUESTED_TOKEN_TYPE: &str = "requested_token_type";
/// The name of the form field with the grant type.
pub const GRANT_TYPE: &str = "grant_type";

/// The scopes that Dex knows; it silently ignores any other.
pub const KNOWN_SCOPES: &[&str] = &["openid", "email", "groups", "profile", "federated:id", "offline_access"];

/// The prefix of a scope that requests the audience of another client.
pub const AUDIENCE_SCOPE: &str = "audience:server:client_id:";

/// The nearest of `names` to a misspelled one, if it is near enough: one edit, and one more for
/// each six letters.
#[must_use]
pub fn nearest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The comparison takes time and memory in the product of both lengths.
    if given.len() > LONGEST_QUOTED_WORD {
        return None;
    }
    let near = 1 + given.len() / 6;
    let distance = |name: &str| strsim::damerau_levenshtein(given, name);
    names
        .into_iter()
        .map(|name| (distance(name), name))
        .filter(|(d, _)| *d <= near)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn option_and_variable_are_the_same_name() {
        let mut seen = BTreeSet::new();
        for setting in SETTINGS {
            assert!(seen.insert(setting.option), "{} twice", setting.option);
            assert!(
                setting.option.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{}",
                setting.option
            );
            let variable = format!("{PREFIX}{}", setting.option.to_ascii_uppercase().replace('-', "_"));
            // The one exception is older than the rule: DEXSIDECAR_LOG, as RUST_LOG.
            assert!(["", "DEXSIDECAR_LOG", &variable].contains(&setting.variable), "{}", setting.variable);
            assert!(!setting.commands.is_empty() && !setting.meaning.ends_with('.'));
        }
    }

    #[test]
    fn defaults_cover_every_command_and_lie_within_the_range() {
        for setting in SETTINGS {
            match setting.kind {
                Kind::Switch | Kind::Text(..) => {}
                Kind::Word(words, default) => assert!(words.contains(&default), "{}", setting.option),
                Kind::Duration { defaults, range, zero } => {
                    let covered = |command| defaults.iter().any(|(commands, _)| commands.contains(command));
                    assert!(setting.commands.iter().all(covered), "{}", setting.option);
                    let (shortest, longest) = range.unwrap_or((Duration::ZERO, Duration::MAX));
                    assert!(defaults.iter().all(|(_, default)| (shortest..=longest).contains(default)));
                    assert!(zero.is_none() || !shortest.is_zero());
                }
            }
        }
        assert_eq!(TIMEOUT.default_text(), "5m for wait, 1m for once and token");
        assert_eq!(ATTEMPT_TIMEOUT.range_text().as_deref(), Some("100ms to 5m"));
        assert_eq!(KEY_CHECK.range_text().as_deref(), Some("1s or more, or 0s to disable it"));
        assert_eq!(
            (TIMEOUT.default_duration(Wait), TIMEOUT.default_duration(Once)),
            (seconds(300), seconds(60))
        );
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        assert_eq!(nearest("conector_id", KNOWN_FIELDS.iter().copied()), Some("connector_id"));
        assert_eq!(nearest("federated_id", KNOWN_SCOPES.iter().copied()), Some("federated:id"));
        assert_eq!(nearest("grnat_type", KNOWN_FIELDS.iter().copied()), Some("grant_type"));
        assert_eq!(nearest("username", KNOWN_FIELDS.iter().copied()), None);
        // One letter, and one more for each six that were typed.
        assert_eq!(nearest("abcdefghijXX", ["abcdefghijkl"]), Some("abcdefghijkl"));
        assert_eq!(nearest("abcXX", ["abcde"]), None);
        assert_eq!(nearest("abcdefghiXXXX", ["abcdefghijklm"]), None);
        assert_eq!(nearest("X", ["Y"]), Some("Y"));
        let variables = SETTINGS.iter().map(|setting| setting.variable);
        assert_eq!(nearest("DEXSIDECAR_CAFILE", variables), Some("DEXSIDECAR_CA_FILE"));
    }
}
