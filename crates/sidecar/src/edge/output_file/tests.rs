//! The output file on a real file system: what is written, kept and refused.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use rustix::time::{ClockId, clock_gettime};

use super::atomic::TEMPORARY;
use super::*;

fn output(path: &Path) -> Output {
    Output {
        path: path.to_owned(),
        mode: None,
        group: None,
        write_mode: WriteMode::Auto,
        remove_expired: false,
    }
}

fn token(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// How it was written, where the volume allows everything.
fn written(output: &Output, text: &str) -> Method {
    let Written { method, shortfalls } = write(output, &token(text)).unwrap();
    assert_eq!(shortfalls, []);
    method
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn replaces_the_file_and_leaves_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let output = output(&dir.path().join("token"));
    for text in ["first", "second-and-longer", "3"] {
        assert_eq!(written(&output, text), Method::Replaced);
        assert_eq!(read(&output), Some(token(text)));
    }
    assert_eq!(names(dir.path()), ["token"]);
}

#[test]
fn follows_the_kubelet_s_rule_of_modes_whatever_the_umask() {
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
fn f076_a_link_is_replaced_and_its_victim_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    symlink(&victim, dir.path().join("token")).unwrap();
    let output = output(&dir.path().join("token"));
    assert_eq!(read(&output), None, "a link is not followed");
    assert_eq!(written(&output, "t"), Method::ReplacedLink);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(read(&output), Some(token("t")));
}

#[test]
fn f077_f078_a_folder_is_refused_and_a_fifo_and_a_socket_replaced() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(write(&output(dir.path()), &token("t")).unwrap_err().code, Code::OutputIsADirectory);
    for write_mode in [WriteMode::Auto, WriteMode::InPlace] {
        let at =
            |name: &str| Output { write_mode, ..output(&dir.path().join(format!("{name}-{write_mode:?}"))) };
        let (fifo, socket) = (at("fifo"), at("socket"));
        rustix::fs::mknodat(rustix::fs::CWD, &fifo.path, FileType::Fifo, 0o600.into(), 0).unwrap();
        let _listens = std::os::unix::net::UnixListener::bind(&socket.path).unwrap();
        for odd in [fifo, socket] {
            assert_eq!(read(&odd), None);
            assert_eq!(written(&odd, "t"), Method::Replaced);
            assert_eq!(read(&odd), Some(token("t")));
        }
    }
}

#[test]
fn f071_a_missing_folder_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let output = output(&dir.path().join("not/there/token"));
    assert_eq!(write(&output, &token("t")).unwrap_err().code, Code::OutputDirectoryMissing);
    assert_eq!(try_output(&output).unwrap_err().code, Code::OutputDirectoryMissing);
}

#[test]
fn in_place_keeps_the_inode_and_cuts_what_was_longer() {
    let dir = tempfile::tempdir().unwrap();
    let output = Output { write_mode: WriteMode::InPlace, ..output(&dir.path().join("token")) };
    for text in ["a-long-token", "short", "of-equal-length", "OF-EQUAL-LENGTH"] {
        assert_eq!(written(&output, text), Method::InPlace);
        assert_eq!(read(&output), Some(token(text)));
    }
    let inode = std::fs::metadata(&output.path).unwrap().ino();
    assert_eq!(written(&output, "short"), Method::InPlace);
    assert_eq!(std::fs::metadata(&output.path).unwrap().ino(), inode);
    assert_eq!(read(&output), Some(token("short")));
}

#[test]
fn f158_in_place_creates_a_missing_file_with_its_permissions() {
    let dir = tempfile::tempdir().unwrap();
    let mut output = Output { write_mode: WriteMode::InPlace, ..output(&dir.path().join("token")) };
    for mode in [None, Some(0o600), Some(0o640)] {
        output.mode = mode;
        assert_eq!(try_output(&output), Ok(true));
        assert_eq!(names(dir.path()), [""; 0], "a check leaves nothing");
        assert_eq!(written(&output, "t"), Method::InPlace);
        assert_eq!(std::fs::metadata(&output.path).unwrap().mode() & 0o7777, mode.unwrap_or(0o644));
        assert_eq!(names(dir.path()), ["token"]);
        std::fs::remove_file(&output.path).unwrap();
    }
}

#[test]
fn a_check_leaves_the_file_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut output = output(&dir.path().join("token"));
    std::fs::write(&output.path, "old").unwrap();
    std::fs::set_permissions(&output.path, std::fs::Permissions::from_mode(0o400)).unwrap();
    for (write_mode, in_place) in
        [(WriteMode::Auto, false), (WriteMode::Atomic, false), (WriteMode::InPlace, true)]
    {
        output.write_mode = write_mode;
        let before = fingerprint(&output);
        assert_eq!(try_output(&output), Ok(in_place));
        assert_eq!((read(&output), fingerprint(&output)), (Some(token("old")), before));
        assert_eq!(names(dir.path()), ["token"]);
    }
}

#[test]
fn f083_orphans_are_swept_when_they_are_old() {
    let dir = tempfile::tempdir().unwrap();
    for (name, age) in [("old", 3_600), ("young", 5)] {
        let file = File::create(dir.path().join(format!("{TEMPORARY}{name}"))).unwrap();
        let then = std::time::SystemTime::UNIX_EPOCH
            + std::time::Duration::from_secs(
                u64::try_from(clock_gettime(ClockId::Realtime).tv_sec - age).unwrap(),
            );
        file.set_modified(then).unwrap();
    }
    write(&output(&dir.path().join("token")), &token("t")).unwrap();
    let mut left = names(dir.path());
    left.sort();
    assert_eq!(left, [".dexsidecar-young", "token"]);
}

#[test]
fn a_fingerprint_tells_when_somebody_else_touched_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let output = output(&dir.path().join("token"));
    assert_eq!(fingerprint(&output), 0);
    write(&output, &token("t")).unwrap();
    let ours = fingerprint(&output);
    assert_eq!(fingerprint(&output), ours);
    std::fs::write(&output.path, "x").unwrap();
    assert_ne!(fingerprint(&output), ours);
}
