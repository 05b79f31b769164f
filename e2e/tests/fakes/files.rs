//! Files that are missing, odd, full or in the way: said once, healed without a restart, nothing lost. (What others do to the
//! output: meddling.rs.)

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use dexsidecar_e2e::endpoint::Endpoint;
use dexsidecar_e2e::sidecar::{Setup, in_namespace, program};
use dexsidecar_e2e::volume::Volume;
use rustix::fs::FileType;
use rustix::process::Signal;

/// A token whose time was over in 2023.
const EXPIRED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3MDAwMDAwMDB9.sig";

fn good(endpoint: &Endpoint, volume: &Volume) -> Setup {
    Setup::new().subject(volume).at_stand_in(endpoint)
}

#[test]
fn f058_f061_a_bad_subject_token_is_never_sent_and_its_successor_is() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("subject");
    let mut sidecar =
        Setup::new().at_stand_in(&endpoint).set("dex_file_subject_token", path.to_str().unwrap()).run();
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
    assert!(endpoint.heard().is_empty());
    // Each names the path. That none repeats what is in the file is looked at whenever a sidecar ends.
    let told = sidecar.process.lines().into_iter().filter(|line| line.text.contains("code=subject_token_"));
    let path_said = format!("{}", path.display());
    assert!(told.map(|line| line.text).all(|text| text.contains(&path_said)), "{}", sidecar.process.output());
    fs::write(&path, "eyJh.eyJi.canary\r\n").unwrap();
    sidecar.until_token();
    assert_eq!(endpoint.heard()[0].field("subject_token").as_deref(), Some("eyJh.eyJi.canary"));
}

#[test]
fn f063_what_is_no_regular_file_is_told_and_never_waited_for() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), FileType::Fifo, 0o600.into(), 0).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    symlink("/dev/zero", at("device")).unwrap();
    for name in ["fifo", "socket", "folder", "device"] {
        let setup =
            Setup::new().at_stand_in(&endpoint).set("dex_file_subject_token", at(name).to_str().unwrap());
        let done = setup.done(&["once", "--timeout", "300ms"]);
        assert_eq!(done.code, Some(1), "{name}: {}", done.stderr);
        assert!(done.stderr.contains("code=subject_token_not_a_file"), "{name}: {}", done.stderr);
    }
    assert!(endpoint.heard().is_empty());
}

#[test]
fn f120_a_file_of_the_form_that_cannot_be_read_any_more_is_remembered() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = good(&endpoint, &volume);
    let file = setup.folder().join("connector");
    fs::write(&file, "from-a-file\n").unwrap();
    let setup = setup.unset("dex_connector_id").set("dex_file_connector_id", file.to_str().unwrap());
    let mut sidecar = setup.run();
    sidecar.process.until_logged("token_written", 1);
    fs::remove_file(&file).unwrap();
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("token_written", 2);
    assert_eq!(sidecar.process.logged("input_unreadable"), 1, "{}", sidecar.process.output());
    // It comes back with something else in it.
    fs::write(&file, "another").unwrap();
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("token_written", 3);
    let sent = endpoint.heard().iter().map(|heard| heard.field("connector_id")).collect::<Vec<_>>();
    assert_eq!(sent, ["from-a-file", "from-a-file", "another"].map(|sent| Some(sent.to_owned())));
}

#[test]
fn f071_f072_a_missing_folder_costs_no_further_exchange() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = good(&endpoint, &volume).set("dex_refresh_interval", "1s");
    let folder = setup.folder().join("late");
    let setup = setup.set("dex_access_token_file", folder.join("token").to_str().unwrap());
    let mut sidecar = setup.run();
    sidecar.process.until_logged("code=output_folder_missing", 1);
    fs::create_dir(&folder).unwrap();
    sidecar.until_token();
    assert_eq!(endpoint.heard().len(), 1);
    // Removed and made again: put back from memory.
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    let token = sidecar.until_token();
    assert_eq!(vec![token], endpoint.issued());
}

