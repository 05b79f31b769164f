//! The program: settings in, a command done, an exit code out.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;

use dexsidecar::agent::Agent;
use dexsidecar::check;
use dexsidecar::cli::{self, Asked};
use dexsidecar::edge::clock::Clock;
use dexsidecar::edge::log::{self, Logger};
use dexsidecar::edge::process;
use dexsidecar::edge::signal::{Nudge, Stop};
use dexsidecar::edge::token_endpoint::{HttpEndpoint, Proxies, ProxyProblem, Roots};
use dexsidecar::probe;
use dexsidecar::status::{self, Status};
use dexsidecar::token;
use dexsidecar_core::config::{self, Config, Given, Probe, Problem};
use dexsidecar_core::duration::Human;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::settings::{self, Command, FIELD_PREFIX, PREFIX};
use tokio::runtime::Runtime;

/// The answer is no.
const NO: u8 = 1;
/// The command line is wrong (EX_USAGE of sysexits.h).
const USAGE: u8 = 64;
/// The settings are wrong (EX_CONFIG of sysexits.h).
const CONFIG: u8 = 78;

const CLOCK: Clock = Clock::System;

/// How many descriptors an event loop takes that hears signals.
const DESCRIPTORS: usize = 6;

fn main() -> ExitCode {
    log::keep_panics_short();
    let (command, flags, rest) = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Asked::Do { command, flags, rest }) => (command, flags, rest),
        Ok(Asked::Print(text)) => return print(&text),
        Err(wrong) => {
            say(&format!("dexsidecar: {wrong}\n"));
            return USAGE.into();
        }
    };
    let environment = || {
        restrict(command);
        Environment::with(flags)
    };
    let done = match command {
        Command::Run => listening(|runtime, stop| run(&environment(), runtime, stop)),
        Command::Once => listening(|runtime, stop| once(&environment(), runtime, stop)),
        Command::Wait => listening(|runtime, stop| wait(&environment(), runtime, stop, rest)),
        Command::Check => {
            listening(|runtime, stop| runtime.block_on(or_stopped(stop, check(&environment()))))
        }
        Command::Token => {
            listening(|runtime, stop| runtime.block_on(or_stopped(stop, token(&environment()))))
        }
        Command::Ready => ready(&environment()),
    };
    done.unwrap_or_else(|code| code.into())
}

/// Takes away what this command never needs.
fn restrict(command: Command) {
    match command {
        // It becomes another program, which must not find itself in our fetters.
        Command::Wait => process::hide(),
        Command::Run | Command::Once => {
            process::harden();
            process::confine();
        }
        Command::Ready | Command::Check | Command::Token => process::harden(),
    }
}

/// Everything that was given.
struct Environment {
    given: Given,
    /// Variables of ours that are not UTF-8.
    unreadable: Vec<Problem>,
}

impl Environment {
    /// These flags, and the variables of the process.
    fn with(flags: Vec<(String, String)>) -> Self {
        let (variables, unreadable) = variables();
        let given = Given { flags, variables, ..Given::default() };
        Self { given: given.cleaned(), unreadable }
    }

    /// The settings of an exchange, and the endpoint they describe.
    fn read(&self, output_needed: bool) -> Result<(Config, HttpEndpoint), Vec<Problem>> {
        let variable = |wanted: &str| {
            self.given.variables.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
        };
        let proxies = Proxies::read(variable);
        let config = Config::read(&self.given, output_needed);
        let mut problems = self.unreadable.clone();
        let config = match config {
            Ok(config) => config,
            Err(more) => return Err([problems, more].concat()),
        };
        problems.extend(proxies.problem_for(&config.endpoint).map(|problem| Problem {
            setting: problem.0.to_owned(),
            wrong: ProxyProblem::WRONG.to_owned(),
            right: "use a URL such as http://proxy.example:3128, or add Dex's host to NO_PROXY".to_owned(),
        }));
        if !problems.is_empty() {
            return Err(problems);
        }
        let (file, folders) = (variable("SSL_CERT_FILE"), variable("SSL_CERT_DIR"));
        let system =
            || Roots::system(file.as_ref().map(Secret::expose), folders.as_ref().map(Secret::expose));
        let roots = config.ca_file.clone().map_or_else(system, Roots::File);
        let endpoint = HttpEndpoint::new(config.attempt_timeout, roots, proxies)
            .allowing_insecure_http(config.allow_insecure_http);
        Ok((config, endpoint))
    }

