//! Replacing the token file: a temporary file beside it (random name, `O_EXCL`, mode before content), flush, close,
//! rename, flush of the directory.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use dexsidecar_core::secret::Secret;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::super::random;
use super::permissions::permit;
use super::{Refused, Shortfall, Target, uninterrupted};

/// Temporary files begin with this, so that those of killed processes can be found.
pub(super) const TEMPORARY: &str = ".dexsidecar-";
/// A temporary file of this age belongs to no running process, in seconds.
const ORPHAN_AGE: i64 = 60;

/// Why a file was not replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NotReplaced {
    /// The file is a mount point, as subPath makes it.
    Mounted(Refused),
    /// The volume cannot rename any file.
    CannotRename(Refused),
    /// Anything else.
    Refused(Refused),
}

/// Replaces the file.
///
/// # Errors
/// Why it was not replaced; no temporary file is left, unless it cannot be removed.
pub(super) fn replace(target: &Target<'_>, token: &Secret) -> Result<Vec<Shortfall>, NotReplaced> {
    let (temporary, file) =
        Temporary::create(&target.directory).map_err(|refused| not_replaced(target, refused))?;
    let mut shortfalls = fill(target, file, token).map_err(|refused| not_replaced(target, refused))?;
    match temporary.rename(target.name) {
        Ok(()) => {}
        // EPERM is also how one file refuses to be replaced: another uid's in a sticky directory, or an immutable one.
        Err(refused) if refused.errno == Errno::PERM && temporary.can_be_renamed().is_ok() => {
            return Err(not_replaced(target, refused));
        }
        Err(refused) if is_no_rename(refused) => return Err(NotReplaced::CannotRename(refused)),
        Err(refused) => return Err(not_replaced(target, refused)),
    }
    temporary.forget();
    // The rename must outlive a power failure. Some file systems cannot flush a directory.
    match uninterrupted(|| rustix::fs::fsync(&target.directory)).map_err(Refused::by("fsync")) {
        Ok(()) => {}
        Err(refused) if matches!(refused.errno, Errno::IO | Errno::NOSPC | Errno::DQUOT) => {
            return Err(NotReplaced::Refused(refused));
        }
        Err(refused) => shortfalls.push(Shortfall::DirectoryFlush(refused)),
    }
    Ok(shortfalls)
}

/// Proves that a temporary file can be made, gets its permissions and can be renamed. It is removed again.
///
/// # Errors
/// Why not.
pub(super) fn can_replace(target: &Target<'_>) -> Result<(), NotReplaced> {
    let refused = |refused| not_replaced(target, refused);
    let (temporary, file) = Temporary::create(&target.directory).map_err(refused)?;
    let permitted = permit(target, &file);
    drop(file);
    permitted.map_err(refused)?;
    let renamed = temporary.can_be_renamed();
    temporary.remove().map_err(refused)?;
    match renamed {
        Err(refused) if is_no_rename(refused) => Err(NotReplaced::CannotRename(refused)),
        Err(other) => Err(refused(other)),
        Ok(()) => Ok(()),
    }
}

/// Whether this is how a volume without rename answers, given that no single file is at fault.
fn is_no_rename(refused: Refused) -> bool {
    refused.call == "renameat"
        && matches!(refused.errno, Errno::NOSYS | Errno::NOTSUP | Errno::PERM | Errno::XDEV | Errno::INVAL)
}

/// A file that is mounted by itself refuses to be renamed over; or its directory, which is the image's, cannot be
/// written to at all.
fn not_replaced(target: &Target<'_>, refused: Refused) -> NotReplaced {
    let mounted = match refused.errno {
        Errno::BUSY => refused.call == "renameat",
        Errno::ROFS | Errno::ACCESS | Errno::PERM => target.is_mount_point(),
        _ => false,
    };
    if mounted { NotReplaced::Mounted(refused) } else { NotReplaced::Refused(refused) }
}

/// Writes a new file: permissions, content, flush, close. It is closed before it is renamed, since some volumes
/// (gcsfuse, rclone) upload it only then, and report only then that they could not.
pub(super) fn fill(target: &Target<'_>, file: OwnedFd, token: &Secret) -> Result<Vec<Shortfall>, Refused> {
    let mut shortfalls: Vec<_> = permit(target, &file)?.into_iter().collect();
    write_all(&file, token)?;
    shortfalls.extend(flush(&file)?);
    close(file)?;
    Ok(shortfalls)
}

