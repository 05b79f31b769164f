//! The token file. It is replaced atomically, so that a reader sees nothing, the old token or the new one; where
//! the volume does not allow that, it is overwritten in place.
//!
//! The directory is opened by path each time, and everything below it is done relative to that descriptor. A
//! directory that is removed and made again, or a volume that is mounted again, needs no restart.

mod atomic;
mod in_place;
mod permissions;
mod syscall_error;

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use dexsidecar_core::config::{Output, WriteMode};
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::token::LARGEST_ISSUED;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::input_file;
use atomic::NotReplaced;
pub use syscall_error::Refused;
use syscall_error::{failure, us};

/// How a token got into its file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// By rename.
    Replaced,
    /// By rename, over a symbolic link, which is gone now.
    ReplacedLink,
    /// In place: a reader may see a mixture for a moment.
    InPlace,
    /// In place, because the volume cannot rename files.
    InPlaceWithoutRename(Refused),
}

/// What the volume refused although the token could be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shortfall {
    /// The file does not have the default mode, but this one.
    Mode(Refused, u32),
    /// The file was not flushed: a power failure may lose it.
    FileFlush(Refused),
    /// The directory was not flushed: a power failure may bring the old token back.
    DirectoryFlush(Refused),
}

/// A token that was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// How.
    pub method: Method,
    /// What the volume refused.
    pub shortfalls: Vec<Shortfall>,
}

/// The file to write: its directory, which is open, and its name in it.
struct Target<'a> {
    output: &'a Output,
    directory: OwnedFd,
    name: &'a OsStr,
}

/// Writes the token to its file. Blocks. Leaves the old content or the new.
///
/// # Errors
/// Names the system call and the path. The old content is untouched, unless it was being overwritten in place.
pub fn write(output: &Output, token: &Secret) -> Result<Written, Failure> {
    let target = Target::open(output)?;
    let kind = target.kind()?;
    let written = |method| move |shortfalls| Written { method, shortfalls };
    if output.write_mode == WriteMode::InPlace && matches!(kind, None | Some(FileType::RegularFile)) {
        let done = in_place::write(&target, token).map_err(|refused| target.failure(refused))?;
        return Ok(written(Method::InPlace)(done));
    }
    let result = match atomic::replace(&target, token) {
        Ok(done) if kind == Some(FileType::Symlink) => Ok(written(Method::ReplacedLink)(done)),
        Ok(done) => Ok(written(Method::Replaced)(done)),
        Err(NotReplaced::Mounted(refused)) if output.write_mode == WriteMode::Atomic => {
            Err(failure(output, Code::OutputIsAMount, &refused.to_string()))
        }
        Err(NotReplaced::Mounted(_)) => in_place::write(&target, token)
            .map(written(Method::InPlace))
            .map_err(|refused| target.failure(refused)),
        Err(NotReplaced::CannotRename(refused))
            if output.write_mode == WriteMode::Atomic
                || !matches!(kind, None | Some(FileType::RegularFile)) =>
        {
            Err(failure(output, Code::OutputRenameUnsupported, &refused.to_string()))
        }
        Err(NotReplaced::CannotRename(refused)) => in_place::write(&target, token)
            .map(written(Method::InPlaceWithoutRename(refused)))
            .map_err(|further| {
                let Failure { code, detail, .. } = target.failure(further);
                Failure::new(code, format!("{detail} (in place, after {refused})"))
            }),
        Err(NotReplaced::Refused(refused)) => Err(target.failure(refused)),
    };
    atomic::sweep(&target.directory);
    result
}

