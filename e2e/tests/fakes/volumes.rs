//! Volumes without modes (SMB, FAT, blobfuse), flush or rename (object stores). The token is
//! written if that is possible; otherwise the failure names the system call and the path, and ends
//! when its cause does.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Mutex;

use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::fixture::{EXPIRED_TOKEN, Fixture};
use dexsidecar_e2e::sidecar::{Completed, Setup};
use dexsidecar_e2e::strace::Trace;
use serde_json::Value;

/// The old content: longer than a token of the fake Dex, so that overwriting must truncate it.
fn old() -> String {
    EXPIRED_TOKEN.repeat(20)
}

/// The errors of a volume that does not support a call.
const UNSUPPORTED: [&str; 5] = ["EPERM", "EACCES", "EOPNOTSUPP", "ENOSYS", "EINVAL"];

/// What is at the output path before the token is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Before {
    Nothing,
    /// A file of mode 0600.
    Old,
}

/// A sidecar whose token file is alone in its directory.
fn setup(fixture: &Fixture, write_mode: &str, before: Before) -> Setup {
    let setup = fixture.setup();
    let directory = setup.directory().join("output");
    fs::create_dir(&directory).expect("a temporary directory");
    let output = directory.join("token");
    if before == Before::Old {
        fs::write(&output, old()).expect("a temporary directory");
        fs::set_permissions(&output, fs::Permissions::from_mode(0o600)).expect("its owner may");
    }
    setup.set("DEXSIDECAR_WRITE_MODE", write_mode).set("dex_access_token_file", text(&output))
}

fn is_issued(fixture: &Fixture, path: &Path) -> bool {
    let token = fs::read_to_string(path).unwrap_or_default();
    fixture.dex.issued().contains(&token)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Runs `once` while these calls always fail, and returns the trace too.
fn once_without(setup: Setup, calls: &str, error: &str) -> (Completed, Setup, String) {
    let inject = format!("-y -e trace={calls},openat -e inject={calls}:error={error}");
    let (trace, setup) = Trace::of(setup, &inject);
    let done = setup.once_until_failure();
    let lines = trace.lines().join("\n");
    assert!(lines.contains("INJECTED"), "{calls} {error} was never injected: {}{lines}", done.stderr);
    (done, setup, lines)
}

fn names(output: &Path) -> Vec<String> {
    let entries = fs::read_dir(output.parent().expect("a directory")).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The field `error` of a log line.
fn error_of(event: &Value) -> &str {
    event["error"].as_str().unwrap_or_default()
}

/// Plays each case, six at a time: most of the time is waiting.
fn each<T: Send>(cases: Vec<T>, play: impl Fn(&Fixture, T) + Sync) {
    let fixture = Fixture::new();
    let next = Mutex::new(cases.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().expect("no thread has panicked").next() else { return };
                    play(&fixture, case);
                }
            });
        }
    });
}

const WAYS: [(&str, Before); 5] = [
    ("auto", Before::Nothing),
    ("auto", Before::Old),
    ("atomic", Before::Old),
    ("in-place", Before::Nothing),
    ("in-place", Before::Old),
];

fn product<A: Copy, B: Copy>(some: &[A], others: &[B]) -> Vec<(A, B)> {
    some.iter().flat_map(|a| others.iter().map(|b| (*a, *b))).collect()
}

#[test]
fn f155_a_volume_that_refuses_chmod_gets_the_token_and_a_warning() {
    each(product(&WAYS, &UNSUPPORTED), |fixture, ((write_mode, before), error)| {
        let (done, setup, _) = once_without(setup(fixture, write_mode, before), "fchmod", error);
        let what = format!("{write_mode} {before:?} {error}: {}", done.stderr);
        assert_eq!(done.code, Some(0), "{what}");
        assert!(is_issued(fixture, &setup.output()), "{what}");
        let warnings = done.events("output_mode_not_set level=warn mode=0600");
        assert_eq!(warnings.len(), 1, "{what}");
        assert!(error_of(&warnings[0]).starts_with("fchmod: "), "{what}");
        assert_eq!(warnings[0]["file"], text(&setup.output()), "{what}");
        assert_eq!(names(&setup.output()), ["token"], "{what}");
    });
}

