//! The missing directories of an output: creates them, or tests that they could be created.

use std::path::Path;

use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::output::Output;
use rustix::fs::{Access, AtFlags, CWD, Mode};
use rustix::io::Errno;

use super::super::input_file::identity;
use super::{SyscallError, failure};

/// Creates this directory of the output and its missing parents, as `mkdir -p` does: with mode
/// 0755, less the umask. A symbolic link to a directory is that directory.
///
/// # Errors
/// A code that begins with `Output`; the detail names the directory that cannot be created.
pub(super) fn create(output: &Output, directory: &Path) -> Result<(), Failure> {
    let errno = match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => return Ok(()),
        Err(errno) => errno,
    };
    match directory.parent().filter(|parent| errno == Errno::NOENT && !parent.as_os_str().is_empty()) {
        Some(parent) => {
            create(output, parent)?;
            match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(not_created(output, directory, "mkdir", errno)),
            }
        }
        None => Err(not_created(output, directory, "mkdir", errno)),
    }
}

/// Tests whether this directory of the output could be created, and creates nothing.
///
/// # Errors
/// The codes of [`create`]; the detail names the directory that exists and forbids it.
pub(super) fn check(output: &Output, directory: &Path) -> Result<(), Failure> {
    let mut parents = directory.ancestors().filter(|parent| !parent.as_os_str().is_empty());
    // A relative path begins in the working directory.
    let existing =
        parents.find(|parent| std::fs::symlink_metadata(parent).is_ok()).unwrap_or_else(|| Path::new("."));
    if !existing.is_dir() {
        return Err(not_created(output, existing, "mkdir", Errno::NOTDIR));
    }
    rustix::fs::accessat(CWD, existing, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|errno| not_created(output, existing, "access", errno))
}

fn not_created(output: &Output, directory: &Path, call: &'static str, errno: Errno) -> Failure {
    let error = SyscallError { call, errno };
    let why = format!("its directory cannot be created: {}: {error}", directory.display());
    match errno {
        Errno::ROFS => failure(output, Code::OutputReadOnly, &why),
        Errno::NOSPC | Errno::DQUOT => failure(output, Code::OutputDiskFull, &why),
        Errno::ACCESS | Errno::PERM => {
            failure(output, Code::OutputNotPermitted, &format!("{why}; {}", identity()))
        }
        Errno::NOENT | Errno::NOTDIR => failure(output, Code::OutputDirectoryMissing, &why),
        _ => failure(output, Code::OutputFailed, &why),
    }
}
