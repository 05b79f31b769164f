//! From strings as they were given to a configuration that cannot be wrong, or to every mistake at once.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::duration::{self, NotADuration};
use crate::endpoint_url::{EndpointUrl, Reach};
use crate::schedule::Schedule;
use crate::secret::Secret;
use crate::settings::{
    self, ACCESS_TOKEN_FILE, AUDIENCE_SCOPE, BASIC_AUTH, ENDPOINT, FIELD_PREFIX, FILE_PREFIX, KNOWN_FIELDS,
    KNOWN_SCOPES, ORIGINAL, PREFIX, REFRESH_BEFORE, REFRESH_INTERVAL, SETTINGS, SUBJECT_TOKEN, Setting,
    nearest,
};

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const TOKEN_TYPES: [&str; 2] =
    ["urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:access_token"];

/// What was given, as it was given.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Flags without their dashes, in order; a switch has an empty value.
    pub flags: Vec<(String, String)>,
    /// The process's variables; those that are none of ours are ignored.
    pub variables: Vec<(String, Secret)>,
    /// The search list of the machine's resolver, which tells the cluster's domain.
    pub search: Vec<String>,
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
    /// Replaced; only a file that is a mount point itself is overwritten.
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
    Reading::new(given).log()
}

impl Config {
    /// Reads all settings of an exchange. Without `output_needed` the output file may be missing.
    ///
    /// # Errors
    /// Every mistake there is, in the order of the names; at least one.
    pub fn read(given: &Given, output_needed: bool) -> Result<Self, Vec<Problem>> {
        let mut reading = Reading::new(given);
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
        let mut reading = Reading::new(given);
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

/// Settings being read: what was given, and the mistakes found so far.
struct Reading<'a> {
    given: &'a Given,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl<'a> Reading<'a> {
    const fn new(given: &'a Given) -> Self {
        Self { given, problems: Vec::new(), warnings: Vec::new() }
    }

    fn end<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() { Ok(value) } else { Err(self.problems()) }
    }

    fn problems(mut self) -> Vec<Problem> {
        self.problems.sort_by(|a, b| a.setting.cmp(&b.setting));
        self.problems.dedup();
        self.problems
    }

    fn problem(&mut self, setting: &str, wrong: impl Into<String>, right: impl Into<String>) {
        let (wrong, right) = (wrong.into(), right.into());
        self.problems.push(Problem { setting: setting.to_owned(), wrong, right });
    }

    /// A mistake in a setting of our own, under the name by which it was given.
    fn wrong(&mut self, setting: &Setting, wrong: impl Into<String>, right: impl Into<String>) {
        let name = if self.flags(setting).next().is_some() || setting.variable.is_empty() {
            format!("--{}", setting.flag)
        } else {
            setting.variable.to_owned()
        };
        self.problem(&name, wrong, right);
    }

