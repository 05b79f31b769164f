//! The process on its machine: threads, access by other processes, and its log. (Signals:
//! signals.rs.)

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::file_readers::Judgement;
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::log_events;
use dexsidecar_e2e::process::{PATIENCE, Process, killed_with_parent};
use dexsidecar_e2e::sidecar::{Setup, Sidecar, assert_no_secret, program};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn status(sidecar: &Sidecar, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn an_idle_process_has_one_thread_no_core_dump_and_no_readable_environment() {
    let fixture = Fixture::new();
    let mut sidecar = fixture.setup().run();
    sidecar.process.until_logged("token_written", 1);
    let pid = sidecar.process.pid();
    let threads = format!("/proc/{pid}/task");
    sidecar.process.until("only one thread is left", |_| fs::read_dir(&threads).unwrap().count() == 1);
    assert_eq!(status(&sidecar, "NoNewPrivs:"), "1");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_ascii_whitespace().skip(4).take(2).all(|limit| limit == "0"), "{core}");
    // It is not dumpable, so /proc/PID belongs to root whatever its uid is.
    assert_eq!(fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(), 0);
    // SIGPIPE is ignored.
    sidecar.process.signal(Signal::PIPE);
    assert!(sidecar.process.is_running());
}

#[test]
fn f123_a_process_of_the_same_uid_cannot_read_its_memory_or_environment() {
    let fixture = Fixture::new();
    // The client secret comes from the environment.
    let setup = fixture.setup().set("dex_basic_auth", "user:canary-secret");
    for path in [setup.directory(), fixture.volume.token().parent().unwrap()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let copy = setup.directory().join("dexsidecar");
    fs::copy(program(), &copy).unwrap();
    // Root may read everything, so a test that runs as root starts both processes with another uid.
    let as_peer: &[&str] = if rustix::process::geteuid().is_root() {
        &["/usr/bin/setpriv", "--reuid", "65532", "--regid", "65532", "--clear-groups", "env"]
    } else {
        &["/usr/bin/env"]
    };
    let start = |name: &str, program: &Path, argument: Option<&str>| {
        let mut command = killed_with_parent(as_peer[0].as_ref());
        command.args(&as_peer[1..]).arg("-i");
        command.args(setup.assignments()).arg(program).args(argument);
        Process::start(name, command)
    };
    let mut process = start("dexsidecar", &copy, None);
    process.until_logged("token_written", 1);
    // `head` opens the file and reads it. The first bytes of `mem` are not mapped, so it is opened
    // only; the kernel checks the permission there.
    let read = |pid: u32, file: &str| {
        let bytes = if file == "mem" { "0" } else { "100000" };
        let mut command = Command::new(as_peer[0]);
        command
            .args(&as_peer[1..])
            .args(["head", "-c", bytes, &format!("/proc/{pid}/{file}")])
            .output()
            .unwrap()
    };
    // Another program in its place can be read, so the machine does not forbid it.
    let mut open = start("sleep", "/usr/bin/sleep".as_ref(), Some("600"));
    open.until("sleep runs", |process| {
        fs::read_to_string(format!("/proc/{}/comm", process.pid())).is_ok_and(|name| name == "sleep\n")
    });
    let seen = read(open.pid(), "environ");
    assert!(seen.status.success() && String::from_utf8_lossy(&seen.stdout).contains("canary-secret"));
    for file in ["environ", "mem", "maps"] {
        assert!(read(open.pid(), file).status.success() || file == "mem" && yama(), "{file} of sleep");
        let peer = read(process.pid(), file);
        let errors = String::from_utf8_lossy(&peer.stderr);
        assert!(
            !peer.status.success() && peer.stdout.is_empty() && errors.contains("denied"),
            "{file}: {errors}"
        );
    }
    let line = read(process.pid(), "cmdline");
    assert!(line.status.success() && !line.stdout.is_empty(), "every process may read it");
    assert_no_secret(&String::from_utf8_lossy(&line.stdout));
}

/// True if this kernel allows only a parent to read the memory of a process.
fn yama() -> bool {
    fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").is_ok_and(|scope| scope.trim() != "0")
}

/// Starts a program whose log goes to `log`.
fn start_with_log(setup: &Setup, words: &[&str], log: impl Into<Stdio>) -> std::process::Child {
    let (first, rest) = words.split_first().unwrap();
    let mut command = killed_with_parent(first.as_ref());
    command.args(rest).env_clear().envs(setup.environment().iter().map(|line| {
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.trim_matches('\'').to_owned())
    }));
    command.stdin(Stdio::null()).stderr(log).spawn().unwrap()
}

