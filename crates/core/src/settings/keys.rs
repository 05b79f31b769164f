//! The keys of the configuration file, each with its section, its values and its counterpart in
//! the environment. The reader, docs/configuration.md, the JSON Schema and `config print` read it.

use std::time::Duration;

use super::{
    ALLOW_INSECURE_HTTP, ATTEMPT_TIMEOUT, CA_FILE, Command, KEY_CHECK, Kind, LISTEN, LOG_FORMAT, LOG_LEVEL,
    ON_EXPIRY, OUTPUT_GROUP, OUTPUT_MODE, Setting, TERMINATION_LOG, WRITE_MODE,
};

/// A map of the configuration file with keys of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    /// The file itself.
    Document,
    /// `log`.
    Log,
    /// An element of `tokens`, and `defaults`.
    Token,
    /// An element of `outputs`.
    Output,
    /// An element of `on_update`.
    Action,
    /// An action's `http`.
    Http,
    /// An action's `signal`.
    Signal,
    /// An action's `exec`.
    Exec,
}

impl Section {
    /// Every section, in the order of docs/configuration.md.
    pub const ALL: [Self; 8] = [
        Self::Document,
        Self::Log,
        Self::Token,
        Self::Output,
        Self::Action,
        Self::Http,
        Self::Signal,
        Self::Exec,
    ];

    /// What has these keys, for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Document => "the file",
            Self::Log => "log",
            Self::Token => "a token or defaults",
            Self::Output => "an output",
            Self::Action => "an action of on_update",
            Self::Http => "an http action",
            Self::Signal => "a signal action",
            Self::Exec => "an exec action",
        }
    }

    /// Whether another section is inside it, at any depth.
    #[must_use]
    pub fn is_around(self, other: Self) -> bool {
        self.keys().any(|key| match key.shape {
            Shape::Section(inner) | Shape::Sections(inner) => inner == other || inner.is_around(other),
            _ => false,
        })
    }

    /// Its keys, in the order of the table.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(move |key| key.section == self)
    }
}

/// The values of a key.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Those of a setting that is also an option or a variable.
    Of(&'static Setting),
    /// One value.
    One(Kind),
    /// A list of texts.
    Texts,
    /// A map from names to texts.
    Map,
    /// A map with the keys of this section.
    Section(Section),
    /// A list of such maps.
    Sections(Section),
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where it stands.
    pub section: Section,
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub shape: Shape,
    /// Its counterpart in the environment; empty if there is none.
    variable: &'static str,
    meaning: &'static str,
}

impl Key {
    /// The values of a key with one value.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        match self.shape {
            Shape::Of(setting) => Some(setting.kind),
            Shape::One(kind) => Some(kind),
            _ => None,
        }
    }

    /// Its counterpart in the environment; empty if there is none.
    #[must_use]
    pub const fn variable(&self) -> &'static str {
        match self.shape {
            Shape::Of(setting) => setting.variable,
            _ => self.variable,
        }
    }

    /// The option of the same setting, without its dashes.
    #[must_use]
    pub const fn option(&self) -> Option<&'static str> {
        match self.shape {
            Shape::Of(setting) => Some(setting.option),
            _ => None,
        }
    }

    /// What it means.
    #[must_use]
    pub const fn meaning(&self) -> &'static str {
        match self.shape {
            Shape::Of(setting) => setting.meaning,
            _ => self.meaning,
        }
    }

    /// Its default, in words.
    #[must_use]
    pub fn default_text(&self) -> String {
        self.kind().map_or_else(|| "none".to_owned(), Kind::default_text)
    }
}

/// The key of a section with this name.
#[must_use]
pub fn key(section: Section, name: &str) -> Option<&'static Key> {
    section.keys().find(|key| key.name == name)
}

/// The key that has this setting.
#[must_use]
pub fn key_of(setting: &Setting) -> Option<&'static Key> {
    KEYS.iter().find(|key| matches!(key.shape, Shape::Of(known) if known.option == setting.option))
}

