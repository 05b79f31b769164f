//! What a machine must be able to do for tests that need namespaces of their own.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The namespaces of a node of its own, as options of unshare(1).
pub const UNSHARE_NODE: [&str; 11] = [
    "--mount",
    "--net",
    "--pid",
    "--uts",
    "--ipc",
    "--fork",
    "--kill-child=KILL",
    "--mount-proc",
    "--propagation",
    "private",
    "--",
];

/// Fails unless this machine can run a node of its own: root, namespaces, a cgroup file system.
///
/// # Errors
/// One line for a person: what is missing and how to get it.
pub fn look_for_node() -> Result<(), String> {
    if !is_root() {
        return Err("a node of its own needs root: run it with sudo -E".to_owned());
    }
    look_for_tools(&[UNSHARE, SETPRIV, IP, MOUNT, DPKG])?;
    let tried = Command::new("unshare").args(UNSHARE_NODE).arg("true").output();
    let tried = tried.map_err(|error| format!("unshare: {error}"))?;
    if !tried.status.success() {
        let error = String::from_utf8_lossy(&tried.stderr);
        return Err(format!("this machine gives no namespaces to root: {}", error.trim()));
    }
    if cgroup_hierarchies().is_empty() {
        return Err("there is no cgroup file system at /sys/fs/cgroup that can be written to".to_owned());
    }
    Ok(())
}

/// Fails unless a user can make namespaces for users, mounts and networks here.
///
/// # Errors
/// One line for a person: what is missing and how to get it.
pub fn look_for_user_namespaces() -> Result<(), String> {
    look_for_tools(&[UNSHARE, SETPRIV, IP, MOUNT])?;
    let options = ["--user", "--map-root-user", "--net", "--mount", "--", "true"];
    let tried = Command::new("unshare").args(options).output();
    let tried = tried.map_err(|error| format!("unshare: {error}"))?;
    if tried.status.success() {
        return Ok(());
    }
    Err(format!(
        "user namespaces are not permitted here ({}): set the sysctl kernel.unprivileged_userns_clone=1 (on Ubuntu also \
         kernel.apparmor_restrict_unprivileged_userns=0), or run as root",
        String::from_utf8_lossy(&tried.stderr).trim()
    ))
}

/// A program, and the package of Debian that has it.
type Tool = (&'static str, &'static str);

const UNSHARE: Tool = ("unshare", "util-linux");
const SETPRIV: Tool = ("setpriv", "util-linux");
const IP: Tool = ("ip", "iproute2");
const MOUNT: Tool = ("mount", "mount");
const DPKG: Tool = ("dpkg", "dpkg");

/// Fails with one line that has each tool that does not start, and its package.
fn look_for_tools(tools: &[Tool]) -> Result<(), String> {
    let starts =
        |tool: &str| ["--version", "-V"].iter().any(|option| Command::new(tool).arg(option).output().is_ok());
    let missing = tools.iter().filter(|(tool, _)| !starts(tool));
    let missing: Vec<String> =
        missing.map(|(tool, package)| format!("{tool} is missing: install {package}")).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Each cgroup hierarchy of version 1, or the one of version 2.
#[must_use]
pub fn cgroup_hierarchies() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists() && !path.is_symlink())
        .collect()
}
