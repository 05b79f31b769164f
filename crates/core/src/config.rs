//! From strings as they were given to a configuration that cannot be wrong, or to every mistake at once.

mod reading;
mod values;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::endpoint_url::EndpointUrl;
use crate::schedule::Schedule;
use crate::secret::Secret;
use crate::settings::{
    self, ACCESS_TOKEN_FILE, BASIC_AUTH, FIELD_PREFIX, REFRESH_BEFORE, REFRESH_INTERVAL, SUBJECT_TOKEN,
};
use reading::Reading;

/// What was given, as it was given.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Flags without their dashes, in order; a switch has an empty value.
    pub flags: Vec<(String, String)>,
    /// The process's variables; those that are none of ours are ignored.
    pub variables: Vec<(String, Secret)>,
    /// The variables and options whose value ended with a line break, which was removed: see [`Given::cleaned`].
    pub line_breaks: Vec<String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// It was given.
    Text(Secret),
    /// It is a file's content, read again at each exchange.
    File(PathBuf),
}

/// How the output file is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WriteMode {
    /// Replaced; overwritten only if it is a mount point, or if the volume cannot rename files.
    #[default]
    Auto,
    /// Replaced, or not at all.
    Atomic,
    /// Always overwritten.
    InPlace,
}

/// Where and in which form the issued token is put.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Output {
    /// The file.
    pub path: PathBuf,
    /// Its permissions; unset means the kubelet's rule.
    pub mode: Option<u32>,
    /// Its group.
    pub group: Option<u32>,
    /// How it is written.
    pub write_mode: WriteMode,
    /// Whether it is removed when its token has expired.
    pub remove_expired: bool,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// What needs somebody.
    Error,
    /// What may need somebody.
    Warn,
    /// What happens.
    #[default]
    Info,
    /// How it happens.
    Debug,
}

impl Level {
    /// As it is written.
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

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Log {
    /// How much.
    pub level: Level,
    /// JSON objects rather than text.
    pub json: bool,
}

/// Everything that an exchange and its output need.
#[derive(Clone, Debug)]
pub struct Config {
    /// The token endpoint.
    pub endpoint: EndpointUrl,
    /// Whether plain http may be spoken to public addresses.
    pub allow_insecure_http: bool,
    /// The client, as `id:secret`.
    pub client: Option<Source>,
    /// The form fields in the order of their names. One that is sent as given stays the same; a file is read again.
    pub fields: Vec<(String, Source)>,
    /// The output; `token` does without.
    pub output: Option<Output>,
    /// When to refresh.
    pub schedule: Schedule,
    /// The period of the key check; none is never.
    pub key_check: Option<Duration>,
    /// The limit of one attempt.
    pub attempt_timeout: Duration,
    /// The roots to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Where the last failure is put; unset means the usual place, if there is such a file.
    pub termination_log: Option<PathBuf>,
    /// How much life a token found on disk must have to be printed.
    pub min_ttl: Duration,
    /// When `once` and `token` give up.
    pub timeout: Duration,
    /// How to log.
    pub log: Log,
    /// What is accepted, but probably not meant. One sentence each.
    pub warnings: Vec<String>,
}

/// What `ready` and `wait` need: they look at files only.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The files to look at; at least one.
    pub files: Vec<PathBuf>,
    /// How much life a token must have left.
    pub min_ttl: Duration,
    /// When `wait` gives up.
    pub timeout: Duration,
    /// How to log.
    pub log: Log,
}

/// One mistake: a setting, what is wrong with it, and what would be right. Never the value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The setting's name, as it was given.
    pub setting: String,
    /// What is wrong, to follow the name: "is empty".
    pub wrong: String,
    /// What would be right, as an order: "use a duration such as 1h30m".
    pub right: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.setting, self.wrong, self.right)
    }
}

/// How the program logs, before anything else is judged. Mistakes in it are reported by [`Config::read`].
#[must_use]
pub fn log(given: &Given) -> Log {
    Reading::new(&given.cleaned()).log()
}

/// Where the kubelet finds the last failure, before anything else is judged. Nothing for its default place.
#[must_use]
pub fn termination_log(given: &Given) -> Option<PathBuf> {
    Reading::new(&given.cleaned()).path(settings::TERMINATION_LOG)
}

