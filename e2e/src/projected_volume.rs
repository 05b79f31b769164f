//! A projected volume, updated as the kubelet's atomic writer updates it
//! (Kubernetes pkg/volume/util/atomic_writer.go).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

/// A directory with `token -> ..data/token` and `..data -> ..<time>`.
#[derive(Debug)]
pub struct ProjectedVolume {
    directory: TempDir,
    updates: AtomicUsize,
}

impl ProjectedVolume {
    /// A volume with this token, without a newline.
    ///
    /// # Panics
    /// When the temporary directory is not writable. The other functions panic likewise.
    #[must_use]
    pub fn with(token: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let volume = Self { directory, updates: AtomicUsize::new(0) };
        volume.replace_token(token);
        symlink("..data/token", volume.token()).expect("the directory is writable");
        volume
    }

    /// The path of the token as a container names it.
    #[must_use]
    pub fn token(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    /// Replaces the token as the kubelet does.
    pub fn replace_token(&self, token: &str) {
        let directory = self.directory.path();
        let old = fs::read_link(directory.join("..data"));
        let name = format!("..2026_11_24_00_00_00.{:09}", self.updates.fetch_add(1, Ordering::SeqCst));
        fs::create_dir(directory.join(&name)).expect("the directory is writable");
        fs::write(directory.join(&name).join("token"), token).expect("the directory is writable");
        symlink(&name, directory.join("..data_tmp")).expect("the directory is writable");
        fs::rename(directory.join("..data_tmp"), directory.join("..data"))
            .expect("the directory is writable");
        if let Ok(old) = old {
            fs::remove_dir_all(directory.join(old)).expect("the directory is writable");
        }
    }
}
