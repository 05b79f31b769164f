//! `run`: keeps the tokens fresh until SIGTERM.

use std::process::ExitCode;

use dexsidecar_agent::reload::Reload;
use dexsidecar_core::event::Event;
use dexsidecar_core::settings::Command;
use dexsidecar_edge::action;
use dexsidecar_edge::signal::{RefreshSignal, Stop};
use tokio::runtime::Runtime;

use super::{CLOCK, Prepared, install, prepare};
use crate::Done;
use crate::environment::Environment;

/// Runs it.
#[inline(never)]
pub(crate) fn run(mut environment: Environment, runtime: &Runtime, mut stop: Stop) -> Done {
    let mut refresh_signal = install(runtime, RefreshSignal::install)?;
    let Prepared { mut scheduler, log, limits, .. } = prepare(&environment, runtime, Command::Run)?;
    environment.forget_file_content();
    // Without a configuration file nothing of it is needed any more, and it holds secrets.
    let source = environment.file_fingerprint().map(|fingerprint| (fingerprint, environment));
    let reload = source
        .as_ref()
        .map(|(fingerprint, environment)| Reload::new(environment, limits, *fingerprint, CLOCK.now().unix));
    runtime.block_on(async {
        tokio::select! {
            biased;
            signal = stop.wait() => log.emit(&Event::ShuttingDown { signal: &signal }),
            () = scheduler.run(&mut refresh_signal, reload) => {}
        }
    });
    // It ends the commands that it waits for.
    drop(scheduler);
    action::end_started();
    Ok(ExitCode::SUCCESS)
}
