//! A release is published by a copy of xtask: without the sources, and without a compiler. The
//! registry is on loopback. `cosign` and `gh`, which need an identity at GitHub, only record how
//! they are called.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use dexsidecar_fetch::workspace;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::text;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A machine that publishes: it has a copy of xtask and crane.
pub(crate) struct Publisher {
    directory: TempDir,
    registry: Registry,
}

impl Publisher {
    /// Makes the copy with the xtask of these sources.
    pub(crate) fn new(sources: &Path, target: Option<&Path>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let own = |name: &str| directory.path().join(name);
        let mut cargo = workspace::cargo();
        cargo.current_dir(sources).args(["xtask", "publisher"]).arg(own("tools"));
        if let Some(target) = target {
            cargo.env("CARGO_TARGET_DIR", target);
        }
        let copied = cargo.output().expect("cargo runs");
        assert!(copied.status.success(), "{}", text(&copied));
        for name in ["bin", "empty"] {
            fs::create_dir(own(name)).expect("a temporary directory");
        }
        // A compiler is recorded too, and fails.
        for (name, code) in [("cosign", 0), ("gh", 0), ("cargo", 1), ("rustc", 1), ("go", 1)] {
            let script = format!(
                "#!/bin/sh\nfor word in {name} \"$@\"; do printf '%s\\t' \"$word\"; done >>\"$CALLS\"\n\
                 echo >>\"$CALLS\"\nexit {code}\n"
            );
            let program = own("bin").join(name);
            fs::write(&program, script).expect("a temporary directory");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a file of this test");
        }
        let registry = Registry::start(&own("tools/crane"));
        Self { directory, registry }
    }

