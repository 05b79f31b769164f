//! The output file: replaced whole, so that a reader sees nothing, the old token or the new one.
//!
//! A temporary file beside the target (random name, `O_EXCL`, mode set before content), fsync, rename, fsync of the
//! folder. The folder is opened by path each time and everything below it is done relative to that: a folder that
//! was removed and made again, or a volume that was mounted anew, heals by itself.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use dexsidecar_core::config::{Output, WriteMode};
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::token::LARGEST_ISSUED;
use rustix::fs::{
    AtFlags, Dir, FallocateFlags, FileType, Gid, Mode, OFlags, Stat, StatxAttributes, StatxFlags, Timespec,
};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::{chance, input_file};

/// Temporary files begin with this; what a killed process left behind is known by it.
const TEMPORARY: &str = ".dexsidecar-";
/// A temporary file of this age belongs to no running process, in seconds.
const ORPHAN_AGE: i64 = 60;

/// How a token got into its file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// By rename.
    Replaced,
    /// By rename, over a symbolic link, which is gone now.
    ReplacedLink,
    /// In place: readers may have seen a mixture for a moment.
    InPlace,
}

/// Puts the token into the file. Blocks; what it leaves behind is the old content or the new.
///
/// # Errors
/// Why not; the old content is untouched, except that [`WriteMode::InPlace`] may have mixed it.
pub fn write(output: &Output, token: &Secret) -> Result<Written, Failure> {
    let (folder, name) = open_folder(output)?;
    let there = entry(&folder, name);
    let is = |kind| there.as_ref().is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == kind);
    if is(FileType::Directory) {
        return Err(failure(output, Code::OutputIsAFolder, ""));
    }
    if output.write_mode == WriteMode::InPlace && is(FileType::RegularFile) {
        return overwrite(output, &folder, name, token);
    }
    let result = match replace(output, &folder, name, token) {
        Err(errno) if is_mounted(&folder, name, errno) => match output.write_mode {
            WriteMode::Atomic => Err(failure(output, Code::OutputIsAMount, "")),
            WriteMode::Auto | WriteMode::InPlace => overwrite(output, &folder, name, token),
        },
        Err(errno) => Err(refused(output, &folder, name, errno)),
        Ok(()) if is(FileType::Symlink) => Ok(Written::ReplacedLink),
        Ok(()) => Ok(Written::Replaced),
    };
    sweep(&folder);
    result
}

/// Proves that a token can be written, and leaves nothing behind. Gives whether it would be by overwriting the file in place.
///
/// # Errors
/// Why it cannot.
pub fn try_output(output: &Output) -> Result<bool, Failure> {
    let (folder, name) = open_folder(output)?;
    let there = entry(&folder, name);
    let is = |kind| there.as_ref().is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == kind);
    if is(FileType::Directory) {
        return Err(failure(output, Code::OutputIsAFolder, ""));
    }
    let refused = |errno| refused(output, &folder, name, errno);
    let mounted = is_mount_point(&folder, name);
    if mounted && output.write_mode == WriteMode::Atomic {
        return Err(failure(output, Code::OutputIsAMount, ""));
    }
    let in_place = mounted || output.write_mode == WriteMode::InPlace && is(FileType::RegularFile);
    if in_place {
        open_in_place(&folder, name).map_err(refused)?;
    } else {
        let (temporary, file) = create(&folder).map_err(refused)?;
        let permitted = permit(output, &folder, &file);
        rustix::fs::unlinkat(&folder, temporary, AtFlags::empty()).map_err(refused)?;
        permitted.map_err(refused)?;
    }
    Ok(in_place)
}

/// What stands in the file, if it is a regular file of a size that a token can have. A symbolic link is not followed.
#[must_use]
pub fn read(output: &Output) -> Option<Secret> {
    Some(read_with_fingerprint(output)?.0)
}

/// The same, with the [`fingerprint`] of the very file that was read.
#[must_use]
pub fn read_with_fingerprint(output: &Output) -> Option<(Secret, u64)> {
    let (folder, name) = open_folder(output).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, name, flags, Mode::empty()).ok()?;
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
    let (folder, name) = open_folder(output)?;
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(refused(output, &folder, name, errno)),
    }
}

