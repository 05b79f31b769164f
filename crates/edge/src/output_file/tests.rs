//! The token file on a real file system.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use dexsidecar_core::output::Format;
use rustix::time::{ClockId, clock_gettime};

use super::atomic::TEMP_PREFIX;
use super::*;

fn output(path: &Path) -> Output {
    Output {
        path: path.to_owned(),
        create_directories: false,
        format: Format::default(),
        mode: None,
        group: None,
        write_mode: WriteMode::Auto,
        remove_expired: false,
    }
}

fn token(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn read_token(output: &Output) -> Option<Secret> {
    read(output).map(|stored| stored.token)
}

/// Writes a token, expects no shortfall, and returns the method.
fn write_token(output: &Output, text: &str) -> Method {
    let Written { method, shortfalls } = write(output, &token(text)).unwrap();
    assert_eq!(shortfalls, []);
    method
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_write_replaces_the_file_and_leaves_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let output = output(&dir.path().join("token"));
    for text in ["first", "second-and-longer", "3"] {
        assert_eq!(write_token(&output, text), Method::Replaced);
        assert_eq!(read_token(&output), Some(token(text)));
    }
    assert_eq!(names(dir.path()), ["token"]);
}

#[test]
fn default_modes_follow_the_kubelet_under_any_umask() {
    let dir = tempfile::tempdir().unwrap();
    let mode = |output: &Output| {
        write(output, &token("t")).unwrap();
        std::fs::metadata(&output.path).unwrap().mode() & 0o7777
    };
    let mut output = output(&dir.path().join("token"));
    assert_eq!(mode(&output), 0o644);
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o2770)).unwrap();
    assert_eq!(mode(&output), 0o640);
    output.mode = Some(0o600);
    assert_eq!(mode(&output), 0o600);
}

#[test]
fn f076_a_symlink_is_replaced_and_its_target_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    std::fs::write(&target, "unchanged").unwrap();
    symlink(&target, dir.path().join("token")).unwrap();
    let output = output(&dir.path().join("token"));
    assert_eq!(read_token(&output), None, "a symlink is not followed");
    assert_eq!(write_token(&output, "t"), Method::ReplacedSymlink);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "unchanged");
    assert_eq!(read_token(&output), Some(token("t")));
}

#[test]
fn a_device_is_not_replaced() {
    let null = output(Path::new("/dev/null"));
    for refused in [write(&null, &token("t")).map(drop), check_writable(&null).map(drop)] {
        let refused = refused.unwrap_err();
        // As root, too, who may write into /dev.
        let is_named = refused.code == Code::OutputFailed && refused.fix() == FIX_DEVICE;
        assert!(is_named, "{refused:?}");
    }
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn f077_f078_a_directory_is_an_error_and_a_fifo_or_a_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(write(&output(dir.path()), &token("t")).unwrap_err().code, Code::OutputIsADirectory);
    for write_mode in [WriteMode::Auto, WriteMode::InPlace] {
        let at =
            |name: &str| Output { write_mode, ..output(&dir.path().join(format!("{name}-{write_mode:?}"))) };
        let (fifo, socket) = (at("fifo"), at("socket"));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo.path, FileType::Fifo, 0o600.into(), 0).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket.path).unwrap();
        for special in [fifo, socket] {
            assert_eq!(read_token(&special), None);
            assert_eq!(write_token(&special, "t"), Method::Replaced);
            assert_eq!(read_token(&special), Some(token("t")));
        }
    }
}

#[test]
fn f071_a_missing_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let output = output(&dir.path().join("not/there/token"));
    assert_eq!(write(&output, &token("t")).unwrap_err().code, Code::OutputDirectoryMissing);
    assert_eq!(check_writable(&output).unwrap_err().code, Code::OutputDirectoryMissing);
}

#[test]
fn missing_directories_are_created_where_asked_as_mkdir_p_does() {
    let dir = tempfile::tempdir().unwrap();
    // A link to a directory is that directory.
    std::fs::create_dir(dir.path().join("real")).unwrap();
    symlink(dir.path().join("real"), dir.path().join("link")).unwrap();
    for path in ["a/b/token", "a/c/token", "link/d/token", "real/token"] {
        let output = Output { create_directories: true, ..output(&dir.path().join(path)) };
        let before = names(dir.path());
        assert_eq!(check_writable(&output), Ok(false), "{path}");
        assert_eq!(names(dir.path()), before, "the check creates nothing");
        assert_eq!(write_token(&output, "t"), Method::Replaced);
        assert_eq!(read_token(&output), Some(token("t")), "{path}");
    }
    for directory in ["a", "a/b", "a/c", "real/d"] {
        let mode = std::fs::symlink_metadata(dir.path().join(directory)).unwrap().mode() & 0o7777;
        assert_eq!(mode & !0o755, 0, "{directory}: {mode:o}");
        assert_eq!(mode & 0o700, 0o700, "{directory}: {mode:o}");
    }
}

