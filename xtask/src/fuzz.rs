//! A search for bytes that break what must hold (`fuzz/`), by libFuzzer through cargo-fuzz. Both, and the nightly
//! toolchain that libFuzzer needs, are put into the cache.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use dexsidecar_fetch::cache;

use crate::{root, step, tool};

const CARGO_FUZZ: &str = "0.13.2";
/// Pinned, so that a search can be repeated; any newer one will do too.
const TOOLCHAIN: &str = "nightly-2026-10-30";

/// Searches every target, or the one named, for so many minutes of processor time each.
pub(crate) fn search(minutes: u64, only: Option<&str>) -> Result<ExitCode, String> {
    if minutes == 0 {
        return Err("a search takes a minute at least: --minutes 1".to_owned());
    }
    let program = tool::installed("cargo-fuzz", CARGO_FUZZ)?;
    let rustup = toolchain()?;
    let folder = cache::folder()?.join("fuzz");
    let targets = targets()?;
    if let Some(only) = only.filter(|only| !targets.iter().any(|target| target == only)) {
        return Err(format!("{only} is no target; there are {}", targets.join(", ")));
    }
    let jobs = std::thread::available_parallelism().map_or(1, |jobs| u64::try_from(jobs.get()).unwrap_or(1));
    let mut good = true;
    let mut table = String::new();
    for target in targets.iter().filter(|target| only.is_none_or(|only| only == *target)) {
        let mine = folder.join("corpus").join(target);
        let finds = folder.join("artifacts").join(target);
        for folder in [&mine, &finds] {
            std::fs::create_dir_all(folder)
                .map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
        }
        let cargo_fuzz = |what: &str| {
            let mut command = Command::new(&program);
            command
                .current_dir(root())
                .env("RUSTUP_HOME", &rustup)
                .env("RUSTUP_TOOLCHAIN", TOOLCHAIN)
                .env("CARGO_TARGET_DIR", folder.join("target"))
                // What ships is made small; this is made fast, and with line numbers.
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_STRIP", "none")
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")
                .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
                .env_remove("CARGO")
                .args(["fuzz", what, "--fuzz-dir", "fuzz", "--features", "libfuzzer", target]);
            command
        };
        // Building is no searching: it is not counted.
        let built = step::run(&format!("{target}: building"), &mut cargo_fuzz("build"));
        if !built.good {
            return Err(format!("{target} cannot be built"));
        }
        let mut command = cargo_fuzz("run");
        command
            .args([&mine, &root().join("fuzz/corpus").join(target)])
            .arg("--")
            .arg(format!("-fork={jobs}"))
            .arg(format!("-max_total_time={}", minutes.saturating_mul(60).div_ceil(jobs)))
            .arg(format!("-artifact_prefix={}/", finds.display()))
            .args(["-max_len=65536", "-len_control=200", "-timeout=60", "-rss_limit_mb=2048"])
            // By itself it goes on after these, and calls it success.
            .args(["-ignore_timeouts=0", "-ignore_ooms=0"]);
        let dictionary = root().join("fuzz/dictionaries").join(target);
        if dictionary.is_file() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        let before = processor_minutes();
        let done = step::run(&format!("{target}, for {minutes} minutes of processor time"), &mut command);
        good &= done.good;
        table.push_str(&row(target, processor_minutes() - before, &done.output, done.good));
        if !done.good {
            println!(
                "   what was found lies in {}: mend it, and put it into fuzz/corpus/{target}",
                finds.display()
            );
        }
    }
    println!(
        "\n| target | processor minutes | inputs tried | edges covered | inputs kept | found |\n\
         |---|---:|---:|---:|---:|---|\n{table}"
    );
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each is a file in `fuzz_targets`.
fn targets() -> Result<Vec<String>, String> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned())
    };
    let mut targets: Vec<String> = entries.filter_map(name).collect();
    targets.sort();
    Ok(targets)
}

/// The home of a rustup with the nightly toolchain in it, so that the user's own is not changed.
fn toolchain() -> Result<PathBuf, String> {
    let home = cache::folder()?.join("rustup");
    let there = Command::new("rustc")
        .arg("--version")
        .env("RUSTUP_HOME", &home)
        .env("RUSTUP_TOOLCHAIN", TOOLCHAIN)
        .env("RUSTUP_AUTO_INSTALL", "0")
        .current_dir(Path::new("/"))
        .output()
        // The rustc of a distribution does not look at any of this.
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
    if step::run(&format!("installing Rust {TOOLCHAIN} into the cache"), &mut install).good {
        Ok(home)
    } else {
        Err(format!("libFuzzer needs the toolchain {TOOLCHAIN}, which rustup (https://rustup.rs) installs"))
    }
}

/// What all processes that were started from here and have ended used (`cutime` and `cstime` of proc_pid_stat(5), in
/// hundredths of a second).
fn processor_minutes() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split_ascii_whitespace();
    let ticks: f64 = fields.skip(13).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 6_000.0
}

/// The last of libFuzzer's lines, such as
/// `#524288: cov: 812 ft: 2215 corp: 301 exec/s: 5120 oom/timeout/crash: 0/0/0 time: 60s job: 9 dft_time: 0`.
fn row(target: &str, minutes: f64, output: &str, good: bool) -> String {
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
        if good { "nothing" } else { "something" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_what_counts() {
        let output = "#2: cov: 1 ft: 1 corp: 1 exec/s: 0\n#524288: cov: 812 ft: 2215 corp: 301 exec/s: 5120 oom/timeout/crash: 0/0/0 time: 60s\nINFO: done\n";
        assert_eq!(row("keys", 1.0, output, true), "| keys | 1.0 | 524288 | 812 | 301 | nothing |\n");
        assert_eq!(row("keys", 0.0, "", false), "| keys | 0.0 | ? | ? | ? | something |\n");
    }
}
