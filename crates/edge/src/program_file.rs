//! Copies the file of the running program, for containers that have no other way to get it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dexsidecar_core::output::TEMPORARY_PREFIX;
use rustix::io::Errno;

use super::input_file::identity;
use super::random;

/// The running program, also when its file was replaced or removed since it started.
const RUNNING: &str = "/proc/self/exe";
/// The name of the copy in a directory.
const NAME: &str = "dexsidecar";
/// Everybody may execute the copy, and its owner may replace its content.
const MODE: u32 = 0o755;

/// A copy that exists.
#[derive(Debug, Eq, PartialEq)]
pub enum Copied {
    /// The program was copied to this file.
    Written(PathBuf),
    /// This file already was a copy with the right mode.
    Unchanged(PathBuf),
}

/// Why there is no copy.
#[derive(Debug)]
pub struct NotCopied {
    file: PathBuf,
    step: &'static str,
    error: io::Error,
    size: u64,
}

impl fmt::Display for NotCopied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, step, error, size } = self;
        write!(f, "cannot copy to {}: {step}: {error}", file.display())?;
        match Errno::from_io_error(error) {
            Some(Errno::ROFS) => f.write_str(": mount the volume without readOnly"),
            Some(Errno::NOSPC | Errno::DQUOT) => write!(f, ": {size} bytes are needed in the volume"),
            Some(Errno::ACCESS | Errno::PERM) => {
                write!(f, " ({}): set fsGroup in the pod's securityContext", identity())
            }
            Some(Errno::NOENT | Errno::NOTDIR) => f.write_str(": create the directory, or mount the volume"),
            Some(Errno::EXIST) => f.write_str(": it is no regular file: name another one"),
            Some(Errno::ISDIR) => f.write_str(": remove the directory of this name, or name another file"),
            _ => Ok(()),
        }
    }
}

/// Copies the running program to a file, or into a directory as `dexsidecar`. The copy has mode
/// 0755 and appears atomically: a reader sees no file, the old file or the complete copy. A file
/// that is such a copy already is left alone.
///
/// # Errors
/// [`NotCopied`] names the file, the step and the error of the system. An existing file is
/// untouched.
pub fn copy_to(destination: &Path) -> Result<Copied, NotCopied> {
    copy(Path::new(RUNNING), destination)
}

fn copy(program: &Path, destination: &Path) -> Result<Copied, NotCopied> {
    let is_directory = fs::metadata(destination).is_ok_and(|found| found.is_dir());
    let file = if is_directory { destination.join(NAME) } else { destination.to_owned() };
    let size = fs::metadata(program).map_or(0, |found| found.len());
    let failed = |step| {
        let file = file.clone();
        move |error| NotCopied { file, step, error, size }
    };
    if !is_directory && destination.as_os_str().as_bytes().ends_with(b"/") {
        return Err(failed("open")(Errno::NOENT.into()));
    }
    // A device, a pipe or a socket is not replaced by a file: /dev/null belongs to all.
    if fs::metadata(&file).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Err(failed("rename")(Errno::EXIST.into()));
    }
    if is_copy(program, &file) {
        return Ok(Copied::Unchanged(file));
    }
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    let temporary = Temporary(directory.join(format!("{TEMPORARY_PREFIX}{}", random::hex_u128())));
    let mut from = File::open(program).map_err(failed("open the program"))?;
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary.0);
    let mut to = new.map_err(failed("create"))?;
    io::copy(&mut from, &mut to).map_err(failed("write"))?;
    to.set_permissions(fs::Permissions::from_mode(MODE)).map_err(failed("chmod"))?;
    // Without fsync, which can take seconds: the next call replaces a copy that a crash of the node
    // has torn. Some file systems report only now that they could not store the content.
    let closed = nix::unistd::close(to).map_err(|errno| io::Error::from_raw_os_error(errno as i32));
    if let Some(error) = closed.err().filter(is_loss) {
        return Err(failed("close")(error));
    }
    fs::rename(&temporary.0, &file).map_err(failed("rename"))?;
    Ok(Copied::Written(file))
}