#[test]
fn a_directory_that_cannot_be_created_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    for (path, named) in [("file/a/token", "file"), ("file/token", "file"), ("dangling/a/token", "dangling")]
    {
        let output = Output { create_directories: true, ..output(&dir.path().join(path)) };
        for failure in [check_writable(&output).unwrap_err(), write(&output, &token("t")).unwrap_err()] {
            assert_eq!(failure.code, Code::OutputDirectoryMissing, "{path}: {failure}");
            let named = dir.path().join(named).display().to_string();
            assert!(failure.detail.contains(&named), "{path}: {failure}");
        }
        assert!(!dir.path().join("nowhere").exists());
    }
    // sysfs has no directories that a process creates, whoever it is.
    let sysfs = Output { create_directories: true, ..output(Path::new("/sys/dexsidecar/a/token")) };
    if Path::new("/sys/kernel").exists() {
        let failure = write(&sysfs, &token("t")).unwrap_err();
        assert!(
            failure.detail.contains("its directory cannot be created: /sys/dexsidecar: mkdir: "),
            "{failure}"
        );
    }
}

#[test]
fn writing_in_place_keeps_the_inode_and_truncates_a_longer_token() {
    let dir = tempfile::tempdir().unwrap();
    let output = Output { write_mode: WriteMode::InPlace, ..output(&dir.path().join("token")) };
    for text in ["a-long-token", "short", "of-equal-length", "OF-EQUAL-LENGTH"] {
        assert_eq!(write_token(&output, text), Method::InPlace);
        assert_eq!(read_token(&output), Some(token(text)));
    }
    let inode = std::fs::metadata(&output.path).unwrap().ino();
    assert_eq!(write_token(&output, "short"), Method::InPlace);
    assert_eq!(std::fs::metadata(&output.path).unwrap().ino(), inode);
    assert_eq!(read_token(&output), Some(token("short")));
}

#[test]
fn f158_writing_in_place_creates_a_missing_file_with_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let mut output = Output { write_mode: WriteMode::InPlace, ..output(&dir.path().join("token")) };
    for mode in [None, Some(0o600), Some(0o640)] {
        output.mode = mode;
        assert_eq!(check_writable(&output), Ok(true));
        assert_eq!(names(dir.path()), [""; 0], "the check leaves no file");
        assert_eq!(write_token(&output, "t"), Method::InPlace);
        assert_eq!(std::fs::metadata(&output.path).unwrap().mode() & 0o7777, mode.unwrap_or(0o644));
        assert_eq!(names(dir.path()), ["token"]);
        std::fs::remove_file(&output.path).unwrap();
    }
}

#[test]
fn a_check_does_not_change_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut output = output(&dir.path().join("token"));
    std::fs::write(&output.path, "old").unwrap();
    std::fs::set_permissions(&output.path, std::fs::Permissions::from_mode(0o400)).unwrap();
    for (write_mode, in_place) in
        [(WriteMode::Auto, false), (WriteMode::Atomic, false), (WriteMode::InPlace, true)]
    {
        output.write_mode = write_mode;
        let before = fingerprint(&output);
        assert_eq!(check_writable(&output), Ok(in_place));
        assert_eq!((read_token(&output), fingerprint(&output)), (Some(token("old")), before));
        assert_eq!(names(dir.path()), ["token"]);
    }
}

#[test]
fn f083_temporary_files_of_killed_processes_are_removed_after_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    for (name, age) in [("old", 3_600), ("young", 5)] {
        let file = File::create(dir.path().join(format!("{TEMP_PREFIX}{name}"))).unwrap();
        let modified = std::time::SystemTime::UNIX_EPOCH
            + std::time::Duration::from_secs(
                u64::try_from(clock_gettime(ClockId::Realtime).tv_sec - age).unwrap(),
            );
        file.set_modified(modified).unwrap();
    }
    write(&output(&dir.path().join("token")), &token("t")).unwrap();
    let mut left = names(dir.path());
    left.sort();
    assert_eq!(left, [".dexsidecar-young", "token"]);
}

#[test]
fn the_fingerprint_changes_when_another_process_writes_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let output = output(&dir.path().join("token"));
    assert_eq!(fingerprint(&output), 0);
    write(&output, &token("t")).unwrap();
    let ours = fingerprint(&output);
    assert_eq!(fingerprint(&output), ours);
    std::fs::write(&output.path, "x").unwrap();
    assert_ne!(fingerprint(&output), ours);
}

#[test]
fn a_revoked_lock_keeps_a_file_from_being_replaced_overwritten_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    for write_mode in [WriteMode::Auto, WriteMode::Atomic, WriteMode::InPlace] {
        let output = Output { write_mode, ..output(&path) };
        let lock = NameLock::default();
        write_with(&output, &token("first"), &lock, None).unwrap();
        lock.revoke();
        assert!(write_with(&output, &token("second"), &lock, None).is_err());
        assert!(remove_if(&output, &token("first"), &lock).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first", "{write_mode:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
        write_with(&output, &token("third"), &NameLock::default(), None).unwrap();
    }
}

#[test]
fn removing_an_unreadable_file_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let remove = |name: &str| {
        remove_if(&output(&directory.path().join(name)), &token("expired"), &NameLock::default())
    };
    for (name, content) in [("expired", "expired"), ("another", "another"), ("binary", "\u{ff}")] {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    std::fs::create_dir(directory.path().join("directory")).unwrap();
    symlink("expired", directory.path().join("link")).unwrap();
    for name in ["another", "binary", "directory", "link", "missing", "missing/token"] {
        assert_eq!(remove(name), Ok(false), "{name}");
    }
    // Stands for every error that says nothing of the file: ENAMETOOLONG.
    assert!(remove(&"x".repeat(300)).is_err());
    assert_eq!(remove("expired"), Ok(true));
}