/// Proves that a token can be written, and leaves nothing behind. True if it would be written in place.
///
/// # Errors
/// Why it cannot be written.
pub fn try_output(output: &Output) -> Result<bool, Failure> {
    let target = Target::open(output)?;
    let kind = target.kind()?;
    let mounted = target.is_mount_point();
    if mounted && output.write_mode == WriteMode::Atomic {
        return Err(failure(output, Code::OutputIsAMount, ""));
    }
    let is_file = kind == Some(FileType::RegularFile);
    if mounted || output.write_mode == WriteMode::InPlace && is_file {
        in_place::can_write(&target).map_err(|refused| target.failure(refused))?;
        return Ok(true);
    }
    match atomic::can_replace(&target) {
        Ok(()) => Ok(output.write_mode == WriteMode::InPlace && kind.is_none()),
        Err(NotReplaced::CannotRename(refused)) if output.write_mode == WriteMode::Atomic => {
            Err(failure(output, Code::OutputRenameUnsupported, &refused.to_string()))
        }
        Err(NotReplaced::CannotRename(_)) if is_file => {
            in_place::can_write(&target).map_err(|refused| target.failure(refused))?;
            Ok(true)
        }
        Err(NotReplaced::CannotRename(_)) if kind.is_none() => Ok(true),
        Err(
            NotReplaced::CannotRename(refused)
            | NotReplaced::Mounted(refused)
            | NotReplaced::Refused(refused),
        ) => Err(target.failure(refused)),
    }
}

/// The content, if the file is regular and of a size that a token can have. A symbolic link is not followed.
#[must_use]
pub fn read(output: &Output) -> Option<Secret> {
    Some(read_with_fingerprint(output)?.0)
}

/// The same, with the [`fingerprint`] of the very file that was read.
#[must_use]
pub fn read_with_fingerprint(output: &Output) -> Option<(Secret, u64)> {
    let Target { directory, name, .. } = Target::open(output).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, name, flags, Mode::empty()).ok()?;
    let file = File::from(file);
    let fingerprint = input_file::fingerprint_of(&file.metadata().ok()?);
    let content = input_file::read_open(file, LARGEST_ISSUED).ok()?;
    Some((Secret::new(String::from_utf8(content).ok()?), fingerprint))
}

/// Removes the file.
///
/// # Errors
/// Why it is still there.
pub fn remove(output: &Output) -> Result<(), Failure> {
    let target = Target::open(output)?;
    match rustix::fs::unlinkat(&target.directory, target.name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(target.failure(Refused { call: "unlinkat", errno })),
    }
}

/// A number that changes when the file does, without reading it; zero while there is none, one for a symbolic link.
#[must_use]
pub fn fingerprint(output: &Output) -> u64 {
    if std::fs::symlink_metadata(&output.path).is_ok_and(|file| file.is_symlink()) {
        return 1;
    }
    input_file::fingerprint(&output.path)
}

impl<'a> Target<'a> {
    fn open(output: &'a Output) -> Result<Self, Failure> {
        let directory = match output.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        let name = output.path.file_name().ok_or_else(|| failure(output, Code::OutputIsADirectory, ""))?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, OFlags::RDONLY | flags, Mode::empty())
            // A directory that may be written to but not listed: all but its flush and the sweep works.
            .or_else(|_| rustix::fs::open(directory, OFlags::PATH | flags, Mode::empty()));
        match opened {
            Ok(directory) => Ok(Self { output, directory, name }),
            Err(errno) => {
                let why = Refused { call: "open", errno }.to_string();
                let code = match errno {
                    Errno::NOENT | Errno::NOTDIR => Code::OutputDirectoryMissing,
                    Errno::ACCESS | Errno::PERM => {
                        let why = format!("{why}; {}", us());
                        return Err(failure(output, Code::OutputNotPermitted, &why));
                    }
                    _ => Code::OutputFailed,
                };
                Err(failure(output, code, &why))
            }
        }
    }

    /// What stands at the path. A symbolic link is not followed.
    fn stat(&self) -> Option<Stat> {
        rustix::fs::statat(&self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    /// The kind of what stands at the path, which must not be a directory.
    fn kind(&self) -> Result<Option<FileType>, Failure> {
        match self.stat().map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Some(FileType::Directory) => Err(self.failure(Refused { call: "fstatat", errno: Errno::ISDIR })),
            kind => Ok(kind),
        }
    }
}

/// Repeats a call that a signal interrupted (NFS and FUSE let it through), but not without end.
fn uninterrupted<T>(call: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
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
