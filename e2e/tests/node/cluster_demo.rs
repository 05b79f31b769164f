//! `cargo xtask demo --kubernetes`: it runs to its end, and leaves nothing behind however it ends.

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

pub(crate) const TESTS: &[Test] = tests![the_cluster_demo_runs_to_its_end_and_leaves_nothing];

/// The longest time that the demo may take to start and to run once.
const PATIENCE: Duration = Duration::from_secs(180);

fn demo(arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command.args(arguments);
    Process::start("the demo", command)
}

/// The mounts and the network interfaces of the machine, outside the sandbox.
fn mounts_and_interfaces() -> [Vec<String>; 2] {
    ["/proc/self/mountinfo", "/proc/net/dev"].map(|file| {
        let text = fs::read_to_string(file).expect("/proc is mounted");
        text.lines()
            .filter_map(|line| line.split_ascii_whitespace().nth(usize::from(file.ends_with("info")) * 4))
            .map(str::to_owned)
            .collect()
    })
}

/// The cgroups of this demo, one in each hierarchy.
fn cgroups(pid: u32) -> Vec<PathBuf> {
    let below = |directory: &Path| {
        fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path())
    };
    let root = Path::new("/sys/fs/cgroup");
    let deeper = below(root).filter(|path| path.is_dir()).flat_map(|path| below(&path).collect::<Vec<_>>());
    let own = format!("dexsidecar-{pid}");
    below(root).chain(deeper).filter(|path| path.ends_with(&own)).collect()
}

/// Whether a process is in this cgroup or in one below it.
fn has_process(cgroup: &Path) -> bool {
    let here = fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty());
    let entries = fs::read_dir(cgroup).into_iter().flatten().filter_map(Result::ok);
    here || entries.map(|entry| entry.path()).any(|path| path.is_dir() && has_process(&path))
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "this never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// This is one test, since it searches the whole machine for what a demo leaves.
fn the_cluster_demo_runs_to_its_end_and_leaves_nothing() {
    if let Err(why) = machine::look_for_node() {
        return prebuilt::skip("the_cluster_demo_runs_to_its_end_and_leaves_nothing", &why);
    }
    // The patience below is for the demo, not for building and fetching.
    Incus::prepare().and_then(|()| Node::prepare()).unwrap_or_else(|why| panic!("{why}"));
    let before = mounts_and_interfaces();

    let mut once = demo(&["--once-around"]);
    once.until_within(PATIENCE, "the demo ends", |demo| demo.lines_with("the demo ends here") == 1);
    assert!(once.wait().success(), "{}", once.timeline());
    let printed = [
        "auth: untrusted",
        "auth: trusted",
        "auth_user_name: system:serviceaccount:demo:app",
        "token written",
    ];
    for text in printed {
        assert_eq!(once.lines_with(text), 1, "{text}\n{}", once.timeline());
    }
    assert!(cgroups(once.pid()).is_empty(), "after the demo ended by itself");

    let mut stopped = demo(&[]);
    stopped
        .until_within(PATIENCE, "it waits for Ctrl-C", |demo| demo.lines_with("running until Ctrl-C") == 1);
    assert!(!cgroups(stopped.pid()).is_empty(), "this test sees the cgroups of a running demo");
    stopped.signal(Signal::INT);
    stopped.wait();
    assert!(cgroups(stopped.pid()).is_empty(), "after Ctrl-C");

    let mut killed = demo(&[]);
    killed.until_within(PATIENCE, "the pod is applied", |demo| demo.lines_with("kubectl apply") == 1);
    killed.kill();
    until("every process has ended", || !cgroups(killed.pid()).iter().any(|cgroup| has_process(cgroup)));
    // Only empty cgroups are left, and the next start removes them.
    sandbox::sweep();
    assert!(cgroups(killed.pid()).is_empty(), "after SIGKILL and a sweep");
    assert_eq!(mounts_and_interfaces(), before);
}
