//! Reads input files: the subject token, form field values, CA files. Only regular files are read,
//! up to a size limit. Opening a FIFO does not block.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use dexsidecar_core::time::UnixTime;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Why a file cannot be read.
#[derive(Debug)]
pub enum Unreadable {
    /// The file does not exist.
    Missing,
    /// The path is a directory, a FIFO, a socket or a device.
    NotAFile,
    /// The file is larger than the size limit.
    TooLarge,
    /// Permission denied. The text has the uid and gid of this process, and the owner and mode of
    /// the file.
    NotPermitted(String),
    /// Any other error.
    Failed(io::Error),
}

impl Unreadable {
    /// Whether a retry after some milliseconds may succeed: the kubelet replaces a symbolic link in
    /// the path.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Missing => true,
            Self::Failed(error) => Errno::from_io_error(error) == Some(Errno::LOOP),
            _ => false,
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no such file"),
            Self::NotAFile => f.write_str("not a regular file"),
            Self::TooLarge => f.write_str("too large"),
            Self::NotPermitted(access) => write!(f, "permission denied ({access})"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

/// Reads a file of at most `largest` bytes.
///
/// # Errors
/// Any variant of [`Unreadable`].
pub fn read(path: &Path, largest: usize) -> Result<Vec<u8>, Unreadable> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|error| unreadable(path, error))?;
    read_open(file, largest)
}

/// Reads an open file of at most `largest` bytes.
///
/// # Errors
/// [`Unreadable::NotAFile`], [`Unreadable::TooLarge`], [`Unreadable::Failed`].
pub fn read_open(file: File, largest: usize) -> Result<Vec<u8>, Unreadable> {
    let metadata = file.metadata().map_err(Unreadable::Failed)?;
    if !metadata.is_file() {
        return Err(Unreadable::NotAFile);
    }
    // One byte more than allowed, to detect a larger file.
    let limit = u64::try_from(largest).unwrap_or(u64::MAX).saturating_add(1);
    // Allocated once: a growing vector would leave copies of the content in freed memory.
    let mut content = Vec::with_capacity(usize::try_from(metadata.len().min(limit)).unwrap_or(largest) + 1);
    file.take(limit).read_to_end(&mut content).map_err(Unreadable::Failed)?;
    if content.len() > largest { Err(Unreadable::TooLarge) } else { Ok(content) }
}

fn unreadable(path: &Path, error: io::Error) -> Unreadable {
    match error.kind() {
        io::ErrorKind::NotFound => Unreadable::Missing,
        io::ErrorKind::PermissionDenied => Unreadable::NotPermitted(describe_access(path)),
        // The error of opening a socket.
        _ if Errno::from_io_error(&error) == Some(Errno::NXIO) => Unreadable::NotAFile,
        _ => Unreadable::Failed(error),
    }
}

/// The effective uid and gid of this process, for messages.
pub(super) fn identity() -> String {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    format!("this process runs as {}:{}", uid.as_raw(), gid.as_raw())
}

/// Describes the identity of this process, and the owner and mode of the file.
fn describe_access(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(file) => {
            let mode = file.mode() & 0o7777;
            format!("{}; file owner {}:{}, mode {mode:04o}", identity(), file.uid(), file.gid())
        }
        Err(_) => identity(),
    }
}

/// When the file was last modified, by the wall clock at that time. `None` if the file is missing.
#[must_use]
pub fn modified_at(path: &Path) -> Option<UnixTime> {
    let modified = std::fs::metadata(path).ok()?.mtime();
    Some(UnixTime::from_secs(u64::try_from(modified).unwrap_or_default()))
}

/// Whether the file was removed and is visible only as a mount point (subPath).
#[must_use]
pub fn is_unlinked(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.nlink() == 0)
}

/// Whether the file's mount shows one version of a volume, so that later versions do not appear.
/// The kubelet mounts a `subPath` once, and writes each version into a directory of its own.
#[must_use]
pub fn is_mounted_version(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| mounts_one_version(&mounts, &path))
}

/// Whether the mount that has this file, by proc_pid_mountinfo(5), begins in a directory such as
/// `..2026_11_24_00_00_00.123456789` (`AtomicWriter` of the kubelet). Mount points with spaces are
/// not recognized, since the kernel escapes them.
fn mounts_one_version(mountinfo: &str, path: &Path) -> bool {
    let mounts = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        fields.next().zip(fields.next())
    });
    // The last one with the longest mount point is on top.
    let mount = mounts.filter(|(_, point)| path.starts_with(point)).max_by_key(|(_, point)| point.len());
    let is_version =
        |name: &str| name.strip_prefix("..").is_some_and(|rest| rest.starts_with(char::is_numeric));
    mount.is_some_and(|(root, _)| root.split('/').any(is_version))
}

/// A number that changes when the file changes, without reading it. 0 if the file is missing.
#[must_use]
pub fn fingerprint(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| fingerprint_of(&file))
}

/// The [`fingerprint`] of a file with this metadata.
#[must_use]
pub fn fingerprint_of(file: &Metadata) -> u64 {
    let mut hasher = DefaultHasher::new();
    (file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec())
        .hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(matches!(read(&path, 9), Err(Unreadable::Missing)));
        std::fs::write(&path, "123456789").unwrap();
        assert_eq!(read(&path, 9).unwrap(), b"123456789");
        assert!(matches!(read(&path, 8), Err(Unreadable::TooLarge)));
        assert!(matches!(read(dir.path(), 9), Err(Unreadable::NotAFile)));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(read(&fifo, 9), Err(Unreadable::NotAFile)));
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(matches!(read(&socket, 9), Err(Unreadable::NotAFile)));
        // Reading this device would not end.
        assert!(matches!(read(Path::new("/dev/zero"), 9), Err(Unreadable::NotAFile)));
    }

    /// The lines are those of a container: its root, a token volume, and the subject token.
    #[test]
    fn f068_only_a_mount_of_one_version_of_a_volume_is_one() {
        let version = "..2026_11_24_00_00_00.123456789";
        let with = |root: &str, point: &str| {
            format!(
                "600 500 0:60 / / rw,relatime - overlay overlay rw\n\
                 601 600 0:61 / /run/secrets/dex rw - tmpfs tmpfs rw\n\
                 602 600 0:62 {root} {point} ro - tmpfs tmpfs rw\n"
            )
        };
        let directory = "/run/secrets/subject";
        let (token, data) = (format!("{directory}/token"), format!("{directory}/{version}/token"));
        for (root, point, path, expected) in [
            ("/", directory, &data, false),
            (&*format!("/{version}/token"), &*token, &token, true),
            (&format!("/{version}/token//deleted"), &token, &token, true),
            (&format!("/pods/1/volumes/subject/{version}"), directory, &token, true),
            (&format!("/{version}/ca.crt"), "/etc/ca.crt", &token, false),
            // The bind mount of a file that is overwritten in place.
            ("/home/user/token", &token, &token, false),
            ("/..data", &token, &token, false),
        ] {
            let found = mounts_one_version(&with(root, point), Path::new(path));
            assert_eq!(found, expected, "{root} at {point}");
        }
        assert!(!mounts_one_version("", Path::new(&token)));
    }

    #[test]
    fn the_fingerprint_changes_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(fingerprint(&path), 0);
        std::fs::write(&path, "1").unwrap();
        let first = fingerprint(&path);
        assert_eq!(fingerprint(&path), first);
        std::fs::write(dir.path().join("new"), "1").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_ne!(fingerprint(&path), first);
    }
}
