//! The result of a run: counts, failures, the time of each step and suite, and the slowest tests.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::progress::seconds;
use crate::step::StepResult;

/// How many of the slowest tests are named.
const SLOWEST: usize = 10;

/// The result so far.
#[derive(Debug)]
pub(crate) struct Report {
    start: Instant,
    passed: usize,
    failed: usize,
    skipped: usize,
    /// What failed, in the order in which it did: steps, and tests with their suite.
    failures: Vec<String>,
    notes: Vec<String>,
    /// What took time, in the order in which it ran.
    rows: Vec<Row>,
    /// The time of each test with its suite, in seconds.
    times: Vec<(String, f64)>,
}

/// A step or a suite in the closing lines.
#[derive(Debug)]
struct Row {
    state: State,
    time: Duration,
    text: String,
}

/// What became of a step or a suite.
#[derive(Clone, Copy, Debug)]
enum State {
    Ok,
    Failed,
    Skipped,
    /// A part of the step above.
    Part,
}

impl State {
    const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
            Self::Part => "",
        }
    }

    const fn of(succeeded: bool) -> Self {
        if succeeded { Self::Ok } else { Self::Failed }
    }
}

/// The result of a suite.
#[derive(Debug, Default)]
pub(crate) struct Suite {
    pub(crate) name: String,
    pub(crate) passed: usize,
    /// The names of the tests.
    pub(crate) failed: Vec<String>,
    pub(crate) skipped: usize,
    /// Why tests are ignored, and how many.
    pub(crate) ignored: BTreeMap<String, usize>,
    pub(crate) time: Duration,
    /// The time of each test, in seconds.
    pub(crate) times: Vec<(String, f64)>,
}

impl Suite {
    /// Its counts.
    fn counts(&self) -> String {
        format!(
            "{}: {} passed, {} failed, {} skipped",
            self.name,
            self.passed,
            self.failed.len(),
            self.skipped
        )
    }

    /// Its counts and its time.
    pub(crate) fn line(&self) -> String {
        format!("{} in {}", self.counts(), seconds(self.time))
    }
}

