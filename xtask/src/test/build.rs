//! Test binaries: cargo builds them, and its messages have their paths.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::report::Report;
use crate::suite::Suite;
use crate::{cargo, step};

const E2E: &str = "dexsidecar-e2e";

/// A test binary.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Binary {
    /// The package.
    pub(super) package: String,
    /// The target: a library, a program, or an integration test.
    pub(super) target: String,
    /// Whether it is an integration test.
    pub(super) is_integration: bool,
    pub(super) executable: PathBuf,
    /// The directory in which cargo runs it: that of the package's Cargo.toml.
    pub(super) directory: PathBuf,
}

impl Binary {
    /// The suite that it belongs to.
    pub(super) fn suite(&self) -> Suite {
        let has_it = |suite: &Suite| {
            self.package == E2E && self.is_integration && suite.binary() == Some(self.target.as_str())
        };
        Suite::ALL.into_iter().find(has_it).unwrap_or(Suite::Unit)
    }
}

/// Those of every suite, and the program that they run. `None` if something does not compile.
pub(super) fn all(report: &mut Report) -> Option<Vec<Binary>> {
    let binaries = build(&["--workspace"], report)?;
    program(report)?;
    Some(binaries)
}

/// Those of one suite, and the program that they run. `None` if something does not compile.
pub(super) fn of(suite: Suite, report: &mut Report) -> Option<Vec<Binary>> {
    let Some(target) = suite.binary() else {
        let mut binaries = build(&["--workspace", "--exclude", E2E], report)?;
        binaries.extend(build(&["--package", E2E, "--lib", "--bins"], report)?);
        return Some(binaries);
    };
    program(report)?;
    build(&["--package", E2E, "--test", target], report)
}

/// Those of these packages. `None` if something does not compile.
pub(super) fn of_packages(packages: &[&str], report: &mut Report) -> Option<Vec<Binary>> {
    build(&packages.iter().flat_map(|package| ["--package", package]).collect::<Vec<_>>(), report)
}

/// The program that the tests run. They build it by themselves; this is where that takes its time.
fn program(report: &mut Report) -> Option<()> {
    let mut program = cargo();
    program.args(["build", "--locked", "--package", "dexsidecar"]);
    let done = step::run("the program for tests: cargo build --package dexsidecar", &mut program);
    report.step(&done);
    done.succeeded.then_some(())
}

fn build(options: &[&str], report: &mut Report) -> Option<Vec<Binary>> {
    let mut command = cargo();
    command.args(["test", "--locked", "--no-run", "--message-format=json-render-diagnostics"]).args(options);
    let done = step::run(&format!("build tests: cargo test --no-run {}", options.join(" ")), &mut command);
    report.step(&done);
    done.succeeded.then(|| binaries(&done.output))
}

/// Reads cargo's messages (the Cargo book, "External tools").
fn binaries(messages: &str) -> Vec<Binary> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.filter_map(|message| binary(&message)).collect()
}

fn binary(message: &Value) -> Option<Binary> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    // `path+file:///clone/crates/core#dexsidecar-core@0.1.0`; without a name if the directory has
    // it: `…/xtask#0.1.0`.
    let (path, id) = message["package_id"].as_str()?.rsplit_once('#')?;
    let package =
        id.split_once('@').map_or_else(|| path.rsplit('/').next().unwrap_or(path), |(name, _)| name);
    Some(Binary {
        package: package.to_owned(),
        target: text(&message["target"]["name"])?,
        is_integration: message["target"]["kind"][0] == "test",
        executable: text(&message["executable"])?.into(),
        directory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r#"
   Compiling dexsidecar-e2e v0.1.0
{"reason":"compiler-artifact","package_id":"registry+https://github.com/rust-lang/crates.io-index#syn@2.0.1","manifest_path":"/c/syn/Cargo.toml","target":{"kind":["lib"],"name":"syn"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","package_id":"path+file:///w/e2e#dexsidecar-e2e@0.1.0","manifest_path":"/w/e2e/Cargo.toml","target":{"kind":["test"],"name":"real_dex"},"profile":{"test":true},"executable":"/t/deps/real_dex-1"}
{"reason":"compiler-artifact","package_id":"path+file:///w/xtask#0.1.0","manifest_path":"/w/xtask/Cargo.toml","target":{"kind":["bin"],"name":"xtask"},"profile":{"test":true},"executable":"/t/deps/xtask-1"}
{"reason":"build-finished","success":true}
"#;

    #[test]
    fn cargo_s_messages_name_each_test_binary_and_its_suite() {
        let binaries = binaries(MESSAGES);
        let found: Vec<_> = binaries.iter().map(|one| (one.package.as_str(), one.suite())).collect();
        assert_eq!(found, [("dexsidecar-e2e", Suite::RealDex), ("xtask", Suite::Unit)]);
        assert_eq!(binaries[0].executable, Path::new("/t/deps/real_dex-1"));
        assert_eq!(binaries[0].directory, Path::new("/w/e2e"));
    }
}
