//! What the process denies itself: core files, being looked into by others of its uid, new privileges, and what a sidecar
//! has no business doing.

use landlock::{AccessFs, AccessNet, Ruleset, RulesetAttr as _, Scope};
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

/// Takes away for good, from this thread and all that it starts, what keeping a token fresh never needs: to execute a file,
/// to bind a TCP port, to make folders, symbolic links, sockets, pipes or devices, to signal other processes. By Landlock,
/// where the kernel has it; whatever it does not know is left out.
///
/// No rule names a path: one would be tied to the folder that is there now, and a volume that is taken away and comes back
/// could not be written to any more.
pub fn confine() {
    let _ = confined();
}

fn confined() -> Result<landlock::RestrictionStatus, landlock::RulesetError> {
    let never = AccessFs::Execute
        | AccessFs::MakeDir
        | AccessFs::RemoveDir
        | AccessFs::MakeSym
        | AccessFs::MakeSock
        | AccessFs::MakeFifo
        | AccessFs::MakeChar
        | AccessFs::MakeBlock;
    Ruleset::default()
        .handle_access(never)?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?
        .restrict_self()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use landlock::RulesetStatus;

    use super::*;

    /// In a thread of its own, since nobody gets back what was taken away.
    #[test]
    fn what_a_sidecar_never_does_is_denied_and_what_it_does_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let path = folder.path().to_owned();
        std::thread::spawn(move || {
            let status = confined().unwrap();
            if status.ruleset == RulesetStatus::NotEnforced {
                // A kernel without Landlock: nothing is denied, and nothing is broken.
                Command::new("/bin/true").status().unwrap();
                return;
            }
            assert!(status.no_new_privs);
            assert!(Command::new("/bin/true").spawn().is_err(), "executed");
            assert!(fs::create_dir(path.join("folder")).is_err(), "made a folder");
            assert!(std::os::unix::fs::symlink("a", path.join("link")).is_err(), "made a link");
            if status.ruleset == RulesetStatus::FullyEnforced {
                assert!(TcpListener::bind("127.0.0.1:0").is_err(), "bound a port");
                let parent = rustix::process::getppid().unwrap();
                assert!(rustix::process::test_kill_process(parent).is_err(), "signals others");
            }
            fs::write(path.join("token.tmp"), "token").unwrap();
            fs::rename(path.join("token.tmp"), path.join("token")).unwrap();
            fs::remove_file(path.join("token")).unwrap();
            assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
            TcpStream::connect(address).unwrap();
        })
        .join()
        .unwrap();
    }
}