#[test]
fn f155_what_the_volume_does_not_support_is_reported_once_and_not_with_each_token() {
    let fixture = Fixture::answering(Answer::Token(4));
    let setup = setup(&fixture, "auto", Before::Nothing);
    let (_trace, setup) =
        Trace::of(setup, "-e trace=fchmod,fsync -e inject=fchmod:error=EPERM -e inject=fsync:error=EINVAL");
    let mut sidecar = setup.run();
    sidecar.process.until_logged("token_written", 3);
    for event in ["output_mode_not_set", "output_not_flushed", "output_directory_not_flushed"] {
        assert_eq!(sidecar.process.logged(event), 1, "{event}: {}", sidecar.process.output());
    }
}

#[test]
fn f155_a_configured_mode_or_group_that_the_volume_refuses_is_a_failure_that_names_the_call() {
    let settings = [
        ("DEXSIDECAR_OUTPUT_MODE", "0640", "fchmod", "output_mode_refused"),
        ("DEXSIDECAR_OUTPUT_GROUP", "64155", "fchown", "output_group_refused"),
    ];
    each(
        product(&product(&WAYS, &settings), &UNSUPPORTED),
        |fixture, (((write_mode, before), setting), error)| {
            let (variable, value, call, code) = setting;
            let setup = setup(fixture, write_mode, before).set(variable, value);
            let (done, setup, _) = once_without(setup, call, error);
            let what = format!("{write_mode} {before:?} {call} {error}: {}", done.stderr);
            assert_eq!(done.code, Some(1), "{what}");
            // Further attempts with the same failure are logged at level debug.
            let failures = done.events(&format!("attempt_failed code={code} step=output level=error"));
            assert_eq!(failures.len(), 1, "{what}");
            for part in [format!(": {call}: "), setup.output().display().to_string()] {
                assert!(error_of(&failures[0]).contains(&part), "{part} is not in {what}");
            }
            let left = fs::read_to_string(setup.output()).ok();
            assert_eq!(left, (before == Before::Old).then(old), "{what}");
        },
    );
}

/// A mount option may give every file the configured mode and group.
#[test]
fn f155_a_refused_call_is_no_failure_if_the_file_has_the_configured_mode_and_group() {
    let group = rustix::process::getegid().as_raw().to_string();
    let settings =
        [("DEXSIDECAR_OUTPUT_MODE", "0600", "fchmod"), ("DEXSIDECAR_OUTPUT_GROUP", group.as_str(), "fchown")];
    each(product(&WAYS, &settings), |fixture, ((write_mode, before), (variable, value, call))| {
        let setup = setup(fixture, write_mode, before).set(variable, value);
        let (done, setup, _) = once_without(setup, call, "EPERM");
        let what = format!("{write_mode} {before:?} {call}: {}", done.stderr);
        assert_eq!(done.code, Some(0), "{what}");
        assert!(is_issued(fixture, &setup.output()), "{what}");
        assert_eq!((done.logged("output_mode_not_set"), done.logged("code=*")), (0, 0), "{what}");
    });
}

/// CIFS without POSIX extensions ignores chmod and reports success.
#[test]
fn f155_a_mode_wider_than_the_configured_one_is_a_failure_even_if_chmod_reports_success() {
    each(WAYS.to_vec(), |fixture, (write_mode, before)| {
        let setup = setup(fixture, write_mode, before).set("DEXSIDECAR_OUTPUT_MODE", "0400");
        if write_mode == "in-place" {
            return;
        }
        let (trace, setup) = Trace::of(setup, "-e trace=fchmod -e inject=fchmod:retval=0");
        let done = setup.once_until_failure();
        let what = format!("{write_mode}: {}{}", done.stderr, trace.lines().join("\n"));
        assert_eq!(done.code, Some(1), "{what}");
        assert_eq!(done.logged("attempt_failed code=output_mode_refused level=error"), 1, "{what}");
    });
}

