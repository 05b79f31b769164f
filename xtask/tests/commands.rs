//! The commands as a black box, on a machine of fake programs: what is missing, and which exit code
//! that gives.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use dexsidecar_fetch::NO_CROSS_COMPILER;
use tempfile::TempDir;

/// A machine whose only programs are a cargo and a rustc that has every target.
struct Machine(TempDir);

impl Machine {
    fn with_cargo(script: &str) -> Self {
        let machine = Self(tempfile::tempdir().expect("a temporary directory"));
        let directory = machine.0.path();
        fs::create_dir_all(directory.join("libraries/std")).expect("a temporary directory");
        machine.put("cargo", script);
        machine.put("rustc", &format!("echo {}", directory.join("libraries").display()));
        machine
    }

    /// Puts a program on `PATH`.
    fn put(&self, name: &str, script: &str) {
        let path = self.0.path().join("bin").join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a temporary directory");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a temporary directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a file of this test");
    }

    /// Pretends that a counterpart is in the cache.
    fn cache(&self, name: &str) {
        fs::create_dir_all(self.0.path().join("dexsidecar").join(name)).expect("a temporary directory");
    }

    /// Puts an apt-get on `PATH` that runs `download` for the packages, and a dpkg that runs
    /// `unpack`. The package lists are fresh. In another locale than C both print no English.
    fn debian(&self, download: &str, unpack: &str) {
        let locale = r#"[ "$LC_ALL" = C ] || { echo 'E: Fehler' >&2; exit 100; }"#;
        self.put("apt-get", &format!("case \"$*\" in *' download '*) {locale}; {download};; esac"));
        self.put("dpkg", &format!("case \"$1\" in -x) {locale}; {unpack};; esac"));
        self.cache("debian-lists");
        let stamp = self.0.path().join("dexsidecar/debian-lists/dexsidecar-updated");
        fs::write(stamp, "").expect("a temporary directory");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(arguments)
            .env("PATH", self.0.path().join("bin"))
            .env("CARGO", self.0.path().join("bin/cargo"))
            .env("XDG_CACHE_HOME", self.0.path())
            .env("LC_ALL", "de_DE.UTF-8")
            .output()
            .expect("xtask starts")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_missing_cross_compiler_has_an_exit_code_of_its_own() {
    let output = Machine::with_cargo("exit 0").run(&["build", "--aarch64"]);
    assert_eq!(output.status.code(), Some(NO_CROSS_COMPILER.into()), "{output:?}");
    let error = text(&output.stderr);
    assert!(error.contains("the cross compiler for aarch64 is missing: apt-get is missing"), "{error}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_image_without_a_cross_compiler_fails_before_a_build_and_names_the_form_that_needs_none() {
    let machine = Machine::with_cargo("echo built");
    machine.put("gcc", "exit 0");
    let output = machine.run(&["image"]);
    assert_eq!(output.status.code(), Some(NO_CROSS_COMPILER.into()), "{output:?}");
    let error = text(&output.stderr);
    assert!(
        error.starts_with("xtask: the cross compiler for aarch64 is missing: apt-get is missing"),
        "{error}"
    );
    assert!(error.trim_end().ends_with("; `cargo xtask image --amd64` needs none"), "{error}");
    assert_eq!(text(&output.stdout), "");
    // That form does not look for one: what it misses next is Go.
    let output = machine.run(&["image", "--amd64"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("Go is missing"), "{output:?}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn only_an_unavailable_cross_compiler_is_a_missing_one() {
    let missing = "echo 'E: Unable to locate package gcc-12-aarch64-linux-gnu' >&2; exit 100";
    let full = "echo 'E: Write error - write (28: No space left on device)' >&2; exit 100";
    let corrupt = "echo 'dpkg-deb: error: corrupt' >&2; exit 2";
    for (download, unpack, code, error) in [
        (missing, "exit 0", NO_CROSS_COMPILER, "Unable to locate package gcc-12-aarch64-linux-gnu"),
        (full, "exit 0", 1, "No space left on device"),
        (": > gcc.deb", corrupt, 1, "gcc.deb cannot be unpacked: dpkg-deb: error: corrupt"),
    ] {
        let machine = Machine::with_cargo("exit 0");
        machine.debian(download, unpack);
        let output = machine.run(&["build", "--aarch64"]);
        assert_eq!(output.status.code(), Some(code.into()), "{output:?}");
        assert!(text(&output.stderr).contains(error), "{output:?}");
    }
    // Without a network apt-get exits with 0, and there are no lists.
    let machine = Machine::with_cargo("exit 0");
    machine.put("apt-get", "exit 0");
    machine.put("dpkg", "exit 0");
    let output = machine.run(&["build", "--aarch64"]);
    assert_eq!(output.status.code(), Some(NO_CROSS_COMPILER.into()), "{output:?}");
    assert!(text(&output.stderr).contains("check the network"), "{output:?}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_compile_error_for_aarch64_is_a_failure_and_not_a_missing_compiler() {
    let machine = Machine::with_cargo(
        "[ \"$1\" = fetch ] && exit 0; echo 'error[E0308]: mismatched types' >&2; exit 101",
    );
    machine.cache("gcc-aarch64");
    for arguments in [&["build", "--aarch64"][..], &["rootfs", "--aarch64", "/nowhere"]] {
        let output = machine.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stdout).contains("error[E0308]: mismatched types"), "{output:?}");
        assert!(
            text(&output.stderr).contains("cannot be built for aarch64-unknown-linux-musl"),
            "{output:?}"
        );
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_target_that_cannot_be_installed_is_a_failure_and_not_a_missing_compiler() {
    let machine = Machine::with_cargo("exit 0");
    machine.put("rustc", "echo /nowhere");
    let output = machine.run(&["build", "--aarch64"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("run rustup target add aarch64-unknown-linux-musl"), "{output:?}");
}

#[test]
fn what_is_missing_is_reported_in_one_line_each_before_anything_starts() {
    let machine = Machine::with_cargo("echo 'error: failed to download from crates.io' >&2; exit 101");
    machine.put("rustc", "echo /nowhere");
    let output = machine.run(&["prefetch", "real-dex"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let (output, error) = (text(&output.stdout), text(&output.stderr));
    let missing: Vec<&str> =
        output.lines().filter_map(|line| line.trim().strip_prefix("MISSING  ")).collect();
    let wanted = [
        ("a C compiler is missing", "install gcc or clang"),
        ("unshare is missing", "install util-linux"),
        ("x86_64-unknown-linux-musl is missing, and so is rustup", "get rustup from https://rustup.rs"),
        ("Go is missing", "install it from your distribution or https://go.dev/dl/"),
        ("apt-get is missing", "use a machine or container with Debian"),
        ("crates of Cargo.lock cannot be downloaded", "check the network"),
    ];
    for (what, how) in wanted {
        assert!(missing.iter().any(|line| line.contains(what) && line.contains(how)), "{what}\n{output}");
    }
    assert_eq!(missing.len(), wanted.len(), "{output}");
    assert!(error.contains("6 things are missing, see above; nothing was started"), "{error}");
}

#[test]
fn each_missing_tool_is_named_with_its_own_package() {
    let all = [("unshare", "util-linux"), ("setpriv", "util-linux"), ("ip", "iproute2"), ("mount", "mount")];
    for present in [&[][..], &["unshare"], &["unshare", "ip"], &["unshare", "setpriv", "ip"]] {
        let machine = Machine::with_cargo("exit 0");
        present.iter().for_each(|tool| machine.put(tool, "exit 0"));
        let output = machine.run(&["prefetch", "names"]);
        let missing = all.iter().filter(|(tool, _)| !present.contains(tool));
        let missing: Vec<String> =
            missing.map(|(tool, package)| format!("{tool} is missing: install {package}")).collect();
        let line = format!("   MISSING  {}", missing.join("; "));
        assert!(text(&output.stdout).lines().any(|found| found == line), "{line}\n{output:?}");
    }
}

#[test]
fn a_suite_whose_counterparts_are_missing_fails_with_its_counts_in_the_last_line() {
    let output = Machine::with_cargo("exit 0").run(&["test", "docs"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = text(&output.stdout);
    assert_eq!(output.lines().last(), Some("0 passed, 1 failed, 0 skipped"), "{output}");
    assert!(output.contains("MISSING  Go is missing"), "{output}");
}

#[test]
fn the_demo_on_kubernetes_starts_nothing_on_a_machine_that_cannot_run_a_node() {
    let output = Machine::with_cargo("exit 0").run(&["demo", "--kubernetes"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let missing = if dexsidecar_fetch::machine::is_root() {
        "unshare is missing: install util-linux"
    } else {
        "a node of its own needs root: run it with sudo -E"
    };
    let error = text(&output.stderr);
    assert!(error.starts_with(&format!("xtask: {missing}")), "{error}");
    assert!(error.trim_end().ends_with("; nothing was started"), "{error}");
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn every_step_that_fails_is_named_in_the_closing_lines() {
    let output = Machine::with_cargo("exit 1").run(&["check"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = text(&output.stdout);
    let (_, closing) = output.split_once("-- steps\n").expect("the closing lines");
    let named = |prefix: &str| {
        let lines = closing.lines().filter_map(move |line| line.strip_prefix(prefix));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let steps =
        ["format: cargo fmt --all --check", "lints: cargo clippy", "build tests: cargo test --no-run"];
    let (rows, failures) = (named("   FAILED "), named("FAILED: "));
    assert_eq!((rows.len(), failures.len()), (3, 3), "{output}");
    for (step, (row, failure)) in steps.iter().zip(rows.iter().zip(&failures)) {
        assert!(row.contains(&format!(" s  {step}")), "{output}");
        assert!(failure.starts_with(step), "{output}");
    }
    assert_eq!(closing.lines().last(), Some("0 passed, 3 failed, 0 skipped"), "{output}");
}

#[test]
fn a_wrong_command_line_exits_with_64_and_one_line() {
    let output = Machine::with_cargo("exit 0").run(&["tset"]);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    let error = text(&output.stderr);
    assert!(error.starts_with("xtask: \"tset\" is not a command") && error.lines().count() == 1, "{error}");
    assert_eq!(text(&output.stdout), "");
}
