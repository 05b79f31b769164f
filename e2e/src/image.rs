//! The image, as `cargo xtask image` makes it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::prebuilt;

/// An archive of an OCI layout, open.
pub struct Image {
    /// The archive.
    pub archive: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
}

/// One machine's part of it.
pub struct Part {
    /// The digest of its manifest.
    pub digest: String,
    /// Its configuration.
    pub config: Value,
    /// The size of its layers as they travel, in bytes.
    pub compressed: u64,
    /// Each file: its path, its permissions, its content.
    pub files: Vec<(String, u32, Vec<u8>)>,
}

impl Image {
    /// Makes it from these sources, by their own command, building in this folder if one is given.
    ///
    /// # Panics
    /// When it cannot be made: with what the command said.
    #[must_use]
    pub fn of(sources: &Path, target: Option<&Path>, flags: &[&str]) -> Self {
        let mut command = prebuilt::cargo();
        command.current_dir(sources).args(["xtask", "image"]).args(flags);
        if let Some(target) = target {
            command.env("CARGO_TARGET_DIR", target);
        }
        let output = command.output().expect("cargo runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{error}");
        Self::open(Path::new(said.lines().last().unwrap_or_default()))
    }

    /// Opens one that was made before.
    ///
    /// # Panics
    /// When it is no archive.
    #[must_use]
    pub fn open(archive: &Path) -> Self {
        let mut files = vec![];
        read_tar(&std::fs::read(archive).expect("the archive it names"), |path, _, content| {
            files.push((path, content));
        });
        Self { archive: archive.to_owned(), files }
    }

    /// Makes it from this workspace.
    #[must_use]
    pub fn of_this_workspace(flags: &[&str]) -> Self {
        Self::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), None, flags)
    }

    /// The part for a machine, `linux/amd64` say.
    ///
    /// # Panics
    /// When there is none, or a blob is not what its digest says.
    #[must_use]
    pub fn part(&self, platform: &str) -> Part {
        let index = self.json("index.json");
        let index = self.blob(&index["manifests"][0]["digest"]);
        let index: Value = serde_json::from_slice(&index).expect("JSON");
        let manifests = index["manifests"].as_array().expect("a list of manifests");
        let fits = |manifest: &&Value| {
            let of = |name: &str| manifest["platform"][name].as_str().unwrap_or_default();
            format!("{}/{}", of("os"), of("architecture")) == platform
        };
        let digest = &manifests.iter().find(fits).expect("this platform is in it")["digest"];
        let manifest: Value = serde_json::from_slice(&self.blob(digest)).expect("JSON");
        let mut part = Part {
            digest: digest.as_str().unwrap_or_default().to_owned(),
            config: serde_json::from_slice(&self.blob(&manifest["config"]["digest"])).expect("JSON"),
            compressed: 0,
            files: vec![],
        };
        for layer in manifest["layers"].as_array().expect("a list of layers") {
            let blob = self.blob(&layer["digest"]);
            part.compressed += blob.len() as u64;
            let mut unpacked = vec![];
            flate2::read::GzDecoder::new(&blob[..]).read_to_end(&mut unpacked).expect("gzip");
            read_tar(&unpacked, |path, mode, content| {
                part.files.push((path.display().to_string(), mode, content));
            });
        }
        part
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(self.file(name)).expect("JSON")
    }

    fn blob(&self, name: &Value) -> Vec<u8> {
        let hex = name.as_str().and_then(|name| name.strip_prefix("sha256:")).expect("a digest");
        let blob = self.file(&format!("blobs/sha256/{hex}"));
        let found: String = digest(&SHA256, blob).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, hex, "a blob is what its digest says");
        blob.to_vec()
    }

    fn file(&self, name: &str) -> &[u8] {
        let found = self.files.iter().find(|(path, _)| path == Path::new(name));
        &found.unwrap_or_else(|| panic!("{name} is in the archive")).1
    }
}

impl Part {
    /// A file's permissions and content.
    ///
    /// # Panics
    /// When it is not in the image.
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
        let mut entry = entry.expect("a whole entry");
        if entry.header().entry_type().is_file() {
            let path = entry.path().expect("a path").into_owned();
            let mode = entry.header().mode().expect("permissions");
            let mut content = vec![];
            entry.read_to_end(&mut content).expect("a whole file");
            each(path, mode, content);
        }
    }
}
