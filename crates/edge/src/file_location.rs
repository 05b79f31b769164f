//! Where paths lead: a file is recognised in each of its spellings, such as a relative one, or one
//! through a linked directory.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dexsidecar_core::config::Locate;

/// Compares what the file system finds at the paths.
pub const LOCATE: Locate = Locate { entry, target };

/// How many symbolic links the kernel follows (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Device and inode of the nearest directory that exists, and the path from there. So a directory
/// that is mounted twice is one, too.
fn entry(path: &Path) -> OsString {
    for directory in path.ancestors().skip(1) {
        let named = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let Some(status) = std::fs::metadata(named).ok().filter(|status| status.is_dir()) else { continue };
        let rest: PathBuf = path.strip_prefix(directory).unwrap_or(path).components().collect();
        let mut entry = OsString::from(format!("{}:{}/", status.dev(), status.ino()));
        entry.push(rest);
        return entry;
    }
    path.into()
}

/// The entry at the end of the symbolic links.
fn target(path: &Path) -> OsString {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(link) = std::fs::read_link(&path) else { break };
        path.pop();
        path.push(link);
    }
    entry(&path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory with a file `dir/file`, a link `linked` to `dir`, and links to the file.
    fn directory() -> tempfile::TempDir {
        let made = tempfile::tempdir().unwrap();
        let at = |name: &str| made.path().join(name);
        std::fs::create_dir(at("dir")).unwrap();
        std::fs::write(at("dir/file"), "").unwrap();
        symlink("dir", at("linked")).unwrap();
        symlink("linked/file", at("relative")).unwrap();
        symlink(at("relative"), at("absolute")).unwrap();
        symlink("loop", at("loop")).unwrap();
        made
    }

    #[test]
    fn spellings_of_one_entry_are_equal() {
        let made = directory();
        let at = |name: &str| made.path().join(name);
        let expected = entry(&at("dir/file"));
        for spelling in ["linked/file", "dir/../linked//./file", "dir/file/"] {
            assert_eq!(entry(&at(spelling)), expected, "{spelling}");
        }
        assert_eq!(entry(&at("dir/new/token")), entry(&at("linked/new//token")));
        for other in ["dir/other", "relative", "file", "dir/new/token"] {
            assert_ne!(entry(&at(other)), expected, "{other}");
        }
    }

    #[test]
    fn relative_paths_are_those_of_the_working_directory() {
        let here = std::env::current_dir().unwrap();
        for spelling in ["token", "./token", "src/../token"] {
            assert_eq!(entry(Path::new(spelling)), entry(&here.join("token")), "{spelling}");
        }
        assert_eq!(entry(Path::new("missing/token")), entry(&here.join("missing/token")));
    }

    #[test]
    fn links_lead_to_their_target_and_a_loop_ends() {
        let made = directory();
        let at = |name: &str| made.path().join(name);
        for link in ["relative", "absolute", "dir/file"] {
            assert_eq!(target(&at(link)), entry(&at("dir/file")), "{link}");
        }
        assert_eq!(target(&at("loop")), entry(&at("loop")));
        assert_eq!(target(&at("missing")), entry(&at("missing")));
    }
}
