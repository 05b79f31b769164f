//! Test binaries, run one after the other: what they report becomes counts and times.

use std::collections::BTreeSet;
use std::process::Command;

use dexsidecar_fetch::child_output::{self, Line};

use super::build::Binary;
use super::events::{self, Event};
use super::report::{self, Report};
use crate::progress::Progress;
use crate::suite::Suite;
use crate::{cargo, root};

/// What is run of a suite, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options<'a> {
    /// Only tests whose names contain this.
    pub(super) filter: Option<&'a str>,
    /// The long form.
    pub(super) long: bool,
}

/// Set for tests in their long form.
const LONG: [(&str, &str); 2] = [("DEXSIDECAR_E2E_LONG", "1"), ("PROPTEST_CASES", "100000")];

/// Runs the binaries of a suite and, for the unit tests, the documentation tests of the packages.
pub(super) fn suite(suite: Suite, binaries: &[Binary], options: &Options<'_>, report: &mut Report) {
    let name = suite.name();
    println!("-- {name}");
    let mut result = report::Suite { name: name.clone(), ..report::Suite::default() };
    let progress = Progress::start(&name);
    let of_suite: Vec<&Binary> = binaries.iter().filter(|binary| binary.suite() == suite).collect();
    for binary in &of_suite {
        run(&mut command(suite, binary, options), &binary.target, &mut result, &progress);
    }
    if suite == Suite::Unit {
        documentation(&of_suite, options, &mut result, &progress);
    }
    result.time = progress.end();
    result.ignored.iter().for_each(|(why, count)| println!("   ignored: {count} tests: {why}"));
    println!("   {}", result.line());
    report.add(result);
}

fn command(suite: Suite, binary: &Binary, options: &Options<'_>) -> Command {
    let mut command = Command::new(&binary.executable);
    command
        .current_dir(&binary.directory)
        .arg("--format=json")
        .args(options.filter)
        // As cargo sets them.
        .env("CARGO", cargo().get_program())
        .env("CARGO_MANIFEST_DIR", &binary.directory)
        // Else insta runs cargo to find it.
        .env("INSTA_WORKSPACE_ROOT", root())
        .env("DEXSIDECAR_E2E_TIMES", "1");
    if suite.is_libtest() {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // The format and the times are libtest's unstable options. The tests remove the variable
        // for every cargo that they run.
        command
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["-Zunstable-options", "--report-time"])
            .arg(format!("--test-threads={}", cores * suite.threads_per_core()));
        if options.long {
            command.arg("--include-ignored");
        }
    }
    if options.long {
        command.envs(LONG);
    }
    command
}

/// Runs one binary to its end. A failure is printed at once.
fn run(command: &mut Command, target: &str, result: &mut report::Suite, progress: &Progress) {
    let before = result.failed.len();
    let mut state =
        State { target, result, progress, ended: 0, started: 0, passed_by_skipping: 0, error: String::new() };
    let succeeded = match child_output::separate(command, |line| state.read(line)) {
        Ok(end) => {
            end.note(target).into_iter().for_each(|note| progress.print(&format!("   note: {note}")));
            end.succeeded
        }
        Err(error) => {
            state.error = error.to_string();
            false
        }
    };
    // It was killed, or exited before its tests had ended.
    if state.ended < state.started || !succeeded && state.result.failed.len() == before {
        state.fail("the test binary itself", "");
    }
    state.result.passed = state.result.passed.saturating_sub(state.passed_by_skipping);
    let (failed, error) = (state.result.failed.len() > before, state.error);
    if failed && !error.trim().is_empty() {
        progress.print(&format!("   standard error of {target}:\n{error}"));
    }
}

/// A binary that runs.
struct State<'a> {
    target: &'a str,
    result: &'a mut report::Suite,
    progress: &'a Progress,
    /// A binary may report more than one set of tests: those of `node` run outside of the node, and
    /// on it.
    started: usize,
    ended: usize,
    /// How many tests passed that had nothing to test.
    passed_by_skipping: usize,
    /// Standard error, for the case of a failure.
    error: String,
}

impl State<'_> {
    fn read(&mut self, line: Line) {
        match line {
            Line::Output(line) => events::of_output(&line).into_iter().for_each(|event| self.apply(event)),
            Line::Error(line) => self.apply(events::of_error(&line)),
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Started(_) => self.started += 1,
            Event::Ended => self.ended += 1,
            Event::Passed(name) => {
                self.result.passed += 1;
                self.progress.show(&format!("{} passed, the last is {name}", self.result.passed));
            }
            Event::Failed(name, output) => self.fail(&name, &output),
            Event::Ignored(why) => {
                self.result.skipped += 1;
                if !why.is_empty() {
                    *self.result.ignored.entry(why).or_default() += 1;
                }
            }
            Event::Skipped(why) => {
                // The harness reports it as passed, before this line or after it.
                self.result.skipped += 1;
                self.passed_by_skipping += 1;
                self.progress.print(&format!("   skipped: {why}"));
            }
            Event::Time(name, time) => self.result.times.push((name, time)),
            Event::Note(note) => self.progress.print(&format!("   note: {note}")),
            Event::Text(text) => {
                self.error.push_str(&text);
                self.error.push('\n');
            }
        }
    }

    fn fail(&mut self, name: &str, output: &str) {
        let name = if self.target == self.result.name {
            name.to_owned()
        } else {
            format!("{}: {name}", self.target)
        };
        self.progress.print(&format!("   FAILED {name}\n{output}"));
        self.result.failed.push(name);
    }
}

