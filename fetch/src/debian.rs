//! Packages of Debian, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;

/// Packages that are needed together.
#[derive(Clone, Copy, Debug)]
pub struct Packages {
    /// The folder's name in the cache; another set of packages is another name.
    pub name: &'static str,
    /// The packages, and of each what it needs: nothing is resolved here.
    pub packages: &'static [&'static str],
    /// Whether the release's backports are looked at too, and preferred.
    pub backports: bool,
}

impl Packages {
    /// Fetches and unpacks them if they are not in the cache yet, and gives the folder that is their root.
    ///
    /// # Errors
    /// One sentence for a person: without apt, without Debian's mirror, or when a package is not to be had.
    pub fn unpacked(&self) -> Result<PathBuf, String> {
        cache::once(self.name, |root| {
            let work = cache::folder()?.join(format!("{}.work", self.name));
            let _ = fs::remove_dir_all(&work);
            let fetched = self.fetch(&work).and_then(|debs| unpack(&debs, root));
            let _ = fs::remove_dir_all(&work);
            fetched
        })
    }

    fn fetch(&self, work: &Path) -> Result<Vec<PathBuf>, String> {
        let (lists, debs) = (work.join("lists"), work.join("debs"));
        for folder in [lists.join("partial"), debs.join("partial"), work.join("archives/partial")] {
            fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let apt = |arguments: &[&str]| {
            let mut command = Command::new("apt-get");
            command.current_dir(&debs).arg("-q");
            // A state of its own; who may write is asked of the cache's owner and not of the system's.
            for (option, value) in [("Dir::State::lists", &lists), ("Dir::Cache", &work.to_path_buf())] {
                command.arg("-o").arg(format!("{option}={}", value.display()));
            }
            if self.backports {
                command.arg("-o").arg(format!("Dir::Etc::sourceparts={}", work.join("sources").display()));
                command.args(["-o", "Dir::Etc::sourcelist=-"]);
            }
            command.args(["-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]).args(arguments);
            command
        };
        if Command::new("apt-get").arg("--version").output().is_err() {
            return Err(format!("this machine has no apt-get; {} are Debian's", self.packages.join(", ")));
        }
        let mut download = vec!["download".to_owned()];
        if self.backports {
            let (mirror, release) = mirror()?;
            let backports = format!("{release}-backports");
            let source = format!(
                "Types: deb\nURIs: {mirror}\nSuites: {release} {backports}\nComponents: main\nSigned-By: {KEYRING}\n"
            );
            let sources = work.join("sources");
            fs::create_dir_all(&sources)
                .and_then(|()| fs::write(sources.join("debian.sources"), source))
                .map_err(|error| format!("{}: {error}", sources.display()))?;
            download.extend(["-t".to_owned(), backports]);
        }
        download.extend(self.packages.iter().map(|&package| package.to_owned()));
        said(&mut apt(&["update"]), "Debian's package lists cannot be read")?;
        let download: Vec<&str> = download.iter().map(String::as_str).collect();
        said(
            &mut apt(&download),
            &format!("Debian's packages cannot be fetched: {}", self.packages.join(" ")),
        )?;
        let entries = fs::read_dir(&debs).map_err(|error| error.to_string())?;
        let files = entries.filter_map(Result::ok).map(|entry| entry.path());
        Ok(files.filter(|file| file.extension().is_some_and(|ending| ending == "deb")).collect())
    }
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The mirror of this machine's sources, and the release.
fn mirror() -> Result<(String, String), String> {
    let format =
        ["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Origin: Debian", "Created-By: Packages"];
    let output = Command::new("apt-get").args(format).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first =
        text.lines().filter_map(|line| line.split_once(' ')).find(|(_, release)| !release.contains('-'));
    first
        .map(|(mirror, release)| (mirror.to_owned(), release.to_owned()))
        .ok_or_else(|| "this machine has apt-get, but no sources of a Debian release".to_owned())
}

fn unpack(debs: &[PathBuf], root: &Path) -> Result<(), String> {
    fs::create_dir_all(root).map_err(|error| format!("{}: {error}", root.display()))?;
    debs.iter().try_for_each(|deb| {
        said(
            Command::new("dpkg").arg("-x").arg(deb).arg(root),
            &format!("{} cannot be unpacked", deb.display()),
        )
    })
}

fn said(command: &mut Command, wrong: &str) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{wrong}: {error}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{wrong}: {}", error.trim())) }
}
