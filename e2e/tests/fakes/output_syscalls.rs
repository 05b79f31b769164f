//! The system calls that write the token are recorded, delayed, refused, or end with SIGKILL: the
//! file holds the old or the new token, and the next start writes a token. (Calls that fail:
//! output_syscall_failures.rs.)

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::fixture::{EXPIRED_TOKEN, Fixture};
use dexsidecar_e2e::sidecar::{Setup, program};
use dexsidecar_e2e::strace::Trace;
use rustix::process::Signal;

/// A sidecar with the old token in its file, which is alone in a directory.
fn with_old_token(fixture: &Fixture) -> Setup {
    let setup = fixture.setup().set("DEXSIDECAR_LOG", "error");
    let directory = setup.directory().join("output");
    fs::create_dir(&directory).expect("a temporary directory");
    let output = directory.join("token");
    fs::write(&output, EXPIRED_TOKEN).expect("a temporary directory");
    setup.set("dex_access_token_file", output.to_str().expect("UTF-8"))
}

fn is_old_or_issued(fixture: &Fixture, token: &str) -> bool {
    token == EXPIRED_TOKEN || fixture.dex.issued().iter().any(|issued| issued == token)
}

fn names(setup: &Setup) -> Vec<String> {
    let directory = setup.output().parent().expect("a directory").to_owned();
    let entries = fs::read_dir(directory).expect("a directory").filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// With this order a power failure at any moment leaves the old or the new token.
#[test]
fn f075_f084_f103_f157_the_calls_that_write_the_token_are_in_order_and_in_one_directory() {
    let fixture = Fixture::new();
    let setup = with_old_token(&fixture);
    let directory = setup.output().parent().expect("a directory").display().to_string();
    let (trace, setup) = Trace::of(
        setup,
        "-y -e trace=openat,fchmod,write,fsync,close,renameat,rename,renameat2,execve,clone,clone3,fork,vfork",
    );
    assert_eq!(setup.execute(&["once"]).code, Some(0));
    let lines = trace.lines();
    let at = |what: &str, holds: &dyn Fn(&str) -> bool| {
        let found = lines.iter().position(|line| holds(line));
        found.unwrap_or_else(|| panic!("no {what} in the trace\n{}", lines.join("\n")))
    };
    let temporary = |line: &str| line.contains("/.dexsidecar-");
    let order = [
        at("creation", &|line| {
            line.contains("O_EXCL") && line.contains(&format!("<{directory}>, \".dexsidecar-"))
        }),
        at("mode", &|line| line.contains("fchmod(") && temporary(line)),
        at("content", &|line| line.contains("write(") && temporary(line)),
        at("fsync of the file", &|line| line.contains("fsync(") && temporary(line)),
        at("close", &|line| line.contains("close(") && temporary(line)),
        at("rename", &|line| {
            line.contains("rename")
                && line.matches(&format!("<{directory}>")).count() == 2
                && line.contains("\"token\"")
        }),
        at("fsync of the directory", &|line| {
            line.contains("fsync(") && line.contains(&format!("<{directory}>)"))
        }),
    ];
    assert!(order.is_sorted(), "{order:?}\n{}", lines.join("\n"));
    let creation = &lines[order[0]];
    assert!(creation.contains("O_NOFOLLOW") && creation.contains("0600"), "{creation}");
    // There are threads, and no child process. Each line is a pid and a call.
    let calls = |name: &str| {
        let begins = |line: &&String| {
            line.split_once(' ').is_some_and(|(_, call)| call.trim_start().starts_with(name))
        };
        lines.iter().filter(begins).cloned().collect::<Vec<_>>()
    };
    assert_eq!(calls("execve(").len(), 1);
    assert!(calls("fork(").is_empty() && calls("vfork(").is_empty());
    let threads = calls("clone");
    assert!(!threads.is_empty() && threads.iter().all(|call| call.contains("CLONE_THREAD")), "{threads:?}");
}

#[test]
fn f083_sigkill_at_any_call_leaves_the_old_or_the_new_token() {
    let fixture = Fixture::new();
    for (call, when, replaced) in [
        ("fchmod", 1, false),
        ("fsync", 1, false),
        ("renameat", 1, false),
        ("fsync", 2, true),
        ("getdents64", 1, true),
    ] {
        let setup = with_old_token(&fixture);
        let inject = format!("-e trace={call} -e inject={call}:signal=SIGKILL:when={when}");
        let (trace, setup) = Trace::of(setup, &inject);
        let done = setup.execute(&["once"]);
        let what = format!("{call} {when}: {}{}", done.stderr, trace.lines().join("\n"));
        assert_eq!(done.code, None, "killed: {what}");
        let token = fs::read_to_string(setup.output()).expect("a token file");
        assert!(is_old_or_issued(&fixture, &token), "{what}");
        assert_eq!(token != EXPIRED_TOKEN, replaced, "{what}");
        // A temporary file that was not renamed is left. It is removed when it is old.
        let orphans = orphans(&setup);
        assert_eq!(orphans.len(), usize::from(!replaced), "{orphans:?}: {what}");
        recovers(&fixture, &setup, &what);
    }
}

/// A kill while the file is overwritten in place may leave a partial token.
#[test]
fn f080_f083_after_sigkill_while_a_file_is_overwritten_in_place_the_next_start_writes_a_token() {
    let fixture = Fixture::new();
    for call in ["fchmod", "ftruncate", "fsync"] {
        let setup = with_old_token(&fixture).set("DEXSIDECAR_WRITE_MODE", "in-place");
        // A longer content leaves a rest behind the token until it is truncated.
        fs::write(setup.output(), EXPIRED_TOKEN.repeat(20)).expect("a directory");
        let inject = format!("-e trace={call} -e inject={call}:signal=SIGKILL:when=1");
        let (trace, setup) = Trace::of(setup, &inject);
        let done = setup.execute(&["once"]);
        assert_eq!(done.code, None, "{call}: {}{}", done.stderr, trace.lines().join("\n"));
        let left = fs::read_to_string(setup.output()).expect("a token file");
        assert_eq!(is_old_or_issued(&fixture, &left), call == "fsync", "{call}: {left}");
        recovers(&fixture, &setup, call);
    }
}

/// The limit of the file size is reached in the middle of the token. The kernel sends SIGXFSZ,
/// which must not end the program.
#[test]
fn f085_a_partial_write_leaves_the_old_token_and_no_temporary_file() {
    let fixture = Fixture::new();
    let setup = with_old_token(&fixture);
    // No file of its own may become longer than this.
    let setup = setup.program(&["/usr/bin/prlimit".as_ref(), "--fsize=200".as_ref(), &program()]);
    let done = setup.once_until_failure();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let failures = done.events("attempt_failed code=output_failed");
    let named = |error: &str| error.contains("File too large");
    assert!(
        failures.first().is_some_and(|failure| failure["error"].as_str().is_some_and(named)),
        "{}",
        done.stderr
    );
    assert_eq!(fs::read_to_string(setup.output()).expect("a token file"), EXPIRED_TOKEN);
    assert!(orphans(&setup).is_empty());
    recovers(&fixture, &setup, "a partial token");
}

/// A power failure may leave a partial token in a temporary file, too.
#[test]
fn f083_an_old_temporary_file_does_not_prevent_a_new_token() {
    let fixture = Fixture::new();
    let setup = with_old_token(&fixture);
    fs::write(setup.output().with_file_name(".dexsidecar-00112233445566778899aabbccddeeff"), "eyJhbGciOi")
        .expect("a directory");
    recovers(&fixture, &setup, "an old temporary file");
}

/// The temporary files that a killed program left.
fn orphans(setup: &Setup) -> Vec<PathBuf> {
    let files = names(setup).into_iter().filter(|name| name != "token");
    files.map(|name| setup.output().with_file_name(name)).collect()
}

/// Asserts that the next start writes a token and removes old temporary files.
fn recovers(fixture: &Fixture, setup: &Setup, what: &str) {
    for orphan in orphans(setup) {
        let file = fs::File::options().write(true).open(orphan).expect("a temporary file");
        let hour = Duration::from_secs(3_600);
        file.set_modified(std::time::SystemTime::now() - hour).expect("its owner may");
    }
    let plain = fixture.setup().set("dex_access_token_file", setup.output().to_str().expect("UTF-8"));
    assert_eq!(plain.execute(&["once"]).code, Some(0), "the next start: {what}");
    assert_eq!(names(setup), ["token"], "{what}");
    let token = fs::read_to_string(setup.output()).expect("a token file");
    assert!(token != EXPIRED_TOKEN && is_old_or_issued(fixture, &token), "{what}");
}

/// The event loop does not wait for the disk.
#[test]
fn f086_a_disk_that_stalls_does_not_delay_sigterm() {
    let fixture = Fixture::new();
    let (trace, setup) =
        Trace::of(with_old_token(&fixture), "-e trace=fsync,exit_group -e inject=fsync:delay_enter=60s");
    let output = setup.output();
    let mut sidecar = setup.run();
    let has = |call: &str| trace.lines().iter().any(|line| line.contains(call));
    fixture.dex.until_requests(1);
    sidecar.process.until("the write has begun", |_| has("fsync") || files_beside(&output) > 1);
    sidecar.process.signal_child(Signal::TERM);
    sidecar.process.until("it ends with exit code 0", |_| has("exit_group(0)"));
    let lines = trace.lines();
    let ended = lines.iter().position(|line| line.contains("exit_group(0)"));
    let flushed = lines.iter().position(|line| line.contains("fsync") && line.contains("DELAYED"));
    assert!(flushed.is_none_or(|flushed| Some(flushed) > ended), "{lines:#?}");
    assert_eq!(fs::read_to_string(&output).expect("a token file"), EXPIRED_TOKEN);
}

fn files_beside(output: &Path) -> usize {
    fs::read_dir(output.parent().expect("a directory")).map_or(0, Iterator::count)
}

/// As with a seccomp filter or an old kernel.
#[test]
fn f091_calls_that_are_not_essential_may_be_refused() {
    let fixture = Fixture::new();
    fixture.dex.always(Answer::Token(4));
    let calls = [
        "timerfd_create",
        "getrandom",
        "prctl",
        "setrlimit,prlimit64",
        "statx",
        "landlock_create_ruleset",
        "landlock_restrict_self",
        "clone3",
    ];
    let next = Mutex::new(calls.iter().flat_map(|call| ["EPERM", "ENOSYS"].map(|error| (*call, error))));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some((call, error)) = next.lock().expect("no thread has panicked").next() else {
                        return;
                    };
                    refused(&fixture, call, error);
                }
            });
        }
    });
}

