//! `refresh`: makes the running process refresh its tokens, and reports the outcome.

use std::time::Duration;

use dexsidecar::cli::{self, Invocation};
use dexsidecar::refresh::Request;
use dexsidecar_agent::read_termination_message;
use dexsidecar_core::config::{self, Probe};
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::failure::printable;
use dexsidecar_core::settings::Command;
use dexsidecar_edge::running::Running;
use dexsidecar_edge::signal::Stop;
use rustix::io::Errno;
use tokio::runtime::Runtime;

use super::CLOCK;
use crate::environment::Environment;
use crate::terminal::{Progress, eprint, lines, print};
use crate::{Done, NEGATIVE};

/// The initial delay between two polls of the files; it doubles up to the maximum.
const INITIAL_DELAY: Duration = Duration::from_millis(20);
const MAX_DELAY: Duration = Duration::from_millis(500);

/// Runs it.
#[inline(never)]
pub(crate) fn refresh(environment: &Environment, runtime: &Runtime, mut stop: Stop) -> Done {
    let probe = environment.probe()?;
    let mut progress = Progress::new();
    let outcome = runtime.block_on(async {
        tokio::select! {
            biased;
            _ = stop.wait() => Err(vec![]),
            outcome = request(&probe, environment, &mut progress) => outcome,
        }
    });
    progress.clear();
    match outcome {
        Ok(sentences) => Ok(print(&lines(&sentences))),
        Err(sentences) => {
            eprint(&lines(&sentences));
            Err(NEGATIVE)
        }
    }
}

/// Requests the refresh, and waits for its outcome.
///
/// # Errors
/// What is reported of the failure, a line each.
async fn request(
    probe: &Probe,
    environment: &Environment,
    progress: &mut Progress,
) -> Result<Vec<String>, Vec<String>> {
    let start = CLOCK.now().boot;
    let before = Request::new(probe, &CLOCK);
    let failures_before = failures(environment);
    let mut delay = INITIAL_DELAY;
    let mut requested: Option<Running> = None;
    loop {
        if requested.is_none() {
            let process = find(probe.pid).map_err(|why| vec![format!("dexsidecar: {why}")])?;
            let sent = match process.request_refresh() {
                // It has ended since it was found. Another one may start.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => false,
                sent => sent.map_err(|error| {
                    let pid = process.pid;
                    vec![format!(
                        "dexsidecar: cannot signal process {pid}: {error}: run this as the uid of that process"
                    )]
                })?,
            };
            if sent {
                if probe.wait.is_zero() {
                    return Ok(vec![format!("refresh requested from process {}", process.pid)]);
                }
                requested = Some(process);
            }
        }
        let waiting = match (&requested, before.judge(&CLOCK)) {
            (None, _) => vec!["the process is starting".to_owned()],
            (Some(_), Ok(sentences)) => return Ok(sentences),
            (Some(_), Err(waiting)) => waiting,
        };
        let ended = requested.as_ref().filter(|process| process.has_ended());
        let waited = start.until(CLOCK.now().boot);
        let left = probe.wait.saturating_sub(waited);
        if left.is_zero() || ended.is_some() {
            let headline = match ended {
                Some(process) => format!("dexsidecar: process {} ended before it refreshed", process.pid),
                None => format!("dexsidecar: not refreshed within {}", HumanDuration(probe.wait)),
            };
            return Err([vec![headline], waiting, last_failure(environment, &failures_before)].concat());
        }
        progress.waiting(&waiting, waited);
        tokio::time::sleep(delay.min(left)).await;
        delay = (delay * 2).min(MAX_DELAY);
    }
}

/// The process that keeps the tokens fresh: the one with this id, the only one in this container,
/// or the only one in this PID namespace.
///
/// # Errors
/// Why there is none that is certain, and what to do.
fn find(pid: Option<i32>) -> Result<Running, String> {
    let others = Running::others().map_err(|error| format!("cannot read /proc: {error}"))?;
    let mut found: Vec<Running> = others.into_iter().filter(keeps_tokens_fresh).collect();
    // A command of an action has the arguments of its parent until it is executed, which may hang.
    let pids: Vec<i32> = found.iter().map(|process| process.pid).collect();
    found.retain(|process| !pids.contains(&process.parent));
    if let Some(pid) = pid {
        found.retain(|process| process.pid == pid);
    } else if found.iter().any(|process| process.is_in_this_container) {
        found.retain(|process| process.is_in_this_container);
    }
    match (found.pop(), &found[..]) {
        (Some(process), []) => Ok(process),
        (Some(last), others) => {
            let pids = others.iter().chain([&last]).map(|process| process.pid.to_string());
            let pids = pids.collect::<Vec<_>>().join(", ");
            Err(format!("several processes run dexsidecar ({pids}): name one with --pid"))
        }
        (None, _) => Err(match pid {
            Some(pid) => format!("process {pid} does not run dexsidecar here"),
            None => "no process here runs dexsidecar: use kubectl exec with the container of dexsidecar (-c)"
                .to_owned(),
        }),
    }
}

/// Whether its command is `run`.
fn keeps_tokens_fresh(process: &Running) -> bool {
    matches!(cli::parse(process.arguments.iter().cloned()), Ok(Invocation::Run { command: Command::Run, .. }))
}

/// The last failures of the running process, or of the token that `--token` names, a line each.
fn failures(environment: &Environment) -> Vec<String> {
    let text = read_termination_message(environment.termination_log().as_deref());
    failures_in(&text, config::token_name(&environment.settings).as_deref())
}

/// The lines of a termination message, or those of one token. A message without the name of a token
/// belongs to the only one.
fn failures_in(message: &str, token: Option<&str>) -> Vec<String> {
    let start = token.map(|token| format!("token {token}: "));
    let is_asked = |failure: &&str| {
        start.as_ref().is_none_or(|start| failure.starts_with(start) || !failure.starts_with("token "))
    };
    // An empty line ends each failure.
    let lines = message.split("\n\n").filter(is_asked).flat_map(str::lines);
    lines.filter(|line| !line.is_empty()).map(|line| printable(line.to_owned())).collect()
}

/// The last failures, and whether they are those from before the request.
fn last_failure(environment: &Environment, before: &[String]) -> Vec<String> {
    let lines = failures(environment);
    if lines.is_empty() {
        return vec!["the reason is in the log of the running process".to_owned()];
    }
    let headline =
        if lines == before { "last failure, unchanged since the request:" } else { "last failure:" };
    [vec![headline.to_owned()], lines].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_failure_of_the_asked_token_is_shown() {
        let several = "token a: refused\ncode: x\n\ntoken ab: lost\ncode: y\n";
        assert_eq!(failures_in(several, None).len(), 4);
        assert_eq!(failures_in(several, Some("a")), ["token a: refused", "code: x"]);
        assert_eq!(failures_in(several, Some("ab")), ["token ab: lost", "code: y"]);
        assert_eq!(failures_in(several, Some("c")), [""; 0]);
        assert_eq!(failures_in("refused\ncode: x\n", Some("a")), ["refused", "code: x"]);
        assert_eq!(failures_in("", Some("a")), [""; 0]);
    }
}
