//! Actions of the program as a black box: HTTP requests, signals and commands that work, fail, hang
//! and misbehave.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dexsidecar_e2e::fake_dex::FakeDex;
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::process::{PATIENCE, Process, killed_with_parent};
use dexsidecar_e2e::raw_http::{HttpRequest, RawServer, answer};
use dexsidecar_e2e::sidecar::program;
use dexsidecar_fetch::counterparts::STRACE;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a program may take to end: long enough for a busy machine.
const GRACE: Duration = Duration::from_secs(30);

/// Tokens of a fake Dex with their actions, in a configuration file.
struct World {
    fixture: Fixture,
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        Self { fixture: Fixture::new(), directory: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn dex(&self) -> &FakeDex {
        &self.fixture.dex
    }

    /// The token file of this token.
    fn output(&self, token: usize) -> PathBuf {
        self.path(&format!("token{token}"))
    }

    /// Writes the configuration: a token for each list of actions.
    fn configure(&self, actions: &[Value]) -> PathBuf {
        let tokens = actions.iter().enumerate().map(|(index, actions)| {
            json!({
                "name": format!("t{index}"),
                "token_endpoint": self.dex().url(),
                "client_id": "user",
                "connector_id": "k3s",
                "subject_token_file": self.fixture.volume.token(),
                "outputs": [{"path": self.output(index)}],
                "on_update": actions,
            })
        });
        let config = json!({
            "version": "v1",
            "log": {"level": "debug", "format": "json"},
            "termination_log": "/dev/null",
            "tokens": tokens.collect::<Vec<_>>(),
        });
        let file = self.path("config.yaml");
        fs::write(&file, config.to_string()).expect("the configuration is written");
        file
    }

    fn run(&self, actions: &[Value]) -> Process {
        let mut command = killed_with_parent(&program());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("DEXSIDECAR_CONFIG", self.configure(actions));
        Process::start("dexsidecar", command)
    }
}

fn shell(script: &str, timeout: &str) -> Value {
    json!({"exec": {"command": ["/bin/sh", "-c", script], "timeout": timeout}})
}

/// A process that a signal ends.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        let mut command = killed_with_parent(Path::new("/bin/sleep"));
        Self(command.arg("600").spawn().expect("sleep"))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The numbers and states of the children of a process.
fn children(of: u32) -> Vec<(u32, char)> {
    let stats = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (before, after) = stat.rsplit_once(')')?;
        let mut fields = after.split_ascii_whitespace();
        let (state, parent) = (fields.next()?.chars().next()?, fields.next()?.parse::<u32>().ok()?);
        let pid = before.split_once(' ')?.0.parse().ok()?;
        (parent == of).then_some((pid, state))
    });
    stats.collect()
}

fn descriptors(of: u32) -> usize {
    fs::read_dir(format!("/proc/{of}/fd")).map_or(0, Iterator::count)
}

/// True if a process has this text in its command line.
fn is_running(text: &str) -> bool {
    let all = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|command| String::from_utf8_lossy(&command).contains(text))
}

#[test]
fn each_kind_of_action_runs_in_order_after_the_token_is_written() {
    let world = World::new();
    let requests: Arc<Mutex<Vec<HttpRequest>>> = Arc::default();
    let seen = Arc::clone(&requests);
    let server = RawServer::start("127.0.0.1:0", None, move |request, connection| {
        seen.lock().expect("the requests").push(request.clone());
        connection.write_all(&answer("200 OK", &[], "ok"))
    });
    let mut sleeper = Sleeper::start();
    let (pid_file, copies) = (world.path("pid"), world.path("copies"));
    fs::write(&pid_file, sleeper.0.id().to_string()).expect("the pid file");
    let copy =
        format!("cat {0} >> {1}; echo >> {1}; echo copied", world.output(0).display(), copies.display());
    let url = format!("http://{}/-/reload?x=1", server.address());
    let actions = json!([
        {"http": {"url": url, "headers": {"X-Reason": "canary"}}},
        shell(&copy, "60s"),
        {"signal": {"pid_file": pid_file, "signal": "TERM"}},
    ]);
    let mut process = world.run(&[actions]);
    process.until_logged("action_done action=signal", 1);
    sleeper.0.wait().expect("it was ended");
    // The process of the pid file has ended now.
    process.signal(Signal::HUP);
    process.until_logged("action_failed action=signal level=warn", 1);
    let issued = world.dex().issued();
    assert_eq!(fs::read_to_string(&copies).expect("the copies").lines().collect::<Vec<_>>(), issued);
    assert_eq!(issued.len(), 2);
    assert_eq!(process.logged("action_output action=exec line=copied"), 2, "{}", process.timeline());
    let requests = requests.lock().expect("the requests").clone();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/-/reload?x=1"));
        assert_eq!((request.header("X-Reason"), request.body.as_str()), (Some("canary"), ""));
        assert!(issued.iter().all(|token| !request.head.contains(token.as_str())), "the token is not sent");
    }
    let done = process.events("action_done");
    let names: Vec<_> = done.iter().take(3).filter_map(|event| event["action"].as_str()).collect();
    assert_eq!(names, ["http", "exec", "signal"]);
}

