//! The image: its files and configuration, and that two builds of the same sources are identical.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::fake_dex::FakeDex;
use dexsidecar_e2e::image::Image;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_fetch::NO_CROSS_COMPILER;
use dexsidecar_fetch::counterparts::QEMU;
use serde_json::{Value, json};

use crate::{Test, tests};

pub(crate) const TESTS: &[Test] =
    tests![the_image_has_the_documented_content_and_is_reproducible, the_arm64_binary_does_an_exchange];

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e is in the workspace")
}

/// This is one test, since each build of the image takes minutes.
fn the_image_has_the_documented_content_and_is_reproducible() {
    let image = Image::build_workspace(&["--amd64"]);
    let amd64 = image.for_platform("linux/amd64");

    let mut names: Vec<&str> = amd64.files.iter().map(|(path, _, _)| path.as_str()).collect();
    names.sort_unstable();
    let licences = ["LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY"]
        .map(|name| format!("usr/share/licenses/dexsidecar/{name}"));
    assert_eq!(names[..2], ["bin/dexsidecar", "etc/ssl/certs/ca-certificates.crt"]);
    assert_eq!(names[2..], licences);
    assert_eq!(amd64.file("bin/dexsidecar").0, 0o755);
    let (mode, cas) = amd64.file("etc/ssl/certs/ca-certificates.crt");
    let cas = String::from_utf8_lossy(cas);
    assert_eq!(mode, 0o644);
    assert!(cas.matches("-----BEGIN CERTIFICATE-----").count() > 100, "the image has the public CAs");
    let third_party = String::from_utf8_lossy(amd64.file(&licences[2]).1).into_owned();
    for linked in ["rustls v", "ring v", "hyper v", "tokio v", "musl", "Permission is hereby granted"] {
        assert!(third_party.contains(linked), "the licences name {linked}");
    }
    let unpacked: usize = amd64.files.iter().map(|(_, _, content)| content.len()).sum();
    // The binary may have 2.4 MB; the rest are the CAs and the licences.
    assert!(unpacked <= 2_900_000, "{unpacked} bytes unpacked");
    assert!(amd64.compressed <= 1_450_000, "{} bytes compressed", amd64.compressed);

    let config = &amd64.config["config"];
    assert_eq!(amd64.config["architecture"], "amd64");
    assert_eq!(config["Entrypoint"], json!(["/bin/dexsidecar"]));
    assert_eq!(config["Env"], json!(["PATH=/bin"]));
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(*config, config_in_the_dockerfile(), "the Dockerfile has the same configuration");

    // The same sources in another directory, with another target directory.
    let other = tempfile::tempdir().expect("a temporary directory");
    let sources = other.path().join("elsewhere");
    copy_the_sources(&sources);
    let again = Image::build(&sources, Some(&other.path().join("target")), &["--amd64"]);
    assert_eq!(again.for_platform("linux/amd64").digest, amd64.digest);
    assert_eq!(
        fs::read(&again.archive).expect("an archive"),
        fs::read(&image.archive).expect("an archive"),
        "to the last byte"
    );
}

fn the_arm64_binary_does_an_exchange() {
    const NAME: &str = "the_arm64_binary_does_an_exchange";
    let emulator = match QEMU.unpacked() {
        Ok(root) => root.join("usr/bin/qemu-aarch64-static"),
        Err(why) => return prebuilt::skip(NAME, &why),
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let rootfs = prebuilt::cargo().args(["xtask", "rootfs", "--aarch64"]).arg(directory.path()).output();
    let rootfs = rootfs.expect("cargo runs");
    let error = String::from_utf8_lossy(&rootfs.stderr);
    if rootfs.status.code() == Some(NO_CROSS_COMPILER.into()) {
        return prebuilt::skip(NAME, &error);
    }
    assert!(rootfs.status.success(), "{}{error}", String::from_utf8_lossy(&rootfs.stdout));
    let binary = directory.path().join("bin/dexsidecar");
    assert_eq!(fs::metadata(&binary).expect("the binary").permissions().mode() & 0o777, 0o755);

    let authority = Authority::new();
    let endpoint = FakeDex::start_at("127.0.0.1:0", Some(authority.server(&[]).server_config()));
    let volume = ProjectedVolume::with("eyJh.eyJi.canary");
    let setup = Setup::new()
        .subject(&volume)
        .at_fake(&endpoint)
        .set("DEXSIDECAR_CA_FILE", authority.file().to_str().expect("UTF-8"))
        .program(&[&emulator, &binary]);
    let done = setup.execute(&["once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(setup.execute(&["ready"]).code, Some(0));
    let mut sidecar = setup.run();
    sidecar.process.until_logged("token_written", 1);
    assert_eq!(sidecar.terminate(), Some(0));
}

/// The image configuration in the last stage of the Dockerfile.
fn config_in_the_dockerfile() -> Value {
    let text =
        fs::read_to_string(workspace().join("Dockerfile")).expect("the Dockerfile").replace("\\\n", "");
    let (_, last) = text.rsplit_once("\nFROM ").expect("two stages");
    assert!(last.starts_with("scratch\n"), "the last stage starts from scratch");
    let instruction = |name: &str| {
        let line = last.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().to_owned()
    };
    let labels = instruction("LABEL");
    let labels = labels.split("org.").skip(1).filter_map(|label| label.split_once('='));
    let labels = labels.map(|(name, value)| (format!("org.{name}"), value.trim().trim_matches('"').into()));
    json!({
        "Entrypoint": serde_json::from_str::<Value>(&instruction("ENTRYPOINT")).expect("the exec form"),
        "Env": [instruction("ENV")],
        "User": instruction("USER"),
        "Labels": labels.collect::<serde_json::Map<_, _>>()
    })
}

fn copy_the_sources(to: &Path) {
    let listed = Command::new("git")
        .current_dir(workspace())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .expect("git lists the sources");
    assert!(listed.status.success());
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        let (from, to) = (workspace().join(name), to.join(name));
        if from.exists() {
            fs::create_dir_all(to.parent().expect("a directory")).expect("a temporary directory");
            fs::copy(from, to).expect("a source is copied");
        }
    }
}