#[test]
fn f077_f078_what_is_no_file_is_told_or_replaced_and_never_waited_for() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    for write_mode in ["auto", "atomic", "in-place"] {
        let setup = || good(&endpoint, &volume).set("DEXSIDECAR_WRITE_MODE", write_mode);
        let (fifo, socket, folder) = (setup(), setup(), setup());
        rustix::fs::mknodat(rustix::fs::CWD, fifo.output(), FileType::Fifo, 0o600.into(), 0).unwrap();
        let _listens = UnixListener::bind(socket.output()).unwrap();
        for odd in [fifo, socket] {
            assert_eq!(odd.done(&["once"]).code, Some(0), "{write_mode}");
            assert!(fs::symlink_metadata(odd.output()).unwrap().is_file(), "{write_mode}");
        }
        let output = folder.output();
        fs::create_dir(&output).unwrap();
        let mut sidecar = folder.run();
        sidecar.process.until_logged("code=output_is_a_folder", 1);
        fs::remove_dir(&output).unwrap();
        sidecar.process.until_logged("token_written", 1);
        assert!(output.is_file(), "{write_mode}");
    }
}

#[test]
fn f082_the_mode_follows_the_kubelet_s_rule_or_the_setting_whatever_the_umask() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    for umask in ["000", "077"] {
        let masked = || {
            let setup = good(&endpoint, &volume);
            let script = setup.folder().join("start");
            fs::write(&script, format!("umask {umask} && exec \"$@\"")).unwrap();
            let setup = setup.program(&["/bin/sh".as_ref(), &script, &program()]);
            // What somebody made of it before is no example.
            fs::write(setup.output(), "old").unwrap();
            fs::set_permissions(setup.output(), fs::Permissions::from_mode(0o606)).unwrap();
            setup
        };
        let mode = |setup: &Setup| {
            assert_eq!(setup.done(&["once"]).code, Some(0));
            fs::metadata(setup.output()).unwrap().mode() & 0o7777
        };
        assert_eq!(mode(&masked()), 0o644, "{umask}");
        let fs_group = masked();
        fs::set_permissions(fs_group.folder(), fs::Permissions::from_mode(0o2770)).unwrap();
        assert_eq!(mode(&fs_group), 0o640, "{umask}");
        for (set, is) in [("0600", 0o600), ("0644", 0o644)] {
            assert_eq!(mode(&masked().set("DEXSIDECAR_OUTPUT_MODE", set)), is, "{umask}");
        }
    }
}

#[test]
fn f082_the_group_is_the_one_that_is_set() {
    let name = "f082_the_group_is_the_one_that_is_set";
    if !rustix::process::geteuid().is_root() {
        return dexsidecar_e2e::prebuilt::skip(name, "to give a file to another group needs root");
    }
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    for write_mode in ["auto", "in-place"] {
        let setup = good(&endpoint, &volume)
            .set("DEXSIDECAR_OUTPUT_GROUP", "64082")
            .set("DEXSIDECAR_OUTPUT_MODE", "0640")
            .set("DEXSIDECAR_WRITE_MODE", write_mode);
        fs::write(setup.output(), "old").unwrap();
        assert_eq!(setup.done(&["once"]).code, Some(0));
        let file = fs::metadata(setup.output()).unwrap();
        assert_eq!((file.gid(), file.mode() & 0o7777), (64_082, 0o640), "{write_mode}");
    }
}

#[test]
fn f080_a_file_that_is_a_mount_point_is_overwritten_in_place_or_refused() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    for (mode, code, told) in [("auto", 0, "overwritten in place"), ("atomic", 1, "code=output_is_a_mount")] {
        let setup = good(&endpoint, &volume).set("DEXSIDECAR_WRITE_MODE", mode);
        let (output, below) = (setup.output(), setup.folder().join("below"));
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
        assert!(printed.contains(told) && printed.ends_with(&format!("code={code}\n")), "{mode}: {printed}");
        let content = fs::read_to_string(&below).unwrap();
        assert_eq!(content.starts_with("eyJ") && !content.contains("older"), mode == "auto", "{mode}");
    }
}

