//! Each system call that writes the token, seen, refused and cut off by SIGKILL: what lies there is the old token or the new
//! one, and the next start heals.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::process::Process;
use dexsidecar_e2e::reader::{Judgement, Readers, Seen};
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::strace::Trace;
use dexsidecar_e2e::volume::Volume;
use rustix::process::{Pid, Signal, kill_process};

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
fn f075_f084_f103_the_way_into_the_file_is_in_order_and_in_one_folder() {
    let world = World::new();
    let setup = world.setup();
    let folder = setup.output().parent().expect("a folder").display().to_string();
    let (trace, setup) = Trace::of(
        setup,
        "-y -e trace=openat,fchmod,write,fsync,renameat,rename,renameat2,execve,clone,clone3,fork,vfork",
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

/// Each call fails in every way that it can, for as long as it likes: the old token stays whole, nothing is left behind, and
/// the next start writes the new one. `write` itself fails on a full disk: tests/files.rs.
#[test]
fn f079_f085_f090_f091_a_call_that_fails_costs_nothing_but_time() {
    let world = World::new();
    let ways: [(&str, &str, &[&str]); 6] = [
        // The first of its thread creates the temporary file.
        ("openat", "when=1", &["EMFILE", "ENOSPC", "EROFS", "EDQUOT", "ESTALE", "EACCES"]),
        ("fchmod", "when=1", &["EPERM", "EIO", "EROFS"]),
        ("fsync", "when=1", &["EIO", "ENOSPC", "EDQUOT"]),
        ("renameat", "when=1", &["ENOENT", "EIO", "EROFS", "ENOSPC", "EXDEV", "EINTR", "ESTALE", "EBUSY"]),
        // The name is taken: another is tried. A folder that cannot be synced or listed: done without.
        ("openat", "when=1", &["EEXIST"]),
        ("getdents64", "when=1", &["EIO"]),
    ];
    let all =
        ways.iter().flat_map(|(call, when, errors)| errors.iter().map(move |error| (*call, *when, *error)));
    let next = std::sync::Mutex::new(all);
    // What takes time here is waiting.
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some((call, when, error)) = next.lock().expect("no thread has fallen").next() else {
                        return;
                    };
                    fails(&world, call, when, error);
                }
            });
        }
    });
}

fn fails(world: &World, call: &str, when: &str, error: &str) {
    // EBUSY means a mount point, which is overwritten in place unless that is refused.
    let setup = world.setup().set("DEXSIDECAR_WRITE_MODE", "atomic");
    let folder = setup.output().parent().expect("a folder").display().to_string();
    let plain = Setup::new()
        .subject(&world.volume)
        .at_stand_in(&world.endpoint)
        .set("dex_access_token_file", setup.output().to_str().expect("UTF-8"));
    // Only what concerns the folder, so that the subject token's file and libraries are left alone.
    let path = if ["openat", "renameat", "getdents64"].contains(&call) {
        format!("-P {folder}")
    } else {
        String::new()
    };
    let output = setup.output();
    let readers = Readers::start(1, &output, |text| {
        if text == OLD || text.len() > 300 && text.matches('.').count() == 2 {
            Judgement::Good
        } else {
            Judgement::Torn
        }
    });
    let (trace, setup) =
        Trace::of(setup, &format!("{path} -e trace={call} -e inject={call}:error={error}:{when}"));
    let done = setup.done(&["once", "--timeout", "1s"]);
    let what = format!("{call} {error} {when}: {}{}", done.stderr, trace.lines().join("\n"));
    assert!(trace.lines().iter().any(|line| line.contains("INJECTED")), "never injected: {what}");
    let done_without = error == "EEXIST" || call == "getdents64";
    assert_eq!(done.code, Some(i32::from(!done_without)), "{what}");
    assert_eq!(done.stderr.contains("stage=output"), !done_without, "it is said: {what}");
    let token = fs::read_to_string(&output).expect("it is there");
    assert!(world.is_whole(&token) && (token == OLD) != done_without, "{what}");
    assert_eq!(names(&setup), ["token"], "nothing is left: {what}");
    assert_eq!(plain.done(&["once"]).code, Some(0), "{what}");
    let seen = readers.seen();
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default(), "{what}");
    assert!(fs::read_to_string(&output).is_ok_and(|token| token != OLD && world.is_whole(&token)), "{what}");
}

