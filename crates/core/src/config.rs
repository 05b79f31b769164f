//! The configuration: parsed from strings and valid as a whole, or every problem at once.

mod fields;
mod file;
mod parse;
mod paths;
mod print;
mod probe;
mod raw;
mod token_config;
mod value;
mod values;
mod yaml;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::endpoint_url::EndpointUrl;
use crate::exchange::{Client, Endpoint, Exchange, Source};
use crate::schedule::Schedule;
use crate::settings::{
    self, ACCESS_TOKEN_FILE, BASIC_AUTH, Command, Dialect, FIELD_PREFIX, FILE_PREFIX, REFRESH_BEFORE,
    REFRESH_INTERVAL,
};
pub use file::{ConfigFile, log_of_file, termination_log_of_file};
use parse::Parser;
pub use paths::Locate;
use paths::Paths;
pub(crate) use paths::same_file;
pub use probe::{Probe, ProbedFile};
pub use raw::{Origin, RawSettings, RawValue};
pub use token_config::{DEFAULT_NAME, TokenConfig};
pub use yaml::Place;

/// The file for the termination message, unless one is set: the kubelet's default
/// (`terminationMessagePath` of a container).
pub const DEFAULT_TERMINATION_LOG: &str = "/dev/termination-log";

/// The level of a log line, and the log level.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Somebody has to act.
    Error,
    /// Somebody may have to act.
    Warn,
    /// A change of state.
    #[default]
    Info,
    /// Details.
    Debug,
}

impl Level {
    /// Its name in settings and log lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Log level and log format.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Log {
    /// The log level.
    pub level: Level,
    /// JSON objects instead of text.
    pub json: bool,
}

/// The configuration: the tokens, and what concerns the process or one command.
#[derive(Clone, Debug)]
pub struct Config {
    /// The tokens. The environment form has exactly one.
    pub tokens: Vec<TokenConfig>,
    /// The address of the listener for probes and metrics; without it there is none.
    pub listen: Option<SocketAddr>,
    /// The file for the termination message; without it the kubelet's default, if that exists.
    pub termination_log: Option<PathBuf>,
    /// The minimum remaining validity of a token that `token` prints. `None` if it was not set: the
    /// default depends on the form.
    pub min_ttl: Option<Duration>,
    /// The overall timeout of `once` and `token`.
    pub timeout: Duration,
    /// Log level and format.
    pub log: Log,
    /// What is accepted but probably not meant.
    pub warnings: Vec<Warning>,
}

/// The form in which `token` prints a token.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TokenForm {
    /// The token itself.
    #[default]
    Raw,
    /// The members of a token endpoint's response.
    Json,
    /// For kubectl and client-go.
    ExecCredential,
    /// git's credential protocol.
    Git,
}

/// One error in the settings. It never holds the value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The setting's name, as it was given.
    pub setting: String,
    /// What is wrong, to follow the name: "is empty".
    pub what: String,
    /// What would be right, as an instruction: "use a duration such as 1h30m".
    pub fix: String,
    /// The place in the configuration file. `None` for an option or a variable.
    pub place: Option<Place>,
    /// The configuration file, for a problem in it.
    pub file: Option<Rc<str>>,
}

impl Problem {
    /// A problem with an option or a variable, or with the whole.
    #[must_use]
    pub fn new(setting: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { setting: setting.into(), what: what.into(), fix: fix.into(), place: None, file: None }
    }

    /// `FILE:LINE:COLUMN`, for a problem in the configuration file.
    #[must_use]
    pub fn shown_place(&self) -> Option<String> {
        let (file, place) = self.file.as_ref().zip(self.place)?;
        Some(format!("{file}:{place}"))
    }

    /// Adds the problem to others that are in the order of the names, and keeps that order. Among
    /// problems with one name it is the last.
    pub fn insert_into(self, problems: &mut Vec<Self>) {
        // A sort costs 3.5 kB of the binary.
        let order = |problem: &Self| (problem.place, problem.setting.clone());
        let at = problems.partition_point(|known| order(known) <= order(&self));
        problems.insert(at, self);
    }
}

/// A warning about a setting that is accepted but probably not meant. The text never holds the
/// value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// The setting's name, as it was given: an option, a variable or the path of a key.
    pub setting: String,
    /// What is odd and what would be right, to follow the name.
    pub what: String,
    /// `FILE:LINE:COLUMN`, for a key of the configuration file.
    pub place: Option<String>,
}

impl Warning {
    /// A warning about an option or a variable.
    #[must_use]
    pub fn new(setting: impl Into<String>, what: impl Into<String>) -> Self {
        Self { setting: setting.into(), what: what.into(), place: None }
    }

