//! A system call that the kernel or a volume refused, and the failure that comes of it. Every failure names the path
//! and the call.

use std::fmt;

use dexsidecar_core::config::Output;
use dexsidecar_core::failure::{Code, Failure};
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::Target;

/// A system call that was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused {
    /// The call's name.
    pub call: &'static str,
    /// The error.
    pub errno: Errno,
}

impl Refused {
    /// For `map_err`: the refusal of this call.
    pub(super) fn by(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self { call, errno }
    }

    /// Whether the volume cannot do this at all, rather than failing to do it now. A security module or a seccomp
    /// filter answers EPERM or EACCES, a file system ENOTSUP, ENOSYS or EINVAL.
    pub(super) const fn is_unsupported(self) -> bool {
        matches!(self.errno, Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the number, which means nothing to a reader.
        let errno = self.errno.to_string();
        write!(f, "{}: {}", self.call, errno.split(" (os error").next().unwrap_or_default())
    }
}

/// A failure of this output. The path comes first.
pub(super) fn failure(output: &Output, code: Code, why: &str) -> Failure {
    let path = output.path.display();
    Failure::new(code, if why.is_empty() { path.to_string() } else { format!("{path}: {why}") })
}

/// The uid and gid of this process, in words.
pub(super) fn us() -> String {
    format!("this process is {}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

impl Target<'_> {
    /// What a refused call comes to.
    pub(super) fn failure(&self, refused: Refused) -> Failure {
        let unsupported = refused.is_unsupported();
        let (code, more) = match (refused.call, refused.errno) {
            // These two are errors only where a mode or a group was asked for.
            ("fchmod", _) if unsupported => (Code::OutputModeRefused, us()),
            ("fchown", _) if unsupported => {
                let group = self.output.group.unwrap_or_default();
                let rule = format!("only root or a member of the group {group} can give it; {}", us());
                (Code::OutputGroupRefused, rule)
            }
            (_, Errno::ROFS) => (Code::OutputReadOnly, String::new()),
            (_, Errno::NOSPC | Errno::DQUOT) => (Code::OutputDiskFull, String::new()),
            (_, Errno::ISDIR) => (Code::OutputIsADirectory, String::new()),
            // The directory was removed while it was open.
            (_, Errno::NOENT) => (Code::OutputDirectoryMissing, String::new()),
            (_, Errno::ACCESS | Errno::PERM) => (Code::OutputNotPermitted, self.who_may()),
            (_, Errno::NXIO) => {
                (Code::OutputFailed, "what is mounted there is not a regular file".to_owned())
            }
            _ => (Code::OutputFailed, String::new()),
        };
        let why = if more.is_empty() { refused.to_string() } else { format!("{refused}; {more}") };
        failure(self.output, code, &why)
    }

    /// Who this process is, what the directory's permissions are, and whose file is protected by a sticky bit.
    fn who_may(&self) -> String {
        let Ok(stat) = rustix::fs::fstat(&self.directory) else { return us() };
        let mode = stat.st_mode & 0o7777;
        let mut text = format!("{}, the directory {}:{} {mode:04o}", us(), stat.st_uid, stat.st_gid);
        if let Some(file) = self.stat() {
            let file_mode = file.st_mode & 0o7777;
            text += &format!(", the file {}:{} {file_mode:04o}", file.st_uid, file.st_gid);
            if mode & 0o1000 != 0 && file.st_uid != rustix::process::geteuid().as_raw() {
                text += "; in a directory with the sticky bit only a file's owner may replace it";
            }
        }
        text
    }

    /// Whether the file is a mount point. False as well where the kernel (before 5.8) does not report that.
    pub(super) fn is_mount_point(&self) -> bool {
        rustix::fs::statx(&self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
            .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }
}
