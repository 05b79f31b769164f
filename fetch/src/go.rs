//! Programs written in Go: built from a module of ours that names their versions.

use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;

/// The oldest Go that builds them.
const OLDEST: (u32, u32) = (1, 25);

/// What is missing, and how to get it.
///
/// # Errors
/// One sentence for a person, when there is no Go that is new enough.
pub fn look() -> Result<(), String> {
    let wanted = format!("Go {}.{} or later is needed for the real counterparts", OLDEST.0, OLDEST.1);
    let get = "install it from your distribution or go.dev/dl, and have it on PATH";
    let output = Command::new("go").args(["env", "GOVERSION"]).output();
    let output = output.map_err(|_| format!("{wanted}, and there is no go on PATH: {get}"))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let mut numbers =
        version.trim_start_matches("go").split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST { Err(format!("{wanted}, and this is {version}: {get}")) } else { Ok(()) }
}

/// Fails unless the C compiler that Go calls (`go env CC`: `CC` if that is set, else gcc or clang) starts.
fn look_for_c_compiler(package: &str) -> Result<(), String> {
    let output = Command::new("go").args(["env", "CC"]).output();
    let compiler = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let compiler = compiler.unwrap_or_default();
    let mut words = compiler.split_ascii_whitespace();
    let starts = words.next().is_some_and(|program| {
        Command::new(program)
            .args(words)
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success())
    });
    let missing = || {
        format!(
            "a C compiler is needed for {package}, and {compiler:?} does not start: install gcc, or set CC"
        )
    };
    starts.then_some(()).ok_or_else(missing)
}

/// A program of a module of ours.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name in the cache.
    pub name: &'static str,
    /// The module's folder below the workspace's.
    pub module: &'static str,
    /// The package, as the module's `tool` lines have it.
    pub package: &'static str,
    /// What its linker is told besides.
    pub link: &'static str,
    /// Parts of it are C, so that its build needs a C compiler.
    pub cgo: bool,
}

impl Program {
    /// Builds it if it is not in the cache yet, and gives where it is.
    ///
    /// # Errors
    /// Without Go, and when the build fails: with what Go said.
    pub fn built(&self) -> Result<PathBuf, String> {
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(self.module);
        let key = key(&module).map_err(|error| format!("{}: {error}", module.display()))?;
        cache::once(&format!("{}-{key}", self.name), |unfinished| {
            look()?;
            if self.cgo {
                look_for_c_compiler(self.package)?;
            }
            let output = Command::new("go")
                .current_dir(&module)
                .env("CGO_ENABLED", if self.cgo { "1" } else { "0" })
                .env("GOWORK", "off")
                .env("GOFLAGS", "-mod=readonly -buildvcs=false")
                .args(["build", "-trimpath", "-ldflags", &format!("-s -w {}", self.link), "-o"])
                .arg(unfinished)
                .arg(self.package)
                .output()
                .map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&output.stderr);
            let failed = || format!("{} cannot be built:\n{said}", self.package);
            output.status.success().then_some(()).ok_or_else(failed)
        })
    }
}

/// Changes with the versions that the module names.
fn key(module: &Path) -> std::io::Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in ["go.mod", "go.sum"] {
        hasher.write(&fs::read(module.join(file))?);
    }
    Ok(format!("{:016x}", hasher.finish()))
}
