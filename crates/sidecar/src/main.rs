//! The program: reads the settings, runs one command, returns an exit code.

mod commands;
mod environment;
mod terminal;

use std::process::ExitCode;

use dexsidecar::cli::{self, Invocation};
use dexsidecar_core::failure::printable;
use dexsidecar_core::settings::Command;
use dexsidecar_edge::{hardening, log};

use commands::{copy, event_loop, once, probe, refresh, run, token};
use environment::Environment;
use terminal::{eprint, print};

/// Negative result: not ready, timed out, exchange failed, a step of `check` failed.
const NEGATIVE: u8 = 1;
/// Wrong command line (EX_USAGE of sysexits.h).
const USAGE: u8 = 64;
/// Wrong settings (EX_CONFIG of sysexits.h).
const CONFIG: u8 = 78;

/// What a command ends with: an exit code, or one of the constants above.
type Done = Result<ExitCode, u8>;

fn main() -> ExitCode {
    log::keep_panics_short();
    let (command, options, operands) = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Run { command, options, operands }) => (command, options, operands),
        Ok(Invocation::Print(text)) => return print(&text),
        Err(error) => {
            eprint(&format!("dexsidecar: {}\n", printable(error)));
            return USAGE.into();
        }
    };
    let environment = || {
        protect(command);
        Environment::with(options)
    };
    let done = match command {
        Command::Run => event_loop().and_then(|(runtime, stop)| run::run(environment(), &runtime, stop)),
        Command::Once => event_loop().and_then(|(runtime, stop)| once::once(environment(), &runtime, stop)),
        Command::Wait => {
            event_loop().and_then(|(runtime, stop)| probe::wait(&environment(), &runtime, stop, &operands))
        }
        Command::Check => {
            event_loop().and_then(|(runtime, stop)| commands::check(&environment(), &runtime, stop))
        }
        Command::Token => token::token(&environment(), &operands),
        Command::Ready => probe::ready(&environment()),
        Command::Refresh => {
            event_loop().and_then(|(runtime, stop)| refresh::refresh(&environment(), &runtime, stop))
        }
        Command::Copy => copy::copy(&operands),
        Command::Config => commands::config::config(environment, operands),
    };
    done.unwrap_or_else(|code| code.into())
}

/// Protects the process before it reads its settings. The rights that they do not need are given up
/// afterwards.
fn protect(command: Command) {
    match command {
        // It becomes another program, which must not inherit the restrictions.
        Command::Wait => hardening::hide(),
        _ => hardening::harden(),
    }
}