fn open_folder(output: &Output) -> Result<(OwnedFd, &OsStr), Failure> {
    let folder = match output.path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = output.path.file_name().ok_or_else(|| failure(output, Code::OutputIsAFolder, ""))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(folder, flags, Mode::empty())
        // A folder that may be written to and not listed: all but its fsync and the sweep works.
        .or_else(|_| {
            rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        });
    match opened {
        Ok(folder) => Ok((folder, name)),
        Err(Errno::NOENT) => Err(failure(output, Code::OutputFolderMissing, "")),
        Err(Errno::NOTDIR) => {
            Err(failure(output, Code::OutputFolderMissing, "a part of its path is no folder"))
        }
        Err(Errno::ACCESS | Errno::PERM) => Err(failure(output, Code::OutputNotPermitted, &us())),
        Err(errno) => Err(failure(output, Code::OutputFailed, &errno.to_string())),
    }
}

fn entry(folder: &OwnedFd, name: &OsStr) -> Option<Stat> {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()
}

/// Whether this is how a file that was mounted by itself, as subPath does it, refuses to be replaced: it is busy; or its
/// folder, which is the image's, cannot be written to at all.
fn is_mounted(folder: &OwnedFd, name: &OsStr, errno: Errno) -> bool {
    match errno {
        Errno::BUSY => true,
        Errno::ROFS | Errno::ACCESS | Errno::PERM => is_mount_point(folder, name),
        _ => false,
    }
}

/// False as well where the kernel (before 5.8) does not tell.
fn is_mount_point(folder: &OwnedFd, name: &OsStr) -> bool {
    rustix::fs::statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn open_in_place(folder: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    // A device or a pipe would swallow the token.
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(Errno::NXIO),
    }
}

fn replace(output: &Output, folder: &OwnedFd, name: &OsStr, token: &Secret) -> Result<(), Errno> {
    let (temporary, file) = create(folder)?;
    let written = fill(output, folder, &file, token)
        .and_then(|()| rustix::fs::renameat(folder, &temporary, folder, name))
        .inspect_err(|_| {
            // Nothing more can be done about one that stays; the next write sweeps it.
            let _ = rustix::fs::unlinkat(folder, &temporary, AtFlags::empty());
        });
    written?;
    // The rename must outlive a power loss. Some file systems cannot do it for a folder, and say so.
    match rustix::fs::fsync(folder) {
        Err(errno @ (Errno::IO | Errno::NOSPC | Errno::DQUOT)) => Err(errno),
        _ => Ok(()),
    }
}

fn fill(output: &Output, folder: &OwnedFd, file: &OwnedFd, token: &Secret) -> Result<(), Errno> {
    permit(output, folder, file)?;
    write_all(file, token)?;
    rustix::fs::fsync(file)
}

/// A new file that nobody else can have opened, readable by nobody else yet.
fn create(folder: &OwnedFd) -> Result<(String, OwnedFd), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut tries = 3;
    loop {
        let name = format!("{TEMPORARY}{}", chance::name());
        match rustix::fs::openat(folder, &name, flags, Mode::from(0o600)) {
            Ok(file) => return Ok((name, file)),
            Err(Errno::EXIST | Errno::INTR) if tries > 0 => tries -= 1,
            Err(errno) => return Err(errno),
        }
    }
}

/// Group and mode: as set, else the kubelet's rule, which gives the group of a setgid folder (fsGroup) the right to
/// read and everybody otherwise.
fn permit(output: &Output, folder: &OwnedFd, file: &OwnedFd) -> Result<(), Errno> {
    if let Some(group) = output.group {
        rustix::fs::fchown(file, None, Some(Gid::from_raw(group)))?;
    }
    let mode = match output.mode {
        Some(mode) => mode,
        None if Mode::from_raw_mode(rustix::fs::fstat(folder)?.st_mode).contains(Mode::SGID) => 0o640,
        None => 0o644,
    };
    rustix::fs::fchmod(file, Mode::from(mode))
}

