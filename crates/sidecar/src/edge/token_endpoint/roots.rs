//! The certificates that are trusted: an own CA file, or the system's as Go's crypto/x509 finds them on Linux.

use std::path::{Path, PathBuf};

use dexsidecar_core::failure::{Code, Failure};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::super::input_file;

/// No bundle is larger, in bytes; Debian's is 220 kB.
const LARGEST: usize = 16 * 1024 * 1024;

/// Where distributions keep their bundle; the first that can be read is used (crypto/x509/root_linux.go).
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Folders whose files are all read besides (crypto/x509/root_linux.go).
const FOLDERS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// Where trust comes from. Read again at each handshake, and not kept.
#[derive(Clone, Debug)]
pub enum Roots {
    /// This file, and nothing else.
    File(PathBuf),
    /// The system's.
    System {
        /// `SSL_CERT_FILE`: instead of the usual bundles.
        file: Option<PathBuf>,
        /// `SSL_CERT_DIR`: instead of the usual folders.
        folders: Option<Vec<PathBuf>>,
    },
}

/// Trusted certificates, as rustls wants them and as they are.
pub(super) struct Trusted {
    pub(super) store: RootCertStore,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// The system's, with the values of `SSL_CERT_FILE` and `SSL_CERT_DIR` (colons between folders); empty is unset.
    #[must_use]
    pub fn system(file: Option<&str>, folders: Option<&str>) -> Self {
        let set = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(str::to_owned);
        Self::System {
            file: set(file).map(PathBuf::from),
            folders: set(folders).map(|list| list.split(':').map(PathBuf::from).collect()),
        }
    }

    /// Reads them all.
    ///
    /// # Errors
    /// An own file must be there and be sound; of the system's there must be at least one.
    pub(super) fn read(&self) -> Result<Trusted, Failure> {
        match self {
            Self::File(path) => own(path),
            Self::System { file, folders } => system(file.as_deref(), folders.as_deref()),
        }
    }
}

/// Half a bundle would load as fewer roots without a word (F13), so whatever is odd is an error here.
fn own(path: &Path) -> Result<Trusted, Failure> {
    let content = input_file::read(path, LARGEST)
        .map_err(|why| Failure::new(Code::CaFileUnreadable, format!("{}: {why}", path.display())))?;
    let invalid = |why: &str| Failure::new(Code::CaFileInvalid, format!("{}: {why}", path.display()));
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&content) {
        certificates.push(certificate.map_err(|_| invalid("a certificate is cut off or not PEM"))?);
    }
    let begun = count(&content, b"-----BEGIN CERTIFICATE-----");
    if certificates.len() != begun {
        return Err(invalid("a certificate is cut off"));
    }
    if certificates.is_empty() {
        return Err(invalid("it holds none"));
    }
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|_| invalid("one of them is no X.509 v3 certificate"))?;
    }
    Ok(Trusted { store, certificates })
}

fn count(content: &[u8], words: &[u8]) -> usize {
    content.windows(words.len()).filter(|part| *part == words).count()
}

/// Whatever can be used of what is there, as Go does.
fn system(file: Option<&Path>, folders: Option<&[PathBuf]>) -> Result<Trusted, Failure> {
    let bundles = file.map_or_else(|| BUNDLES.iter().map(Path::new).collect(), |file| vec![file]);
    let bundle = bundles.iter().find_map(|path| input_file::read(path, LARGEST).ok());
    let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
    let mut add =
        |content: &[u8]| certificates.extend(CertificateDer::pem_slice_iter(content).filter_map(Result::ok));
    bundle.iter().for_each(|content| add(content));
    let usual: Vec<PathBuf>;
    let folders = match folders {
        Some(folders) => folders,
        None => {
            usual = FOLDERS.iter().map(PathBuf::from).collect();
            &usual
        }
    };
    for file in folders.iter().flat_map(|folder| files(folder)) {
        if let Ok(content) = input_file::read(&file, LARGEST) {
            add(&content);
        }
    }
    // A bundle and a folder mostly hold the same certificates.
    certificates.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
    certificates.dedup();
    let mut store = RootCertStore::empty();
    certificates.retain(|certificate| store.add(certificate.clone()).is_ok());
    if certificates.is_empty() {
        Err(Failure::new(Code::NoRoots, ""))
    } else {
        Ok(Trusted { store, certificates })
    }
}

/// A folder's entries, without links to others of them: those are c_rehash's names for what is there already.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let same_folder = |path: &Path| {
        std::fs::read_link(path).is_ok_and(|target| target.components().count() == 1 && !target.is_absolute())
    };
    entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| !same_folder(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> String {
        let mut parameters = rcgen::CertificateParams::new(vec!["ca.test".to_owned()]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn found(roots: &Roots) -> Result<usize, Code> {
        roots.read().map(|trusted| trusted.certificates.len()).map_err(|failure| failure.code)
    }

    #[test]
    fn f13_a_bundle_cut_off_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let roots = Roots::File(path.clone());
        assert_eq!(found(&roots), Err(Code::CaFileUnreadable));
        let (first, second) = (pem(), pem());
        std::fs::write(&path, format!("# a comment\n{first}{second}")).unwrap();
        assert_eq!(found(&roots), Ok(2));
        let whole = format!("{first}{}", second.trim_end());
        for end in first.len() + 28..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(found(&roots), Err(Code::CaFileInvalid), "cut off at {end}");
        }
        for empty in ["", "no certificate"] {
            std::fs::write(&path, empty).unwrap();
            assert_eq!(found(&roots), Err(Code::CaFileInvalid));
        }
    }

    #[test]
    fn the_system_s_are_found_as_go_finds_them() {
        let dir = tempfile::tempdir().unwrap();
        let (bundle, folder) = (dir.path().join("bundle.pem"), dir.path().join("certs"));
        std::fs::create_dir(&folder).unwrap();
        let shared = pem();
        std::fs::write(&bundle, format!("{shared}{}", pem())).unwrap();
        std::fs::write(folder.join("mine.crt"), pem()).unwrap();
        std::fs::write(folder.join("shared.crt"), &shared).unwrap();
        std::fs::write(folder.join("README"), "not a certificate").unwrap();
        std::os::unix::fs::symlink("mine.crt", folder.join("0a1b2c3d.0")).unwrap();
        let (file, list) = (bundle.to_str().unwrap(), format!("/does/not/exist:{}", folder.display()));
        assert_eq!(found(&Roots::system(Some(file), Some(&list))), Ok(3));
        assert_eq!(found(&Roots::system(Some("/does/not/exist"), Some(&list))), Ok(2));
        assert_eq!(found(&Roots::system(Some("/does/not/exist"), Some("/nor/this"))), Err(Code::NoRoots));
    }
}
