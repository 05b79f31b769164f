//! Commands that behave well and badly, as real processes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use dexsidecar_core::failure::Code;
use rustix::process::test_kill_process;
use tempfile::TempDir;

use super::*;
use crate::action::{AttemptSlot, process_table};

/// The first attempt of an action.
fn attempt() -> Attempt {
    AttemptSlot::default().begin().expect("it is free")
}

/// `O_CLOEXEC`.
const CLOEXEC: i64 = 0o2_000_000;
const LONG: Duration = Duration::from_secs(60);

fn exec(command: &[&str], timeout: Duration) -> ExecAction {
    ExecAction { command: command.iter().map(|part| (*part).to_owned()).collect(), timeout }
}

/// The result, and the lines of the output.
async fn run_shell(script: &str, timeout: Duration) -> (Result<(), Failure>, Vec<String>) {
    let mut lines = vec![];
    let result =
        run(&exec(&["/bin/sh", "-c", script], timeout), attempt(), &mut |line| lines.push(line.to_owned()))
            .await;
    (result, lines)
}

/// The number of a process that writes it to this file.
fn pid_in(file: &Path) -> Pid {
    Pid::from_raw(fs::read_to_string(file).unwrap().trim().parse().unwrap()).unwrap()
}

/// True if the process has ended, or is about to and is nobody's zombie of ours.
fn is_gone(pid: Pid) -> bool {
    match process_table::Process::read(pid) {
        None => true,
        // Its parent is not this process but the init of the machine, which may be slow.
        Some(process) => process.is_zombie() && process.parent != rustix::process::getpid().as_raw_pid(),
    }
}

async fn until_gone(pid: Pid) {
    while !is_gone(pid) {
        sleep(Duration::from_millis(5)).await;
    }
}

/// The children of this process that have ended and were not reaped.
fn zombies() -> Vec<process_table::Process> {
    let own = rustix::process::getpid().as_raw_pid();
    process_table::all().into_iter().filter(|each| each.parent == own && each.is_zombie()).collect()
}

fn script(directory: &TempDir, content: &str, mode: u32) -> String {
    let path: PathBuf = directory.path().join("script");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_output_arrives_line_by_line_and_the_exit_code_decides() {
    let (result, lines) = run_shell("echo one; echo two >&2; printf 'three\r\n\n four'", LONG).await;
    assert_eq!((result, lines), (Ok(()), vec!["one".into(), "two".into(), "three".into(), " four".into()]));
    for (script, ended) in
        [("exit 3", "exit code 3"), ("kill -9 $$", "signal 9"), ("kill -TERM $$", "signal 15")]
    {
        let failure = run_shell(script, LONG).await.0.unwrap_err();
        assert_eq!((failure.code, failure.fix()), (Code::ActionFailed, FIX_FAILED));
        assert!(failure.detail.ends_with(ended), "{failure}");
    }
}

#[tokio::test]
async fn a_command_has_no_input_and_no_descriptor_of_this_process() {
    let (result, lines) = run_shell("cat; env", LONG).await;
    assert_eq!(result, Ok(()));
    assert!(lines.iter().any(|line| line.starts_with("PATH=")), "the environment of the container stays");
    let _open = fs::File::open("/proc/self/stat").unwrap();
    let mut listed = vec![];
    let ls = exec(&["/bin/ls", "/proc/self/fd"], LONG);
    run(&ls, attempt(), &mut |line| listed.push(line.to_owned())).await.unwrap();
    // What this test was started with is not closed.
    let is_inherited = |descriptor: &str| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
        i64::from_str_radix(flags.trim(), 8).is_ok_and(|flags| flags & CLOEXEC == 0)
    };
    // The fourth one is the directory that ls reads.
    listed.retain(|descriptor| !["0", "1", "2", "3"].contains(&descriptor.as_str()));
    listed.retain(|descriptor| !is_inherited(descriptor));
    assert_eq!(listed, [""; 0]);
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_ended_whatever_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    for (what, script) in [
        ("sleeps", "exec sleep 300"),
        ("ignores SIGTERM", "trap '' TERM; while :; do sleep 300; done"),
        ("stops itself", "kill -STOP $$; sleep 300"),
        ("closes its output", "exec >&- 2>&-; exec sleep 300"),
        ("has children", "sleep 300 & sleep 300 & wait"),
    ] {
        let script = format!("echo $$ > {}; {script}", file.display());
        let (result, _) = run_shell(&script, Duration::from_millis(300)).await;
        let failure = result.unwrap_err();
        assert!(failure.detail.contains("took longer") && failure.fix() == FIX_SLOW, "{what}: {failure}");
        assert!(is_gone(pid_in(&file)), "{what}");
    }
    // A command can do something before it ends.
    let (_, lines) =
        run_shell("trap 'echo bye; exit 1' TERM; sleep 300 & wait", Duration::from_millis(300)).await;
    assert_eq!(lines, ["bye"]);
}

