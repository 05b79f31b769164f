//! The configuration: parsed from strings and valid as a whole, or every problem at once.

mod parse;
mod raw;
mod token_config;
mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::endpoint_url::EndpointUrl;
use crate::exchange::{Endpoint, Exchange, Source};
use crate::schedule::Schedule;
use crate::settings::{
    self, ACCESS_TOKEN_FILE, BASIC_AUTH, Command, FIELD_PREFIX, REFRESH_BEFORE, REFRESH_INTERVAL,
};
use parse::Parser;
pub use raw::{Origin, RawSettings, RawValue};
pub use token_config::{DEFAULT_NAME, TokenConfig};

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
    /// The minimum remaining validity of a token that `token` prints.
    pub min_ttl: Duration,
    /// The overall timeout of `once` and `token`.
    pub timeout: Duration,
    /// Log level and format.
    pub log: Log,
    /// Warnings about what is accepted but probably not meant, a sentence each.
    pub warnings: Vec<String>,
}

/// The settings of `ready`, `wait` and `refresh`, which judge files only.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The files to judge; at least one.
    pub files: Vec<PathBuf>,
    /// The minimum remaining validity of each token.
    pub min_ttl: Duration,
    /// The overall timeout of `wait`.
    pub timeout: Duration,
    /// Whether `wait` goes on all the same at the timeout.
    pub run_on_timeout: bool,
    /// How long `refresh` waits for the new tokens.
    pub wait: Duration,
    /// The process that `refresh` signals, where several run.
    pub pid: Option<i32>,
    /// Log level and format.
    pub log: Log,
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
}

impl Problem {
    /// Adds the problem to others that are in the order of the names, and keeps that order. Among
    /// problems with one name it is the last.
    pub fn insert_into(self, problems: &mut Vec<Self>) {
        // A sort costs 3.5 kB of the binary.
        let at = problems.partition_point(|known| known.setting <= self.setting);
        problems.insert(at, self);
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.setting, self.what, self.fix)
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

/// The token endpoint, before anything else is parsed. Nothing where it is missing or invalid.
#[must_use]
pub fn endpoint(given: &RawSettings) -> Option<EndpointUrl> {
    Parser::new(&given.cleaned()).endpoint(true).0
}

impl Config {
    /// Reads the environment form: all settings of one token. Without `output_needed` the token
    /// file may be missing.
    ///
    /// # Errors
    /// Every problem, in the order of the names; at least one.
    pub fn read(given: &RawSettings, output_needed: bool) -> Result<Self, Vec<Problem>> {
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
            .or_else(|| userinfo.map(Source::Text));
        let output = parser.output(output_needed);
        let schedule = Schedule {
            before: parser.original_duration(REFRESH_BEFORE, Duration::ZERO),
            interval: parser.original_duration(REFRESH_INTERVAL, Duration::from_nanos(1)),
        };
        let key_check = parser.duration(settings::KEY_CHECK, Command::Run);
        let attempt_timeout = parser.duration(settings::ATTEMPT_TIMEOUT, Command::Run);
        let ca_file = parser.path(settings::CA_FILE);
        let listen = parser.listen();
        let termination_log = parser.path(settings::TERMINATION_LOG);
        parser.files_written(
            &fields,
            client.as_ref(),
            ca_file.as_deref(),
            output.as_ref(),
            termination_log.as_deref(),
        );
        let min_ttl = parser.duration(settings::MIN_TTL, Command::Token);
        let timeout = parser.duration(settings::TIMEOUT, Command::Once);
        let log = parser.log();
        // A missing or invalid URL is a problem. Everything else has been parsed by now.
        let Some(url) = url else { return Err(parser.problems()) };
        let endpoint = Endpoint { url, ca_file, attempt_timeout, allow_insecure_http };
        let token = TokenConfig {
            name: DEFAULT_NAME.to_owned(),
            exchange: Exchange { endpoint, client, fields },
            schedule,
            key_check: Some(key_check).filter(|period| !period.is_zero()),
            outputs: output.into_iter().collect(),
            actions: vec![],
        };
        let warnings = std::mem::take(&mut parser.warnings);
        parser.end(Self { tokens: vec![token], listen, termination_log, min_ttl, timeout, log, warnings })
    }
}

impl Probe {
    /// Reads the settings of a probe. Others are ignored, but not unknown ones.
    ///
    /// # Errors
    /// Every problem; at least one.
    pub fn read(given: &RawSettings) -> Result<Self, Vec<Problem>> {
        let given = given.cleaned();
        let mut parser = Parser::new(&given);
        parser.unknown_variables();
        let options = given.options(settings::FILE.option);
        let mut files: Vec<PathBuf> = options.map(|file| file.value.expose().into()).collect();
        if files.iter().any(|file| file.as_os_str().is_empty()) {
            parser.invalid(settings::FILE, "is empty", "set it to a token file");
        }
        if files.is_empty() {
            match parser.original(ACCESS_TOKEN_FILE) {
                Some(file) => files.push(file.expose().into()),
                None => parser.problem(
                    &format!("{FIELD_PREFIX}{ACCESS_TOKEN_FILE}"),
                    "is not set",
                    "set it, or use --file",
                ),
            }
        }
        let probe = Self {
            files,
            min_ttl: parser.duration(settings::MIN_TTL, Command::Wait),
            timeout: parser.duration(settings::TIMEOUT, Command::Wait),
            run_on_timeout: parser.run_on_timeout(),
            wait: parser.duration(settings::WAIT, Command::Refresh),
            pid: parser.pid(),
            log: parser.log(),
        };
        parser.end(probe)
    }
}

#[cfg(test)]
pub(crate) mod tests;
