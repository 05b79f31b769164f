//! Each system call that writes the token, failed in every way that it can, for as long as it likes: what lies there is the
//! old token or the new one, nothing else is left, and the next start heals.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use dexsidecar_e2e::endpoint::Endpoint;
use dexsidecar_e2e::reader::{Judgement, Readers, Seen};
use dexsidecar_e2e::sidecar::{Setup, Sidecar, program, shipped};
use dexsidecar_e2e::strace::Trace;
use dexsidecar_e2e::volume::Volume;
use rustix::process::Signal;

/// A token of before, that any endpoint's is better than: it has expired.
const OLD: &str = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3MDAwMDAwMDB9.sig";

/// What a full, failed_step, read-only, limited, busy or vanished file system says.
const EVERY: [&str; 7] = ["ENOSPC", "EIO", "EROFS", "EDQUOT", "EMFILE", "EBUSY", "ENOENT"];

/// What comes of a call that fails each time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    /// The old token stays, it is told, and each new try takes a new temporary file.
    OldStays,
    /// The same, but the temporary files stay too, until they are old.
    OldStaysWithOrphans,
    /// The new token is there, but who knows for how long: it is told, and written again.
    NewIsUnsure,
    /// It is done without.
    NewIsThere,
}

/// One way to fail.
#[derive(Clone, Debug)]
struct Way {
    /// The call, with what selects it among others of its name.
    call: &'static str,
    error: &'static str,
    then: Then,
}

fn ways() -> Vec<Way> {
    use Then::{NewIsThere, NewIsUnsure, OldStays, OldStaysWithOrphans};
    let whole: [(&str, &[&str], Then); 28] = [
        // The first `openat` of the thread that writes makes the temporary file. Further errors are those of network file
        // systems and security modules.
        ("openat when=1", &EVERY, OldStays),
        ("openat when=1", &["ESTALE", "EACCES", "EPERM"], OldStays),
        // The name is taken, or a signal came between: another name is tried, but not for ever.
        ("openat when=1", &["EEXIST", "EINTR"], NewIsThere),
        ("openat when=1+", &["EEXIST", "EINTR"], OldStays),
        ("fchmod when=1", &EVERY, OldStays),
        ("fchmod when=1", &["ESTALE"], OldStays),
        // A volume that has one mode for all files (F155).
        ("fchmod when=1", &["EPERM", "EACCES", "EOPNOTSUPP", "ENOSYS", "EINVAL"], NewIsThere),
        ("write when=1", &EVERY, OldStays),
        ("write when=1", &["EFBIG", "ESTALE"], OldStays),
        ("write when=1", &["EINTR"], NewIsThere),
        ("fsync when=1", &["ENOSPC", "EIO", "EDQUOT", "EMFILE", "EBUSY", "ENOENT", "ESTALE"], OldStays),
        // A volume that cannot flush a file (F156).
        ("fsync when=1", &["EROFS", "EINVAL", "EOPNOTSUPP", "ENOSYS", "EPERM", "EACCES"], NewIsThere),
        ("renameat when=1", &EVERY, OldStays),
        ("renameat when=1", &["EACCES", "EPERM", "EXDEV", "ESTALE"], OldStays),
        // A signal came between: the call is repeated, but not without end.
        ("fchmod when=1", &["EINTR"], NewIsThere),
        ("fsync when=1", &["EINTR"], NewIsThere),
        ("renameat when=1", &["EINTR"], NewIsThere),
        ("fchmod when=1+", &["EINTR"], OldStays),
        ("fsync when=1+", &["EINTR"], OldStays),
        ("renameat when=1+", &["EINTR"], OldStays),
        // A volume that cannot rename (F158).
        ("renameat when=1+", &["ENOSYS", "EOPNOTSUPP", "EPERM", "EXDEV", "EINVAL"], OldStays),
        // The folder's. Some file systems cannot do it for a folder, and say so in many ways.
        ("fsync when=2", &["EIO", "ENOSPC", "EDQUOT"], NewIsUnsure),
        ("fsync when=2", &["EROFS", "EMFILE", "EBUSY", "ENOENT", "EINVAL"], NewIsThere),
        // Of what a failed rename leaves.
        ("unlinkat when=1+", &EVERY, OldStaysWithOrphans),
        // Some volumes write the content only when the file is closed (F157). Other answers mean nothing: all that
        // counts was flushed before.
        ("close when=1+", &["ENOSPC", "EIO", "EDQUOT"], OldStays),
        ("close when=1+", &["EROFS", "EMFILE", "EBUSY", "ENOENT", "EINTR"], NewIsThere),
        // A folder that cannot be listed is not swept.
        ("getdents64 when=1", &["EIO"], NewIsThere),
        ("getdents64 when=1", &["EACCES"], NewIsThere),
    ];
    let of = |(call, errors, then): &(&'static str, &'static [&'static str], Then)| {
        let (call, then) = (*call, *then);
        errors.iter().map(move |error| Way { call, error, then }).collect::<Vec<_>>()
    };
    whole.iter().flat_map(of).collect()
}

#[test]
fn f079_f083_f085_f090_f091_a_call_that_fails_costs_nothing_but_time() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let next = Mutex::new(ways().into_iter());
    // What takes time here is waiting.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(way) = next.lock().expect("no thread has fallen").next() else { return };
                    fails(&endpoint, &volume, &way);
                }
            });
        }
    });
}

