//! Go itself, as a reference: the original is written in Go, and so is Dex.

use std::io::Write as _;
use std::process::{Command, Stdio};

use dexsidecar_fetch::go::Program;

use crate::prebuilt;

/// Writes lines to a program of `fixtures/go`, and gives the line that it prints for each.
///
/// # Panics
/// If Go is missing, and if the program does not print one line for each.
#[must_use]
pub fn answers(program: &Program, lines: &[String]) -> Vec<String> {
    let mut child = Command::new(prebuilt::program(program))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // In a thread, since the program answers meanwhile.
    let writing = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("the program exits");
    writing.join().expect("the thread does not panic").expect("the program reads its input");
    assert!(output.status.success(), "{}", program.label());
    let answers: Vec<_> =
        String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), lines.len(), "one line for each");
    answers
}
