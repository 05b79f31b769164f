//! The options, the environment variables and the configuration file of this process, and what the
//! commands read from them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dexsidecar_agent::log_problems;
use dexsidecar_agent::reload::ConfigSource;
use dexsidecar_core::config::{
    self, Config, ConfigFile, DEFAULT_NAME, Outputs, Probe, Problem, RawSettings, RawValue, TokenConfig,
};
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::Endpoint;
use dexsidecar_core::failure::printable;
use dexsidecar_core::github_actions;
use dexsidecar_core::limits::LARGEST_CONFIG;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::settings::{self, FIELD_PREFIX, PREFIX};
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::file_location::LOCATE;
use dexsidecar_edge::http_client::{HttpEndpoint, Proxies, ProxyProblem, Roots};
use dexsidecar_edge::input_file;
use dexsidecar_edge::log::Logger;
use zeroize::Zeroizing;

use crate::CONFIG;

/// The options, the environment variables and the configuration file.
pub(crate) struct Environment {
    /// As they were given, without line breaks at the ends of values.
    pub(crate) settings: RawSettings,
    /// A problem for each variable that is not UTF-8.
    not_utf8: Vec<Problem>,
    /// The configuration file, if one is set.
    file: Option<File>,
}

/// The configuration file as it was read.
struct File {
    path: PathBuf,
    /// The setting that names it.
    setting: String,
    name: String,
    /// Its fingerprint before it was read.
    fingerprint: u64,
    /// It may be secret.
    content: Result<Zeroizing<Vec<u8>>, Problem>,
}

impl File {
    fn read(path: &Path, setting: String) -> Self {
        let name = printable(path.display().to_string());
        let fingerprint = input_file::fingerprint(path);
        let content = input_file::read(path, LARGEST_CONFIG).map(Zeroizing::new).map_err(|why| Problem {
            setting: setting.clone(),
            what: format!("names the file {name}, which cannot be read: {why}"),
            fix: "set it to the path of the configuration file, and let this uid read it".to_owned(),
            place: None,
            file: None,
        });
        Self { path: path.to_owned(), setting, name, fingerprint, content }
    }

    fn as_config(&self) -> Option<ConfigFile<'_>> {
        let content = self.content.as_ref().ok()?;
        Some(ConfigFile { name: &self.name, path: &self.path, content })
    }
}

impl Environment {
    /// These options, the variables of the process, and the configuration file that they name.
    #[expect(clippy::disallowed_methods, reason = "settings are read here only")]
    pub(crate) fn with(options: Vec<RawValue>) -> Self {
        Self::of(options, std::env::vars_os())
    }

    fn of(options: Vec<RawValue>, variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let (mut values, not_utf8) = known(variables);
        values.extend(options);
        let settings = RawSettings { values }.cleaned();
        let file = config::file_setting(&settings).map(|(path, setting)| File::read(&path, setting));
        Self { settings, not_utf8, file }
    }

    /// The configuration file with this path alone, without options and variables.
    pub(crate) fn of_file(path: &Path) -> Self {
        let file = File::read(path, "FILE".to_owned());
        Self { settings: RawSettings::default(), not_utf8: vec![], file: Some(file) }
    }

    /// The fingerprint of the configuration file before it was read, if there is one.
    pub(crate) fn file_fingerprint(&self) -> Option<u64> {
        self.file.as_ref().map(|file| file.fingerprint)
    }

    /// Forgets the content of the configuration file, which may be secret.
    pub(crate) fn forget_file_content(&mut self) {
        if let Some(file) = &mut self.file {
            file.content = Ok(Zeroizing::default());
        }
    }

    /// The name of the configuration file, if there is one.
    pub(crate) fn file_name(&self) -> Option<&str> {
        self.file.as_ref().map(|file| file.name.as_str())
    }

