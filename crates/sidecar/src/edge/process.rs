//! What the process denies itself: core files, being looked into by others of its uid, new privileges.

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Closes the memory of this process to its peers: no `ptrace`, no `/proc/PID/environ`, no core (F123).
///
/// A kernel that refuses any of this leaves the process as it was: that is no reason not to do the work.
pub fn hide() {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The same, and what would be inherited by a program that it becomes: no core files, no new privileges.
pub fn harden() {
    hide();
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = rustix::thread::set_no_new_privs(true);
}
