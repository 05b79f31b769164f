//! Archives that are equal for equal content: entries in the order of their names, without owners,
//! and with one time.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

/// Writes the content of a directory as a tar archive. Every entry gets this time, in seconds since
/// 1970, or a constant that the crate tar chose. The paths begin below the directory.
pub(crate) fn write<W: io::Write>(directory: &Path, to: W, time: Option<u64>) -> io::Result<W> {
    let mut builder = tar::Builder::new(to);
    for path in entries(directory)? {
        let mut header = tar::Header::new_gnu();
        // Modes 0755 and 0644, no owner.
        header.set_metadata_in_mode(&fs::metadata(&path)?, tar::HeaderMode::Deterministic);
        if let Some(time) = time {
            header.set_mtime(time);
        }
        let name = path.strip_prefix(directory).map_err(io::Error::other)?;
        if path.is_dir() {
            builder.append_data(&mut header, name, io::empty())?;
        } else {
            builder.append_data(&mut header, name, fs::File::open(&path)?)?;
        }
    }
    builder.into_inner()
}

/// The text of a file in a compressed archive.
pub(crate) fn text_in(archive: &Path, name: &str) -> io::Result<String> {
    let mut opened = tar::Archive::new(GzDecoder::new(fs::File::open(archive)?));
    for entry in opened.entries()? {
        let mut entry = entry?;
        if entry.path()? == Path::new(name) {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            return Ok(text);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("{}: it has no {name}", archive.display())))
}

/// Everything below a directory, in the order of the names.
pub(crate) fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        paths.push(entry.path());
        if entry.file_type()?.is_dir() {
            paths.extend(self::entries(&entry.path())?);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A directory whose files were created in this order, by a user with this umask.
    fn directory(names: [&str; 3], mode: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            let executable = if name == "program" { 0o100 } else { 0 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode | executable)).unwrap();
        }
        directory
    }

    #[test]
    fn an_archive_depends_on_names_content_and_time_only() {
        let one = directory(["program", "b/z", "a"], 0o600);
        let other = directory(["a", "program", "b/z"], 0o664);
        let written = |directory: &tempfile::TempDir, time| write(directory.path(), vec![], time).unwrap();
        let archive = written(&one, Some(1_700_000_000));
        assert_eq!(archive, written(&other, Some(1_700_000_000)));
        assert_ne!(archive, written(&other, Some(1_700_000_001)));
        assert_eq!(written(&one, None), written(&other, None));

        let mut archive = tar::Archive::new(archive.as_slice());
        let read = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let (path, header) = (entry.path().unwrap().display().to_string(), entry.header());
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            assert_eq!(header.mtime().unwrap(), 1_700_000_000);
            (path, header.mode().unwrap())
        });
        let expected = [("a", 0o644), ("b", 0o755), ("b/z", 0o644), ("program", 0o755)];
        assert_eq!(read.collect::<Vec<_>>(), expected.map(|(path, mode)| (path.to_owned(), mode)));
    }
}
