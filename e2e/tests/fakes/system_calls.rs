//! Each system call that writes the token, seen, stalled, refused and cut off by SIGKILL: what lies there is the old token or
//! the new one, and the next start heals. (Those that fail: failed_calls.rs.)

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::sidecar::{Setup, program};
use dexsidecar_e2e::strace::Trace;
use dexsidecar_e2e::volume::Volume;
use rustix::process::Signal;

/// A token of before, that any endpoint's is better than: it has expired.
const OLD: &str = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3MDAwMDAwMDB9.sig";

struct World {
    endpoint: Endpoint,
    volume: Volume,
}

impl World {
    fn new() -> Self {
        Self { endpoint: Endpoint::start("127.0.0.1:0", None), volume: Volume::with("eyJh.eyJi.canary") }
    }

    /// A sidecar with the old token in its file.
    fn setup(&self) -> Setup {
        let setup =
            Setup::new().subject(&self.volume).at_stand_in(&self.endpoint).set("DEXSIDECAR_LOG", "error");
        let folder = setup.folder().join("output");
        fs::create_dir(&folder).expect("a temporary folder");
        let output = folder.join("token");
        fs::write(&output, OLD).expect("a temporary folder");
        setup.set("dex_access_token_file", output.to_str().expect("UTF-8"))
    }

    fn is_whole(&self, token: &str) -> bool {
        token == OLD || self.endpoint.issued().iter().any(|issued| issued == token)
    }
}

