//! Loads the trusted certificates: from the configured CA file, or from the system's locations,
//! which are those of Go's crypto/x509 on Linux.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dexsidecar_core::failure::{Code, Failure};
use ring::digest::{SHA256, digest};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::super::input_file;
use super::certificate::Certificate;

/// The largest CA file that is read, in bytes. Debian's bundle has 220 kB.
const LARGEST: usize = 16 * 1024 * 1024;

/// The bundles of Linux distributions. The first readable one is used (crypto/x509/root_linux.go).
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Directories of which all files are read as well (crypto/x509/root_linux.go).
const DIRECTORIES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// The source of the trusted certificates. They are loaded at each handshake and not kept.
#[derive(Clone, Debug)]
pub enum Roots {
    /// Only this file.
    File(PathBuf),
    /// The locations of the system.
    System {
        /// `SSL_CERT_FILE`, which replaces the default bundles.
        file: Option<PathBuf>,
        /// `SSL_CERT_DIR`, which replaces the default directories.
        directories: Option<Vec<PathBuf>>,
    },
}

/// The trusted certificates, as trust anchors of rustls and as digests. The certificates themselves
/// are not kept: those of a system bundle would take another 200 kB.
#[derive(Debug)]
pub(super) struct Trusted {
    /// Names and keys of the certificates that may issue others.
    pub(super) store: RootCertStore,
    /// The digests of all certificates.
    pub(super) pinned: PinnedCerts,
}

/// A set of certificates, as SHA-256 digests.
#[derive(Debug, Default)]
pub(super) struct PinnedCerts(BTreeSet<[u8; 32]>);

impl PinnedCerts {
    fn digest_of(certificate: &[u8]) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        bytes
    }

    /// Whether the set has this certificate, byte for byte.
    pub(super) fn contains(&self, certificate: &[u8]) -> bool {
        self.0.contains(&Self::digest_of(certificate))
    }

    /// The number of certificates.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

impl Trusted {
    fn none() -> Self {
        Self { store: RootCertStore::empty(), pinned: PinnedCerts::default() }
    }

    /// Adds a certificate. Returns false if it is not X.509. A version 3 certificate without
    /// CA:TRUE is only trusted as a server certificate: it must not become a trust anchor, because
    /// webpki does not check anchors for CA:TRUE.
    fn add(&mut self, certificate: CertificateDer<'_>) -> bool {
        let digest = PinnedCerts::digest_of(&certificate);
        let may_issue = Certificate::parse(&certificate).is_none_or(|read| read.may_issue());
        self.pinned.0.contains(&digest)
            || (!may_issue || self.store.add(certificate).is_ok()) && self.pinned.0.insert(digest)
    }
}

impl Roots {
    /// The locations of the system, with the values of `SSL_CERT_FILE` and `SSL_CERT_DIR`
    /// (directories separated by colons). Empty counts as unset.
    #[must_use]
    pub fn system(file: Option<&str>, directories: Option<&str>) -> Self {
        let set = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(str::to_owned);
        Self::System {
            file: set(file).map(PathBuf::from),
            directories: set(directories).map(|list| list.split(':').map(PathBuf::from).collect()),
        }
    }

