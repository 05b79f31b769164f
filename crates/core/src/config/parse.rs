//! The parser of settings: one method for each kind of value. It collects problems instead of
//! stopping at the first.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::value::{self, ENDPOINT_EXAMPLE, Wrong};
use super::{Log, Origin, Outputs, Problem, RawSettings, RawValue, TokenForm, Warning, fields};
use crate::endpoint_url::EndpointUrl;
use crate::exchange::{ID_TOKEN, Source, TOKEN_EXCHANGE};
use crate::failure::printable;
use crate::github_actions;
use crate::output::{Format, Output, WriteMode};
use crate::secret::Secret;
use crate::settings::keys::{self, Section};
use crate::settings::{
    self, ACCESS_TOKEN_FILE, BASIC_AUTH, Command, ENDPOINT, FIELD_PREFIX, FILE_PREFIX, KNOWN_FIELDS,
    ORIGINAL, PREFIX, SETTINGS, SUBJECT_TOKEN, Setting, nearest,
};

/// The settings as they were given, and the problems found so far.
pub(super) struct Parser<'a> {
    given: &'a RawSettings,
    problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
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
        Problem { setting: printable(setting.to_owned()), what, fix, place: None, file: None }
            .insert_into(&mut self.problems);
    }

    /// A problem with a setting, under the name by which it was given.
    pub(super) fn invalid(&mut self, setting: &Setting, what: impl Into<String>, fix: impl Into<String>) {
        let name = self.name(setting);
        self.problem(&name, what, fix);
    }

    /// The name by which a setting was given. One that was not given has the name of its variable,
    /// if it has a variable.
    pub(super) fn name(&self, setting: &Setting) -> String {
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
        self.given.effective(setting)
    }

    fn own(&self, setting: &Setting) -> Option<&'a str> {
        self.effective(setting).map(|given| given.value.expose())
    }

    /// The value of a compatibility variable; an empty one counts as unset.
    pub(super) fn original(&self, name: &str) -> Option<&'a Secret> {
        self.variable(&format!("{FIELD_PREFIX}{name}")).filter(|value| !value.is_empty())
    }

    /// The value that was read, or the default after its problem has been kept.
    fn or_default<T: Default>(&mut self, setting: &Setting, read: Result<T, Wrong>) -> T {
        read.unwrap_or_else(|Wrong { what, fix }| {
            self.invalid(setting, what, fix);
            T::default()
        })
    }

    pub(super) fn switch(&mut self, setting: &Setting) -> bool {
        match self.own(setting) {
            None => false,
            // An option without a value.
            Some("") => true,
            Some(text) => self.or_default(setting, value::switch(text)),
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
        let read = value::listen(self.own(settings::LISTEN)?);
        self.or_default(settings::LISTEN, read.map(Some))
    }

    /// A duration within its range, or the default for this command.
    pub(super) fn duration(&mut self, setting: &Setting, command: Command) -> Duration {
        let default = setting.default_duration(command);
        let Some(given) = self.own(setting) else { return default };
        value::duration(given, setting.kind).unwrap_or_else(|Wrong { what, fix }| {
            self.invalid(setting, what, fix);
            default
        })
    }

    /// The minimum remaining validity of a token that `token` prints, if it is set.
    pub(super) fn min_ttl_of_token(&mut self) -> Option<Duration> {
        self.own(settings::MIN_TTL)?;
        Some(self.duration(settings::MIN_TTL, Command::Token))
    }

    pub(super) fn original_duration(&mut self, name: &str, least: Duration) -> Option<Duration> {
        let given = self.original(name)?;
        value::duration_of(given.expose(), least).unwrap_or_else(|Wrong { what, fix }| {
            self.problem(&format!("{FIELD_PREFIX}{name}"), what, fix);
            None
        })
    }

    /// One of a few words.
    fn word<T: Copy>(&mut self, setting: &Setting, words: &[(&str, T)], default: T) -> T {
        let Some(given) = self.own(setting) else { return default };
        value::word(given, words).unwrap_or_else(|Wrong { what, fix }| {
            self.invalid(setting, what, fix);
            default
        })
    }

    pub(super) fn log(&mut self) -> Log {
        self.log_over(Log::default())
    }

    /// Log level and format: what was given, else what another source has.
    pub(super) fn log_over(&mut self, other: Log) -> Log {
        Log {
            level: self.word(settings::LOG_LEVEL, value::LEVELS, other.level),
            json: self.word(settings::LOG_FORMAT, value::LOG_FORMATS, other.json),
        }
    }

    /// A setting of a token beside the configuration file, which has all of them.
    pub(super) fn settings_of_tokens(&mut self) {
        for given in &self.given.values {
            // As everywhere, an empty variable counts as unset.
            if given.origin == Origin::Variable && given.value.is_empty() {
                continue;
            }
            let (variable, option) = (given.origin == Origin::Variable, given.origin == Origin::Option);
            let setting = SETTINGS.iter().find(|setting| {
                variable && setting.variable == given.name || option && setting.option == given.name
            });
            let key = setting
                .and_then(|setting| keys::key_of(setting))
                .filter(|key| [Section::Token, Section::Output].contains(&key.section));
            let fix = match key {
                Some(key) => format!("remove it, and set the key {} of {}", key.name, key.section.title()),
                None if variable && given.name.starts_with(FIELD_PREFIX) => {
                    "remove it, or the configuration file: tokens have one source".to_owned()
                }
                None if setting.is_some_and(|setting| is_of_subject_token(setting)) => {
                    "remove it: with a configuration file, subject_token_file has the subject token"
                        .to_owned()
                }
                None => continue,
            };
            self.problem(&given.shown_name(), "is set beside a configuration file", fix);
        }
    }

    /// Whether `wait` goes on all the same at the timeout.
    pub(super) fn run_on_timeout(&mut self) -> bool {
        self.word(settings::ON_TIMEOUT, &[("fail", false), ("run", true)], false)
    }

    /// The form in which `token` prints a token.
    pub(super) fn token_form(&mut self) -> TokenForm {
        let forms = [
            ("raw", TokenForm::Raw),
            ("json", TokenForm::Json),
            ("exec_credential", TokenForm::ExecCredential),
            ("git", TokenForm::Git),
        ];
        self.word(settings::FORMAT, &forms, TokenForm::Raw)
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
        let (url, userinfo) = match value::endpoint(text.expose(), ENDPOINT_EXAMPLE) {
            Ok(parsed) => parsed,
            Err(Wrong { what, fix }) => {
                self.problem(&name, what, fix);
                return (None, None);
            }
        };
        match value::scheme(&url, allow_insecure, &self.name(settings::ALLOW_INSECURE_HTTP)) {
            Ok(warning) => self.warnings.extend(warning.map(|what| Warning::new(name, what))),
            Err(Wrong { what, fix }) => self.problem(&name, what, fix),
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
        self.subject_token_source(&mut fields);
        self.warn_about_fields(&fields);
        (fields, client_file)
    }

    /// Adds the subject token, if it does not come from a variable or a file.
    fn subject_token_source(&mut self, fields: &mut Vec<(String, Source)>) {
        let words = [("file", false), ("github-actions", true)];
        let is_requested = self.word(settings::SUBJECT_TOKEN_SOURCE, &words, false);
        let audience = self.own(settings::SUBJECT_TOKEN_AUDIENCE).filter(|audience| !audience.is_empty());
        if !is_requested {
            if audience.is_some() {
                let source = self.name(settings::SUBJECT_TOKEN_SOURCE);
                let fix = format!("set {source} to github-actions, or remove it");
                self.invalid(settings::SUBJECT_TOKEN_AUDIENCE, "has no effect on a token from a file", fix);
            }
            return;
        }
        if fields.iter().any(|(name, _)| name == SUBJECT_TOKEN) {
            let what = format!("is github-actions, and {FIELD_PREFIX}{SUBJECT_TOKEN} is set too");
            self.invalid(settings::SUBJECT_TOKEN_SOURCE, what, "remove one of them");
            return;
        }
        for variable in [github_actions::REQUEST_URL, github_actions::REQUEST_TOKEN] {
            if self.variable(variable).is_none_or(Secret::is_empty) {
                self.problem(variable, "is not set", github_actions::PERMISSION);
            }
        }
        let at = fields.partition_point(|(name, _)| name.as_str() <= SUBJECT_TOKEN);
        let source = Source::GithubActions { audience: audience.map(str::to_owned) };
        fields.insert(at, (SUBJECT_TOKEN.to_owned(), source));
    }

    fn warn_about_fields(&mut self, fields: &[(String, Source)]) {
        let text = |name: &str| {
            fields.iter().find(|(field, _)| field == name).map(|(_, source)| match source {
                Source::Text(text) => text.expose(),
                Source::File(_) | Source::GithubActions { .. } => "",
            })
        };
        for (name, _) in fields.iter().filter(|(name, _)| !KNOWN_FIELDS.contains(&name.as_str())) {
            let settings = ORIGINAL.iter().map(|setting| setting.name);
            if let Some(near) = nearest(name, KNOWN_FIELDS.iter().copied().chain(settings)) {
                let what = format!(
                    "is sent as the form field {name}, which Dex does not know: did you mean {FIELD_PREFIX}{near}?"
                );
                self.warnings.push(Warning::new(format!("{FIELD_PREFIX}{name}"), what));
            }
        }
        if text("grant_type").is_none() {
            let what = format!("is not set, but Dex requires it: set it to {TOKEN_EXCHANGE}");
            self.warnings.push(Warning::new("dex_grant_type", what));
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
                    let what = format!("is not set, but Dex requires it: {use_it}");
                    self.warnings.push(Warning::new(format!("{FIELD_PREFIX}{name}"), what));
                }
            }
        }
        let warnings = fields::warnings(fields).into_iter();
        self.warnings
            .extend(warnings.map(|(field, what)| Warning::new(format!("{FIELD_PREFIX}{field}"), what)));
    }

    pub(super) fn output(&mut self, outputs: Outputs) -> Option<Output> {
        let name = format!("{FIELD_PREFIX}{ACCESS_TOKEN_FILE}");
        let mode = self.own(settings::OUTPUT_MODE).map(value::mode);
        let mode = mode.and_then(|read| self.or_default(settings::OUTPUT_MODE, read.map(Some)));
        let group = self.own(settings::OUTPUT_GROUP).map(value::group);
        let group = group.and_then(|read| self.or_default(settings::OUTPUT_GROUP, read.map(Some)));
        let write_mode = self.word(settings::WRITE_MODE, value::WRITE_MODES, WriteMode::Auto);
        let suits = value::mode_for(mode, write_mode, &self.name(settings::WRITE_MODE));
        self.or_default(settings::OUTPUT_MODE, suits);
        let remove_expired = self.word(settings::ON_EXPIRY, value::ON_EXPIRY, false);
        let Some(path) = self.original(ACCESS_TOKEN_FILE) else {
            if outputs == Outputs::Required {
                self.problem(&name, "is not set", "set it to the path of the token file");
            }
            return None;
        };
        let path = PathBuf::from(path.expose());
        if let Err(Wrong { what, fix }) = value::output_path(&path) {
            self.problem(&name, what, fix);
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

/// Whether a setting concerns where the subject token comes from, which has no key.
fn is_of_subject_token(setting: &Setting) -> bool {
    [settings::SUBJECT_TOKEN_SOURCE, settings::SUBJECT_TOKEN_AUDIENCE]
        .iter()
        .any(|other| other.option == setting.option)
}

/// True for a variable that Kubernetes injects for a Service whose name begins with "dexsidecar".
fn is_service_link(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("DEXSIDECAR") else { return false };
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| rest.contains(protocol) && rest.contains("_PORT_"))
}
