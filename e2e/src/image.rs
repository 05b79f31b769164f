//! The image that `cargo xtask image` builds.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::prebuilt;

/// An archive with an OCI image layout.
pub struct Image {
    /// The path of the archive.
    pub archive: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
}

/// The image of one platform.
pub struct PlatformImage {
    /// The digest of its manifest.
    pub digest: String,
    /// Its configuration.
    pub config: Value,
    /// The size of its compressed layers, in bytes.
    pub compressed: u64,
    /// The path, mode and content of each file.
    pub files: Vec<(String, u32, Vec<u8>)>,
}

impl Image {
    /// Builds it with `cargo xtask image` of these sources, in this target directory if one is
    /// given.
    ///
    /// # Panics
    /// If the command fails: with its output.
    #[must_use]
    pub fn build(sources: &Path, target: Option<&Path>, flags: &[&str]) -> Self {
        let mut command = prebuilt::cargo();
        command.current_dir(sources).args(["xtask", "image"]).args(flags);
        if let Some(target) = target {
            command.env("CARGO_TARGET_DIR", target);
        }
        let output = command.output().expect("cargo runs");
        let printed = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{printed}{error}");
        Self::open(Path::new(printed.lines().last().unwrap_or_default()))
    }

    /// Opens an archive.
    ///
    /// # Panics
    /// If it is not a tar archive.
    #[must_use]
    pub fn open(archive: &Path) -> Self {
        let mut files = vec![];
        read_tar(&std::fs::read(archive).expect("the archive is readable"), |path, _, content| {
            files.push((path, content));
        });
        Self { archive: archive.to_owned(), files }
    }

    /// Builds it from this workspace.
    #[must_use]
    pub fn build_workspace(flags: &[&str]) -> Self {
        Self::build(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), None, flags)
    }

    /// The image for a platform, such as `linux/amd64`.
    ///
    /// # Panics
    /// If there is none, or if a blob does not match its digest.
    #[must_use]
    pub fn for_platform(&self, platform: &str) -> PlatformImage {
        let index = self.json("index.json");
        let index = self.blob(&index["manifests"][0]["digest"]);
        let index: Value = serde_json::from_slice(&index).expect("JSON");
        let manifests = index["manifests"].as_array().expect("a list of manifests");
        let fits = |manifest: &&Value| {
            let of = |name: &str| manifest["platform"][name].as_str().unwrap_or_default();
            format!("{}/{}", of("os"), of("architecture")) == platform
        };
        let digest = &manifests.iter().find(fits).expect("the index has this platform")["digest"];
        let manifest: Value = serde_json::from_slice(&self.blob(digest)).expect("JSON");
        let mut image = PlatformImage {
            digest: digest.as_str().unwrap_or_default().to_owned(),
            config: serde_json::from_slice(&self.blob(&manifest["config"]["digest"])).expect("JSON"),
            compressed: 0,
            files: vec![],
        };
        for layer in manifest["layers"].as_array().expect("a list of layers") {
            let blob = self.blob(&layer["digest"]);
            image.compressed += blob.len() as u64;
            let mut unpacked = vec![];
            flate2::read::GzDecoder::new(&blob[..]).read_to_end(&mut unpacked).expect("gzip");
            read_tar(&unpacked, |path, mode, content| {
                image.files.push((path.display().to_string(), mode, content));
            });
        }
        image
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(self.file(name)).expect("JSON")
    }

    fn blob(&self, name: &Value) -> Vec<u8> {
        let hex = name.as_str().and_then(|name| name.strip_prefix("sha256:")).expect("a digest");
        let blob = self.file(&format!("blobs/sha256/{hex}"));
        let found: String = digest(&SHA256, blob).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, hex, "the blob matches its digest");
        blob.to_vec()
    }

    fn file(&self, name: &str) -> &[u8] {
        let found = self.files.iter().find(|(path, _)| path == Path::new(name));
        &found.unwrap_or_else(|| panic!("{name} is in the archive")).1
    }
}

impl PlatformImage {
    /// The mode and the content of a file.
    ///
    /// # Panics
    /// If it is not in the image.
    #[must_use]
    pub fn file(&self, name: &str) -> (u32, &[u8]) {
        let found = self.files.iter().find(|(path, _, _)| path == name);
        let (_, mode, content) = found.unwrap_or_else(|| panic!("{name} is in the image"));
        (*mode, content)
    }
}

fn read_tar(bytes: &[u8], mut each: impl FnMut(PathBuf, u32, Vec<u8>)) {
    let mut archive = tar::Archive::new(bytes);
    for entry in archive.entries().expect("a tar archive") {
        let mut entry = entry.expect("a complete entry");
        if entry.header().entry_type().is_file() {
            let path = entry.path().expect("a path").into_owned();
            let mode = entry.header().mode().expect("a mode");
            let mut content = vec![];
            entry.read_to_end(&mut content).expect("a complete file");
            each(path, mode, content);
        }
    }
}