    /// What `ready` and `wait` look at.
    fn probe(&self) -> Result<Probe, u8> {
        match Probe::read(&self.given) {
            Ok(probe) if self.unreadable.is_empty() => Ok(probe),
            Ok(_) => Err(self.refuse(&self.unreadable)),
            Err(problems) => Err(self.refuse(&[self.unreadable.clone(), problems].concat())),
        }
    }

    fn log(&self) -> Logger {
        Logger::new(config::log(&self.given), CLOCK)
    }

    /// Says every mistake.
    fn refuse(&self, problems: &[Problem]) -> u8 {
        let log = self.log();
        // They may be the cause of a problem.
        for doubt in self.given.doubts() {
            log.warn(&doubt, &[]);
        }
        for problem in problems {
            log.error(&format!("wrong setting: {problem}"), &[("setting", &problem.setting)]);
        }
        CONFIG
    }
}

type Done = Result<ExitCode, u8>;

fn run(environment: &Environment, runtime: &Runtime, mut stop: Stop) -> Done {
    let mut nudge = heard(runtime, Nudge::install)?;
    let (mut agent, log) = agent(environment, "keeping a token fresh")?;
    runtime.block_on(async {
        tokio::select! {
            biased;
            signal = stop.wait() => log.info("ending", &[("signal", &signal)]),
            () = agent.run(&mut nudge) => {}
        }
    });
    Ok(ExitCode::SUCCESS)
}

fn once(environment: &Environment, runtime: &Runtime, mut stop: Stop) -> Done {
    let (mut agent, log) = agent(environment, "getting a token")?;
    let timeout = agent.timeout();
    runtime.block_on(async {
        tokio::select! {
            biased;
            signal = stop.wait() => {
                log.error("ended before a token was written", &[("signal", &signal)]);
                Err(NO)
            }
            done = tokio::time::timeout(timeout, agent.run_once()) => match done {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(_) => {
                    log.error("no token could be written in time", &[("timeout", &Human(timeout))]);
                    Err(NO)
                }
            },
        }
    })
}

/// The agent that `run` and `once` set to work, with everything said that is to be said before: what is being done first.
fn agent(environment: &Environment, doing: &str) -> Result<(Agent<HttpEndpoint>, Logger), u8> {
    let (mut config, endpoint) = environment.read(true).map_err(|problems| {
        // Only of what the container itself runs: a probe's mistake must not cover its last failure.
        status::leave_problems(config::termination_log(&environment.given).as_deref(), &problems);
        environment.refuse(&problems)
    })?;
    let Some(output) = config.output.take() else { return Err(CONFIG) };
    let log = environment.log();
    let (file, url) = (output.path.display(), &config.endpoint);
    log.info(doing, &[("version", &env!("CARGO_PKG_VERSION")), ("file", &file), ("endpoint", url)]);
    for warning in &config.warnings {
        log.warn(warning, &[]);
    }
    let status = Status::new(environment.log(), config.termination_log.clone());
    Ok((Agent::new(config, output, endpoint, CLOCK, status), log))
}

/// Does a command that ends as its signals say. The handlers come before everything else: to PID 1 a signal without one is
/// not delivered at all (F100).
fn listening(work: impl FnOnce(&Runtime, Stop) -> Done) -> Done {
    // Where signals cannot be heard for want of descriptors, tokio panics.
    let spare = (0..DESCRIPTORS).map(|_| rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC));
    let spare = spare.collect::<Result<Vec<_>, _>>().map_err(io::Error::from).map(drop);
    let built = spare.and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
    let runtime = built.map_err(|error| {
        say(&format!("dexsidecar: no event loop can be had: {error}\n"));
        NO
    })?;
    work(&runtime, heard(&runtime, Stop::install)?)
}