fn write_all(file: &OwnedFd, token: &Secret) -> Result<(), Errno> {
    let mut file = File::from(file.try_clone().map_err(errno)?);
    file.write_all(token.expose().as_bytes()).map_err(errno)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// One write over the old content and a cut behind it: as near to whole as a file can be that cannot be replaced.
fn overwrite(output: &Output, folder: &OwnedFd, name: &OsStr, token: &Secret) -> Result<Written, Failure> {
    let refused = |errno| refused(output, folder, name, errno);
    let file = open_in_place(folder, name).map_err(refused)?;
    // Somebody else's file keeps its permissions; the write will tell if they do not do.
    let _ = permit(output, folder, &file);
    let length = token.expose().len() as u64;
    // A volume that is full says so while the old content stands. Not every file system can be asked.
    if let Err(errno @ (Errno::NOSPC | Errno::DQUOT)) =
        rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, length)
    {
        return Err(refused(errno));
    }
    write_all(&file, token).map_err(refused)?;
    rustix::fs::ftruncate(&file, length).map_err(refused)?;
    rustix::fs::fsync(&file).map_err(refused)?;
    Ok(Written::InPlace)
}

/// Removes what killed processes of this uid left behind.
fn sweep(folder: &OwnedFd) {
    let Ok(entries) = Dir::read_from(folder) else { return };
    let uid = rustix::process::geteuid().as_raw();
    let Timespec { tv_sec: now, .. } = clock_gettime(ClockId::Realtime);
    for entry in entries.filter_map(Result::ok) {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if !name.as_bytes().starts_with(TEMPORARY.as_bytes()) {
            continue;
        }
        let orphan = self::entry(folder, name).is_some_and(|stat| {
            stat.st_uid == uid
                && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && now.saturating_sub(stat.st_mtime) > ORPHAN_AGE
        });
        if orphan {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        }
    }
}

fn refused(output: &Output, folder: &OwnedFd, name: &OsStr, errno: Errno) -> Failure {
    match errno {
        Errno::ROFS => failure(output, Code::OutputReadOnly, ""),
        Errno::NOSPC | Errno::DQUOT => failure(output, Code::OutputDiskFull, ""),
        Errno::ISDIR => failure(output, Code::OutputIsAFolder, ""),
        // The folder was removed while we had it open.
        Errno::NOENT => failure(output, Code::OutputFolderMissing, ""),
        Errno::ACCESS | Errno::PERM => {
            let mut who = who_may(folder, name);
            if let Some(group) = output.group {
                who += &format!("; the group {group} can be given only by root or by a member of it");
            }
            failure(output, Code::OutputNotPermitted, &who)
        }
        Errno::NXIO => failure(output, Code::OutputFailed, "what is mounted there is no regular file"),
        errno => failure(output, Code::OutputFailed, &errno.to_string()),
    }
}

fn failure(output: &Output, code: Code, more: &str) -> Failure {
    let path = output.path.display();
    Failure::new(code, if more.is_empty() { path.to_string() } else { format!("{path}: {more}") })
}

fn us() -> String {
    format!("this process is {}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Who this process is, what the folder's permissions say, and whose file stands there under the sticky bit.
fn who_may(folder: impl AsFd, name: &OsStr) -> String {
    let Ok(stat) = rustix::fs::fstat(&folder) else { return us() };
    let mode = stat.st_mode & 0o7777;
    let mut text = format!("{}, the folder {}:{} {mode:04o}", us(), stat.st_uid, stat.st_gid);
    if let Ok(file) = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        text += &format!(", the file {}:{} {:04o}", file.st_uid, file.st_gid, file.st_mode & 0o7777);
        if mode & 0o1000 != 0 && file.st_uid != rustix::process::geteuid().as_raw() {
            text += "; in a folder with the sticky bit only a file's owner may replace it";
        }
    }
    text
}

/// What can be told of the file without reading it; zero while there is none. Changes when somebody else touches it.
#[must_use]
pub fn fingerprint(output: &Output) -> u64 {
    if std::fs::symlink_metadata(&output.path).is_ok_and(|file| file.is_symlink()) {
        return 1;
    }
    input_file::fingerprint(&output.path)
}

#[cfg(test)]
mod tests;
