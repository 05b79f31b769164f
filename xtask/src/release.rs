//! The binary as it ships: static, musl, linked by the linker that comes with Rust. Only ring's C needs a C compiler.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use dexsidecar_fetch::debian::Packages;

use crate::{cargo, root, step, target_folder};

/// A machine to build for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    X86_64,
    Aarch64,
}

/// What makes the binary small without making it another one: relative relocations packed, equal functions folded, and no
/// index for unwinding, which a program that aborts on panic never does. See docs/footprint.md for what each saves.
const LINK: [&str; 4] = [
    "-Clink-arg=-zpack-relative-relocs",
    "-Clink-arg=--icf=all",
    "-Clink-arg=--no-eh-frame-hdr",
    "-Clink-arg=--build-id=none",
];

/// A gcc for aarch64.
const CROSS_COMPILER: Packages = Packages {
    name: "gcc-aarch64",
    packages: &[
        "gcc-12-aarch64-linux-gnu",
        "cpp-12-aarch64-linux-gnu",
        "binutils-aarch64-linux-gnu",
        "libgcc-12-dev-arm64-cross",
        "libc6-dev-arm64-cross",
        "linux-libc-dev-arm64-cross",
        "libmpc3",
        "libmpfr6",
        "libgmp10",
        "libisl23",
    ],
    backports: false,
};

/// ring's C is compiled without tables for unwinding too.
const C_FLAGS: &str = "-fno-asynchronous-unwind-tables -fno-unwind-tables";

impl Target {
    /// Rust's name for it.
    pub(crate) const fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-musl",
        }
    }

    /// OCI's name for it.
    pub(crate) const fn platform(self) -> &'static str {
        match self {
            Self::X86_64 => "linux/amd64",
            Self::Aarch64 => "linux/arm64",
        }
    }

    /// OCI's name for its architecture.
    pub(crate) const fn arch(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// A compiler for ring's C, and where its own libraries are if they are not the system's. It is free-standing code:
    /// any gcc of the architecture does, whatever its libc.
    fn compiler(self) -> Result<(PathBuf, Option<PathBuf>), String> {
        if self == Self::X86_64 && cfg!(target_arch = "x86_64")
            || self == Self::Aarch64 && cfg!(target_arch = "aarch64")
        {
            let have = |name: &str| Command::new(name).arg("--version").output().is_ok();
            return ["gcc", "clang", "cc"]
                .into_iter()
                .find(|name| have(name))
                .map(|name| (name.into(), None))
                .ok_or_else(|| "a C compiler is needed for ring: install gcc or clang".to_owned());
        }
        let Self::Aarch64 = self else {
            return Err("building for x86_64 needs an x86_64 machine".to_owned());
        };
        let folder = CROSS_COMPILER.unpacked()?;
        Ok((folder.join("usr/bin/aarch64-linux-gnu-gcc-12"), Some(folder)))
    }
}

/// Builds it. Gives where it is.
pub(crate) fn build(target: Target) -> Result<PathBuf, String> {
    add_target(target)?;
    let (compiler, tools) = target.compiler()?;
    let triple = target.triple();
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
    if !step::run(&format!("the static binary: cargo build --release --target {triple}"), &mut command).good {
        return Err(format!("dexsidecar cannot be built for {triple}"));
    }
    let binary = target_folder().join(triple).join("release/dexsidecar");
    let size = fs::metadata(&binary).map_err(|error| format!("{}: {error}", binary.display()))?.len();
    println!("   {triple}: {size} bytes");
    Ok(binary)
}

/// How to link, and no path of this machine: the same sources give the same binary everywhere.
fn rust_flags() -> Vec<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let mut flags: Vec<String> = LINK.map(str::to_owned).into();
    flags.push(format!("--remap-path-prefix={}=dexsidecar", root().display()));
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=cargo", home.display())));
    flags
}

/// The standard library for the target, of the toolchain that is pinned. rustup adds it for this user only.
fn add_target(target: Target) -> Result<(), String> {
    let triple = target.triple();
    let sysroot = Command::new("rustc")
        .current_dir(root())
        .args(["--print", "target-libdir", "--target", triple])
        .output();
    let there = sysroot.is_ok_and(|output| {
        let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        fs::read_dir(folder).is_ok_and(|entries| entries.count() > 0)
    });
    if there {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.current_dir(root()).args(["target", "add", triple]);
    if step::run(&format!("rustup target add {triple}"), &mut rustup).good {
        Ok(())
    } else {
        Err(format!("Rust's standard library for {triple} is missing: type rustup target add {triple}"))
    }
}