impl Report {
    /// Starts the clock.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            passed: 0,
            failed: 0,
            skipped: 0,
            failures: Vec::new(),
            notes: Vec::new(),
            rows: Vec::new(),
            times: Vec::new(),
        }
    }

    /// Adds a suite.
    pub(crate) fn add(&mut self, suite: Suite) {
        self.passed += suite.passed;
        self.failed += suite.failed.len();
        self.skipped += suite.skipped;
        let (state, text) = (State::of(suite.failed.is_empty()), suite.counts());
        self.rows.push(Row { state, time: suite.time, text });
        let name = suite.name;
        self.failures.extend(suite.failed.iter().map(|test| format!("{name} {test}")));
        self.times.extend(suite.times.into_iter().map(|(test, time)| (format!("{name} {test}"), time)));
    }

    /// Something failed that is not a step.
    pub(crate) fn fail(&mut self, why: &str) {
        println!("   FAILED: {why}");
        self.failed += 1;
        self.failures.push(why.lines().next().unwrap_or_default().to_owned());
    }

    /// Adds a step, which printed its own failure.
    pub(crate) fn step(&mut self, result: &StepResult) {
        self.rows.push(Row {
            state: State::of(result.succeeded),
            time: result.time,
            text: result.name.clone(),
        });
        if !result.succeeded {
            self.failed += 1;
            self.failures.push(result.name.clone());
        }
    }

    /// Adds a step that is not a single command, and prints its failure.
    pub(crate) fn timed(&mut self, name: &str, time: Duration, result: Result<(), String>) {
        self.rows.push(Row { state: State::of(result.is_ok()), time, text: name.to_owned() });
        if let Err(why) = result {
            self.fail(&format!("{name}: {why}"));
        }
    }

    /// Adds a part of the step that was added last.
    pub(crate) fn part(&mut self, name: &str, time: Duration) {
        self.rows.push(Row { state: State::Part, time, text: format!("of which {name}") });
    }

    /// Adds a step that this machine cannot do.
    pub(crate) fn skip(&mut self, name: &str, time: Duration, why: &str) {
        self.rows.push(Row { state: State::Skipped, time, text: name.to_owned() });
        self.skipped += 1;
        self.note(format!("{name} is skipped: {why}"));
    }

    /// A line for the end.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Whether nothing has failed.
    pub(crate) const fn has_passed(&self) -> bool {
        self.failed == 0
    }

    /// Whether no test has run, failed or been skipped.
    pub(crate) const fn is_empty(&self) -> bool {
        self.passed + self.failed + self.skipped == 0
    }

    /// Passed, failed, skipped.
    #[cfg(test)]
    pub(super) const fn counts(&self) -> (usize, usize, usize) {
        (self.passed, self.failed, self.skipped)
    }

    /// The slowest tests, the slowest first.
    fn slowest(&self) -> Vec<&(String, f64)> {
        let mut times: Vec<_> = self.times.iter().collect();
        times.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        times.truncate(SLOWEST);
        times
    }

    /// Prints the closing lines. The exit code is that of a failure if anything failed.
    pub(crate) fn close(self) -> ExitCode {
        self.closing_lines(self.start.elapsed()).iter().for_each(|line| println!("{line}"));
        if self.has_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// The slowest tests, each step with its time and the time of all of it, the failures, the
    /// notes, and the counts in the last line.
    fn closing_lines(&self, total: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        let slowest = self.slowest();
        if slowest.len() > 1 {
            lines.push(format!("-- the {} slowest tests", slowest.len()));
            lines.extend(slowest.iter().map(|(test, time)| format!("   {time:6.1} s  {test}")));
        }
        if !self.rows.is_empty() {
            lines.push("-- steps".to_owned());
            let line =
                |state: &str, time, text: &str| format!("   {state:<7}  {:>12}  {text}", seconds(time));
            lines.extend(self.rows.iter().map(|row| line(row.state.label(), row.time, &row.text)));
            lines.push(line("", total, "in total"));
        }
        lines.extend(self.failures.iter().map(|failure| format!("FAILED: {failure}")));
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines.push(format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(name: &str, seconds: f64, failed: &[&str]) -> Suite {
        Suite {
            name: name.to_owned(),
            passed: 2,
            failed: failed.iter().map(|&test| test.to_owned()).collect(),
            skipped: 1,
            time: Duration::from_secs_f64(seconds),
            times: vec![("a".to_owned(), seconds), ("b".to_owned(), seconds / 10.0)],
            ..Suite::default()
        }
    }

    fn step(name: &str, seconds: u64, succeeded: bool) -> StepResult {
        let time = Duration::from_secs(seconds);
        StepResult { name: name.to_owned(), succeeded, output: String::new(), time }
    }

    #[test]
    fn suites_are_summed_and_the_slowest_tests_come_first() {
        let mut report = Report::start();
        for (name, time, failed) in [("fakes", 1.0, &[][..]), ("node", 3.0, &[]), ("docs", 2.0, &["b"])] {
            report.add(suite(name, time, failed));
        }
        assert_eq!(report.counts(), (6, 1, 3));
        let slowest: Vec<&str> = report.slowest().iter().map(|(test, _)| test.as_str()).collect();
        assert_eq!(slowest, ["node a", "docs a", "fakes a", "node b", "docs b", "fakes b"]);
        assert!(!report.has_passed());
    }

    #[test]
    fn the_closing_lines_name_each_step_with_its_time_and_each_failure() {
        let mut report = Report::start();
        report.timed("prefetch", Duration::from_secs(130), Ok(()));
        report.part("Dex 2.45.1", Duration::from_secs(125));
        report.step(&step("format: cargo fmt", 1, true));
        report.step(&step("lints: cargo clippy", 20, false));
        report.skip("the static binary for arm64", Duration::ZERO, "no mirror");
        report.timed("cargo-deny", Duration::from_secs(2), Err("no network\nmore".to_owned()));
        report.add(suite("fakes", 30.0, &["a"]));
        report.fail("no test");
        assert_eq!(
            report.closing_lines(Duration::from_secs(190)),
            [
                "-- the 2 slowest tests",
                "     30.0 s  fakes a",
                "      3.0 s  fakes b",
                "-- steps",
                "   ok         2 min 10 s  prefetch",
                "              2 min 05 s  of which Dex 2.45.1",
                "   ok              1.0 s  format: cargo fmt",
                "   FAILED         20.0 s  lints: cargo clippy",
                "   skipped         0.0 s  the static binary for arm64",
                "   FAILED          2.0 s  cargo-deny",
                "   FAILED         30.0 s  fakes: 2 passed, 1 failed, 1 skipped",
                "              3 min 10 s  in total",
                "FAILED: lints: cargo clippy",
                "FAILED: cargo-deny: no network",
                "FAILED: fakes a",
                "FAILED: no test",
                "note: the static binary for arm64 is skipped: no mirror",
                "2 passed, 4 failed, 2 skipped",
            ]
        );
    }
}