/// Signals, as soon as they are wanted.
fn heard<S>(runtime: &Runtime, install: fn() -> io::Result<S>) -> Result<S, u8> {
    let _inside = runtime.enter();
    install().map_err(|error| {
        say(&format!("dexsidecar: signals cannot be heard: {error}\n"));
        NO
    })
}

/// What does not care how it ends.
async fn or_stopped(mut stop: Stop, work: impl Future<Output = Done>) -> Done {
    tokio::select! {
        biased;
        _ = stop.wait() => Err(NO),
        done = work => done,
    }
}

fn ready(environment: &Environment) -> Done {
    let probe = environment.probe()?;
    match probe::ready(&probe, &CLOCK) {
        Ok(sentences) => Ok(print(&lines(&sentences))),
        Err(sentences) => {
            say(&lines(&sentences));
            Err(NO)
        }
    }
}

fn wait(environment: &Environment, runtime: &Runtime, mut stop: Stop, command: Vec<OsString>) -> Done {
    let probe = environment.probe()?;
    runtime.block_on(async {
        tokio::select! {
            biased;
            _ = stop.wait() => Err(NO),
            waited = probe::wait(&probe, &CLOCK) => waited.map_err(|sentences| {
                say(&format!("gave up after {}:\n{}", Human(probe.timeout), lines(&sentences)));
                NO
            }),
        }
    })?;
    let mut words = command.into_iter();
    let Some(program) = words.next() else { return Ok(ExitCode::SUCCESS) };
    let error = std::process::Command::new(&program).args(words).exec();
    say(&format!("dexsidecar: {} cannot be run: {error}\n", program.display()));
    Err(NO)
}

async fn check(environment: &Environment) -> Done {
    let json = environment
        .given
        .flags
        .iter()
        .any(|(flag, value)| flag == settings::JSON.flag && !["false", "0"].contains(&value.as_str()));
    let report = match environment.read(true) {
        Ok((config, endpoint)) => check::climb(&config, &endpoint, &CLOCK).await,
        Err(problems) => check::Report::of_problems(&problems, environment.given.doubts()),
    };
    let printed = print(&if json { report.json() } else { report.text() });
    if report.is_sound() { Ok(printed) } else { Err(NO) }
}

async fn token(environment: &Environment) -> Done {
    let (config, endpoint) = environment.read(false).map_err(|problems| environment.refuse(&problems))?;
    let runtime = environment.given.variables.iter().find(|(name, _)| name == RUNTIME_FOLDER);
    let runtime = runtime.map(|(_, folder)| Path::new(folder.expose())).filter(|folder| folder.is_absolute());
    let work = token::token(&config, runtime, &endpoint, &CLOCK);
    match tokio::time::timeout(config.timeout, work).await {
        Ok(Ok(token)) => Ok(print(token.expose())),
        Ok(Err(failure)) => {
            say(&format!("dexsidecar: {failure}\nhint: {}\n", failure.entry().hint));
            Err(NO)
        }
        Err(_) => {
            say(&format!("dexsidecar: no token within {}\n", Human(config.timeout)));
            Err(NO)
        }
    }
}

const RUNTIME_FOLDER: &str = "XDG_RUNTIME_DIR";

/// The variables that mean something to us, and those among them that are not UTF-8.
#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
fn variables() -> (Vec<(String, Secret)>, Vec<Problem>) {
    let (mut variables, mut unreadable) = (vec![], vec![]);
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let other = [RUNTIME_FOLDER, "SSL_CERT_FILE", "SSL_CERT_DIR"].contains(&name)
            || Proxies::VARIABLES.contains(&name);
        if !(other || name.starts_with(FIELD_PREFIX) || name.starts_with(PREFIX)) {
            continue;
        }
        match value.into_string() {
            Ok(value) => variables.push((name.to_owned(), Secret::new(value))),
            Err(_) => unreadable.push(Problem {
                setting: name.to_owned(),
                wrong: "is not UTF-8".to_owned(),
                right: "write it in UTF-8".to_owned(),
            }),
        }
    }
    (variables, unreadable)
}

fn lines(sentences: &[String]) -> String {
    sentences.iter().map(|sentence| format!("{sentence}\n")).collect()
}

/// To standard output. A reader that has gone is no failure.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => NO.into(),
    }
}

fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
