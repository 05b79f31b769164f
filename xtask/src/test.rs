//! `cargo xtask test`: everything that must hold, closed by one line of counts.

use std::process::ExitCode;

use crate::release::{self, Target};
use crate::{cargo, deny, step};

/// Counts over all test programs.
#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Runs all of it, whatever fails on the way; `long` for the long forms of what is sampled else.
pub(crate) fn all(long: bool) -> Result<ExitCode, String> {
    let mut good = true;
    let mut counts = Counts::default();
    let mut notes = Vec::new();
    good &= step::run("formatting: cargo fmt --all --check", cargo().args(["fmt", "--all", "--check"])).good;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    good &= step::run("lints: cargo clippy", cargo().args(clippy)).good;
    let doc = ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"];
    good &= step::run("documentation: cargo doc", cargo().env("RUSTDOCFLAGS", "-D warnings").args(doc)).good;
    match deny::check() {
        Ok(checked) => {
            good &= checked.good;
            notes.extend(checked.note);
        }
        Err(why) => {
            good = false;
            println!("   FAILED: {why}");
        }
    }
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    if long {
        tests.envs([("DEXSIDECAR_E2E_LONG", "1"), ("PROPTEST_CASES", "100000")]);
    }
    let done = step::following("tests: cargo test --workspace", &mut tests, news);
    good &= done.good;
    done.output.lines().for_each(|line| counts.add(line));
    for (name, target) in [("x86_64", Target::X86_64), ("aarch64", Target::Aarch64)] {
        match release::build(target) {
            Ok(_) => {}
            Err(why) if target == Target::Aarch64 => {
                counts.skipped += 1;
                notes.push(format!("the {name} binary was not built: {why}"));
            }
            Err(why) => {
                good = false;
                println!("   FAILED: {why}");
            }
        }
    }
    for note in notes {
        println!("note: {note}");
    }
    if !good && counts.failed == 0 {
        // A step other than a test: the closing line must not look green.
        counts.failed = 1;
    }
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A test program that begins, and what it came to.
fn news(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(program) = line.strip_prefix("Running ") {
        return Some(program.split(" (").next().unwrap_or(program).to_owned());
    }
    let told = line.starts_with("skipped: ")
        || line.starts_with("ignored: ")
        || line.starts_with("Doc-tests ")
        || line.starts_with("test result: ")
        || line.contains(" ... FAILED");
    told.then(|| line.to_owned())
}

impl Counts {
    /// Reads `test result: ok. 7 passed; 0 failed; 0 ignored; …`.
    fn add(&mut self, line: &str) {
        if line.starts_with("skipped: ") {
            // Said by a test that found nothing to test; the harness counts it as passed.
            self.skipped += 1;
            self.passed = self.passed.saturating_sub(1);
            return;
        }
        let Some((_, numbers)) = line.split_once("test result: ") else { return };
        for part in numbers.split([';', '.']) {
            let mut words = part.split_ascii_whitespace();
            let Some(number) = words.next().and_then(|word| word.parse::<usize>().ok()) else { continue };
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_programs() {
        let mut counts = Counts::default();
        for line in [
            "test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "skipped: a test: this machine has no root",
            "something else",
        ] {
            counts.add(line);
        }
        assert_eq!((counts.passed, counts.failed, counts.skipped), (8, 1, 2));
    }
}
