//! A machine of the test's own: private namespaces for mounts, network, processes and names, so that nothing it does is
//! seen outside, and nothing is left when it ends. What is left all the same, empty cgroup folders, is swept.

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

use crate::process::tied;

/// The address of the bridge that pods are on.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

/// The bridge.
pub const BRIDGE: &str = "dexsidecar0";

/// Says to the program inside which cgroup folder is its own.
const CGROUP: &str = "DEXSIDECAR_E2E_CGROUP";

/// Where temporary files are inside: on a file system that ends with the namespaces.
const TEMPORARY: &str = "/run/dexsidecar";

/// What the kubelet wants the kernel's flags to be. They are told so, and not changed.
const FLAGS: [(&str, &str); 3] = [
    ("/proc/sys/vm/overcommit_memory", "1\n"),
    ("/proc/sys/kernel/panic", "10\n"),
    ("/proc/sys/kernel/panic_on_oops", "1\n"),
];

fn unshare() -> Command {
    // Dies with whoever starts it, and takes everything inside with it.
    let mut command = tied(Path::new("/usr/bin/unshare"));
    command.args(UNSHARE_NODE);
    command
}

/// Whether this process is the one inside.
#[must_use]
pub fn inside() -> bool {
    std::env::var_os(CGROUP).is_some()
}

/// The cgroup folder of the machine, below each hierarchy: `/dexsidecar-123`.
///
/// # Panics
/// Outside.
#[must_use]
pub fn cgroup() -> String {
    format!("/{}", std::env::var(CGROUP).expect("this is inside"))
}

/// Runs this program again, inside, with these arguments and variables, and hands its exit code on.
///
/// # Panics
/// When the program cannot be started; [`dexsidecar_fetch::machine::look_for_node`] says beforehand what is missing.
#[must_use]
pub fn run_inside(arguments: &[String], variables: &[(&str, &Path)]) -> ExitCode {
    sweep();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).expect("signals can be heard");
    }
    let cgroup = format!("dexsidecar-{}", std::process::id());
    let this = std::env::current_exe().expect("a program knows where it is");
    let mut child = unshare()
        .arg(this)
        .args(arguments)
        .envs(variables.iter().copied())
        .env(CGROUP, &cgroup)
        .env("TMPDIR", TEMPORARY)
        .spawn()
        .expect("unshare was there a moment ago");
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if stop.load(Ordering::SeqCst) {
            // The one inside may have heard it too; the kernel ends all that is left.
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

/// Makes the machine: called first inside, before there is a second thread.
///
/// # Panics
/// When the kernel refuses what it allowed a moment ago.
pub fn set_up() {
    for folder in ["/run", "/var/lib", "/var/log"] {
        let hidden = std::env::current_exe().is_ok_and(|this| this.starts_with(folder));
        assert!(!hidden, "this program lies below {folder}, which is hidden inside: build it elsewhere");
        mount("tmpfs", folder, "tmpfs", MountFlags::NODEV, None).expect("a tmpfs can be mounted");
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
        // Else it takes the lowest of its ports', and pods that know the one before lose it for seconds.
        vec!["link", "set", BRIDGE, "address", "0a:58:0a:58:00:01"],
        vec!["addr", "add", &address, "dev", BRIDGE],
        vec!["link", "set", BRIDGE, "up"],
    ] {
        let output = Command::new("ip").args(&line).output().expect("ip was there a moment ago");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {}: {error}", line.join(" "));
    }
    rustix::system::sethostname(b"node").expect("the name is this namespace's own");
    let cgroup = cgroup();
    for hierarchy in cgroup_hierarchies() {
        let own = hierarchy.join(&cgroup[1..]);
        fs::create_dir_all(&own).expect("a cgroup folder can be made");
        // A new cpuset is empty, and nothing can run in it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(content) = fs::read(hierarchy.join(file)) {
                let _ = fs::write(own.join(file), content);
            }
        }
    }
}

/// Removes what machines left whose process was killed.
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

/// Removes a cgroup folder and all below it, once the last process in it has ended.
fn remove(folder: &Path) {
    let start = Instant::now();
    while folder.exists() && start.elapsed() < Duration::from_secs(10) {
        remove_once(folder);
        if folder.exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn remove_once(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        if entry.path().is_dir() {
            remove_once(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}
