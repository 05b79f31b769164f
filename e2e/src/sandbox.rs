//! A sandbox for tests: private namespaces for mounts, network, processes and host name. Nothing it
//! does is visible outside, and the kernel removes everything when it ends, except empty cgroup
//! directories, which [`sweep`] removes.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dexsidecar_fetch::machine::{UNSHARE_NODE, cgroup_hierarchies};
use rustix::mount::{MountFlags, mount, mount_bind};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::process::killed_with_parent;

/// The address of the bridge that connects pods.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

/// The name of the bridge.
pub const BRIDGE: &str = "dexsidecar0";

/// The environment variable with the name of the sandbox's cgroup directory, set inside.
const CGROUP: &str = "DEXSIDECAR_E2E_CGROUP";

/// The directory for temporary files inside, on a file system that ends with the namespaces.
const TEMPORARY: &str = "/run/dexsidecar";

/// The kernel parameters that the kubelet requires. Files with these values are mounted over the
/// real ones; the kernel is not changed.
const FLAGS: [(&str, &str); 3] = [
    ("/proc/sys/vm/overcommit_memory", "1\n"),
    ("/proc/sys/kernel/panic", "10\n"),
    ("/proc/sys/kernel/panic_on_oops", "1\n"),
];

fn unshare() -> Command {
    // It is killed with its parent, and the sandbox with it.
    let mut command = killed_with_parent(Path::new("/usr/bin/unshare"));
    command.args(UNSHARE_NODE);
    command
}

/// True inside the sandbox.
#[must_use]
pub fn inside() -> bool {
    std::env::var_os(CGROUP).is_some()
}

/// The cgroup of the sandbox, below each hierarchy: `/dexsidecar-123`.
///
/// # Panics
/// Outside the sandbox.
#[must_use]
pub fn cgroup() -> String {
    format!("/{}", std::env::var(CGROUP).expect("this runs inside the sandbox"))
}

/// Runs this program inside a sandbox, with these arguments and variables, and gives its exit code.
///
/// # Panics
/// If the program cannot be started; [`dexsidecar_fetch::machine::look_for_node`] checks beforehand
/// what is missing.
#[must_use]
pub fn run_inside(arguments: &[String], variables: &[(&str, &Path)]) -> ExitCode {
    sweep();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).expect("signal handlers can be installed");
    }
    let cgroup = format!("dexsidecar-{}", std::process::id());
    let this = std::env::current_exe().expect("the path of this program");
    let mut child = unshare()
        .arg(this)
        .args(arguments)
        .envs(variables.iter().copied())
        .env(CGROUP, &cgroup)
        .env("TMPDIR", TEMPORARY)
        .spawn()
        .expect("unshare can be started");
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            break status;
        }
        if stop.load(Ordering::SeqCst) {
            // When it dies, the kernel kills every process of the sandbox.
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    for hierarchy in cgroup_hierarchies() {
        remove(&hierarchy.join(&cgroup));
    }
    code(status)
}

fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Sets the sandbox up. It is called inside, before there is a second thread.
///
/// # Panics
/// If the kernel refuses a step.
pub fn set_up() {
    for directory in ["/run", "/var/lib", "/var/log"] {
        let hidden = std::env::current_exe().is_ok_and(|this| this.starts_with(directory));
        assert!(!hidden, "this program is below {directory}, which the sandbox hides: build it elsewhere");
        mount("tmpfs", directory, "tmpfs", MountFlags::NODEV, None).expect("a tmpfs can be mounted");
    }
    fs::create_dir(TEMPORARY).expect("it is empty");
    for (index, (flag, content)) in FLAGS.into_iter().enumerate() {
        let file = Path::new(TEMPORARY).join(format!("flag-{index}"));
        fs::write(&file, content).expect("it can be written to");
        mount_bind(&file, flag).expect("a file can be mounted over another");
    }
    let address = format!("{ADDRESS}/24");
    for line in [
        vec!["link", "set", "lo", "up"],
        vec!["link", "add", BRIDGE, "type", "bridge"],
        // Otherwise the bridge takes the lowest address of its ports. When that changes, pods
        // cannot reach it for seconds.
        vec!["link", "set", BRIDGE, "address", "0a:58:0a:58:00:01"],
        vec!["addr", "add", &address, "dev", BRIDGE],
        vec!["link", "set", BRIDGE, "up"],
    ] {
        let output = Command::new("ip").args(&line).output().expect("ip can be started");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {}: {error}", line.join(" "));
    }
    rustix::system::sethostname(b"node").expect("the sandbox has its own host name");
    let cgroup = cgroup();
    for hierarchy in cgroup_hierarchies() {
        let own = hierarchy.join(&cgroup[1..]);
        fs::create_dir_all(&own).expect("a cgroup can be created");
        // A new cpuset has no CPUs, so that no process can run in it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(content) = fs::read(hierarchy.join(file)) {
                let _ = fs::write(own.join(file), content);
            }
        }
    }
}

/// Removes the cgroup directories of sandboxes whose process was killed.
pub fn sweep() {
    for hierarchy in cgroup_hierarchies() {
        for entry in fs::read_dir(hierarchy).into_iter().flatten().filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("dexsidecar-").filter(|pid| pid.parse::<u32>().is_ok());
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove(&entry.path());
            }
        }
    }
}

/// Removes a cgroup and those below it, once the last process in it has ended.
fn remove(cgroup: &Path) {
    let start = Instant::now();
    while cgroup.exists() && start.elapsed() < Duration::from_secs(10) {
        remove_once(cgroup);
        if cgroup.exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn remove_once(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().filter_map(Result::ok) {
        if entry.path().is_dir() {
            remove_once(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}
