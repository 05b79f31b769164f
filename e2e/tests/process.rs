//! How the process behaves towards the machine: signals, threads, its memory's privacy, its log.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::process::{PATIENCE, tied};
use dexsidecar_e2e::sidecar::{Setup, Sidecar, program};
use dexsidecar_e2e::volume::Volume;
use rustix::process::Signal;

fn setup(endpoint: &Endpoint, volume: &Volume) -> Setup {
    Setup::new().subject(volume).at_stand_in(endpoint)
}

fn status(sidecar: &Sidecar, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn f101_a_signal_ends_it_with_0_from_every_state() {
    let volume = Volume::with("eyJh.eyJi.canary");
    for signal in [Signal::TERM, Signal::INT] {
        let idle = Endpoint::start("127.0.0.1:0", None);
        let mut sidecar = setup(&idle, &volume).run();
        sidecar.process.until_said("token written", 1);
        sidecar.process.signal(signal);
        assert_eq!(sidecar.process.ended().code(), Some(0), "idle");

        let silent = Endpoint::start("127.0.0.1:0", None);
        silent.always(Answer::Silence);
        let mut sidecar = setup(&silent, &volume).run();
        silent.until_heard(1);
        sidecar.process.signal(signal);
        assert_eq!(sidecar.process.ended().code(), Some(0), "in the middle of an exchange");

        drop(idle);
        let mut sidecar = setup(&silent, &volume).set("dex_endpoint", "http://127.0.0.1:1/token").run();
        sidecar.process.until_said("code=connect_refused", 1);
        sidecar.process.signal(signal);
        assert_eq!(sidecar.process.ended().code(), Some(0), "between two tries");
    }
}

#[test]
fn f100_as_pid_1_it_hears_sigterm() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = setup(&endpoint, &volume);
    let mut command = tied("/usr/bin/unshare".as_ref());
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL", "env", "-i"]);
    command.args(setup.environment().iter().map(|line| line.replace('\'', ""))).arg(program());
    let mut process = dexsidecar_e2e::process::Process::start("dexsidecar as PID 1", command);
    process.until_said("token written", 1);
    // unshare's only child is PID 1 of the new namespace.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.pid())).unwrap();
    let pid = children.split_ascii_whitespace().next().expect("unshare has a child").parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    assert_eq!(process.ended().code(), Some(0), "{}", process.output());
}

#[test]
fn one_thread_when_idle_and_nothing_to_be_looked_into() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let mut sidecar = setup(&endpoint, &volume).run();
    sidecar.process.until_said("token written", 1);
    let pid = sidecar.process.pid();
    let threads = format!("/proc/{pid}/task");
    sidecar.process.until("only one thread is left", |_| fs::read_dir(&threads).unwrap().count() == 1);
    assert_eq!(status(&sidecar, "NoNewPrivs:"), "1");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_ascii_whitespace().skip(4).take(2).all(|limit| limit == "0"), "{core}");
    // Not dumpable: /proc/PID belongs to root, whoever runs it.
    assert_eq!(fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(), 0);
    // A signal that nobody expects ends nothing.
    sidecar.process.signal(Signal::PIPE);
    assert!(sidecar.process.runs());
}

#[test]
fn f123_a_peer_of_the_same_uid_cannot_read_its_environment() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = setup(&endpoint, &volume);
    for path in [setup.folder(), volume.token().parent().unwrap()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let copy = setup.folder().join("dexsidecar");
    fs::copy(program(), &copy).unwrap();
    // Root may read everything, so it becomes another uid first; anybody else is a peer already.
    let pod: &[&str] = if rustix::process::geteuid().is_root() {
        &["setpriv", "--reuid", "65532", "--regid", "65532", "--clear-groups", "env"]
    } else {
        &["env"]
    };
    let mut command = Command::new(pod[0]);
    command.args(&pod[1..]).arg("-i");
    command.args(setup.environment().iter().map(|line| line.replace('\'', ""))).arg(&copy);
    let mut process = dexsidecar_e2e::process::Process::start("dexsidecar", command);
    process.until_said("token written", 1);
    let peer = Command::new(pod[0])
        .args(&pod[1..])
        .args(["cat", &format!("/proc/{}/environ", process.pid())])
        .output()
        .unwrap();
    assert!(!peer.status.success() && peer.stdout.is_empty(), "{}", String::from_utf8_lossy(&peer.stderr));
}

#[test]
fn f108_a_log_that_nobody_reads_stops_nothing() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(1));
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = setup(&endpoint, &volume).set("DEXSIDECAR_LOG", "debug");
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 8192).unwrap();
    let mut child = tied(&program())
        .env_clear()
        .envs(setup.environment().iter().map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.trim_matches('\'').to_owned())
        }))
        .stdin(Stdio::null())
        .stderr(writer)
        .spawn()
        .unwrap();
    // Two pages of log are full after a few exchanges; they go on.
    endpoint.until_heard(9);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE, "it does not end");
    }
    let mut said = String::new();
    { reader }.read_to_string(&mut said).unwrap();
    assert!(said.lines().count() > 3 && said.len() <= 8192, "{said}");
}

#[test]
fn json_lines_are_json_and_the_last_failure_is_left_for_the_kubelet() {
    let volume = Volume::with("eyJh.eyJi.canary");
    let base = Setup::new().subject(&volume).set("dex_endpoint", "http://127.0.0.1:1/token");
    let left = base.folder().join("termination-log");
    fs::write(&left, "").unwrap();
    let mut sidecar =
        base.set("DEXSIDECAR_TERMINATION_LOG", left.to_str().unwrap()).arguments("--log-format json").run();
    sidecar.process.until_said("connect_refused", 1);
    for line in sidecar.process.output().lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(value["time"].is_string() && value["level"].is_string() && value["message"].is_string());
    }
    let text = fs::read_to_string(&left).unwrap();
    assert!(text.starts_with("nothing listens there: 127.0.0.1:1") && text.contains("hint:"), "{text}");
}

/// As a native sidecar it is told to end after the app: until then it refreshes, and what it wrote stays.
#[test]
fn f112_the_token_is_there_to_the_end_and_after() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(4));
    let volume = Volume::with("eyJh.eyJi.canary");
    let mut sidecar = setup(&endpoint, &volume).run();
    sidecar.process.until_said("token written", 3);
    assert_eq!(sidecar.terminate(), Some(0));
    assert_eq!(sidecar.token(), endpoint.issued().last().cloned());
}
