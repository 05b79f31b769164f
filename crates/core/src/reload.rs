//! What a configuration file that has changed may change while the program runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::action::Action;
use crate::config::{Config, DEFAULT_TERMINATION_LOG, Log, Problem, Warning, same_file};
use crate::failure::printable;
use crate::needs::Needs;

/// The settings of the running program that cannot change before its next start, and the rights
/// that it has kept.
#[derive(Clone, Debug)]
pub struct ReloadLimits {
    kept: Needs,
    listen: Option<SocketAddr>,
    termination_log: Option<PathBuf>,
    log: Log,
}

const NEXT_START: &str = "restart the pod: it takes effect at the next start";

impl ReloadLimits {
    /// Those of a program that runs with this configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            kept: Needs::of(config),
            listen: config.listen,
            termination_log: config.termination_log.clone(),
            log: config.log,
        }
    }

    /// The warnings about settings that a changed configuration cannot change now. All others may
    /// be applied.
    ///
    /// # Errors
    /// A problem for each key that needs a right which the program has given up, for each file at
    /// the running termination log, and for another listener. Then nothing of the configuration
    /// may be applied.
    pub fn check(&self, new: &Config) -> Result<Vec<Warning>, Vec<Problem>> {
        let mut problems = vec![];
        let mut problem = |setting: String, what: String| {
            Problem::new(setting, what, NEXT_START).insert_into(&mut problems);
        };
        if self.listen != new.listen {
            problem("listen".to_owned(), "has changed, and the port is bound at the start only".to_owned());
        }
        for token in &new.tokens {
            for (key, needs) in Needs::of_keys(token) {
                let missing: Vec<_> = needs.missing_from(self.kept).collect();
                if !missing.is_empty() {
                    let rights = missing.join(", to ");
                    let what = format!("needs the right to {rights}, which the process gave up at its start");
                    problem(format!("tokens.{}.{key}", token.name), what);
                }
            }
        }
        // The running process still writes its termination message to that file.
        let log = self.termination_log.as_deref().unwrap_or_else(|| Path::new(DEFAULT_TERMINATION_LOG));
        for token in &new.tokens {
            let outputs = token.outputs.iter().map(|output| ("writes", output.path.as_path()));
            let inputs = token.exchange.files().chain(token.actions.iter().filter_map(Action::file));
            let files = outputs.chain(inputs.map(|input| ("reads", input)));
            for (verb, path) in files.filter(|(_, path)| same_file(path, log)) {
                let path = printable(path.display().to_string());
                let what = format!("{verb} {path}, the termination log of the running process");
                problem(format!("tokens.{}", token.name), what);
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let later =
            [("log", self.log != new.log), ("termination_log", self.termination_log != new.termination_log)];
        let changed = later.into_iter().filter(|(_, is_changed)| *is_changed);
        Ok(changed
            .map(|(key, _)| Warning::new(key, "has changed: it takes effect at the next start"))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Action, ExecAction, SignalAction, SignalTarget};
    use crate::config::Outputs;
    use crate::config::tests::given;
    use crate::config::{Level, TokenConfig};
    use crate::exchange::{Client, Source};

    fn config() -> Config {
        let variables =
            given(&["dex_endpoint=http://127.0.0.1/token", "dex_access_token_file=/run/dex/token"]);
        Config::read(&variables, Outputs::Required).unwrap()
    }

    fn with_actions(actions: &[Action]) -> Config {
        let mut config = config();
        config.tokens[0].actions = actions.to_vec();
        config
    }

    fn exec() -> Action {
        Action::Exec(ExecAction {
            command: vec!["/bin/true".into()],
            timeout: std::time::Duration::from_secs(1),
        })
    }

    fn signal() -> Action {
        Action::Signal(SignalAction { target: SignalTarget::Process("nginx".into()), signal: 1 })
    }

    fn problems(running: &Config, new: &Config) -> Vec<String> {
        let problems = ReloadLimits::of(running).check(new).err().unwrap_or_default();
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn a_right_that_was_given_up_is_refused_by_token() {
        let (plain, signals, all) = (config(), with_actions(&[signal()]), with_actions(&[exec()]));
        let end =
            "which the process gave up at its start: restart the pod: it takes effect at the next start";
        let refused = |key, rights| format!("tokens.default.{key} needs the right to {rights}, {end}");
        assert_eq!(problems(&plain, &signals), [refused("on_update[0].signal", "send signals")]);
        // A command may need every right, and may signal.
        let others = "execute files, to bind ports, to create directories";
        assert_eq!(problems(&signals, &all), [refused("on_update[0].exec", others)]);
        let every = format!("{others}, to send signals");
        assert_eq!(problems(&plain, &all), [refused("on_update[0].exec", &every)]);
        assert_eq!(problems(&all, &signals), [""; 0]);
        let mut creates = config();
        creates.tokens[0].outputs[0].create_directories = true;
        assert_eq!(
            problems(&plain, &creates),
            [refused("outputs[0].create_directories", "create directories")]
        );
    }

    #[test]
    fn a_changed_listener_is_refused_and_a_changed_log_is_a_warning() {
        let running = config();
        let listens = Config { listen: Some(([127, 0, 0, 1], 9090).into()), ..config() };
        assert_eq!(problems(&running, &listens).len(), 1);
        let quiet = Config {
            log: Log { level: Level::Error, ..Log::default() },
            termination_log: Some("/log".into()),
            ..config()
        };
        assert_eq!(ReloadLimits::of(&running).check(&quiet).unwrap().len(), 2);
        assert_eq!(ReloadLimits::of(&running).check(&config()), Ok(vec![]));
    }

    #[test]
    fn an_output_at_the_running_termination_log_is_refused() {
        let running = Config { termination_log: Some("/run/dex/log".into()), ..config() };
        for (path, refused) in [
            ("/run/dex/log", true),
            ("/run//dex/./log", true),
            ("/run/dex/log2", false),
            ("/run/dex/token", false),
        ] {
            let mut new = config();
            let mut output = new.tokens[0].outputs[0].clone();
            output.path = path.into();
            new.tokens[0].outputs.push(output);
            for log in [None, Some("/other".into())] {
                new.termination_log = log;
                assert_eq!(!problems(&running, &new).is_empty(), refused, "{path}");
            }
        }
        let mut new = Config { termination_log: Some("/other".into()), ..config() };
        new.tokens[0].outputs[0].path = DEFAULT_TERMINATION_LOG.into();
        assert_eq!(problems(&config(), &new).len(), 1);
    }

    #[test]
    fn an_input_at_the_running_termination_log_is_refused() {
        let running = with_actions(&[signal()]);
        let running = Config { termination_log: Some("/run/dex/log".into()), ..running };
        let set: [fn(&mut TokenConfig, PathBuf); 5] = [
            |token, path| token.exchange.endpoint.ca_file = Some(path),
            |token, path| token.exchange.fields.push(("subject_token".to_owned(), Source::File(path))),
            |token, path| token.exchange.client = Some(Client::Pair(Source::File(path))),
            |token, path| {
                let target = SignalTarget::PidFile(path);
                token.actions.push(Action::Signal(SignalAction { target, signal: 1 }));
            },
            |token, path| {
                token.exchange.client = Some(Client::Id { id: "id".to_owned(), secret_file: Some(path) });
            },
        ];
        for (index, set) in set.into_iter().enumerate() {
            for (path, refused) in
                [("/run/dex/log", true), ("/run//dex/./log", true), ("/run/dex/log2", false)]
            {
                let mut new = config();
                set(&mut new.tokens[0], path.into());
                let end = "the termination log of the running process: restart the pod: it takes effect \
                           at the next start";
                let expected = refused.then(|| format!("tokens.default reads {path}, {end}"));
                assert_eq!(problems(&running, &new), Vec::from_iter(expected), "{index} {path}");
            }
        }
    }
}
