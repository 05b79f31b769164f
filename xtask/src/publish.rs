//! Publishes what `cargo xtask dist` wrote: the image and the charts to a registry, and the files
//! to GitHub. All are signed with the identity of the workflow that runs this, so that there is no
//! key to keep.
//!
//! The job that does so has the rights to write. It runs a copy of this program that another job
//! made, so it needs no sources and compiles nothing.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dexsidecar_fetch::counterparts::CRANE;

use crate::{charts, dist};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The signature of the checksums, as `cosign verify-blob --bundle` reads it.
const SIGNATURE: &str = "SHA256SUMS.sigstore.json";

/// The name of crane beside a copy of this program.
const CRANE_COPY: &str = "crane";

/// Copies this program and crane into a directory.
pub(crate) fn publisher(directory: &Path) -> Result<(), String> {
    let own = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let with_path = |error: std::io::Error| format!("{}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(with_path)?;
    for (from, name) in [(own, "xtask"), (CRANE.built()?, CRANE_COPY)] {
        fs::copy(from, directory.join(name)).map_err(with_path)?;
    }
    Ok(())
}

/// The directory of this program, for temporary files too.
fn own_directory() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    own.parent().map(Path::to_owned).ok_or_else(|| format!("{}: it has no directory", own.display()))
}

/// The copy of crane, if this is a copy of xtask.
fn crane() -> Result<PathBuf, String> {
    let copy = own_directory()?.join(CRANE_COPY);
    if copy.is_file() { Ok(copy) } else { CRANE.built() }
}

/// Pushes the image to `NAME:VERSION` and each chart to `NAME/charts/CHART:VERSION`. Signs them. In
/// a workflow, the next steps get the outputs `name`, `version` and `digest` of the image.
pub(crate) fn image(directory: &Path, name: &str) -> Result<(), String> {
    verified(directory)?;
    // GitHub allows upper case in the names of repositories, and registries do not.
    let name = name.to_lowercase();
    let crane = crane()?;
    let own = own_directory()?;
    let work = own.join("publish");
    let _ = fs::remove_dir_all(&work);
    let archive = directory.join(dist::image_name());
    let with_path = |error: std::io::Error| format!("{}: {error}", archive.display());
    tar::Archive::new(File::open(&archive).map_err(with_path)?).unpack(&work).map_err(with_path)?;
    log_in(&crane, &name)?;
    let digest = push(&crane, &work, &name)?;
    sign(&name, &digest)?;
    for chart in charts::CHARTS {
        let layout = own.join("publish-charts").join(chart);
        let _ = fs::remove_dir_all(&layout);
        charts::layout(chart, &directory.join(charts::package_name(chart)), &layout)?;
        let name = format!("{name}/charts/{chart}");
        sign(&name, &push(&crane, &layout, &name)?)?;
    }
    set_outputs(&[("name", &name), ("version", VERSION), ("digest", &digest)])
}

/// Pushes an OCI layout with this version as its tag. Gives its digest.
pub(crate) fn push(crane: &Path, layout: &Path, name: &str) -> Result<String, String> {
    // The last line is the name with the digest.
    let pushed = output_of(Command::new(crane).arg("push").arg(layout).arg(format!("{name}:{VERSION}")))?;
    let pushed = pushed.lines().last().unwrap_or_default().trim();
    let digest = pushed.split_once('@').map(|(_, digest)| digest.to_owned());
    digest.ok_or_else(|| format!("crane push printed no digest: {pushed:?}"))
}

fn sign(name: &str, digest: &str) -> Result<(), String> {
    output_of(Command::new("cosign").args(["sign", "--yes"]).arg(format!("{name}@{digest}")))?;
    println!("{name}@{digest}");
    Ok(())
}

