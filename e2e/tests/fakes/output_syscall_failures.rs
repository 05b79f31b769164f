//! Each system call that writes the token fails with each error, once or always: the file holds the
//! old or the new token, no other file is left, and the next start writes a token. (Calls that
//! wait, kill the program or are refused: output_syscalls.rs.)

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use dexsidecar_e2e::file_readers::{Judgement, Readers, Seen};
use dexsidecar_e2e::fixture::{EXPIRED_TOKEN, Fixture};
use dexsidecar_e2e::sidecar::{Setup, Sidecar, program, shipped};
use dexsidecar_e2e::strace::Trace;
use rustix::process::Signal;

/// The errors of a file system that is full, defective, read-only, limited, busy or gone.
const VOLUME_ERRORS: [&str; 7] = ["ENOSPC", "EIO", "EROFS", "EDQUOT", "EMFILE", "EBUSY", "ENOENT"];

/// The result of a call that fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// The old token stays, the failure is reported, and each new attempt has a new temporary file.
    OldStays,
    /// The same, and the temporary files stay until they are old.
    OldStaysWithOrphans,
    /// The new token is in the file but may not be on disk: the failure is reported, and the token
    /// is written again.
    NewMayBeLost,
    /// The new token is written without the call.
    NewIsThere,
}

#[derive(Clone, Debug)]
struct Case {
    /// The call, and which calls of that name fail, as strace counts them.
    call: &'static str,
    error: &'static str,
    outcome: Outcome,
}

fn cases() -> Vec<Case> {
    use Outcome::{NewIsThere, NewMayBeLost, OldStays, OldStaysWithOrphans};
    let table: [(&str, &[&str], Outcome); 28] = [
        // The first `openat` of the thread that writes creates the temporary file. The further
        // errors are those of network file systems and security modules.
        ("openat when=1", &VOLUME_ERRORS, OldStays),
        ("openat when=1", &["ESTALE", "EACCES", "EPERM"], OldStays),
        // The name is in use, or a signal interrupted the call: another name is used, a limited
        // number of times.
        ("openat when=1", &["EEXIST", "EINTR"], NewIsThere),
        ("openat when=1+", &["EEXIST", "EINTR"], OldStays),
        ("fchmod when=1", &VOLUME_ERRORS, OldStays),
        ("fchmod when=1", &["ESTALE"], OldStays),
        // A volume that has one mode for all files (F155).
        ("fchmod when=1", &["EPERM", "EACCES", "EOPNOTSUPP", "ENOSYS", "EINVAL"], NewIsThere),
        ("write when=1", &VOLUME_ERRORS, OldStays),
        ("write when=1", &["EFBIG", "ESTALE"], OldStays),
        ("write when=1", &["EINTR"], NewIsThere),
        ("fsync when=1", &["ENOSPC", "EIO", "EDQUOT", "EMFILE", "EBUSY", "ENOENT", "ESTALE"], OldStays),
        // A volume that cannot flush a file (F156).
        ("fsync when=1", &["EROFS", "EINVAL", "EOPNOTSUPP", "ENOSYS", "EPERM", "EACCES"], NewIsThere),
        ("renameat when=1", &VOLUME_ERRORS, OldStays),
        ("renameat when=1", &["EACCES", "EPERM", "EXDEV", "ESTALE"], OldStays),
        // A signal interrupted the call: it is repeated, a limited number of times.
        ("fchmod when=1", &["EINTR"], NewIsThere),
        ("fsync when=1", &["EINTR"], NewIsThere),
        ("renameat when=1", &["EINTR"], NewIsThere),
        ("fchmod when=1+", &["EINTR"], OldStays),
        ("fsync when=1+", &["EINTR"], OldStays),
        ("renameat when=1+", &["EINTR"], OldStays),
        // A volume that cannot rename (F158).
        ("renameat when=1+", &["ENOSYS", "EOPNOTSUPP", "EPERM", "EXDEV", "EINVAL"], OldStays),
        // Of the directory. Some file systems do not support it, with various errors.
        ("fsync when=2", &["EIO", "ENOSPC", "EDQUOT"], NewMayBeLost),
        ("fsync when=2", &["EROFS", "EMFILE", "EBUSY", "ENOENT", "EINVAL"], NewIsThere),
        // Of the temporary file after a failed rename.
        ("unlinkat when=1+", &VOLUME_ERRORS, OldStaysWithOrphans),
        // Some volumes write the content when the file is closed (F157). Other errors mean nothing,
        // since the content was flushed before.
        ("close when=1+", &["ENOSPC", "EIO", "EDQUOT"], OldStays),
        ("close when=1+", &["EROFS", "EMFILE", "EBUSY", "ENOENT", "EINTR"], NewIsThere),
        // A directory that cannot be listed is not searched for old temporary files.
        ("getdents64 when=1", &["EIO"], NewIsThere),
        ("getdents64 when=1", &["EACCES"], NewIsThere),
    ];
    let each = |(call, errors, outcome): &(&'static str, &'static [&'static str], Outcome)| {
        let (call, outcome) = (*call, *outcome);
        errors.iter().map(move |error| Case { call, error, outcome }).collect::<Vec<_>>()
    };
    table.iter().flat_map(each).collect()
}

#[test]
fn f079_f083_f085_f090_f091_a_failed_call_leaves_the_old_or_the_new_token_and_is_tried_again() {
    let fixture = Fixture::new();
    let next = Mutex::new(cases().into_iter());
    // Most of the time is waiting.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().expect("no thread has panicked").next() else { return };
                    play(&fixture, &case);
                }
            });
        }
    });
}