    fn variable(&self, name: &str) -> Option<&'a Secret> {
        self.given.variables.iter().find(|(given, _)| given == name).map(|(_, value)| value)
    }

    fn flags(&self, setting: &Setting) -> impl Iterator<Item = &'a str> {
        let flag = setting.flag;
        self.given.flags.iter().filter(move |(given, _)| given == flag).map(|(_, value)| value.as_str())
    }

    /// A setting of our own: the last flag, else the variable; an empty variable is as if unset.
    fn own(&self, setting: &Setting) -> Option<&'a str> {
        let variable =
            || self.variable(setting.variable).map(Secret::expose).filter(|value| !value.is_empty());
        self.flags(setting).last().or_else(variable)
    }

    /// A setting of the original; an empty one is as if unset.
    fn original(&self, name: &str) -> Option<&'a Secret> {
        self.variable(&format!("{FIELD_PREFIX}{name}")).filter(|value| !value.is_empty())
    }

    fn switch(&mut self, setting: &Setting) -> bool {
        match self.own(setting) {
            None => false,
            Some("" | "true" | "1") => true,
            Some("false" | "0") => false,
            Some(_) => {
                self.wrong(setting, "is neither true nor false", "use true or false");
                false
            }
        }
    }

    fn path(&mut self, setting: &Setting) -> Option<PathBuf> {
        let path = self.own(setting)?;
        if path.is_empty() {
            self.wrong(setting, "is empty", "name a file");
        }
        Some(path.into())
    }

    fn duration(&mut self, setting: &Setting) -> Option<Duration> {
        match duration::parse(self.own(setting)?) {
            Ok(duration) => Some(duration),
            Err(why) => {
                self.wrong(setting, why.to_string(), DURATION);
                None
            }
        }
    }

    fn original_duration(&mut self, name: &str, least: Duration) -> Option<Duration> {
        let setting = format!("{FIELD_PREFIX}{name}");
        match duration::parse(self.original(name)?.expose()) {
            Ok(duration) if duration >= least => Some(duration),
            Ok(_) => {
                self.problem(&setting, "is zero", "use a duration such as 1m");
                None
            }
            Err(NotADuration::Empty) => None,
            Err(why) => {
                self.problem(&setting, why.to_string(), DURATION);
                None
            }
        }
    }

    /// One of a few words.
    fn word<T: Copy + Default>(&mut self, setting: &Setting, words: &[(&str, T)]) -> T {
        let Some(given) = self.own(setting) else { return T::default() };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == given) {
            return *value;
        }
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        self.wrong(setting, "is unknown", format!("use {}", known.join(", ")));
        T::default()
    }

    fn log(&mut self) -> Log {
        let levels = [
            ("error", Level::Error),
            ("warn", Level::Warn),
            ("info", Level::Info),
            ("debug", Level::Debug),
            ("trace", Level::Debug),
        ];
        Log {
            level: self.word(settings::LOG_LEVEL, &levels),
            json: self.word(settings::LOG_FORMAT, &[("text", false), ("json", true)]),
        }
    }

    fn unknown_variables(&mut self) {
        for (name, _) in &self.given.variables {
            let known = SETTINGS.iter().any(|setting| setting.variable == name);
            if !name.starts_with(PREFIX) || known || is_service_link(name) {
                continue;
            }
            let right = match nearest(name, SETTINGS.iter().map(|setting| setting.variable)) {
                Some(near) => format!("did you mean {near}?"),
                None => "remove it, or see docs/settings.md for the names there are".to_owned(),
            };
            self.problem(name, "is no setting", right);
        }
    }

    fn endpoint(&mut self, allow_insecure: bool) -> (Option<EndpointUrl>, Option<Secret>) {
        let name = format!("{FIELD_PREFIX}{ENDPOINT}");
        let Some(text) = self.original(ENDPOINT) else {
            self.problem(&name, "is not set", ENDPOINT_EXAMPLE);
            return (None, None);
        };
        let (url, userinfo) = match EndpointUrl::parse(text.expose()) {
            Ok(parsed) => parsed,
            Err(why) => {
                self.problem(&name, why.to_string(), ENDPOINT_EXAMPLE);
                return (None, None);
            }
        };
        if !url.is_tls() {
            match url.reach(&self.given.search) {
                Reach::Loopback => {}
                Reach::Inside => self.warnings.push(format!(
                    "{name} is plain http: whoever can listen inside the cluster sees the tokens; use https"
                )),
                Reach::Anywhere if allow_insecure => self.warnings.push(format!(
                    "{name} is plain http to a public name: whoever can listen on the way sees the tokens; use https"
                )),
                Reach::Anywhere => self.problem(
                    &name,
                    "is plain http and leads outside",
                    format!("use https, or set {} to true", settings::ALLOW_INSECURE_HTTP.variable),
                ),
            }
        }
        (Some(url), userinfo)
    }

    /// The form fields by name, and the file with the client's id and secret.
    fn fields(&mut self) -> (Vec<(String, Source)>, Option<PathBuf>) {
        let mut fields = Vec::new();
        let mut client_file = None;
        let is_setting = |name: &str| ORIGINAL.iter().any(|setting| setting.name == name);
        for (variable, value) in &self.given.variables {
            let (name, source) = if let Some(name) = variable.strip_prefix(FILE_PREFIX) {
                (name, Source::File(value.expose().into()))
            } else if let Some(name) = variable.strip_prefix(FIELD_PREFIX) {
                (name, Source::Text(value.clone()))
            } else {
                continue;
            };
            if name.is_empty() {
                self.problem(
                    variable,
                    "names no form field",
                    "write the field's name behind it, or remove it",
                );
                continue;
            }
            if let Source::File(path) = &source {
                if path.as_os_str().is_empty() {
                    self.problem(variable, "is empty", "name the file whose content is to be sent");
                }
                if self.variable(&format!("{FIELD_PREFIX}{name}")).is_some_and(|text| !text.is_empty()) {
                    self.problem(
                        variable,
                        format!("and {FIELD_PREFIX}{name} are both set"),
                        "keep one of them",
                    );
                }
                if name == BASIC_AUTH {
                    client_file = Some(path.clone());
                    continue;
                }
                if is_setting(name) {
                    self.problem(
                        variable,
                        "cannot come from a file",
                        format!("set {FIELD_PREFIX}{name} instead"),
                    );
                }
            }
            if !is_setting(name) {
                fields.push((name.to_owned(), source));
            }
        }
        // An empty dex_X beside dex_file_X: the file is what is meant.
        let from_file: Vec<String> = fields
            .iter()
            .filter(|(_, s)| matches!(s, Source::File(_)))
            .map(|(name, _)| name.clone())
            .collect();
        fields.retain(|(name, source)| matches!(source, Source::File(_)) || !from_file.contains(name));
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        self.doubtful_fields(&fields);
        (fields, client_file)
    }

    fn doubtful_fields(&mut self, fields: &[(String, Source)]) {
        let text = |name: &str| {
            fields.iter().find(|(field, _)| field == name).map(|(_, source)| match source {
                Source::Text(text) => text.expose(),
                Source::File(_) => "",
            })
        };
        for (name, _) in fields.iter().filter(|(name, _)| !KNOWN_FIELDS.contains(&name.as_str())) {
            let settings = ORIGINAL.iter().map(|setting| setting.name);
            if let Some(near) = nearest(name, KNOWN_FIELDS.iter().copied().chain(settings)) {
                self.warnings.push(format!(
                    "{FIELD_PREFIX}{name} is sent as a form field {name}, which Dex does not know: did you mean \
                     {FIELD_PREFIX}{near}?"
                ));
            }
        }
        if text("grant_type").is_none() {
            self.warnings.push(format!("dex_grant_type is not set, and Dex needs it: use {TOKEN_EXCHANGE}"));
        }
        if text("grant_type").is_none_or(|grant| grant == TOKEN_EXCHANGE) {
            for (name, use_it) in [
                (SUBJECT_TOKEN, "set dex_file_subject_token to the projected token's path".to_owned()),
                ("subject_token_type", format!("set dex_subject_token_type to {}", TOKEN_TYPES[0])),
                (
                    "connector_id",
                    "set dex_connector_id to the id of Dex's connector for this cluster".to_owned(),
                ),
            ] {
                if text(name).is_none() {
                    self.warnings
                        .push(format!("{FIELD_PREFIX}{name} is not set, and Dex needs it: {use_it}"));
                }
            }
        }
        for name in ["subject_token_type", "requested_token_type"] {
            if text(name).is_some_and(|kind| !kind.is_empty() && !TOKEN_TYPES.contains(&kind)) {
                self.warnings.push(format!(
                    "{FIELD_PREFIX}{name} is a type that Dex does not know: use {} or {}",
                    TOKEN_TYPES[0], TOKEN_TYPES[1]
                ));
            }
        }
        for scope in text("scope").unwrap_or_default().split_ascii_whitespace() {
            if KNOWN_SCOPES.contains(&scope) || scope.starts_with(AUDIENCE_SCOPE) {
                continue;
            }
            let scopes = KNOWN_SCOPES.iter().copied();
            self.warnings.push(match nearest(scope, scopes) {
                Some(near) => format!("dex_scope: Dex ignores the scope {scope}: did you mean {near}?"),
                None => "dex_scope has a scope that Dex does not know and ignores".to_owned(),
            });
        }
    }

    fn output(&mut self, needed: bool) -> Option<Output> {
        let name = format!("{FIELD_PREFIX}{ACCESS_TOKEN_FILE}");
        let mode = self.own(settings::OUTPUT_MODE).and_then(|text| {
            let octal = (1..=4).contains(&text.len()).then(|| u32::from_str_radix(text, 8).ok()).flatten();
            let mode = octal.filter(|mode| *mode <= 0o777 && mode & 0o400 != 0 && !text.starts_with('+'));
            if mode.is_none() {
                self.wrong(
                    settings::OUTPUT_MODE,
                    "is no file mode that lets its owner read",
                    "use octal digits such as 0640",
                );
            }
            mode
        });
        let group = self.own(settings::OUTPUT_GROUP).and_then(|text| {
            let group = text.parse::<u32>().ok().filter(|group| *group != u32::MAX && !text.starts_with('+'));
            if group.is_none() {
                self.wrong(settings::OUTPUT_GROUP, "is no group number", "use a number such as 1000");
            }
            group
        });
        let words =
            [("auto", WriteMode::Auto), ("atomic", WriteMode::Atomic), ("in-place", WriteMode::InPlace)];
        let write_mode = self.word(settings::WRITE_MODE, &words);
        let remove_expired = self.word(settings::ON_EXPIRY, &[("keep", false), ("remove", true)]);
        let Some(path) = self.original(ACCESS_TOKEN_FILE) else {
            if needed {
                self.problem(&name, "is not set", "name the file to write the token to");
            }
            return None;
        };
        let path = PathBuf::from(path.expose());
        // `file_name` sees through "folder/", so the text is looked at as well.
        if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            self.problem(&name, "names a folder", "name a file in it, as FOLDER/token");
        }
        Some(Output { path, mode, group, write_mode, remove_expired })
    }
}

