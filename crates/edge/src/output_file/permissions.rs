//! Sets group and mode of the token file, before its content is written.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;

use dexsidecar_core::output::Output;
use rustix::fs::{Gid, Mode};
use rustix::io::Errno;

use super::{Shortfall, SyscallError, Target, retry_interrupted};

/// Sets group and mode as configured. The default mode follows the kubelet: 0640 in a setgid
/// directory (fsGroup), else 0644.
///
/// What counts is the group and mode that the file has afterwards, not the result of the calls.
/// Some volumes (SMB, FAT, blobfuse) have one mode for all files: they reject the call, or accept
/// it without effect.
///
/// # Errors
/// `fchown` or `fchmod`, if the file does not get a configured group or mode, or gets a mode wider
/// than the configured one. A default mode that the file does not get is a shortfall.
pub(super) fn set_permissions(
    target: &Target<'_>,
    file: &OwnedFd,
) -> Result<Option<Shortfall>, SyscallError> {
    let stat = || rustix::fs::fstat(file).map_err(SyscallError::of("fstat"));
    // For a call without effect, the error that it should have returned.
    let ineffective = |call| SyscallError { call, errno: Errno::NOTSUP };
    if let Some(group) = target.output.group {
        let changed = retry_interrupted(|| rustix::fs::fchown(file, None, Some(Gid::from_raw(group))));
        match changed.map_err(SyscallError::of("fchown")) {
            Err(error) if !error.is_unsupported() => return Err(error),
            changed => {
                if stat()?.st_gid != group {
                    return Err(changed.err().unwrap_or_else(|| ineffective("fchown")));
                }
            }
        }
    }
    let wanted = match target.output.mode {
        Some(mode) => mode,
        None if is_setgid(&target.directory)? => 0o640,
        None => 0o644,
    };
    let changed = retry_interrupted(|| rustix::fs::fchmod(file, Mode::from(wanted)))
        .map_err(SyscallError::of("fchmod"));
    if let Err(error) = changed
        && !error.is_unsupported()
    {
        return Err(error);
    }
    let mode = stat()?.st_mode & 0o777;
    match (changed, target.output.mode) {
        (Ok(()), Some(asked)) if mode & !asked != 0 => Err(ineffective("fchmod")),
        (Ok(()), None) if mode & !wanted != 0 => Ok(Some(Shortfall::Mode(ineffective("fchmod"), mode))),
        (Ok(()), _) => Ok(None),
        (Err(_), _) if mode == wanted => Ok(None),
        (Err(error), Some(_)) => Err(error),
        (Err(error), None) => Ok(Some(Shortfall::Mode(error, mode))),
    }
}

/// Whether the token file has the mode and the group that are configured for it. True if none is
/// configured, or if the file is missing. A volume without modes may show a narrower one: the file
/// is then written once more after each restart.
#[must_use]
pub fn has_permissions(output: &Output) -> bool {
    let Ok(file) = std::fs::symlink_metadata(&output.path) else { return true };
    output.mode.is_none_or(|mode| file.mode() & 0o777 == mode)
        && output.group.is_none_or(|group| file.gid() == group)
}

fn is_setgid(directory: &OwnedFd) -> Result<bool, SyscallError> {
    let stat = rustix::fs::fstat(directory).map_err(SyscallError::of("fstat"))?;
    Ok(Mode::from_raw_mode(stat.st_mode).contains(Mode::SGID))
}
