//! What tests and tools need besides this workspace, kept in a cache outside the clone.
//!
//! [`counterparts`] is the one table of all of it: programs built from Go modules, packages of
//! Debian that are unpacked and not installed, and programs in wheels of the Python Package Index.
//! Nothing outside the cache is changed.

mod apt_error;
pub mod cache;
pub mod child_output;
pub mod counterparts;
pub mod debian;
pub mod go;
pub mod machine;
pub mod wheel;
pub mod workspace;

/// The exit code of `cargo xtask` when nothing is wrong but the missing cross compiler. The tests
/// of the aarch64 binary are skipped then; every other exit code than 0 is a failure.
pub const NO_CROSS_COMPILER: u8 = 3;

/// Why a counterpart is not in the cache. Its text is for a person.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Error {
    /// It is unavailable on this machine: this is not Debian, the mirror does not have the
    /// packages, or the network does not reach the mirror.
    Unavailable(String),
    /// Anything else: the build failed, a package is corrupt, the cache is not writable.
    Failed(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Unavailable(why) | Self::Failed(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Called with a line about what was done last: a package that was compiled, a file that was
/// downloaded.
pub type Progress<'a> = &'a mut dyn FnMut(&str);

/// Runs a command to its end and passes on each line that it prints to standard error.
///
/// # Errors
/// If the command does not start or fails: with the last lines of its standard error.
fn followed(command: &mut std::process::Command, progress: Progress<'_>) -> Result<(), String> {
    /// How many lines of a failed command are reported.
    const LAST: usize = 30;

    let name = command.get_program().display().to_string();
    let mut last = std::collections::VecDeque::new();
    let end = child_output::separate(command, |line| {
        let child_output::Line::Error(line) = line else { return };
        progress(&line);
        if last.len() == LAST {
            last.pop_front();
        }
        last.push_back(line);
    });
    let end = end.map_err(|error| format!("{name}: {error}"))?;
    if end.succeeded {
        return Ok(());
    }
    last.extend(end.note(&name));
    let lines: Vec<String> = last.into();
    Err(lines.join("\n").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_failed_command_is_reported_with_its_last_lines_of_standard_error() {
        let script = "echo output; for n in $(seq 1 40); do echo $n >&2; done; exit 1";
        let mut seen = vec![];
        let mut progress = |line: &str| seen.push(line.to_owned());
        let error =
            followed(Command::new("sh").args(["-c", script]), &mut progress).expect_err("exit code 1");
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!((lines.len(), lines[0], lines[29]), (30, "11", "40"));
        assert_eq!(seen.len(), 40);
        assert_eq!(followed(Command::new("sh").args(["-c", "echo a >&2"]), &mut |_| ()), Ok(()));
    }
}
