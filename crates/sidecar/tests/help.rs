//! The help of each command and the errors of the command line, as snapshots.

use std::ffi::OsString;

use dexsidecar::cli;
use dexsidecar_core::settings::Command;

#[test]
fn help_of_the_program() {
    insta::assert_snapshot!("dexsidecar", cli::help(None));
}

#[test]
fn help_of_each_command() {
    for command in Command::ALL {
        insta::assert_snapshot!(command.name(), cli::help(Some(command)));
    }
}

#[test]
fn errors_of_the_command_line() {
    let lines = [
        "redy",
        "frobnicate",
        "--ca-fil x",
        "--frobnicate",
        "--ca-file",
        "run -x",
        "run extra",
        "ready --ca-file x",
        "check --json=maybe --json",
    ];
    let mut text = String::new();
    for line in lines {
        let answer = match cli::parse(line.split_ascii_whitespace().map(OsString::from)) {
            Ok(_) => "(accepted)".to_owned(),
            Err(error) => error,
        };
        text += &format!("dexsidecar {line}\n    {answer}\n");
    }
    insta::assert_snapshot!("command_line_errors", text);
}
