//! Files that are read: the subject token, values of form fields. Only regular ones, never more than a bound, never
//! waiting for a FIFO.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use dexsidecar_core::time::UnixTime;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// Why a file's content is not to be had.
#[derive(Debug)]
pub enum Unreadable {
    /// Nothing is there.
    Missing,
    /// It is a folder, a FIFO, a socket or a device.
    NotAFile,
    /// It is larger than the bound.
    TooLarge,
    /// This process may not read it. Says who we are and who may.
    NotPermitted(String),
    /// Anything else.
    Failed(io::Error),
}

impl Unreadable {
    /// Whether it may be otherwise in a moment: the kubelet swaps a link that stands in the path.
    #[must_use]
    pub fn is_passing(&self) -> bool {
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
            Self::Missing => f.write_str("it does not exist"),
            Self::NotAFile => f.write_str("it is not a regular file"),
            Self::TooLarge => f.write_str("it is too large"),
            Self::NotPermitted(who) => write!(f, "permission denied ({who})"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

/// Reads a whole file of at most `largest` bytes.
///
/// # Errors
/// Why not.
pub fn read(path: &Path, largest: usize) -> Result<Vec<u8>, Unreadable> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|error| unreadable(path, error))?;
    read_open(file, largest)
}

/// The same of a file that is open already.
///
/// # Errors
/// Why not.
pub fn read_open(file: File, largest: usize) -> Result<Vec<u8>, Unreadable> {
    let metadata = file.metadata().map_err(Unreadable::Failed)?;
    if !metadata.is_file() {
        return Err(Unreadable::NotAFile);
    }
    let bound = u64::try_from(largest).unwrap_or(u64::MAX).saturating_add(1);
    // Room for all of it at once, so that the content never moves and leaves a copy behind.
    let mut content = Vec::with_capacity(usize::try_from(metadata.len().min(bound)).unwrap_or(largest) + 1);
    file.take(bound).read_to_end(&mut content).map_err(Unreadable::Failed)?;
    if content.len() > largest { Err(Unreadable::TooLarge) } else { Ok(content) }
}

fn unreadable(path: &Path, error: io::Error) -> Unreadable {
    match error.kind() {
        io::ErrorKind::NotFound => Unreadable::Missing,
        io::ErrorKind::PermissionDenied => Unreadable::NotPermitted(who_may(path)),
        // What a socket answers to being opened.
        _ if Errno::from_io_error(&error) == Some(Errno::NXIO) => Unreadable::NotAFile,
        _ => Unreadable::Failed(error),
    }
}

/// Who this process is and what the file's permissions say.
fn who_may(path: &Path) -> String {
    let us = format!(
        "this process is {}:{}",
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw()
    );
    match std::fs::metadata(path) {
        Ok(file) => format!("{us}, the file {}:{} {:04o}", file.uid(), file.gid(), file.mode() & 0o7777),
        Err(_) => us,
    }
}

/// When it was written, by the wall clock of then.
#[must_use]
pub fn written(path: &Path) -> Option<UnixTime> {
    let written = std::fs::metadata(path).ok()?.mtime();
    Some(UnixTime::from_secs(u64::try_from(written).unwrap_or_default()))
}

/// Whether it was removed, and is seen only because it is mounted by itself.
#[must_use]
pub fn is_left_behind(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.nlink() == 0)
}

/// A number that changes when the file does, without reading it; zero while it is not there.
#[must_use]
pub fn fingerprint(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| fingerprint_of(&file))
}

/// The same of a file that is known already.
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
    fn reads_files_and_nothing_else() {
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
        let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(matches!(read(&socket, 9), Err(Unreadable::NotAFile)));
        // A device would never end.
        assert!(matches!(read(Path::new("/dev/zero"), 9), Err(Unreadable::NotAFile)));
    }

    #[test]
    fn a_fingerprint_follows_the_file() {
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
