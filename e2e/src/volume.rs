//! A projected volume, swapped as the kubelet's atomic writer swaps it (pkg/volume/util/atomic_writer.go).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

/// A folder with `token -> ..data/token` and `..data -> ..<time>`.
#[derive(Debug)]
pub struct Volume {
    folder: TempDir,
    swaps: AtomicUsize,
}

impl Volume {
    /// One that holds this token, without a newline.
    ///
    /// # Panics
    /// When the temporary folder cannot be written to; so do all others here.
    #[must_use]
    pub fn with(token: &str) -> Self {
        let volume =
            Self { folder: tempfile::tempdir().expect("a temporary folder"), swaps: AtomicUsize::new(0) };
        volume.put(token);
        symlink("..data/token", volume.token()).expect("the folder can be written to");
        volume
    }

    /// The path that a container would name.
    #[must_use]
    pub fn token(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    /// Replaces the token as the kubelet does.
    pub fn put(&self, token: &str) {
        let folder = self.folder.path();
        let old = fs::read_link(folder.join("..data"));
        let name = format!("..2026_11_24_00_00_00.{:09}", self.swaps.fetch_add(1, Ordering::SeqCst));
        fs::create_dir(folder.join(&name)).expect("the folder can be written to");
        fs::write(folder.join(&name).join("token"), token).expect("the folder can be written to");
        symlink(&name, folder.join("..data_tmp")).expect("the folder can be written to");
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("the folder can be written to");
        if let Ok(old) = old {
            fs::remove_dir_all(folder.join(old)).expect("the old folder can be removed");
        }
    }
}
