//! Writing the token file in place, for a file or a volume that does not allow a rename.

use std::os::fd::OwnedFd;

use dexsidecar_core::secret::Secret;
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::atomic::{close, create_new, fill, flush, write_all};
use super::permissions::permit;
use super::{Refused, Shortfall, Target, uninterrupted};

/// Overwrites the file, or creates it.
///
/// # Errors
/// A file that was created and not completed is removed again; one that existed may hold a mixture.
pub(super) fn write(target: &Target<'_>, token: &Secret) -> Result<Vec<Shortfall>, Refused> {
    let gone = Err(Refused { call: "openat", errno: Errno::NOENT });
    let overwritten = if target.stat().is_some() { overwrite(target, token) } else { gone };
    match overwritten {
        // It was not there, or has just been removed.
        Err(Refused { call: "openat", errno: Errno::NOENT }) => match create(target, token) {
            // It has just appeared.
            Err(Refused { call: "openat", errno: Errno::EXIST }) => overwrite(target, token),
            done => done,
        },
        done => done,
    }
}

/// Proves that the file can be opened for writing, and leaves its mode as it is.
///
/// # Errors
/// Why it cannot.
pub(super) fn can_write(target: &Target<'_>) -> Result<(), Refused> {
    let before = target.stat().map(|stat| Mode::from_raw_mode(stat.st_mode));
    let file = open_for_writing(target)?;
    let now = rustix::fs::fstat(&file).map_err(Refused::by("fstat"))?;
    if let Some(before) = before.filter(|before| *before != Mode::from_raw_mode(now.st_mode)) {
        rustix::fs::fchmod(&file, before).map_err(Refused::by("fchmod"))?;
    }
    Ok(())
}

fn create(target: &Target<'_>, token: &Secret) -> Result<Vec<Shortfall>, Refused> {
    let file = create_new(&target.directory, target.name)?;
    fill(target, file, token).inspect_err(|_| {
        // Readers must see no file rather than a partial token.
        let _ = rustix::fs::unlinkat(&target.directory, target.name, AtFlags::empty());
    })
}

/// One write over the old content, and a cut behind it.
fn overwrite(target: &Target<'_>, token: &Secret) -> Result<Vec<Shortfall>, Refused> {
    let file = match open_for_writing(target) {
        // Some volumes (mountpoint-s3) take a new content only for a file that is emptied when it is opened.
        Err(refused) if refused.errno == Errno::PERM => open(target, OFlags::TRUNC).map_err(|_| refused)?,
        opened => opened?,
    };
    let mut shortfalls: Vec<_> = permit(target, &file)?.into_iter().collect();
    let length = token.expose().len() as u64;
    // A full volume is noticed while the old content still stands. Not every file system can be asked.
    if let Err(errno @ (Errno::NOSPC | Errno::DQUOT)) =
        rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, length)
    {
        return Err(Refused { call: "fallocate", errno });
    }
    write_all(&file, token)?;
    let file = match cut(&file, length) {
        Ok(()) => file,
        Err(refused) if refused.is_unsupported() => {
            let emptied = open(target, OFlags::TRUNC).map_err(|_| refused)?;
            write_all(&emptied, token)?;
            emptied
        }
        Err(refused) => return Err(refused),
    };
    shortfalls.extend(flush(&file)?);
    close(file)?;
    Ok(shortfalls)
}

/// Cuts off what a longer token left.
fn cut(file: &OwnedFd, length: u64) -> Result<(), Refused> {
    let size = rustix::fs::fstat(file).map_err(Refused::by("fstat"))?.st_size;
    if u64::try_from(size).is_ok_and(|size| size == length) {
        return Ok(());
    }
    uninterrupted(|| rustix::fs::ftruncate(file, length)).map_err(Refused::by("ftruncate"))
}

/// Opens the file for writing. A mode that forbids the owner to write, as 0400 does, is opened up for the moment:
/// [`permit`] sets it again before anything is written.
fn open_for_writing(target: &Target<'_>) -> Result<OwnedFd, Refused> {
    match open(target, OFlags::empty()) {
        Err(refused) if refused.errno == Errno::ACCESS => with_owner_write(target).ok_or(refused),
        opened => opened,
    }
}

fn with_owner_write(target: &Target<'_>) -> Option<OwnedFd> {
    // Through a descriptor, so that no link that appears meanwhile is followed.
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

fn open(target: &Target<'_>, more: OFlags) -> Result<OwnedFd, Refused> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    let file = rustix::fs::openat(&target.directory, target.name, flags, Mode::empty())
        .map_err(Refused::by("openat"))?;
    // A device or a pipe would swallow the token.
    match FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(Refused::by("fstat"))?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(Refused { call: "openat", errno: Errno::NXIO }),
    }
}