fn refused(fixture: &Fixture, call: &str, error: &str) {
    let (trace, setup) =
        Trace::of(with_old_token(fixture), &format!("-e trace={call} -e inject={call}:error={error}"));
    let mut sidecar = setup.set("DEXSIDECAR_LOG", "info").run();
    sidecar.process.until_logged("token_written", 2);
    sidecar.process.signal_child(Signal::TERM);
    let what = format!("{call} {error}");
    assert_eq!(sidecar.process.wait_within(Duration::from_secs(20)), Some(Some(0)), "{what}");
    let injected = trace.lines().iter().any(|line| line.contains("INJECTED"));
    assert!(injected, "never injected: {what}\n{}", trace.lines().join("\n"));
}

/// Where the kernel supports Landlock. The command that `wait` becomes is not restricted.
#[test]
fn the_program_restricts_itself_and_not_the_command_of_wait() {
    let fixture = Fixture::new();
    let restricted = |command: &[&str]| {
        let setup = with_old_token(&fixture);
        // `wait` needs a valid token; `once` replaces it.
        fs::write(setup.output(), "opaque").expect("a directory of its own");
        let (trace, setup) = Trace::of(setup, "-e trace=landlock_create_ruleset,landlock_restrict_self");
        let done = setup.arguments("--timeout 20s").execute(command);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let lines = trace.lines();
        let has = |words: &str| lines.iter().any(|line| line.contains(words));
        // The first call asks for the version that the kernel supports.
        (has("LANDLOCK_CREATE_RULESET_VERSION"), has("landlock_restrict_self"), has("= -1 E"))
    };
    let (asked, done, refused) = restricted(&["once"]);
    assert!(asked && (done || refused), "asked: {asked}, done: {done}, refused: {refused}");
    assert_eq!(restricted(&["wait", "--", "/bin/true"]), (false, false, false));
}

