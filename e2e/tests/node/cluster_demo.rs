//! `cargo xtask demo --kubernetes`: it tells the story to its end, and leaves nothing behind, however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dexsidecar_e2e::incus::Incus;
use dexsidecar_e2e::node::Node;
use dexsidecar_e2e::process::Process;
use dexsidecar_e2e::{prebuilt, sandbox};
use dexsidecar_fetch::machine;
use rustix::process::Signal;

use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![it_tells_the_story_and_leaves_nothing];

/// A cluster that starts, and the whole story on it.
const PATIENCE: Duration = Duration::from_secs(180);

fn demo(arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command.args(arguments);
    Process::start("the demo", command)
}

/// What the machine sees of mounts and network interfaces.
fn seen_by_the_machine() -> [Vec<String>; 2] {
    ["/proc/self/mountinfo", "/proc/net/dev"].map(|file| {
        let text = fs::read_to_string(file).expect("the kernel tells");
        text.lines()
            .filter_map(|line| line.split_ascii_whitespace().nth(usize::from(file.ends_with("info")) * 4))
            .map(str::to_owned)
            .collect()
    })
}

/// The cgroup folders of this demo, one in each hierarchy.
fn folders(pid: u32) -> Vec<PathBuf> {
    let below = |folder: &Path| {
        fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path())
    };
    let root = Path::new("/sys/fs/cgroup");
    let deeper = below(root).filter(|path| path.is_dir()).flat_map(|path| below(&path).collect::<Vec<_>>());
    let own = format!("dexsidecar-{pid}");
    below(root).chain(deeper).filter(|path| path.ends_with(&own)).collect()
}

/// Whether a process is in it, or in a folder below.
fn is_inhabited(folder: &Path) -> bool {
    let here = fs::read_to_string(folder.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty());
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    here || entries.map(|entry| entry.path()).any(|path| path.is_dir() && is_inhabited(&path))
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "this never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One test, since what is left is looked for on the whole machine.
fn it_tells_the_story_and_leaves_nothing() {
    if let Err(why) = machine::look_for_node() {
        return prebuilt::skip("it_tells_the_story_and_leaves_nothing", &why);
    }
    // Whatever is built or fetched takes none of the patience.
    Incus::prepare().and_then(|()| Node::prepare()).unwrap_or_else(|why| panic!("{why}"));
    let before = seen_by_the_machine();

    let mut whole = demo(&["--once-around"]);
    whole.until_within(PATIENCE, "it is once around", |demo| demo.said("once around, as asked") == 1);
    assert!(whole.ended().success(), "{}", whole.timeline());
    let told = [
        "auth: untrusted",
        "auth: trusted",
        "auth_user_name: system:serviceaccount:demo:app",
        "token written",
    ];
    for told in told {
        assert_eq!(whole.said(told), 1, "{told}\n{}", whole.timeline());
    }
    assert!(folders(whole.pid()).is_empty(), "after it ended by itself");

    let mut stopped = demo(&[]);
    stopped.until_within(PATIENCE, "it waits for Ctrl-C", |demo| demo.said("it stays until Ctrl-C") == 1);
    assert!(!folders(stopped.pid()).is_empty(), "so that this test would see them");
    stopped.signal(Signal::INT);
    stopped.ended();
    assert!(folders(stopped.pid()).is_empty(), "after Ctrl-C");

    let mut killed = demo(&[]);
    killed.until_within(PATIENCE, "the pod is there", |demo| demo.said("kubectl apply") == 1);
    killed.kill();
    until("every process has ended", || !folders(killed.pid()).iter().any(|folder| is_inhabited(folder)));
    // Only empty folders are left, and the next start sweeps them.
    sandbox::sweep();
    assert!(folders(killed.pid()).is_empty(), "after SIGKILL and a sweep");
    assert_eq!(seen_by_the_machine(), before);
}