    fn own(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The name of the image, as the workflow gives it.
    fn name(&self) -> String {
        format!("{}/Octo-Org/dexsidecar", self.registry.address)
    }

    /// Runs a command of the copy in an empty directory.
    fn run(&self, tag: &str, arguments: &[&str]) -> Output {
        let path = format!("{}:{}", self.own("bin").display(), std::env::var("PATH").unwrap_or_default());
        Command::new(self.own("tools/xtask"))
            .current_dir(self.own("empty"))
            .args(arguments)
            .env("GITHUB_OUTPUT", self.own("outputs"))
            .env("GITHUB_REF_NAME", tag)
            .env("CALLS", self.own("calls"))
            .env("PATH", path)
            .env_remove("CARGO")
            .env_remove("REGISTRY_USER")
            // A cache without crane.
            .env("HOME", self.own("empty"))
            .env("XDG_CACHE_HOME", self.own("empty"))
            .output()
            .expect("the copy starts")
    }

    fn crane(&self, arguments: &[&str]) -> String {
        let printed = Command::new(self.own("tools/crane")).args(arguments).output().expect("crane");
        assert!(printed.status.success(), "{}", text(&printed));
        text(&printed).trim().to_owned()
    }

    fn assert_refused(&self, tag: &str, release: &Path, words: &str) {
        let refused = self.run(tag, &["publish-image", &release.display().to_string(), &self.name()]);
        assert!(!refused.status.success() && text(&refused).contains(words), "{}", text(&refused));
        assert!(!self.own("calls").exists(), "nothing is signed before the checks");
    }

    /// Publishes a release. Fails unless the image with this digest, each chart and each file is
    /// published and signed, and nothing is compiled.
    pub(crate) fn publish(&self, release: &Path, digest_of_image: &str) {
        let tag = format!("v{VERSION}");
        let directory = release.display().to_string();
        let published = self.run(&tag, &["publish-image", &directory, &self.name()]);
        assert!(published.status.success(), "{}", text(&published));
        let name = self.name().to_lowercase();
        let digest = self.crane(&["digest", &format!("{name}:{VERSION}")]);
        assert_eq!(digest, digest_of_image);
        let outputs = fs::read_to_string(self.own("outputs")).expect("outputs");
        assert_eq!(outputs, format!("name={name}\nversion={VERSION}\ndigest={digest}\n"));

        let published = self.run(&tag, &["publish-files", &directory]);
        assert!(published.status.success(), "{}", text(&published));
        let calls = fs::read_to_string(self.own("calls")).expect("calls");
        let calls: Vec<&str> = calls.split("\t\n").filter(|call| !call.is_empty()).collect();
        assert_eq!(calls.len(), 5, "{calls:?}");
        assert_eq!(calls[0], format!("cosign\tsign\t--yes\t{name}@{digest}"));
        let checksums = fs::read_to_string(release.join("SHA256SUMS")).expect("checksums");
        for (call, chart) in calls[1..3].iter().zip(["dexsidecar", "dexsidecar-lib"]) {
            let chart_name = format!("{name}/charts/{chart}");
            let manifest = self.crane(&["manifest", &format!("{chart_name}:{VERSION}")]);
            let line = checksums.lines().find(|line| line.ends_with(&format!("  {chart}-{VERSION}.tgz")));
            assert!(manifest.contains(&line.expect("the package")[..64]), "{chart}: {manifest}");
            assert!(call.starts_with(&format!("cosign\tsign\t--yes\t{chart_name}@sha256:")), "{call}");
        }
        let bundle = format!("{directory}/SHA256SUMS.sigstore.json\t{directory}/SHA256SUMS");
        assert_eq!(calls[3], format!("cosign\tsign-blob\t--yes\t--bundle\t{bundle}"));
        let create = format!("gh\trelease\tcreate\tv{VERSION}\t--verify-tag\t");
        assert!(calls[4].starts_with(&create), "{}", calls[4]);
        for line in checksums.lines() {
            let file = format!("\t{directory}/{}", &line[66..]);
            assert!(format!("{}\t", calls[4]).contains(&format!("{file}\t")), "{file}: {}", calls[4]);
        }
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

/// Packs a directory with a program of the machine.
fn tar(directory: &Path, options: &str, archive: &Path, names: &[&str]) {
    let mut tar = Command::new("tar");
    tar.current_dir(directory).arg(options).arg(archive).args(names);
    let packed = tar.output().expect("tar is there");
    assert!(packed.status.success(), "{}", text(&packed));
}

/// A blob in an OCI layout, as its descriptor.
fn blob(layout: &Path, media_type: &str, content: &Value) -> Value {
    let content = content.to_string();
    let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(layout.join("blobs/sha256").join(&digest), &content).expect("a temporary directory");
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len()})
}

/// A release whose image is empty and whose tarball has the changelog only. Gives the digest that
/// the image will have in the registry.
fn small_release(work: &Path, release: &Path, date: &str) -> String {
    let layout = work.join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).expect("a temporary directory");
    let rootfs = json!({"type": "layers", "diff_ids": []});
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs});
    let config = blob(&layout, "application/vnd.oci.image.config.v1+json", &config);
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": []});
    let manifest = blob(&layout, media_type, &manifest);
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).expect("a temporary directory");
    fs::write(layout.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())
        .expect("a temporary directory");

    let mut charts = workspace::cargo();
    let written = charts.args(["xtask", "charts"]).arg(release).output().expect("cargo runs");
    assert!(written.status.success(), "{}", text(&written));
    tar(&layout, "-cf", &release.join(format!("dexsidecar-{VERSION}.oci.tar")), &["."]);
    let name = format!("dexsidecar-{VERSION}-x86_64-unknown-linux-musl");
    fs::create_dir_all(work.join(&name)).expect("a temporary directory");
    let changelog = format!("# Changelog\n\n## {VERSION} - {date}\n\nThe first one.\n");
    fs::write(work.join(&name).join("CHANGELOG.md"), changelog).expect("a temporary directory");
    tar(work, "-czf", &release.join(format!("{name}.tar.gz")), &[&name]);
    let sum = Command::new("sh")
        .current_dir(release)
        .args(["-c", "LC_ALL=C; export LC_ALL; sha256sum -- * >../sums && mv ../sums SHA256SUMS"])
        .output()
        .expect("sha256sum is there");
    assert!(sum.status.success(), "{}", text(&sum));
    manifest["digest"].as_str().expect("a digest").to_owned()
}

#[test]
#[ignore = "crane is built in the long form"]
fn a_copy_of_xtask_publishes_a_release_without_the_sources_and_a_compiler() {
    let publisher = Publisher::new(workspace::directory(), None);
    let tag = format!("v{VERSION}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let release = |name: &str, date: &str| {
        let work = directory.path().join(name);
        let digest = small_release(&work, &work.join("release"), date);
        (work.join("release"), digest)
    };
    let (unreleased, _) = release("unreleased", "Unreleased");
    publisher.assert_refused(&tag, &unreleased, "write the date in its place");
    let (dated, digest) = release("dated", "2026-12-01");
    publisher.assert_refused("v9.8.7", &dated, "they must agree");
    let chart = dated.join(format!("dexsidecar-{VERSION}.tgz"));
    let original = fs::read(&chart).expect("a chart");
    fs::write(&chart, "another").expect("a file of this test");
    publisher.assert_refused(&tag, &dated, "are not those of its SHA256SUMS");
    fs::write(&chart, original).expect("a file of this test");
    publisher.publish(&dated, &digest);
}
