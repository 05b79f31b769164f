//! The parser of settings: one method for each kind of value. It collects problems instead of
//! stopping at the first.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Level, Log, Origin, Problem, RawSettings, RawValue};
use crate::duration::{self, NotADuration};
use crate::endpoint_url::{EndpointUrl, is_localhost, is_public};
use crate::exchange::{ACCESS_TOKEN, ID_TOKEN, KNOWN_TO_DEX, Source, TOKEN_EXCHANGE};
use crate::failure::printable;
use crate::listen_address;
use crate::output::{Format, Output, WriteMode};
use crate::secret::Secret;
use crate::settings::{
    self, ACCESS_TOKEN_FILE, AUDIENCE_SCOPE, BASIC_AUTH, Command, ENDPOINT, FIELD_PREFIX, FILE_PREFIX,
    KNOWN_FIELDS, KNOWN_SCOPES, Kind, ORIGINAL, PREFIX, SETTINGS, SUBJECT_TOKEN, Setting, nearest,
};

/// The settings as they were given, and the problems found so far.
pub(super) struct Parser<'a> {
    given: &'a RawSettings,
    problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Parser<'a> {
    pub(super) const fn new(given: &'a RawSettings) -> Self {
        Self { given, problems: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn end<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() { Ok(value) } else { Err(self.problems()) }
    }

    pub(super) fn problems(mut self) -> Vec<Problem> {
        self.problems.dedup();
        self.problems
    }

    pub(super) fn problem(&mut self, setting: &str, what: impl Into<String>, fix: impl Into<String>) {
        let (what, fix) = (what.into(), fix.into());
        Problem { setting: printable(setting.to_owned()), what, fix }.insert_into(&mut self.problems);
    }

    /// A problem with a setting, under the name by which it was given.
    pub(super) fn invalid(&mut self, setting: &Setting, what: impl Into<String>, fix: impl Into<String>) {
        let name = self.name(setting);
        self.problem(&name, what, fix);
    }

    /// The name by which a setting was given. One that was not given has the name of its variable,
    /// if it has a variable.
    fn name(&self, setting: &Setting) -> String {
        match self.effective(setting) {
            Some(given) => given.shown_name(),
            None if setting.variable.is_empty() => format!("--{}", setting.option),
            None => setting.variable.to_owned(),
        }
    }

    fn variable(&self, name: &str) -> Option<&'a Secret> {
        self.given.variable(name).map(|given| &given.value)
    }

    /// The value of a setting that counts: that of the last option, else that of the variable. An
    /// empty variable counts as unset.
    fn effective(&self, setting: &Setting) -> Option<&'a RawValue> {
        let variable = || self.given.variable(setting.variable).filter(|given| !given.value.is_empty());
        self.given.options(setting.option).last().or_else(variable)
    }

    fn own(&self, setting: &Setting) -> Option<&'a str> {
        self.effective(setting).map(|given| given.value.expose())
    }

    /// The value of a compatibility variable; an empty one counts as unset.
    pub(super) fn original(&self, name: &str) -> Option<&'a Secret> {
        self.variable(&format!("{FIELD_PREFIX}{name}")).filter(|value| !value.is_empty())
    }

    pub(super) fn switch(&mut self, setting: &Setting) -> bool {
        match self.own(setting) {
            None => false,
            Some("" | "true" | "1") => true,
            Some("false" | "0") => false,
            Some(_) => {
                self.invalid(setting, "is neither true nor false", "use true or false");
                false
            }
        }
    }

    pub(super) fn path(&mut self, setting: &Setting) -> Option<PathBuf> {
        let path = self.own(setting)?;
        if path.is_empty() {
            self.invalid(setting, "is empty", "set it to the path of a file");
        }
        Some(path.into())
    }

    /// The address of the listener.
    pub(super) fn listen(&mut self) -> Option<SocketAddr> {
        match listen_address::parse(self.own(settings::LISTEN)?) {
            Ok(address) => Some(address),
            Err(what) => {
                self.invalid(settings::LISTEN, what, listen_address::FIX);
                None
            }
        }
    }

    /// A duration within its range, or the default for this command.
    pub(super) fn duration(&mut self, setting: &Setting, command: Command) -> Duration {
        let default = setting.default_duration(command);
        let Some(given) = self.own(setting) else { return default };
        let duration = match duration::parse(given) {
            Ok(duration) => duration,
            Err(why) => {
                self.invalid(setting, why.to_string(), DURATION);
                return default;
            }
        };
        if let Kind::Duration { range: Some((shortest, longest)), zero, .. } = setting.kind
            && !(shortest..=longest).contains(&duration)
            && !(duration.is_zero() && zero.is_some())
        {
            self.invalid(
                setting,
                "is out of range",
                format!("use {}", setting.range_text().unwrap_or_default()),
            );
        }
        duration
    }

    pub(super) fn original_duration(&mut self, name: &str, least: Duration) -> Option<Duration> {
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
        self.invalid(setting, "has an unknown value", format!("use one of {}", known.join(", ")));
        T::default()
    }

    pub(super) fn log(&mut self) -> Log {
        let levels =
            [("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)];
        Log {
            level: self.word(settings::LOG_LEVEL, &levels),
            json: self.word(settings::LOG_FORMAT, &[("text", false), ("json", true)]),
        }
    }

    /// Whether `wait` goes on all the same at the timeout.
    pub(super) fn run_on_timeout(&mut self) -> bool {
        self.word(settings::ON_TIMEOUT, &[("fail", false), ("run", true)])
    }

    /// The process that `refresh` signals.
    pub(super) fn pid(&mut self) -> Option<i32> {
        let text = self.own(settings::PID)?;
        let pid = text.parse::<i32>().ok().filter(|pid| *pid > 0 && !text.starts_with('+'));
        if pid.is_none() {
            self.invalid(settings::PID, "is not a process id", "use a number such as 1");
        }
        pid
    }

    pub(super) fn unknown_variables(&mut self) {
        for RawValue { name, .. } in self.given.given_as(Origin::Variable) {
            let known = SETTINGS.iter().any(|setting| setting.variable == name);
            if !name.starts_with(PREFIX) || known || is_service_link(name) {
                continue;
            }
            // The name of an option whose variable has another name, or none.
            let option = name[PREFIX.len()..].to_ascii_lowercase().replace('_', "-");
            let same = SETTINGS.iter().find(|setting| setting.option == option);
            let variables = SETTINGS.iter().map(|setting| setting.variable);
            let fix = match same.map(|setting| setting.variable).or_else(|| nearest(name, variables)) {
                Some("") => format!("use the option --{option}"),
                Some(near) => format!("use {near}"),
                None => "remove it, or see docs/settings.md for all names".to_owned(),
            };
            self.problem(name, "is an unknown setting", fix);
        }
    }

    pub(super) fn endpoint(&mut self, allow_insecure: bool) -> (Option<EndpointUrl>, Option<Secret>) {
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
        if !url.is_tls() && !is_localhost(url.host()) {
            let allow = self.name(settings::ALLOW_INSECURE_HTTP);
            match url.address() {
                Some(ip) if ip.to_canonical().is_loopback() => {}
                Some(ip) if is_public(ip) && !allow_insecure => self.problem(
                    &name,
                    "is plain http to a public address",
                    format!("use https, or set {allow} to true"),
                ),
                _ if allow_insecure => self.warnings.push(format!(
                    "{name} is plain http: anyone on the network path can read the tokens; use https ({allow} allows \
                     public addresses)"
                )),
                _ => self.warnings.push(format!(
                    "{name} is plain http: anyone on the network path can read the tokens; use https (public addresses \
                     are refused unless {allow} is true)"
                )),
            }
        }
        (Some(url), userinfo)
    }

    /// The form fields by name, and the file with the client's id and secret.
    pub(super) fn fields(&mut self) -> (Vec<(String, Source)>, Option<PathBuf>) {
        let mut fields = Vec::new();
        let mut client_file = None;
        let is_setting = |name: &str| ORIGINAL.iter().any(|setting| setting.name == name);
        for RawValue { name: variable, value, .. } in self.given.given_as(Origin::Variable) {
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
                    "has no field name",
                    "append the name of the form field, or remove the variable",
                );
                continue;
            }
            if let Source::File(path) = &source {
                if path.as_os_str().is_empty() {
                    self.problem(variable, "is empty", "set it to the path of the file with the value");
                }
                if self.variable(&format!("{FIELD_PREFIX}{name}")).is_some_and(|text| !text.is_empty()) {
                    self.problem(
                        variable,
                        format!("and {FIELD_PREFIX}{name} are both set"),
                        "remove one of them",
                    );
                }
                if name == BASIC_AUTH {
                    client_file = Some(path.clone());
                    continue;
                }
                if is_setting(name) {
                    self.problem(
                        variable,
                        "cannot be read from a file",
                        format!("set {FIELD_PREFIX}{name} instead"),
                    );
                }
            }
            if !is_setting(name) {
                let at = fields.partition_point(|(known, _): &(String, Source)| known.as_str() <= name);
                fields.insert(at, (name.to_owned(), source));
            }
        }
        // An empty dex_X beside dex_file_X counts as unset.
        let from_file: Vec<String> = fields
            .iter()
            .filter(|(_, s)| matches!(s, Source::File(_)))
            .map(|(name, _)| name.clone())
            .collect();
        fields.retain(|(name, source)| matches!(source, Source::File(_)) || !from_file.contains(name));
        self.warn_about_fields(&fields);
        (fields, client_file)
    }

    fn warn_about_fields(&mut self, fields: &[(String, Source)]) {
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
                    "{FIELD_PREFIX}{name} is sent as the form field {name}, which Dex does not know: did you mean \
                     {FIELD_PREFIX}{near}?"
                ));
            }
        }
        if text("grant_type").is_none() {
            self.warnings
                .push(format!("dex_grant_type is not set, but Dex requires it: set it to {TOKEN_EXCHANGE}"));
        }
        if text("grant_type").is_none_or(|grant| grant == TOKEN_EXCHANGE) {
            for (name, use_it) in [
                (SUBJECT_TOKEN, "set dex_file_subject_token to the projected token's path".to_owned()),
                ("subject_token_type", format!("set dex_subject_token_type to {ID_TOKEN}")),
                (
                    "connector_id",
                    "set dex_connector_id to the id of Dex's connector for this cluster".to_owned(),
                ),
            ] {
                if text(name).is_none() {
                    self.warnings
                        .push(format!("{FIELD_PREFIX}{name} is not set, but Dex requires it: {use_it}"));
                }
            }
        }
        for name in ["subject_token_type", "requested_token_type"] {
            if text(name).is_some_and(|kind| !kind.is_empty() && !KNOWN_TO_DEX.contains(&kind)) {
                self.warnings.push(format!(
                    "{FIELD_PREFIX}{name} is a token type that Dex does not support: use {ID_TOKEN} or {ACCESS_TOKEN}"
                ));
            }
        }
        for scope in text("scope").unwrap_or_default().split_ascii_whitespace() {
            if KNOWN_SCOPES.contains(&scope) || scope.starts_with(AUDIENCE_SCOPE) {
                continue;
            }
            let scopes = KNOWN_SCOPES.iter().copied();
            self.warnings.push(match nearest(scope, scopes) {
                Some(near) => {
                    format!("dex_scope has the scope {scope}, which Dex ignores: did you mean {near}?")
                }
                None => "dex_scope has an unknown scope, which Dex ignores".to_owned(),
            });
        }
    }

    pub(super) fn output(&mut self, needed: bool) -> Option<Output> {
        let name = format!("{FIELD_PREFIX}{ACCESS_TOKEN_FILE}");
        let mode = self.own(settings::OUTPUT_MODE).and_then(|text| {
            let octal = (1..=4).contains(&text.len()).then(|| u32::from_str_radix(text, 8).ok()).flatten();
            let mode = octal.filter(|mode| *mode <= 0o777 && mode & 0o400 != 0 && !text.starts_with('+'));
            if mode.is_none() {
                self.invalid(
                    settings::OUTPUT_MODE,
                    "is not an octal file mode that lets its owner read",
                    "use a mode such as 0640",
                );
            }
            mode
        });
        let group = self.own(settings::OUTPUT_GROUP).and_then(|text| {
            let group = text.parse::<u32>().ok().filter(|group| *group != u32::MAX && !text.starts_with('+'));
            if group.is_none() {
                self.invalid(settings::OUTPUT_GROUP, "is not a group number", "use a number such as 1000");
            }
            group
        });
        let words =
            [("auto", WriteMode::Auto), ("atomic", WriteMode::Atomic), ("in-place", WriteMode::InPlace)];
        let write_mode = self.word(settings::WRITE_MODE, &words);
        if write_mode == WriteMode::InPlace && mode.is_some_and(|mode| mode & 0o200 == 0) {
            let write_mode = self.name(settings::WRITE_MODE);
            self.invalid(
                settings::OUTPUT_MODE,
                format!("does not let the owner write, but {write_mode} in-place overwrites the same file at each refresh"),
                format!("use a mode such as 0640, or set {write_mode} to auto"),
            );
        }
        let remove_expired = self.word(settings::ON_EXPIRY, &[("keep", false), ("remove", true)]);
        let Some(path) = self.original(ACCESS_TOKEN_FILE) else {
            if needed {
                self.problem(&name, "is not set", "set it to the path of the token file");
            }
            return None;
        };
        let path = PathBuf::from(path.expose());
        // `file_name` ignores a final slash, so the text is checked as well.
        if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            self.problem(&name, "is a directory", "set it to a file in it, as DIRECTORY/token");
        }
        Some(Output {
            path,
            create_directories: false,
            format: Format::default(),
            mode,
            group,
            write_mode,
            remove_expired,
        })
    }
}