/// The range of the time limit of an action.
const fn action_timeout(default: &'static [(&'static [Command], Duration)]) -> Kind {
    Kind::Duration {
        defaults: default,
        range: Some((Duration::from_millis(100), Duration::from_secs(300))),
        zero: None,
    }
}

macro_rules! keys {
    ($($section:ident { $($name:literal, $shape:expr, $variable:literal, $meaning:literal;)* })*) => {
        /// Every key, by section.
        pub const KEYS: &[Key] = &[$($(Key {
            section: Section::$section, name: $name, shape: $shape, variable: $variable, meaning: $meaning,
        },)*)*];
    };
}

const fn text(placeholder: &'static str, default: &'static str) -> Shape {
    Shape::One(Kind::Text(placeholder, default))
}

keys! {
    Document {
        "version", Shape::One(Kind::Word(&["v1"], "required")), "", "version of this file's format";
        "log", Shape::Section(Section::Log), "", "log level and format";
        "listen", Shape::Of(LISTEN), "", "";
        "termination_log", Shape::Of(TERMINATION_LOG), "", "";
        "defaults", Shape::Section(Section::Token), "", "keys of every token that does not set them itself: any key of a token but name, outputs and on_update";
        "tokens", Shape::Sections(Section::Token), "", "the tokens, 1 to 64";
    }
    Log {
        "level", Shape::Of(LOG_LEVEL), "", "";
        "format", Shape::Of(LOG_FORMAT), "", "";
    }
    Token {
        "name", text("NAME", "default, if there is one token"), "", "name in log lines, metrics and the option --token: a DNS label";
        "token_endpoint", text("URL", "issuer followed by /token"), "dex_endpoint", "URL of Dex's token endpoint";
        "issuer", text("URL", "none: iss is not compared"), "", "Dex's issuer: the iss of every issued token must be equal to it. A token that sets token_endpoint or issuer takes neither from defaults";
        "ca_file", Shape::Of(CA_FILE), "", "";
        "allow_insecure_http", Shape::Of(ALLOW_INSECURE_HTTP), "", "";
        "attempt_timeout", Shape::Of(ATTEMPT_TIMEOUT), "", "";
        "client_id", text("ID", "none"), "dex_basic_auth", "id of the client, sent with its secret as Basic credentials";
        "client_secret_file", text("FILE", "none: a public client"), "dex_file_client_secret", "file with the secret of the client, read at each exchange. A token that sets client_id takes neither this key nor basic_auth_file from defaults";
        "basic_auth_file", text("FILE", "none"), "dex_file_basic_auth", "file with id:secret of the client, in place of client_id and client_secret_file";
        "connector_id", text("ID", "none; required by Dex"), "dex_connector_id", "id of Dex's connector for this cluster";
        "subject_token_file", text("FILE", "required for a token exchange"), "dex_file_subject_token", "file with the subject token: the pod's projected ServiceAccount token";
        "subject_token_type", text("TYPE", "id_token"), "dex_subject_token_type", "type of the subject token: id_token, access_token, jwt, refresh_token, saml1, saml2 or a URN";
        "requested_token_type", text("TYPE", "access_token"), "dex_requested_token_type", "type of the issued token; Dex issues a JSON Web Token for id_token and access_token";
        "scope", text("SCOPES", "none"), "dex_scope", "scopes, separated by spaces";
        "audience", Shape::Texts, "dex_audience", "audiences, 1 to 16, each sent as a form field of its own";
        "resource", Shape::Texts, "dex_resource", "resources, 1 to 16, each sent as a form field of its own";
        "actor_token_file", text("FILE", "none"), "dex_file_actor_token", "file with the actor token";
        "actor_token_type", text("TYPE", "none"), "dex_actor_token_type", "type of the actor token";
        "grant_type", text("TYPE", "urn:ietf:params:oauth:grant-type:token-exchange"), "dex_grant_type", "grant type";
        "form", Shape::Map, "dex_<field>", "further form fields with their values, which must not be secret";
        "form_files", Shape::Map, "dex_file_<field>", "further form fields, each with the file of its value, which is read at each exchange";
        "refresh_before", text("D", "a third of the token's lifetime, at least 1h"), "dex_refresh_before", "refresh margin: how long before expiry the token is refreshed, at most half its lifetime";
        "refresh_interval", text("D", "none; files are polled every 30s"), "dex_refresh_interval", "longest time between two polls of the files (1s to 30s), and between two attempts while refreshing fails but the token on disk is still valid";
        "key_check", Shape::Of(KEY_CHECK), "", "";
        "outputs", Shape::Sections(Section::Output), "dex_access_token_file", "where the token is written, 1 to 16";
        "on_update", Shape::Sections(Section::Action), "", "what is done after all outputs hold a new token, in this order, at most 16";
    }
    Output {
        "path", text("FILE", "required"), "dex_access_token_file", "the token file";
        "format", Shape::One(Kind::Word(&["raw", "json", "incus", "exec_credential"], "raw")), "", "format of the file";
        "prefix", text("TEXT", "none"), "", "text before the token, of the format raw only: \"Authorization: Bearer \" makes it a header";
        "mode", Shape::Of(OUTPUT_MODE), "", "";
        "group", Shape::Of(OUTPUT_GROUP), "", "";
        "write_mode", Shape::Of(WRITE_MODE), "", "";
        "on_expiry", Shape::Of(ON_EXPIRY), "", "";
        "create_directories", Shape::One(Kind::Switch), "", "create the missing directories of the path, at each write";
    }
    Action {
        "http", Shape::Section(Section::Http), "", "send an HTTP request";
        "signal", Shape::Section(Section::Signal), "", "send a signal to other processes";
        "exec", Shape::Section(Section::Exec), "", "execute a command without a shell";
    }
    Http {
        "url", text("URL", "required"), "", "where the request is sent: plain http to loopback only";
        "method", text("METHOD", "POST"), "", "method";
        "headers", Shape::Map, "", "further headers";
        "success", Shape::Texts, "", "status codes that mean success, 1 to 16, such as 200 or 200..299 (the default)";
        "timeout", Shape::One(action_timeout(&[(&[Command::Run], Duration::from_secs(5))])), "", "time limit of one attempt";
        "allow_remote", Shape::One(Kind::Switch), "", "allow another host than loopback, by https";
    }
    Signal {
        "process", text("NAME", "none"), "", "name of the processes: that of /proc/PID/comm, or the file name of their first argument";
        "pid_file", text("FILE", "none"), "", "file with the number of the process; one of process and pid_file is required";
        "signal", text("SIGNAL", "HUP"), "", "signal by name or number";
    }
    Exec {
        "command", Shape::Texts, "", "path of the program, and its arguments";
        "timeout", Shape::One(action_timeout(&[(&[Command::Run], Duration::from_secs(30))])), "", "time limit of one attempt";
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EXCHANGING, SETTINGS};
    use super::*;

    #[test]
    fn a_key_stands_once_in_its_section_and_has_a_meaning() {
        for (index, key) in KEYS.iter().enumerate() {
            let same = |other: &&Key| other.section == key.section && other.name == key.name;
            assert!(!KEYS[..index].iter().any(|other| same(&other)), "{} twice", key.name);
            assert!(!key.meaning().is_empty() && !key.meaning().ends_with('.'), "{}", key.name);
            assert!(key.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", key.name);
        }
    }

    /// What describes a token or the process stands in the file; what one command needs does not.
    #[test]
    fn each_setting_of_a_token_has_a_key() {
        let of_a_command = ["config", "token", "min-ttl", "timeout", "file", "json", "format"];
        // A job of CI has the environment form.
        let of_a_job = ["subject-token-source", "subject-token-audience"];
        for setting in
            SETTINGS.iter().filter(|setting| setting.commands.iter().any(|c| EXCHANGING.contains(c)))
        {
            assert!(
                key_of(setting).is_some()
                    || of_a_command.contains(&setting.option)
                    || of_a_job.contains(&setting.option),
                "{} has no key",
                setting.option
            );
        }
    }
}
