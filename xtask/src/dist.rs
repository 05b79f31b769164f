//! The files of a release: for each platform a tarball and an SBOM, one image for all, the charts,
//! and checksums. The same sources give the same files, whatever the directory, the time and the
//! user.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

use crate::release::{self, Error, Target};
use crate::{archive, charts, image, licences, root, sbom, shell_files};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The platforms of a release.
const TARGETS: [Target; 2] = [Target::X86_64, Target::Aarch64];

/// The name of the file of checksums, which `sha256sum --check` reads.
pub(crate) const CHECKSUMS: &str = "SHA256SUMS";

/// Schemas of what users write and read, for their editors and programs.
const SCHEMAS: [&str; 2] = ["docs/config.schema.json", "docs/check.schema.json"];

/// Writes everything into a directory, which must be empty or missing.
pub(crate) fn write(out: Option<PathBuf>) -> Result<PathBuf, Error> {
    let time = source_time()?;
    let out = match out {
        Some(out) => out,
        None => {
            let own = crate::target_directory().join("dist");
            let _ = fs::remove_dir_all(&own);
            own
        }
    };
    refuse_unless_empty(&out)?;
    // First, since the builds take minutes.
    for target in TARGETS {
        release::prepare(target)?;
    }
    let with_path = |error: io::Error| Error::Failed(format!("{}: {error}", out.display()));
    fs::create_dir_all(&out).map_err(with_path)?;
    for target in TARGETS {
        let sbom = format!("dexsidecar-{VERSION}-{}.cdx.json", target.triple());
        fs::write(out.join(sbom), sbom::render(target, time)?).map_err(with_path)?;
        tarball(target, time, &out)?;
    }
    let image = image::archive(&TARGETS)?;
    fs::copy(&image, out.join(image_name())).map_err(with_path)?;
    charts::write(&out, time)?;
    for schema in SCHEMAS.map(Path::new) {
        fs::copy(root().join(schema), out.join(schema.file_name().unwrap_or_default())).map_err(with_path)?;
    }
    let checksums = checksums(&out).map_err(with_path)?;
    print!("{checksums}");
    fs::write(out.join(CHECKSUMS), checksums).map_err(with_path)?;
    Ok(out)
}

/// The name of the directory in the tarball of a platform, which the tarball has with an ending.
fn content_name(target: Target) -> String {
    format!("dexsidecar-{VERSION}-{}", target.triple())
}

/// The changelog in a directory of a release.
pub(crate) fn changelog(directory: &Path) -> io::Result<String> {
    let name = content_name(Target::X86_64);
    archive::text_in(&directory.join(format!("{name}.tar.gz")), &format!("{name}/CHANGELOG.md"))
}

/// The name of the image's archive.
pub(crate) fn image_name() -> String {
    format!("dexsidecar-{VERSION}.oci.tar")
}

/// The time of every file: `SOURCE_DATE_EPOCH`, or the time of the last commit, in seconds since
/// 1970 (<https://reproducible-builds.org/specs/source-date-epoch/>).
pub(crate) fn source_time() -> Result<u64, String> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().map_err(|_| {
            format!("SOURCE_DATE_EPOCH is {text:?}: it must be a number of seconds since 1970")
        });
    }
    let output = Command::new("git").current_dir(root()).args(["log", "-1", "--format=%ct"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default().parse().map_err(|_| {
        "the time of the sources is unknown, since git shows no commit: set SOURCE_DATE_EPOCH to a number of seconds \
         since 1970"
            .to_owned()
    })
}

/// What is in the directory would become a part of the release.
fn refuse_unless_empty(directory: &Path) -> Result<(), String> {
    let mut entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| format!("{}: {error}", directory.display()))?,
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => {
            Err(format!("{} is not empty: remove its files, or choose another --out", directory.display()))
        }
    }
}

/// Writes the tarball of a platform: the binary, the licences, README, completions and man page.
fn tarball(target: Target, time: u64, out: &Path) -> Result<(), Error> {
    let name = content_name(target);
    let work = crate::target_directory().join("dist-work").join(target.triple());
    let _ = fs::remove_dir_all(&work);
    let content = work.join(&name);
    let binary = release::build(target)?;
    let third_party = licences::third_party(target.triple())?;
    shell_files::write(&content.join("completions"))?;
    let file = out.join(format!("{name}.tar.gz"));
    let pack = || -> io::Result<()> {
        fs::create_dir(content.join("man"))?;
        fs::rename(content.join("completions/dexsidecar.1"), content.join("man/dexsidecar.1"))?;
        for own in ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md"] {
            fs::copy(root().join(own), content.join(own))?;
        }
        fs::write(content.join("THIRD-PARTY"), third_party)?;
        fs::copy(binary, content.join("dexsidecar"))?;
        let compressed = GzBuilder::new().write(File::create(&file)?, Compression::best());
        archive::write(&work, compressed, Some(time))?.finish().map(drop)
    };
    pack().map_err(|error| Error::Failed(format!("{}: {error}", file.display())))
}

/// The SHA-256 of each file in a directory, except for those about the checksums, in the order of
/// the names.
pub(crate) fn checksums(directory: &Path) -> io::Result<String> {
    let mut text = String::new();
    for path in archive::entries(directory)? {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(CHECKSUMS)) {
            continue;
        }
        let digest = Sha256::digest(fs::read(&path)?);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{digest}  {}\n", path.strip_prefix(directory).unwrap_or(&path).display()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256sum_accepts_the_checksums() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b", "a"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        let text = checksums(directory.path()).unwrap();
        assert_eq!(text.lines().map(|line| &line[64..]).collect::<Vec<_>>(), ["  a", "  b"]);
        fs::write(directory.path().join(CHECKSUMS), text).unwrap();
        let check = Command::new("sha256sum")
            .current_dir(&directory)
            .args(["--check", "--strict", CHECKSUMS])
            .output();
        assert!(check.expect("sha256sum is there").status.success());
    }

    #[test]
    fn a_directory_with_a_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(refuse_unless_empty(directory.path()), Ok(()));
        assert_eq!(refuse_unless_empty(&directory.path().join("missing")), Ok(()));
        fs::write(directory.path().join("old.tar.gz"), "").unwrap();
        let refused = refuse_unless_empty(directory.path()).unwrap_err();
        assert!(refused.ends_with("is not empty: remove its files, or choose another --out"), "{refused}");
    }
}
