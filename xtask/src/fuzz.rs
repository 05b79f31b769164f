//! A search for input that breaks an invariant (`fuzz/`), by libFuzzer through cargo-fuzz.
//! cargo-fuzz, and the nightly toolchain that libFuzzer needs, are installed into the cache.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use dexsidecar_fetch::cache;

use crate::{root, step, tool};

const CARGO_FUZZ: &str = "0.13.2";
/// Pinned, so that a search can be repeated. Any newer one will do.
const TOOLCHAIN: &str = "nightly-2026-10-30";

/// Searches every target, or one, for this many minutes of processor time each.
pub(crate) fn search(minutes: u64, only: Option<&str>) -> Result<ExitCode, String> {
    let program = tool::installed("cargo-fuzz", CARGO_FUZZ)?;
    let rustup = toolchain()?;
    let cache = cache::directory()?.join("fuzz");
    let targets = targets()?;
    if let Some(only) = only.filter(|only| !targets.iter().any(|target| target == only)) {
        return Err(format!("\"{only}\" is not a target. One of: {}", targets.join(", ")));
    }
    let jobs = std::thread::available_parallelism().map_or(1, |jobs| u64::try_from(jobs.get()).unwrap_or(1));
    let mut found_nothing = true;
    let mut table = String::new();
    for target in targets.iter().filter(|target| only.is_none_or(|only| only == *target)) {
        let corpus = cache.join("corpus").join(target);
        let artifacts = cache.join("artifacts").join(target);
        for directory in [&corpus, &artifacts] {
            std::fs::create_dir_all(directory)
                .map_err(|error| format!("{} cannot be created: {error}", directory.display()))?;
        }
        let cargo_fuzz = |what: &str| {
            let mut command = Command::new(&program);
            command
                .current_dir(root())
                .env("RUSTUP_HOME", &rustup)
                .env("RUSTUP_TOOLCHAIN", TOOLCHAIN)
                .env("CARGO_TARGET_DIR", cache.join("target"))
                // The release profile is for size; a search needs speed, and line numbers.
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_STRIP", "none")
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")
                .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
                .env_remove("CARGO")
                .args(["fuzz", what, "--fuzz-dir", "fuzz", "--features", "libfuzzer", target]);
            command
        };
        // The build takes none of the minutes.
        let built = step::run(&format!("build the target {target}"), &mut cargo_fuzz("build"));
        if !built.succeeded {
            return Err(format!("{target} cannot be built"));
        }
        let mut command = cargo_fuzz("run");
        command
            .args([&corpus, &root().join("fuzz/corpus").join(target)])
            .arg("--")
            .arg(format!("-fork={jobs}"))
            .arg(format!("-max_total_time={}", minutes.saturating_mul(60).div_ceil(jobs)))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(["-max_len=65536", "-len_control=200", "-timeout=60", "-rss_limit_mb=2048"])
            // By default it goes on after these, and exits with 0.
            .args(["-ignore_timeouts=0", "-ignore_ooms=0"]);
        let dictionary = root().join("fuzz/dictionaries").join(target);
        if dictionary.is_file() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        let before = processor_minutes();
        let result = step::run(&format!("{target}, for {minutes} minutes of processor time"), &mut command);
        found_nothing &= result.succeeded;
        table.push_str(&row(target, processor_minutes() - before, &result.output, result.succeeded));
        if !result.succeeded {
            println!(
                "   the input that was found is in {}: correct the program, and add the input to fuzz/corpus/{target}",
                artifacts.display()
            );
        }
    }
    println!(
        "\n| target | processor minutes | inputs tried | edges covered | inputs kept | found |\n\
         |---|---:|---:|---:|---:|---|\n{table}"
    );
    Ok(if found_nothing { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The names of the files in `fuzz_targets`.
fn targets() -> Result<Vec<String>, String> {
    let directory = root().join("fuzz/fuzz_targets");
    let entries =
        std::fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned())
    };
    let mut targets: Vec<String> = entries.filter_map(name).collect();
    targets.sort();
    Ok(targets)
}

/// The home of a rustup with the nightly toolchain: the user's own rustup stays as it is.
fn toolchain() -> Result<PathBuf, String> {
    let home = cache::directory()?.join("rustup");
    let there = Command::new("rustc")
        .arg("--version")
        .env("RUSTUP_HOME", &home)
        .env("RUSTUP_TOOLCHAIN", TOOLCHAIN)
        .env("RUSTUP_AUTO_INSTALL", "0")
        .current_dir(Path::new("/"))
        .output()
        // The rustc of a distribution ignores these variables.
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("-nightly"));
    if there {
        return Ok(home);
    }
    let mut install = Command::new("rustup");
    install.env("RUSTUP_HOME", &home).env_remove("RUSTUP_TOOLCHAIN").args([
        "toolchain",
        "install",
        TOOLCHAIN,
        "--profile",
        "minimal",
        "--no-self-update",
    ]);
    if step::run(&format!("install Rust {TOOLCHAIN} into the cache"), &mut install).succeeded {
        Ok(home)
    } else {
        Err(format!(
            "the toolchain {TOOLCHAIN} is missing, which libFuzzer needs: get rustup from https://rustup.rs"
        ))
    }
}

/// The processor time of all child processes that have ended, in minutes (`cutime` and `cstime` of
/// proc_pid_stat(5), which are in hundredths of a second).
fn processor_minutes() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split_ascii_whitespace();
    let ticks: f64 = fields.skip(13).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 6_000.0
}

/// A row of the table, from the last of libFuzzer's status lines, which begin with
/// `#524288: cov: 812 ft: 2215 corp: 301 exec/s: 5120`.
fn row(target: &str, minutes: f64, output: &str, found_nothing: bool) -> String {
    let last = output.lines().rev().find(|line| line.starts_with('#') && line.contains(" cov: "));
    let after = |name: &str| {
        let (_, rest) = last?.split_once(&format!(" {name}: "))?;
        rest.split_ascii_whitespace().next()
    };
    let tried = last.and_then(|line| line.trim_start_matches('#').split(':').next());
    let or_none = |value: Option<&str>| value.unwrap_or("?").to_owned();
    format!(
        "| {target} | {minutes:.1} | {} | {} | {} | {} |\n",
        or_none(tried),
        or_none(after("cov")),
        or_none(after("corp")),
        if found_nothing { "nothing" } else { "something" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_the_last_status_line() {
        let output = "#2: cov: 1 ft: 1 corp: 1 exec/s: 0\n#524288: cov: 812 ft: 2215 corp: 301 exec/s: 5120 oom/timeout/crash: 0/0/0 time: 60s\nINFO: done\n";
        assert_eq!(row("keys", 1.0, output, true), "| keys | 1.0 | 524288 | 812 | 301 | nothing |\n");
        assert_eq!(row("keys", 0.0, "", false), "| keys | 0.0 | ? | ? | ? | something |\n");
    }
}
