//! Inputs and outputs that are missing, unusual, full or not writable: each is reported once and
//! needs no restart, and no token is lost. (Other processes that change the output:
//! output_tampering.rs.)

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use dexsidecar_e2e::fake_dex::FakeDex;
use dexsidecar_e2e::fixture::{EXPIRED_TOKEN, Fixture};
use dexsidecar_e2e::log_events;
use dexsidecar_e2e::prebuilt::skip;
use dexsidecar_e2e::sidecar::{Setup, in_namespace, program};
use rustix::fs::FileType;
use rustix::process::Signal;

#[test]
fn f058_f061_an_invalid_subject_token_is_never_sent_and_the_next_valid_one_is() {
    let dex = FakeDex::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("subject");
    let mut sidecar = Setup::new().at_fake(&dex).set("dex_file_subject_token", path.to_str().unwrap()).run();
    sidecar.process.until_logged("code=subject_token_missing", 1);
    let _ = fs::create_dir(&path);
    sidecar.process.until_logged("code=subject_token_not_a_file", 1);
    let _ = fs::remove_dir(&path);
    fs::write(&path, "canary".repeat(20_000)).unwrap();
    sidecar.process.until_logged("code=subject_token_too_large", 1);
    fs::write(&path, "two canary words").unwrap();
    sidecar.process.until_logged("code=subject_token_malformed", 1);
    fs::write(&path, "").unwrap();
    sidecar.process.until_logged("code=subject_token_empty", 1);
    assert!(dex.requests().is_empty());
    // Each failure names the path. The end of a sidecar searches its output for the content of the
    // files.
    let failures = sidecar.process.events("attempt_failed step=subject_token");
    let named = |error: &str| error.contains(&path.display().to_string());
    assert!(
        failures.len() >= 5 && failures.iter().all(|failure| failure["error"].as_str().is_some_and(named)),
        "{failures:#?}"
    );
    fs::write(&path, "eyJh.eyJi.canary\r\n").unwrap();
    sidecar.until_token();
    assert_eq!(dex.requests()[0].field("subject_token").as_deref(), Some("eyJh.eyJi.canary"));
}

#[test]
fn f063_a_subject_token_that_is_not_a_regular_file_is_reported_and_does_not_block() {
    let dex = FakeDex::start();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink("/dev/zero", at("device")).unwrap();
    for name in ["fifo", "socket", "directory", "device"] {
        let setup = Setup::new().at_fake(&dex).set("dex_file_subject_token", at(name).to_str().unwrap());
        let once = setup.once_until_failure();
        assert_eq!(once.code, Some(1), "{name}: {}", once.stderr);
        let failures = once.logged("attempt_failed code=subject_token_not_a_file");
        assert!(failures >= 1, "{name}: {}", once.stderr);
    }
    assert!(dex.requests().is_empty());
}

#[test]
fn f120_the_last_known_value_is_sent_while_a_file_of_the_form_is_unreadable() {
    let fixture = Fixture::new();
    let setup = fixture.setup();
    let file = setup.directory().join("connector");
    fs::write(&file, "from-a-file\n").unwrap();
    let setup = setup.unset("dex_connector_id").set("dex_file_connector_id", file.to_str().unwrap());
    let mut sidecar = setup.run();
    sidecar.process.until_logged("token_written", 1);
    fs::remove_file(&file).unwrap();
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("token_written", 2);
    assert_eq!(sidecar.process.logged("input_unreadable"), 1, "{}", sidecar.process.output());
    // The file is back with another value.
    fs::write(&file, "another").unwrap();
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("token_written", 3);
    let sent: Vec<_> = fixture.dex.requests().iter().map(|request| request.field("connector_id")).collect();
    assert_eq!(sent, ["from-a-file", "from-a-file", "another"].map(|sent| Some(sent.to_owned())));
}