#[test]
fn a_command_gets_no_setting_and_no_line_with_a_secret_is_logged() {
    let world = World::new();
    let subject = world.fixture.volume.token();
    let show = format!(
        "env; tr '\\0' '\\n' < /proc/self/environ; cat {}; echo; cat {}; echo; echo end",
        world.output(0).display(),
        subject.display()
    );
    let mut process = world.run(&[json!([shell(&show, "60s")])]);
    process.until_logged("action_done", 1);
    assert_eq!(process.logged("action_output_dropped lines=2"), 1, "{}", process.timeline());
    assert_eq!(process.logged("action_output line=end"), 1);
    assert_eq!(process.lines_with("PATH=/usr/bin:/bin"), 2, "{}", process.timeline());
    let settings = process.events("action_output").into_iter().filter(|event| {
        event["line"].as_str().is_some_and(|line| line.starts_with("DEXSIDECAR_") || line.starts_with("dex_"))
    });
    assert_eq!(settings.count(), 0, "{}", process.timeline());
}

/// Commands that misbehave, and requests that are not answered. Each is a token of its own.
fn misbehaving(world: &World, server: &RawServer, marker: &str) -> Vec<Value> {
    let scripts = [
        "exec sleep {m}",
        "trap '' TERM HUP INT; while :; do sleep {m}; done",
        "kill -STOP $$; sleep {m}",
        "exec >&- 2>&- <&-; exec sleep {m}",
        "exec yes {m}",
        "exec tr '\\0' x < /dev/zero",
        "for i in 1 2 3 4 5 6 7 8; do (trap '' TERM; sleep {m}) & done; wait",
        "exit 1",
        "kill -KILL $$",
    ];
    let mut actions: Vec<Value> =
        scripts.iter().map(|script| json!([shell(&script.replace("{m}", marker), "1s")])).collect();
    let missing = world.path("missing");
    actions.push(json!([{"exec": {"command": [missing]}}]));
    actions.push(json!([{"signal": {"process": "dexsidecar-no-such-process"}}]));
    actions.push(json!([{"signal": {"pid_file": missing}}]));
    for answer in ["hang", "drip", "500", "302", "huge", "broken"] {
        let url = format!("http://{}/{answer}", server.address());
        actions.push(json!([{"http": {"url": url, "timeout": "1s"}}]));
    }
    actions
}

fn misbehaving_server() -> RawServer {
    RawServer::start("127.0.0.1:0", None, |request, connection| match request.target.as_str() {
        "/hang" => connection.read(&mut [0; 16]).map(drop),
        "/drip" => loop {
            connection.write_all(b"x")?;
            std::thread::sleep(Duration::from_millis(50));
        },
        "/500" => connection.write_all(&answer("500 No", &[], "no")),
        "/302" => connection.write_all(&answer("302 Found", &[("Location", "/200")], "")),
        "/huge" => {
            connection.write_all(b"HTTP/1.1 500 No\r\nX: ")?;
            loop {
                connection.write_all(&[b'x'; 65_536])?;
            }
        }
        "/200" => panic!("a redirect was followed"),
        _ => connection.write_all(b"nonsense\r\n\r\n"),
    })
}