    /// The configuration.
    ///
    /// # Errors
    /// Every problem.
    pub(crate) fn config(&self, outputs: Outputs) -> Result<Config, Vec<Problem>> {
        let proxies = self.proxies();
        let read = match &self.file {
            None => Config::read_located(&self.settings, outputs, LOCATE),
            Some(File { content: Err(problem), .. }) => Err(vec![problem.clone()]),
            Some(File { content: Ok(content), name, path, .. }) => {
                let file = ConfigFile { name, path, content };
                Config::read_file(file, &self.settings, outputs, LOCATE)
            }
        };
        let (config, problems) = match read {
            Ok(config) => (Some(config), vec![]),
            Err(problems) => (None, problems),
        };
        let mut problems = self.with_not_utf8(problems);
        // Without a valid endpoint no proxy is used, and none is judged.
        let endpoints = match &config {
            Some(config) => config.tokens.iter().map(|token| token.exchange.endpoint.url.clone()).collect(),
            None if self.file.is_some() => vec![],
            None => config::endpoint(&self.settings).into_iter().collect::<Vec<_>>(),
        };
        let proxy = endpoints.iter().find_map(|endpoint| proxies.problem_for(endpoint));
        if let Some(ProxyProblem(variable)) = proxy {
            let what = ProxyProblem::WHAT.to_owned();
            let fix = "use a URL such as http://proxy.example:3128, or add Dex's host to NO_PROXY".to_owned();
            Problem { setting: variable.to_owned(), what, fix, place: None, file: None }
                .insert_into(&mut problems);
        }
        config.filter(|_| problems.is_empty()).ok_or(problems)
    }

    /// The file for the termination message, as far as it is known before the configuration is
    /// valid.
    pub(crate) fn termination_log(&self) -> Option<PathBuf> {
        match self.file.as_ref().and_then(File::as_config) {
            Some(file) => config::termination_log_of_file(file, &self.settings),
            None => config::termination_log(&self.settings),
        }
    }

    /// Whether `--json` is set.
    pub(crate) fn is_json(&self) -> bool {
        let mut given = self.settings.options(settings::JSON.option);
        given.any(|given| !["false", "0"].contains(&given.value.expose()))
    }

    /// The HTTP client for this endpoint.
    pub(crate) fn client(&self, endpoint: &Endpoint) -> HttpEndpoint {
        let (file, directories) = (self.variable("SSL_CERT_FILE"), self.variable("SSL_CERT_DIR"));
        let system = || Roots::system(file.map(Secret::expose), directories.map(Secret::expose));
        let roots = endpoint.ca_file.clone().map_or_else(system, Roots::File);
        let client = HttpEndpoint::new(endpoint.attempt_timeout, roots, self.proxies())
            .allowing_insecure_http(endpoint.allow_insecure_http);
        let request =
            self.variable(github_actions::REQUEST_URL).zip(self.variable(github_actions::REQUEST_TOKEN));
        match request {
            Some((url, token)) => {
                let requests = HttpEndpoint::new(endpoint.attempt_timeout, system(), self.proxies());
                client.with_github_actions(url.clone(), token.clone(), requests)
            }
            None => client,
        }
    }

    /// The configuration, with only the token that `--token` names if it is set.
    ///
    /// # Errors
    /// Every problem. A name that no token has is one.
    pub(crate) fn selected(&self, outputs: Outputs) -> Result<Config, Vec<Problem>> {
        let mut config = self.config(outputs)?;
        let Some(name) = config::token_name(&self.settings) else { return Ok(config) };
        if let Some(index) = config.tokens.iter().position(|token| token.name == name) {
            config.tokens = vec![config.tokens.swap_remove(index)];
            config.warnings.retain(|warning| !warning.is_of_other_token(index));
            return Ok(config);
        }
        Err(vec![name_problem(&names(&config), "is not the name of a token")])
    }

    /// The configuration without its one token, that token, and the HTTP client for its endpoint.
    /// Where there are several, `--token` has to name one.
    ///
    /// # Errors
    /// Every problem.
    pub(crate) fn one_token(&self) -> Result<(Config, TokenConfig, HttpEndpoint), Vec<Problem>> {
        let mut config = self.selected(Outputs::Optional)?;
        if config.tokens.len() > 1 {
            return Err(vec![name_problem(&names(&config), "is not set, but there are several tokens")]);
        }
        // A configuration always has one.
        let Some(token) = config.tokens.pop() else { return Err(vec![]) };
        let client = self.client(&token.exchange.endpoint);
        Ok((config, token, client))
    }

    fn proxies(&self) -> Proxies {
        Proxies::read(|name| self.variable(name).cloned())
    }