#[test]
fn f074_a_full_disk_keeps_the_old_token_and_heals() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = good(&endpoint, &volume);
    let folder = setup.folder().join("small");
    fs::create_dir(&folder).unwrap();
    let setup = setup.set("dex_access_token_file", folder.join("token").to_str().unwrap());
    let script = format!(
        "mount -t tmpfs -o size=8k tmpfs {folder}; cd {folder}; \
         run() {{ env -i {env} {program} once --timeout 2s 2>&1 || true; }}; \
         run; cp token ../first; head -c 4096 /dev/zero > filler || true; \
         run; cmp token ../first && echo kept; ls -A; rm filler; run; cmp -s token ../first || echo healed",
        folder = folder.display(),
        env = setup.environment().join(" "),
        program = program().display(),
    );
    let printed = in_namespace(&script);
    for told in ["code=output_disk_full", "kept\nfiller\ntoken\n", "healed"] {
        assert!(printed.contains(told), "{told}\n{printed}");
    }
}

#[test]
fn f073_a_volume_that_becomes_read_only_keeps_its_token_and_heals() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = good(&endpoint, &volume);
    let folder = setup.folder().join("volume");
    fs::create_dir(&folder).unwrap();
    let setup = setup.set("dex_access_token_file", folder.join("token").to_str().unwrap());
    let setup = setup.set("DEXSIDECAR_LOG", "info");
    // Whether a token is good is told by the file, whatever a process has in its memory.
    let script = format!(
        "mount -t tmpfs tmpfs {folder}; cd {folder}; \
         run() {{ env -i {env} {program} once --timeout 2s 2>&1 || true; }}; \
         ready() {{ env -i {env} {program} ready > ../said 2>&1 && echo ready || echo not ready; }}; \
         run; cp token ../first; mount -o remount,ro .; \
         run; cmp token ../first && echo kept; ready; \
         mount -o remount,rw .; printf {EXPIRED} > token; mount -o remount,ro .; \
         run; cat token; echo; ready; \
         mount -o remount,rw .; run; cmp -s token ../first || echo healed; ready; ls -A",
        folder = folder.display(),
        env = setup.environment().join(" "),
        program = program().display(),
    );
    let printed = in_namespace(&script);
    let told = printed.matches("code=output_read_only").count();
    let rest: Vec<_> = printed.lines().filter(|line| !line.contains("Z ")).collect();
    assert_eq!(
        (told, rest),
        (2, vec!["kept", "ready", EXPIRED, "not ready", "healed", "ready", "token"]),
        "{printed}"
    );
}

#[test]
fn f073_a_folder_of_another_owner_is_explained() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = good(&endpoint, &volume);
    let locked = setup.folder().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    let setup = setup.set("dex_access_token_file", locked.join("token").to_str().unwrap());
    if rustix::process::geteuid().is_root() {
        // Root may write anywhere: the image's uid is what users meet this with.
        for path in [setup.folder(), Path::new(&volume.token()).parent().unwrap()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let output = Command::new("setpriv")
            .args(["--reuid", "65532", "--regid", "65532", "--clear-groups", "env", "-i"])
            .args(setup.assignments())
            .arg(copy_for_all(&program(), setup.folder()))
            .args(["once", "--timeout", "1s"])
            .output()
            .expect("setpriv is there (util-linux)");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            text.contains("code=output_not_permitted") && text.contains("this process runs as 65532:65532"),
            "{text}"
        );
        assert!(text.contains("the original's ran as root"), "{text}");
    } else {
        let done = setup.done(&["once", "--timeout", "1s"]);
        assert!(done.stderr.contains("code=output_not_permitted"), "{}", done.stderr);
    }
}

/// A copy of the program where any uid can start it.
fn copy_for_all(program: &Path, folder: &Path) -> std::path::PathBuf {
    let copy = folder.join("dexsidecar");
    fs::copy(program, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

/// Why the folder is to be mounted and not the file: a reader with the file stays on what was there first.
#[test]
fn f081_a_reader_of_the_mounted_file_stays_behind_unless_it_is_written_in_place() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    for (mode, follows) in [("auto", false), ("in-place", true)] {
        let setup = good(&endpoint, &volume).set("DEXSIDECAR_WRITE_MODE", mode);
        let (output, view, seen) = (setup.output(), setup.folder().join("view"), setup.folder().join("seen"));
        fs::write(&output, "first").unwrap();
        fs::write(&view, "").unwrap();
        // The sidecar sees the folder; the reader's view is the file alone.
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