impl Parser<'_> {
    /// A file that is written must have no other use: the one would destroy the other.
    pub(super) fn files_written(
        &mut self,
        fields: &[(String, Source)],
        client: Option<&Source>,
        ca_file: Option<&Path>,
        output: Option<&Output>,
        termination_log: Option<&Path>,
    ) {
        let from_file = |name: &str, source: &Source| match source {
            Source::File(path) => Some((format!("{FILE_PREFIX}{name}"), path.clone())),
            Source::Text(_) => None,
        };
        let mut used: Vec<(String, PathBuf)> =
            fields.iter().filter_map(|(name, source)| from_file(name, source)).collect();
        used.extend(client.and_then(|source| from_file(BASIC_AUTH, source)));
        used.extend(ca_file.map(|path| (self.name(settings::CA_FILE), path.to_owned())));
        let same = |a: &Path, b: &Path| a.components().eq(b.components());
        let token_file = format!("{FIELD_PREFIX}{ACCESS_TOKEN_FILE}");
        if let Some(output) = output {
            for (name, _) in used.iter().filter(|(_, path)| same(path, &output.path)) {
                self.problem(&token_file, format!("is the same file as {name}"), "use another file");
            }
            used.push((token_file, output.path.clone()));
        }
        if let Some(log) = termination_log {
            for (name, _) in used.iter().filter(|(_, path)| same(path, log)) {
                let what = format!("is the same file as {name}");
                self.invalid(settings::TERMINATION_LOG, what, "use another file");
            }
        }
    }
}

const DURATION: &str = "use a duration such as 1h30m, 1.5h or 250ms";
const ENDPOINT_EXAMPLE: &str =
    "set it to the URL of Dex's token endpoint, such as https://dex.example.com/token";

/// True for a variable that Kubernetes injects for a Service whose name begins with "dexsidecar".
fn is_service_link(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("DEXSIDECAR") else { return false };
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| rest.contains(protocol) && rest.contains("_PORT_"))
}