/// The documentation tests of the libraries: rustdoc builds and runs them.
fn documentation(
    binaries: &[&Binary],
    options: &Options<'_>,
    result: &mut report::Suite,
    progress: &Progress,
) {
    let packages: BTreeSet<&str> = binaries
        .iter()
        .filter(|binary| binary.directory.join("src/lib.rs").exists())
        .map(|binary| binary.package.as_str())
        .collect();
    let mut command = cargo();
    command.args(["test", "--doc", "--locked", "--no-fail-fast"]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    command.arg("--").args(options.filter);
    // The tests have no long form. What `--include-ignored` would add are the examples that are
    // marked as `ignore`, and those are not meant to compile.
    if options.long {
        command.envs(LONG);
    }
    run_documentation(&mut command, result, progress);
}

fn run_documentation(command: &mut Command, result: &mut report::Suite, progress: &Progress) {
    let before = result.failed.len();
    let mut output = String::new();
    let ended = child_output::merged(command, |line| {
        progress.show(line.trim());
        result.failed.extend(failed_documentation_test(&line));
        let [passed, skipped] = counts(&line);
        result.passed += passed;
        result.skipped += skipped;
        output.push_str(&line);
        output.push('\n');
    });
    let succeeded = match ended {
        Ok(end) => {
            let note = end.note("the documentation tests");
            note.into_iter().for_each(|note| progress.print(&format!("   note: {note}")));
            end.succeeded
        }
        Err(error) => {
            output.push_str(&error.to_string());
            false
        }
    };
    // rustdoc did not start, or a package does not compile.
    if !succeeded && result.failed.len() == before {
        result.failed.push("the documentation tests themselves".to_owned());
    }
    if !succeeded {
        progress.print(&output);
    }
}

/// Reads `test crates/core/src/json.rs - json::read (line 12) ... FAILED`: the name of the test.
fn failed_documentation_test(line: &str) -> Option<String> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(format!("documentation test {name}"))
}

/// Reads `test result: ok. 7 passed; 0 failed; 1 ignored; …`: passed, ignored.
fn counts(line: &str) -> [usize; 2] {
    let Some((_, numbers)) = line.split_once("test result: ") else { return [0; 2] };
    let part = |name: &str| {
        let part = numbers.split([';', '.']).find_map(|part| part.trim().strip_suffix(name));
        part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    };
    ["passed", "ignored"].map(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result_of(script: &str) -> report::Suite {
        let mut result = report::Suite { name: "fakes".to_owned(), ..report::Suite::default() };
        let progress = Progress::start("fakes");
        run(Command::new("sh").args(["-c", script]), "fakes", &mut result, &progress);
        result
    }

    const STARTED: &str = r#"echo '{"type":"suite","event":"started","test_count":2}'"#;
    const PASSED: &str = r#"echo '{"type":"test","event":"ok","name":"a","exec_time":0.5}'"#;
    const ENDED: &str = r#"echo '{"type":"suite","event":"ok"}'"#;

    #[test]
    fn counts_and_times_are_those_that_the_binary_reports() {
        let skipped = "echo 'skipped: a: no root' >&2";
        let result = result_of(&[STARTED, PASSED, PASSED, skipped, ENDED].join("; "));
        assert_eq!((result.passed, result.failed.len(), result.skipped), (1, 0, 1));
        assert_eq!(result.times, [("a".to_owned(), 0.5), ("a".to_owned(), 0.5)]);
    }

    #[test]
    fn a_binary_that_is_killed_has_failed() {
        assert_eq!(result_of(&[STARTED, PASSED, "kill -9 $$"].join("; ")).failed, ["the test binary itself"]);
        assert_eq!(result_of(&[STARTED, "exit 0"].join("; ")).failed, ["the test binary itself"]);
        assert_eq!(result_of("exit 1").failed, ["the test binary itself"]);
    }

    #[test]
    fn a_failed_documentation_test_is_named() {
        let result_of = |script: &str| {
            let mut result = report::Suite::default();
            let progress = Progress::start("unit");
            run_documentation(Command::new("sh").args(["-c", script]), &mut result, &progress);
            (result.passed, result.failed)
        };
        let failed = "echo 'test src/a.rs - a (line 3) ... FAILED'";
        let result = "echo 'test result: FAILED. 4 passed; 1 failed; 0 ignored'";
        assert_eq!(
            result_of(&[failed, result, "exit 101"].join("; ")),
            (4, vec!["documentation test src/a.rs - a (line 3)".to_owned()])
        );
        assert_eq!(result_of("exit 101"), (0, vec!["the documentation tests themselves".to_owned()]));
        assert_eq!(result_of("echo 'test src/a.rs - a (line 3) ... ok'"), (0, vec![]));
    }

    #[test]
    fn the_counts_of_documentation_tests_are_read_from_their_last_line() {
        let line = "test result: FAILED. 7 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.10s";
        assert_eq!(counts(line), [7, 2]);
        assert_eq!(counts("running 3 tests"), [0; 2]);
    }
}
