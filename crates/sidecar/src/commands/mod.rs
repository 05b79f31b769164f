//! The commands: each takes the environment and gives an exit code. `check` is short and stands
//! here. None is inlined into `main`: its stack frame and its code would stay in memory as long as
//! `run` does.

pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod once;
pub(crate) mod probe;
pub(crate) mod refresh;
pub(crate) mod run;
pub(crate) mod token;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use dexsidecar::check::{self, StepResult};
use dexsidecar_agent::{Scheduler, report_problems};
use dexsidecar_core::config::{Config, Outputs, TokenConfig};
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::Endpoint;
use dexsidecar_core::failure::printable;
use dexsidecar_core::needs::Needs;
use dexsidecar_core::reload::ReloadLimits;
use dexsidecar_core::settings::Command;
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::hardening;
use dexsidecar_edge::http_client::HttpEndpoint;
use dexsidecar_edge::listener::Listener;
use dexsidecar_edge::log::Logger;
use dexsidecar_edge::signal::Stop;
use tokio::runtime::Runtime;

use crate::environment::Environment;
use crate::terminal::{eprint, has_colours, print};
use crate::{Done, NEGATIVE};

pub(crate) const CLOCK: Clock = Clock::System;

/// The number of file descriptors that an event loop with signal handlers needs.
const DESCRIPTORS: usize = 6;

/// An event loop with its signal handlers installed. They come before everything else: to PID 1 a
/// signal without a handler is not delivered at all (F100).
pub(crate) fn event_loop() -> Result<(Runtime, Stop), u8> {
    // Without free descriptors for its signal handlers, tokio panics.
    let spare = (0..DESCRIPTORS).map(|_| rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC));
    let spare = spare.collect::<Result<Vec<_>, _>>().map_err(io::Error::from).map(drop);
    let built = spare.and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
    let runtime = built.map_err(|error| {
        eprint(&format!("dexsidecar: cannot create the event loop: {error}\n"));
        NEGATIVE
    })?;
    let stop = install(&runtime, Stop::install)?;
    Ok((runtime, stop))
}

/// Becomes this command line, if there is one.
fn exec(command: &[OsString]) -> Done {
    let Some((program, arguments)) = command.split_first() else { return Ok(ExitCode::SUCCESS) };
    let error = std::process::Command::new(program).args(arguments).exec();
    let program = printable(program.display().to_string());
    eprint(&format!("dexsidecar: cannot execute {program}: {error}\n"));
    Err(NEGATIVE)
}

/// Installs signal handlers.
fn install<S>(runtime: &Runtime, handlers: fn() -> io::Result<S>) -> Result<S, u8> {
    let _inside = runtime.enter();
    handlers().map_err(|error| {
        eprint(&format!("dexsidecar: cannot install signal handlers: {error}\n"));
        NEGATIVE
    })
}

/// Runs a command that a signal ends with a negative result.
pub(crate) fn until_stopped(
    runtime: &Runtime,
    mut stop: Stop,
    command: Pin<Box<dyn Future<Output = Done> + '_>>,
) -> Done {
    runtime.block_on(async {
        tokio::select! {
            biased;
            _ = stop.wait() => Err(NEGATIVE),
            done = command => done,
        }
    })
}

/// What `run` and `once` begin with.
struct Prepared {
    scheduler: Scheduler<HttpEndpoint>,
    /// The timeout of `once`.
    timeout: Duration,
    log: Logger,
    /// What a reload of the configuration file cannot change.
    limits: ReloadLimits,
}

/// The scheduler of `run` and `once`, after every right has been given up that the configuration
/// does not need, and everything has been logged that concerns the settings.
fn prepare(environment: &Environment, runtime: &Runtime, command: Command) -> Result<Prepared, u8> {
    let mut config = environment.config(Outputs::Required).map_err(|problems| {
        // Only for the commands that the container itself runs: a probe must not overwrite their
        // last failure.
        report_problems(environment.termination_log().as_deref(), &problems);
        environment.refuse(&problems)
    })?;
    if command == Command::Once {
        // It performs no actions, and gives up the rights for them.
        for token in &mut config.tokens {
            token.actions.clear();
        }
    }
    // Afterwards it has no right to bind a port.
    let listener = config.listen.filter(|_| command == Command::Run).map(Listener::bind);
    hardening::confine(&Needs::of(&config));
    let limits = ReloadLimits::of(&config);
    let log = environment.log();
    for token @ TokenConfig { exchange, outputs, .. } in &config.tokens {
        let log = log.for_token(token.shown_name(config.tokens.len() > 1));
        for output in outputs {
            log.emit(&Event::Starting {
                version: &env!("CARGO_PKG_VERSION"),
                command: &command.name(),
                file: &output.path.display(),
                endpoint: &exchange.endpoint.url,
            });
        }
    }
    for warning in &config.warnings {
        log.emit(&Event::SettingWarning { warning });
    }
    let Config { tokens, termination_log, timeout, listen, .. } = config;
    let connect = |endpoint: &Endpoint| environment.client(endpoint);
    let mut scheduler = Scheduler::new(tokens, connect, CLOCK, log.clone(), termination_log);
    if let Some((listener, address)) = listener.zip(listen) {
        let _context = runtime.enter();
        let registered = listener.and_then(|mut listener| listener.register().map(|()| listener));
        match registered {
            Ok(listener) => {
                // The kernel may have chosen the port.
                let address = listener.address().unwrap_or(address);
                log.emit(&Event::Listening { address: &address });
                scheduler.listen(listener);
            }
            Err(error) => log.emit(&Event::ListenerFailed {
                address: &address,
                error: &error,
                fix: &format!("{}, and restart the container", listener_fix(&error)),
            }),
        }
    }
    Ok(Prepared { scheduler, timeout, log, limits })
}

/// What to change if the listener cannot be bound.
fn listener_fix(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "set listen to a port of 1024 or higher",
        io::ErrorKind::AddrNotAvailable => "set listen to an address of the pod, such as 0.0.0.0:9090",
        _ => "set listen to a port that no other process of the pod listens on",
    }
}

/// `check`: prints each step when it is done, or all of them as JSON at the end.
#[inline(never)]
pub(crate) fn check(environment: &Environment, runtime: &Runtime, stop: Stop) -> Done {
    until_stopped(runtime, stop, Box::pin(print_checks(environment)))
}

async fn print_checks(environment: &Environment) -> Done {
    let json = environment.is_json();
    let colours = has_colours();
    let mut printed = ExitCode::SUCCESS;
    let done = |step: &StepResult| {
        if !json && printed == ExitCode::SUCCESS {
            printed = print(&step.text(colours));
        }
    };
    // `token` needs no output, and its users have no other command to find a cause.
    let report = match environment.selected(Outputs::Optional) {
        Ok(config) => {
            let connect = |endpoint: &Endpoint| environment.client(endpoint);
            check::run(&config.tokens, &config.warnings, connect, &CLOCK, done).await
        }
        Err(problems) => check::Report::of_problems(&problems, &environment.settings.warnings(), done),
    };
    if json {
        printed = print(&report.json());
    }
    if report.is_ok() { Ok(printed) } else { Err(NEGATIVE) }
}
