//! Writes the token file in place, for a mount point or a volume without rename.

use std::os::fd::OwnedFd;

use dexsidecar_core::secret::Secret;
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::atomic::{close, complete, create_new, flush, write_all};
use super::permissions::set_permissions;
use super::{Shortfall, SyscallError, Target, retry_interrupted};

/// Overwrites the file, or creates it.
///
/// # Errors
/// The system call that failed. A file that was created and not completed is removed; an existing
/// file may hold a mixture of both tokens.
pub(super) fn write(target: &Target<'_>, content: &Secret) -> Result<Vec<Shortfall>, SyscallError> {
    let gone = Err(SyscallError { call: "openat", errno: Errno::NOENT });
    let overwritten = if target.stat().is_some() { overwrite(target, content) } else { gone };
    match overwritten {
        // The file did not exist, or was removed meanwhile.
        Err(SyscallError { call: "openat", errno: Errno::NOENT }) => match create(target, content) {
            // Another process created it meanwhile.
            Err(SyscallError { call: "openat", errno: Errno::EXIST }) => overwrite(target, content),
            done => done,
        },
        done => done,
    }
}

/// Checks that the file can be opened for writing, and keeps its mode.
///
/// # Errors
/// The system call that failed.
pub(super) fn check_write(target: &Target<'_>) -> Result<(), SyscallError> {
    let before = target.stat().map(|stat| Mode::from_raw_mode(stat.st_mode));
    let file = open_for_writing(target)?;
    let now = rustix::fs::fstat(&file).map_err(SyscallError::of("fstat"))?;
    if let Some(before) = before.filter(|before| *before != Mode::from_raw_mode(now.st_mode)) {
        rustix::fs::fchmod(&file, before).map_err(SyscallError::of("fchmod"))?;
    }
    Ok(())
}

fn create(target: &Target<'_>, content: &Secret) -> Result<Vec<Shortfall>, SyscallError> {
    let file = create_new(&target.directory, target.name)?;
    complete(target, file, content).inspect_err(|_| {
        // Readers must see no file rather than a partial token.
        let _ = rustix::fs::unlinkat(&target.directory, target.name, AtFlags::empty());
    })
}

/// Writes over the old content, then truncates the file to the new length.
fn overwrite(target: &Target<'_>, content: &Secret) -> Result<Vec<Shortfall>, SyscallError> {
    let file = match open_for_writing(target) {
        // Some volumes (mountpoint-s3) accept new content only in a file opened with O_TRUNC.
        Err(error) if error.errno == Errno::PERM => open(target, OFlags::TRUNC).map_err(|_| error)?,
        opened => opened?,
    };
    let mut shortfalls: Vec<_> = set_permissions(target, &file)?.into_iter().collect();
    let length = content.expose().len() as u64;
    // Detects a full volume before the old content is overwritten. Not every file system supports
    // it.
    if let Err(errno @ (Errno::NOSPC | Errno::DQUOT)) =
        rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, length)
    {
        return Err(SyscallError { call: "fallocate", errno });
    }
    write_all(&file, content)?;
    let file = match truncate(&file, length) {
        Ok(()) => file,
        Err(error) if error.is_unsupported() => {
            let emptied = open(target, OFlags::TRUNC).map_err(|_| error)?;
            write_all(&emptied, content)?;
            emptied
        }
        Err(error) => return Err(error),
    };
    shortfalls.extend(flush(&file)?);
    close(file)?;
    Ok(shortfalls)
}

/// Truncates the file, in case the old token was longer.
fn truncate(file: &OwnedFd, length: u64) -> Result<(), SyscallError> {
    let size = rustix::fs::fstat(file).map_err(SyscallError::of("fstat"))?.st_size;
    if u64::try_from(size).is_ok_and(|size| size == length) {
        return Ok(());
    }
    retry_interrupted(|| rustix::fs::ftruncate(file, length)).map_err(SyscallError::of("ftruncate"))
}

/// Opens the file for writing. If its mode denies the owner write access, as 0400 does, write
/// access is added first; [`set_permissions`] sets the mode again before anything is written.
fn open_for_writing(target: &Target<'_>) -> Result<OwnedFd, SyscallError> {
    match open(target, OFlags::empty()) {
        Err(error) if error.errno == Errno::ACCESS => open_with_owner_write(target).ok_or(error),
        opened => opened,
    }
}

fn open_with_owner_write(target: &Target<'_>) -> Option<OwnedFd> {
    // Through a descriptor, so that a symbolic link created meanwhile is not followed.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let reading = rustix::fs::openat(&target.directory, target.name, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&reading).ok()?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || mode.contains(Mode::WUSR) {
        return None;
    }
    rustix::fs::fchmod(&reading, mode | Mode::WUSR).ok()?;
    open(target, OFlags::empty())
        .inspect_err(|_| {
            let _ = rustix::fs::fchmod(&reading, mode);
        })
        .ok()
}

fn open(target: &Target<'_>, more: OFlags) -> Result<OwnedFd, SyscallError> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    let file = rustix::fs::openat(&target.directory, target.name, flags, Mode::empty())
        .map_err(SyscallError::of("openat"))?;
    // Writing to a device or a pipe would lose the token.
    match FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(SyscallError::of("fstat"))?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(SyscallError { call: "openat", errno: Errno::NXIO }),
    }
}