fn names(setup: &Setup) -> Vec<String> {
    let folder = setup.output().parent().expect("a folder").to_owned();
    let entries = fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What must have happened before what, so that a power loss at any point leaves the old or the new.
#[test]
fn f075_f084_f103_f157_the_way_into_the_file_is_in_order_and_in_one_folder() {
    let world = World::new();
    let setup = world.setup();
    let folder = setup.output().parent().expect("a folder").display().to_string();
    let (trace, setup) = Trace::of(
        setup,
        "-y -e trace=openat,fchmod,write,fsync,close,renameat,rename,renameat2,execve,clone,clone3,fork,vfork",
    );
    assert_eq!(setup.done(&["once"]).code, Some(0));
    let lines = trace.lines();
    let at = |what: &str, holds: &dyn Fn(&str) -> bool| {
        let found = lines.iter().position(|line| holds(line));
        found.unwrap_or_else(|| panic!("{what} is not in the trace\n{}", lines.join("\n")))
    };
    let temporary = |line: &str| line.contains("/.dexsidecar-");
    let order = [
        at("the creation", &|line| {
            line.contains("O_EXCL") && line.contains(&format!("<{folder}>, \".dexsidecar-"))
        }),
        at("the mode", &|line| line.contains("fchmod(") && temporary(line)),
        at("the content", &|line| line.contains("write(") && temporary(line)),
        at("the file's fsync", &|line| line.contains("fsync(") && temporary(line)),
        at("the close", &|line| line.contains("close(") && temporary(line)),
        at("the rename", &|line| {
            line.contains("rename")
                && line.matches(&format!("<{folder}>")).count() == 2
                && line.contains("\"token\"")
        }),
        at("the folder's fsync", &|line| line.contains("fsync(") && line.contains(&format!("<{folder}>)"))),
    ];
    assert!(order.is_sorted(), "{order:?}\n{}", lines.join("\n"));
    let creation = &lines[order[0]];
    assert!(creation.contains("O_NOFOLLOW") && creation.contains("0600"), "{creation}");
    // No child: threads, and the program itself. Each line is a pid and a call.
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
fn f083_a_kill_at_any_step_leaves_the_old_or_the_new() {
    let world = World::new();
    for (call, when, replaced) in [
        ("fchmod", 1, false),
        ("fsync", 1, false),
        ("renameat", 1, false),
        ("fsync", 2, true),
        ("getdents64", 1, true),
    ] {
        let setup = world.setup();
        let inject = format!("-e trace={call} -e inject={call}:signal=SIGKILL:when={when}");
        let (trace, setup) = Trace::of(setup, &inject);
        let done = setup.done(&["once"]);
        let what = format!("{call} {when}: {}{}", done.stderr, trace.lines().join("\n"));
        assert_eq!(done.code, None, "it was killed: {what}");
        let token = fs::read_to_string(setup.output()).expect("it is there");
        assert!(world.is_whole(&token), "{what}");
        assert_eq!(token != OLD, replaced, "{what}");
        // What was made and not renamed is left: it is in nobody's way, and swept when it is old.
        let orphans = orphans(&setup);
        assert_eq!(orphans.len(), usize::from(!replaced), "{orphans:?}: {what}");
        heals(&world, &setup, &what);
    }
}

/// Overwriting in place is what it is asked not to do where it can be helped: a kill may leave a mixture, and the next start
/// heals that too.
#[test]
fn f080_f083_a_kill_while_a_file_is_overwritten_in_place_is_healed_by_the_next_start() {
    let world = World::new();
    for call in ["fchmod", "ftruncate", "fsync"] {
        let setup = world.setup().set("DEXSIDECAR_WRITE_MODE", "in-place");
        // What is longer than a token leaves a rest behind it.
        fs::write(setup.output(), OLD.repeat(20)).expect("its folder is there");
        let inject = format!("-e trace={call} -e inject={call}:signal=SIGKILL:when=1");
        let (trace, setup) = Trace::of(setup, &inject);
        let done = setup.done(&["once"]);
        assert_eq!(done.code, None, "{call}: {}{}", done.stderr, trace.lines().join("\n"));
        let left = fs::read_to_string(setup.output()).expect("it is there");
        assert_eq!(world.is_whole(&left), call == "fsync", "{call}: {left}");
        heals(&world, &setup, call);
    }
}

/// Half of the token is in the temporary file when no more may be written there: the kernel's signal for that is no end, and the
/// half is taken away again.
#[test]
fn f085_half_of_a_write_leaves_the_old_and_nothing_else() {
    let world = World::new();
    let setup = world.setup();
    // No file of its own may become longer than this.
    let setup = setup.program(&["/usr/bin/prlimit".as_ref(), "--fsize=200".as_ref(), &program()]);
    let done = setup.done(&["once", "--timeout", "1s"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(
        done.stderr.contains("File too large") && done.stderr.contains("code=output_failed"),
        "{}",
        done.stderr
    );
    assert_eq!(fs::read_to_string(setup.output()).expect("it is there"), OLD);
    assert!(orphans(&setup).is_empty());
    heals(&world, &setup, "half of a token");
}

/// A power failure may leave half of a token in a temporary file, too.
#[test]
fn f083_half_of_a_token_beside_the_file_is_in_nobody_s_way() {
    let world = World::new();
    let setup = world.setup();
    fs::write(setup.output().with_file_name(".dexsidecar-00112233445566778899aabbccddeeff"), "eyJhbGciOi")
        .expect("its folder is there");
    heals(&world, &setup, "half of a token from before");
}

/// What a killed one left.
fn orphans(setup: &Setup) -> Vec<PathBuf> {
    let left = names(setup).into_iter().filter(|name| name != "token");
    left.map(|name| setup.output().with_file_name(name)).collect()
}

/// A later start puts the new token there, and nothing else.
fn heals(world: &World, setup: &Setup, what: &str) {
    for orphan in orphans(setup) {
        let file = fs::File::options().write(true).open(orphan).expect("the orphan");
        let hour = Duration::from_secs(3_600);
        file.set_modified(std::time::SystemTime::now() - hour).expect("its owner may");
    }
    let plain = Setup::new()
        .subject(&world.volume)
        .at_stand_in(&world.endpoint)
        .set("dex_access_token_file", setup.output().to_str().expect("UTF-8"));
    assert_eq!(plain.done(&["once"]).code, Some(0), "the next start: {what}");
    assert_eq!(names(setup), ["token"], "{what}");
    let token = fs::read_to_string(setup.output()).expect("it is there");
    assert!(token != OLD && world.is_whole(&token), "{what}");
}

/// While a write takes its time, signals are heard; the loop does not wait for the disk.
#[test]
fn f086_a_disk_that_stalls_holds_up_nothing() {
    let world = World::new();
    let (trace, setup) =
        Trace::of(world.setup(), "-e trace=fsync,exit_group -e inject=fsync:delay_enter=30s");
    let output = setup.output();
    let mut sidecar = setup.run();
    world.endpoint.until_heard(1);
    sidecar.process.until("the write has begun", |_| {
        trace.lines().iter().any(|line| line.contains("fsync")) || names_in(&output) > 1
    });
    sidecar.process.signal_child(Signal::TERM);
    // Long before the disk is done. strace waits for that, but has seen it.
    sidecar.process.until_within(Duration::from_secs(10), "it ends with 0", |_| {
        trace.lines().iter().any(|line| line.contains("exit_group(0)"))
    });
    assert_eq!(fs::read_to_string(&output).expect("it is there"), OLD);
}

fn names_in(output: &Path) -> usize {
    fs::read_dir(output.parent().expect("a folder")).map_or(0, Iterator::count)
}

/// What a seccomp filter or an old kernel refuses is done without.
#[test]
fn f091_calls_that_are_a_luxury_are_done_without() {
    let world = World::new();
    world.endpoint.always(Answer::Token(4));
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
                    let Some((call, error)) = next.lock().expect("no thread has fallen").next() else {
                        return;
                    };
                    done_without(&world, call, error);
                }
            });
        }
    });
}