/// Root without capabilities is an owner as others are: it cannot open a file of mode 0400 for
/// writing.
#[test]
fn f159_on_a_volume_without_rename_a_file_that_its_owner_may_not_write_is_replaced() {
    let fixture = Fixture::new();
    for mode in ["0400", "0444"] {
        let setup = with_old_token(&fixture).set("DEXSIDECAR_OUTPUT_MODE", mode);
        let script = setup.directory().join("as-owner");
        let drop = "setpriv --bounding-set=-all --inh-caps=-all";
        let drop = if rustix::process::geteuid().is_root() { drop } else { "" };
        fs::write(&script, format!("#!/bin/sh\nexec {drop} {} \"$@\"\n", program().display()))
            .expect("a temporary directory");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its owner may");
        let inject = "-e trace=renameat,fchmod,openat -e inject=renameat:error=ENOSYS";
        let (trace, setup) = Trace::of_program(script, setup, inject);
        for _ in 0..3 {
            let done = setup.once_until_failure();
            let what = format!("{mode}: {}{}", done.stderr, trace.lines().join("\n"));
            assert_eq!((done.code, done.logged("code=*")), (Some(0), 0), "{what}");
            assert_eq!(
                fixture.dex.issued().last(),
                fs::read_to_string(setup.output()).ok().as_ref(),
                "{what}"
            );
            let actual = fs::metadata(setup.output()).expect("a file").mode() & 0o7777;
            assert_eq!(format!("{actual:04o}"), mode, "{what}");
        }
        // The second and the third open were refused at first.
        assert!(
            trace.lines().iter().any(|line| line.contains("EACCES")),
            "{mode}: {}",
            trace.lines().join("\n")
        );
    }
}
