//! `cargo xtask test`: everything that must hold, or one suite. The last line has the counts.

mod build;
mod events;
mod report;
mod run;

use std::process::ExitCode;

use report::Report;
use run::Options;

use crate::prefetch::{self, Wanted};
use crate::release::{self, Error, Target};
use crate::suite::Suite;
use crate::{cargo, check, deny, step};

/// Runs one suite; with a filter, those of its tests whose names contain it.
pub(crate) fn suite(suite: Suite, filter: Option<&str>, long: bool) -> ExitCode {
    let mut report = Report::default();
    if prefetched(Wanted::for_suite(suite, long), &mut report) && built(suite, &mut report) {
        match build::of(suite) {
            Ok(binaries) => run::suite(suite, &binaries, &Options { filter, long }, &mut report),
            Err(why) => report.fail(&why),
        }
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
    let mut report = Report::default();
    if !prefetched(Wanted::for_all(long), &mut report) {
        return report.close();
    }
    check::lints(&mut report);
    let doc = ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"];
    report.step(step::run("documentation: cargo doc", cargo().env("RUSTDOCFLAGS", "-D warnings").args(doc)));
    match deny::check() {
        Ok(checked) => {
            report.good(checked.succeeded);
            checked.note.into_iter().for_each(|note| report.note(note));
        }
        Err(why) => report.fail(&why),
    }
    ships(Target::X86_64, release::build(Target::X86_64), &mut report);
    ships(Target::Aarch64, release::build(Target::Aarch64), &mut report);
    match build::all() {
        Ok(binaries) => {
            for suite in Suite::ALL {
                run::suite(suite, &binaries, &Options { filter: None, long }, &mut report);
            }
        }
        Err(why) => report.fail(&why),
    }
    report.close()
}

/// Runs the tests of these packages that need nothing but the workspace.
pub(crate) fn pure(packages: &[&str], report: &mut Report) {
    match build::of_packages(packages) {
        Ok(binaries) => run::suite(Suite::Unit, &binaries, &Options { filter: None, long: false }, report),
        Err(why) => report.fail(&why),
    }
}

pub(crate) use report::Report as Outcome;

fn prefetched(wanted: Wanted, report: &mut Report) -> bool {
    match prefetch::run(wanted) {
        Ok(notes) => {
            notes.into_iter().for_each(|note| report.note(note));
            true
        }
        Err(why) => {
            report.fail(&why);
            false
        }
    }
}

/// The binary as it ships, for the suites that run it: no test waits for its build.
fn built(suite: Suite, report: &mut Report) -> bool {
    if suite.runs_the_shipped_binary() {
        ships(Target::X86_64, release::build(Target::X86_64), report);
    }
    report.has_passed()
}

/// What becomes of a binary as it ships. Only a missing cross compiler skips it; all else is a
/// failure.
fn ships<T>(target: Target, built: Result<T, Error>, report: &mut Report) {
    match built {
        Ok(_) => {}
        Err(Error::NoCrossCompiler(why)) => {
            report.skip(&format!("the binary for {} was not built: {why}", target.triple()));
        }
        Err(Error::Failed(why)) => report.fail(&why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_cross_compiler_skips_a_binary() {
        let mut report = Report::default();
        ships::<()>(Target::Aarch64, Err(Error::NoCrossCompiler("no mirror".to_owned())), &mut report);
        assert_eq!((report.has_passed(), report.counts()), (true, (0, 0, 1)));
        ships::<()>(Target::Aarch64, Err(Error::Failed("error[E0308]".to_owned())), &mut report);
        assert_eq!((report.has_passed(), report.counts()), (false, (0, 1, 1)));
    }
}
