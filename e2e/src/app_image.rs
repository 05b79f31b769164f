//! The image of the pods' app: a shell, its tools and curl from Debian. It also writes images of
//! other files, in the format that `ctr` imports.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dexsidecar_fetch::counterparts;
use ring::digest::{SHA256, digest};
use serde_json::json;

use crate::prebuilt;

/// The name of the app's image on the node.
pub const APP: &str = "localhost/app:1";

/// The app's root directory, in the cache.
///
/// # Panics
/// If the Debian packages cannot be fetched.
#[must_use]
pub fn root() -> PathBuf {
    prebuilt::packages(&counterparts::APP)
}

/// Writes the app's image into a directory. Its entrypoint sleeps, unless the pod sets a command.
///
/// # Panics
/// If the directory is not writable.
#[must_use]
pub fn write_app(directory: &Path) -> PathBuf {
    let root = root();
    write(directory, APP, &["/bin/busybox", "sleep", "infinity"], |layer| {
        for part in ["bin/busybox", "usr/bin/curl", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"] {
            append(layer, &root.join(part), Path::new(part))?;
        }
        append(layer, &root.join("lib64/ld-linux-x86-64.so.2"), Path::new("lib64/ld-linux-x86-64.so.2"))?;
        for tool in ["sh", "cat", "ls", "sleep", "mv", "rm", "stat", "id", "test", "echo", "date"] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            layer.append_link(&mut header, format!("bin/{tool}"), "busybox")?;
        }
        Ok(())
    })
}

/// Writes an image with these files (path, mode, content) into a directory.
///
/// # Panics
/// If the directory is not writable.
#[must_use]
pub fn write_files(
    directory: &Path,
    name: &str,
    entrypoint: &[&str],
    files: &[(String, u32, Vec<u8>)],
) -> PathBuf {
    write(directory, name, entrypoint, |layer| {
        for (path, mode, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            layer.append_data(&mut header, path, &content[..])?;
        }
        Ok(())
    })
}

/// Writes an image in the format of `docker save`.
fn write(
    directory: &Path,
    name: &str,
    entrypoint: &[&str],
    fill: impl FnOnce(&mut tar::Builder<Vec<u8>>) -> io::Result<()>,
) -> PathBuf {
    let mut layer = tar::Builder::new(vec![]);
    layer.mode(tar::HeaderMode::Deterministic);
    layer.follow_symlinks(false);
    fill(&mut layer).expect("the files can be read");
    let layer = layer.into_inner().expect("memory is writable");
    let sum: String = digest(&SHA256, &layer).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin:/usr/bin"], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]}
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let path = directory.join(format!("{}.tar", name.replace(['/', ':'], "-")));
    let mut archive = tar::Builder::new(File::create(&path).expect("the directory is writable"));
    for (name, content) in [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &content[..]).expect("the directory is writable");
    }
    archive.finish().expect("the directory is writable");
    path
}

fn append(layer: &mut tar::Builder<Vec<u8>>, from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(from)?.is_dir() {
        layer.append_dir_all(to, from)
    } else {
        layer.append_path_with_name(from, to)
    }
}