#[test]
fn f071_f072_a_missing_output_directory_costs_no_further_exchange() {
    let fixture = Fixture::new();
    let setup = fixture.setup().set("dex_refresh_interval", "1s");
    let directory = setup.directory().join("late");
    let setup = setup.set("dex_access_token_file", directory.join("token").to_str().unwrap());
    let mut sidecar = setup.run();
    sidecar.process.until_logged("code=output_folder_missing", 1);
    fs::create_dir(&directory).unwrap();
    sidecar.until_token();
    assert_eq!(fixture.dex.requests().len(), 1);
    // The directory is removed and created again: the token is restored from memory.
    fs::remove_dir_all(&directory).unwrap();
    fs::create_dir(&directory).unwrap();
    let token = sidecar.until_token();
    assert_eq!(vec![token], fixture.dex.issued());
}

#[test]
fn f077_f078_an_output_that_is_not_a_regular_file_is_replaced_or_reported_and_does_not_block() {
    let fixture = Fixture::new();
    for write_mode in ["auto", "atomic", "in-place"] {
        let setup = || fixture.setup().set("DEXSIDECAR_WRITE_MODE", write_mode);
        let (fifo, socket, directory) = (setup(), setup(), setup());
        rustix::fs::mknodat(rustix::fs::CWD, fifo.output(), FileType::Fifo, 0o600.into(), 0).unwrap();
        let _listener = UnixListener::bind(socket.output()).unwrap();
        for replaced in [fifo, socket] {
            assert_eq!(replaced.execute(&["once"]).code, Some(0), "{write_mode}");
            assert!(fs::symlink_metadata(replaced.output()).unwrap().is_file(), "{write_mode}");
        }
        let output = directory.output();
        fs::create_dir(&output).unwrap();
        let mut sidecar = directory.run();
        sidecar.process.until_logged("code=output_is_a_folder", 1);
        fs::remove_dir(&output).unwrap();
        sidecar.process.until_logged("token_written", 1);
        assert!(output.is_file(), "{write_mode}");
    }
}

#[test]
fn f082_the_mode_is_the_kubelets_default_or_the_configured_one_whatever_the_umask_is() {
    let fixture = Fixture::new();
    for umask in ["000", "077"] {
        let masked = || {
            let setup = fixture.setup();
            let script = setup.directory().join("start");
            fs::write(&script, format!("umask {umask} && exec \"$@\"")).unwrap();
            let setup = setup.program(&["/bin/sh".as_ref(), &script, &program()]);
            // The mode of an older file does not matter.
            fs::write(setup.output(), "old").unwrap();
            fs::set_permissions(setup.output(), fs::Permissions::from_mode(0o606)).unwrap();
            setup
        };
        let mode = |setup: &Setup| {
            assert_eq!(setup.execute(&["once"]).code, Some(0));
            fs::metadata(setup.output()).unwrap().mode() & 0o7777
        };
        assert_eq!(mode(&masked()), 0o644, "{umask}");
        let fs_group = masked();
        fs::set_permissions(fs_group.directory(), fs::Permissions::from_mode(0o2770)).unwrap();
        assert_eq!(mode(&fs_group), 0o640, "{umask}");
        for (configured, expected) in [("0600", 0o600), ("0644", 0o644)] {
            assert_eq!(mode(&masked().set("DEXSIDECAR_OUTPUT_MODE", configured)), expected, "{umask}");
        }
    }
}

#[test]
fn f082_the_group_is_the_configured_one() {
    if !rustix::process::geteuid().is_root() {
        return skip("f082_the_group_is_the_configured_one", "to give a file to another group needs root");
    }
    let fixture = Fixture::new();
    for write_mode in ["auto", "in-place"] {
        let setup = fixture
            .setup()
            .set("DEXSIDECAR_OUTPUT_GROUP", "64082")
            .set("DEXSIDECAR_OUTPUT_MODE", "0640")
            .set("DEXSIDECAR_WRITE_MODE", write_mode);
        fs::write(setup.output(), "old").unwrap();
        assert_eq!(setup.execute(&["once"]).code, Some(0));
        let file = fs::metadata(setup.output()).unwrap();
        assert_eq!((file.gid(), file.mode() & 0o7777), (64_082, 0o640), "{write_mode}");
    }
}

