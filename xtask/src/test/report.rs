//! The result of a run: counts, failures, the time of each suite, and the slowest tests.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use crate::progress::seconds;
use crate::step::Done;

/// How many of the slowest tests are named.
const SLOWEST: usize = 10;

/// The result so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
    skipped: usize,
    /// Steps other than tests that failed.
    failures: Vec<String>,
    notes: Vec<String>,
    suites: Vec<Suite>,
    times: Vec<(String, f64)>,
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
    /// Its counts and its time.
    pub(crate) fn line(&self) -> String {
        format!(
            "{}: {} passed, {} failed, {} skipped in {}",
            self.name,
            self.passed,
            self.failed.len(),
            self.skipped,
            seconds(self.time)
        )
    }
}

impl Report {
    /// Adds a suite.
    pub(crate) fn add(&mut self, mut suite: Suite) {
        self.passed += suite.passed;
        self.failed += suite.failed.len();
        self.skipped += suite.skipped;
        let name = suite.name.clone();
        self.times.extend(suite.times.drain(..).map(|(test, time)| (format!("{name} {test}"), time)));
        self.suites.push(suite);
    }

    /// Something other than a test failed.
    pub(crate) fn fail(&mut self, why: &str) {
        println!("   FAILED: {why}");
        self.failed += 1;
        self.failures.push(why.lines().next().unwrap_or_default().to_owned());
    }

    /// A step that printed its own failure.
    pub(crate) fn step(&mut self, done: Done) {
        self.good(done.succeeded);
    }

    /// The same, without its output.
    pub(crate) fn good(&mut self, good: bool) {
        if !good {
            self.failed += 1;
        }
    }

    /// Something that cannot be tested on this machine.
    pub(crate) fn skip(&mut self, why: &str) {
        self.skipped += 1;
        self.note(why.to_owned());
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

    /// Prints the end: the slowest tests, the suites, the failures, the notes, and the counts in
    /// the last line.
    pub(crate) fn close(self) -> ExitCode {
        let slowest = self.slowest();
        if slowest.len() > 1 {
            println!("-- the {} slowest tests", slowest.len());
            slowest.iter().for_each(|(test, time)| println!("   {time:6.1} s  {test}"));
        }
        if self.suites.len() > 1 {
            println!("-- suites");
            self.suites.iter().for_each(|suite| println!("   {}", suite.line()));
        }
        for suite in &self.suites {
            suite.failed.iter().for_each(|test| println!("FAILED: {} {test}", suite.name));
        }
        self.failures.iter().for_each(|failure| println!("FAILED: {failure}"));
        self.notes.iter().for_each(|note| println!("note: {note}"));
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        if self.has_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_summed_and_the_slowest_tests_come_first() {
        let mut report = Report::default();
        for (name, time) in [("fakes", 1.0), ("node", 3.0), ("docs", 2.0)] {
            let times = vec![("a".to_owned(), time), ("b".to_owned(), time / 10.0)];
            let failed = if name == "docs" { vec!["b".to_owned()] } else { vec![] };
            report.add(Suite {
                name: name.to_owned(),
                passed: 2,
                failed,
                skipped: 1,
                times,
                ..Suite::default()
            });
        }
        assert_eq!(report.counts(), (6, 1, 3));
        let slowest: Vec<&str> = report.slowest().iter().map(|(test, _)| test.as_str()).collect();
        assert_eq!(slowest, ["node a", "docs a", "fakes a", "node b", "docs b", "fakes b"]);
        assert!(!report.has_passed());
    }

    #[test]
    fn a_failed_step_is_counted_so_that_the_last_line_shows_it() {
        let mut report = Report::default();
        report.good(false);
        report.fail("no Go");
        assert_eq!(report.counts(), (0, 2, 0));
    }
}
