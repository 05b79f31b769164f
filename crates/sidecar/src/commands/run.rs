//! `run`: keeps the token fresh until SIGTERM.

use std::process::ExitCode;

use dexsidecar_core::event::Event;
use dexsidecar_core::settings::Command;
use dexsidecar_edge::signal::{RefreshSignal, Stop};
use tokio::runtime::Runtime;

use super::{agent, install};
use crate::Done;
use crate::environment::Environment;

/// Runs it.
pub(crate) fn run(environment: &Environment, runtime: &Runtime, mut stop: Stop) -> Done {
    let mut refresh_signal = install(runtime, RefreshSignal::install)?;
    let (_, mut agent, log) = agent(environment, Command::Run)?;
    runtime.block_on(async {
        tokio::select! {
            biased;
            signal = stop.wait() => log.emit(&Event::ShuttingDown { signal: &signal }),
            () = agent.run(&mut refresh_signal) => {}
        }
    });
    Ok(ExitCode::SUCCESS)
}
