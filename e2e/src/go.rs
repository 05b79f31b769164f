//! Counterparts written in Go: built once from a module of ours that names their versions, and kept in the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use ring::digest::{SHA256, digest};
use rustix::fs::FlockOperation;

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

/// A program of a module of ours.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name in the cache.
    pub name: &'static str,
    /// The module's folder below `e2e/`.
    pub module: &'static str,
    /// The package, as the module's `tool` lines have it.
    pub package: &'static str,
    /// What its linker is told besides.
    pub link: &'static str,
}

/// Builds a program if it is not in the cache yet, and gives where it is.
///
/// # Panics
/// Without Go, and when the build fails: with what Go said.
#[must_use]
pub fn program(wanted: &Program) -> PathBuf {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join(wanted.module);
    let (name, package) = (wanted.name, wanted.package);
    let key = key(&module);
    let built = cache::folder().join(format!("{name}-{key}"));
    if built.exists() {
        return built;
    }
    // Tests run in several processes; one builds, the others wait.
    let lock =
        File::create(cache::folder().join(format!("{name}.lock"))).expect("the cache can be written to");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("the cache's file system has locks");
    if built.exists() {
        return built;
    }
    if let Err(missing) = look() {
        panic!("{missing}");
    }
    let unfinished = cache::folder().join(format!("{name}-{key}.unfinished"));
    let output = Command::new("go")
        .current_dir(&module)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .args(["build", "-trimpath", "-ldflags", &format!("-s -w {}", wanted.link), "-o"])
        .arg(&unfinished)
        .arg(package)
        .output()
        .expect("go was there a moment ago");
    assert!(
        output.status.success(),
        "{package} cannot be built:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::rename(&unfinished, &built).expect("the cache can be written to");
    built
}

/// Changes with the versions that the module names.
fn key(module: &Path) -> String {
    let mut content = fs::read(module.join("go.mod")).expect("the module has a go.mod");
    content.extend(fs::read(module.join("go.sum")).expect("the module has a go.sum"));
    digest(&SHA256, &content).as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
