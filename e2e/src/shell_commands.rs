//! Commands that users copy from a page, run as they are: by a shell, in a directory with the files
//! that the page names, and with `kubectl` on a real control plane.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::control_plane::ControlPlane;
use crate::doc_manifests;

/// A directory with a copy of `deploy`, in which commands are run.
pub struct Shell {
    directory: TempDir,
}

impl Shell {
    /// `kubectl` uses this control plane, and this namespace by default.
    ///
    /// # Panics
    /// If the temporary directory is not writable.
    #[must_use]
    pub fn new(plane: &ControlPlane, namespace: &str) -> Self {
        let shell = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        fs::create_dir(shell.path("bin")).expect("the temporary directory is writable");
        symlink(plane.kubectl_program(), shell.path("bin/kubectl")).expect("it is writable");
        symlink(doc_manifests::root().join("deploy"), shell.path("deploy")).expect("it is writable");
        fs::copy(plane.kubeconfig(), shell.path("kubeconfig")).expect("it is writable");
        let context = format!("kubectl config set-context --current --namespace {namespace}");
        shell.run(&context).unwrap_or_else(|why| panic!("{why}"));
        shell
    }

    /// The path of a file in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file of the directory, whose parent is created.
    ///
    /// # Panics
    /// If the temporary directory is not writable.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in the directory")).expect("it is writable");
        fs::write(path, content).expect("it is writable");
    }

    /// Runs a command. Gives its standard output.
    ///
    /// # Errors
    /// Its standard error, if it fails.
    ///
    /// # Panics
    /// If there is no shell.
    pub fn run(&self, line: &str) -> Result<String, String> {
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(self.directory.path())
            .env("KUBECONFIG", self.path("kubeconfig"))
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .output()
            .expect("sh can be started");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}
