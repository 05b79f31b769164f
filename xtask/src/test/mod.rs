//! `cargo xtask test`: everything that must hold, or one suite. The last line has the counts.

mod build;
mod events;
mod report;
mod run;

use std::process::ExitCode;
use std::time::Instant;

pub(crate) use report::Report;
use run::Options;

use crate::prefetch::{self, Wanted};
use crate::release::{self, Error, Target};
use crate::suite::Suite;
use crate::{cargo, check, deny, step};

/// The name of the step in the closing lines.
const PREFETCH: &str = "prefetch";

/// Runs one suite; with a filter, those of its tests whose names contain it.
pub(crate) fn suite(suite: Suite, filter: Option<&str>, long: bool) -> ExitCode {
    let mut report = Report::start();
    if prefetched(Wanted::for_suite(suite, long), &mut report)
        && built(suite, &mut report)
        && let Some(binaries) = build::of(suite, &mut report)
    {
        run::suite(suite, &binaries, &Options { filter, long }, &mut report);
        if let Some(filter) = filter
            && report.is_empty()
        {
            report.fail(&format!("no test of the suite {} has \"{filter}\" in its name", suite.name()));
        }
    }
    report.close()
}

/// Runs all of it, and goes on after a failure; `long` for the long forms of what is sampled
/// otherwise.
pub(crate) fn all(long: bool) -> ExitCode {
    let mut report = Report::start();
    if !prefetched(Wanted::for_all(long), &mut report) {
        return report.close();
    }
    check::lints(&mut report);
    let doc = ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"];
    report.step(&step::run("documentation: cargo doc", cargo().env("RUSTDOCFLAGS", "-D warnings").args(doc)));
    deny::check(&mut report);
    ships(Target::X86_64, || release::build(Target::X86_64), &mut report);
    ships(Target::Aarch64, || release::build(Target::Aarch64), &mut report);
    if let Some(binaries) = build::all(&mut report) {
        for suite in Suite::ALL {
            run::suite(suite, &binaries, &Options { filter: None, long }, &mut report);
        }
    }
    report.close()
}

/// Runs the tests of these packages that need nothing but the workspace.
pub(crate) fn pure(packages: &[&str], report: &mut Report) {
    if let Some(binaries) = build::of_packages(packages, report) {
        run::suite(Suite::Unit, &binaries, &Options { filter: None, long: false }, report);
    }
}

fn prefetched(wanted: Wanted, report: &mut Report) -> bool {
    let start = Instant::now();
    let result = prefetch::run(wanted);
    let time = start.elapsed();
    match result {
        Ok(prefetched) => {
            report.timed(PREFETCH, time, Ok(()));
            prefetched.parts.iter().for_each(|(name, time)| report.part(name, *time));
            prefetched.notes.into_iter().for_each(|note| report.note(note));
            true
        }
        Err(why) => {
            report.timed(PREFETCH, time, Err(why));
            false
        }
    }
}

/// The binary as it ships, for the suites that run it: no test waits for its build.
fn built(suite: Suite, report: &mut Report) -> bool {
    if suite.runs_the_shipped_binary() {
        ships(Target::X86_64, || release::build(Target::X86_64), report);
    }
    report.has_passed()
}

/// Builds a binary as it ships. Only a missing cross compiler skips it; all else is a failure.
fn ships<T>(target: Target, build: impl FnOnce() -> Result<T, Error>, report: &mut Report) {
    let name = format!("the static binary for {}", target.triple());
    let start = Instant::now();
    let result = build();
    let time = start.elapsed();
    match result {
        Ok(_) => report.timed(&name, time, Ok(())),
        Err(Error::NoCrossCompiler(why)) => report.skip(&name, time, &why),
        Err(Error::Failed(why)) => report.timed(&name, time, Err(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_cross_compiler_skips_a_binary() {
        let mut report = Report::start();
        ships::<()>(Target::Aarch64, || Err(Error::NoCrossCompiler("no mirror".to_owned())), &mut report);
        assert_eq!((report.has_passed(), report.counts()), (true, (0, 0, 1)));
        ships::<()>(Target::Aarch64, || Err(Error::Failed("error[E0308]".to_owned())), &mut report);
        assert_eq!((report.has_passed(), report.counts()), (false, (0, 1, 1)));
    }
}