/// Signs the checksums, and creates the release with all files and the changes of this version.
pub(crate) fn files(directory: &Path) -> Result<(), String> {
    verified(directory)?;
    let notes = notes_in(directory)?;
    let checksums = directory.join(dist::CHECKSUMS);
    let signature = directory.join(SIGNATURE);
    output_of(
        Command::new("cosign").args(["sign-blob", "--yes", "--bundle"]).arg(&signature).arg(&checksums),
    )?;
    let mut files = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>())
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    files.sort();
    let tag = format!("v{VERSION}");
    let mut create = Command::new("gh");
    create.args(["release", "create", &tag, "--verify-tag", "--title", &tag, "--notes", &notes]).args(files);
    print!("{}", output_of(&mut create)?);
    Ok(())
}

/// Refuses a directory that is not the release of this version.
fn verified(directory: &Path) -> Result<(), String> {
    if let Ok(tag) = std::env::var("GITHUB_REF_NAME")
        && tag != format!("v{VERSION}")
    {
        return Err(format!(
            "the tag is {tag:?}, and the version in Cargo.toml is {VERSION}: they must agree"
        ));
    }
    let written = read(&directory.join(dist::CHECKSUMS))?;
    let found = dist::checksums(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    if written != found {
        return Err(format!(
            "the files in {} are not those of its {}: run cargo xtask dist again",
            directory.display(),
            dist::CHECKSUMS
        ));
    }
    notes_in(directory).map(drop)
}

/// What the changelog of a release has about this version.
fn notes_in(directory: &Path) -> Result<String, String> {
    notes(&dist::changelog(directory).map_err(|error| error.to_string())?)
}

/// What the changelog has about this version.
fn notes(changelog: &str) -> Result<String, String> {
    let sections = changelog.split("\n## ").skip(1);
    let section = sections.into_iter().find(|section| section.starts_with(&format!("{VERSION} ")));
    let (heading, text) = section
        .and_then(|section| section.split_once('\n'))
        .ok_or_else(|| format!("CHANGELOG.md has no section {VERSION}: add one"))?;
    if heading.contains("Unreleased") {
        return Err(format!("CHANGELOG.md calls {VERSION} unreleased: write the date in its place"));
    }
    Ok(text.trim().to_owned())
}

/// Logs in to the registry, if `REGISTRY_USER` and `REGISTRY_PASSWORD` are set. cosign reads what
/// crane stores.
fn log_in(crane: &Path, name: &str) -> Result<(), String> {
    let (Ok(user), Ok(password)) = (std::env::var("REGISTRY_USER"), std::env::var("REGISTRY_PASSWORD"))
    else {
        return Ok(());
    };
    let registry = name.split('/').next().unwrap_or_default();
    let mut child = Command::new(crane)
        .args(["auth", "login", registry, "--username", &user, "--password-stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("crane: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(password.as_bytes()).map_err(|error| format!("crane: {error}"))?;
    }
    let status = child.wait().map_err(|error| format!("crane: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cannot log in to {registry} as {user}")) }
}

/// Sets the outputs of a step of GitHub Actions, if this is one.
fn set_outputs(outputs: &[(&str, &str)]) -> Result<(), String> {
    let Some(path) = std::env::var_os("GITHUB_OUTPUT") else { return Ok(()) };
    let text: String = outputs.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let file = OpenOptions::new().append(true).create(true).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("{}: {error}", Path::new(&path).display()))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn output_of(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().display().to_string();
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{program} cannot be started: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program} failed: {}", output.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notes_are_the_section_of_this_version() {
        let changelog = format!(
            "# Changelog\n\n## 9.0.0 - Unreleased\n\n## {VERSION} - 2026-12-01\n\nText\n\n## 0.0.1 - 2026\n"
        );
        assert_eq!(notes(&changelog), Ok("Text".to_owned()));
        let unreleased = notes(&format!("\n## {VERSION} - Unreleased\n")).unwrap_err();
        assert!(unreleased.ends_with("unreleased: write the date in its place"), "{unreleased}");
        let missing = notes("# Changelog\n").unwrap_err();
        assert_eq!(missing, format!("CHANGELOG.md has no section {VERSION}: add one"));
    }
}