    /// The settings of `ready` and `wait`.
    ///
    /// # Errors
    /// The exit code, after every problem has been logged.
    pub(crate) fn probe(&self) -> Result<Probe, u8> {
        let read = match &self.file {
            None => match config::token_name(&self.settings) {
                Some(name) if name != DEFAULT_NAME => {
                    Err(vec![name_problem(&[DEFAULT_NAME], "is not the name of a token")])
                }
                _ => Probe::read(&self.settings),
            },
            Some(File { content, name, path, .. }) => {
                let file = content.as_ref().map(|content| ConfigFile { name, path, content });
                Probe::of_file(file.map_err(Clone::clone), &self.settings).map(|(probe, warnings)| {
                    let log = self.log();
                    for warning in &warnings {
                        log.emit(&Event::SettingWarning { warning });
                    }
                    probe
                })
            }
        };
        match read {
            Ok(probe) if self.not_utf8.is_empty() => Ok(probe),
            read => Err(self.refuse(&self.with_not_utf8(read.err().unwrap_or_default()))),
        }
    }

    /// These problems and those of variables that are not UTF-8, in the order of the names. Such a
    /// variable is not also called missing.
    fn with_not_utf8(&self, mut problems: Vec<Problem>) -> Vec<Problem> {
        problems.retain(|problem| self.not_utf8.iter().all(|other| other.setting != problem.setting));
        for problem in &self.not_utf8 {
            problem.clone().insert_into(&mut problems);
        }
        problems
    }

    /// A variable, if it is set.
    pub(crate) fn variable(&self, name: &str) -> Option<&Secret> {
        self.settings.variable(name).map(|given| &given.value)
    }

    /// A logger with the level and the format of the settings.
    pub(crate) fn log(&self) -> Logger {
        let log = match self.file.as_ref().and_then(File::as_config) {
            Some(file) => config::log_of_file(file, &self.settings),
            None => config::log(&self.settings),
        };
        Logger::new(log, Clock::System)
    }

    /// Logs every problem, and gives the exit code.
    pub(crate) fn refuse(&self, problems: &[Problem]) -> u8 {
        let log = self.log();
        // A warning may name the cause of a problem.
        for warning in self.settings.warnings() {
            log.emit(&Event::SettingWarning { warning: &warning });
        }
        log_problems(&log, problems);
        CONFIG
    }
}

impl ConfigSource<HttpEndpoint> for Environment {
    fn fingerprint(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| input_file::fingerprint(&file.path))
    }

    /// Options and variables are those of the start.
    fn read(&self) -> Result<Config, Vec<Problem>> {
        let file = self.file.as_ref().map(|file| File::read(&file.path, file.setting.clone()));
        Self { settings: self.settings.clone(), not_utf8: self.not_utf8.clone(), file }
            .config(Outputs::Required)
    }

    fn connect(&self, endpoint: &Endpoint) -> HttpEndpoint {
        self.client(endpoint)
    }
}

fn names(config: &Config) -> Vec<&str> {
    config.tokens.iter().map(|token| token.name.as_str()).collect()
}

/// A problem with `--token`, which names the tokens that there are.
fn name_problem(names: &[&str], what: &str) -> Problem {
    Problem {
        setting: format!("--{}", settings::TOKEN.option),
        what: what.to_owned(),
        fix: format!("use one of {}", names.join(", ")),
        place: None,
        file: None,
    }
}

/// What kubectl asks of an exec plugin.
pub(crate) const EXEC_INFO: &str = "KUBERNETES_EXEC_INFO";
/// The directory for the cache of `token`.
pub(crate) const RUNTIME_DIRECTORY: &str = "XDG_RUNTIME_DIR";
/// Whether `NO_COLOR` is set and not empty (no-color.org). It is no setting: no value of it is an
/// error.
#[expect(clippy::disallowed_methods, reason = "it is no setting, so it is not read with them")]
pub(crate) fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Whether the terminal cannot move its cursor or show colours (`TERM=dumb`).
#[expect(clippy::disallowed_methods, reason = "it is no setting, so it is not read with them")]
pub(crate) fn is_dumb_terminal() -> bool {
    std::env::var_os("TERM").is_some_and(|value| value == "dumb")
}

