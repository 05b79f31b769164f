//! Writes, reads and removes the token file. The file is replaced atomically: a reader sees no
//! file, the old token or the new token. Where the volume does not allow that, the file is
//! overwritten in place.
//!
//! The directory is opened by path for each operation, and all other calls are relative to that
//! descriptor. So a directory that is recreated, or a volume that is mounted again, needs no
//! restart.

mod atomic;
mod directories;
mod in_place;
mod permissions;
mod rename_order;
mod syscall_error;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use dexsidecar_core::failure::{Code, Failure, Owner};
use dexsidecar_core::output::{Output, StoredToken, WriteMode};
use dexsidecar_core::secret::Secret;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::input_file::{self, Unreadable, identity};
use atomic::NotReplaced;
pub use permissions::has_permissions;
pub use rename_order::RenamePlace;
pub use syscall_error::SyscallError;
use syscall_error::failure;

const FIX_DEVICE: &str = "set the path of the output to a file";

/// How the token was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// By an atomic rename.
    Replaced,
    /// By an atomic rename, which replaced a symbolic link.
    ReplacedSymlink,
    /// In place: for a short time a reader may see a partial token, or a mixture of both.
    InPlace,
    /// In place, because the volume does not support rename.
    InPlaceWithoutRename(SyscallError),
}

/// A step that failed although the token was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shortfall {
    /// The file has this mode instead of the default mode.
    Mode(SyscallError, u32),
    /// The file was not flushed: a power failure may lose the token.
    FileFlush(SyscallError),
    /// The directory was not flushed: a power failure may restore the old token.
    DirectoryFlush(SyscallError),
}

/// The result of a write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// How the token was written.
    pub method: Method,
    /// The steps that failed.
    pub shortfalls: Vec<Shortfall>,
}

/// The file to write: its open directory, and its name there.
struct Target<'a> {
    output: &'a Output,
    directory: OwnedFd,
    name: &'a OsStr,
}

/// Writes this content, a token in the format of the output, to its file. Blocks.
///
/// # Errors
/// A code that begins with `Output`; the detail names the path and the system call. The old content
/// is untouched, unless the file was being overwritten in place.
pub fn write(output: &Output, content: &Secret) -> Result<Written, Failure> {
    write_with(output, content, &NameLock::default(), None)
}

/// Writes this content like [`write()`], while another thread may call [`remove_if`] with the same
/// lock. With a place among the outputs of the token, the file is replaced or overwritten in its
/// turn. Blocks.
///
/// # Errors
/// The codes of [`write()`].
pub fn write_with(
    output: &Output,
    content: &Secret,
    lock: &NameLock,
    place: Option<RenamePlace>,
) -> Result<Written, Failure> {
    let target = match Target::open(output) {
        Err(missing) if missing.code == Code::OutputDirectoryMissing && output.create_directories => {
            directories::create(output, directory_of(output))?;
            Target::open(output)?
        }
        opened => opened?,
    };
    let kind = target.file_type()?;
    let written = |method| move |shortfalls| Written { method, shortfalls };
    let in_turn = || place.as_ref().map_or((), RenamePlace::wait);
    let write_in_place = || {
        in_turn();
        let _held = lock.hold("write")?;
        in_place::write(&target, content)
    };
    if output.write_mode == WriteMode::InPlace && matches!(kind, None | Some(FileType::RegularFile)) {
        let done = write_in_place().map_err(|error| target.failure(error))?;
        return Ok(written(Method::InPlace)(done));
    }
    let result = match atomic::replace(&target, content, lock, &in_turn) {
        Ok(done) if kind == Some(FileType::Symlink) => Ok(written(Method::ReplacedSymlink)(done)),
        Ok(done) => Ok(written(Method::Replaced)(done)),
        Err(NotReplaced::MountPoint(error)) if output.write_mode == WriteMode::Atomic => {
            Err(failure(output, Code::OutputIsAMount, &error.to_string()))
        }
        Err(NotReplaced::MountPoint(_)) => {
            write_in_place().map(written(Method::InPlace)).map_err(|error| target.failure(error))
        }
        Err(NotReplaced::RenameUnsupported(error))
            if output.write_mode == WriteMode::Atomic
                || !matches!(kind, None | Some(FileType::RegularFile)) =>
        {
            Err(failure(output, Code::OutputRenameUnsupported, &error.to_string()))
        }
        Err(NotReplaced::RenameUnsupported(error)) => {
            write_in_place().map(written(Method::InPlaceWithoutRename(error))).map_err(|further| {
                let Failure { code, detail, .. } = target.failure(further);
                Failure::new(code, format!("{detail} (writing in place after {error})"))
            })
        }
        Err(NotReplaced::Other(error)) => Err(target.failure(error)),
    };
    atomic::remove_orphans(&target.directory);
    result
}

