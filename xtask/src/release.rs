//! The binary as it ships: static, with musl, linked by the linker that comes with Rust. Only
//! ring's C needs a C compiler.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use dexsidecar_fetch as fetch;
use dexsidecar_fetch::counterparts::GCC_AARCH64;

use crate::{cargo, root, step, target_directory};

/// A platform to build for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    X86_64,
    Aarch64,
}

/// Why there is no binary.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Error {
    /// This machine cannot have a C compiler for the target. Nothing is wrong with the sources.
    NoCrossCompiler(String),
    /// Anything else: the sources do not compile, the target is not installed.
    Failed(String),
}

impl From<String> for Error {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        match error {
            Error::NoCrossCompiler(why) | Error::Failed(why) => why,
        }
    }
}

/// Makes the binary smaller and changes nothing else: merges the ends of strings, packs relative
/// relocations, folds equal functions, leaves out the unwinder with its tables and their index,
/// which a program that aborts on panic never uses, and puts the code that seldom runs in one
/// place. docs/footprint.md has what each saves. Paths are relative to the workspace.
const LINK: [&str; 6] = [
    "-Clink-arg=-O2",
    "-Clink-arg=-zpack-relative-relocs",
    "-Clink-arg=--icf=all",
    "-Clink-arg=--no-eh-frame-hdr",
    "-Clink-arg=--build-id=none",
    "-Clink-arg=-Txtask/src/layout.ld",
];

/// ring's C is compiled without tables for unwinding, too.
const C_FLAGS: &str = "-fno-asynchronous-unwind-tables -fno-unwind-tables";

impl Target {
    /// The target triple of Rust.
    pub(crate) const fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-musl",
        }
    }

    /// The platform of OCI.
    pub(crate) const fn platform(self) -> &'static str {
        match self {
            Self::X86_64 => "linux/amd64",
            Self::Aarch64 => "linux/arm64",
        }
    }

    /// The architecture of OCI.
    pub(crate) const fn arch(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    const fn is_native(self) -> bool {
        match self {
            Self::X86_64 => cfg!(target_arch = "x86_64"),
            Self::Aarch64 => cfg!(target_arch = "aarch64"),
        }
    }

    /// A compiler for ring's C, and the directory of its own libraries if they are not the
    /// system's. The C is free-standing: any gcc for the architecture will do, with any libc.
    fn compiler(self) -> Result<(PathBuf, Option<PathBuf>), Error> {
        if self.is_native() {
            return native_compiler().map(|name| (name.into(), None)).map_err(Error::Failed);
        }
        let Self::Aarch64 = self else {
            return Err(Error::Failed("building for x86_64 needs an x86_64 machine".to_owned()));
        };
        let directory = GCC_AARCH64.unpacked_with(&mut |_| ()).map_err(|error| match error {
            fetch::Error::Unavailable(why) => Error::NoCrossCompiler(why),
            fetch::Error::Failed(why) => Error::Failed(why),
        })?;
        Ok((directory.join("usr/bin/aarch64-linux-gnu-gcc-12"), Some(directory)))
    }
}

/// The name of a C compiler for this machine.
pub(crate) fn native_compiler() -> Result<&'static str, String> {
    let is_installed = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let compiler = ["gcc", "clang", "cc"].into_iter().find(is_installed);
    compiler
        .ok_or_else(|| "a C compiler is missing, and parts of ring are C: install gcc or clang".to_owned())
}

/// Installs what a build for a target needs. Gives a compiler for ring's C, and the directory of
/// its own libraries if they are not the system's.
pub(crate) fn prepare(target: Target) -> Result<(PathBuf, Option<PathBuf>), Error> {
    add_target(target).map_err(Error::Failed)?;
    target.compiler()
}

/// Builds the binary. Gives its path.
pub(crate) fn build(target: Target) -> Result<PathBuf, Error> {
    let (compiler, tools) = prepare(target)?;
    let triple = target.triple();
    fetch_crates(triple)?;
    let variable = triple.to_uppercase().replace('-', "_");
    let mut command = cargo();
    command
        .args(["build", "--release", "--locked", "--package", "dexsidecar", "--target", triple])
        .env(format!("CC_{}", triple.replace('-', "_")), compiler)
        .env(format!("CFLAGS_{}", triple.replace('-', "_")), C_FLAGS)
        .env(format!("CARGO_TARGET_{variable}_LINKER"), "rust-lld")
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags().join("\u{1f}"));
    if let Some(tools) = tools {
        let libraries = tools.join("usr/lib/x86_64-linux-gnu");
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("LD_LIBRARY_PATH", libraries)
            .env("PATH", format!("{}:{path}", tools.join("usr/bin").display()));
    }
    if !step::run(&format!("the static binary: cargo build --release --target {triple}"), &mut command)
        .succeeded
    {
        return Err(Error::Failed(format!("dexsidecar cannot be built for {triple}")));
    }
    let binary = target_directory().join(triple).join("release/dexsidecar");
    let size =
        fs::metadata(&binary).map_err(|error| Error::Failed(format!("{}: {error}", binary.display())))?;
    println!("   {triple}: {} bytes", size.len());
    Ok(binary)
}

/// Unpacks the crates: their directory must exist before its path can be left out of the binary.
fn fetch_crates(triple: &str) -> Result<(), String> {
    let mut command = cargo();
    command.args(["fetch", "--quiet", "--locked", "--target", triple]);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("the crates cannot be fetched: see above".to_owned()),
        Err(error) => Err(format!("cargo cannot be executed: {error}")),
    }
}

/// Options of the linker, and no path of this machine: the same sources give the same binary
/// everywhere. A crate's path begins with its name, which makes the binary smaller, too.
fn rust_flags() -> Vec<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let mut flags: Vec<String> = LINK.map(str::to_owned).into();
    flags.push(format!("--remap-path-prefix={}=dexsidecar", root().display()));
    let Some(home) = home else { return flags };
    flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    // The last prefix that matches counts.
    let registries = fs::read_dir(home.join("registry/src")).into_iter().flatten().filter_map(Result::ok);
    let mut registries: Vec<_> = registries.map(|registry| registry.path()).collect();
    registries.sort();
    flags.extend(registries.iter().map(|path| format!("--remap-path-prefix={}=", path.display())));
    flags
}

/// Whether Rust's standard library for a target is installed, for the toolchain that
/// rust-toolchain.toml names.
pub(crate) fn has_target(target: Target) -> bool {
    let libraries = Command::new("rustc")
        .current_dir(root())
        .args(["--print", "target-libdir", "--target", target.triple()])
        .output();
    libraries.is_ok_and(|output| {
        let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        fs::read_dir(directory).is_ok_and(|entries| entries.count() > 0)
    })
}

/// Installs Rust's standard library for a target unless it is there, for this user only.
pub(crate) fn add_target(target: Target) -> Result<(), String> {
    if has_target(target) {
        return Ok(());
    }
    let triple = target.triple();
    let mut rustup = Command::new("rustup");
    rustup.current_dir(root()).args(["target", "add", triple]);
    if step::run(&format!("rustup target add {triple}"), &mut rustup).succeeded {
        Ok(())
    } else {
        Err(format!("Rust's standard library for {triple} is missing: run rustup target add {triple}"))
    }
}
