//! Steps: a line when one begins, a line with its time when it is done, and all of its output if it
//! failed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitCode, Stdio};

use crate::progress::{Progress, seconds};

/// The result of a step.
pub(crate) struct Done {
    pub(crate) succeeded: bool,
    pub(crate) output: String,
}

/// Runs a command as a step. Its output is printed only if it fails; lines of JSON are not.
pub(crate) fn run(name: &str, command: &mut Command) -> Done {
    println!("-- {name}");
    let _ = std::io::stdout().flush();
    let progress = Progress::start("running");
    let (succeeded, output) = match collected(command, &progress) {
        Ok(done) => done,
        Err(error) => (false, format!("{} cannot be started: {error}\n", command.get_program().display())),
    };
    let time = progress.end();
    if !succeeded {
        output.lines().filter(|line| !line.starts_with('{')).for_each(|line| println!("{line}"));
    }
    println!("   {} after {}", if succeeded { "ok" } else { "FAILED" }, seconds(time));
    Done { succeeded, output }
}

fn collected(command: &mut Command, progress: &Progress) -> std::io::Result<(bool, String)> {
    // One pipe for both streams keeps their lines in order.
    let (reader, writer) = std::io::pipe()?;
    let mut child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command holds the writing end, and the pipe is open as long as it does.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut output = String::new();
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if !line.starts_with('{') {
            progress.show(line.trim());
        }
        output.push_str(&line);
        output.push('\n');
    }
    Ok((child.wait()?.success(), output))
}

/// Runs a command that uses the terminal itself. Gives its exit code.
pub(crate) fn plain(command: &mut Command) -> Result<ExitCode, String> {
    let status = command
        .status()
        .map_err(|error| format!("{} cannot be started: {error}", command.get_program().display()))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
