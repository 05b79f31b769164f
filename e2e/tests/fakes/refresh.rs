//! `refresh`: finds the running process, and reports what becomes of its tokens.

use std::fs;
use std::process::Command;

use dexsidecar_e2e::fake_dex::Answer;
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::process::killed_with_parent;
use dexsidecar_e2e::sidecar::{Completed, Setup, Sidecar, assert_no_secret, program};

/// Runs `refresh` for this sidecar. Other tests run others at the same time.
fn refresh(sidecar: &Sidecar, options: &[&str]) -> Completed {
    let pid = sidecar.process.pid().to_string();
    sidecar.setup().execute(&[&["refresh", "--pid", &pid], options].concat())
}

#[test]
fn refresh_ends_when_the_file_holds_a_token_that_was_issued_afterwards() {
    let fixture = Fixture::new();
    let mut sidecar = fixture.setup().run();
    let first = sidecar.until_token();
    let done = refresh(&sidecar, &[]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let file = sidecar.output().display().to_string();
    assert!(done.stdout.starts_with(&format!("{file}: refreshed, valid, expires in ")), "{}", done.stdout);
    let second = sidecar.token();
    assert!(second != Some(first) && second == fixture.dex.issued().pop() && fixture.dex.issued().len() == 2);
    let events = sidecar.process.events("refresh_requested");
    assert_eq!(events[0]["signal"], "SIGUSR1");
}

#[test]
fn refresh_of_a_process_without_a_token_waits_for_the_first_one() {
    let fixture = Fixture::new();
    fixture.dex.next(Answer::Bytes(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let mut sidecar = fixture.setup().run();
    sidecar.process.until_logged("attempt_failed", 1);
    let done = refresh(&sidecar, &[]);
    assert_eq!((done.code, sidecar.token()), (Some(0), fixture.dex.issued().pop()), "{}", done.stderr);
}

#[test]
fn without_a_new_token_refresh_reports_the_last_failure_and_exits_with_1() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().unwrap();
    let message = directory.path().join("termination-log");
    fs::write(&message, "").unwrap();
    let mut sidecar = fixture.setup().set("DEXSIDECAR_TERMINATION_LOG", message.to_str().unwrap()).run();
    sidecar.until_token();
    fixture.dex.always(Answer::Bytes(
        b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: 26\r\n\r\n{\"error\":\"invalid_client\"}"
            .to_vec(),
    ));
    let failed = refresh(&sidecar, &["--wait", "3s"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""));
    for text in [
        "dexsidecar: not refreshed within 3s\n",
        ": still the old token, valid, expires in ",
        "\nlast failure:\n",
        "\ncode: invalid_client\n",
        "\nfix: ",
    ] {
        assert!(failed.stderr.contains(text), "{text}: {}", failed.stderr);
    }
    let again = refresh(&sidecar, &["--wait", "100ms"]);
    let unchanged = "\nlast failure, unchanged since the request:\n";
    assert!(again.stderr.contains(unchanged), "{}", again.stderr);
    // Without such a file the log is named.
    let pid = sidecar.process.pid().to_string();
    let without = fixture.setup().execute(&["refresh", "--pid", &pid, "--wait", "10ms"]);
    assert_eq!(without.code, Some(1));
    assert!(
        without.stderr.ends_with("the reason is in the log of the running process\n"),
        "{}",
        without.stderr
    );
}

#[test]
fn refresh_can_request_without_waiting_and_ends_with_the_process() {
    let fixture = Fixture::new();
    let mut sidecar = fixture.setup().run();
    let first = sidecar.until_token();
    let requested = refresh(&sidecar, &["--wait", "0s"]);
    let text = format!("refresh requested from process {}\n", sidecar.process.pid());
    assert_eq!((requested.code, requested.stdout), (Some(0), text));
    sidecar.until_another_token(&first);
    fixture.dex.always(Answer::Silence);
    let ended = std::thread::scope(|scope| {
        let refreshing = scope.spawn(|| refresh(&sidecar, &["--wait", "5m"]));
        fixture.dex.until_requests(3);
        sidecar.process.signal(rustix::process::Signal::TERM);
        refreshing.join().unwrap()
    });
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains(" ended before it refreshed\n"), "{}", ended.stderr);
}

#[test]
fn a_process_that_is_not_dexsidecar_run_gets_no_signal() {
    let setup = Setup::new();
    let mut other = killed_with_parent("/bin/sleep".as_ref()).arg("100").spawn().unwrap();
    let waiting = Setup::new();
    let mut wait = Command::new(program());
    let mut wait =
        wait.env_clear().envs([("dex_access_token_file", waiting.output())]).arg("wait").spawn().unwrap();
    for pid in [other.id(), wait.id()] {
        let refused = setup.execute(&["refresh", "--pid", &pid.to_string()]);
        assert_eq!(refused.code, Some(1));
        let text = format!("dexsidecar: process {pid} does not run dexsidecar here\n");
        assert_eq!(refused.stderr, text);
    }
    assert!(other.try_wait().unwrap().is_none() && wait.try_wait().unwrap().is_none(), "both still run");
    for child in [&mut other, &mut wait] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for pid in ["0", "-1", "x", "+1"] {
        let invalid = setup.execute(&["refresh", "--pid", pid]);
        assert_eq!((invalid.code, invalid.logged("setting_invalid setting=--pid")), (Some(78), 1), "{pid}");
    }
}

/// Runs a script as uid 65532 without capabilities, in a PID namespace of its own, as in a pod.
/// `$0` is the program.
fn in_pod(setup: &Setup, script: &str) -> String {
    let mut command = killed_with_parent("/usr/bin/unshare".as_ref());
    command.args(["--user", "--map-user=65532", "--map-group=65532", "--mount", "--pid", "--fork"]);
    command.args(["--kill-child=KILL", "--mount-proc", "env", "-i", "PATH=/usr/bin:/bin"]);
    let output = command.args(setup.assignments()).args(["sh", "-c", script]).arg(program()).output();
    let output = output.expect("unshare is there (util-linux)");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_no_secret(&text);
    text
}

#[test]
fn refresh_finds_the_one_process_of_a_container_by_itself() {
    for (shape, script) in [
        (
            "as PID 1",
            "(until [ -s $dex_access_token_file ]; do sleep 0.02; done; $0 refresh; echo exit $?; kill -TERM 1) & \
             exec $0 run",
        ),
        (
            "in a shared PID namespace",
            "$0 & until [ -s $dex_access_token_file ]; do sleep 0.02; done; $0 refresh; echo exit $?; kill $!; wait",
        ),
        ("before it has started", "(sleep 0.2; exec $0 run) & $0 refresh; echo exit $?; kill $!; wait"),
    ] {
        let fixture = Fixture::new();
        let setup = fixture.setup();
        let text = in_pod(&setup, script);
        if shape == "before it has started" {
            let hint =
                "no process here runs dexsidecar: use kubectl exec with the container of dexsidecar (-c)\n";
            assert!(text.contains(hint) && text.contains("exit 1\n"), "{text}");
            continue;
        }
        assert!(text.contains(": refreshed, valid, ") && text.contains("exit 0\n"), "{shape}: {text}");
        assert_eq!(fixture.dex.issued().len(), 2, "{shape}: {text}");
    }
}

#[test]
fn of_several_processes_refresh_signals_the_one_that_is_named_only() {
    let fixture = Fixture::new();
    let script = "dex_access_token_file=/dev/null; a=$OUT/a b=$OUT/b; \
                  dex_access_token_file=$a $0 run & first=$!; dex_access_token_file=$b $0 run & second=$!; \
                  until [ -s $a ] && [ -s $b ]; do sleep 0.02; done; \
                  $0 refresh --file $a; echo exit $?; $0 refresh --file $a --pid $first; echo exit $?; \
                  kill $first $second; wait";
    let setup = fixture.setup();
    let directory = setup.directory().to_str().unwrap().to_owned();
    let text = in_pod(&setup.set("OUT", directory), script);
    assert!(text.starts_with("exit 1\n"), "{text}");
    assert!(text.contains("several processes run dexsidecar (2, 3): name one with --pid\n"), "{text}");
    assert!(text.contains("/a: refreshed, valid, ") && text.contains("exit 0\n"), "{text}");
    assert_eq!(fixture.dex.issued().len(), 3, "{text}");
}