#[test]
fn f156_a_volume_that_cannot_flush_gets_the_token_and_a_warning() {
    let errors = [&UNSUPPORTED[..], &["EROFS"]].concat();
    each(product(&WAYS, &errors), |fixture, ((write_mode, before), error)| {
        let (done, setup, _) = once_without(setup(fixture, write_mode, before), "fsync", error);
        let what = format!("{write_mode} {before:?} {error}: {}", done.stderr);
        assert_eq!(done.code, Some(0), "{what}");
        assert!(is_issued(fixture, &setup.output()), "{what}");
        let warnings = done.events("output_not_flushed level=warn");
        assert!(warnings.len() == 1 && error_of(&warnings[0]).starts_with("fsync: "), "{what}");
    });
}

#[test]
fn f156_a_failed_flush_on_a_volume_that_supports_it_is_a_failure() {
    each(product(&WAYS, &["EIO", "ENOSPC", "EDQUOT"]), |fixture, ((write_mode, before), error)| {
        let (done, setup, _) = once_without(setup(fixture, write_mode, before), "fsync", error);
        let what = format!("{write_mode} {before:?} {error}: {}", done.stderr);
        assert_eq!(done.code, Some(1), "{what}");
        let failures = done.events("attempt_failed step=output level=error");
        assert!(failures.len() == 1 && error_of(&failures[0]).contains("fsync: "), "{what}");
        // Where there was no file, none is left.
        let left = fs::read_to_string(setup.output()).ok();
        assert_eq!(left.is_none(), before == Before::Nothing, "{what}");
        if write_mode != "in-place" {
            assert_eq!(left.is_some(), left == Some(old()), "{what}");
        }
        assert!(names(&setup.output()).len() <= 1, "{what}");
    });
}

/// The old file may be longer than the token.
#[test]
fn f156_a_volume_without_truncate_or_fallocate_gets_the_token_in_place() {
    let calls = ["ftruncate", "fallocate", "ftruncate,fallocate"];
    each(product(&calls, &UNSUPPORTED), |fixture, (calls, error)| {
        let (done, setup, _) = once_without(setup(fixture, "in-place", Before::Old), calls, error);
        let what = format!("{calls} {error}: {}", done.stderr);
        assert_eq!(done.code, Some(0), "{what}");
        assert!(is_issued(fixture, &setup.output()), "{what}");
    });
}

#[test]
fn f158_a_volume_without_rename_is_written_in_place_unless_the_write_mode_is_atomic() {
    let errors = ["ENOSYS", "EOPNOTSUPP", "EPERM", "EXDEV", "EINVAL"];
    let ways = [
        ("auto", Before::Nothing),
        ("auto", Before::Old),
        ("atomic", Before::Nothing),
        ("atomic", Before::Old),
    ];
    each(product(&ways, &errors), |fixture, ((write_mode, before), error)| {
        let (done, setup, _) = once_without(setup(fixture, write_mode, before), "renameat", error);
        let what = format!("{write_mode} {before:?} {error}: {}", done.stderr);
        if write_mode == "auto" {
            assert_eq!(done.code, Some(0), "{what}");
            assert!(is_issued(fixture, &setup.output()), "{what}");
            let warnings = done.events("output_in_place level=warn");
            assert!(warnings.len() == 1 && error_of(&warnings[0]).starts_with("renameat: "), "{what}");
            assert_eq!(fs::metadata(setup.output()).expect("a file").mode() & 0o777, 0o644, "{what}");
            assert_eq!(names(&setup.output()), ["token"], "{what}");
        } else {
            assert_eq!(done.code, Some(1), "{what}");
            let failures =
                done.events("attempt_failed code=output_rename_unsupported step=output level=error");
            assert!(failures.len() == 1 && error_of(&failures[0]).contains("renameat: "), "{what}");
            let left = fs::read_to_string(setup.output()).ok();
            assert_eq!(left, (before == Before::Old).then(old), "{what}");
        }
    });
}