impl Config {
    /// Reads all settings of an exchange. Without `output_needed` the output file may be missing.
    ///
    /// # Errors
    /// Every mistake there is, in the order of the names; at least one.
    pub fn read(given: &Given, output_needed: bool) -> Result<Self, Vec<Problem>> {
        let given = given.cleaned();
        let mut reading = Reading::new(&given);
        reading.warnings = given.doubts();
        reading.unknown_variables();
        let (fields, client_file) = reading.fields();
        let allow_insecure = reading.switch(settings::ALLOW_INSECURE_HTTP);
        let (endpoint, userinfo) = reading.endpoint(allow_insecure);
        let client = client_file
            .map(Source::File)
            .or_else(|| reading.original(BASIC_AUTH).map(|basic| Source::Text(basic.clone())))
            .or_else(|| userinfo.map(Source::Text));
        let output = reading.output(output_needed);
        let schedule = Schedule {
            before: reading.original_duration(REFRESH_BEFORE, Duration::ZERO),
            interval: reading.original_duration(REFRESH_INTERVAL, Duration::from_nanos(1)),
        };
        let key_check = reading.duration(settings::KEY_CHECK).unwrap_or(Duration::from_secs(600));
        if !key_check.is_zero() && key_check < Duration::from_secs(1) {
            reading.wrong(settings::KEY_CHECK, "is too short", "use 1s or more, or 0s for never");
        }
        let attempt_timeout = reading.duration(settings::ATTEMPT_TIMEOUT).unwrap_or(Duration::from_secs(15));
        if !(Duration::from_millis(100)..=Duration::from_secs(300)).contains(&attempt_timeout) {
            reading.wrong(settings::ATTEMPT_TIMEOUT, "is out of range", "use 100ms to 5m");
        }
        let config = Self {
            allow_insecure_http: allow_insecure,
            client,
            output,
            schedule,
            key_check: Some(key_check).filter(|period| !period.is_zero()),
            attempt_timeout,
            ca_file: reading.path(settings::CA_FILE),
            termination_log: reading.path(settings::TERMINATION_LOG),
            min_ttl: reading.duration(settings::MIN_TTL).unwrap_or_default(),
            timeout: reading.duration(settings::TIMEOUT).unwrap_or(Duration::from_secs(60)),
            log: reading.log(),
            warnings: std::mem::take(&mut reading.warnings),
            fields,
            // Never used where it is missing: that is a problem, and read ends with it.
            endpoint: match endpoint {
                Some(endpoint) => endpoint,
                None => return Err(reading.problems()),
            },
        };
        reading.files_written(&config);
        reading.end(config)
    }

    /// A form field's value, where it was given rather than put into a file.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).and_then(|(_, source)| match source {
            Source::Text(text) => Some(text.expose()),
            Source::File(_) => None,
        })
    }

    /// The file with the subject token, if it comes from one.
    #[must_use]
    pub fn subject_token_file(&self) -> Option<&PathBuf> {
        self.fields.iter().find(|(field, _)| field == SUBJECT_TOKEN).and_then(|(_, source)| match source {
            Source::File(path) => Some(path),
            Source::Text(_) => None,
        })
    }
}

impl Probe {
    /// Reads what a probe needs, and does not care about the rest.
    ///
    /// # Errors
    /// Every mistake there is.
    pub fn read(given: &Given) -> Result<Self, Vec<Problem>> {
        let given = given.cleaned();
        let mut reading = Reading::new(&given);
        let mut files: Vec<PathBuf> = reading.flags(settings::FILE).map(PathBuf::from).collect();
        if files.iter().any(|file| file.as_os_str().is_empty()) {
            reading.wrong(settings::FILE, "is empty", "name a token file");
        }
        if files.is_empty() {
            match reading.original(ACCESS_TOKEN_FILE) {
                Some(file) => files.push(file.expose().into()),
                None => reading.problem(
                    &format!("{FIELD_PREFIX}{ACCESS_TOKEN_FILE}"),
                    "is not set",
                    "set it, or name the token file with --file",
                ),
            }
        }
        let probe = Self {
            files,
            min_ttl: reading.duration(settings::MIN_TTL).unwrap_or_default(),
            timeout: reading.duration(settings::TIMEOUT).unwrap_or(Duration::from_secs(300)),
            log: reading.log(),
        };
        reading.end(probe)
    }
}

#[cfg(test)]
pub(crate) mod tests;
