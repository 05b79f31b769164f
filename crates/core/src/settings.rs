//! The one table of settings. Flags, variables, `--help`, docs/settings.md and the nearest-name hints read it; a
//! setting's name is spelled here and nowhere else.

/// A command of the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// Keep every token fresh until told to stop.
    Run,
    /// One exchange, then end.
    Once,
    /// Is the token on disk good?
    Ready,
    /// Block until it is.
    Wait,
    /// Climb the ladder and say what is wrong.
    Check,
    /// Print a token.
    Token,
}

impl Command {
    /// All of them, in the order in which they are explained.
    pub const ALL: [Self; 6] = [Self::Run, Self::Once, Self::Ready, Self::Wait, Self::Check, Self::Token];

    /// As it is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Once => "once",
            Self::Ready => "ready",
            Self::Wait => "wait",
            Self::Check => "check",
            Self::Token => "token",
        }
    }

    /// What it is for, in half a sentence.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Run => "keep the token fresh until SIGTERM (this is what happens without a command)",
            Self::Once => "exchange once, write the token, end: plain init containers, Jobs, CI",
            Self::Ready => "end with 0 when the file holds a good token: exec probes",
            Self::Wait => "block until the file holds a good token, then become CMD if one is given",
            Self::Check => "climb from the settings to the output, and say for a broken rung what to change",
            Self::Token => "print a token, from a file that holds a good one or by an exchange",
        }
    }
}

/// The kind of a setting's value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// On or off: a flag without a value, a variable that is `true` or `false`.
    Switch,
    /// Anything with a value; the word that stands for it in help.
    Value(&'static str),
}

/// One setting of our own.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The flag, without its dashes.
    pub flag: &'static str,
    /// The variable; empty for a flag that makes sense on a command line only.
    pub variable: &'static str,
    /// What kind of value.
    pub kind: Kind,
    /// What holds when it is not set, as text.
    pub default: &'static str,
    /// The commands that know it.
    pub commands: &'static [Command],
    /// What it means.
    pub meaning: &'static str,
}

use Command::{Check, Once, Ready, Run, Token, Wait};

const EXCHANGING: &[Command] = &[Run, Once, Check, Token];
const WRITING: &[Command] = &[Run, Once, Check];

macro_rules! settings {
    ($($name:ident = $flag:literal, $variable:literal, $kind:expr, $default:literal, $commands:expr, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $name: &Setting = &Setting {
            flag: $flag, variable: $variable, kind: $kind, default: $default, commands: $commands, meaning: $meaning,
        };)*

        /// Every setting of our own, in the order in which it is explained.
        pub const SETTINGS: &[&Setting] = &[$($name,)*];
    };
}

settings! {
    CA_FILE = "ca-file", "DEXSIDECAR_CA_FILE", Kind::Value("FILE"), "the system's certificates", EXCHANGING,
        "PEM file with the certificates to trust for Dex, instead of the system's; read again at each attempt";
    ATTEMPT_TIMEOUT = "attempt-timeout", "DEXSIDECAR_ATTEMPT_TIMEOUT", Kind::Value("D"), "15s", EXCHANGING,
        "how long one attempt may take, from the name to the last byte: 100ms to 5m";
    ALLOW_INSECURE_HTTP = "allow-insecure-http", "DEXSIDECAR_ALLOW_INSECURE_HTTP", Kind::Switch, "off", EXCHANGING,
        "accept an http:// endpoint at a public address; others are accepted without it";
    OUTPUT_MODE = "output-mode", "DEXSIDECAR_OUTPUT_MODE", Kind::Value("MODE"), "0644, or 0640 in a setgid directory", WRITING,
        "the output file's permissions, in octal; never wider, not even for a moment";
    OUTPUT_GROUP = "output-group", "DEXSIDECAR_OUTPUT_GROUP", Kind::Value("GID"), "as the directory has it", WRITING,
        "the output file's group, as a number";
    WRITE_MODE = "write-mode", "DEXSIDECAR_WRITE_MODE", Kind::Value("auto|atomic|in-place"), "auto", WRITING,
        "atomic replaces the file, in-place overwrites it; auto overwrites it only where it cannot be replaced: a mount point (subPath), a volume without rename";
    ON_EXPIRY = "on-expiry", "DEXSIDECAR_ON_EXPIRY", Kind::Value("keep|remove"), "keep", &[Run],
        "what becomes of the file when its token has expired and no other could be had";
    KEY_CHECK = "key-check", "DEXSIDECAR_KEY_CHECK", Kind::Value("D"), "10m", &[Run],
        "how often Dex's published keys are compared with the token on disk, 1s or more; 0s is never";
    TERMINATION_LOG = "termination-log", "DEXSIDECAR_TERMINATION_LOG", Kind::Value("FILE"), "/dev/termination-log if it exists", &[Run, Once],
        "where the last failure is put for kubectl describe";
    MIN_TTL = "min-ttl", "DEXSIDECAR_MIN_TTL", Kind::Value("D"), "0s", &[Ready, Wait, Token],
        "how much life the token must have left";
    TIMEOUT = "timeout", "DEXSIDECAR_TIMEOUT", Kind::Value("D"), "5m for wait, 1m for once and token", &[Wait, Once, Token],
        "when to give up";
    FILE = "file", "", Kind::Value("FILE"), "dex_access_token_file", &[Ready, Wait],
        "the token file to look at; may be repeated";
    JSON = "json", "", Kind::Switch, "off", &[Check],
        "print the report as JSON";
    LOG_LEVEL = "log-level", "DEXSIDECAR_LOG", Kind::Value("error|warn|info|debug"), "info", &Command::ALL,
        "how much is said";
    LOG_FORMAT = "log-format", "DEXSIDECAR_LOG_FORMAT", Kind::Value("text|json"), "text", &Command::ALL,
        "how it is said";
}

