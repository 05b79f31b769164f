//! What a release consists of, built as a stranger would build it, and how it is published. The
//! tests build the program several times, or crane, so all of them belong to the long form.

mod publishing;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dexsidecar_fetch::workspace;

/// The sources in a directory of their own, without a history.
fn copy_the_sources(to: &Path) {
    let listed = Command::new("git")
        .current_dir(workspace::directory())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .expect("git lists the sources");
    assert!(listed.status.success(), "{}", text(&listed));
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        let (from, to) = (workspace::directory().join(name), to.join(name));
        if from.exists() {
            fs::create_dir_all(to.parent().expect("a directory")).expect("a temporary directory");
            fs::copy(from, to).expect("a source is copied");
        }
    }
}

/// A home of cargo with another path, and the crates that are downloaded already.
fn another_cargo_home(to: &Path) {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cargo"));
    fs::create_dir(to).expect("a temporary directory");
    for name in ["registry", "config.toml"] {
        if home.join(name).exists() {
            std::os::unix::fs::symlink(home.join(name), to.join(name)).expect("a temporary directory");
        }
    }
}

fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    streams.concat()
}

#[test]
#[ignore = "it builds the release twice, for two platforms"]
#[cfg(target_arch = "x86_64")]
fn two_builds_of_the_release_are_equal_to_the_last_byte_and_are_published_as_they_are() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let build = |name: &str| {
        let directory = temporary.path().join(name);
        let sources = directory.join("sources");
        copy_the_sources(&sources);
        // A release without a date is not published.
        let changelog = sources.join("CHANGELOG.md");
        let text_of_it = fs::read_to_string(&changelog).expect("a changelog");
        let version = env!("CARGO_PKG_VERSION");
        let dated =
            text_of_it.replace(&format!("{version} - Unreleased"), &format!("{version} - 2026-12-01"));
        fs::write(&changelog, dated).expect("a file of this test");
        another_cargo_home(&directory.join("home"));
        let built = workspace::cargo()
            .current_dir(&sources)
            .args(["xtask", "dist", "--out", "../out"])
            .env("CARGO_HOME", directory.join("home"))
            .env("CARGO_TARGET_DIR", directory.join("target"))
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .output()
            .expect("cargo runs");
        assert!(built.status.success(), "{}", text(&built));
        assert_eq!(String::from_utf8_lossy(&built.stdout).lines().last(), Some("../out"));
        directory.join("out")
    };
    let (one, other) = (build("one"), build("the-other-one"));
    let checksums = [&one, &other].map(|out| fs::read_to_string(out.join("SHA256SUMS")).expect("checksums"));
    assert_eq!(checksums[0], checksums[1]);
    let check =
        Command::new("sha256sum").current_dir(&one).args(["--check", "--strict", "SHA256SUMS"]).output();
    let check = check.expect("sha256sum is there");
    assert!(check.status.success(), "{}", text(&check));
    let mut names: Vec<_> = checksums[0].lines().map(|line| &line[66..]).collect();
    names.retain(|name| !name.ends_with(".schema.json"));
    let version = env!("CARGO_PKG_VERSION");
    let expected = [
        format!("dexsidecar-{version}-aarch64-unknown-linux-musl.cdx.json"),
        format!("dexsidecar-{version}-aarch64-unknown-linux-musl.tar.gz"),
        format!("dexsidecar-{version}-x86_64-unknown-linux-musl.cdx.json"),
        format!("dexsidecar-{version}-x86_64-unknown-linux-musl.tar.gz"),
        format!("dexsidecar-{version}.oci.tar"),
        format!("dexsidecar-{version}.tgz"),
        format!("dexsidecar-lib-{version}.tgz"),
    ];
    assert_eq!(names, expected);
    let directory = temporary.path().join("one");
    let index = fs::read_to_string(directory.join("target/image/layout/index.json")).expect("an index");
    let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest").to_owned();
    let target = directory.join("target");
    publishing::Publisher::new(&directory.join("sources"), Some(&target)).publish(&one, &digest);
}

#[test]
#[ignore = "it builds the program from its packages"]
fn the_published_crates_build_from_their_packages_alone() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let sources = temporary.path().join("sources");
    copy_the_sources(&sources);
    let mut package = workspace::cargo();
    package.current_dir(&sources).args(["package", "--locked"]);
    for name in ["dexsidecar-core", "dexsidecar-edge", "dexsidecar-agent", "dexsidecar"] {
        package.args(["--package", name]);
    }
    let packaged =
        package.env("CARGO_TARGET_DIR", temporary.path().join("target")).output().expect("cargo runs");
    assert!(packaged.status.success(), "{}", text(&packaged));
    for name in ["dexsidecar-core", "dexsidecar-edge", "dexsidecar-agent", "dexsidecar"] {
        let file = format!("target/package/{name}-{}.crate", env!("CARGO_PKG_VERSION"));
        assert!(temporary.path().join(&file).is_file(), "{file}\n{}", text(&packaged));
    }
}
