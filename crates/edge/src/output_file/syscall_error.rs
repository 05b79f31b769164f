//! A failed system call on the token file, and the failure that it maps to.

use std::fmt;

use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::output::Output;
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::super::input_file::identity;
use super::Target;

/// A failed system call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SyscallError {
    /// The name of the call, as `renameat`.
    pub call: &'static str,
    /// Its error.
    pub errno: Errno,
}

impl SyscallError {
    /// Returns a function for `map_err` that adds the name of the call.
    pub(super) fn of(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self { call, errno }
    }

    /// Whether the call is unsupported, rather than failing this time. Security modules and seccomp
    /// filters return EPERM or EACCES; file systems return ENOTSUP, ENOSYS or EINVAL.
    pub(super) const fn is_unsupported(self) -> bool {
        matches!(self.errno, Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL)
    }
}

impl fmt::Display for SyscallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the number, as "(os error 13)".
        let errno = self.errno.to_string();
        write!(f, "{}: {}", self.call, errno.split(" (os error").next().unwrap_or_default())
    }
}

/// A failure whose detail begins with the path of the output.
pub(super) fn failure(output: &Output, code: Code, why: &str) -> Failure {
    let path = output.path.display();
    Failure::new(code, if why.is_empty() { path.to_string() } else { format!("{path}: {why}") })
}

impl Target<'_> {
    /// Maps a failed call to a failure.
    pub(super) fn failure(&self, error: SyscallError) -> Failure {
        let unsupported = error.is_unsupported();
        let (code, more) = match (error.call, error.errno) {
            // These two are errors only if a mode or a group is configured.
            ("fchmod", _) if unsupported => (Code::OutputModeRefused, identity()),
            ("fchown", _) if unsupported => {
                let group = self.output.group.unwrap_or_default();
                let rule = format!("only root or a member of group {group} can set it; {}", identity());
                (Code::OutputGroupRefused, rule)
            }
            (_, Errno::ROFS) => (Code::OutputReadOnly, String::new()),
            (_, Errno::NOSPC | Errno::DQUOT) => (Code::OutputDiskFull, String::new()),
            (_, Errno::ISDIR) => (Code::OutputIsADirectory, String::new()),
            // The directory was removed while open.
            (_, Errno::NOENT) => (Code::OutputDirectoryMissing, String::new()),
            (_, Errno::ACCESS | Errno::PERM) => (Code::OutputNotPermitted, self.describe_access()),
            (_, Errno::NXIO) => (Code::OutputFailed, "the mount is not a regular file".to_owned()),
            _ => (Code::OutputFailed, String::new()),
        };
        let why = if more.is_empty() { error.to_string() } else { format!("{error}; {more}") };
        failure(self.output, code, &why)
    }

    /// Describes the uid and gid of this process, and the owner and mode of the directory and of
    /// the file.
    fn describe_access(&self) -> String {
        let Ok(stat) = rustix::fs::fstat(&self.directory) else { return identity() };
        let mode = stat.st_mode & 0o7777;
        let mut text =
            format!("{}; directory owner {}:{}, mode {mode:04o}", identity(), stat.st_uid, stat.st_gid);
        if let Some(file) = self.stat() {
            let file_mode = file.st_mode & 0o7777;
            text += &format!("; file owner {}:{}, mode {file_mode:04o}", file.st_uid, file.st_gid);
            if mode & 0o1000 != 0 && file.st_uid != rustix::process::geteuid().as_raw() {
                text += "; the sticky bit of the directory lets only the owner of the file replace it";
            }
        }
        text
    }

    /// Whether the sticky bit of the directory keeps this uid from replacing the file.
    pub(super) fn is_owned_by_another_in_sticky_directory(&self) -> bool {
        let (Some(file), Ok(directory)) = (self.stat(), rustix::fs::fstat(&self.directory)) else {
            return false;
        };
        let uid = rustix::process::geteuid();
        directory.st_mode & 0o1000 != 0
            && !uid.is_root()
            && ![file.st_uid, directory.st_uid].contains(&uid.as_raw())
    }

    /// Whether the file is a mount point. Kernels before 5.8 do not report that: the result is
    /// false.
    pub(super) fn is_mount_point(&self) -> bool {
        rustix::fs::statx(&self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
            .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }
}