/// A call of the event loop fails that never fails otherwise. A panic must end the process, so that
/// the kubelet starts another: a process that runs and does nothing would stay.
#[test]
fn f104_the_program_as_it_ships_aborts_when_it_panics_and_its_token_stays() {
    let fixture = Fixture::new();
    let before = fixture.setup();
    assert_eq!(before.execute(&["once"]).code, Some(0));
    let token = fs::read_to_string(before.output()).expect("a token file");
    // The loop waits for the next exchange, or for the connection of the first one.
    for has_token in [true, false] {
        let calls = "epoll_wait,epoll_pwait";
        let inject = format!("-e trace={calls} -e inject={calls}:error=EBADF");
        let (trace, setup) = Trace::of_program(shipped(), fixture.setup(), &inject);
        if has_token {
            fs::write(setup.output(), &token).expect("a temporary directory");
        }
        let mut sidecar = setup.run();
        let status = sidecar.process.wait();
        let what = format!("{status}\n{}{}", sidecar.process.timeline(), trace.lines().join("\n"));
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{what}");
        assert_eq!(sidecar.process.lines_with("dexsidecar: panicked at "), 1, "{what}");
        assert_eq!(sidecar.token(), has_token.then(|| token.clone()), "{what}");
        assert_eq!(names(sidecar.setup().directory()).len(), usize::from(has_token), "{what}");
    }
}

