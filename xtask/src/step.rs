//! Steps: a line when one begins, a line with its time when it is done, and all of its output if it
//! failed.

use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use dexsidecar_fetch::child_output;

use crate::progress::{Progress, seconds};

/// The result of a step.
#[derive(Debug)]
pub(crate) struct StepResult {
    pub(crate) name: String,
    pub(crate) succeeded: bool,
    pub(crate) output: String,
    pub(crate) time: Duration,
}

/// Runs a command as a step. Its output is printed only if it fails; lines of JSON are not.
pub(crate) fn run(name: &str, command: &mut Command) -> StepResult {
    println!("-- {name}");
    let _ = std::io::stdout().flush();
    let progress = Progress::start("running");
    let mut output = String::new();
    let ended = child_output::merged(command, |line| {
        if !line.starts_with('{') {
            progress.show(line.trim());
        }
        output.push_str(&line);
        output.push('\n');
    });
    let time = progress.end();
    let (succeeded, note) = match ended {
        Ok(end) => (end.succeeded, end.note(name)),
        Err(error) => {
            output.push_str(&format!("{} cannot be run: {error}\n", command.get_program().display()));
            (false, None)
        }
    };
    if !succeeded {
        output.lines().filter(|line| !line.starts_with('{')).for_each(|line| println!("{line}"));
    }
    note.into_iter().for_each(|note| println!("   note: {note}"));
    println!("   {} after {}", if succeeded { "ok" } else { "FAILED" }, seconds(time));
    StepResult { name: name.to_owned(), succeeded, output, time }
}

/// Runs a command that uses the terminal itself. Gives its exit code.
pub(crate) fn run_in_terminal(command: &mut Command) -> Result<ExitCode, String> {
    let status = command
        .status()
        .map_err(|error| format!("{} cannot be started: {error}", command.get_program().display()))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
