//! Process hardening: no core files, no access to the memory for other processes of the same uid,
//! no new privileges, and a Landlock sandbox.

use landlock::{AccessFs, AccessNet, Ruleset, RulesetAttr as _, Scope};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Denies other processes of the same uid access to this process: no `ptrace`, no
/// `/proc/PID/environ`, no core file (F123).
///
/// Errors are ignored in this module: the program works without hardening.
pub fn hide() {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Hides the process as [`hide`] does. Also forbids core files and new privileges, for this process
/// and for a program that it executes.
pub fn harden() {
    hide();
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = rustix::thread::set_no_new_privs(true);
}

/// Removes rights that are not needed to keep a token fresh, permanently, from this thread and all
/// threads that it starts: executing files, binding TCP ports, creating or removing directories,
/// creating symbolic links, sockets, pipes or devices, and signalling other processes. Uses
/// Landlock. Rights that the kernel does not know are left out.
///
/// No rule names a path. Such a rule applies to the directory that exists now: after its volume is
/// unmounted and mounted again, the token file could not be written.
pub fn confine() {
    let _ = confined();
}

fn confined() -> Result<landlock::RestrictionStatus, landlock::RulesetError> {
    let denied = AccessFs::Execute
        | AccessFs::MakeDir
        | AccessFs::RemoveDir
        | AccessFs::MakeSym
        | AccessFs::MakeSock
        | AccessFs::MakeFifo
        | AccessFs::MakeChar
        | AccessFs::MakeBlock;
    Ruleset::default()
        .handle_access(denied)?
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

    /// In a separate thread, because the restrictions are permanent.
    #[test]
    fn unneeded_rights_are_denied_and_files_and_connections_work() {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let path = directory.path().to_owned();
        std::thread::spawn(move || {
            let status = confined().unwrap();
            if status.ruleset == RulesetStatus::NotEnforced {
                // A kernel without Landlock denies nothing.
                Command::new("/bin/true").status().unwrap();
                return;
            }
            assert!(status.no_new_privs);
            assert!(Command::new("/bin/true").spawn().is_err(), "execute");
            assert!(fs::create_dir(path.join("directory")).is_err(), "create a directory");
            assert!(std::os::unix::fs::symlink("a", path.join("link")).is_err(), "create a symbolic link");
            if status.ruleset == RulesetStatus::FullyEnforced {
                assert!(TcpListener::bind("127.0.0.1:0").is_err(), "bind a port");
                let parent = rustix::process::getppid().unwrap();
                assert!(rustix::process::test_kill_process(parent).is_err(), "signal another process");
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