#[test]
fn f080_an_output_that_is_a_mount_point_is_overwritten_in_place_or_refused() {
    let fixture = Fixture::new();
    for (mode, code, logged) in
        [("auto", 0, "output_in_place level=warn"), ("atomic", 1, "attempt_failed code=output_is_a_mount")]
    {
        let setup = fixture.setup().set("DEXSIDECAR_WRITE_MODE", mode);
        let (output, below) = (setup.output(), setup.directory().join("below"));
        fs::write(&output, "").unwrap();
        fs::write(&below, "an older and much longer content".repeat(60)).unwrap();
        let script = format!(
            "mount --bind {below} {output}; code=0; env -i {env} {program} once --timeout 2s 2>&1 || code=$?; echo code=$code",
            below = below.display(),
            output = output.display(),
            env = setup.environment().join(" "),
            program = program().display(),
        );
        let printed = in_namespace(&script);
        let times = log_events::select(&printed, logged).len();
        assert!(times >= 1 && printed.ends_with(&format!("code={code}\n")), "{mode}: {printed}");
        let content = fs::read_to_string(&below).unwrap();
        assert_eq!(content.starts_with("eyJ") && !content.contains("older"), mode == "auto", "{mode}");
    }
}

#[test]
fn f074_a_full_disk_keeps_the_old_token_and_needs_no_restart() {
    let fixture = Fixture::new();
    let setup = fixture.setup();
    let directory = setup.directory().join("small");
    fs::create_dir(&directory).unwrap();
    let setup = setup.set("dex_access_token_file", directory.join("token").to_str().unwrap());
    let script = format!(
        "mount -t tmpfs -o size=8k tmpfs {directory}; cd {directory}; \
         run() {{ env -i {env} {program} once --timeout 2s 2>&1 || true; }}; \
         run; cp token ../first; head -c 4096 /dev/zero > filler || true; \
         run; cmp token ../first && echo kept; ls -A; \
         env -i {env} {program} check --json | grep -o 'output_disk_full'; \
         rm filler; run; cmp -s token ../first || echo replaced",
        directory = directory.display(),
        env = setup.environment().join(" "),
        program = program().display(),
    );
    let printed = in_namespace(&script);
    assert!(!log_events::select(&printed, "attempt_failed code=output_disk_full").is_empty(), "{printed}");
    for expected in ["kept\nfiller\ntoken\noutput_disk_full\n", "replaced"] {
        assert!(printed.contains(expected), "{expected}\n{printed}");
    }
}

#[test]
fn f073_a_volume_that_becomes_read_only_keeps_its_token_and_needs_no_restart() {
    let fixture = Fixture::new();
    let setup = fixture.setup();
    let directory = setup.directory().join("volume");
    fs::create_dir(&directory).unwrap();
    let setup = setup.set("dex_access_token_file", directory.join("token").to_str().unwrap());
    let setup = setup.set("DEXSIDECAR_LOG", "info");
    // `ready` judges the file, not the memory of a running process.
    let script = format!(
        "mount -t tmpfs tmpfs {directory}; cd {directory}; \
         run() {{ env -i {env} {program} once --timeout 2s 2>&1 || true; }}; \
         ready() {{ env -i {env} {program} ready > ../printed 2>&1 && echo ready || echo not ready; }}; \
         run; cp token ../first; mount -o remount,ro .; \
         run; cmp token ../first && echo kept; ready; \
         mount -o remount,rw .; printf {EXPIRED_TOKEN} > token; mount -o remount,ro .; \
         run; cat token; echo; ready; \
         mount -o remount,rw .; run; cmp -s token ../first || echo replaced; ready; ls -A",
        directory = directory.display(),
        env = setup.environment().join(" "),
        program = program().display(),
    );
    let printed = in_namespace(&script);
    let failures = log_events::select(&printed, "attempt_failed code=output_read_only").len();
    let rest: Vec<_> = printed.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(
        (failures, rest),
        (2, vec!["kept", "ready", EXPIRED_TOKEN, "not ready", "replaced", "ready", "token"]),
        "{printed}"
    );
}

