//! How the process behaves towards the machine: threads, its memory's privacy, its log. (Signals: signals.rs.)

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::process::{PATIENCE, Process, tied};
use dexsidecar_e2e::reader::Judgement;
use dexsidecar_e2e::sidecar::{Setup, Sidecar, assert_no_secret, program};
use dexsidecar_e2e::volume::Volume;
use rustix::process::{Pid, Signal, kill_process};

fn setup(endpoint: &Endpoint, volume: &Volume) -> Setup {
    Setup::new().subject(volume).at_stand_in(endpoint)
}

fn status(sidecar: &Sidecar, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn one_thread_when_idle_and_nothing_to_be_looked_into() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let mut sidecar = setup(&endpoint, &volume).run();
    sidecar.process.until_logged("token_written", 1);
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
fn f123_a_peer_of_the_same_uid_cannot_look_into_it() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    // One secret comes by the environment.
    let setup = setup(&endpoint, &volume).set("dex_basic_auth", "user:canary-secret");
    for path in [setup.folder(), volume.token().parent().unwrap()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let copy = setup.folder().join("dexsidecar");
    fs::copy(program(), &copy).unwrap();
    // Root may read everything, so it becomes another uid first; anybody else is a peer already.
    let pod: &[&str] = if rustix::process::geteuid().is_root() {
        &["/usr/bin/setpriv", "--reuid", "65532", "--regid", "65532", "--clear-groups", "env"]
    } else {
        &["/usr/bin/env"]
    };
    let start = |name: &str, program: &Path, argument: Option<&str>| {
        let mut command = tied(pod[0].as_ref());
        command.args(&pod[1..]).arg("-i");
        command.args(setup.assignments()).arg(program).args(argument);
        Process::start(name, command)
    };
    let mut process = start("dexsidecar", &copy, None);
    process.until_logged("token_written", 1);
    // `head` opens and reads as any peer would. The first bytes of the memory's file belong to nobody, so there it is only
    // opened: that is where the door is.
    let read = |pid: u32, file: &str| {
        let bytes = if file == "mem" { "0" } else { "100000" };
        let mut command = Command::new(pod[0]);
        command.args(&pod[1..]).args(["head", "-c", bytes, &format!("/proc/{pid}/{file}")]).output().unwrap()
    };
    // Another program in its place is an open book: it is not the machine that forbids.
    let mut open = start("sleep", "/usr/bin/sleep".as_ref(), Some("600"));
    open.until("sleep is there", |process| {
        fs::read_to_string(format!("/proc/{}/comm", process.pid())).is_ok_and(|name| name == "sleep\n")
    });
    let seen = read(open.pid(), "environ");
    assert!(seen.status.success() && String::from_utf8_lossy(&seen.stdout).contains("canary-secret"));
    for file in ["environ", "mem", "maps"] {
        assert!(read(open.pid(), file).status.success() || file == "mem" && yama(), "{file} of sleep");
        let peer = read(process.pid(), file);
        let said = String::from_utf8_lossy(&peer.stderr);
        assert!(
            !peer.status.success() && peer.stdout.is_empty() && said.contains("denied"),
            "{file}: {said}"
        );
    }
    let line = read(process.pid(), "cmdline");
    assert!(line.status.success() && !line.stdout.is_empty(), "anybody may read it");
    assert_no_secret(&String::from_utf8_lossy(&line.stdout));
}

/// Whether this kernel shows nobody's memory but to a parent.
fn yama() -> bool {
    fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").is_ok_and(|scope| scope.trim() != "0")
}

/// The program with its log on this.
fn start_with_log(setup: &Setup, words: &[&str], log: impl Into<Stdio>) -> std::process::Child {
    let (first, rest) = words.split_first().unwrap();
    let mut command = tied(first.as_ref());
    command.args(rest).env_clear().envs(setup.environment().iter().map(|line| {
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.trim_matches('\'').to_owned())
    }));
    command.stdin(Stdio::null()).stderr(log).spawn().unwrap()
}

fn terminated(child: &mut std::process::Child) -> Option<i32> {
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(start.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn f108_a_log_that_nobody_reads_stops_nothing_and_what_was_dropped_is_counted() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(1));
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = setup(&endpoint, &volume);
    // A long path makes long lines.
    let folder = setup.folder().join(["x".repeat(200).as_str(); 8].join("/"));
    fs::create_dir_all(&folder).unwrap();
    let setup = setup.set("dex_access_token_file", folder.join("token").to_str().unwrap());
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 8192).unwrap();
    let program = program();
    let mut child = start_with_log(&setup, &[program.to_str().unwrap()], writer);
    // Four lines are all that there is room for; the exchanges go on.
    endpoint.until_heard(7);
    let mut first = vec![0; 8192];
    let length = reader.read(&mut first).unwrap();
    let said = String::from_utf8_lossy(&first[..length]).into_owned();
    assert!(said.contains("token written") && !said.contains("were dropped"), "{said}");
    // There is room again.
    endpoint.until_heard(9);
    assert_eq!(terminated(&mut child), Some(0));
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    let told = rest.lines().find(|line| line.contains("log lines were dropped")).expect("it is told");
    let lines = told.rsplit('=').next().and_then(|lines| lines.parse::<u32>().ok());
    assert!(lines.is_some_and(|lines| lines >= 1), "{told}");
}

#[test]
fn f108_a_log_that_is_closed_stops_nothing() {
    let endpoints = [(), ()].map(|()| Endpoint::start("127.0.0.1:0", None));
    let volume = Volume::with("eyJh.eyJi.canary");
    let program = program();
    let program = program.to_str().unwrap();
    let setups = endpoints.each_ref().map(|endpoint| {
        endpoint.always(Answer::Token(2));
        setup(endpoint, &volume).set("DEXSIDECAR_LOG", "debug")
    });
    // Its reader is gone; and it never had one.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let without = ["/bin/sh", "-c", "exec \"$@\" 2>&-", "sh", program];
    let children =
        [start_with_log(&setups[0], &[program], writer), start_with_log(&setups[1], &without, Stdio::null())];
    for ((mut child, endpoint), setup) in children.into_iter().zip(&endpoints).zip(&setups) {
        endpoint.until_heard(4);
        assert_eq!(terminated(&mut child), Some(0));
        let token = fs::read_to_string(setup.output()).unwrap();
        assert_eq!(endpoint.ledger()(&token), Judgement::Good, "no line of the log is in the token's file");
    }
}

#[test]
fn json_lines_are_json_and_the_last_failure_is_left_for_the_kubelet() {
    let volume = Volume::with("eyJh.eyJi.canary");
    let base = Setup::new().subject(&volume).set("dex_endpoint", "http://127.0.0.1:1/token");
    let left = base.folder().join("termination-log");
    fs::write(&left, "").unwrap();
    let mut sidecar =
        base.set("DEXSIDECAR_TERMINATION_LOG", left.to_str().unwrap()).arguments("--log-format json").run();
    sidecar.process.until_logged("code=connect_refused", 1);
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
    sidecar.process.until_logged("token_written", 3);
    assert_eq!(sidecar.terminate(), Some(0));
    assert_eq!(sidecar.token(), endpoint.issued().last().cloned());
}