/// Writes the whole token at the descriptor's position.
pub(super) fn write_all(file: &OwnedFd, token: &Secret) -> Result<(), Refused> {
    let mut rest = token.expose().as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(0) => return Err(Refused { call: "write", errno: Errno::IO }),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Refused { call: "write", errno }),
        }
    }
    Ok(())
}

/// Flushes a file. A volume that cannot do that at all (EROFS is fsync's word for a file that it does not apply to)
/// gets the token all the same.
pub(super) fn flush(file: &OwnedFd) -> Result<Option<Shortfall>, Refused> {
    match uninterrupted(|| rustix::fs::fsync(file)).map_err(Refused::by("fsync")) {
        Ok(()) => Ok(None),
        Err(refused) if refused.is_unsupported() || refused.errno == Errno::ROFS => {
            Ok(Some(Shortfall::FileFlush(refused)))
        }
        Err(refused) => Err(refused),
    }
}

/// Closes a file. Only errors that mean a lost content count: what was flushed is safe whatever close answers.
pub(super) fn close(file: OwnedFd) -> Result<(), Refused> {
    match nix::unistd::close(file).map_err(|errno| Errno::from_raw_os_error(errno as i32)) {
        Err(errno @ (Errno::IO | Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::REMOTEIO)) => {
            Err(Refused { call: "close", errno })
        }
        _ => Ok(()),
    }
}

/// A temporary file, which is removed when it is dropped.
struct Temporary<'a> {
    directory: &'a OwnedFd,
    name: Option<String>,
}

impl<'a> Temporary<'a> {
    /// A new file that nobody else can have opened, and nobody else can read yet.
    fn create(directory: &'a OwnedFd) -> Result<(Self, OwnedFd), Refused> {
        let mut attempts = 3;
        loop {
            let name = random_name();
            match create_new(directory, name.as_ref()) {
                Ok(file) => return Ok((Self { directory, name: Some(name) }, file)),
                Err(Refused { errno: Errno::EXIST | Errno::INTR, .. }) if attempts > 0 => attempts -= 1,
                Err(refused) => return Err(refused),
            }
        }
    }

    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn rename(&self, to: &OsStr) -> Result<(), Refused> {
        uninterrupted(|| rustix::fs::renameat(self.directory, self.name(), self.directory, to))
            .map_err(Refused::by("renameat"))
    }

    /// Renames it to another temporary name and back.
    fn can_be_renamed(&self) -> Result<(), Refused> {
        let other = Self { directory: self.directory, name: Some(random_name()) };
        self.rename(other.name().as_ref())?;
        other.rename(self.name().as_ref())?;
        other.forget();
        Ok(())
    }

    /// It has become the token file.
    fn forget(mut self) {
        self.name = None;
    }

    fn remove(mut self) -> Result<(), Refused> {
        let name = self.name.take().unwrap_or_default();
        rustix::fs::unlinkat(self.directory, name, AtFlags::empty()).map_err(Refused::by("unlinkat"))
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // One that cannot be removed is swept by a later write.
            let _ = rustix::fs::unlinkat(self.directory, name, AtFlags::empty());
        }
    }
}

fn random_name() -> String {
    format!("{TEMPORARY}{}", random::name())
}

/// Creates a file that must not exist yet, for this uid alone.
pub(super) fn create_new(directory: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Refused> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::from(0o600)).map_err(Refused::by("openat"))
}

/// Removes the temporary files that killed processes of this uid left.
pub(super) fn sweep(directory: &OwnedFd) {
    let Ok(entries) = Dir::read_from(directory) else { return };
    let uid = rustix::process::geteuid().as_raw();
    let Timespec { tv_sec: now, .. } = clock_gettime(ClockId::Realtime);
    for entry in entries.filter_map(Result::ok) {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if !name.as_bytes().starts_with(TEMPORARY.as_bytes()) {
            continue;
        }
        let orphan = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            stat.st_uid == uid
                && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && now.saturating_sub(stat.st_mtime) > ORPHAN_AGE
        });
        if orphan {
            let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
        }
    }
}
