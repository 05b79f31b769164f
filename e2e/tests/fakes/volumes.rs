//! Volumes that cannot do everything: no modes (SMB, FAT, blobfuse), no flush, no rename (object stores). The token is
//! written if that is possible at all; else the failure names the system call and the path, and ends with its cause.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Mutex;

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::sidecar::{Done, Setup};
use dexsidecar_e2e::strace::Trace;
use dexsidecar_e2e::volume::Volume;

/// An expired token, longer than any that the endpoint issues, so that overwriting it needs a cut.
const OLD: &str = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3MDAwMDAwMDB9.sig";

/// How a volume says that it cannot do something at all.
const UNSUPPORTED: [&str; 5] = ["EPERM", "EACCES", "EOPNOTSUPP", "ENOSYS", "EINVAL"];

struct World {
    endpoint: Endpoint,
    volume: Volume,
}

/// What is at the output path before the token is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Before {
    Nothing,
    /// A file of mode 0600.
    Old,
}

impl World {
    fn new() -> Self {
        Self { endpoint: Endpoint::start("127.0.0.1:0", None), volume: Volume::with("eyJh.eyJi.canary") }
    }

    /// A sidecar whose token file is alone in its directory.
    fn setup(&self, write_mode: &str, before: Before) -> Setup {
        let setup = Setup::new().subject(&self.volume).at_stand_in(&self.endpoint);
        let directory = setup.folder().join("output");
        fs::create_dir(&directory).expect("a temporary directory");
        let output = directory.join("token");
        if before == Before::Old {
            fs::write(&output, OLD.repeat(20)).expect("a temporary directory");
            fs::set_permissions(&output, fs::Permissions::from_mode(0o600)).expect("its owner may");
        }
        setup.set("DEXSIDECAR_WRITE_MODE", write_mode).set("dex_access_token_file", text(&output))
    }

