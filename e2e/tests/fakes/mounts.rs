//! Files that are mounted one by one, as with subPath, in directories that are not writable.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use dexsidecar_e2e::fake_api_server::FakeApiServer;
use dexsidecar_e2e::fake_dex::{Answer, FakeDex};
use dexsidecar_e2e::fixture::Fixture;
use dexsidecar_e2e::log_events;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::raw_http::answer;
use dexsidecar_e2e::sidecar::{Setup, assert_no_secret, failed_step, in_namespace, program};
use serde_json::Value;

/// An expired token, longer than those that the fake Dex issues: overwriting must truncate it.
const OLD: &str = "eyJhbGciOiJFUzI1NiJ9.eyJleHAiOjE3MDAwMDAwMDB9.sig-sig-sig-sig-sig-sig-sig-sig-sig-sig-sig-sig-sig-sig-sig";

/// As with `readOnlyRootFilesystem`: no file can be created beside the mounted one.
#[test]
fn f080_a_mounted_file_in_a_read_only_directory_is_overwritten_in_place_or_refused() {
    let fixture = Fixture::new();
    for (mode, code, logged) in
        [("auto", 0, "output_in_place level=warn"), ("atomic", 1, "attempt_failed code=output_is_a_mount")]
    {
        let setup = fixture.setup().set("DEXSIDECAR_WRITE_MODE", mode);
        let (root, below) = (setup.directory().join("root"), setup.directory().join("below"));
        fs::create_dir(&root).unwrap();
        let output = root.join("token");
        fs::write(&output, "").unwrap();
        fs::write(&below, "an older content").unwrap();
        let setup = setup.set("dex_access_token_file", output.to_str().unwrap());
        let script = format!(
            "mount --bind {root} {root}; mount --bind {below} {output}; mount -o remount,bind,ro {root}; code=0; \
             env -i {env} {program} once --timeout 2s 2>&1 || code=$?; echo code=$code; \
             env -i {env} {program} check --json || true",
            root = root.display(),
            below = below.display(),
            output = output.display(),
            env = setup.environment().join(" "),
            program = program().display(),
        );
        let printed = in_namespace(&script);
        assert!(!log_events::select(&printed, logged).is_empty(), "{mode}: {printed}");
        assert!(printed.contains(&format!("\ncode={code}\n")), "{mode}: {printed}");
        assert_eq!(fs::read_to_string(&below).unwrap().starts_with("eyJ"), mode == "auto", "{mode}");
        // `check` reports the same before anything is written.
        let report: Value = printed.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap();
        if mode == "auto" {
            let step = report["steps"].as_array().unwrap().last().unwrap();
            let notes = step["notes"].to_string();
            assert!(step["step"] == "output" && notes.contains("overwritten in place"), "{report:#}");
        } else {
            assert_eq!(failed_step(&report)["code"], "output_is_a_mount", "{report:#}");
        }
    }
}

