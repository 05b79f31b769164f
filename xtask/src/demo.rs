//! The demos, and the measurements of the shipped binary: programs of `e2e`.

use std::process::{Command, ExitCode};

use dexsidecar_fetch::machine;

use crate::prefetch::{self, Wanted};
use crate::release::{self, Error, Target};
use crate::{cargo, step};

/// Shows a token that is kept fresh by a real Dex, or a pod on a real node.
pub(crate) fn run(kubernetes: bool, once_around: bool) -> Result<ExitCode, Error> {
    if kubernetes {
        machine::look_for_node().map_err(|why| Error::Failed(format!("{why}; nothing was started")))?;
    }
    let mut prefetch_error = None;
    match prefetch::run(Wanted::for_demo(kubernetes)) {
        Ok(prefetched) => prefetched.notes.iter().for_each(|note| println!("note: {note}")),
        Err(why) if kubernetes => return Err(Error::Failed(why)),
        Err(why) => {
            println!("note: {why}");
            prefetch_error = why.lines().next().map(str::to_owned);
        }
    }
    let mut command = program(if kubernetes { "cluster" } else { "demo" }, false)?;
    if let Some(why) = prefetch_error {
        // Unless Dex is in the cache, the demo uses a fake one, and prints this reason.
        command.args(["--prefetch-error", &why]);
    }
    if once_around {
        command.arg("--once-around");
    }
    if !kubernetes {
        match release::build(Target::X86_64) {
            Ok(binary) => {
                command.env("SIDECAR_BIN", binary);
            }
            Err(error) => {
                println!(
                    "note: the demo runs a debug build, larger than what ships: {}",
                    String::from(error)
                );
            }
        }
    }
    Ok(step::run_in_terminal(&mut command)?)
}

/// Measures how much later an app starts that waits for its token.
pub(crate) fn start_times() -> Result<ExitCode, Error> {
    machine::look_for_node().map_err(|why| Error::Failed(format!("{why}; nothing was started")))?;
    prefetch::run(Wanted::for_demo(true)).map_err(Error::Failed)?;
    Ok(step::run_in_terminal(&mut program("start_times", false)?)?)
}

/// Measures what the policies of injection add to the creation of a pod.
pub(crate) fn admission_times() -> Result<ExitCode, Error> {
    Ok(step::run_in_terminal(&mut program("admission_times", false)?)?)
}

/// Runs a program of `e2e` that measures the binary as it ships.
pub(crate) fn measured(name: &str, arguments: &[String]) -> Result<ExitCode, Error> {
    let binary = release::build(Target::X86_64)?;
    let mut program = program(name, true)?;
    program.args(arguments).env("SIDECAR_BIN", binary);
    Ok(step::run_in_terminal(&mut program)?)
}

/// The command that runs a program of `e2e`. It is built first, with visible progress, since that
/// may take minutes.
fn program(name: &str, optimized: bool) -> Result<Command, Error> {
    let target = ["--package", "dexsidecar-e2e", "--bin", name];
    let profile = optimized.then_some("--release");
    let mut build = cargo();
    build.arg("build").args(profile).args(target);
    if !step::run(&format!("the program {name}: cargo build"), &mut build).succeeded {
        return Err(Error::Failed(format!("the program {name} cannot be built")));
    }
    let mut command = cargo();
    command.args(["run", "--quiet"]).args(profile).args(target).arg("--");
    Ok(command)
}
