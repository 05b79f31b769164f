//! Resources that run out: descriptors, threads, memory, the processor. It goes on with what there is, and heals.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::endpoint::{Answer, Documents, Endpoint};
use dexsidecar_e2e::process::{Process, tied};
use dexsidecar_e2e::sidecar::{Setup, Sidecar, program, shipped};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

fn setup(endpoint: &Endpoint, volume: &Volume) -> Setup {
    Setup::new().subject(volume).at_stand_in(endpoint)
}

fn descriptors(sidecar: &Sidecar) -> usize {
    fs::read_dir(format!("/proc/{}/fd", sidecar.process.pid())).unwrap().count()
}

#[test]
fn f106_without_descriptors_it_waits_and_heals() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(4));
    let volume = Volume::with("eyJh.eyJi.canary");
    let mut sidecar = setup(&endpoint, &volume).run();
    sidecar.process.until_logged("token_written", 1);
    let pid = Pid::from_raw(sidecar.process.pid().cast_signed()).unwrap();
    // Not one more than it has now.
    let few = Rlimit { current: Some(descriptors(&sidecar) as u64 - 1), maximum: Some(1024) };
    prlimit(Some(pid), Resource::Nofile, few).unwrap();
    sidecar.process.until("it says so", |process| process.logged("code=") > 0);
    let said = sidecar.process.output();
    assert!(said.contains("Too many open files") || said.contains("os error 24"), "{said}");
    let enough = Rlimit { current: Some(1024), maximum: Some(1024) };
    prlimit(Some(pid), Resource::Nofile, enough).unwrap();
    sidecar.process.until_logged("recovered", 1);
    assert_eq!(sidecar.terminate(), Some(0));
}