    /// Loads all certificates.
    ///
    /// # Errors
    /// [`Code::CaFileUnreadable`] and [`Code::CaFileInvalid`] for a configured file.
    /// [`Code::NoRoots`] if the system has no certificate.
    pub(super) fn read(&self) -> Result<Trusted, Failure> {
        match self {
            Self::File(path) => load_file(path),
            Self::System { file, directories } => {
                let bundles =
                    file.clone().map_or_else(|| BUNDLES.map(PathBuf::from).to_vec(), |file| vec![file]);
                let directories =
                    directories.clone().unwrap_or_else(|| DIRECTORIES.map(PathBuf::from).to_vec());
                load_system(&bundles, &directories)
            }
        }
    }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Loads a configured CA file. A truncated bundle would load as fewer roots without notice (F13),
/// so every unusable certificate is an error. Comments, other PEM types and byte order marks
/// between certificates are ignored.
///
/// # Errors
/// [`Code::CaFileUnreadable`], [`Code::CaFileInvalid`].
fn load_file(path: &Path) -> Result<Trusted, Failure> {
    let content = input_file::read(path, LARGEST)
        .map_err(|why| Failure::new(Code::CaFileUnreadable, format!("{}: {why}", path.display())))?;
    let invalid = |why: &str| Failure::new(Code::CaFileInvalid, format!("{}: {why}", path.display()));
    if content.trim_ascii().is_empty() {
        return Err(invalid("the file is empty"));
    }
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        return Err(invalid("the file is UTF-16: save it as UTF-8 or ASCII"));
    }
    let text = normalize_boundaries(&content);
    let begin_lines: Vec<usize> =
        (1..).zip(lines(&text)).filter(|(_, line)| line.starts_with(BEGIN)).map(|(n, _)| n).collect();
    let mut trusted = Trusted::none();
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let line = begin_lines.get(count).copied().unwrap_or_default();
        let unusable = |why: &str| invalid(&format!("certificate {} (line {line}) {why}", count + 1));
        let certificate = certificate.map_err(|_| unusable("is truncated or not PEM"))?;
        if !trusted.add(certificate) {
            return Err(unusable("is not an X.509 certificate"));
        }
        count += 1;
    }
    match begin_lines.get(count) {
        Some(line) => return Err(invalid(&format!("certificate {} (line {line}) is truncated", count + 1))),
        None if count == 0 => return Err(invalid("the file has no BEGIN CERTIFICATE")),
        None => {}
    }
    // A last line without a line break may be the beginning of another certificate.
    let last = content.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if !last.is_empty() && BEGIN.starts_with(last) {
        return Err(invalid(&format!("the file is truncated after certificate {count}")));
    }
    Ok(trusted)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// Puts every BEGIN and END at the start of a line: removes indentation and byte order marks, and
/// adds a line break where two files were joined without one.
fn normalize_boundaries(content: &[u8]) -> Vec<u8> {
    const JOINED: &[u8] = b"-----END CERTIFICATE----------BEGIN CERTIFICATE-----";
    let mut text = Vec::with_capacity(content.len() + 1);
    for line in lines(content) {
        let mut line = line.trim_ascii_start();
        while let Some(rest) = line.strip_prefix(BYTE_ORDER_MARK) {
            line = rest.trim_ascii_start();
        }
        if line.starts_with(JOINED) {
            let (end, begin) = line.split_at(JOINED.len() - BEGIN.len());
            text.extend([end, b"\n", begin].concat());
        } else {
            text.extend(line);
        }
        text.push(b'\n');
    }
    text
}

/// Loads every usable certificate of the system, as Go does: those of the first readable bundle,
/// and of every file in every directory.
///
/// # Errors
/// [`Code::NoRoots`].
fn load_system(bundles: &[PathBuf], directories: &[PathBuf]) -> Result<Trusted, Failure> {
    let mut trusted = Trusted::none();
    let mut add = |content: &[u8]| {
        for certificate in CertificateDer::pem_slice_iter(content).filter_map(Result::ok) {
            trusted.add(certificate);
        }
    };
    let bundle = bundles.iter().find_map(|path| Some((path, input_file::read(path, LARGEST).ok()?)));
    if let Some((_, content)) = &bundle {
        add(content);
    }
    for file in directories.iter().flat_map(|directory| files(directory)) {
        // The default bundle is in one of the default directories, and is by far the largest file
        // there.
        let read_already = bundle.as_ref().is_some_and(|(path, _)| **path == file);
        if !read_already && let Ok(content) = input_file::read(&file, LARGEST) {
            add(&content);
        }
    }
    if trusted.pinned.count() > 0 {
        return Ok(trusted);
    }
    let searched: Vec<_> = bundles.iter().chain(directories).map(|path| path.display().to_string()).collect();
    Err(Failure::new(Code::NoRoots, format!("searched {}", searched.join(", "))))
}