#[tokio::test]
async fn what_a_command_leaves_behind_delays_nothing_and_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let of_group = format!("sleep 300 & echo $! > {}; echo done", file.display());
    let (result, lines) = run_shell(&of_group, LONG).await;
    assert_eq!((result, lines), (Ok(()), vec!["done".to_owned()]));
    until_gone(pid_in(&file)).await;
    // A daemon leaves the group and keeps the pipe open. It stays, and nobody waits for it.
    let daemon = format!(
        "setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 300' & \
                          while [ ! -s {0} ]; do :; done; echo done",
        file.display()
    );
    fs::remove_file(&file).unwrap();
    let (result, lines) = run_shell(&daemon, LONG).await;
    assert_eq!((result, lines), (Ok(()), vec!["done".to_owned()]));
    let daemon = pid_in(&file);
    assert_eq!(test_kill_process(daemon), Ok(()));
    kill_process(daemon, Signal::KILL).unwrap();
}

#[tokio::test]
async fn output_is_bounded_in_each_line_and_in_total() {
    let (result, lines) =
        run_shell("head -c 5000 /dev/zero | tr '\\0' x; echo; printf '\\377\\376\\n'", LONG).await;
    assert_eq!(result, Ok(()));
    assert_eq!((lines[0].len(), lines[1].as_str()), (1024, "\u{fffd}\u{fffd}"));
    for script in ["exec yes", "exec cat /dev/zero", "trap '' PIPE TERM; while :; do echo xxxxxxxxxxxx; done"]
    {
        let (result, lines) = run_shell(script, LONG).await;
        let failure = result.unwrap_err();
        assert!(failure.detail.contains("more than 1 MiB") && failure.fix() == FIX_FLOOD, "{failure}");
        assert!(lines.iter().map(String::len).sum::<usize>() <= 1024 * 1024 + 4096, "{script}");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_started_has_a_fix_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none").to_str().unwrap().to_owned();
    let cases = [(missing, FIX_MISSING), (script(&directory, "#!/bin/sh\n", 0o644), FIX_NOT_EXECUTABLE)];
    for (program, fix) in cases {
        let action = exec(&[&program], LONG);
        let failure = run(&action, attempt(), &mut |_| {}).await.unwrap_err();
        assert!(failure.fix() == fix && failure.detail.starts_with(&program), "{failure}");
        assert_eq!(check(&action).map_err(|failure| failure.fix()), Err(fix));
    }
    let action = exec(&[&script(&directory, "#!/no/such/interpreter -x\n", 0o755)], LONG);
    assert_eq!(run(&action, attempt(), &mut |_| {}).await.unwrap_err().fix(), FIX_INTERPRETER);
    assert!(check(&action).unwrap_err().detail.contains("/no/such/interpreter"));
    let action = exec(&[&script(&directory, "no format", 0o755)], LONG);
    assert_eq!(run(&action, attempt(), &mut |_| {}).await.unwrap_err().fix(), FIX_FORMAT);
    assert!(check(&exec(&[directory.path().to_str().unwrap()], LONG)).is_err());
    assert!(check(&exec(&[], LONG)).is_err() && run(&exec(&[], LONG), attempt(), &mut |_| {}).await.is_err());
    assert_eq!(check(&exec(&["/bin/sh"], LONG)), Ok(()));
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let script = format!("trap '' TERM; echo $$ > {0}.new; mv {0}.new {0}; sleep 300", file.display());
    tokio::select! {
        _ = run_shell(&script, LONG) => panic!("it takes longer"),
        () = async {
            while !file.exists() {
                sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    let pid = pid_in(&file);
    while process_table::Process::read(pid).is_some_and(|process| !process.is_zombie()) {
        sleep(Duration::from_millis(5)).await;
    }
    // The next command reaps it.
    while !is_gone(pid) {
        run_shell("exit 0", LONG).await.0.unwrap();
    }
}

#[tokio::test]
async fn many_commands_at_once_leave_no_zombie_and_no_descriptor() {
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let mut before = None;
    for _ in 0..3 {
        let mut all: Vec<_> = (0..8).map(|code| Box::pin(run_code(code))).collect();
        for (code, run) in all.iter_mut().enumerate() {
            let expected =
                if code == 0 { Ok(()) } else { Err(format!("the command ended with exit code {code}")) };
            assert_eq!(run.as_mut().await, expected);
        }
        // Other tests of this process may have processes and descriptors of their own.
        before.get_or_insert_with(descriptors);
    }
    let before = before.unwrap();
    while descriptors() > before + 64 {
        sleep(Duration::from_millis(5)).await;
    }
    while !zombies().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
}

async fn run_code(code: u8) -> Result<(), String> {
    run_shell(&format!("(exit 0) & exit {code}"), LONG).await.0.map_err(|failure| failure.detail)
}

/// Where a seccomp profile forbids pidfds.
#[tokio::test]
async fn without_a_pidfd_the_end_of_a_command_is_polled() {
    let (mut running, _pipe) = start(&exec(&["/bin/sh", "-c", "exit 7"], LONG), attempt()).await.unwrap();
    running.ended().await;
    assert_eq!(running.reap().and_then(|status| status.code()), Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_stalls_ends_with_the_timeout_of_the_action() {
    let failure = run_started(std::future::pending(), LONG, &mut |_| {}).await.unwrap_err();
    assert_eq!((failure.code, failure.fix()), (Code::ActionFailed, FIX_STALLED));
    assert!(failure.detail.contains("not started within 1m"), "{failure}");
}