const DURATION: &str = "use a duration such as 1h30m, 1.5h or 250ms";
const ENDPOINT_EXAMPLE: &str = "set it to Dex's token endpoint, as https://dex.example.com/token";

/// True for a variable that Kubernetes makes for a Service whose name begins with "dexsidecar".
fn is_service_link(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("DEXSIDECAR") else { return false };
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| rest.contains(protocol) && rest.contains("_PORT_"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What these variables, written `NAME=value`, are read to.
    pub(crate) fn given(variables: &[&str]) -> Given {
        let variables = variables
            .iter()
            .map(|line| line.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned())))
            .collect();
        Given { variables, ..Given::default() }
    }

    const SEED: [&str; 9] = [
        "dex_access_token_file=/var/run/secrets/miscord.win/dex/token",
        "dex_endpoint=https://dex.tsuzu.dev/token",
        "dex_basic_auth=user:",
        "dex_connector_id=k3s",
        "dex_grant_type=urn:ietf:params:oauth:grant-type:token-exchange",
        "dex_scope=openid federated_id",
        "dex_requested_token_type=urn:ietf:params:oauth:token-type:access_token",
        "dex_file_subject_token=/var/run/secrets/kubernetes.io/dex/token",
        "dex_subject_token_type=urn:ietf:params:oauth:token-type:id_token",
    ];

    fn with(more: &[&str]) -> Result<Config, Vec<Problem>> {
        Config::read(&given(&[&SEED[..], more].concat()), true)
    }

    fn problems(more: &[&str]) -> Vec<String> {
        with(more).unwrap_err().iter().map(Problem::to_string).collect()
    }

    #[test]
    fn the_original_s_manifest_means_what_it_meant() {
        let config = with(&[]).unwrap();
        assert_eq!(config.endpoint.to_string(), "https://dex.tsuzu.dev/token");
        assert_eq!(config.client, Some(Source::Text(Secret::new("user:".to_owned()))));
        let names: Vec<_> = config.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "connector_id",
                "grant_type",
                "requested_token_type",
                "scope",
                "subject_token",
                "subject_token_type"
            ]
        );
        assert_eq!(config.schedule, Schedule::default());
        assert_eq!(
            config.warnings,
            ["dex_scope: Dex ignores the scope federated_id: did you mean federated:id?"]
        );
    }

    #[test]
    fn own_settings_are_never_form_fields() {
        let config =
            with(&["dex_refresh_before=2h", "dex_refresh_interval=5m", "DEXSIDECAR_LOG=debug"]).unwrap();
        assert!(config.fields.iter().all(|(name, _)| !name.starts_with("refresh")));
        assert_eq!(config.schedule.before, Some(Duration::from_secs(7_200)));
        assert_eq!(config.log.level, Level::Debug);
    }

    #[test]
    fn any_other_name_is_a_field_in_its_own_case_and_may_be_empty() {
        let config =
            with(&["dex_Resource=", "dex_refresh_before=", "dex_refresh_interval=", "DEX_PORT=tcp://1"]);
        let config = config.unwrap();
        assert_eq!(config.field("Resource"), Some(""));
        assert_eq!(config.schedule, Schedule::default());
        assert_eq!(config.fields.len(), 7);
    }

    #[test]
    fn every_mistake_is_told_at_once_by_its_name() {
        let told = problems(&[
            "dex_refresh_before=10",
            "dex_refresh_interval=0s",
            "DEXSIDECAR_CAFILE=/x",
            "DEXSIDECAR_OUTPUT_MODE=999",
            "DEXSIDECAR_OUTPUT_GROUP=staff",
            "DEXSIDECAR_WRITE_MODE=sideways",
            "DEXSIDECAR_ATTEMPT_TIMEOUT=1h",
            "DEXSIDECAR_KEY_CHECK=1ms",
            "DEXSIDECAR_ALLOW_INSECURE_HTTP=maybe",
            "DEXSIDECAR_LOG=loud",
            "dex_file_scope=/x",
            "dex_file_endpoint=/x",
        ]);
        assert_eq!(
            told,
            [
                "DEXSIDECAR_ALLOW_INSECURE_HTTP is neither true nor false: use true or false",
                "DEXSIDECAR_ATTEMPT_TIMEOUT is out of range: use 100ms to 5m",
                "DEXSIDECAR_CAFILE is no setting: did you mean DEXSIDECAR_CA_FILE?",
                "DEXSIDECAR_KEY_CHECK is too short: use 1s or more, or 0s for never",
                "DEXSIDECAR_LOG is unknown: use error, warn, info, debug, trace",
                "DEXSIDECAR_OUTPUT_GROUP is no group number: use a number such as 1000",
                "DEXSIDECAR_OUTPUT_MODE is no file mode that lets its owner read: use octal digits such as 0640",
                "DEXSIDECAR_WRITE_MODE is unknown: use auto, atomic, in-place",
                "dex_file_endpoint and dex_endpoint are both set: keep one of them",
                "dex_file_endpoint cannot come from a file: set dex_endpoint instead",
                "dex_file_scope and dex_scope are both set: keep one of them",
                "dex_refresh_before has a number without a unit: use a duration such as 1h30m, 1.5h or 250ms",
                "dex_refresh_interval is zero: use a duration such as 1m",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_told() {
        let told: Vec<_> =
            Config::read(&Given::default(), true).unwrap_err().iter().map(Problem::to_string).collect();
        assert_eq!(
            told,
            [
                "dex_access_token_file is not set: name the file to write the token to",
                "dex_endpoint is not set: set it to Dex's token endpoint, as https://dex.example.com/token",
            ]
        );
        let warnings =
            Config::read(&given(&["dex_endpoint=https://dex/token", "dex_access_token_file=/t"]), true);
        assert_eq!(warnings.unwrap().warnings.len(), 4);
    }

    #[test]
    fn no_value_is_ever_shown() {
        let told =
            problems(&["dex_refresh_before=canary", "dex_file_basic_auth=/canary", "DEXSIDECAR_LOG=canary"]);
        assert!(!told.concat().contains("canary"), "{told:?}");
    }

    #[test]
    fn a_misspelt_field_is_sent_and_warned_of() {
        let config = with(&["dex_conector_id=k3s", "dex_endpont=x", "dex_username=me"]).unwrap();
        assert_eq!(config.field("conector_id"), Some("k3s"));
        assert!(config.warnings[0].ends_with("did you mean dex_connector_id?"), "{:?}", config.warnings);
        assert!(config.warnings[1].ends_with("did you mean dex_endpoint?"), "{:?}", config.warnings);
        assert_eq!(config.warnings.len(), 3);
    }

    #[test]
    fn plain_http_is_accepted_where_it_cannot_leave() {
        let read = |url: &str, more: &[&str]| {
            let endpoint = format!("dex_endpoint={url}");
            let mut all = vec![endpoint.as_str(), "dex_access_token_file=/t"];
            all.extend(more);
            Config::read(&given(&all), true).map(|config| config.warnings.len() - 4)
        };
        assert_eq!(read("http://127.0.0.1:5556/dex/token", &[]), Ok(0));
        assert_eq!(read("http://dex.auth.svc/token", &[]), Ok(1));
        assert_eq!(read("http://dex.example/token", &["DEXSIDECAR_ALLOW_INSECURE_HTTP=true"]), Ok(1));
        let refused = read("http://dex.example/token", &[]).unwrap_err();
        assert_eq!(
            refused[0].to_string(),
            "dex_endpoint is plain http and leads outside: use https, or set DEXSIDECAR_ALLOW_INSECURE_HTTP to true"
        );
    }

    #[test]
    fn user_and_password_of_the_url_count_only_without_basic_auth() {
        let url = "dex_endpoint=https://u:p@dex.example/token";
        let alone = Config::read(&given(&[url, "dex_access_token_file=/t"]), true).unwrap();
        assert_eq!(alone.client, Some(Source::Text(Secret::new("u:p".to_owned()))));
        let both =
            Config::read(&given(&[url, "dex_access_token_file=/t", "dex_basic_auth=a:b"]), true).unwrap();
        assert_eq!(both.client, Some(Source::Text(Secret::new("a:b".to_owned()))));
    }

    #[test]
    fn variables_of_a_service_are_no_mistakes() {
        let links = [
            "DEXSIDECAR_SERVICE_HOST=10.0.0.1",
            "DEXSIDECAR_SERVICE_PORT=80",
            "DEXSIDECAR_SERVICE_PORT_HTTP=80",
            "DEXSIDECAR_PORT=tcp://10.0.0.1:80",
            "DEXSIDECAR_PORT_80_TCP_ADDR=10.0.0.1",
            "DEXSIDECAR_METRICS_PORT_80_TCP=tcp://10.0.0.1:80",
        ];
        assert!(with(&links).is_ok());
    }

    #[test]
    fn a_flag_wins_over_its_variable_and_names_itself() {
        let mut given = given(&[&SEED[..], &["DEXSIDECAR_KEY_CHECK=5m"]].concat());
        given.flags = vec![("key-check".to_owned(), "0s".to_owned())];
        assert_eq!(Config::read(&given, true).unwrap().key_check, None);
        given.flags = vec![("key-check".to_owned(), "soon".to_owned())];
        let told = Config::read(&given, true).unwrap_err();
        assert_eq!(told[0].setting, "--key-check");
    }

    #[test]
    fn a_probe_needs_a_file_and_no_more() {
        let probe = Probe::read(&given(&["dex_access_token_file=/t", "dex_refresh_before=broken"])).unwrap();
        assert_eq!(probe.files, [PathBuf::from("/t")]);
        assert_eq!(Probe::read(&Given::default()).unwrap_err().len(), 1);
        let flags = vec![("file".to_owned(), "/a".to_owned()), ("file".to_owned(), "/b".to_owned())];
        assert_eq!(Probe::read(&Given { flags, ..Given::default() }).unwrap().files.len(), 2);
    }

    #[test]
    fn an_output_must_be_a_file() {
        for path in ["/", "/var/run/", ".."] {
            let endpoint = "dex_endpoint=https://dex/token";
            let told = Config::read(&given(&[endpoint, &format!("dex_access_token_file={path}")]), true);
            assert_eq!(told.unwrap_err()[0].wrong, "names a folder", "{path}");
        }
    }
}