/// What must never fail does: the event loop's own call. A panic ends the process, so that the kubelet starts another, and
/// nothing is left that runs and does nothing.
#[test]
fn f104_what_ships_aborts_when_it_panics_and_its_token_stays() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = || Setup::new().subject(&volume).at_stand_in(&endpoint);
    let before = setup();
    assert_eq!(before.done(&["once"]).code, Some(0));
    let token = fs::read_to_string(before.output()).expect("it was written");
    // The first time that it waits: for its next exchange, or for the connection of its first.
    for held in [true, false] {
        let calls = "epoll_wait,epoll_pwait";
        let inject = format!("-e trace={calls} -e inject={calls}:error=EBADF");
        let (trace, setup) = Trace::of_program(shipped(), setup(), &inject);
        if held {
            fs::write(setup.output(), &token).expect("a folder of its own");
        }
        let mut sidecar = setup.run();
        let status = sidecar.process.ended();
        let what = format!("{status}\n{}{}", sidecar.process.timeline(), trace.lines().join("\n"));
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{what}");
        assert_eq!(sidecar.process.said("panic"), 1, "it says so: {what}");
        assert_eq!(sidecar.token(), held.then(|| token.clone()), "{what}");
        assert_eq!(names(sidecar.setup().folder()).len(), usize::from(held), "{what}");
    }
}

fn fails(endpoint: &Endpoint, volume: &Volume, way: &Way) {
    let base = Setup::new().subject(volume).at_stand_in(endpoint);
    let folder = base.folder().join("output");
    fs::create_dir(&folder).expect("a temporary folder");
    let output = folder.join("token");
    fs::write(&output, OLD).expect("a temporary folder");
    let of_file = |setup: Setup| setup.set("dex_access_token_file", output.to_str().expect("UTF-8"));
    let ledger = endpoint.ledger();
    let readers = Readers::start(1, &output, move |text| {
        // Others run beside this one, on few processors.
        std::thread::sleep(Duration::from_millis(1));
        if text == OLD { Judgement::Good } else { ledger(text) }
    });
    // EBUSY means a mount point, which is overwritten in place unless that is refused.
    let setup = of_file(base).set("DEXSIDECAR_WRITE_MODE", "atomic");
    // A loader of libraries, which takes it badly when it cannot close one, is no part of what ships.
    let program = if way.call.starts_with("close") { shipped() } else { program() };
    let (trace, setup) = Trace::of_program(program, setup, &arguments(way, &folder));
    let mut sidecar = setup.run();
    plays(&mut sidecar, &trace, way);
    sidecar.process.signal_child(Signal::TERM);
    let ended = sidecar.process.ended_within(Duration::from_secs(20));
    let what = format!("{way:?}: {}{}", sidecar.process.timeline(), trace.lines().join("\n"));
    assert_eq!(ended, Some(Some(0)), "{what}");
    assert!(trace.lines().iter().any(|line| line.contains("INJECTED")), "never injected: {what}");
    let token = fs::read_to_string(&output).expect("it is there");
    let old_stays = matches!(way.then, Then::OldStays | Then::OldStaysWithOrphans);
    assert_eq!(token == OLD, old_stays, "{what}");
    let left = names(&folder);
    assert_eq!(left.len() > 1, way.then == Then::OldStaysWithOrphans, "{left:?} {what}");
    for orphan in left.iter().filter(|name| *name != "token") {
        let file = File::options().write(true).open(folder.join(orphan)).expect("the orphan");
        file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).expect("its owner may");
    }
    let next = of_file(Setup::new().subject(volume).at_stand_in(endpoint));
    assert_eq!(next.done(&["once"]).code, Some(0), "the next start: {what}");
    let seen = readers.seen();
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default(), "{what}");
    assert_ne!(fs::read_to_string(&output).expect("it is there"), OLD, "{what}");
    assert_eq!(names(&folder), ["token"], "{what}");
}

/// strace's arguments.
fn arguments(way: &Way, folder: &Path) -> String {
    let (call, when) = way.call.split_once(' ').expect("a call, and when");
    // Only what concerns the folder, so that the subject token's file and libraries are left alone. A temporary file has no
    // path that would be known now.
    let path = if ["openat", "renameat", "getdents64", "unlinkat"].contains(&call) {
        format!("-P {} ", folder.display())
    } else {
        String::new()
    };
    let rename = if call == "unlinkat" { ",renameat -e inject=renameat:error=EIO" } else { "" };
    let made = if call == "openat" || !path.is_empty() { "" } else { ",openat" };
    format!("{path}-e trace={call}{made}{rename} -e inject={call}:error={}:{when}", way.error)
}

/// Waits until it has come to what it must come to.
fn plays(sidecar: &mut Sidecar, trace: &Trace, way: &Way) {
    if way.then == Then::NewIsThere {
        sidecar.process.until_logged("token_written", 1);
        assert_eq!(sidecar.process.logged("step=output"), 0, "{way:?}: {}", sidecar.process.timeline());
        return;
    }
    sidecar.process.until_logged("step=output", 1);
    let another = |words: &str| {
        let lines = trace.lines();
        let names = lines.iter().filter(|line| line.contains(words)).filter_map(|line| {
            line.split(".dexsidecar-").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned)
        });
        names.collect::<HashSet<_>>().len() > 1
    };
    let words = if way.call.starts_with("unlinkat") { "renameat(" } else { ".dexsidecar-" };
    sidecar.process.until("it is tried again, with a new temporary file", |_| another(words));
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