#[test]
fn p7_p14_actions_that_misbehave_are_bounded_and_delay_neither_other_tokens_nor_the_end() {
    let world = World::new();
    let server = misbehaving_server();
    // A number that is in no other command line.
    let marker = format!("6{}", 1_000_000 + std::process::id());
    let mut actions = misbehaving(&world, &server, &marker);
    let bad = actions.len();
    actions.push(json!([shell("echo good", "60s")]));
    let mut process = world.run(&actions);
    process.until("every action that misbehaves has failed twice", |process| {
        // Also that which floods: it fails without any time passing.
        process.events("action_failed attempts=2").len() >= bad
    });
    assert_eq!(process.logged("action_done"), 1, "{}", process.timeline());
    assert_eq!(process.logged("attempt_failed"), 0, "{}", process.timeline());
    for token in 0..=bad {
        assert!(world.output(token).exists(), "token {token}");
    }
    // Their failures are logged once, and again as details.
    assert_eq!(process.logged("action_failed attempts=2 level=warn"), 0, "{}", process.timeline());
    let open = descriptors(process.pid());
    process.signal(Signal::HUP);
    process.until_logged("action_done action=exec", 2);
    process.until("every token is refreshed", |_| world.dex().issued().len() >= 2 * (bad + 1));
    assert!(descriptors(process.pid()) <= open + 2 * actions.len(), "descriptors are closed");
    // While actions hang. The output is the same for each state: SIGTERM is handled at once.
    process.signal(Signal::TERM);
    assert_eq!(process.wait_within(GRACE), Some(Some(0)), "{}", process.timeline());
    let start = Instant::now();
    while is_running(&marker) {
        assert!(start.elapsed() < PATIENCE, "a command outlives dexsidecar");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn p7_sigterm_ends_the_program_while_any_action_hangs() {
    let server = misbehaving_server();
    let marker = format!("7{}", 1_000_000 + std::process::id());
    for action in [
        shell(&format!("trap '' TERM; echo hangs; sleep {marker}"), "5m"),
        json!({"http": {"url": format!("http://{}/drip", server.address()), "timeout": "5m"}}),
    ] {
        let world = World::new();
        // The second action of the first token never runs.
        let mut process =
            world.run(&[json!([action, shell("echo never", "1s")]), json!([shell("echo other", "60s")])]);
        process.until_logged("action_done", 1);
        if action["exec"].is_object() {
            process.until_logged("action_output line=hangs", 1);
        }
        process.signal(Signal::TERM);
        assert_eq!(process.wait_within(GRACE), Some(Some(0)), "{}", process.timeline());
        assert_eq!(process.logged("action_output line=never"), 0);
        let start = Instant::now();
        while is_running(&marker) {
            assert!(start.elapsed() < PATIENCE, "a command outlives dexsidecar");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A newer token does not interrupt an action that hangs, and two never run at once.
#[test]
fn a_newer_token_waits_for_the_end_of_an_action() {
    let world = World::new();
    let log = world.path("log");
    let script = format!(
        "echo begin >> {0}; sleep 2; cat {1} >> {0}; echo >> {0}; echo end >> {0}",
        log.display(),
        world.output(0).display()
    );
    let mut process = world.run(&[json!([shell(&script, "60s")])]);
    process.until_logged("token_written", 1);
    process.until("the action runs", |_| log.exists());
    process.signal(Signal::HUP);
    process.until_logged("token_written", 2);
    process.until_logged("action_done", 2);
    let newest = world.dex().issued().pop().expect("a token");
    let lines = fs::read_to_string(&log).expect("the log");
    // Both attempts saw the second token; only the second attempt counts.
    let expected = format!("begin\n{newest}\nend\n");
    assert_eq!(lines, expected.repeat(2));
    let levels: Vec<_> = process.events("action_done").iter().map(|done| done["level"].clone()).collect();
    assert_eq!(levels, ["debug", "info"]);
}

/// The program as PID 1 of a namespace, with this configuration.
fn start_as_pid_1(config: &Path) -> Process {
    let mut command = killed_with_parent("/usr/bin/unshare".as_ref());
    command.args([
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
        "env",
        "-i",
    ]);
    command.args(["PATH=/usr/bin:/bin"]).arg(program()).arg("--config").arg(config);
    Process::start("dexsidecar as PID 1", command)
}

/// As PID 1 the program is the parent of every process whose own parent has ended.
#[test]
fn as_pid_1_the_program_leaves_no_zombie_of_a_command() {
    let world = World::new();
    // A daemon of another process group, which ends before the next command.
    let script = "for i in 1 2 3 4 5; do (setsid sh -c 'sleep 0.1' &) ; done; exit 1";
    let config =
        world.configure(&[json!([shell(script, "60s")]), json!([shell("sleep 0.3; exit 1", "60s")])]);
    let mut process = start_as_pid_1(&config);
    process.until_logged("action_failed attempts=4", 2);
    let sidecar = process.child().as_raw_pid().cast_unsigned();
    process.until("no zombie is left", |_| {
        // The commands end at different times: those of the last second may still be there.
        children(sidecar).iter().filter(|(_, state)| *state == 'Z').count() <= 6
    });
    process.until_logged("action_failed attempts=5", 2);
    let all = children(sidecar);
    assert!(all.len() <= 12, "24 daemons have ended, and were reaped: {all:?}");
    process.signal_child(Signal::TERM);
    assert_eq!(process.wait_within(GRACE), Some(Some(0)), "{}", process.timeline());
}

/// No further command ends, so the poll of the files reaps it.
#[test]
fn as_pid_1_a_daemon_that_ends_after_its_command_is_reaped() {
    let world = World::new();
    // The command ends when all have left its process group, which is ended with it. A daemon ends
    // when its file is gone.
    let file = world.path("daemon");
    let script = format!(
        "for i in 1 2 3; do (setsid sh -c 'touch {0}'$i'; while [ -e {0}'$i' ]; do sleep 0.05; done' &); done
         while [ ! -e {0}1 ] || [ ! -e {0}2 ] || [ ! -e {0}3 ]; do sleep 0.01; done",
        file.display()
    );
    let config = world.configure(&[json!([shell(&script, "60s")])]);
    let text = fs::read_to_string(&config).expect("the configuration");
    fs::write(&config, text.replacen("\"connector_id\"", "\"refresh_interval\":\"1s\",\"connector_id\"", 1))
        .expect("the configuration is written");
    let mut process = start_as_pid_1(&config);
    process.until_logged("action_done", 1);
    let sidecar = process.child().as_raw_pid().cast_unsigned();
    process.until("the daemons are children of PID 1", |_| children(sidecar).len() == 3);
    for daemon in 1..=3 {
        fs::remove_file(world.path(&format!("daemon{daemon}"))).expect("it was made");
    }
    process.until("the daemons have ended and are reaped", |_| children(sidecar).is_empty());
    process.signal_child(Signal::TERM);
    assert_eq!(process.wait_within(GRACE), Some(Some(0)), "{}", process.timeline());
}

#[test]
fn once_performs_no_action_and_gives_up_the_rights_for_them() {
    let world = World::new();
    let (marker, trace) = (world.path("marker"), world.path("trace"));
    let config = world.configure(&[json!([shell(&format!("touch {}", marker.display()), "60s")])]);
    let strace = prebuilt::packages(&STRACE);
    let mut command = killed_with_parent(&strace.join("usr/bin/strace"));
    command.env_clear().env("LD_LIBRARY_PATH", strace.join("usr/lib/x86_64-linux-gnu"));
    command.args(["-f", "-qq", "-e", "trace=landlock_create_ruleset", "-o"]).arg(&trace);
    command.arg(program()).arg("once").arg("--config").arg(config);
    let mut process = Process::start("dexsidecar", command);
    assert_eq!(process.wait().code(), Some(0), "{}", process.timeline());
    assert!(world.output(0).exists() && !marker.exists());
    // Where a command may be executed, the program restricts nothing.
    let trace = fs::read_to_string(trace).expect("a trace");
    assert!(trace.contains("landlock_create_ruleset("), "{trace}");
}

#[test]
fn p14_64_tokens_with_actions_run_independently() {
    let world = World::new();
    let log = world.path("log");
    let actions: Vec<Value> = (0..64)
        .map(|token| match token % 4 {
            0 => json!([shell("exec sleep 600", "5m"), shell("echo never", "1s")]),
            1 => json!([shell("exit 1", "60s"), shell("echo never", "1s")]),
            _ => json!([shell(&format!("echo {token} >> {}", log.display()), "60s"), shell("true", "60s")]),
        })
        .collect();
    let mut process = world.run(&actions);
    process.until_logged("action_done action=exec-2", 32);
    process.until_logged("action_failed", 16);
    assert_eq!(world.dex().issued().len(), 64);
    let lines = fs::read_to_string(&log).expect("the log");
    assert_eq!(lines.lines().count(), 32, "{lines}");
    assert_eq!(process.logged("action_output line=never"), 0);
    process.signal(Signal::TERM);
    assert_eq!(process.wait_within(GRACE), Some(Some(0)), "{}", process.timeline());
}

#[test]
fn check_tests_what_each_action_needs_and_performs_none() {
    let world = World::new();
    let server = RawServer::start("127.0.0.1:0", None, |_, _| panic!("a request was sent"));
    let mut sleeper = Sleeper::start();
    let (pid_file, marker) = (world.path("pid"), world.path("marker"));
    fs::write(&pid_file, sleeper.0.id().to_string()).expect("the pid file");
    let http = json!({"http": {"url": format!("http://{}/", server.address())}});
    let signal = json!({"signal": {"pid_file": pid_file, "signal": "KILL"}});
    let check = |actions: Value, code: i32, expected: &str| {
        let mut command = killed_with_parent(&program());
        command.env_clear().arg("check").arg("--config").arg(world.configure(&[actions]));
        let mut process = Process::start("dexsidecar", command);
        assert_eq!(process.wait().code(), Some(code), "{}", process.timeline());
        assert!(process.output().contains(expected), "{expected}: {}", process.timeline());
    };
    let all = json!([http, shell(&format!("touch {}", marker.display()), "60s"), signal]);
    let found =
        format!("http: connected to {}; exec: /bin/sh is executable; signal: 1 process", server.address());
    check(all, 0, &found);
    assert!(!marker.exists() && sleeper.0.try_wait().expect("a child").is_none());
    let missing = json!([http, {"exec": {"command": ["/no/such/program"]}}]);
    check(missing, 1, "the action failed: exec: /no/such/program: no such file");
    check(json!([{"signal": {"process": "no-such-process"}}]), 1, "action_failed");
}
