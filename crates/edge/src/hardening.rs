//! Process hardening: no core files, no access to the memory for other processes of the same uid,
//! no new privileges, and a Landlock sandbox.

use dexsidecar_core::needs::Needs;
use landlock::{AccessFs, AccessNet, RestrictionStatus, Ruleset, RulesetAttr as _, RulesetError, Scope};
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

/// Removes the rights that are not needed to keep a token fresh, permanently, from this thread and
/// all threads that it starts: executing files, removing directories, and creating symbolic links,
/// pipes or devices; and, unless they are among the needs, binding TCP ports, creating Unix
/// sockets, creating directories, and signalling other processes. Uses Landlock. Rights that the
/// kernel does not know are left out.
///
/// With the need to execute files nothing is removed. A command inherits the sandbox and cannot
/// leave it, and ordinary commands create directories and links, bind ports and send signals. A
/// rule for the command's file alone would exclude scripts, which execute others. What [`harden`]
/// forbids stays forbidden.
///
/// No rule names a path. Such a rule applies to the directory that exists now: after its volume is
/// unmounted and mounted again, the token file could not be written.
pub fn confine(needs: &Needs) {
    let _ = confined(needs);
}

/// `None`: nothing was removed.
fn confined(needs: &Needs) -> Result<Option<RestrictionStatus>, RulesetError> {
    let &Needs { execute, bind, make_directories, signal } = needs;
    if execute {
        return Ok(None);
    }
    let mut denied = AccessFs::Execute
        | AccessFs::RemoveDir
        | AccessFs::MakeSym
        | AccessFs::MakeFifo
        | AccessFs::MakeChar
        | AccessFs::MakeBlock;
    for (needed, right) in [(bind, AccessFs::MakeSock), (make_directories, AccessFs::MakeDir)] {
        if !needed {
            denied |= right;
        }
    }
    let mut ruleset = Ruleset::default().handle_access(denied)?.scope(Scope::AbstractUnixSocket)?;
    if !bind {
        ruleset = ruleset.handle_access(AccessNet::BindTcp)?;
    }
    if !signal {
        ruleset = ruleset.scope(Scope::Signal)?;
    }
    ruleset.create()?.restrict_self().map(Some)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use landlock::RulesetStatus;

    use super::*;

    const NONE: Needs = Needs { execute: false, bind: false, make_directories: false, signal: false };

    /// The rights that are left in a thread with these needs; nothing if the kernel denies none. In
    /// a separate thread, because the restrictions are permanent.
    fn left(needs: Needs) -> Option<Needs> {
        std::thread::spawn(move || {
            let directory = tempfile::tempdir().unwrap();
            let at = |name: &str| directory.path().join(name);
            let status = confined(&needs).unwrap().unwrap();
            if status.ruleset == RulesetStatus::NotEnforced {
                return None;
            }
            assert!(status.no_new_privs);
            let is_complete = status.ruleset == RulesetStatus::FullyEnforced;
            let socket = UnixListener::bind(at("socket")).is_ok();
            // An older kernel knows neither ports nor signals.
            let port = TcpListener::bind("127.0.0.1:0").is_ok();
            let parent = rustix::process::getppid().unwrap();
            let signal = rustix::process::test_kill_process(parent).is_ok();
            assert!(!is_complete || socket == port, "a socket: {socket}, a port: {port}");
            assert!(symlink("a", at("link")).is_err(), "create a symbolic link");
            let make_directories = fs::create_dir(at("directory")).is_ok();
            assert!(!make_directories || fs::remove_dir(at("directory")).is_err(), "remove a directory");
            Some(Needs {
                execute: Command::new("/bin/true").status().is_ok(),
                bind: socket,
                make_directories,
                signal: if is_complete { signal } else { needs.signal },
            })
        })
        .join()
        .unwrap()
    }

    #[test]
    fn each_need_keeps_its_right_and_no_other() {
        for needs in [
            NONE,
            Needs { bind: true, ..NONE },
            Needs { make_directories: true, ..NONE },
            Needs { signal: true, ..NONE },
            Needs { bind: true, make_directories: true, signal: true, ..NONE },
        ] {
            assert!(left(needs).is_none_or(|left| left == needs), "{needs:?}: {:?}", left(needs));
        }
    }

    /// A command would inherit it.
    #[test]
    fn with_the_need_to_execute_files_a_command_may_do_what_commands_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        std::thread::spawn(move || {
            confine(&Needs { execute: true, ..NONE });
            let script = "mkdir a && ln -s a b && mkfifo c && rm -r a b c && kill -0 $PPID";
            let command = Command::new("/bin/sh").args(["-c", script]).current_dir(path).status();
            assert!(command.unwrap().success());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn files_and_connections_work_without_any_need() {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let path = directory.path().to_owned();
        std::thread::spawn(move || {
            confine(&NONE);
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
