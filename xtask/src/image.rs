//! The image, without a daemon: the binary, the public CAs and the licences. crane
//! (go-containerregistry) puts it together in a registry of its own on loopback. The same input
//! gives the same digest.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dexsidecar_fetch::counterparts::CRANE;
use flate2::{Compression, GzBuilder};

use crate::release::{self, Error, Target};
use crate::{archive, licences, root};

const VERSION: &str = env!("CARGO_PKG_VERSION");

// The paths in the image.
const BINARY: &str = "bin/dexsidecar";
const CAS: &str = "etc/ssl/certs/ca-certificates.crt";
const LICENCES: &str = "usr/share/licenses/dexsidecar";

/// Writes the archive of an OCI layout with an index of these platforms. Prints the digest and the
/// sizes.
pub(crate) fn archive(targets: &[Target]) -> Result<PathBuf, Error> {
    let work = crate::target_directory().join("image");
    let _ = fs::remove_dir_all(&work);
    let with_path = |error: io::Error| format!("{}: {error}", work.display());
    // First, since the builds take minutes.
    for target in targets {
        release::prepare(*target).map_err(|error| match error {
            Error::NoCrossCompiler(why) => {
                Error::NoCrossCompiler(format!("{why}; `cargo xtask image --amd64` needs none"))
            }
            Error::Failed(why) => Error::Failed(why),
        })?;
    }
    let crane = CRANE.built()?;
    let registry = Registry::start(&crane)?;
    let mut names = Vec::new();
    for target in targets {
        let (rootfs, layer) =
            (work.join(target.platform().replace('/', "-")), format!("{}.tgz", target.arch()));
        fill(&rootfs, *target)?;
        let unpacked = size_of(&rootfs).map_err(with_path)?;
        let layer = work.join(layer);
        let compressed = pack(&rootfs, &layer).map_err(with_path)?;
        println!("   {}: {unpacked} bytes unpacked, {compressed} compressed", target.platform());
        names.push(registry.image(*target, &layer)?);
    }
    let (layout, digest) = registry.index(&names, &work.join("layout"))?;
    add_name(&layout)?;
    let file = work.join(format!("dexsidecar-{VERSION}.oci.tar"));
    archive::write(&layout, File::create(&file).map_err(with_path)?, None).map_err(with_path)?;
    println!("   {digest}");
    Ok(file)
}

/// Writes the content of the image into a directory.
pub(crate) fn fill(rootfs: &Path, target: Target) -> Result<(), Error> {
    let binary = release::build(target)?;
    let put = |name: &str, content: &[u8]| {
        let path = rootfs.join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, content))
    };
    let own = |name: &str| fs::read(root().join(name));
    let third_party = licences::third_party(target.triple())?;
    let filled = put(CAS, public_cas().as_bytes())
        .and_then(|()| put(&format!("{LICENCES}/LICENSE-APACHE"), &own("LICENSE-APACHE")?))
        .and_then(|()| put(&format!("{LICENCES}/LICENSE-MIT"), &own("LICENSE-MIT")?))
        .and_then(|()| put(&format!("{LICENCES}/THIRD-PARTY"), third_party.as_bytes()))
        // Copied, so that it stays executable.
        .and_then(|()| fs::create_dir_all(rootfs.join("bin")))
        .and_then(|()| fs::copy(binary, rootfs.join(BINARY)));
    filled.map(|_| ()).map_err(|error| Error::Failed(format!("{}: {error}", rootfs.display())))
}

/// The CAs that Mozilla trusts, at the version in Cargo.lock.
fn public_cas() -> String {
    let mut text = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// Writes the layer. Gives its size in bytes.
fn pack(rootfs: &Path, layer: &Path) -> io::Result<u64> {
    let compressed = GzBuilder::new().write(File::create(layer)?, Compression::best());
    archive::write(rootfs, compressed, None)?.finish()?;
    Ok(fs::metadata(layer)?.len())
}

fn size_of(directory: &Path) -> io::Result<u64> {
    archive::entries(directory)?
        .iter()
        .filter(|path| path.is_file())
        .map(|path| Ok(fs::metadata(path)?.len()))
        .sum()
}

/// Adds the name that `ctr` and `docker load` give the image, as `docker buildx` does.
fn add_name(layout: &Path) -> Result<(), String> {
    let path = layout.join("index.json");
    let with_path = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read(&path).map_err(|error| with_path(&error))?;
    let mut index: serde_json::Value = serde_json::from_slice(&text).map_err(|error| with_path(&error))?;
    index["manifests"][0]["annotations"] = serde_json::json!({
        "io.containerd.image.name": format!("docker.io/library/dexsidecar:{VERSION}"),
        "org.opencontainers.image.ref.name": VERSION,
    });
    fs::write(&path, index.to_string()).map_err(|error| with_path(&error))
}

/// crane's own registry, on loopback, in memory.
pub(crate) struct Registry {
    crane: PathBuf,
    process: Child,
    address: String,
}

impl Registry {
    pub(crate) fn start(crane: &Path) -> Result<Self, String> {
        let mut process = Command::new(crane)
            .args(["registry", "serve", "--address", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("crane: {error}"))?;
        let log = BufReader::new(process.stderr.take().ok_or("crane has no standard error")?);
        let mut registry = Self { crane: crane.to_owned(), process, address: String::new() };
        let mut lines = log.lines().map_while(Result::ok);
        // "… serving on port 43571"
        let port = lines.find_map(|line| line.split("serving on port ").nth(1).map(str::to_owned));
        registry.address = format!("127.0.0.1:{}", port.ok_or("crane's registry does not start")?.trim());
        // It goes on logging, and stops if its pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(registry)
    }

    /// The host and port.
    #[cfg(test)]
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Pushes the image of one platform. Gives its name.
    fn image(&self, target: Target, layer: &Path) -> Result<String, String> {
        let name = format!("{}/dexsidecar:{}", self.address, target.arch());
        let layer = layer.display().to_string();
        self.crane(&["append", "--oci-empty-base", "-f", &layer, "-t", &name])?;
        let label = |key: &str, value: &str| format!("org.opencontainers.image.{key}={value}");
        let labels = [
            label("title", "dexsidecar"),
            label("description", "Keeps a fresh Dex token in a file, for workloads on Kubernetes"),
            label("version", VERSION),
            label("licenses", env!("CARGO_PKG_LICENSE")),
        ];
        let mut arguments = vec!["mutate", &name, "-t", &name, "--set-platform", target.platform()];
        arguments.extend(["--entrypoint", "/bin/dexsidecar", "--env", "PATH=/bin", "--user", "65532:65532"]);
        arguments.extend(labels.iter().flat_map(|label| ["--label", label.as_str()]));
        self.crane(&arguments)?;
        Ok(name)
    }

    /// Writes all images under one name as an OCI layout into a directory. Gives the digest.
    fn index(&self, names: &[String], layout: &Path) -> Result<(PathBuf, String), String> {
        let name = format!("{}/dexsidecar:{VERSION}", self.address);
        let mut arguments = vec!["index", "append", "-t", &name];
        arguments.extend(names.iter().flat_map(|name| ["-m", name.as_str()]));
        self.crane(&arguments)?;
        self.crane(&["pull", "--format=oci", &name, &layout.display().to_string()])?;
        Ok((layout.to_owned(), self.crane(&["digest", &name])?.trim().to_owned()))
    }

    fn crane(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.crane).args(arguments).output().map_err(|error| error.to_string())?;
        let error = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("crane {}: {error}", arguments.join(" ")))
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
