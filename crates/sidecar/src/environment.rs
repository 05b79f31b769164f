//! The options and the environment variables of this process, and what the commands read from them.

use std::ffi::OsString;

use dexsidecar_core::config::{self, Config, Probe, Problem, RawSettings, RawValue, TokenConfig};
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::Endpoint;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::settings::{FIELD_PREFIX, PREFIX};
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::http_client::{HttpEndpoint, Proxies, ProxyProblem, Roots};
use dexsidecar_edge::log::Logger;

use crate::CONFIG;

/// The options and the environment variables.
pub(crate) struct Environment {
    /// As they were given, without line breaks at the ends of values.
    pub(crate) settings: RawSettings,
    /// A problem for each variable that is not UTF-8.
    not_utf8: Vec<Problem>,
}

impl Environment {
    /// These options, and the variables of the process.
    #[expect(clippy::disallowed_methods, reason = "settings are read here only")]
    pub(crate) fn with(options: Vec<RawValue>) -> Self {
        Self::of(options, std::env::vars_os())
    }

    fn of(options: Vec<RawValue>, variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let (mut values, not_utf8) = known(variables);
        values.extend(options);
        let settings = RawSettings { values };
        Self { settings: settings.cleaned(), not_utf8 }
    }

    /// The configuration.
    ///
    /// # Errors
    /// Every problem.
    pub(crate) fn config(&self, output_needed: bool) -> Result<Config, Vec<Problem>> {
        let proxies = self.proxies();
        let (config, problems) = match Config::read(&self.settings, output_needed) {
            Ok(config) => (Some(config), vec![]),
            Err(problems) => (None, problems),
        };
        let mut problems = self.with_not_utf8(problems);
        // Without a valid endpoint no proxy is used, and none is judged.
        let proxy = config::endpoint(&self.settings).and_then(|endpoint| proxies.problem_for(&endpoint));
        if let Some(ProxyProblem(variable)) = proxy {
            let what = ProxyProblem::WHAT.to_owned();
            let fix = "use a URL such as http://proxy.example:3128, or add Dex's host to NO_PROXY".to_owned();
            Problem { setting: variable.to_owned(), what, fix }.insert_into(&mut problems);
        }
        config.filter(|_| problems.is_empty()).ok_or(problems)
    }

    /// The HTTP client for this endpoint.
    pub(crate) fn client(&self, endpoint: &Endpoint) -> HttpEndpoint {
        let (file, directories) = (self.variable("SSL_CERT_FILE"), self.variable("SSL_CERT_DIR"));
        let system = || Roots::system(file.map(Secret::expose), directories.map(Secret::expose));
        let roots = endpoint.ca_file.clone().map_or_else(system, Roots::File);
        HttpEndpoint::new(endpoint.attempt_timeout, roots, self.proxies())
            .allowing_insecure_http(endpoint.allow_insecure_http)
    }

    /// The configuration without its one token, that token, and the HTTP client for its endpoint.
    ///
    /// # Errors
    /// Every problem.
    pub(crate) fn read(
        &self,
        output_needed: bool,
    ) -> Result<(Config, TokenConfig, HttpEndpoint), Vec<Problem>> {
        let mut config = self.config(output_needed)?;
        // The environment form always has one.
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
        match Probe::read(&self.settings) {
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
        Logger::new(config::log(&self.settings), Clock::System)
    }

    /// Logs every problem, and gives the exit code.
    pub(crate) fn refuse(&self, problems: &[Problem]) -> u8 {
        let log = self.log();
        // A warning may name the cause of a problem.
        for warning in self.settings.warnings() {
            log.emit(&Event::SettingWarning { warning: &warning });
        }
        for Problem { setting, what, fix } in problems {
            log.emit(&Event::SettingInvalid { setting, error: what, fix });
        }
        CONFIG
    }
}

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
        let other = [RUNTIME_DIRECTORY, "SSL_CERT_FILE", "SSL_CERT_DIR"].contains(&name)
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
        environment.read(true).unwrap_err().iter().map(Problem::to_string).collect()
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
            environment.read(true).unwrap_err().into_iter().map(|problem| problem.setting).collect();
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
        assert!(with("https://dex.example/token", "dex.example").read(true).is_ok());
        assert!(with("http://dex.example/token", "").read(true).is_ok());
    }
}
