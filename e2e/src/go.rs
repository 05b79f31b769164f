//! Go itself, asked what it makes of something: the original is written in it, and so is Dex.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Puts lines to a program of `fixtures/go`, and gives the line that it prints for each.
///
/// # Panics
/// Without Go, or when the program does not answer each.
#[must_use]
pub fn said(program: &str, lines: &[String]) -> Vec<String> {
    dexsidecar_fetch::go::look().expect("Go is there");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/go/{program}.go"));
    let mut child = Command::new("go")
        .arg("run")
        .arg(&program)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Go can be started");
    let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    let mut stdin = child.stdin.take().expect("it is piped");
    // From a thread, since Go answers meanwhile.
    let writing = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writing.join().expect("no thread falls").expect("it listens");
    assert!(output.status.success(), "{}", program.display());
    let said: Vec<_> = String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect();
    assert_eq!(said.len(), lines.len(), "a line for each");
    said
}

/// Builds a program of `fixtures/go`, without cgo, and gives its path in this directory.
///
/// # Panics
/// Without Go, or when it does not build.
#[must_use]
pub fn built(program: &str, directory: &Path) -> PathBuf {
    dexsidecar_fetch::go::look().expect("Go is there");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/go/{program}.go"));
    let built = directory.join(program);
    let status = Command::new("go")
        .args(["build", "-o"])
        .args([&built, &source])
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{} does not build", source.display());
    built
}
