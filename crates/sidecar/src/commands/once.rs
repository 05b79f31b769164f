//! `once`: one exchange, then the token is written, or time runs out.

use std::process::ExitCode;

use dexsidecar_core::event::Event;
use dexsidecar_core::settings::Command;
use dexsidecar_edge::signal::Stop;
use tokio::runtime::Runtime;

use super::{Prepared, prepare};
use crate::environment::Environment;
use crate::{Done, NEGATIVE};

/// Runs it.
#[inline(never)]
pub(crate) fn once(environment: Environment, runtime: &Runtime, mut stop: Stop) -> Done {
    let Prepared { mut scheduler, timeout, log, .. } = prepare(&environment, runtime, Command::Once)?;
    // It holds secrets, and the scheduler needs nothing of it.
    drop(environment);
    runtime.block_on(async {
        tokio::select! {
            biased;
            signal = stop.wait() => {
                log.emit(&Event::OnceInterrupted { signal: &signal });
                Err(NEGATIVE)
            }
            done = tokio::time::timeout(timeout, scheduler.run_once()) => match done {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(_) => {
                    scheduler.report_timeout(timeout);
                    Err(NEGATIVE)
                }
            },
        }
    })
}
