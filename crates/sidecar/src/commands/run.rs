//! `run`: keeps the tokens fresh until SIGTERM.

use std::process::ExitCode;

use dexsidecar_core::event::Event;
use dexsidecar_core::settings::Command;
use dexsidecar_edge::signal::{RefreshSignal, Stop};
use tokio::runtime::Runtime;

use super::{install, scheduler};
use crate::Done;
use crate::environment::Environment;

/// Runs it.
pub(crate) fn run(environment: Environment, runtime: &Runtime, mut stop: Stop) -> Done {
    let mut refresh_signal = install(runtime, RefreshSignal::install)?;
    let (mut scheduler, _, log) = scheduler(&environment, Command::Run)?;
    // It holds secrets, and the scheduler needs nothing of it.
    drop(environment);
    runtime.block_on(async {
        tokio::select! {
            biased;
            signal = stop.wait() => log.emit(&Event::ShuttingDown { signal: &signal }),
            () = scheduler.run(&mut refresh_signal, None) => {}
        }
    });
    Ok(ExitCode::SUCCESS)
}
