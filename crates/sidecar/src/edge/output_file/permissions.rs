//! Group and mode of the token file, set before its content.

use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Mode};
use rustix::io::Errno;

use super::{Refused, Shortfall, Target, uninterrupted};

/// Sets group and mode: as configured, else the kubelet's rule, which lets the group of a setgid directory (fsGroup)
/// read, and everybody in any other.
///
/// What counts is the group and the mode that the file has afterwards. Some volumes (SMB, FAT, blobfuse) have one
/// mode for all files: they refuse the call, or accept it without effect.
///
/// # Errors
/// A configured group or mode that the file does not get; a mode that is wider than the configured one. A default
/// that it does not get is a shortfall.
pub(super) fn permit(target: &Target<'_>, file: &OwnedFd) -> Result<Option<Shortfall>, Refused> {
    let stat = || rustix::fs::fstat(file).map_err(Refused::by("fstat"));
    // The error that a call without effect should have returned.
    let ineffective = |call| Refused { call, errno: Errno::NOTSUP };
    if let Some(group) = target.output.group {
        let changed = uninterrupted(|| rustix::fs::fchown(file, None, Some(Gid::from_raw(group))));
        match changed.map_err(Refused::by("fchown")) {
            Err(refused) if !refused.is_unsupported() => return Err(refused),
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
    let changed =
        uninterrupted(|| rustix::fs::fchmod(file, Mode::from(wanted))).map_err(Refused::by("fchmod"));
    if let Err(refused) = changed
        && !refused.is_unsupported()
    {
        return Err(refused);
    }
    let mode = stat()?.st_mode & 0o777;
    match (changed, target.output.mode) {
        (Ok(()), Some(asked)) if mode & !asked != 0 => Err(ineffective("fchmod")),
        (Ok(()), None) if mode & !wanted != 0 => Ok(Some(Shortfall::Mode(ineffective("fchmod"), mode))),
        (Ok(()), _) => Ok(None),
        (Err(_), _) if mode == wanted => Ok(None),
        (Err(refused), Some(_)) => Err(refused),
        (Err(refused), None) => Ok(Some(Shortfall::Mode(refused, mode))),
    }
}

fn is_setgid(directory: &OwnedFd) -> Result<bool, Refused> {
    let stat = rustix::fs::fstat(directory).map_err(Refused::by("fstat"))?;
    Ok(Mode::from_raw_mode(stat.st_mode).contains(Mode::SGID))
}