/// A full volume is noticed before the first byte of the old token is overwritten.
#[test]
fn f074_f080_overwriting_in_place_on_a_full_volume_keeps_the_old_token() {
    let fixture = Fixture::new();
    let long = format!(r#"{{"access_token":"eyJh.eyJi.{}","expires_in":60}}"#, "a".repeat(60_000));
    fixture.dex.next(Answer::Token(600));
    fixture.dex.always(Answer::Bytes(answer("200 OK", &[], &long)));
    let setup = fixture.setup().set("DEXSIDECAR_WRITE_MODE", "in-place");
    let directory = setup.directory().join("small");
    fs::create_dir(&directory).expect("a temporary directory");
    let setup = setup.set("dex_access_token_file", directory.join("token").to_str().expect("UTF-8"));
    let script = format!(
        "mount -t tmpfs -o size=16k tmpfs {directory}; cd {directory}; touch token; \
         run() {{ env -i {env} {program} once --timeout 3s 2>&1 || true; }}; \
         run; cp token ../first; run; cmp token ../first && echo kept; \
         mount -o remount,size=1m .; run; grep -c aaaa token",
        directory = directory.display(),
        env = setup.environment().join(" "),
        program = program().display(),
    );
    let printed = in_namespace(&script);
    assert!(!log_events::select(&printed, "attempt_failed code=output_disk_full").is_empty(), "{printed}");
    assert!(printed.contains("\nkept\n") && printed.ends_with("1\n"), "{printed}");
}

/// The program has the uid of the image. The directory is root's; the mounted file is not.
#[test]
fn f080_a_mounted_file_in_a_directory_of_root_is_overwritten_in_place_by_its_owner() {
    if !rustix::process::geteuid().is_root() {
        let name = "f080_a_mounted_file_in_a_directory_of_root_is_overwritten_in_place_by_its_owner";
        return prebuilt::skip(name, "a mount for another uid needs root");
    }
    let fixture = Fixture::new();
    let setup = fixture.setup();
    let (root, below) = (setup.directory().join("root"), setup.directory().join("below"));
    fs::create_dir(&root).unwrap();
    let output = root.join("token");
    fs::write(&output, "").unwrap();
    fs::write(&below, "").unwrap();
    std::os::unix::fs::chown(&below, Some(65_532), None).unwrap();
    for path in [setup.directory(), &root, fixture.volume.token().parent().unwrap()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let copy = setup.directory().join("dexsidecar");
    fs::copy(program(), &copy).unwrap();
    let setup = setup.set("dex_access_token_file", output.to_str().unwrap());
    let script = format!(
        "mount --bind {below} {output}; \
         setpriv --reuid 65532 --regid 65532 --clear-groups env -i {env} {copy} once --timeout 30s 2>&1",
        below = below.display(),
        output = output.display(),
        env = setup.environment().join(" "),
        copy = copy.display(),
    );
    let done = Command::new("unshare").args(["--mount", "sh", "-ec", &script]).output().unwrap();
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{printed}");
    assert_eq!(log_events::select(&printed, "output_in_place level=warn").len(), 1, "{printed}");
    assert!(fs::read_to_string(&below).unwrap().starts_with("eyJ"));
}

/// The kubelet replaces the token, and a subPath mount keeps the old file. This is reported while
/// the old token is still valid.
#[test]
fn f068_a_rotation_that_a_mounted_subject_token_hides_is_reported_before_the_token_expires() {
    let (dex, api_server) = (FakeDex::start(), FakeApiServer::start());
    let directory = tempfile::tempdir().unwrap();
    let (mounted, source) = (directory.path().join("mounted"), directory.path().join("source"));
    fs::write(&mounted, "").unwrap();
    fs::write(&source, api_server.token(3_600)).unwrap();
    let setup = Setup::new()
        .set("dex_file_subject_token", mounted.to_str().unwrap())
        .set("dex_refresh_interval", "1s")
        .at_fake(&dex);
    let log = directory.path().join("log");
    let script = format!(
        "mount --bind {source} {mounted}; env -i {env} {program} 2> {log} & \
         until grep -q '\"token_written\"' {log}; do sleep 0.05; done; \
         echo new > {source}.new; mv {source}.new {source}; \
         until grep -q '\"subject_token_rotation_invisible\"' {log}; do sleep 0.05; done; \
         kill $!; wait $!; cat {log}",
        source = source.display(),
        mounted = mounted.display(),
        env = setup.environment().join(" "),
        program = program().display(),
        log = log.display(),
    );
    let printed = in_namespace(&format!("timeout 60 sh -ec {}", quoted(&script)));
    let warnings = log_events::select(&printed, "subject_token_rotation_invisible level=warn");
    assert_eq!(warnings.len(), 1, "{printed}");
    assert_eq!(warnings[0]["file"].as_str(), mounted.to_str());
    assert!(warnings[0]["fix"].as_str().is_some_and(|fix| fix.contains("without subPath")), "{printed}");
    assert!(log_events::select(&printed, "code=*").is_empty(), "{printed}");
    assert!(log_events::select(&printed, "token_expired").is_empty(), "{printed}");
    assert!(Path::new(&setup.output()).exists());
}

/// The kubelet has mounted one version of the volume. That is known before the first rotation.
#[test]
fn f068_a_subject_token_that_is_mounted_with_subpath_is_reported_at_once() {
    let (fixture, directory) = (Fixture::new(), tempfile::tempdir().unwrap());
    let [mounted, copy] = ["mounted", "copy"].map(|name| directory.path().join(name));
    fs::write(&mounted, "").unwrap();
    fs::copy(fixture.volume.token(), &copy).unwrap();
    for (source, reported) in [(fixture.volume.token(), 1), (copy, 0)] {
        let setup = fixture.setup().set("dex_file_subject_token", mounted.to_str().unwrap());
        // The kubelet resolves the symbolic links too.
        let script = format!(
            "mount --bind $(readlink -f {source}) {mounted}; env -i {env} {program} once 2>&1; \
             env -i {env} {program} check --json || true",
            source = source.display(),
            mounted = mounted.display(),
            env = setup.environment().join(" "),
            program = program().display(),
        );
        let printed = in_namespace(&script);
        let warnings = log_events::select(&printed, "subject_token_mounted_with_sub_path level=warn");
        assert_eq!(warnings.len(), reported, "{printed}");
        let fix = "mount the directory of its volume, without subPath";
        assert!(warnings.iter().all(|warning| warning["fix"] == fix), "{printed}");
        let report: Value = printed.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap();
        let steps = report["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["step"] == "subject_token").unwrap();
        assert_eq!(step["notes"].to_string().contains(fix), reported == 1, "{report:#}");
    }
}

/// The script as one word of a shell.
fn quoted(script: &str) -> String {
    format!("'{}'", script.replace('\'', r"'\''"))
}

/// A sidecar that runs with the uid of the image, in a mount namespace.
struct Mounted {
    setup: Setup,
    output: PathBuf,
    /// The file that is mounted over the output.
    below: PathBuf,
}

impl Mounted {
    fn new(fixture: &Fixture) -> Self {
        let setup = fixture.setup();
        let (root, below) = (setup.directory().join("root"), setup.directory().join("below"));
        fs::create_dir(&root).expect("a temporary directory");
        let output = root.join("token");
        fs::write(&output, "").expect("a temporary directory");
        fs::write(&below, OLD).expect("a temporary directory");
        let subject = fixture.volume.token();
        for path in [setup.directory(), &root, subject.parent().expect("a directory")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("root may");
        }
        fs::copy(program(), setup.directory().join("dexsidecar")).expect("a temporary directory");
        let setup = setup.set("dex_access_token_file", output.to_str().expect("UTF-8"));
        Self { setup, output, below }
    }

    /// Runs `once` so many times, with the file mounted or not, and returns the log. A run that
    /// fails adds the line `failed`.
    fn once(&self, mount: bool, times: usize) -> String {
        let bind = format!("mount --bind {} {}", self.below.display(), self.output.display());
        let one = format!(
            "setpriv --reuid 65532 --regid 65532 --clear-groups env -i {env} {program} once --timeout 3s 2>&1 || \
             echo failed",
            env = self.setup.environment().join(" "),
            program = self.setup.directory().join("dexsidecar").display(),
        );
        let script = format!("{}\n{}", if mount { &bind } else { ":" }, vec![one; times].join("\n"));
        let shell = Command::new("unshare").args(["--mount", "sh", "-ec", &script]).output();
        let shell = shell.expect("unshare is there (util-linux)");
        let printed = String::from_utf8_lossy(&shell.stdout).into_owned();
        assert_no_secret(&printed);
        assert!(shell.status.success(), "{printed}{}", String::from_utf8_lossy(&shell.stderr));
        printed
    }
}

/// The errors of the failures of a log that have this code.
fn errors(log: &str, code: &str) -> Vec<String> {
    let failures = log_events::select(log, &format!("attempt_failed code={code}"));
    failures.iter().filter_map(|failure| failure["error"].as_str().map(str::to_owned)).collect()
}

/// The owner of a file of mode 0400 cannot open it for writing, unless it is root.
#[test]
fn f159_a_mounted_file_with_a_mode_that_forbids_its_owner_to_write_is_written_repeatedly() {
    let name = "f159_a_mounted_file_with_a_mode_that_forbids_its_owner_to_write_is_written_repeatedly";
    if !rustix::process::geteuid().is_root() {
        return prebuilt::skip(name, "a mount for another uid needs root");
    }
    let fixture = Fixture::new();
    for mode in ["0400", "0440", "0444", "0600"] {
        let mut mounted = Mounted::new(&fixture);
        mounted.setup = mounted.setup.set("DEXSIDECAR_OUTPUT_MODE", mode);
        std::os::unix::fs::chown(&mounted.below, Some(65_532), Some(65_532)).expect("root may");
        let before = fixture.dex.issued().len();
        let printed = mounted.once(true, 3);
        assert!(!printed.contains("\nfailed\n"), "{mode}: {printed}");
        assert!(log_events::select(&printed, "code=*").is_empty(), "{mode}: {printed}");
        assert_eq!(fixture.dex.issued().len(), before + 3, "{mode}: {printed}");
        assert_eq!(fixture.dex.issued().last(), fs::read_to_string(&mounted.below).ok().as_ref(), "{mode}");
        let actual = fs::metadata(&mounted.below).expect("a file").mode() & 0o7777;
        assert_eq!(format!("{actual:04o}"), mode, "{printed}");
    }
}

#[test]
fn f159_a_mounted_file_of_another_owner_that_is_not_writable_is_a_failure_that_names_the_call() {
    let name = "f159_a_mounted_file_of_another_owner_that_is_not_writable_is_a_failure_that_names_the_call";
    if !rustix::process::geteuid().is_root() {
        return prebuilt::skip(name, "a mount for another uid needs root");
    }
    let fixture = Fixture::new();
    let mounted = Mounted::new(&fixture);
    let printed = mounted.once(true, 1);
    let errors = errors(&printed, "output_not_permitted");
    assert!(!errors.is_empty() && errors.iter().all(|error| error.contains("openat: ")), "{printed}");
    assert_eq!(fs::read_to_string(&mounted.below).expect("a file"), OLD);
}

/// In a directory with the sticky bit EPERM protects the files of other owners. It is no reason to
/// overwrite one in place.
#[test]
fn f158_a_file_of_another_owner_in_a_sticky_directory_is_never_overwritten_in_place() {
    let name = "f158_a_file_of_another_owner_in_a_sticky_directory_is_never_overwritten_in_place";
    if !rustix::process::geteuid().is_root() {
        return prebuilt::skip(name, "files of two owners need root");
    }
    let fixture = Fixture::new();
    let planted = Mounted::new(&fixture);
    let directory = planted.output.parent().expect("a directory");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o1777)).expect("root may");
    fs::write(&planted.output, "planted").expect("root may");
    fs::set_permissions(&planted.output, fs::Permissions::from_mode(0o666)).expect("root may");
    std::os::unix::fs::chown(&planted.output, Some(64_158), None).expect("root may");
    let printed = planted.once(false, 1);
    let errors = errors(&printed, "output_not_permitted");
    let explained = |error: &String| error.contains("renameat: ") && error.contains("sticky");
    assert!(!errors.is_empty() && errors.iter().all(explained), "{printed}");
    assert_eq!(fs::read_to_string(&planted.output).expect("a file"), "planted");
    let files = fs::read_dir(directory).expect("a directory").count();
    assert_eq!(files, 1, "no temporary file is left");
}
