//! What tests and tools need besides this workspace, kept in a cache outside the clone.
//!
//! [`counterparts`] is the one table of all of it: programs built from Go modules, and packages of
//! Debian that are unpacked and not installed. Nothing outside the cache is changed.

pub mod cache;
pub mod child_output;
pub mod counterparts;
pub mod debian;
pub mod go;
pub mod machine;
pub mod workspace;

/// The exit code of `cargo xtask` when nothing is wrong but the missing cross compiler. The tests
/// of the aarch64 binary are skipped then; every other exit code than 0 is a failure.
pub const NO_CROSS_COMPILER: u8 = 3;

/// Called with a line about what was done last: a package that was compiled, a file that was
/// downloaded.
pub type Progress<'a> = &'a mut dyn FnMut(&str);

/// Runs a command to its end and passes on each line that it prints to standard error.
fn followed(command: &mut std::process::Command, progress: Progress<'_>) -> Result<(), String> {
    use std::io::BufRead as _;
    use std::process::Stdio;

    /// How many lines of a failed command are reported.
    const LAST: usize = 30;

    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let stderr = child.stderr.take().ok_or("standard error is not a pipe")?;
    let mut last = std::collections::VecDeque::new();
    for line in std::io::BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        progress(&line);
        if last.len() == LAST {
            last.pop_front();
        }
        last.push_back(line);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let lines: Vec<String> = last.into();
    if status.success() { Ok(()) } else { Err(lines.join("\n").trim().to_owned()) }
}
