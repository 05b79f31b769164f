//! The commands of this project's developers, each stated once. The steps that a command takes are
//! printed.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its terminal")]

mod archive;
mod charts;
mod check;
mod cli;
mod demo;
mod deny;
mod dist;
mod fuzz;
mod image;
mod licences;
mod linked;
mod mutants;
mod prefetch;
mod progress;
mod publish;
mod release;
mod sbom;
mod shell_files;
mod step;
mod suite;
mod test;
mod tool;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use cli::Request;
use dexsidecar_fetch::NO_CROSS_COMPILER;
use dexsidecar_fetch::workspace::{cargo, directory as root};
use prefetch::Wanted;
use release::{Error, Target};

/// The exit code for a wrong command line (sysexits.h).
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let command = match cli::read(std::env::args_os()) {
        Ok(Request::Run(command)) => command,
        Ok(Request::Help(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("xtask: {why}");
            return ExitCode::from(EX_USAGE);
        }
    };
    match run(command) {
        Ok(code) => code,
        Err(Error::NoCrossCompiler(why)) => {
            eprintln!("xtask: the cross compiler for aarch64 is missing: {why}");
            ExitCode::from(NO_CROSS_COMPILER)
        }
        Err(Error::Failed(why)) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: cli::Command) -> Result<ExitCode, Error> {
    use cli::Command as C;
    let path = |path: &Path| println!("{}", path.display());
    let arguments = |given: Option<String>| given.into_iter().collect::<Vec<_>>();
    match command {
        C::Check => return Ok(check::all()),
        C::Test { suite: Some(suite), filter, long } => {
            return Ok(test::suite(suite, filter.as_deref(), long));
        }
        C::Test { suite: None, long, .. } => return Ok(test::all(long)),
        C::Prefetch { suite, long } => {
            let wanted = suite.map_or_else(|| Wanted::for_all(long), |suite| Wanted::for_suite(suite, long));
            prefetch::run(wanted)?.notes.iter().for_each(|note| println!("note: {note}"));
        }
        C::Demo { kubernetes, once_around } => return demo::run(kubernetes, once_around),
        C::Build { aarch64 } => path(&release::build(target(aarch64))?),
        C::Image { amd64: true } => path(&image::archive(&[Target::X86_64])?),
        C::Image { amd64: false } => path(&image::archive(&[Target::X86_64, Target::Aarch64])?),
        C::Dist { out } => path(&dist::write(out)?),
        C::Sbom { aarch64 } => print!("{}", sbom::render(target(aarch64), dist::source_time()?)?),
        C::Charts { directory } => {
            charts::write(&directory, dist::source_time()?)?.iter().for_each(|file| path(file));
        }
        C::Publisher { directory } => publish::publisher(&directory)?,
        C::PublishImage { directory, name } => publish::image(&directory, &name)?,
        C::PublishFiles { directory } => publish::files(&directory)?,
        C::Advisories => deny::advisories()?,
        C::Rootfs { directory, aarch64 } => image::fill(&directory, target(aarch64))?,
        C::Completions { directory } => shell_files::write(&directory)?.iter().for_each(|file| path(file)),
        C::Bench => return demo::measured("bench", &[]),
        C::Soak { minutes } => return demo::measured("soak", &arguments(minutes.map(|n| n.to_string()))),
        C::Survive { bin } => {
            return demo::measured("survive", &arguments(bin.map(|bin| bin.display().to_string())));
        }
        C::Fleet => return demo::measured("fleet", &[]),
        C::StartTimes => return demo::start_times(),
        C::AdmissionTimes => return demo::admission_times(),
        C::Fuzz { target, minutes } => return Ok(fuzz::search(minutes, target.as_deref())?),
        C::Mutants => return Ok(mutants::all()?),
        C::Docs => return Ok(step::run_in_terminal(&mut docs())?),
    }
    Ok(ExitCode::SUCCESS)
}

const fn target(aarch64: bool) -> Target {
    if aarch64 { Target::Aarch64 } else { Target::X86_64 }
}

/// The tests that hold the generated pages to the tables write them. What needs an API server
/// writes nothing.
fn docs() -> Command {
    let mut command = cargo();
    command.env("UPDATE", "1").args(["test", "--quiet", "--package", "dexsidecar-e2e", "--package", "xtask"]);
    command.args([
        "--test",
        "docs",
        "--test",
        "architecture",
        "--",
        "--skip",
        "kubernetes_page",
        "--skip",
        "api_server",
    ]);
    command
}

/// The directory that cargo builds into.
fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