fn play(fixture: &Fixture, case: &Case) {
    let base = fixture.setup();
    let directory = base.directory().join("output");
    fs::create_dir(&directory).expect("a temporary directory");
    let output = directory.join("token");
    fs::write(&output, EXPIRED_TOKEN).expect("a temporary directory");
    let of_file = |setup: Setup| setup.set("dex_access_token_file", output.to_str().expect("UTF-8"));
    let judge = fixture.dex.judge();
    let readers = Readers::start(1, &output, move |text| {
        // Other cases run beside this one, on few processors.
        std::thread::sleep(Duration::from_millis(1));
        if text == EXPIRED_TOKEN { Judgement::Valid } else { judge(text) }
    });
    // EBUSY means a mount point, which is overwritten in place unless that is forbidden.
    let setup = of_file(base).set("DEXSIDECAR_WRITE_MODE", "atomic");
    // The debug build has a dynamic loader, which fails when it cannot close a library.
    let program = if case.call.starts_with("close") { shipped() } else { program() };
    let (trace, setup) = Trace::of_program(program, setup, &arguments(case, &directory));
    let mut sidecar = setup.run();
    until_outcome(&mut sidecar, &trace, case);
    sidecar.process.signal_child(Signal::TERM);
    // A process does not end before its fsync does, and a slow disk takes long.
    let ended = sidecar.process.wait_within(Duration::from_secs(120));
    let what = format!("{case:?}: {}{}", sidecar.process.timeline(), trace.lines().join("\n"));
    assert_eq!(ended, Some(Some(0)), "{what}");
    assert!(trace.lines().iter().any(|line| line.contains("INJECTED")), "never injected: {what}");
    let token = fs::read_to_string(&output).expect("a token file");
    let old_stays = matches!(case.outcome, Outcome::OldStays | Outcome::OldStaysWithOrphans);
    assert_eq!(token == EXPIRED_TOKEN, old_stays, "{what}");
    let files = names(&directory);
    // The end of the process waits half a second for a write: a slow disk takes longer.
    let is_cut = trace.lines().iter().any(|line| line.contains("fsync") && line.ends_with("= ?"));
    if !is_cut {
        assert_eq!(files.len() > 1, case.outcome == Outcome::OldStaysWithOrphans, "{files:?} {what}");
    }
    for orphan in files.iter().filter(|name| *name != "token") {
        let file = File::options().write(true).open(directory.join(orphan)).expect("a temporary file");
        file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).expect("its owner may");
    }
    let next = of_file(fixture.setup());
    assert_eq!(next.execute(&["once"]).code, Some(0), "the next start: {what}");
    let seen = readers.seen();
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default(), "{what}");
    assert_ne!(fs::read_to_string(&output).expect("a token file"), EXPIRED_TOKEN, "{what}");
    assert_eq!(names(&directory), ["token"], "{what}");
}

/// The arguments of strace.
fn arguments(case: &Case, directory: &Path) -> String {
    let (call, when) = case.call.split_once(' ').expect("a call, and which");
    // With the path, calls for the subject token and for libraries do not count. Calls by file
    // descriptor have no path, and the name of the temporary file is not known before.
    let path = if ["openat", "renameat", "getdents64", "unlinkat"].contains(&call) {
        format!("-P {} ", directory.display())
    } else {
        String::new()
    };
    let rename = if call == "unlinkat" { ",renameat -e inject=renameat:error=EIO" } else { "" };
    let opened = if call == "openat" || !path.is_empty() { "" } else { ",openat" };
    format!("{path}-e trace={call}{opened}{rename} -e inject={call}:error={}:{when}", case.error)
}

/// Waits for the token or for the failure, and after a failure for another attempt.
fn until_outcome(sidecar: &mut Sidecar, trace: &Trace, case: &Case) {
    if case.outcome == Outcome::NewIsThere {
        sidecar.process.until_logged("token_written", 1);
        assert_eq!(sidecar.process.logged("step=output"), 0, "{case:?}: {}", sidecar.process.timeline());
        return;
    }
    sidecar.process.until_logged("step=output", 1);
    let has_two = |call: &str| {
        let lines = trace.lines();
        let names = lines.iter().filter(|line| line.contains(call)).filter_map(|line| {
            line.split(".dexsidecar-").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned)
        });
        names.collect::<HashSet<_>>().len() > 1
    };
    let call = if case.call.starts_with("unlinkat") { "renameat(" } else { ".dexsidecar-" };
    sidecar.process.until("another attempt has another temporary file", |_| has_two(call));
    // The second attempt has ended too: a signal while it runs may leave its temporary file.
    if case.outcome != Outcome::NewMayBeLost {
        sidecar.process.until_logged("step=output", 2);
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
