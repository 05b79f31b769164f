//! File descriptors, threads, memory or CPU time run out: the program works with what is left, and
//! recovers without a restart.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::fake_dex::{Answer, Documents, FakeDex};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::prebuilt::skip;
use dexsidecar_e2e::process::{PATIENCE, Process, Stream, killed_with_parent};
use dexsidecar_e2e::raw_http::answer;
use dexsidecar_e2e::sidecar::{Setup, Sidecar, program, shipped};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

fn descriptors(sidecar: &Sidecar) -> usize {
    fs::read_dir(format!("/proc/{}/fd", sidecar.process.pid())).unwrap().count()
}

#[test]
fn f106_without_file_descriptors_it_reports_a_failure_and_recovers() {
    let fixture = Fixture::answering(Answer::Token(4));
    let mut sidecar = fixture.setup().run();
    sidecar.process.until_logged("token_written", 1);
    let pid = Pid::from_raw(sidecar.process.pid().cast_signed()).unwrap();
    // It may not open one more than it has now.
    let few = Rlimit { current: Some(descriptors(&sidecar) as u64 - 1), maximum: Some(1024) };
    prlimit(Some(pid), Resource::Nofile, few).unwrap();
    sidecar.process.until_logged("attempt_failed", 1);
    let failure = sidecar.process.events("attempt_failed").remove(0);
    let named = |error: &str| error.contains("Too many open files") || error.contains("os error 24");
    assert!(failure["error"].as_str().is_some_and(named), "{failure:#}");
    let enough = Rlimit { current: Some(1024), maximum: Some(1024) };
    prlimit(Some(pid), Resource::Nofile, enough).unwrap();
    sidecar.process.until_logged("recovered", 1);
    assert_eq!(sidecar.terminate(), Some(0));
}

