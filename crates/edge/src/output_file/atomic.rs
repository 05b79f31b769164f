//! Replaces the token file atomically: create a temporary file in the same directory (random name,
//! `O_EXCL`), set its permissions, write, flush and close it, rename it, flush the directory.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use dexsidecar_core::secret::Secret;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::super::random;
use super::permissions::set_permissions;
use super::{NameLock, Shortfall, SyscallError, Target, retry_interrupted};

/// The prefix of temporary files, by which those of killed processes are found.
pub(super) use dexsidecar_core::output::TEMPORARY_PREFIX as TEMP_PREFIX;
/// A temporary file older than this is taken as left by a killed process, in seconds.
const ORPHAN_AGE: i64 = 60;

/// About the size of a token, in bytes.
const TOKEN_SIZE: usize = 4096;

/// Why the token file was not replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NotReplaced {
    /// The token file is a mount point (subPath).
    MountPoint(SyscallError),
    /// The volume does not support rename.
    RenameUnsupported(SyscallError),
    /// Any other error.
    Other(SyscallError),
}

/// Replaces the token file. Calls `in_turn` between the complete temporary file and its rename.
///
/// # Errors
/// Any variant of [`NotReplaced`]. The temporary file is removed, if possible.
pub(super) fn replace(
    target: &Target<'_>,
    content: &Secret,
    lock: &NameLock,
    in_turn: &dyn Fn(),
) -> Result<Vec<Shortfall>, NotReplaced> {
    let (temporary, file) = TempFile::create(&target.directory).map_err(|error| classify(target, error))?;
    let mut shortfalls = complete(target, file, content).map_err(|error| classify(target, error))?;
    in_turn();
    let renamed = {
        let _held = lock.hold("renameat").map_err(NotReplaced::Other)?;
        temporary.rename(target.name)
    };
    match renamed {
        Ok(()) => {}
        // EPERM may also concern this file only: it is immutable, or another uid's in a sticky
        // directory.
        Err(error) if error.errno == Errno::PERM && temporary.can_be_renamed().is_ok() => {
            return Err(classify(target, error));
        }
        Err(error) if is_rename_unsupported(error) => return Err(NotReplaced::RenameUnsupported(error)),
        Err(error) => return Err(classify(target, error)),
    }
    temporary.keep();
    // Makes the rename survive a power failure. Some file systems cannot flush a directory.
    match retry_interrupted(|| rustix::fs::fsync(&target.directory)).map_err(SyscallError::of("fsync")) {
        Ok(()) => {}
        Err(error) if matches!(error.errno, Errno::IO | Errno::NOSPC | Errno::DQUOT) => {
            return Err(NotReplaced::Other(error));
        }
        Err(error) => shortfalls.push(Shortfall::DirectoryFlush(error)),
    }
    Ok(shortfalls)
}

/// Checks that a temporary file can be created, gets its permissions and can be renamed. Removes it
/// again.
///
/// # Errors
/// Any variant of [`NotReplaced`].
pub(super) fn check_replace(target: &Target<'_>) -> Result<(), NotReplaced> {
    let classified = |error| classify(target, error);
    let (temporary, file) = TempFile::create(&target.directory).map_err(classified)?;
    // As large as a token, so that a full volume is noticed.
    let content = Secret::new("0".repeat(TOKEN_SIZE));
    let tried = set_permissions(target, &file).and_then(|_| write_all(&file, &content));
    drop(file);
    tried.map_err(classified)?;
    let renamed = temporary.can_be_renamed();
    temporary.remove().map_err(classified)?;
    match renamed {
        Err(error) if is_rename_unsupported(error) => Err(NotReplaced::RenameUnsupported(error)),
        Err(error) => Err(classified(error)),
        Ok(()) => Ok(()),
    }
}

/// Whether this error means that the volume does not support rename. The caller has ruled out a
/// single file as the cause.
fn is_rename_unsupported(error: SyscallError) -> bool {
    error.call == "renameat"
        && matches!(error.errno, Errno::NOSYS | Errno::NOTSUP | Errno::PERM | Errno::XDEV | Errno::INVAL)
}

/// Distinguishes a token file that is a mount point from other causes. Rename over a mount point
/// fails with EBUSY; or the directory, which belongs to the image, is not writable at all.
fn classify(target: &Target<'_>, error: SyscallError) -> NotReplaced {
    let mounted = match error.errno {
        Errno::BUSY => error.call == "renameat",
        Errno::ROFS | Errno::ACCESS | Errno::PERM => target.is_mount_point(),
        _ => false,
    };
    if mounted { NotReplaced::MountPoint(error) } else { NotReplaced::Other(error) }
}

