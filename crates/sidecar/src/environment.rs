//! The options and the environment variables of this process, and what the commands read from them.

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
    pub(crate) fn with(options: Vec<RawValue>) -> Self {
        let (mut values, not_utf8) = variables();
        values.extend(options);
        let settings = RawSettings { values };
        Self { settings: settings.cleaned(), not_utf8 }
    }

    /// The configuration, its one token, and the HTTP client for the token's endpoint.
    ///
    /// # Errors
    /// Every problem.
    pub(crate) fn read(
        &self,
        output_needed: bool,
    ) -> Result<(Config, TokenConfig, HttpEndpoint), Vec<Problem>> {
        let variable = |name: &str| self.variable(name).cloned();
        let proxies = Proxies::read(variable);
        let mut problems = self.not_utf8.clone();
        let proxy = config::endpoint(&self.settings).and_then(|endpoint| proxies.problem_for(&endpoint));
        problems.extend(proxy.map(|problem| Problem {
            setting: problem.0.to_owned(),
            what: ProxyProblem::WHAT.to_owned(),
            fix: "use a URL such as http://proxy.example:3128, or add Dex's host to NO_PROXY".to_owned(),
        }));
        let config = match Config::read(&self.settings, output_needed) {
            Ok(config) if problems.is_empty() => config,
            Ok(_) => return Err(problems),
            Err(more) => return Err([problems, more].concat()),
        };
        // The environment form always has one.
        let Some(token) = config.tokens.first().cloned() else { return Err(problems) };
        let (file, directories) = (variable("SSL_CERT_FILE"), variable("SSL_CERT_DIR"));
        let system =
            || Roots::system(file.as_ref().map(Secret::expose), directories.as_ref().map(Secret::expose));
        let Endpoint { ca_file, attempt_timeout, allow_insecure_http, .. } = token.exchange.endpoint.clone();
        let roots = ca_file.map_or_else(system, Roots::File);
        let endpoint =
            HttpEndpoint::new(attempt_timeout, roots, proxies).allowing_insecure_http(allow_insecure_http);
        Ok((config, token, endpoint))
    }

    /// The settings of `ready` and `wait`.
    ///
    /// # Errors
    /// The exit code, after every problem has been logged.
    pub(crate) fn probe(&self) -> Result<Probe, u8> {
        match Probe::read(&self.settings) {
            Ok(probe) if self.not_utf8.is_empty() => Ok(probe),
            Ok(_) => Err(self.refuse(&self.not_utf8)),
            Err(problems) => Err(self.refuse(&[self.not_utf8.clone(), problems].concat())),
        }
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
#[expect(clippy::disallowed_methods, reason = "settings are read here only")]
fn variables() -> (Vec<RawValue>, Vec<Problem>) {
    let (mut variables, mut not_utf8) = (vec![], vec![]);
    for (name, value) in std::env::vars_os() {
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
