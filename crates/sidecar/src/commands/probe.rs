//! `ready` and `wait`: whether the token files hold valid tokens.

use std::ffi::OsString;

use dexsidecar::probe;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_edge::log::{line_for_pipe, write_unless_blocked};
use dexsidecar_edge::signal::Stop;
use tokio::runtime::Runtime;

use super::{CLOCK, exec};
use crate::environment::Environment;
use crate::terminal::{Progress, eprint, lines, print};
use crate::{Done, NEGATIVE};

/// `ready`: judges the files once.
#[inline(never)]
pub(crate) fn ready(environment: &Environment) -> Done {
    let probe = environment.probe()?;
    match probe::ready(&probe, &CLOCK) {
        Ok(sentences) => Ok(print(&lines(&sentences))),
        Err(sentences) => {
            eprint(&lines(&sentences));
            Err(NEGATIVE)
        }
    }
}

/// `wait`: polls the files until all are valid, then becomes `command`, if there is one.
#[inline(never)]
pub(crate) fn wait(
    environment: &Environment,
    runtime: &Runtime,
    mut stop: Stop,
    command: &[OsString],
) -> Done {
    let probe = environment.probe()?;
    let mut progress = Progress::new();
    let waited = runtime.block_on(async {
        let waited = tokio::select! {
            biased;
            _ = stop.wait() => return None,
            waited = probe::wait(&probe, &CLOCK, |reasons, waited| progress.waiting(reasons, waited)) => waited,
        };
        // A signal may have arrived since the last poll of the files. The program would not get it.
        tokio::select! {
            biased;
            _ = stop.wait() => None,
            () = tokio::task::yield_now() => Some(waited),
        }
    });
    progress.clear();
    // A signal has ended the wait.
    let Some(waited) = waited else { return Err(NEGATIVE) };
    if let Err(reasons) = waited {
        // Nobody may read standard error, and the timeout must hold all the same.
        let next = if probe.run_on_timeout { ", going on without a valid token" } else { "" };
        let timeout = HumanDuration(probe.timeout);
        let text = format!("timed out after {timeout}{next}:\n{}", reasons.join("\n"));
        write_unless_blocked(&line_for_pipe(text, "..."));
        if !probe.run_on_timeout {
            return Err(NEGATIVE);
        }
    }
    exec(command)
}