/// Completes a new file: permissions, content, flush, close. The file is closed before its rename,
/// because some volumes (gcsfuse, rclone) upload it on close and report errors only then.
pub(super) fn complete(
    target: &Target<'_>,
    file: OwnedFd,
    content: &Secret,
) -> Result<Vec<Shortfall>, SyscallError> {
    let mut shortfalls: Vec<_> = set_permissions(target, &file)?.into_iter().collect();
    write_all(&file, content)?;
    shortfalls.extend(flush(&file)?);
    close(file)?;
    Ok(shortfalls)
}

/// Writes the content at the current position of the descriptor.
pub(super) fn write_all(file: &OwnedFd, content: &Secret) -> Result<(), SyscallError> {
    let mut rest = content.expose().as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(0) => return Err(SyscallError { call: "write", errno: Errno::IO }),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(SyscallError { call: "write", errno }),
        }
    }
    Ok(())
}

/// Flushes a file. A volume without fsync is accepted: the result is a shortfall. EROFS from fsync
/// means that fsync does not apply to this file (fsync(2)).
pub(super) fn flush(file: &OwnedFd) -> Result<Option<Shortfall>, SyscallError> {
    match retry_interrupted(|| rustix::fs::fsync(file)).map_err(SyscallError::of("fsync")) {
        Ok(()) => Ok(None),
        Err(error) if error.is_unsupported() || error.errno == Errno::ROFS => {
            Ok(Some(Shortfall::FileFlush(error)))
        }
        Err(error) => Err(error),
    }
}

/// Closes a file. Only errors that mean lost content count: flushed content is safe after any other
/// error.
pub(super) fn close(file: OwnedFd) -> Result<(), SyscallError> {
    match nix::unistd::close(file).map_err(|errno| Errno::from_raw_os_error(errno as i32)) {
        Err(errno @ (Errno::IO | Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::REMOTEIO)) => {
            Err(SyscallError { call: "close", errno })
        }
        _ => Ok(()),
    }
}

/// A temporary file. Dropping it removes the file.
struct TempFile<'a> {
    directory: &'a OwnedFd,
    name: Option<String>,
}

impl<'a> TempFile<'a> {
    /// Creates a file that no other process has open and no other uid can read.
    fn create(directory: &'a OwnedFd) -> Result<(Self, OwnedFd), SyscallError> {
        let mut attempts = 3;
        loop {
            let name = random_name();
            match create_new(directory, name.as_ref()) {
                Ok(file) => return Ok((Self { directory, name: Some(name) }, file)),
                Err(SyscallError { errno: Errno::EXIST | Errno::INTR, .. }) if attempts > 0 => attempts -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn rename(&self, to: &OsStr) -> Result<(), SyscallError> {
        retry_interrupted(|| rustix::fs::renameat(self.directory, self.name(), self.directory, to))
            .map_err(SyscallError::of("renameat"))
    }

    /// Renames the file to another temporary name and back.
    fn can_be_renamed(&self) -> Result<(), SyscallError> {
        let other = Self { directory: self.directory, name: Some(random_name()) };
        self.rename(other.name().as_ref())?;
        other.rename(self.name().as_ref())?;
        other.keep();
        Ok(())
    }

    /// Keeps the file: it is the token file now, or has another name.
    fn keep(mut self) {
        self.name = None;
    }

    fn remove(mut self) -> Result<(), SyscallError> {
        let name = self.name.take().unwrap_or_default();
        rustix::fs::unlinkat(self.directory, name, AtFlags::empty()).map_err(SyscallError::of("unlinkat"))
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // If this fails, a later write removes the file as an orphan.
            let _ = rustix::fs::unlinkat(self.directory, name, AtFlags::empty());
        }
    }
}

fn random_name() -> String {
    format!("{TEMP_PREFIX}{}", random::hex_u128())
}

/// Creates a file that must not exist yet, with mode 0600.
pub(super) fn create_new(directory: &OwnedFd, name: &OsStr) -> Result<OwnedFd, SyscallError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::from(0o600)).map_err(SyscallError::of("openat"))
}

/// Removes temporary files that killed processes of this uid left.
pub(super) fn remove_orphans(directory: &OwnedFd) {
    let Ok(entries) = Dir::read_from(directory) else { return };
    let uid = rustix::process::geteuid().as_raw();
    let Timespec { tv_sec: now, .. } = clock_gettime(ClockId::Realtime);
    for entry in entries.filter_map(Result::ok) {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if !name.as_bytes().starts_with(TEMP_PREFIX.as_bytes()) {
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