fn terminated(child: &mut std::process::Child) -> Option<i32> {
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    ended(child)
}

fn ended(child: &mut std::process::Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(start.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The size of the pipe in bytes: two pages.
const PIPE: usize = 8192;

#[test]
fn f108_a_log_that_nobody_reads_stops_nothing_and_the_dropped_lines_are_counted() {
    let fixture = Fixture::answering(Answer::Token(1));
    let setup = fixture.setup();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, PIPE).unwrap();
    // The pipe is full before the program starts.
    writer.write_all(&[b'x'; PIPE]).unwrap();
    let program = program();
    let mut child = start_with_log(&setup, &[program.to_str().unwrap()], writer);
    // With the third request two tokens are written.
    fixture.dex.until_requests(3);
    let mut filler = [0; PIPE];
    reader.read_exact(&mut filler).unwrap();
    assert_eq!(filler, [b'x'; PIPE], "no line was written into the full pipe");
    // Now there is room. The line about the dropped ones comes before the next one.
    fixture.dex.until_requests(5);
    assert_eq!(terminated(&mut child), Some(0));
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    let first: Value = rest.lines().next().and_then(|line| serde_json::from_str(line).ok()).unwrap();
    assert_eq!(first["event"], "log_lines_dropped", "{rest}");
    // At least `starting` and `token_written` twice.
    assert!(first["lines"].as_u64().is_some_and(|lines| lines >= 3), "{rest}");
    assert!(!log_events::select(&rest, "token_written").is_empty(), "{rest}");
}

#[test]
fn f108_wait_ends_at_its_timeout_although_nobody_reads_its_progress() {
    let setup = Setup::new();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, PIPE).unwrap();
    writer.write_all(&[b'x'; PIPE]).unwrap();
    let program = program();
    let words = [program.to_str().unwrap(), "wait", "--timeout", "1500ms"];
    assert_eq!(ended(&mut start_with_log(&setup, &words, writer)), Some(1));
}

#[test]
fn f108_a_log_that_is_closed_stops_nothing() {
    let fixtures = [(), ()].map(|()| Fixture::answering(Answer::Token(2)));
    let program = program();
    let program = program.to_str().unwrap();
    let setups = fixtures.each_ref().map(Fixture::setup);
    // The reader of one log is gone. The other program starts with standard error closed.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let without = ["/bin/sh", "-c", "exec \"$@\" 2>&-", "sh", program];
    let children =
        [start_with_log(&setups[0], &[program], writer), start_with_log(&setups[1], &without, Stdio::null())];
    for ((mut child, fixture), setup) in children.into_iter().zip(&fixtures).zip(&setups) {
        fixture.dex.until_requests(4);
        assert_eq!(terminated(&mut child), Some(0));
        let token = fs::read_to_string(setup.output()).unwrap();
        assert_eq!(fixture.dex.judge()(&token), Judgement::Valid, "no log line is in the token file");
    }
}

#[test]
fn json_log_lines_are_json_and_the_last_failure_is_the_termination_message() {
    let fixture = Fixture::new();
    let setup = fixture.setup().set("dex_endpoint", "http://127.0.0.1:1/token");
    let message = setup.directory().join("termination-log");
    fs::write(&message, "").unwrap();
    let setup = setup.set("DEXSIDECAR_TERMINATION_LOG", message.to_str().unwrap());
    let mut sidecar = setup.unset("DEXSIDECAR_LOG_FORMAT").arguments("--log-format json").run();
    sidecar.process.until_logged("attempt_failed code=connect_refused", 1);
    for line in sidecar.process.output().lines() {
        let value: Value = serde_json::from_str(line).expect(line);
        assert!(["time", "level", "event", "message"].iter().all(|name| value[*name].is_string()), "{line}");
    }
    let text = fs::read_to_string(&message).unwrap();
    assert!(text.starts_with("connection refused: 127.0.0.1:1"), "{text}");
    for line in ["\ncode: connect_refused\n", "\nowner: ", "\nfix: "] {
        assert!(text.contains(line), "{text}");
    }
}

/// The kubelet ends a native sidecar after the application. Until then the token is refreshed, and
/// it stays in the file.
#[test]
fn f112_the_last_token_stays_in_the_file_after_sigterm() {
    let fixture = Fixture::answering(Answer::Token(4));
    let mut sidecar = fixture.setup().run();
    sidecar.process.until_logged("token_written", 3);
    assert_eq!(sidecar.terminate(), Some(0));
    assert_eq!(sidecar.token(), fixture.dex.issued().last().cloned());
}
