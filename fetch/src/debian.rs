//! Packages of Debian, unpacked into the cache and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::child_output::{self, Line};
use crate::{Error, Progress, apt_error, cache};

/// Package lists that are older than this are downloaded again.
const LISTS_ARE_FRESH_FOR: Duration = Duration::from_secs(3_600);

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The suite of Debian that packages come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Suite {
    /// The release of this machine, from its own sources.
    Release,
    /// The release of this machine, and its backports where they have the package.
    Backports,
    /// A suite by its name, from this machine's mirror.
    Named(&'static str),
}

impl Suite {
    /// The suites that are read besides the machine's own sources; `None` for these alone.
    fn suites(self) -> Result<Option<String>, Error> {
        match self {
            Self::Release => Ok(None),
            Self::Backports => mirror().map(|(_, release)| Some(format!("{release} {release}-backports"))),
            Self::Named(name) => Ok(Some(name.to_owned())),
        }
    }

    /// The end of the names of its directories in the cache.
    fn ending(self) -> String {
        match self {
            Self::Release => String::new(),
            Self::Backports => "-backports".to_owned(),
            Self::Named(name) => format!("-{name}"),
        }
    }

    fn lists(self) -> Result<PathBuf, String> {
        Ok(cache::directory()?.join(format!("debian-lists{}", self.ending())))
    }

    /// The directory with the source of its packages.
    fn sources(self) -> Result<PathBuf, String> {
        Ok(cache::directory()?.join(format!("debian-sources{}", self.ending())))
    }
}

/// A set of packages. [`crate::counterparts`] has all of them.
#[derive(Clone, Copy, Debug)]
pub struct Packages {
    /// For a person.
    pub(crate) label: &'static str,
    /// The name of the directory in the cache. Another set of packages is another name.
    pub(crate) name: &'static str,
    /// The packages with all their dependencies: nothing is resolved here.
    pub(crate) packages: &'static [&'static str],
    /// Where they come from.
    pub(crate) suite: Suite,
}

impl Packages {
    /// What it is, for a person.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        self.label
    }

    /// Where they come from.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// Whether it is in the cache.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        cache::existing(self.name).is_some()
    }

    /// Fetches and unpacks the packages unless they are in the cache. Gives the directory that is
    /// their root.
    ///
    /// # Errors
    /// Those of [`Self::unpacked_with`], as text.
    pub fn unpacked(&self) -> Result<PathBuf, String> {
        self.unpacked_with(&mut |_| ()).map_err(|error| error.to_string())
    }

    /// The same, and reports progress.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without apt, if Debian's mirror is unreachable, and if a package does
    /// not exist; [`Error::Failed`] if the packages cannot be stored or unpacked.
    pub fn unpacked_with(&self, progress: Progress<'_>) -> Result<PathBuf, Error> {
        cache::once_with_work(self.name, |root, work| {
            self.fetch(work, progress).and_then(|debs| unpack(&debs, root).map_err(Error::Failed))
        })
    }

    fn fetch(&self, work: &Path, progress: Progress<'_>) -> Result<Vec<PathBuf>, Error> {
        update(self.suite)?;
        let debs = work.join("debs");
        for directory in [debs.join("partial"), work.join("archives/partial")] {
            fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        let mut download = apt(self.suite)?;
        download.current_dir(&debs).arg("-o").arg(format!("Dir::Cache={}", work.display())).arg("download");
        if self.suite == Suite::Backports {
            let (_, release) = mirror()?;
            download.args(["-t", &format!("{release}-backports")]);
        }
        for package in self.packages {
            progress(package);
        }
        success(download.args(self.packages), "packages of Debian cannot be downloaded")
            .map_err(apt_error::classified)?;
        let entries = fs::read_dir(&debs).map_err(|error| error.to_string())?;
        let files = entries.filter_map(Result::ok).map(|entry| entry.path());
        Ok(files.filter(|file| file.extension().is_some_and(|ending| ending == "deb")).collect())
    }
}