/// Every variable of our own begins with this; one that is not in the table is an error.
pub const PREFIX: &str = "DEXSIDECAR_";

/// The original's prefix: what is not one of its settings is a form field.
pub const FIELD_PREFIX: &str = "dex_";

/// A form field whose value is a file's content.
pub const FILE_PREFIX: &str = "dex_file_";

/// A variable of the original that is a setting and no form field.
#[derive(Clone, Copy, Debug)]
pub struct OriginalSetting {
    /// Its name without the prefix.
    pub name: &'static str,
    /// What holds when it is not set, as text.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// URL of the token endpoint.
pub const ENDPOINT: &str = "endpoint";
/// The output file.
pub const ACCESS_TOKEN_FILE: &str = "access_token_file";
/// The client.
pub const BASIC_AUTH: &str = "basic_auth";
/// How long before expiry to refresh.
pub const REFRESH_BEFORE: &str = "refresh_before";
/// The pause between looks and tries.
pub const REFRESH_INTERVAL: &str = "refresh_interval";

/// The settings that the original had, under the names they will always have.
pub const ORIGINAL: &[OriginalSetting] = &[
    OriginalSetting {
        name: ENDPOINT,
        default: "required",
        meaning: "URL of Dex's token endpoint: its issuer followed by /token",
    },
    OriginalSetting {
        name: ACCESS_TOKEN_FILE,
        default: "required",
        meaning: "the output file: the bare token, without a newline",
    },
    OriginalSetting {
        name: BASIC_AUTH,
        default: "none",
        meaning: "the client as id:secret, split at the first colon; id alone or id: for a public client. Encoded as \
                  RFC 6749 §2.3.1 wants, unless a half is form-encoded already. dex_file_basic_auth reads it from a file",
    },
    OriginalSetting {
        name: REFRESH_BEFORE,
        default: "a third of the token's life, 1h at least",
        meaning: "refresh this long before the token expires, half its life at most",
    },
    OriginalSetting {
        name: REFRESH_INTERVAL,
        default: "1m",
        meaning: "the longest pause between two looks at the files (30s at most); when set, also between two tries \
                  while refreshing fails and the token is still good",
    },
];

/// The form fields that Dex reads, for a hint when a name is nearly one of them.
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

/// The name of the form field with the subject token.
pub const SUBJECT_TOKEN: &str = "subject_token";

/// The scopes that Dex knows; it ignores any other without a word.
pub const KNOWN_SCOPES: &[&str] = &["openid", "email", "groups", "profile", "federated:id", "offline_access"];

/// A scope that asks for the audience of another client.
pub const AUDIENCE_SCOPE: &str = "audience:server:client_id:";

/// The nearest of `names` to a misspelt one, if any is near enough to be meant.
#[must_use]
pub fn nearest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
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
    fn names_are_one_name_in_two_spellings() {
        let mut seen = BTreeSet::new();
        for setting in SETTINGS {
            assert!(seen.insert(setting.flag), "{} twice", setting.flag);
            assert!(setting.flag.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", setting.flag);
            let variable = format!("{PREFIX}{}", setting.flag.to_ascii_uppercase().replace('-', "_"));
            // The one exception is older than the rule: DEXSIDECAR_LOG, as RUST_LOG.
            assert!(["", "DEXSIDECAR_LOG", &variable].contains(&setting.variable), "{}", setting.variable);
            assert!(!setting.commands.is_empty() && !setting.meaning.ends_with('.'));
        }
    }

    #[test]
    fn commands_are_told_apart() {
        let said: BTreeSet<_> =
            Command::ALL.iter().flat_map(|command| [command.name(), command.purpose()]).collect();
        assert!(said.len() == 2 * Command::ALL.len() && !said.contains(""), "{said:?}");
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