/// Whether the file is a copy of the program that can be executed by everybody.
fn is_copy(program: &Path, file: &Path) -> bool {
    let Ok(found) = fs::symlink_metadata(file) else { return false };
    let same_size = fs::metadata(program).is_ok_and(|program| program.len() == found.len());
    found.is_file()
        && found.permissions().mode() & 0o7777 == MODE
        && same_size
        && matches!((fs::read(program), fs::read(file)), (Ok(ours), Ok(theirs)) if ours == theirs)
}

/// Whether the error of a `close` means that content is lost.
fn is_loss(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::NOSPC | Errno::DQUOT))
}

/// A temporary file. It is removed when dropped; after its rename there is nothing to remove.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(file: &Path) -> u32 {
        fs::metadata(file).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_directory_gets_a_copy_that_can_be_executed_and_a_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let in_directory = directory.path().join(NAME);
        assert_eq!(copy_to(directory.path()).unwrap(), Copied::Written(in_directory.clone()));
        assert_eq!(
            (mode(&in_directory), fs::read(&in_directory).unwrap()),
            (MODE, fs::read(RUNNING).unwrap())
        );
        let other = directory.path().join("other");
        for (content, link) in [(Some("old"), false), (None, false), (None, true)] {
            let _ = fs::remove_file(&other);
            content.inspect(|content| fs::write(&other, content).unwrap());
            if link {
                std::os::unix::fs::symlink("/does/not/exist", &other).unwrap();
            }
            assert_eq!(copy_to(&other).unwrap(), Copied::Written(other.clone()));
            assert!(fs::symlink_metadata(&other).unwrap().is_file() && mode(&other) == MODE);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn a_complete_copy_is_left_alone_and_any_other_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (program, file) = (directory.path().join("program"), directory.path().join("file"));
        fs::write(&program, "program 1").unwrap();
        assert_eq!(copy(&program, &file).unwrap(), Copied::Written(file.clone()));
        assert_eq!(copy(&program, &file).unwrap(), Copied::Unchanged(file.clone()));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(copy(&program, &file).unwrap(), Copied::Written(file.clone()), "another mode");
        fs::write(&program, "program 2").unwrap();
        assert_eq!(copy(&program, &file).unwrap(), Copied::Written(file.clone()), "another content");
        fs::write(&file, "program").unwrap();
        assert_eq!(copy(&program, &file).unwrap(), Copied::Written(file.clone()), "a part");
    }

    /// As root, a rename would replace /dev/null for all.
    #[test]
    fn a_device_a_pipe_and_a_socket_are_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let [pipe, socket, link] = ["pipe", "socket", "link"].map(|name| directory.path().join(name));
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, 0o600.into(), 0).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for file in [pipe, socket, link] {
            let before = fs::symlink_metadata(&file).unwrap().file_type();
            let text = copy_to(&file).unwrap_err().to_string();
            assert!(text.ends_with(": it is no regular file: name another one"), "{text}");
            assert_eq!(fs::symlink_metadata(&file).unwrap().file_type(), before);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "no temporary file is left");
    }

    #[test]
    fn an_error_names_the_file_and_what_to_do_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        fs::write(&program, "program").unwrap();
        fs::create_dir(directory.path().join(NAME)).unwrap();
        let text =
            |destination: &str| copy(&program, &directory.path().join(destination)).unwrap_err().to_string();
        for (destination, fix) in [
            ("missing/file", "create the directory, or mount the volume"),
            ("missing/", "create the directory, or mount the volume"),
            ("program/file", "create the directory, or mount the volume"),
            ("", "remove the directory of this name, or name another file"),
        ] {
            let text = text(destination);
            assert!(text.contains(fix) && text.starts_with("cannot copy to /"), "{text}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