    /// True if it concerns another token of the configuration file than the one with this index.
    #[must_use]
    pub fn is_of_other_token(&self, index: usize) -> bool {
        let number = self.setting.strip_prefix("tokens[").and_then(|rest| rest.split_once(']'));
        number.is_some_and(|(number, _)| number != index.to_string())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, what, place } = self;
        match place {
            Some(place) => write!(f, "{place}: {setting} {what}"),
            None => write!(f, "{setting} {what}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, what, fix, place, file } = self;
        if let Some(file) = file {
            write!(f, "{file}:")?;
        }
        match place {
            Some(place) => write!(f, "{place}: {setting}: {what}: {fix}"),
            None => write!(f, "{setting} {what}: {fix}"),
        }
    }
}

/// Log level and format, before anything else is parsed. Problems with them are reported by
/// [`Config::read`].
#[must_use]
pub fn log(given: &RawSettings) -> Log {
    Parser::new(&given.cleaned()).log()
}

/// The file for the termination message, before anything else is parsed. Nothing for the kubelet's
/// default.
#[must_use]
pub fn termination_log(given: &RawSettings) -> Option<PathBuf> {
    Parser::new(&given.cleaned()).path(settings::TERMINATION_LOG)
}

/// The configuration file, and the name of its setting as it was given. `None` without one.
#[must_use]
pub fn file_setting(given: &RawSettings) -> Option<(PathBuf, String)> {
    let given = given.cleaned();
    let value = given.effective(settings::CONFIG_FILE)?;
    Some((value.value.expose().into(), value.shown_name()))
}

/// The name of the one token that a command is for (`--token`). `None` for every token.
#[must_use]
pub fn token_name(given: &RawSettings) -> Option<String> {
    given.effective(settings::TOKEN).map(|given| given.value.expose().to_owned())
}

/// The form in which `token` prints a token.
///
/// # Errors
/// The problem with its setting.
pub fn token_form(given: &RawSettings) -> Result<TokenForm, Vec<Problem>> {
    let given = given.cleaned();
    let mut parser = Parser::new(&given);
    let form = parser.token_form();
    parser.end(form)
}

/// Whether a token must have an output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outputs {
    /// For commands that write a token or judge one that was written.
    Required,
    /// For commands that need none, such as `token`.
    Optional,
}

/// The token endpoint, before anything else is parsed. Nothing where it is missing or invalid.
#[must_use]
pub fn endpoint(given: &RawSettings) -> Option<EndpointUrl> {
    Parser::new(&given.cleaned()).endpoint(true).0
}

impl Config {
    /// Reads the environment form: all settings of one token. The token file may be
    /// missing where outputs are optional. Paths are compared as texts.
    ///
    /// # Errors
    /// Every problem, in the order of the names; at least one.
    pub fn read(given: &RawSettings, outputs: Outputs) -> Result<Self, Vec<Problem>> {
        Self::read_located(given, outputs, Locate::AS_TEXT)
    }

    /// Like [`Config::read`], but compares what the paths lead to.
    ///
    /// # Errors
    /// Every problem, in the order of the names; at least one.
    pub fn read_located(given: &RawSettings, outputs: Outputs, locate: Locate) -> Result<Self, Vec<Problem>> {
        let given = given.cleaned();
        let mut parser = Parser::new(&given);
        parser.warnings = given.warnings();
        parser.unknown_variables();
        let (fields, client_file) = parser.fields();
        let allow_insecure_http = parser.switch(settings::ALLOW_INSECURE_HTTP);
        let (url, userinfo) = parser.endpoint(allow_insecure_http);
        let client = client_file
            .map(Source::File)
            .or_else(|| parser.original(BASIC_AUTH).map(|basic| Source::Text(basic.clone())))
            .or_else(|| userinfo.map(Source::Text))
            .map(Client::Pair);
        let output = parser.output(outputs);
        let schedule = Schedule {
            before: parser.original_duration(REFRESH_BEFORE, Duration::ZERO),
            interval: parser.original_duration(REFRESH_INTERVAL, Duration::from_nanos(1)),
        };
        let key_check = parser.duration(settings::KEY_CHECK, Command::Run);
        let attempt_timeout = parser.duration(settings::ATTEMPT_TIMEOUT, Command::Run);
        let ca_file = parser.path(settings::CA_FILE);
        let listen = parser.listen();
        let termination_log = parser.path(settings::TERMINATION_LOG);
        let mut paths = Paths::default();
        for (name, path) in fields.iter().filter_map(|(name, source)| Some((name, source.file()?))) {
            paths.input(path, format!("{FILE_PREFIX}{name}"));
        }
        if let Some(path) = client.as_ref().and_then(Client::file) {
            paths.input(path, format!("{FILE_PREFIX}{BASIC_AUTH}"));
        }
        if let Some(path) = &ca_file {
            paths.input(path, parser.name(settings::CA_FILE));
        }
        if let Some(output) = &output {
            paths.output(&output.path, format!("{FIELD_PREFIX}{ACCESS_TOKEN_FILE}"), None);
        }
        if let Some(path) = &termination_log {
            paths.log(path, parser.name(settings::TERMINATION_LOG), None);
        }
        for Problem { setting, what, fix, .. } in paths.clashes(locate) {
            parser.problem(&setting, what, fix);
        }
        let min_ttl = parser.min_ttl_of_token();
        let timeout = parser.duration(settings::TIMEOUT, Command::Once);
        let log = parser.log();
        // A missing or invalid URL is a problem. Everything else has been parsed by now.
        let Some(url) = url else { return Err(parser.problems()) };
        let endpoint = Endpoint { url, ca_file, attempt_timeout, allow_insecure_http };
        let token = TokenConfig {
            name: DEFAULT_NAME.to_owned(),
            exchange: Exchange { endpoint, client, fields, issuer: None, dialect: Dialect::Environment },
            schedule,
            key_check: Some(key_check).filter(|period| !period.is_zero()),
            outputs: output.into_iter().collect(),
            actions: vec![],
        };
        let warnings = std::mem::take(&mut parser.warnings);
        parser.end(Self { tokens: vec![token], listen, termination_log, min_ttl, timeout, log, warnings })
    }
}

#[cfg(test)]
impl Config {
    /// The warnings as they are printed.
    pub(crate) fn shown_warnings(&self) -> Vec<String> {
        self.warnings.iter().map(Warning::to_string).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests;