/// Fails unless this machine has Debian's tools.
///
/// # Errors
/// [`Error::Unavailable`]: what is missing and how to get it.
pub fn require_tools() -> Result<(), Error> {
    let missing = ["apt-get", "dpkg"].into_iter().find(|tool| {
        !Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    missing.map_or(Ok(()), |tool| {
        Err(Error::Unavailable(format!(
            "{tool} is missing, and these are packages of Debian: use a machine or container with Debian 12"
        )))
    })
}

/// Downloads Debian's package lists into the cache, unless they are fresh. So it fails early if the
/// mirror is unreachable.
///
/// # Errors
/// [`Error::Unavailable`] without apt, and if the mirror is unreachable; [`Error::Failed`] if the
/// lists cannot be stored.
pub fn update(suite: Suite) -> Result<(), Error> {
    require_tools()?;
    let _lock = cache::locked(&format!("debian-lists{}", suite.ending()))?;
    let lists = suite.lists()?;
    let stamp = lists.join("dexsidecar-updated");
    let age = |time: SystemTime| SystemTime::now().duration_since(time).unwrap_or(Duration::MAX);
    let updated = fs::metadata(&stamp).and_then(|file| file.modified());
    if updated.is_ok_and(|time| age(time) < LISTS_ARE_FRESH_FOR) {
        return Ok(());
    }
    fs::create_dir_all(lists.join("partial")).map_err(|error| format!("{}: {error}", lists.display()))?;
    if let Some(suites) = suite.suites()? {
        let (mirror, _) = mirror()?;
        let source =
            format!("Types: deb\nURIs: {mirror}\nSuites: {suites}\nComponents: main\nSigned-By: {KEYRING}\n");
        let sources = suite.sources()?;
        fs::create_dir_all(&sources)
            .and_then(|()| fs::write(sources.join("debian.sources"), source))
            .map_err(|error| format!("{}: {error}", sources.display()))?;
    }
    let wrong = "Debian's package lists cannot be downloaded: check the network and the sources in /etc/apt";
    let options = ["-o", "Acquire::http::Timeout=15", "-o", "Acquire::Retries=1"];
    success(apt(suite)?.args(options).arg("update"), wrong).map_err(apt_error::classified)?;
    // apt-get exits with 0 if it reaches no mirror. A single source that fails does not matter.
    let is_list = |entry: fs::DirEntry| entry.file_name().to_string_lossy().contains("_Packages");
    if !fs::read_dir(&lists).into_iter().flatten().filter_map(Result::ok).any(is_list) {
        return Err(Error::Unavailable(wrong.to_owned()));
    }
    fs::write(&stamp, "").map_err(|error| Error::Failed(format!("{}: {error}", stamp.display())))
}

/// A tool of Debian. Its texts are in English: [`apt_error`] recognizes them.
fn debian_tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("LC_ALL", "C");
    command
}

/// apt-get with package lists of its own, so that it needs no right on the system's.
fn apt(suite: Suite) -> Result<Command, String> {
    let mut command = debian_tool("apt-get");
    command.arg("-q").arg("-o").arg(format!("Dir::State::lists={}", suite.lists()?.display()));
    if suite != Suite::Release {
        command.arg("-o").arg(format!("Dir::Etc::sourceparts={}", suite.sources()?.display()));
        command.args(["-o", "Dir::Etc::sourcelist=-"]);
    }
    command.args(["-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]);
    Ok(command)
}

/// The mirror in this machine's sources, and the name of the release.
fn mirror() -> Result<(String, String), Error> {
    let format =
        ["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Origin: Debian", "Created-By: Packages"];
    let output = debian_tool("apt-get").args(format).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first =
        text.lines().filter_map(|line| line.split_once(' ')).find(|(_, release)| !release.contains('-'));
    first
        .map(|(mirror, release)| (mirror.to_owned(), release.to_owned()))
        .ok_or_else(|| Error::Unavailable("there is no source of a Debian release in /etc/apt".to_owned()))
}

fn unpack(debs: &[PathBuf], root: &Path) -> Result<(), String> {
    fs::create_dir_all(root).map_err(|error| format!("{}: {error}", root.display()))?;
    debs.iter().try_for_each(|deb| {
        success(
            debian_tool("dpkg").arg("-x").arg(deb).arg(root),
            &format!("{} cannot be unpacked", deb.display()),
        )
    })
}

/// Runs a command. If it fails, gives `wrong` and its standard error.
fn success(command: &mut Command, wrong: &str) -> Result<(), String> {
    let mut error = String::new();
    let end = child_output::separate(command, |line| {
        if let Line::Error(line) = line {
            error.push_str(&line);
            error.push('\n');
        }
    });
    let end = end.map_err(|error| format!("{wrong}: {error}"))?;
    if end.succeeded { Ok(()) } else { Err(format!("{wrong}: {}", error.trim())) }
}