fn done_without(world: &World, call: &str, error: &str) {
    let (trace, setup) = Trace::of(world.setup(), &format!("-e trace={call} -e inject={call}:error={error}"));
    let mut sidecar = setup.set("DEXSIDECAR_LOG", "info").run();
    sidecar.process.until_logged("token_written", 2);
    sidecar.process.signal_child(Signal::TERM);
    let what = format!("{call} {error}");
    assert_eq!(sidecar.process.ended_within(Duration::from_secs(20)), Some(Some(0)), "{what}");
    let injected = trace.lines().iter().any(|line| line.contains("INJECTED"));
    assert!(injected, "never injected: {what}\n{}", trace.lines().join("\n"));
}

/// What ships is confined, where the kernel can do it; what `wait` becomes is not.
#[test]
fn the_program_takes_away_from_itself_what_it_never_needs() {
    let world = World::new();
    let restricted = |command: &[&str]| {
        let setup = world.setup();
        // For `wait`; an exchange puts another in its place.
        fs::write(setup.output(), "opaque").expect("a folder of its own");
        let (trace, setup) = Trace::of(setup, "-e trace=landlock_create_ruleset,landlock_restrict_self");
        let done = setup.arguments("--timeout 20s").done(command);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let lines = trace.lines();
        let has = |words: &str| lines.iter().any(|line| line.contains(words));
        // The first of them asks what the kernel has.
        (has("LANDLOCK_CREATE_RULESET_VERSION"), has("landlock_restrict_self"), has("= -1 E"))
    };
    let (asked, done, refused) = restricted(&["once"]);
    assert!(asked && (done || refused), "asked: {asked}, done: {done}, refused: {refused}");
    assert_eq!(restricted(&["wait", "--", "/bin/true"]), (false, false, false));
}

/// Root without its capabilities is an owner like others: it cannot open a file of mode 0400 for writing.
#[test]
fn f159_on_a_volume_without_rename_a_mode_that_forbids_its_owner_to_write_is_no_obstacle() {
    let world = World::new();
    for mode in ["0400", "0444"] {
        let setup = world.setup().set("DEXSIDECAR_OUTPUT_MODE", mode);
        let script = setup.folder().join("as-owner");
        let drop = "setpriv --bounding-set=-all --inh-caps=-all";
        let drop = if rustix::process::geteuid().is_root() { drop } else { "" };
        fs::write(&script, format!("#!/bin/sh\nexec {drop} {} \"$@\"\n", program().display()))
            .expect("a temporary directory");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its owner may");
        let inject = "-e trace=renameat,fchmod,openat -e inject=renameat:error=ENOSYS";
        let (trace, setup) = Trace::of_program(script, setup, inject);
        for _ in 0..3 {
            let done = setup.done(&["once", "--timeout", "2s"]);
            let what = format!("{mode}: {}{}", done.stderr, trace.lines().join("\n"));
            assert!(done.code == Some(0) && !done.stderr.contains("code="), "{what}");
            assert_eq!(
                world.endpoint.issued().last(),
                fs::read_to_string(setup.output()).ok().as_ref(),
                "{what}"
            );
            let is = fs::metadata(setup.output()).expect("a file").mode() & 0o7777;
            assert_eq!(format!("{is:04o}"), mode, "{what}");
        }
        // The second and the third time it was forbidden first.
        assert!(
            trace.lines().iter().any(|line| line.contains("EACCES")),
            "{mode}: {}",
            trace.lines().join("\n")
        );
    }
}