#[test]
fn f083_a_kill_at_any_step_leaves_the_old_or_the_new() {
    let world = World::new();
    for (call, when, replaced) in [
        ("fchmod", 1, false),
        ("write", 1, false),
        ("fsync", 1, false),
        ("renameat", 1, false),
        ("fsync", 2, true),
        ("getdents64", 1, true),
    ] {
        let setup = world.setup();
        let plain = Setup::new()
            .subject(&world.volume)
            .at_stand_in(&world.endpoint)
            .set("dex_access_token_file", setup.output().to_str().expect("UTF-8"));
        let inject = format!("-e trace={call} -e inject={call}:signal=SIGKILL:when={when}");
        let (trace, setup) = Trace::of(setup, &inject);
        let done = setup.done(&["once"]);
        let what = format!("{call} {when}: {}{}", done.stderr, trace.lines().join("\n"));
        assert_eq!(done.code, None, "it was killed: {what}");
        let token = fs::read_to_string(setup.output()).expect("it is there");
        assert!(world.is_whole(&token), "{what}");
        assert_eq!(token != OLD, replaced, "{what}");
        // An orphan may be left. It is swept when it is old, and in nobody's way until then.
        let orphans: Vec<_> = names(&setup).into_iter().filter(|name| name != "token").collect();
        assert!(orphans.len() <= 1, "{what}");
        for orphan in &orphans {
            let path = setup.output().with_file_name(orphan);
            let file = fs::File::options().write(true).open(path).expect("the orphan");
            let hour = std::time::Duration::from_secs(3_600);
            file.set_modified(std::time::SystemTime::now() - hour).expect("its owner may");
        }
        assert_eq!(plain.done(&["once"]).code, Some(0), "the next start: {what}");
        assert_eq!(names(&setup), ["token"], "{what}");
    }
}

/// While a write takes its time, signals are heard; the loop does not wait for the disk.
#[test]
fn f086_a_disk_that_stalls_holds_up_nothing() {
    let world = World::new();
    let (trace, setup) = Trace::of(world.setup(), "-e trace=fsync -e inject=fsync:delay_enter=20s");
    let output = setup.output();
    let mut sidecar = setup.run();
    world.endpoint.until_heard(1);
    sidecar.process.until("the write has begun", |_| {
        trace.lines().iter().any(|line| line.contains("fsync")) || names_in(&output) > 1
    });
    kill_process(child(&sidecar.process), Signal::TERM).expect("it runs");
    let status = sidecar.process.ended();
    assert!(status.code() == Some(0) || status.signal().is_none(), "{status:?}");
    assert_eq!(fs::read_to_string(&output).expect("it is there"), OLD);
}

fn names_in(output: &std::path::Path) -> usize {
    fs::read_dir(output.parent().expect("a folder")).map_or(0, Iterator::count)
}

/// strace's only child.
fn child(process: &Process) -> Pid {
    let pid = process.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
    Pid::from_raw(children.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a child"))
        .expect("a pid")
}

/// What a seccomp filter or an old kernel refuses is done without.
#[test]
fn f091_calls_that_are_a_luxury_are_done_without() {
    let world = World::new();
    world.endpoint.always(Answer::Token(4));
    for (call, error) in [
        ("timerfd_create", "EPERM"),
        ("timerfd_create", "ENOSYS"),
        ("getrandom", "ENOSYS"),
        ("prctl", "EPERM"),
        ("setrlimit,prlimit64", "EPERM"),
        ("statx", "ENOSYS"),
    ] {
        let (_trace, setup) =
            Trace::of(world.setup(), &format!("-e trace={call} -e inject={call}:error={error}"));
        let mut sidecar = setup.set("DEXSIDECAR_LOG", "info").run();
        sidecar.process.until_said("token written", 2);
        kill_process(child(&sidecar.process), Signal::TERM).expect("it runs");
        sidecar.process.ended();
    }
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