#[test]
fn f158_in_place_never_renames_and_creates_a_missing_file() {
    let fixture = Fixture::new();
    for before in [Before::Nothing, Before::Old] {
        let setup = setup(&fixture, "in-place", before);
        let (trace, setup) = Trace::of(setup, "-y -e trace=openat,rename,renameat,renameat2,fchmod,write");
        let done = setup.execute(&["once"]);
        let lines = trace.lines();
        let what = format!("{before:?}: {}{}", done.stderr, lines.join("\n"));
        assert_eq!(done.code, Some(0), "{what}");
        assert!(is_issued(&fixture, &setup.output()), "{what}");
        assert!(lines.iter().all(|line| !line.contains("rename")), "{what}");
        if before == Before::Nothing {
            let first = |words: &[&str]| {
                let holds = |line: &String| words.iter().all(|word| line.contains(word));
                lines.iter().position(holds).unwrap_or_else(|| panic!("{words:?} in {what}"))
            };
            let order = [
                first(&["openat(", "\"token\"", "O_EXCL", "O_NOFOLLOW", "0600"]),
                first(&["fchmod(", "/token>", "0644"]),
                first(&["write(", "/token>"]),
            ];
            assert!(order.is_sorted(), "{what}");
        }
    }
}

#[test]
fn f158_a_first_write_that_fails_leaves_no_partial_token() {
    let calls = ["fchmod", "write:when=1", "fsync", "close:when=1"];
    each(product(&calls, &["EIO", "ENOSPC"]), |fixture, (call, error)| {
        let setup = setup(fixture, "in-place", Before::Nothing);
        let (call, when) = call.split_once(':').unwrap_or((call, "when=1+"));
        let (trace, setup) =
            Trace::of(setup, &format!("-e trace={call} -e inject={call}:error={error}:{when}"));
        let done = setup.once_until_failure();
        let what = format!("{call} {error}: {}{}", done.stderr, trace.lines().join("\n"));
        assert_eq!(done.code, Some(1), "{what}");
        assert_eq!(names(&setup.output()), [""; 0], "{what}");
        assert_eq!(done.logged("attempt_failed step=output level=error"), 1, "{what}");
    });
}

/// Each call that writes the token, with each error that a volume, a security module or a limit may
/// give.
#[test]
fn f155_to_f159_each_failed_call_ends_in_a_token_or_in_a_failure_that_names_the_call() {
    let calls = [
        "openat",
        "fchmod",
        "fchown",
        "fallocate",
        "write:when=1",
        "ftruncate",
        "fsync",
        "close:when=1",
        "renameat",
        "unlinkat",
    ];
    let errors = [
        "EPERM",
        "EACCES",
        "EINVAL",
        "ENOSYS",
        "EOPNOTSUPP",
        "EROFS",
        "EIO",
        "ENOSPC",
        "EDQUOT",
        "ESTALE",
        "EBUSY",
        "EXDEV",
        "EFBIG",
        "EMFILE",
        "ETIMEDOUT",
    ];
    each(product(&product(&WAYS, &calls), &errors), |fixture, (((write_mode, before), call), error)| {
        let setup = setup(fixture, write_mode, before).set("DEXSIDECAR_OUTPUT_GROUP", "64155");
        let directory = setup.output().parent().map(Path::to_owned).expect("a directory");
        let (call, when) = call.split_once(':').unwrap_or((call, "when=1+"));
        let only = if ["openat", "renameat", "unlinkat"].contains(&call) {
            format!("-P {} ", directory.display())
        } else {
            String::new()
        };
        let (trace, setup) =
            Trace::of(setup, &format!("{only}-e trace={call} -e inject={call}:error={error}:{when}"));
        let done = setup.once_until_failure();
        let what =
            format!("{write_mode} {before:?} {call} {error}: {}{}", done.stderr, trace.lines().join("\n"));
        if done.code == Some(0) {
            assert!(is_issued(fixture, &setup.output()), "{what}");
        } else {
            let failures = done.events("attempt_failed step=output");
            assert!(!failures.is_empty(), "{what}");
            let path = setup.output().display().to_string();
            let named = |failure: &Value| {
                let error = error_of(failure);
                error.contains(&format!("{call}: ")) && error.contains(&path)
            };
            assert!(failures.iter().all(named), "{what}");
        }
        // Without the fault the next start writes a token.
        let next = fixture
            .setup()
            .set("DEXSIDECAR_WRITE_MODE", write_mode)
            .set("dex_access_token_file", text(&setup.output()));
        assert_eq!(next.execute(&["once"]).code, Some(0), "{what}");
        assert!(is_issued(fixture, &setup.output()), "{what}");
    });
}
