//! `once`: one exchange, then the token is written, or time runs out.

use std::fmt::Display;
use std::process::ExitCode;

use dexsidecar_core::event::Event;
use dexsidecar_core::failure::Failure;
use dexsidecar_core::settings::Command;
use dexsidecar_edge::signal::Stop;
use tokio::runtime::Runtime;

use super::{Prepared, prepare};
use crate::environment::Environment;
use crate::{Done, NEGATIVE};

/// Runs it.
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
                    let failure = scheduler.last_failure();
                    let fix = failure.map(Failure::fix);
                    log.emit(&Event::OnceTimedOut {
                        timeout,
                        error: failure.as_ref().map(|failure| failure as &dyn Display),
                        fix: fix.as_ref().map(|fix| fix as &dyn Display),
                    });
                    Err(NEGATIVE)
                }
            },
        }
    })
}
