//! What a release consists of, built as a stranger would build it. Each test builds the program
//! several times, so all of them belong to the long form.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use dexsidecar_fetch::counterparts::CRANE;
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
    publish(&temporary.path().join("one"));
}

/// Publishes a release to a registry on loopback. `cosign` and `gh`, which need an identity at
/// GitHub, only record how they are called.
fn publish(directory: &Path) {
    let version = env!("CARGO_PKG_VERSION");
    let run = |arguments: &[&str]| {
        let path =
            format!("{}:{}", directory.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let published = workspace::cargo()
            .current_dir(directory.join("sources"))
            .arg("xtask")
            .args(arguments)
            .envs([("CARGO_HOME", directory.join("home")), ("CARGO_TARGET_DIR", directory.join("target"))])
            .env("GITHUB_OUTPUT", directory.join("outputs"))
            .env("CALLS", directory.join("calls"))
            .env("PATH", path)
            .env_remove("GITHUB_REF_NAME")
            .output();
        published.expect("cargo runs")
    };
    fs::create_dir(directory.join("bin")).expect("a temporary directory");
    for name in ["cosign", "gh"] {
        let program = directory.join("bin").join(name);
        let script = "#!/bin/sh\nfor word; do printf '%s\\n' \"$word\"; done | tr '\\n' '\\t' >>\"$CALLS\"; echo >>\"$CALLS\"\n";
        fs::write(&program, script).expect("a temporary directory");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a file of this test");
    }
    let crane = CRANE.built().expect("crane");
    let registry = Registry::start(&crane);
    let name = format!("{}/Octo-Org/dexsidecar", registry.address);

    let changelog = directory.join("sources/CHANGELOG.md");
    let text_of_it = fs::read_to_string(&changelog).expect("a changelog");
    fs::write(
        &changelog,
        text_of_it.replace(&format!("{version} - 2026-12-01"), &format!("{version} - Unreleased")),
    )
    .expect("a file of this test");
    let refused = run(&["publish-image", "../out", &name]);
    assert!(text(&refused).contains("write the date in its place"), "{}", text(&refused));
    fs::write(
        &changelog,
        text_of_it.replace(&format!("{version} - Unreleased"), &format!("{version} - 2026-12-01")),
    )
    .expect("a file of this test");

    let schema = directory.join("out/check.schema.json");
    let original = fs::read(&schema).expect("a schema");
    fs::write(&schema, "{}").expect("a file of this test");
    let refused = run(&["publish-image", "../out", &name]);
    assert!(text(&refused).contains("are not those of its SHA256SUMS"), "{}", text(&refused));
    fs::write(&schema, original).expect("a file of this test");
    assert!(!directory.join("calls").exists(), "nothing is signed before the checks");

    let published = run(&["publish-image", "../out", &name]);
    assert!(published.status.success(), "{}", text(&published));
    let name = name.to_lowercase();
    let digest = Command::new(&crane).args(["digest", &format!("{name}:{version}")]).output().expect("crane");
    let digest = String::from_utf8_lossy(&digest.stdout).trim().to_owned();
    let index = fs::read_to_string(directory.join("target/image/layout/index.json")).expect("an index");
    assert!(digest.starts_with("sha256:") && index.contains(&digest), "{digest}: {index}");
    let outputs = fs::read_to_string(directory.join("outputs")).expect("outputs");
    assert_eq!(outputs, format!("name={name}\nversion={version}\ndigest={digest}\n"));

    let published = run(&["publish-files", "../out"]);
    assert!(published.status.success(), "{}", text(&published));
    let calls = fs::read_to_string(directory.join("calls")).expect("calls");
    let calls: Vec<&str> = calls.split("\t\n").collect();
    assert_eq!(calls[0], format!("sign\t--yes\t{name}@{digest}"));
    for (call, chart) in calls[1..3].iter().zip(["dexsidecar", "dexsidecar-lib"]) {
        let chart_name = format!("{name}/charts/{chart}");
        let manifest = Command::new(&crane).args(["manifest", &format!("{chart_name}:{version}")]).output();
        let manifest = text(&manifest.expect("crane"));
        let package = fs::read_to_string(directory.join("out/SHA256SUMS")).expect("checksums");
        let line = package.lines().find(|line| line.ends_with(&format!("  {chart}-{version}.tgz")));
        assert!(manifest.contains(&line.expect("the package")[..64]), "{chart}: {manifest}");
        assert!(call.starts_with(&format!("sign\t--yes\t{chart_name}@sha256:")), "{call}");
    }
    assert_eq!(calls[3], "sign-blob\t--yes\t--bundle\t../out/SHA256SUMS.sigstore.json\t../out/SHA256SUMS");
    assert!(calls[4].starts_with(&format!("release\tcreate\tv{version}\t--verify-tag\t")), "{}", calls[4]);
    for file in [".oci.tar", ".tgz"] {
        assert!(calls[4].contains(&format!("\t../out/dexsidecar-{version}{file}")), "{}", calls[4]);
    }
}

/// crane's registry, on loopback, which is ended when dropped.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(crane: &Path) -> Self {
        let mut process = Command::new(crane)
            .args(["registry", "serve", "--address", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("crane starts");
        let mut lines = BufReader::new(process.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.split("serving on port ").nth(1).map(str::to_owned));
        // It goes on logging, and stops if its pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: format!("127.0.0.1:{}", port.expect("a port").trim()) }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
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