    fn is_whole(&self, path: &Path) -> bool {
        let token = fs::read_to_string(path).unwrap_or_default();
        self.endpoint.issued().contains(&token)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Runs `once` with these calls failing each time, and gives the trace too.
fn once_without(setup: Setup, calls: &str, error: &str) -> (Done, Setup, String) {
    let inject = format!("-y -e trace={calls},openat -e inject={calls}:error={error}");
    let (trace, setup) = Trace::of(setup, &inject);
    let done = setup.done(&["once", "--timeout", "700ms"]);
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

/// The lines of the log that have these words.
fn lines<'a>(done: &'a Done, words: &str) -> Vec<&'a str> {
    done.stderr.lines().filter(|line| line.contains(words)).collect()
}

/// Plays each case; what takes time is waiting.
fn each<T: Send>(cases: Vec<T>, play: impl Fn(&World, T) + Sync) {
    let world = World::new();
    let next = Mutex::new(cases.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some(case) = next.lock().expect("no thread has failed").next() else { return };
                    play(&world, case);
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
fn f155_a_volume_that_refuses_chmod_gets_the_token_all_the_same() {
    each(product(&WAYS, &UNSUPPORTED), |world, ((write_mode, before), error)| {
        let (done, setup, _) = once_without(world.setup(write_mode, before), "fchmod", error);
        let what = format!("{write_mode} {before:?} {error}: {}", done.stderr);
        assert_eq!(done.code, Some(0), "{what}");
        assert!(world.is_whole(&setup.output()), "{what}");
        let warnings = lines(&done, "the mode of the token file cannot be set");
        assert_eq!(warnings.len(), 1, "{what}");
        for part in [" warn ", "mode=0600", "fchmod: ", text(&setup.output())] {
            assert!(warnings[0].contains(part), "{part} is not in {what}");
        }
        assert_eq!(names(&setup.output()), ["token"], "{what}");
    });
}

#[test]
fn f155_the_mode_is_reported_once_and_not_with_each_token() {
    let world = World::new();
    world.endpoint.always(Answer::Token(4));
    let setup = world.setup("auto", Before::Nothing);
    let (_trace, setup) =
        Trace::of(setup, "-e trace=fchmod,fsync -e inject=fchmod:error=EPERM -e inject=fsync:error=EINVAL");
    let mut sidecar = setup.run();
    sidecar.process.until_logged("token_written", 3);
    for words in [
        "the mode of the token file cannot be set",
        "the token file cannot be flushed",
        "directory cannot be flushed",
    ] {
        assert_eq!(sidecar.process.said(words), 1, "{words}: {}", sidecar.process.output());
    }
}

#[test]
fn f155_a_mode_or_a_group_that_was_asked_for_and_is_refused_is_a_failure_that_names_it() {
    let settings = [
        ("DEXSIDECAR_OUTPUT_MODE", "0640", "fchmod", "output_mode_refused"),
        ("DEXSIDECAR_OUTPUT_GROUP", "64155", "fchown", "output_group_refused"),
    ];
    each(
        product(&product(&WAYS, &settings), &UNSUPPORTED),
        |world, (((write_mode, before), setting), error)| {
            let (variable, value, call, code) = setting;
            let setup = world.setup(write_mode, before).set(variable, value);
            let (done, setup, _) = once_without(setup, call, error);
            let what = format!("{write_mode} {before:?} {call} {error}: {}", done.stderr);
            assert_eq!(done.code, Some(1), "{what}");
            let failures = lines(&done, &format!("code={code} stage=output"));
            assert_eq!(failures.len(), 1, "{what}");
            for part in [format!(": {call}: "), setup.output().display().to_string()] {
                assert!(failures[0].contains(&part), "{part} is not in {what}");
            }
            let left = fs::read_to_string(setup.output()).ok();
            assert_eq!(left, (before == Before::Old).then(|| OLD.repeat(20)), "{what}");
        },
    );
}

/// What counts is the mode and the group that the file has: a mount option may give them to every file.
#[test]
fn f155_a_refused_call_does_not_matter_where_the_file_has_what_was_asked_for() {
    let group = rustix::process::getegid().as_raw().to_string();
    let settings =
        [("DEXSIDECAR_OUTPUT_MODE", "0600", "fchmod"), ("DEXSIDECAR_OUTPUT_GROUP", group.as_str(), "fchown")];
    each(product(&WAYS, &settings), |world, ((write_mode, before), (variable, value, call))| {
        let setup = world.setup(write_mode, before).set(variable, value);
        let (done, setup, _) = once_without(setup, call, "EPERM");
        let what = format!("{write_mode} {before:?} {call}: {}", done.stderr);
        assert_eq!(done.code, Some(0), "{what}");
        assert!(world.is_whole(&setup.output()), "{what}");
        assert!(lines(&done, "cannot be set").is_empty(), "{what}");
    });
}

/// CIFS without POSIX extensions answers that all is well.
#[test]
fn f155_a_mode_that_is_wider_than_the_one_asked_for_is_a_failure_even_where_chmod_claims_success() {
    each(WAYS.to_vec(), |world, (write_mode, before)| {
        let setup = world.setup(write_mode, before).set("DEXSIDECAR_OUTPUT_MODE", "0400");
        if write_mode == "in-place" {
            return;
        }
        let (trace, setup) = Trace::of(setup, "-e trace=fchmod -e inject=fchmod:retval=0");
        let done = setup.done(&["once", "--timeout", "700ms"]);
        let what = format!("{write_mode}: {}{}", done.stderr, trace.lines().join("\n"));
        assert_eq!(done.code, Some(1), "{what}");
        assert!(done.stderr.contains("code=output_mode_refused"), "{what}");
    });
}

#[test]
fn f156_a_volume_that_cannot_flush_gets_the_token_and_a_warning() {
    let errors = [&UNSUPPORTED[..], &["EROFS"]].concat();
    each(product(&WAYS, &errors), |world, ((write_mode, before), error)| {
        let (done, setup, _) = once_without(world.setup(write_mode, before), "fsync", error);
        let what = format!("{write_mode} {before:?} {error}: {}", done.stderr);
        assert_eq!(done.code, Some(0), "{what}");
        assert!(world.is_whole(&setup.output()), "{what}");
        let warnings = lines(&done, "the token file cannot be flushed to disk");
        assert!(warnings.len() == 1 && warnings[0].contains("fsync: "), "{what}");
    });
}

#[test]
fn f156_a_flush_that_fails_on_a_volume_that_can_flush_is_a_failure() {
    each(product(&WAYS, &["EIO", "ENOSPC", "EDQUOT"]), |world, ((write_mode, before), error)| {
        let (done, setup, _) = once_without(world.setup(write_mode, before), "fsync", error);
        let what = format!("{write_mode} {before:?} {error}: {}", done.stderr);
        assert_eq!(done.code, Some(1), "{what}");
        assert!(done.stderr.contains("code=output_") && done.stderr.contains("fsync: "), "{what}");
        // Nothing partial is left where nothing was.
        let left = fs::read_to_string(setup.output()).ok();
        assert_eq!(left.is_none(), before == Before::Nothing, "{what}");
        if write_mode != "in-place" {
            assert_eq!(left.is_some(), left == Some(OLD.repeat(20)), "{what}");
        }
        assert!(names(&setup.output()).len() <= 1, "{what}");
    });
}

/// The old file may be longer than the token.
#[test]
fn f156_a_volume_without_truncate_or_fallocate_gets_the_token_in_place() {
    let calls = ["ftruncate", "fallocate", "ftruncate,fallocate"];
    each(product(&calls, &UNSUPPORTED), |world, (calls, error)| {
        let (done, setup, _) = once_without(world.setup("in-place", Before::Old), calls, error);
        let what = format!("{calls} {error}: {}", done.stderr);
        assert_eq!(done.code, Some(0), "{what}");
        assert!(world.is_whole(&setup.output()), "{what}");
    });
}

#[test]
fn f158_a_volume_without_rename_is_written_in_place_unless_atomic_is_asked_for() {
    let errors = ["ENOSYS", "EOPNOTSUPP", "EPERM", "EXDEV", "EINVAL"];
    let ways = [
        ("auto", Before::Nothing),
        ("auto", Before::Old),
        ("atomic", Before::Nothing),
        ("atomic", Before::Old),
    ];
    each(product(&ways, &errors), |world, ((write_mode, before), error)| {
        let (done, setup, _) = once_without(world.setup(write_mode, before), "renameat", error);
        let what = format!("{write_mode} {before:?} {error}: {}", done.stderr);
        if write_mode == "auto" {
            assert_eq!(done.code, Some(0), "{what}");
            assert!(world.is_whole(&setup.output()), "{what}");
            let warnings = lines(&done, "overwritten in place");
            assert!(warnings.len() == 1 && warnings[0].contains("renameat: "), "{what}");
            assert_eq!(fs::metadata(setup.output()).expect("a file").mode() & 0o777, 0o644, "{what}");
            assert_eq!(names(&setup.output()), ["token"], "{what}");
        } else {
            assert_eq!(done.code, Some(1), "{what}");
            let failures = lines(&done, "code=output_rename_unsupported stage=output");
            assert!(failures.len() == 1 && failures[0].contains("renameat: "), "{what}");
            let left = fs::read_to_string(setup.output()).ok();
            assert_eq!(left, (before == Before::Old).then(|| OLD.repeat(20)), "{what}");
        }
    });
}

#[test]
fn f158_in_place_never_renames_and_creates_a_missing_file() {
    let world = World::new();
    for before in [Before::Nothing, Before::Old] {
        let setup = world.setup("in-place", before);
        let (trace, setup) = Trace::of(setup, "-y -e trace=openat,rename,renameat,renameat2,fchmod,write");
        let done = setup.done(&["once"]);
        let lines = trace.lines();
        let what = format!("{before:?}: {}{}", done.stderr, lines.join("\n"));
        assert_eq!(done.code, Some(0), "{what}");
        assert!(world.is_whole(&setup.output()), "{what}");
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
    each(product(&calls, &["EIO", "ENOSPC"]), |world, (call, error)| {
        let setup = world.setup("in-place", Before::Nothing);
        let (call, when) = call.split_once(':').unwrap_or((call, "when=1+"));
        let (trace, setup) =
            Trace::of(setup, &format!("-e trace={call} -e inject={call}:error={error}:{when}"));
        let done = setup.done(&["once", "--timeout", "700ms"]);
        let what = format!("{call} {error}: {}{}", done.stderr, trace.lines().join("\n"));
        assert_eq!(done.code, Some(1), "{what}");
        assert_eq!(names(&setup.output()), [""; 0], "{what}");
        assert!(done.stderr.contains("code=output_"), "{what}");
    });
}

/// Every call of the way into the file, and every error that a volume, a security module or a limit may give.
#[test]
fn f155_to_f159_every_call_and_every_error_end_in_a_token_or_in_a_failure_that_names_them_and_heals() {
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
    each(product(&product(&WAYS, &calls), &errors), |world, (((write_mode, before), call), error)| {
        let setup = world.setup(write_mode, before).set("DEXSIDECAR_OUTPUT_GROUP", "64155");
        let directory = setup.output().parent().map(Path::to_owned).expect("a directory");
        let (call, when) = call.split_once(':').unwrap_or((call, "when=1+"));
        let only = if ["openat", "renameat", "unlinkat"].contains(&call) {
            format!("-P {} ", directory.display())
        } else {
            String::new()
        };
        let (trace, setup) =
            Trace::of(setup, &format!("{only}-e trace={call} -e inject={call}:error={error}:{when}"));
        let done = setup.done(&["once", "--timeout", "500ms"]);
        let what =
            format!("{write_mode} {before:?} {call} {error}: {}{}", done.stderr, trace.lines().join("\n"));
        if done.code == Some(0) {
            assert!(world.is_whole(&setup.output()), "{what}");
        } else {
            let failures = lines(&done, "code=output_");
            assert!(!failures.is_empty(), "{what}");
            let path = setup.output().display().to_string();
            let named = |line: &&str| line.contains(&format!("{call}: ")) && line.contains(&path);
            assert!(failures.iter().all(named), "{what}");
        }
        // The fault goes.
        let next = Setup::new()
            .subject(&world.volume)
            .at_stand_in(&world.endpoint)
            .set("DEXSIDECAR_WRITE_MODE", write_mode)
            .set("dex_access_token_file", text(&setup.output()));
        assert_eq!(next.done(&["once"]).code, Some(0), "{what}");
        assert!(world.is_whole(&setup.output()), "{what}");
    });
}
