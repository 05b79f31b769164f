//! `copy`: the program in a volume that another container uses.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use dexsidecar_e2e::sidecar::{Setup, in_namespace, program};

#[test]
fn a_copy_in_a_volume_runs_and_copying_again_changes_nothing() {
    let setup = Setup::new();
    let volume = setup.directory().to_str().unwrap();
    let file = setup.directory().join("dexsidecar");
    let copied = setup.execute(&["copy", volume]);
    assert_eq!((copied.code, copied.stdout), (Some(0), format!("copied to {}\n", file.display())));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o755);
    let version = Command::new(&file).arg("--version").output().unwrap();
    assert!(version.status.success() && version.stdout.starts_with(b"dexsidecar "));
    // The copy copies itself too, also over a file that runs.
    let mut running = Command::new(&file).env_clear().args(["wait", "--file", "/none"]).spawn().unwrap();
    let again = setup.execute(&["copy", volume]);
    assert_eq!((again.code, again.stdout), (Some(0), format!("{} is up to date\n", file.display())));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    let other = setup.directory().join("other");
    for (from, to) in [(&program(), &file), (&file, &other)] {
        let copied = Command::new(from).arg("copy").arg(to).output().unwrap();
        assert!(copied.status.success(), "{copied:?}");
    }
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(fs::read(&other).unwrap(), fs::read(program()).unwrap());
    assert_eq!(fs::read_dir(setup.directory()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn a_copy_becomes_the_command_that_follows_with_its_output_alone() {
    let setup = Setup::new();
    let file = setup.directory().join("program");
    let file = file.to_str().unwrap();
    for _ in ["written", "up to date"] {
        let became = setup.execute(&["copy", file, "--", file, "version"]);
        assert_eq!((became.code, became.stderr), (Some(0), String::new()));
        assert!(became.stdout.starts_with("dexsidecar ") && became.stdout.lines().count() == 1);
    }
    let missing = setup.execute(&["copy", file, "--", "/does/not/exist"]);
    assert_eq!((missing.code, missing.stdout), (Some(1), String::new()));
    assert!(missing.stderr.contains("cannot execute /does/not/exist: No such file"), "{}", missing.stderr);
    // Without a copy the command does not run: an app would start without its program.
    let refused = setup.execute(&["copy", "/does/not/exist/program", "--", "echo", "it runs"]);
    assert_eq!((refused.code, refused.stdout), (Some(1), String::new()));
    assert!(refused.stderr.contains("cannot copy to /does/not/exist/program"), "{}", refused.stderr);
}

#[test]
fn a_volume_that_takes_no_copy_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let program = program();
    let (volume, program) = (directory.path().display(), program.display());
    let text = in_namespace(&format!(
        "mount -t tmpfs -o size=64k none {volume}; {program} copy {volume} 2>&1 || echo exit $?; ls -A {volume}; \
         mount -o remount,ro {volume}; {program} copy {volume} 2>&1 || echo exit $?"
    ));
    let size = fs::metadata(program.to_string()).unwrap().len();
    for line in [
        format!(
            ": write: No space left on device (os error 28): {size} bytes are needed in the volume\nexit 1\n"
        ),
        ": create: Read-only file system (os error 30): mount the volume without readOnly\nexit 1\n"
            .to_owned(),
    ] {
        assert!(text.contains(&format!("dexsidecar: cannot copy to {volume}/dexsidecar{line}")), "{text}");
    }
    assert_eq!(text.lines().count(), 4, "nothing is left in the volume: {text}");
}