/// A rename over the file of another uid fails there, and nothing else would show it.
#[test]
fn f073_check_notices_a_sticky_directory_with_the_file_of_another_owner() {
    let name = "f073_check_notices_a_sticky_directory_with_the_file_of_another_owner";
    if !rustix::process::geteuid().is_root() {
        return skip(name, "files of two owners need root");
    }
    let fixture = Fixture::new();
    let setup = fixture.setup();
    let sticky = setup.directory().join("sticky");
    fs::create_dir(&sticky).unwrap();
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(sticky.join("token"), "planted").unwrap();
    for path in [setup.directory(), fixture.volume.token().parent().unwrap()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let setup = setup.set("dex_access_token_file", sticky.join("token").to_str().unwrap());
    let output = Command::new("setpriv")
        .args(["--reuid", "65532", "--regid", "65532", "--clear-groups", "env", "-i"])
        .args(setup.assignments())
        .arg(copy_for_all(&program(), setup.directory()))
        .args(["check", "--json"])
        .output()
        .expect("setpriv is there (util-linux)");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(report.contains("output_not_permitted") && report.contains("the sticky bit"), "{report}");
    assert_eq!(fs::read_dir(&sticky).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn f073_an_output_directory_of_another_owner_is_explained() {
    let fixture = Fixture::new();
    let setup = fixture.setup();
    let locked = setup.directory().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    let setup = setup.set("dex_access_token_file", locked.join("token").to_str().unwrap());
    let arguments = ["once", "--timeout", "1s"];
    let log = if rustix::process::geteuid().is_root() {
        // Root may write anywhere, so the program gets the uid of the image.
        for path in [setup.directory(), fixture.volume.token().parent().unwrap()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let output = Command::new("setpriv")
            .args(["--reuid", "65532", "--regid", "65532", "--clear-groups", "env", "-i"])
            .args(setup.assignments())
            .arg(copy_for_all(&program(), setup.directory()))
            .args(arguments)
            .output()
            .expect("setpriv is there (util-linux)");
        String::from_utf8_lossy(&output.stderr).into_owned()
    } else {
        setup.execute(&arguments).stderr
    };
    let failures = log_events::select(&log, "attempt_failed code=output_not_permitted");
    let [error, fix] =
        ["error", "fix"].map(|name| failures.first().and_then(|failure| failure[name].as_str()));
    assert!(error.is_some_and(|error| error.contains("this process runs as ")), "{log}");
    assert!(fix.is_some_and(|fix| fix.contains("miscord-dev/dexsidecar as root")), "{log}");
    if rustix::process::geteuid().is_root() {
        assert!(error.is_some_and(|error| error.contains("this process runs as 65532:65532")), "{log}");
    }
}

/// A copy of the program that every uid can start.
fn copy_for_all(program: &Path, directory: &Path) -> PathBuf {
    let copy = directory.join("dexsidecar");
    fs::copy(program, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

/// The reason to mount the directory and not the file: a reader with a mounted file keeps the old
/// file.
#[test]
fn f081_a_reader_with_the_file_mounted_sees_new_tokens_only_if_they_are_written_in_place() {
    let fixture = Fixture::new();
    for (mode, follows) in [("auto", false), ("in-place", true)] {
        let setup = fixture.setup().set("DEXSIDECAR_WRITE_MODE", mode);
        let (output, view, seen) =
            (setup.output(), setup.directory().join("view"), setup.directory().join("seen"));
        fs::write(&output, "first").unwrap();
        fs::write(&view, "").unwrap();
        // The sidecar has the directory; the reader has a mount of the file alone.
        let script = format!(
            "mount --bind {output} {view}; unshare --mount sh -ec 'umount {view}; env -i {env} {program} once'; cp {view} {seen}",
            seen = seen.display(),
            output = output.display(),
            view = view.display(),
            env =
                setup.environment().iter().map(|line| line.replace('\'', "\"")).collect::<Vec<_>>().join(" "),
            program = program().display(),
        );
        let _nothing = in_namespace(&script);
        let seen = fs::read_to_string(seen).unwrap();
        assert_eq!(seen.starts_with("eyJ"), follows, "{mode}: {seen}");
        assert_eq!(seen == "first", !follows, "{mode}: {seen}");
    }
}
