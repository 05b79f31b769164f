//! An app for pods: a shell, its tools and curl, from Debian. And images of other content, as `ctr` imports them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dexsidecar_fetch::counterparts;
use ring::digest::{SHA256, digest};
use serde_json::json;

use crate::prebuilt;

/// The app's name on the node.
pub const APP: &str = "localhost/app:1";

/// The app's root folder, in the cache.
///
/// # Panics
/// Where Debian's packages cannot be had.
#[must_use]
pub fn root() -> PathBuf {
    prebuilt::packages(&counterparts::APP)
}

/// Writes the app's image into a folder. Its entrypoint sleeps: pods say what else it is to do.
///
/// # Panics
/// When the folder cannot be written to.
#[must_use]
pub fn app(folder: &Path) -> PathBuf {
    let root = root();
    write(folder, APP, &["/bin/busybox", "sleep", "infinity"], |layer| {
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

/// Writes an image with these files into a folder.
///
/// # Panics
/// When the folder cannot be written to.
#[must_use]
pub fn of_files(folder: &Path, name: &str, entrypoint: &[&str], files: &[(String, u32, Vec<u8>)]) -> PathBuf {
    write(folder, name, entrypoint, |layer| {
        for (path, mode, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            layer.append_data(&mut header, path, &content[..])?;
        }
        Ok(())
    })
}

/// The format of `docker save`.
fn write(
    folder: &Path,
    name: &str,
    entrypoint: &[&str],
    fill: impl FnOnce(&mut tar::Builder<Vec<u8>>) -> io::Result<()>,
) -> PathBuf {
    let mut layer = tar::Builder::new(vec![]);
    layer.mode(tar::HeaderMode::Deterministic);
    layer.follow_symlinks(false);
    fill(&mut layer).expect("the files can be read");
    let layer = layer.into_inner().expect("memory can be written to");
    let sum: String = digest(&SHA256, &layer).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin:/usr/bin"], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]}
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let path = folder.join(format!("{}.tar", name.replace(['/', ':'], "-")));
    let mut archive = tar::Builder::new(File::create(&path).expect("the folder can be written to"));
    for (name, content) in [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &content[..]).expect("the folder can be written to");
    }
    archive.finish().expect("the folder can be written to");
    path
}

fn append(layer: &mut tar::Builder<Vec<u8>>, from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(from)?.is_dir() {
        layer.append_dir_all(to, from)
    } else {
        layer.append_path_with_name(from, to)
    }
}
