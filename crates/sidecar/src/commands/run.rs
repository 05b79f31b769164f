//! `run`: keeps the token fresh until SIGTERM.

use std::process::ExitCode;

use dexsidecar::edge::signal::{Nudge, Stop};
use dexsidecar_core::event::Event;
use dexsidecar_core::settings::Command;
use tokio::runtime::Runtime;

use super::{agent, install};
use crate::Done;
use crate::environment::Environment;

/// Runs it.
pub(crate) fn run(environment: &Environment, runtime: &Runtime, mut stop: Stop) -> Done {
    let mut nudge = install(runtime, Nudge::install)?;
    let (mut agent, log) = agent(environment, Command::Run)?;
    runtime.block_on(async {
        tokio::select! {
            biased;
            signal = stop.wait() => log.emit(&Event::ShuttingDown { signal: &signal }),
            () = agent.run(&mut nudge) => {}
        }
    });
    Ok(ExitCode::SUCCESS)
}