/// Checks that a token can be written, without changing the token file. Blocks. Returns true if the
/// token would be written in place.
///
/// # Errors
/// The codes of [`write()`].
pub fn check_writable(output: &Output) -> Result<bool, Failure> {
    let target = match Target::open(output) {
        Err(missing) if missing.code == Code::OutputDirectoryMissing && output.create_directories => {
            directories::check(output, directory_of(output))?;
            return Ok(output.write_mode == WriteMode::InPlace);
        }
        opened => opened?,
    };
    let kind = target.file_type()?;
    let mounted = target.is_mount_point();
    if mounted && output.write_mode == WriteMode::Atomic {
        return Err(failure(output, Code::OutputIsAMount, ""));
    }
    let is_file = kind == Some(FileType::RegularFile);
    if mounted || output.write_mode == WriteMode::InPlace && is_file {
        in_place::check_write(&target).map_err(|error| target.failure(error))?;
        return Ok(true);
    }
    match atomic::check_replace(&target) {
        // A rename would fail then.
        Ok(()) if target.is_owned_by_another_in_sticky_directory() => {
            Err(target.failure(SyscallError { call: "renameat", errno: Errno::PERM }))
        }
        Ok(()) => Ok(output.write_mode == WriteMode::InPlace && kind.is_none()),
        Err(NotReplaced::RenameUnsupported(error)) if output.write_mode == WriteMode::Atomic => {
            Err(failure(output, Code::OutputRenameUnsupported, &error.to_string()))
        }
        Err(NotReplaced::RenameUnsupported(_)) if is_file => {
            in_place::check_write(&target).map_err(|error| target.failure(error))?;
            Ok(true)
        }
        Err(NotReplaced::RenameUnsupported(_)) if kind.is_none() => Ok(true),
        Err(
            NotReplaced::RenameUnsupported(error)
            | NotReplaced::MountPoint(error)
            | NotReplaced::Other(error),
        ) => Err(target.failure(error)),
    }
}

/// The token in the token file. Returns `None` if the content does not have the output's format, or
/// cannot be read as by [`read_content`].
#[must_use]
pub fn read(output: &Output) -> Option<StoredToken> {
    Some(read_with_fingerprint(output)?.0)
}

/// The token in the token file like [`read`], and the [`fingerprint`] of the file that was read.
#[must_use]
pub fn read_with_fingerprint(output: &Output) -> Option<(StoredToken, u64)> {
    let (content, fingerprint) = content_with_fingerprint(output)?;
    Some((output.format.read(&content)?, fingerprint))
}

/// The content of the token file. Returns `None` if it is not a regular file of UTF-8, or larger
/// than [`Format::largest`](dexsidecar_core::output::Format::largest). A symbolic link is not
/// followed.
#[must_use]
pub fn read_content(output: &Output) -> Option<Secret> {
    Some(content_with_fingerprint(output)?.0)
}

/// The content of the token file like [`read_content`], and the [`fingerprint`] of the file that
/// was read.
#[must_use]
pub fn content_with_fingerprint(output: &Output) -> Option<(Secret, u64)> {
    Target::open(output).ok()?.content(output.format.largest()).ok()?
}

/// Keeps a new token, which one thread writes, from being removed by another thread that removes
/// the expired token. It is held while a file gets the name of the token file or is overwritten in
/// place, and while the content of the token file is compared and removed. Each output has its own,
/// because such a call may hang.
#[derive(Clone, Debug, Default)]
pub struct NameLock(Arc<NameLockState>);

#[derive(Debug, Default)]
struct NameLockState {
    held: Mutex<()>,
    is_revoked: AtomicBool,
}

impl NameLock {
    /// Holds it, for a call with this name.
    ///
    /// # Errors
    /// ECANCELED, if it was revoked.
    fn hold(&self, call: &'static str) -> Result<MutexGuard<'_, ()>, SyscallError> {
        let guard = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.is_revoked.load(Ordering::SeqCst) {
            return Err(SyscallError { call, errno: Errno::CANCELED });
        }
        Ok(guard)
    }

    /// Whoever has not held it yet fails: the token of a write that hangs does not replace a later
    /// one of another configuration.
    pub fn revoke(&self) {
        self.0.is_revoked.store(true, Ordering::SeqCst);
    }

    /// Whether another thread holds it now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.0.held.try_lock(), Err(TryLockError::WouldBlock))
    }
}