#[test]
fn f107_without_threads_it_keeps_the_token_fresh() {
    let fixture = Fixture::answering(Answer::Token(4));
    let setup = fixture.setup();
    // A uid of its own, so that the limit counts no other process.
    if !rustix::process::geteuid().is_root() {
        return skip("f107_without_threads_it_keeps_the_token_fresh", "a uid of its own needs root");
    }
    for path in [setup.directory(), fixture.volume.token().parent().unwrap()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let copy = setup.directory().join("dexsidecar");
    fs::copy(program(), &copy).unwrap();
    let start = |endpoint: String| {
        let mut command = killed_with_parent("/usr/bin/setpriv".as_ref());
        command.args([
            "--reuid",
            "64107",
            "--regid",
            "64107",
            "--clear-groups",
            "prlimit",
            "--nproc=1:100",
            "env",
            "-i",
            "DEXSIDECAR_ALLOW_INSECURE_HTTP=true",
        ]);
        command.args(setup.assignments());
        command.arg(format!("dex_endpoint={endpoint}")).arg(&copy);
        Process::start("dexsidecar", command)
    };
    let mut by_address = start(fixture.dex.url());
    by_address.until_logged("token_written", 2);
    // A DNS lookup needs no thread either.
    let port = fixture.dex.address().port();
    let mut by_name = start(format!("http://dex.localhost:{port}/dex/token"));
    by_name.until_logged("token_written", 2);
    by_name.signal(Signal::TERM);
    assert_eq!(by_name.wait().code(), Some(0));
}

/// The largest resident set of the process so far, in kB.
fn peak(sidecar: &Sidecar) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// So many zeros in gzip, which is a thousand times smaller.
fn bomb(size: usize) -> Vec<u8> {
    let mut packed = GzEncoder::new(vec![], Compression::best());
    packed.write_all(&vec![0; size]).unwrap();
    packed.finish().unwrap()
}

/// Each response comes three times, so that memory which is not released would add up. Then the
/// program is killed, as the kernel does when memory runs out, and adopts its token.
#[test]
fn f029_f030_f105_no_response_makes_it_use_much_memory() {
    let endless =
        |head: &str, more: &str| Answer::Endless(head.as_bytes().to_vec(), more.as_bytes().to_vec());
    let x = "x".repeat(65_536);
    let chunk = format!("10000\r\n{x}\r\n");
    let response = |status: &str, body: &str| Answer::Bytes(answer(status, &[], body));
    let refusal = |why: &str| {
        response("401 Unauthorized", &format!(r#"{{"error":"access_denied","error_description":"{why}"}}"#))
    };
    let packed = |status: &str, size| {
        let head = format!("HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\n\r\n");
        Answer::Bytes([head.into_bytes(), bomb(size)].concat())
    };
    let (lists, zeros) = ("[0],".repeat(250_000), "0,".repeat(500_000));
    let long = "a".repeat(500_000);
    stays_small(vec![
        ("an endless body", endless("HTTP/1.1 200 OK\r\n\r\n", &x)),
        (
            "an endless body with a length",
            endless("HTTP/1.1 200 OK\r\nContent-Length: 17179869184\r\n\r\n", &x),
        ),
        ("an endless header", endless("HTTP/1.1 200 OK\r\nX: ", &x)),
        ("endless headers", endless("HTTP/1.1 200 OK\r\n", "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")),
        ("endless interim responses", endless("", "HTTP/1.1 100 Continue\r\n\r\n")),
        ("endless chunks", endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk)),
        (
            "a token of thousands of empty claims",
            response(
                "200 OK",
                &format!(r#"{{"access_token":"{}","expires_in":4}}"#, token_of_empty_claims()),
            ),
        ),
        ("deep nesting", response("200 OK", &format!("{}1", "[".repeat(900_000)))),
        ("deep nesting in a member", response("200 OK", &format!(r#"{{"x":{}"#, "[".repeat(900_000)))),
        ("a token of lists", response("200 OK", &format!(r#"{{"access_token":[{lists}0]}}"#))),
        ("an error of numbers", response("400 Bad Request", &format!(r#"{{"error":[{zeros}0]}}"#))),
        ("ten megabytes in gzip", packed("200 OK", 10 * 1024 * 1024)),
        ("a hundred megabytes in gzip, refused", packed("400 Bad Request", 100 * 1024 * 1024)),
        (
            "the longest token that is accepted",
            response("200 OK", &format!(r#"{{"access_token":"{}","expires_in":4}}"#, "a".repeat(256 * 1024))),
        ),
        ("a long error description", refusal(&"y".repeat(900_000))),
        ("a long error description that is percent-encoded", refusal(&"%79".repeat(300_000))),
        (
            "an error beside a token",
            response(
                "400 Bad Request",
                &format!(r#"{{"access_token":"{long}","error":"x","error_description":"{long}"}}"#),
            ),
        ),
    ]);
}

/// A token of 250 kB. Its header and payload are lists and objects without content, which cost the
/// most memory for their size.
fn token_of_empty_claims() -> String {
    let part = URL_SAFE_NO_PAD.encode(format!(r#"{{"x":[{}0]}}"#, r#"{"":[[0]]},"#.repeat(7_500)));
    format!("{part}.{part}.c2lnbmF0dXJl")
}

/// The program as it ships gets each answer three times, over TLS and IPv6, with a subject token of
/// the largest size. It then has a token, its memory never reached 8 MB, and it adopts the token
/// after a kill.
fn stays_small(answers: Vec<(&'static str, Answer)>) {
    let authority = Authority::new();
    let tls = authority.server(&[]).server_config();
    std::thread::scope(|scope| {
        for (what, played) in answers {
            let (authority, tls) = (&authority, Arc::clone(&tls));
            scope.spawn(move || {
                let fixture = Fixture::at(FakeDex::start_at("[::1]:0", Some(tls)));
                fixture.volume.replace_token(&format!("eyJh.{}.canary", "x".repeat(60_000)));
                for _ in 0..3 {
                    fixture.dex.next(played.clone());
                }
                let setup = fixture
                    .setup()
                    .set("DEXSIDECAR_CA_FILE", authority.file().to_str().unwrap())
                    .arguments("--attempt-timeout 5s");
                let mut sidecar = setup.program(&[&shipped()]).run();
                fixture.dex.until_requests(4);
                let output = sidecar.output();
                sidecar.process.until(what, |_| {
                    fs::read_to_string(&output).is_ok_and(|token| fixture.dex.issued().contains(&token))
                });
                let peak = peak(&sidecar);
                assert!(peak < 8 * 1024, "{what}: {peak} kB");
                sidecar.kill_and_run_again();
                sidecar.process.until_logged("token_adopted", 1);
            });
        }
    });
}

/// The key check requests both documents again and again.
#[test]
fn f029_no_list_of_keys_or_grant_types_makes_it_use_much_memory() {
    let fixture = Fixture::new();
    fixture.dex.publish(Documents::Huge);
    let mut sidecar = fixture.setup().arguments("--key-check 1s").program(&[&shipped()]).run();
    sidecar.process.until("the keys are requested", |_| fixture.dex.document_requests() >= 2);
    sidecar.process.until_logged("key_check_suspended", 1);
    let peak = peak(&sidecar);
    assert!(peak < 8 * 1024, "{peak} kB");
    assert_eq!((fixture.dex.requests().len(), sidecar.terminate()), (1, Some(0)));
}

/// An event loop needs some file descriptors. A file that may not grow is a failed write.
#[test]
fn f106_a_limit_that_prevents_the_start_or_the_write_is_reported_without_a_panic() {
    let fixture = Fixture::new();
    for few in 5..9 {
        let limit = format!("--nofile={few}:{few}");
        let setup = fixture.setup().program(&["/usr/bin/prlimit".as_ref(), limit.as_ref(), &program()]);
        let once = setup.execute(&["once", "--timeout", "1s"]);
        assert!(once.code == Some(0) || once.code == Some(1), "{few}: {:?} {}", once.code, once.stderr);
        assert!(!once.stderr.contains("panicked") && !once.stderr.is_empty(), "{few}: {}", once.stderr);
    }
    let setup = fixture.setup();
    let mut sidecar = setup.program(&["/usr/bin/prlimit".as_ref(), "--fsize=0:0".as_ref(), &program()]).run();
    sidecar.process.until_logged("attempt_failed code=output_failed", 1);
    assert_eq!(sidecar.terminate(), Some(0));
}

/// The program runs for one millisecond in a hundred until it has refreshed its token.
#[test]
fn f099_with_little_cpu_time_there_is_one_exchange_for_each_token() {
    let fixture = Fixture::answering(Answer::Token(20));
    // An attempt that starves is no failed attempt.
    let sidecar = fixture.setup().arguments("--attempt-timeout 5m").run();
    let start = Instant::now();
    while sidecar.process.logged("token_written") < 2 {
        assert!(start.elapsed() < 10 * PATIENCE, "no second token\n{}", sidecar.process.timeline());
        sidecar.process.signal(Signal::CONT);
        std::thread::sleep(Duration::from_millis(1));
        sidecar.process.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(99));
    }
    // It is stopped, so the counts do not change any more. One exchange may be under way.
    let (requests, written) = (fixture.dex.requests().len(), sidecar.process.logged("token_written"));
    assert!(
        (written..=written + 1).contains(&requests) && sidecar.process.logged("attempt_failed") == 0,
        "{requests} exchanges for {written} tokens\n{}",
        sidecar.process.timeline()
    );
}

/// The clock that counts from the boot shows a large number.
#[test]
fn f098_ten_years_after_the_boot_of_the_machine_it_keeps_the_token_fresh() {
    let fixture = Fixture::answering(Answer::Token(4));
    let setup = fixture.setup();
    let mut command = killed_with_parent("/usr/bin/unshare".as_ref());
    command.args([
        "--user",
        "--map-root-user",
        "--time",
        "--boottime",
        "315360000",
        "--monotonic",
        "315360000",
    ]);
    command.args([
        "--fork",
        "--kill-child=KILL",
        "sh",
        "-c",
        "cat /proc/uptime; exec \"$@\"",
        "sh",
        "env",
        "-i",
    ]);
    command.args(setup.assignments()).arg(program());
    let mut process = Process::start("dexsidecar", command);
    process.until_logged("token_written", 3);
    let lines = process.lines();
    let uptime = &lines.iter().find(|line| line.from == Stream::Output).expect("the uptime").text;
    let seconds = uptime.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 315_360_000), "{uptime}");
    assert_eq!(process.logged("code=*"), 0, "{}", process.output());
    process.signal_child(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
}

/// A root file system with nothing but the program, the subject token and the output: no /proc, no
/// /dev, and a uid that nothing else has.
#[test]
fn f121_the_program_as_it_ships_needs_no_other_file() {
    let root = tempfile::tempdir().unwrap();
    let (output, subject) = (root.path().join("out"), root.path().join("subject"));
    fs::create_dir(&output).unwrap();
    fs::set_permissions(&output, fs::Permissions::from_mode(0o777)).unwrap();
    fs::copy(shipped(), root.path().join("dexsidecar")).unwrap();
    fs::write(&subject, "eyJh.eyJi.canary").unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let dex = FakeDex::start();
    let setup = Setup::new()
        .at_fake(&dex)
        .set("dex_file_subject_token", "/subject")
        .set("dex_access_token_file", "/out/token")
        .unset("DEXSIDECAR_TERMINATION_LOG");
    let mut command = killed_with_parent("/usr/bin/unshare".as_ref());
    let (uid, variables) =
        (if rustix::process::geteuid().is_root() { "64121" } else { "0" }, setup.assignments());
    if uid == "0" {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--kill-child=KILL", "--fork", "env", "-i"]);
    command.args(variables);
    command
        .args(["/usr/sbin/chroot", &format!("--userspec={uid}:{uid}")])
        .arg(root.path())
        .arg("/dexsidecar");
    let mut process = Process::start("dexsidecar", command);
    process.until_logged("token_written", 1);
    assert!(fs::read_to_string(output.join("token")).unwrap().starts_with("eyJ"));
    // The kernel forgets about the death of the parent when the uid changes.
    process.signal_child(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0), "{}", process.output());
}
