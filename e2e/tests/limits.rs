//! Resources that run out: descriptors, threads, memory, the processor. It goes on with what there is, and heals.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::process::{Process, tied};
use dexsidecar_e2e::sidecar::{Setup, Sidecar, program};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;
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
    sidecar.process.until_said("token written", 1);
    let pid = Pid::from_raw(sidecar.process.pid().cast_signed()).unwrap();
    // Not one more than it has now.
    let few = Rlimit { current: Some(descriptors(&sidecar) as u64 - 1), maximum: Some(1024) };
    prlimit(Some(pid), Resource::Nofile, few).unwrap();
    sidecar.process.until("it says so", |process| process.said("code=") > 0);
    let said = sidecar.process.output();
    assert!(said.contains("Too many open files") || said.contains("os error 24"), "{said}");
    let enough = Rlimit { current: Some(1024), maximum: Some(1024) };
    prlimit(Some(pid), Resource::Nofile, enough).unwrap();
    sidecar.process.until_said("recovered", 1);
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
        return dexsidecar_e2e::counterpart::skip(
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
            "--nproc=1",
            "env",
            "-i",
        ]);
        command.args(setup.environment().iter().map(|line| line.replace('\'', "")));
        command.arg(format!("dex_endpoint={endpoint}")).arg(&copy);
        Process::start("dexsidecar", command)
    };
    let mut by_address = start(endpoint.url());
    by_address.until_said("token written", 2);
    // A name needs a thread, so that its look-up cannot hold up everything else: that is said, and tried again.
    let port = endpoint.address().port();
    let mut by_name = start(format!("http://localhost:{port}/dex/token"));
    by_name.until_said("code=name_lookup_failed", 1);
    by_name.signal(Signal::TERM);
    assert_eq!(by_name.ended().code(), Some(0));
}

/// The peak of its memory, in kB: after bodies, headers and chunks without end.
#[test]
fn f105_no_answer_makes_it_grow() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let huge = vec![b'x'; 40 * 1024 * 1024];
    let many: String = (0..40_000).map(|n| format!("X-{n}: {}\r\n", "y".repeat(100))).collect();
    let chunk = format!("{:x}\r\n{}\r\n", 1_000_000, "z".repeat(1_000_000));
    let chunks = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(20));
    for bytes in [
        [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), huge.clone()].concat(),
        [b"HTTP/1.1 200 OK\r\nContent-Length: 41943040\r\n\r\n".to_vec(), huge].concat(),
        format!("HTTP/1.1 200 OK\r\n{many}\r\n").into_bytes(),
        chunks.into_bytes(),
        answer("200 OK", &[], &format!("{}1", "[".repeat(900_000))),
    ] {
        endpoint.next(Answer::Bytes(bytes));
    }
    let mut sidecar = setup(&endpoint, &volume).arguments("--log-level debug").run();
    sidecar.process.until_said("token written", 1);
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak: u64 = line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    // The test's own build is six times as large as what ships, and most of this is its code.
    assert!(peak < 24 * 1024, "{peak} kB");
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
    sidecar.process.until_said("token written", 2);
    let (heard, written) = (endpoint.heard().len(), sidecar.process.said("token written"));
    assert!(heard == written && heard <= 3, "{heard} exchanges for {written} tokens");
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
    command.args(setup.environment().iter().map(|line| line.replace('\'', ""))).arg(program());
    let mut process = Process::start("dexsidecar", command);
    process.until_said("token written", 3);
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
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(dexsidecar_e2e::pages::root())
        .args(["xtask", "build"])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let said = String::from_utf8_lossy(&built.stdout).into_owned();
    let root = tempfile::tempdir().unwrap();
    let (output, subject) = (root.path().join("out"), root.path().join("subject"));
    fs::create_dir(&output).unwrap();
    fs::set_permissions(&output, fs::Permissions::from_mode(0o777)).unwrap();
    fs::copy(said.lines().last().unwrap(), root.path().join("dexsidecar")).unwrap();
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
        (if rustix::process::geteuid().is_root() { "64121" } else { "0" }, setup.environment());
    if uid == "0" {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--kill-child=KILL", "--fork", "env", "-i"]);
    command.args(variables.iter().map(|line| line.replace('\'', "")));
    command
        .args(["/usr/sbin/chroot", &format!("--userspec={uid}:{uid}")])
        .arg(root.path())
        .arg("/dexsidecar");
    let mut process = Process::start("dexsidecar", command);
    process.until_said("token written", 1);
    assert!(fs::read_to_string(output.join("token")).unwrap().starts_with("eyJ"));
    // With another uid it does not end with its parent any more.
    process.signal_child(Signal::TERM);
    assert_eq!(process.ended().code(), Some(0), "{}", process.output());
}