#[test]
fn f107_without_threads_it_goes_on() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(4));
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = setup(&endpoint, &volume);
    // A uid of its own, so that the limit counts nobody else.
    if !rustix::process::geteuid().is_root() {
        return dexsidecar_e2e::prebuilt::skip(
            "f107_without_threads_it_goes_on",
            "a uid of its own needs root",
        );
    }
    for path in [setup.folder(), volume.token().parent().unwrap()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let copy = setup.folder().join("dexsidecar");
    fs::copy(program(), &copy).unwrap();
    let start = |endpoint: String| {
        let mut command = tied("/usr/bin/setpriv".as_ref());
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
    let mut by_address = start(endpoint.url());
    by_address.until_logged("token_written", 2);
    // A look-up needs no thread either.
    let port = endpoint.address().port();
    let mut by_name = start(format!("http://dex.localhost:{port}/dex/token"));
    by_name.until_logged("token_written", 2);
    by_name.signal(Signal::TERM);
    assert_eq!(by_name.ended().code(), Some(0));
}

/// The peak of its memory as it ships, in kB.
fn peak(sidecar: &Sidecar) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Zeros in gzip, a thousand times smaller.
fn bomb(size: usize) -> Vec<u8> {
    let mut packed = GzEncoder::new(vec![], Compression::best());
    packed.write_all(&vec![0; size]).unwrap();
    packed.finish().unwrap()
}

/// Each three times, so that what one leaves behind would add up. Then it is killed, as for its memory, and takes up its work.
#[test]
fn f029_f030_f105_no_answer_makes_it_grow() {
    let endless =
        |head: &str, more: &str| Answer::Endless(head.as_bytes().to_vec(), more.as_bytes().to_vec());
    let x = "x".repeat(65_536);
    let chunk = format!("10000\r\n{x}\r\n");
    let says = |status: &str, body: &str| Answer::Bytes(answer(status, &[], body));
    let refusal = |why: &str| {
        says("401 Unauthorized", &format!(r#"{{"error":"access_denied","error_description":"{why}"}}"#))
    };
    let packed = |status: &str, size| {
        let head = format!("HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\n\r\n");
        Answer::Bytes([head.into_bytes(), bomb(size)].concat())
    };
    let (lists, nothings) = ("[0],".repeat(250_000), "0,".repeat(500_000));
    let half = "a".repeat(500_000);
    no_growth(vec![
        ("a body", endless("HTTP/1.1 200 OK\r\n\r\n", &x)),
        ("a body as announced", endless("HTTP/1.1 200 OK\r\nContent-Length: 17179869184\r\n\r\n", &x)),
        ("a header", endless("HTTP/1.1 200 OK\r\nX: ", &x)),
        ("headers", endless("HTTP/1.1 200 OK\r\n", "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")),
        ("interim answers", endless("", "HTTP/1.1 100 Continue\r\n\r\n")),
        ("chunks", endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk)),
        (
            "a token that says a thousand nothings",
            says("200 OK", &format!(r#"{{"access_token":"{}","expires_in":4}}"#, nothings_of_a_token())),
        ),
        ("depth", says("200 OK", &format!("{}1", "[".repeat(900_000)))),
        ("depth in a member", says("200 OK", &format!(r#"{{"x":{}"#, "[".repeat(900_000)))),
        ("a token of lists", says("200 OK", &format!(r#"{{"access_token":[{lists}0]}}"#))),
        ("an error of numbers", says("400 Bad Request", &format!(r#"{{"error":[{nothings}0]}}"#))),
        ("ten megabytes in gzip", packed("200 OK", 10 * 1024 * 1024)),
        ("a hundred megabytes in gzip, refused", packed("400 Bad Request", 100 * 1024 * 1024)),
        (
            "the longest token there may be",
            says("200 OK", &format!(r#"{{"access_token":"{}","expires_in":4}}"#, "a".repeat(256 * 1024))),
        ),
        ("a long refusal", refusal(&"y".repeat(900_000))),
        ("a long refusal that is encoded", refusal(&"%79".repeat(300_000))),
        (
            "a refusal that brings a token",
            says(
                "400 Bad Request",
                &format!(r#"{{"access_token":"{half}","error":"x","error_description":"{half}"}}"#),
            ),
        ),
    ]);
}

/// A token of 250 kB whose header and payload are made of what costs most to keep.
fn nothings_of_a_token() -> String {
    let nothing = URL_SAFE_NO_PAD.encode(format!(r#"{{"x":[{}0]}}"#, r#"{"":[[0]]},"#.repeat(7_500)));
    format!("{nothing}.{nothing}.c2lnbmF0dXJl")
}

/// What ships goes through each of these three times, in TLS over IPv6, with the longest of subject tokens; then it has its
/// token, has never taken 8 MB, and adopts the token after a kill.
fn no_growth(answers: Vec<(&'static str, Answer)>) {
    let authority = Authority::new();
    let tls = authority.server(&[]).server_config();
    std::thread::scope(|scope| {
        for (what, played) in answers {
            let (authority, tls) = (&authority, Arc::clone(&tls));
            scope.spawn(move || {
                let endpoint = Endpoint::start("[::1]:0", Some(tls));
                for _ in 0..3 {
                    endpoint.next(played.clone());
                }
                let volume = Volume::with(&format!("eyJh.{}.canary", "x".repeat(60_000)));
                let setup = setup(&endpoint, &volume)
                    .set("DEXSIDECAR_CA_FILE", authority.file().to_str().unwrap())
                    .arguments("--attempt-timeout 5s");
                let mut sidecar = setup.program(&[&shipped()]).run();
                endpoint.until_heard(4);
                let output = sidecar.output();
                sidecar.process.until(what, |_| {
                    fs::read_to_string(&output).is_ok_and(|token| endpoint.issued().contains(&token))
                });
                let peak = peak(&sidecar);
                assert!(peak < 8 * 1024, "{what}: {peak} kB");
                sidecar.kill_and_run_again();
                sidecar.process.until_logged("token_adopted", 1);
            });
        }
    });
}

/// Nor do the documents beside the endpoint, which are looked at again and again.
#[test]
fn f029_no_list_of_keys_or_grants_makes_it_grow() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.publish(Documents::Countless);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = setup(&endpoint, &volume).arguments("--key-check 1s").program(&[&shipped()]);
    let mut sidecar = setup.run();
    sidecar.process.until("keys are looked for", |_| endpoint.keys_asked() >= 2);
    sidecar.process.until_logged("key_check_suspended", 1);
    let peak = peak(&sidecar);
    assert!(peak < 8 * 1024, "{peak} kB");
    assert_eq!((endpoint.heard().len(), sidecar.terminate()), (1, Some(0)));
}

/// With fewer descriptors than an event loop takes it says so and ends; a file that may not become longer is a write that fails.
#[test]
fn f106_what_it_cannot_begin_with_is_said_and_no_panic() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = setup(&endpoint, &volume);
    for few in 5..9 {
        let limit = format!("--nofile={few}:{few}");
        let setup = Setup::new().subject(&volume).at_stand_in(&endpoint).program(&[
            "/usr/bin/prlimit".as_ref(),
            limit.as_ref(),
            &program(),
        ]);
        let done = setup.done(&["once", "--timeout", "1s"]);
        assert!(done.code == Some(0) || done.code == Some(1), "{few}: {:?} {}", done.code, done.stderr);
        assert!(!done.stderr.contains("panicked") && !done.stderr.is_empty(), "{few}: {}", done.stderr);
    }
    let mut sidecar = setup.program(&["/usr/bin/prlimit".as_ref(), "--fsize=0:0".as_ref(), &program()]).run();
    sidecar.process.until_logged("code=output_failed", 1);
    assert_eq!(sidecar.terminate(), Some(0));
}

/// One millisecond in a hundred is all that it gets.
#[test]
fn f099_with_little_of_the_processor_it_does_one_thing_at_a_time() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(20));
    let volume = Volume::with("eyJh.eyJi.canary");
    let mut sidecar = setup(&endpoint, &volume).run();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(14) {
        sidecar.process.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(99));
        sidecar.process.signal(Signal::CONT);
        std::thread::sleep(Duration::from_millis(1));
    }
    sidecar.process.until_logged("token_written", 2);
    let (heard, written) = (endpoint.heard().len(), sidecar.process.logged("token_written"));
    // One may be on its way.
    assert!((written..=written + 1).contains(&heard) && heard <= 3, "{heard} exchanges for {written} tokens");
}

/// A machine that has run for ten years: what is counted from its start is a large number.
#[test]
fn f098_ten_years_after_the_start_of_the_machine_it_goes_on() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.always(Answer::Token(4));
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = setup(&endpoint, &volume);
    let mut command = tied("/usr/bin/unshare".as_ref());
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
    let uptime = process.lines().swap_remove(0).text;
    let seconds = uptime.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 315_360_000), "{uptime}");
    assert!(!process.output().contains("code="), "{}", process.output());
    process.signal_child(Signal::TERM);
    assert_eq!(process.ended().code(), Some(0));
}

/// The binary as it ships, alone in a root of its own: any uid, nothing to write to but the output, no /proc, no /dev.
#[test]
fn f121_nothing_of_the_system_is_needed() {
    let root = tempfile::tempdir().unwrap();
    let (output, subject) = (root.path().join("out"), root.path().join("subject"));
    fs::create_dir(&output).unwrap();
    fs::set_permissions(&output, fs::Permissions::from_mode(0o777)).unwrap();
    fs::copy(shipped(), root.path().join("dexsidecar")).unwrap();
    fs::write(&subject, "eyJh.eyJi.canary").unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let setup = Setup::new()
        .at_stand_in(&endpoint)
        .set("dex_file_subject_token", "/subject")
        .set("dex_access_token_file", "/out/token")
        .unset("DEXSIDECAR_TERMINATION_LOG");
    let mut command = tied("/usr/bin/unshare".as_ref());
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
    // With another uid it does not end with its parent any more.
    process.signal_child(Signal::TERM);
    assert_eq!(process.ended().code(), Some(0), "{}", process.output());
}
