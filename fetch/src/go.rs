//! Programs written in Go: built from modules of this repository, which pin their versions.

use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Progress, cache, followed};

/// A version of Go: major and minor.
pub type Version = (u32, u32);

/// The oldest Go that fetches the Go which a module requires (<https://go.dev/doc/toolchain>).
const FETCHES_NEWER: Version = (1, 21);

const GET: &str = "from your distribution or https://go.dev/dl/";

/// Fails unless there is a Go that is as new as required, or that can fetch such a Go.
///
/// # Errors
/// One line for a person: what is missing and how to get it.
pub fn look(required: Version) -> Result<(), String> {
    // Outside of any module: the Go that is installed.
    let output = Command::new("go")
        .args(["env", "GOVERSION", "GOTOOLCHAIN"])
        .current_dir(std::env::temp_dir())
        .output();
    let output = output.map_err(|_| {
        format!(
            "Go is missing: there is no go on PATH, and {} is required; install it {GET} \
             (1.21 is enough: it fetches the newer version by itself)",
            written(required)
        )
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    judge(required, lines.next().unwrap_or_default(), lines.next().unwrap_or_default())
}

/// What the version and `GOTOOLCHAIN` of an installed Go mean.
fn judge(required: Version, installed: &str, toolchain: &str) -> Result<(), String> {
    let found = version(installed);
    if found >= required {
        return Ok(());
    }
    let (installed, required) = (installed.trim(), written(required));
    if found < FETCHES_NEWER {
        return Err(format!(
            "Go is too old: this is {installed}, and {required} is required; install it {GET} \
             (1.21 is enough: it fetches the newer version by itself)"
        ));
    }
    // `auto`, `go1.24.1+auto` and, before Go 1.21.1, nothing: the Go that a module requires is
    // fetched.
    if toolchain.is_empty() || toolchain == "auto" || toolchain.ends_with("+auto") {
        return Ok(());
    }
    Err(format!(
        "Go is too old: this is {installed}, {required} is required, and GOTOOLCHAIN={toolchain} does not let it fetch \
         that; run with GOTOOLCHAIN=auto, or install {required} {GET}"
    ))
}

fn written((major, minor): Version) -> String {
    format!("Go {major}.{minor}")
}

/// Reads `go1.26.8`, `1.26.0`, `devel go1.27-3e3ae1c`. What cannot be read is version 0.0.
fn version(text: &str) -> Version {
    let text = text.rsplit("go").next().unwrap_or_default().trim();
    let mut numbers =
        text.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Fails unless the module proxy answers, so that nobody waits for a build that cannot succeed.
///
/// # Errors
/// One line for a person.
pub fn look_for_module_proxy() -> Result<(), String> {
    let mut asked = Command::new("go");
    asked
        .args(["list", "-m", "golang.org/x/sync@latest"])
        .current_dir(std::env::temp_dir())
        .env("GOFLAGS", "-mod=mod")
        .env("GO111MODULE", "on")
        .env("GOWORK", "off");
    let proxy = Command::new("go").args(["env", "GOPROXY"]).output();
    let proxy =
        proxy.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if answers_within(&mut asked, Duration::from_secs(20)) {
        return Ok(());
    }
    Err(format!(
        "Go's module proxy is unreachable (GOPROXY={proxy}): check the network and HTTPS_PROXY, or set GOPROXY to a mirror"
    ))
}

/// Whether a command succeeds in this time. It is killed if it does not.
fn answers_within(command: &mut Command, limit: Duration) -> bool {
    use std::process::Stdio;
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = quiet.spawn() else { return false };
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if start.elapsed() < limit => std::thread::sleep(Duration::from_millis(50)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// Fails unless the C compiler that Go calls (`go env CC`: `CC` if that is set, else gcc or clang)
/// starts.
///
/// # Errors
/// One line for a person: what is missing and how to get it.
pub fn look_for_c_compiler() -> Result<(), String> {
    let output = Command::new("go").args(["env", "CC"]).output();
    let compiler = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let compiler = compiler.unwrap_or_default();
    let mut words = compiler.split_ascii_whitespace();
    let starts = words.next().is_some_and(|program| {
        let output = Command::new(program).args(words).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    });
    if starts {
        return Ok(());
    }
    Err(format!(
        "a C compiler is missing: Go calls {compiler:?}, which does not start; install gcc, or set CC"
    ))
}

/// A program of a Go module. [`crate::counterparts`] has all of them.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// For a person.
    pub(crate) label: &'static str,
    /// Its name in the cache.
    pub(crate) name: &'static str,
    /// The module's directory below the workspace's.
    pub(crate) module: &'static str,
    /// The package, as the module's `tool` lines have it; a source file in the module's directory;
    /// or `.`, for the `main.go` there.
    pub(crate) package: &'static str,
    /// Further arguments of the linker.
    pub(crate) link: &'static str,
    /// Whether parts of it are C, so that its build needs a C compiler.
    pub(crate) cgo: bool,
}

impl Program {
    /// What it is, for a person.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        self.label
    }

    /// Whether its build needs a C compiler.
    #[must_use]
    pub const fn needs_c_compiler(&self) -> bool {
        self.cgo
    }

    /// Whether its build downloads modules. The sources of a single file import the standard
    /// library only.
    #[must_use]
    pub fn needs_modules(&self) -> bool {
        !self.is_file()
    }

    /// Whether everything that its build imports is on this machine.
    #[must_use]
    pub fn modules_are_downloaded(&self) -> bool {
        let mut list = Command::new("go");
        list.args(["list", "-deps", self.package]).current_dir(self.directory());
        list.envs([("GOPROXY", "off"), ("GOWORK", "off"), ("GOFLAGS", "-mod=readonly")]);
        list.output().is_ok_and(|output| output.status.success())
    }

    /// The Go that its module requires.
    ///
    /// # Errors
    /// If the module's `go.mod` cannot be read.
    pub fn required_go(&self) -> Result<Version, String> {
        let path = self.directory().join("go.mod");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("go "));
        line.map(version).ok_or_else(|| format!("{} has no go line", path.display()))
    }

    /// Whether it is in the cache.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        self.entry().is_ok_and(|entry| cache::existing(&entry).is_some())
    }

    /// Builds it unless it is in the cache. Gives its path.
    ///
    /// # Errors
    /// Without a Go that is new enough, and if the build fails: with Go's own words.
    pub fn built(&self) -> Result<PathBuf, String> {
        self.built_with(&mut |_| ())
    }

    /// The same, and reports each module that is downloaded and each package that is compiled.
    ///
    /// # Errors
    /// Those of [`Self::built`].
    pub fn built_with(&self, progress: Progress<'_>) -> Result<PathBuf, String> {
        cache::once(&self.entry()?, |unfinished| {
            look(self.required_go()?)?;
            if self.cgo {
                look_for_c_compiler()?;
            }
            let mut build = Command::new("go");
            build
                .current_dir(self.directory())
                .env("CGO_ENABLED", if self.cgo { "1" } else { "0" })
                .env("GOWORK", "off")
                .env("GOFLAGS", "-mod=readonly -buildvcs=false")
                .args(["build", "-v", "-trimpath", "-ldflags", &format!("-s -w {}", self.link), "-o"])
                .arg(unfinished)
                .arg(self.package);
            followed(&mut build, progress).map_err(|why| format!("{} cannot be built:\n{why}", self.label))
        })
    }

    fn directory(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(self.module)
    }

    fn is_file(&self) -> bool {
        Path::new(self.package).extension().is_some_and(|ending| ending == "go")
    }

    /// The name in the cache. It changes with the versions that the module pins; for a single file
    /// with its content and with the Go that builds it, whose behaviour it is there to show.
    fn entry(&self) -> Result<String, String> {
        let directory = self.directory();
        let mut hasher = DefaultHasher::new();
        let files: &[&str] = match self.package {
            "." => &["go.mod", "go.sum", "main.go"],
            file if self.is_file() => &["go.mod", file],
            _ => &["go.mod", "go.sum"],
        };
        for file in files {
            let path = directory.join(file);
            hasher.write(&fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?);
        }
        if self.is_file() {
            look(self.required_go()?)?;
            let version = Command::new("go").args(["env", "GOVERSION"]).current_dir(&directory).output();
            hasher.write(&version.map_err(|error| error.to_string())?.stdout);
        }
        Ok(format!("{}-{:016x}", self.name, hasher.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_go_writes_them() {
        for (text, read) in [
            ("go1.26.8", (1, 26)),
            ("1.25.0", (1, 25)),
            ("go1.27rc1", (1, 27)),
            ("devel go1.27-3e3ae1c", (1, 27)),
            ("", (0, 0)),
        ] {
            assert_eq!(version(text), read, "{text}");
        }
    }

    #[test]
    fn a_go_that_can_fetch_the_required_version_is_accepted() {
        let accepted = [
            ("go1.26.0", "local"),
            ("go1.27.1", "auto"),
            ("go1.25.3", "auto"),
            ("go1.21.0", ""),
            ("go1.22.5", "go1.22.5+auto"),
        ];
        for (installed, toolchain) in accepted {
            assert_eq!(judge((1, 26), installed, toolchain), Ok(()), "{installed} {toolchain}");
        }
    }

    #[test]
    fn a_go_that_is_too_old_is_refused_in_one_line_that_says_what_to_do() {
        for (installed, toolchain, words) in [
            ("go1.20.14", "", "this is go1.20.14, and Go 1.26 is required; install it from"),
            ("go1.25.3", "local", "GOTOOLCHAIN=local does not let it fetch that; run with GOTOOLCHAIN=auto"),
            ("go1.24.1", "path", "GOTOOLCHAIN=path does not let it fetch that"),
            ("go1.24.1", "go1.24.1", "GOTOOLCHAIN=go1.24.1 does not let it fetch that"),
        ] {
            let refused = judge((1, 26), installed, toolchain).expect_err("it is too old");
            assert!(refused.contains(words) && !refused.contains('\n'), "{refused}");
        }
    }

    #[test]
    fn every_module_states_the_go_that_it_requires() {
        for counterpart in crate::counterparts::ALL {
            if let crate::counterparts::Source::Go(program) = counterpart.source {
                assert!(program.required_go().expect("a go.mod") >= FETCHES_NEWER, "{}", program.label);
            }
        }
    }
}