/// The variables that have a meaning here, and a problem for each that is not UTF-8.
fn known(all: impl Iterator<Item = (OsString, OsString)>) -> (Vec<RawValue>, Vec<Problem>) {
    let (mut variables, mut not_utf8) = (vec![], vec![]);
    for (name, value) in all {
        let Some(name) = name.to_str() else { continue };
        let other = [RUNTIME_DIRECTORY, "SSL_CERT_FILE", "SSL_CERT_DIR", EXEC_INFO].contains(&name)
            || [github_actions::REQUEST_URL, github_actions::REQUEST_TOKEN].contains(&name)
            || Proxies::VARIABLES.contains(&name);
        if !(other || name.starts_with(FIELD_PREFIX) || name.starts_with(PREFIX)) {
            continue;
        }
        match value.into_string() {
            Ok(value) => variables.push(RawValue::variable(name.to_owned(), Secret::new(value))),
            Err(_) => not_utf8.push(Problem {
                setting: name.to_owned(),
                what: "is not UTF-8".to_owned(),
                fix: "write it in UTF-8".to_owned(),
                place: None,
                file: None,
            }),
        }
    }
    (variables, not_utf8)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    /// An environment of these variables, and of these that are not UTF-8.
    fn environment(variables: &[(&str, &str)], not_utf8: &[&str]) -> Environment {
        let text = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let binary = not_utf8.iter().map(|name| (name.into(), OsString::from_vec(vec![0xff])));
        Environment::of(vec![], text.chain(binary))
    }

    fn problems(environment: &Environment) -> Vec<String> {
        environment.one_token().unwrap_err().iter().map(Problem::to_string).collect()
    }

    const ENDPOINT: (&str, &str) = ("dex_endpoint", "https://dex.example/token");
    const OUTPUT: (&str, &str) = ("dex_access_token_file", "/run/dex/token");
    const PROXY: &str = "HTTPS_PROXY is not the URL of an http, https, socks5 or socks5h proxy: \
                         use a URL such as http://proxy.example:3128, or add Dex's host to NO_PROXY";

    #[test]
    fn mistakes_of_every_kind_are_listed_together_in_the_order_of_the_names() {
        let environment = environment(
            &[
                ENDPOINT,
                OUTPUT,
                ("DEXSIDECAR_CA_FILE", "/run/dex/token"),
                ("DEXSIDECAR_LOG", "loud"),
                ("HTTPS_PROXY", "ftp://proxy"),
                ("dex_refresh_before", "10"),
            ],
            &["DEXSIDECAR_MIN_TTL", "dex_scope", "SSL_CERT_FILE"],
        );
        assert_eq!(
            problems(&environment),
            [
                "DEXSIDECAR_LOG has an unknown value: use one of error, warn, info, debug",
                "DEXSIDECAR_MIN_TTL is not UTF-8: write it in UTF-8",
                PROXY,
                "SSL_CERT_FILE is not UTF-8: write it in UTF-8",
                "dex_access_token_file is the same file as DEXSIDECAR_CA_FILE: use another file",
                "dex_refresh_before has a number without a unit: use a duration such as 1h30m, 1.5h or 250ms",
                "dex_scope is not UTF-8: write it in UTF-8",
            ]
        );
    }

    #[test]
    fn files_are_compared_and_everything_else_is_read_without_an_endpoint() {
        let environment = environment(
            &[OUTPUT, ("dex_file_subject_token", "/run/dex/token"), ("DEXSIDECAR_TIMEOUT", "soon")],
            &["HTTPS_PROXY"],
        );
        let names: Vec<String> =
            environment.one_token().unwrap_err().into_iter().map(|problem| problem.setting).collect();
        assert_eq!(names, ["DEXSIDECAR_TIMEOUT", "HTTPS_PROXY", "dex_access_token_file", "dex_endpoint"]);
    }

    #[test]
    fn a_required_variable_that_is_not_utf_8_is_not_called_missing() {
        let environment = environment(&[], &["dex_endpoint", "dex_access_token_file"]);
        assert_eq!(
            problems(&environment),
            [
                "dex_access_token_file is not UTF-8: write it in UTF-8",
                "dex_endpoint is not UTF-8: write it in UTF-8"
            ]
        );
        assert!(environment.probe().is_err());
    }

    /// As in Go, a proxy is judged only for a URL that would use it.
    #[test]
    fn a_proxy_that_is_not_used_is_not_judged() {
        let with = |endpoint: &str, no_proxy: &str| {
            let broken = ("HTTPS_PROXY", "ftp://proxy");
            environment(&[("dex_endpoint", endpoint), OUTPUT, broken, ("NO_PROXY", no_proxy)], &[])
        };
        assert_eq!(problems(&with("https://dex.example/token", "")), [PROXY]);
        assert!(with("https://dex.example/token", "dex.example").one_token().is_ok());
        assert!(with("http://dex.example/token", "").one_token().is_ok());
    }
}
