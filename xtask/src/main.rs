//! The commands of this project, spelt once. Each is a plain cargo command or a few of them: what they run is printed.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its terminal")]

mod deny;
mod fuzz;
mod image;
mod licences;
mod mutants;
mod release;
mod step;
mod test;
mod tool;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use lexopt::{Arg, Parser, ValueExt as _};

use release::Target;

const HELP: &str = "\
cargo xtask COMMAND

  demo [--once-around]   see a token being kept fresh by a real Dex; Ctrl-C ends it
  demo --kubernetes [--once-around]
                         see a pod on a real node log in to a real Incus with it; needs root
  test [--long]          formatting, lints, licences, and every test there is; --long for all of what is only
                         sampled else: ten million reads, thousands of kills, a hundred thousand histories
  build [--aarch64]      the static binary as it ships; --aarch64 for that machine
  image [--amd64]        an OCI archive for amd64 and arm64, or for the one alone; no daemon needed
  rootfs DIR [--aarch64] what is in the image, into a folder: the Dockerfile uses it
  bench                  measure the shipped binary against its ceilings, into docs/footprint.md
  soak [--minutes N]     hours in minutes, with trouble of every kind: what it costs is to stay the same
  survive [--bin PATH]   faults against any program that takes the original's environment, as a table
  fleet                  a thousand sidecars' cores and a real Dex, hours in minutes, drawn into docs/fleet.svg
  fuzz [TARGET] [--minutes N]
                         search for input that breaks what must hold, N minutes of processor time a target
  mutants                faults put into the core one at a time: its tests notice each
  docs                   write the generated pages anew: docs/settings.md, failures.md, faults.md

Everything that is fetched or built besides goes to $XDG_CACHE_HOME/dexsidecar or ~/.cache/dexsidecar.
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let mut parser = Parser::from_env();
    let mut words = Vec::new();
    let mut flags = Vec::new();
    let (mut minutes, mut program) = (None, None);
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Arg::Value(word) => words.push(word.to_string_lossy().into_owned()),
            Arg::Long("help") | Arg::Short('h') => words.insert(0, "help".to_owned()),
            Arg::Long("minutes") => {
                flags.push("minutes".to_owned());
                minutes = Some(
                    parser.value().and_then(|n| n.parse::<u64>()).map_err(|e| format!("--minutes: {e}"))?,
                );
            }
            Arg::Long("bin") => {
                flags.push("bin".to_owned());
                program = Some(parser.value().map_err(|e| e.to_string())?.to_string_lossy().into_owned());
            }
            Arg::Long(flag) => flags.push(flag.to_owned()),
            Arg::Short(letter) => return Err(format!("-{letter} is no flag")),
        }
    }
    let known: &[&str] = match words.first().map_or("help", String::as_str) {
        "demo" => &["kubernetes", "once-around"],
        "build" | "rootfs" => &["aarch64"],
        "image" => &["amd64"],
        "test" => &["long"],
        "soak" | "fuzz" => &["minutes"],
        "survive" => &["bin"],
        _ => &[],
    };
    if let Some(flag) = flags.iter().find(|flag| !known.contains(&flag.as_str())) {
        return Err(format!("--{flag} is no flag of this command\n\n{HELP}"));
    }
    let most = match words.first().map_or("help", String::as_str) {
        "rootfs" | "fuzz" => 2,
        _ => 1,
    };
    if let Some(word) = words.get(most) {
        return Err(format!("{word} is too much for this command\n\n{HELP}"));
    }
    let has = |flag: &str| flags.iter().any(|given| given == flag);
    match words.first().map_or("help", String::as_str) {
        "help" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        "demo" => demo(has("kubernetes"), has("once-around")),
        "test" => test::all(has("long")),
        "build" => {
            let binary = release::build(if has("aarch64") { Target::Aarch64 } else { Target::X86_64 })?;
            println!("{}", binary.display());
            Ok(ExitCode::SUCCESS)
        }
        "image" => {
            let targets: &[Target] =
                if has("amd64") { &[Target::X86_64] } else { &[Target::X86_64, Target::Aarch64] };
            println!("{}", image::archive(targets)?.display());
            Ok(ExitCode::SUCCESS)
        }
        "rootfs" => {
            let target = if has("aarch64") { Target::Aarch64 } else { Target::X86_64 };
            let folder = words.get(1).ok_or("rootfs needs a folder to fill")?;
            image::fill(Path::new(folder), target)?;
            Ok(ExitCode::SUCCESS)
        }
        "bench" => measured("bench", &[]),
        "soak" => measured("soak", &minutes.map(|n| n.to_string()).into_iter().collect::<Vec<_>>()),
        "survive" => measured("survive", &program.into_iter().collect::<Vec<_>>()),
        "fleet" => measured("fleet", &[]),
        "fuzz" => fuzz::search(minutes.unwrap_or(1), words.get(1).map(String::as_str)),
        "mutants" => mutants::all(),
        // What needs a control plane writes no page.
        "docs" => step::plain(cargo().env("UPDATE", "1").args([
            "test",
            "--quiet",
            "-p",
            "dexsidecar-e2e",
            "--test",
            "docs",
            "--",
            "--skip",
            "kubernetes_page",
        ])),
        other => Err(format!("{other} is no command\n\n{HELP}")),
    }
}

/// The cargo that runs this.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace's folder")
}

/// Where cargo builds.
fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn demo(kubernetes: bool, once_around: bool) -> Result<ExitCode, String> {
    let mut command = cargo();
    let program = if kubernetes { "cluster" } else { "demo" };
    command.args(["run", "--quiet", "--package", "dexsidecar-e2e", "--bin", program, "--"]);
    if once_around {
        command.arg("--once-around");
    }
    if kubernetes {
        return step::plain(&mut command);
    }
    println!("building the program and its counterparts; the first time takes a few minutes");
    match release::build(Target::X86_64) {
        Ok(binary) => {
            command.env("SIDECAR_BIN", binary);
        }
        Err(why) => println!("   the program is not the one that ships, but a larger one for testing: {why}"),
    }
    step::plain(&mut command)
}

/// Runs a program of the proving ground with the binary as it ships.
fn measured(program: &str, arguments: &[String]) -> Result<ExitCode, String> {
    let binary = release::build(Target::X86_64)?;
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "dexsidecar-e2e", "--bin", program, "--"]);
    command.args(arguments);
    step::plain(command.env("SIDECAR_BIN", binary))
}
