//! Steps: a line when one begins, a line when it is done, and everything it said when it failed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// What a step came to.
pub(crate) struct Done {
    pub(crate) good: bool,
    pub(crate) output: String,
}

/// Runs a command as a step of its own; prints its output only when it fails.
pub(crate) fn run(name: &str, command: &mut Command) -> Done {
    following(name, command, |_| None)
}

/// The same, with a line printed meanwhile for each line of output that `news` finds worth telling.
pub(crate) fn following(name: &str, command: &mut Command, news: impl Fn(&str) -> Option<String>) -> Done {
    let start = Instant::now();
    println!("-- {name}");
    let _ = std::io::stdout().flush();
    // One pipe for both, so that lines stay in order.
    let (reader, writer) = match std::io::pipe() {
        Ok(ends) => ends,
        Err(error) => return Done { good: false, output: error.to_string() },
    };
    let spawned = match writer.try_clone() {
        Ok(other) => command.stdin(Stdio::null()).stdout(writer).stderr(other).spawn(),
        Err(error) => Err(error),
    };
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            println!("   cannot be started: {error}");
            return Done { good: false, output: error.to_string() };
        }
    };
    // The parent's ends of the pipe are in the command; without this it would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut output = String::new();
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if let Some(told) = news(&line) {
            println!("   {told}");
        }
        output.push_str(&line);
        output.push('\n');
    }
    let good = child.wait().is_ok_and(|status| status.success());
    if !good {
        print!("{output}");
    }
    println!("   {} after {:.1} s", if good { "done" } else { "FAILED" }, start.elapsed().as_secs_f64());
    Done { good, output }
}

/// Runs a command that talks to the terminal itself, and hands its exit code on.
pub(crate) fn plain(command: &mut Command) -> Result<ExitCode, String> {
    let status = command.status().map_err(|error| format!("cargo cannot be started: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
