//! Files that are mounted by themselves, as subPath does it, where the image's own folders cannot be written to.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use dexsidecar_e2e::counterpart;
use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::issuer::Issuer;
use dexsidecar_e2e::sidecar::{Setup, in_namespace, program};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;

/// `readOnlyRootFilesystem`: beside the mounted file nothing can be made.
#[test]
fn f080_a_mounted_file_in_a_read_only_folder_is_overwritten_in_place_or_refused() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    for (mode, code, told) in [("auto", 0, "overwritten in place"), ("atomic", 1, "code=output_is_a_mount")] {
        let setup = Setup::new().subject(&volume).at_stand_in(&endpoint).set("DEXSIDECAR_WRITE_MODE", mode);
        let (root, below) = (setup.folder().join("root"), setup.folder().join("below"));
        fs::create_dir(&root).unwrap();
        let output = root.join("token");
        fs::write(&output, "").unwrap();
        fs::write(&below, "an older content").unwrap();
        let setup = setup.set("dex_access_token_file", output.to_str().unwrap());
        let script = format!(
            "mount --bind {root} {root}; mount --bind {below} {output}; mount -o remount,bind,ro {root}; code=0; \
             env -i {env} {program} once --timeout 2s 2>&1 || code=$?; echo code=$code; \
             env -i {env} {program} check || true",
            root = root.display(),
            below = below.display(),
            output = output.display(),
            env = setup.environment().join(" "),
            program = program().display(),
        );
        let printed = in_namespace(&script);
        assert!(printed.contains(told) && printed.contains(&format!("\ncode={code}\n")), "{mode}: {printed}");
        assert_eq!(fs::read_to_string(&below).unwrap().starts_with("eyJ"), mode == "auto", "{mode}");
        // So `check` says before anything is written.
        let told = if mode == "auto" { "a reader may see half of a token" } else { "BROKEN  output" };
        assert!(printed.contains(told), "{mode}: {printed}");
    }
}

/// A volume that is full says so before the first byte of the old token is gone.
#[test]
fn f074_f080_overwriting_in_place_on_a_full_volume_keeps_the_old_token() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let long = format!(r#"{{"access_token":"eyJh.eyJi.{}","expires_in":60}}"#, "a".repeat(60_000));
    endpoint.next(Answer::Token(600));
    endpoint.always(Answer::Bytes(answer("200 OK", &[], &long)));
    let setup = Setup::new().subject(&volume).at_stand_in(&endpoint).set("DEXSIDECAR_WRITE_MODE", "in-place");
    let folder = setup.folder().join("small");
    fs::create_dir(&folder).expect("a folder of its own");
    let setup = setup.set("dex_access_token_file", folder.join("token").to_str().expect("UTF-8"));
    let script = format!(
        "mount -t tmpfs -o size=16k tmpfs {folder}; cd {folder}; touch token; \
         run() {{ env -i {env} {program} once --timeout 1s 2>&1 || true; }}; \
         run; cp token ../first; run; cmp token ../first && echo kept; \
         mount -o remount,size=1m .; run; grep -c aaaa token",
        folder = folder.display(),
        env = setup.environment().join(" "),
        program = program().display(),
    );
    let printed = in_namespace(&script);
    assert!(printed.contains("code=output_disk_full") && printed.ends_with("1\n"), "{printed}");
    assert!(printed.contains("\nkept\n"), "{printed}");
}

/// The image's uid, and a folder of the image, which is root's.
#[test]
fn f080_a_mounted_file_in_a_folder_of_root_is_overwritten_in_place_by_whom_it_belongs_to() {
    if !rustix::process::geteuid().is_root() {
        return counterpart::skip(
            "f080_a_mounted_file_in_a_folder_of_root_is_overwritten_in_place_by_whom_it_belongs_to",
            "a mount for another uid needs root",
        );
    }
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = Setup::new().subject(&volume).at_stand_in(&endpoint);
    let (root, below) = (setup.folder().join("root"), setup.folder().join("below"));
    fs::create_dir(&root).unwrap();
    let output = root.join("token");
    fs::write(&output, "").unwrap();
    fs::write(&below, "").unwrap();
    std::os::unix::fs::chown(&below, Some(65_532), None).unwrap();
    for path in [setup.folder(), &root, volume.token().parent().unwrap()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let copy = setup.folder().join("dexsidecar");
    fs::copy(program(), &copy).unwrap();
    let setup = setup.set("dex_access_token_file", output.to_str().unwrap());
    let script = format!(
        "mount --bind {below} {output}; \
         setpriv --reuid 65532 --regid 65532 --clear-groups env -i {env} {copy} once --timeout 2s 2>&1",
        below = below.display(),
        output = output.display(),
        env = setup.environment().join(" "),
        copy = copy.display(),
    );
    let done = Command::new("unshare").args(["--mount", "sh", "-ec", &script]).output().unwrap();
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && printed.contains("overwritten in place"), "{printed}");
    assert!(fs::read_to_string(&below).unwrap().starts_with("eyJ"));
}

/// The kubelet replaces the token, and a subPath mount stays on the file that was there first: that is told while the old
/// token is still good.
#[test]
fn f068_a_mounted_subject_token_that_was_replaced_is_told_before_it_expires() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let issuer = Issuer::start();
    let folder = tempfile::tempdir().unwrap();
    let (mounted, source) = (folder.path().join("mounted"), folder.path().join("source"));
    fs::write(&mounted, "").unwrap();
    fs::write(&source, issuer.token(3_600)).unwrap();
    let setup = Setup::new()
        .set("dex_file_subject_token", mounted.to_str().unwrap())
        .set("dex_refresh_interval", "1s")
        .at_stand_in(&endpoint);
    let log = folder.path().join("log");
    let script = format!(
        "mount --bind {source} {mounted}; env -i {env} {program} 2> {log} & \
         until grep -q 'token written' {log}; do sleep 0.05; done; \
         echo new > {source}.new; mv {source}.new {source}; \
         until grep -q 'was replaced, and is not seen here' {log}; do sleep 0.05; done; kill $!; wait $!; cat {log}",
        source = source.display(),
        mounted = mounted.display(),
        env = setup.environment().join(" "),
        program = program().display(),
        log = log.display(),
    );
    let said = in_namespace(&format!("timeout 60 sh -ec {}", quoted(&script)));
    assert!(said.contains("without subPath") && !said.contains("expired"), "{said}");
    assert!(Path::new(&setup.output()).exists());
}

/// As one word of a shell.
fn quoted(script: &str) -> String {
    format!("'{}'", script.replace('\'', r"'\''"))
}