/// The entries of a directory, without symbolic links to other entries, which c_rehash creates.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let links_to_sibling = |path: &PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| !target.as_os_str().as_bytes().contains(&b'/'))
    };
    entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| !links_to_sibling(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::tests::certificates::{self, Ca};
    use super::*;

    fn ca_pem() -> String {
        Ca::new("ca.test").pem()
    }

    fn loaded(roots: &Roots) -> Result<usize, Code> {
        roots.read().map(|trusted| trusted.pinned.count()).map_err(|failure| failure.code)
    }

    #[test]
    fn f013_a_bundle_truncated_anywhere_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let roots = Roots::File(path.clone());
        assert_eq!(loaded(&roots), Err(Code::CaFileUnreadable));
        let (first, second) = (ca_pem(), ca_pem());
        let comment = "# a comment\n=====\n";
        std::fs::write(&path, format!("{comment}{first}{comment}{second}{comment}")).unwrap();
        assert_eq!(loaded(&roots), Ok(2));
        let bundle = format!("{first}{}", second.trim_end());
        assert_eq!(&bundle[first.len()..first.len() + 10], "-----BEGIN");
        for end in first.len() + 1..bundle.len() {
            std::fs::write(&path, &bundle[..end]).unwrap();
            assert_eq!(loaded(&roots), Err(Code::CaFileInvalid), "truncated at {end}");
        }
        for end in 0..first.trim_end().len() {
            std::fs::write(&path, &bundle[..end]).unwrap();
            assert_eq!(loaded(&roots), Err(Code::CaFileInvalid), "truncated at {end}");
        }
        std::fs::write(&path, &bundle).unwrap();
        assert_eq!(loaded(&roots), Ok(2));
    }

    #[test]
    fn f139_text_around_certificates_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let roots = Roots::File(path.clone());
        let (one, two) = (ca_pem(), ca_pem());
        let indented: String = one.lines().map(|line| format!("    {line}\n")).collect();
        for (content, count) in [
            (format!("\u{feff}{one}"), 1),
            (format!("{one}\u{feff}{two}"), 2),
            (format!("# -----BEGIN CERTIFICATE-----\n{one}"), 1),
            (format!("# the BEGIN of it\n{one}# -----END CERTIFICATE-----\n{two}"), 2),
            (format!("{one}---\n"), 1),
            (format!("---\n{one}---\n{two}-----\n"), 2),
            (format!("{one}--------------------"), 1),
            (indented, 1),
            (format!("{}{two}", one.trim_end()), 2),
            (format!("{one}-----BEGIN X509 CRL-----\nQUJD\n-----END X509 CRL-----\n"), 1),
            (format!("Certificate:\n    Data:\n        Version: 3 (0x2)\n{one}"), 1),
        ] {
            std::fs::write(&path, &content).unwrap();
            assert_eq!(loaded(&roots), Ok(count), "{content}");
        }
    }

    #[test]
    fn f139_a_failure_names_the_certificate_and_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let one = ca_pem();
        let lines = one.lines().count();
        let second = |body: &str| format!("{one}-----BEGIN CERTIFICATE-----\n{body}");
        for (content, why) in [
            (
                second("QUJD\n-----END CERTIFICATE-----\n"),
                format!("certificate 2 (line {}) is not an X.509 certificate", lines + 1),
            ),
            (
                second("!!!\n-----END CERTIFICATE-----\n"),
                format!("certificate 2 (line {}) is truncated or not PEM", lines + 1),
            ),
            (second("QUJD\n"), format!("certificate 2 (line {}) is truncated or not PEM", lines + 1)),
            (format!("{one}-----BEG"), "the file is truncated after certificate 1".to_owned()),
            ("\u{feff}nothing".to_owned(), "the file has no BEGIN CERTIFICATE".to_owned()),
        ] {
            std::fs::write(&path, &content).unwrap();
            let failure = Roots::File(path.clone()).read().unwrap_err();
            assert_eq!(failure.code, Code::CaFileInvalid);
            assert!(failure.detail.ends_with(&why), "{failure}");
        }
        std::fs::write(&path, b"\xff\xfe-\0-\0").unwrap();
        assert!(Roots::File(path).read().unwrap_err().detail.contains("UTF-16"));
    }

    #[test]
    fn f013_unusable_certificates_in_a_ca_file_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let roots = Roots::File(path.clone());
        let key = certificates::private_key_pem();
        for (content, expected) in [
            (String::new(), Err(Code::CaFileInvalid)),
            (" \n".to_owned(), Err(Code::CaFileInvalid)),
            ("no certificate".to_owned(), Err(Code::CaFileInvalid)),
            (key.clone(), Err(Code::CaFileInvalid)),
            (
                format!("{}-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n", ca_pem()),
                Err(Code::CaFileInvalid),
            ),
            (
                format!("{}-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", ca_pem()),
                Err(Code::CaFileInvalid),
            ),
            (format!("{key}{}", ca_pem()), Ok(1)),
            (ca_pem().replace('\n', "\r\n"), Ok(1)),
            (ca_pem().trim_end().to_owned(), Ok(1)),
        ] {
            std::fs::write(&path, &content).unwrap();
            assert_eq!(loaded(&roots), expected, "{content}");
        }
        assert_eq!(loaded(&Roots::File(dir.path().to_owned())), Err(Code::CaFileUnreadable));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(loaded(&Roots::File(fifo)), Err(Code::CaFileUnreadable));
    }

    #[test]
    fn certificates_of_the_system_are_found_as_by_go() {
        let dir = tempfile::tempdir().unwrap();
        let (bundle, directory) = (dir.path().join("bundle.pem"), dir.path().join("certs"));
        std::fs::create_dir(&directory).unwrap();
        let shared = ca_pem();
        std::fs::write(&bundle, format!("{shared}{}", ca_pem())).unwrap();
        std::fs::write(directory.join("mine.crt"), ca_pem()).unwrap();
        std::fs::write(directory.join("shared.crt"), &shared).unwrap();
        std::fs::write(directory.join("README"), "not a certificate").unwrap();
        std::fs::write(directory.join("truncated.pem"), &shared[..shared.len() / 2]).unwrap();
        symlink("mine.crt", directory.join("0a1b2c3d.0")).unwrap();
        let (file, list) = (bundle.to_str().unwrap(), format!("/does/not/exist:{}", directory.display()));
        assert_eq!(loaded(&Roots::system(Some(file), Some(&list))), Ok(3));
        assert_eq!(loaded(&Roots::system(Some("/does/not/exist"), Some(&list))), Ok(2));
        let none = Roots::system(Some("/does/not/exist"), Some("/nor/this")).read().unwrap_err();
        assert_eq!((none.code, none.detail.as_str()), (Code::NoRoots, "searched /does/not/exist, /nor/this"));
    }

    #[test]
    fn only_the_first_readable_bundle_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let [missing, empty, full] = ["missing", "empty", "full"].map(|name| dir.path().join(name));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&full, ca_pem()).unwrap();
        assert_eq!(load_system(&[missing.clone(), full.clone()], &[]).unwrap().pinned.count(), 1);
        // As in Go, an empty bundle is a readable one.
        assert_eq!(load_system(&[missing, empty, full], &[]).unwrap_err().code, Code::NoRoots);
    }

    #[test]
    fn a_kubernetes_volume_is_read_as_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("..2026")).unwrap();
        std::fs::write(dir.path().join("..2026/ca.crt"), ca_pem()).unwrap();
        symlink("..2026", dir.path().join("..data")).unwrap();
        symlink("..data/ca.crt", dir.path().join("ca.crt")).unwrap();
        assert_eq!(loaded(&Roots::system(Some("/does/not/exist"), dir.path().to_str())), Ok(1));
    }
}