/// Removes the token file if it holds this token, in its format or in a former one, and returns
/// whether it did. Blocks.
///
/// # Errors
/// The codes of [`write()`].
pub fn remove_if(output: &Output, token: &Secret, lock: &NameLock) -> Result<bool, Failure> {
    let _held =
        lock.hold("unlinkat").map_err(|error| failure(output, Code::OutputFailed, &error.to_string()))?;
    let target = match Target::open(output) {
        Err(failure) if failure.code == Code::OutputDirectoryMissing => return Ok(false),
        target => target?,
    };
    // A file that cannot be read may hold the token.
    let content = target.content(output.format.largest()).map_err(|error| target.failure(error))?;
    let held = content.and_then(|(content, _)| output.format.read_at_startup(&content));
    if held.is_none_or(|(stored, _)| stored.token != *token) {
        return Ok(false);
    }
    match rustix::fs::unlinkat(&target.directory, target.name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(errno) => Err(target.failure(SyscallError { call: "unlinkat", errno })),
    }
}

/// A number that changes when the token file changes, without reading it: 0 if the file is missing,
/// 1 for a symbolic link.
#[must_use]
pub fn fingerprint(output: &Output) -> u64 {
    if std::fs::symlink_metadata(&output.path).is_ok_and(|file| file.is_symlink()) {
        return 1;
    }
    input_file::fingerprint(&output.path)
}

/// The directory of the token file.
fn directory_of(output: &Output) -> &Path {
    let parent = output.path.parent().filter(|directory| !directory.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

impl<'a> Target<'a> {
    /// The content of the file and its fingerprint. `None` if it is not a regular file of UTF-8, or
    /// larger than this.
    fn content(&self, largest: usize) -> Result<Option<(Secret, u64)>, SyscallError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, self.name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            // Missing, a symbolic link, a socket.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(SyscallError { call: "openat", errno }),
        };
        let failed = |call| {
            move |error: io::Error| SyscallError {
                call,
                errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
            }
        };
        let fingerprint = input_file::fingerprint_of(&file.metadata().map_err(failed("fstat"))?);
        match input_file::read_open(file, largest) {
            Ok(content) => Ok(String::from_utf8(content).ok().map(|text| (Secret::new(text), fingerprint))),
            Err(Unreadable::Failed(error)) => Err(failed("read")(error)),
            Err(_) => Ok(None),
        }
    }

    fn open(output: &'a Output) -> Result<Self, Failure> {
        let directory = directory_of(output);
        let name = output.path.file_name().ok_or_else(|| failure(output, Code::OutputIsADirectory, ""))?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, OFlags::RDONLY | flags, Mode::empty())
            // Without permission to list the directory, everything works except its flush and the
            // removal of orphans.
            .or_else(|_| rustix::fs::open(directory, OFlags::PATH | flags, Mode::empty()));
        match opened {
            Ok(directory) => Ok(Self { output, directory, name }),
            Err(errno) => {
                let why = SyscallError { call: "open", errno }.to_string();
                let code = match errno {
                    Errno::NOENT | Errno::NOTDIR => Code::OutputDirectoryMissing,
                    Errno::ACCESS | Errno::PERM => {
                        let why = format!("{why}; {}", identity());
                        return Err(failure(output, Code::OutputNotPermitted, &why));
                    }
                    _ => Code::OutputFailed,
                };
                Err(failure(output, code, &why))
            }
        }
    }

    /// The status of the file at the path, if there is one. A symbolic link is not followed.
    fn stat(&self) -> Option<Stat> {
        rustix::fs::statat(&self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    /// The type of the file at the path, if there is one.
    ///
    /// # Errors
    /// [`Code::OutputIsADirectory`], [`Code::OutputFailed`] for a device: in its place other
    /// programs would find a token.
    fn file_type(&self) -> Result<Option<FileType>, Failure> {
        match self.stat().map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Some(FileType::Directory) => {
                Err(self.failure(SyscallError { call: "fstatat", errno: Errno::ISDIR }))
            }
            Some(FileType::CharacterDevice | FileType::BlockDevice) => {
                Err(failure(self.output, Code::OutputFailed, "it is a device, which is not replaced")
                    .owned_by(Owner::Pod)
                    .with_fix(FIX_DEVICE))
            }
            kind => Ok(kind),
        }
    }
}

/// Repeats a call that fails with EINTR, up to 10 times. NFS and FUSE return it.
fn retry_interrupted<T>(call: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    const MOST_INTERRUPTIONS: usize = 10;
    let mut done = call();
    for _ in 0..MOST_INTERRUPTIONS {
        match done {
            Err(Errno::INTR) => done = call(),
            _ => break,
        }
    }
    done
}

#[cfg(test)]
mod tests;
