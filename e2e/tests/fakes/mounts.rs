//! Files that are mounted by themselves, as subPath does it, where the image's own folders cannot be written to.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use dexsidecar_e2e::endpoint::{Answer, Endpoint};
use dexsidecar_e2e::issuer::Issuer;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::sidecar::{Setup, assert_no_secret, in_namespace, program};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_e2e::wire::answer;

/// A token that has expired, and is long enough to leave something behind.
const OLD: &str = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3MDAwMDAwMDB9.sig-sig-sig-sig-sig-sig-sig-sig-sig-sig-sig-sig-sig-sig-sig";

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
        return prebuilt::skip(
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

/// A mount of the test's own, in which a sidecar runs with the image's uid.
struct Mounted {
    setup: Setup,
    output: PathBuf,
    below: PathBuf,
}

impl Mounted {
    fn new(endpoint: &Endpoint, volume: &Volume) -> Self {
        let setup = Setup::new().subject(volume).at_stand_in(endpoint);
        let (root, below) = (setup.folder().join("root"), setup.folder().join("below"));
        fs::create_dir(&root).expect("a temporary directory");
        let output = root.join("token");
        fs::write(&output, "").expect("a temporary directory");
        fs::write(&below, OLD).expect("a temporary directory");
        let subject = volume.token();
        for path in [setup.folder(), &root, subject.parent().expect("a directory")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("root may");
        }
        fs::copy(program(), setup.folder().join("dexsidecar")).expect("a temporary directory");
        let setup = setup.set("dex_access_token_file", output.to_str().expect("UTF-8"));
        Self { setup, output, below }
    }

    /// Runs `once` so many times, and gives all that it printed.
    fn once(&self, mount: bool, times: usize) -> String {
        let bind = format!("mount --bind {} {}", self.below.display(), self.output.display());
        let one = format!(
            "setpriv --reuid 65532 --regid 65532 --clear-groups env -i {env} {program} once --timeout 1s 2>&1 || \
             echo failed",
            env = self.setup.environment().join(" "),
            program = self.setup.folder().join("dexsidecar").display(),
        );
        let script = format!("{}\n{}", if mount { &bind } else { ":" }, vec![one; times].join("\n"));
        let done = Command::new("unshare").args(["--mount", "sh", "-ec", &script]).output();
        let done = done.expect("unshare is there (util-linux)");
        let printed = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_no_secret(&printed);
        assert!(done.status.success(), "{printed}{}", String::from_utf8_lossy(&done.stderr));
        printed
    }
}

/// Whoever owns a file of mode 0400 cannot open it for writing, unless it is root.
#[test]
fn f159_a_mounted_file_whose_mode_forbids_its_owner_to_write_is_written_again_and_again() {
    let name = "f159_a_mounted_file_whose_mode_forbids_its_owner_to_write_is_written_again_and_again";
    if !rustix::process::geteuid().is_root() {
        return prebuilt::skip(name, "a mount for another uid needs root");
    }
    let (endpoint, volume) = (Endpoint::start("127.0.0.1:0", None), Volume::with("eyJh.eyJi.canary"));
    for mode in ["0400", "0440", "0444", "0600"] {
        let mut mounted = Mounted::new(&endpoint, &volume);
        mounted.setup = mounted.setup.set("DEXSIDECAR_OUTPUT_MODE", mode);
        std::os::unix::fs::chown(&mounted.below, Some(65_532), Some(65_532)).expect("root may");
        let before = endpoint.issued().len();
        let printed = mounted.once(true, 3);
        assert!(!printed.contains("failed") && !printed.contains("code="), "{mode}: {printed}");
        assert_eq!(endpoint.issued().len(), before + 3, "{mode}: {printed}");
        assert_eq!(endpoint.issued().last(), fs::read_to_string(&mounted.below).ok().as_ref(), "{mode}");
        let is = fs::metadata(&mounted.below).expect("a file").mode() & 0o7777;
        assert_eq!(format!("{is:04o}"), mode, "{printed}");
    }
}

#[test]
fn f159_a_mounted_file_of_another_owner_that_cannot_be_written_is_a_failure_that_names_the_call() {
    let name = "f159_a_mounted_file_of_another_owner_that_cannot_be_written_is_a_failure_that_names_the_call";
    if !rustix::process::geteuid().is_root() {
        return prebuilt::skip(name, "a mount for another uid needs root");
    }
    let (endpoint, volume) = (Endpoint::start("127.0.0.1:0", None), Volume::with("eyJh.eyJi.canary"));
    let mounted = Mounted::new(&endpoint, &volume);
    let printed = mounted.once(true, 1);
    assert!(printed.contains("code=output_not_permitted") && printed.contains("openat: "), "{printed}");
    assert_eq!(fs::read_to_string(&mounted.below).expect("it is there"), OLD);
}

/// EPERM is also how a sticky directory protects another's file, which is no reason to write a token into it.
#[test]
fn f158_a_file_of_another_owner_in_a_sticky_directory_is_never_overwritten_in_place() {
    let name = "f158_a_file_of_another_owner_in_a_sticky_directory_is_never_overwritten_in_place";
    if !rustix::process::geteuid().is_root() {
        return prebuilt::skip(name, "files of two owners need root");
    }
    let (endpoint, volume) = (Endpoint::start("127.0.0.1:0", None), Volume::with("eyJh.eyJi.canary"));
    let planted = Mounted::new(&endpoint, &volume);
    let directory = planted.output.parent().expect("a directory");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o1777)).expect("root may");
    fs::write(&planted.output, "planted").expect("root may");
    fs::set_permissions(&planted.output, fs::Permissions::from_mode(0o666)).expect("root may");
    std::os::unix::fs::chown(&planted.output, Some(64_158), None).expect("root may");
    let printed = planted.once(false, 1);
    assert!(printed.contains("code=output_not_permitted") && printed.contains("renameat: "), "{printed}");
    assert!(printed.contains("sticky"), "{printed}");
    assert_eq!(fs::read_to_string(&planted.output).expect("it is there"), "planted");
    let left = fs::read_dir(directory).expect("a directory").count();
    assert_eq!(left, 1, "no temporary file stays");
}
