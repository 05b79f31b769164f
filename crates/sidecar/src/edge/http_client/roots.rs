//! The certificates that are trusted: an own CA file, or the system's as Go's crypto/x509 finds them on Linux.

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

/// Trusted certificates: as rustls wants them, and by what each can be recognised. The certificates themselves are let
/// go one by one: a system's bundle would be 200 kB more.
#[derive(Debug)]
pub(super) struct Trusted {
    /// The names and keys of them all.
    pub(super) store: RootCertStore,
    /// Which they are.
    pub(super) known: Known,
}

/// A set of certificates, by their SHA-256.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeSet<[u8; 32]>);

impl Known {
    fn digest_of(certificate: &[u8]) -> [u8; 32] {
        let mut own = [0; 32];
        own.copy_from_slice(digest(&SHA256, certificate).as_ref());
        own
    }

    /// True when it is one of them, byte for byte.
    pub(super) fn contains(&self, certificate: &[u8]) -> bool {
        self.0.contains(&Self::digest_of(certificate))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

impl Trusted {
    fn none() -> Self {
        Self { store: RootCertStore::empty(), known: Known::default() }
    }

    /// Adds one, unless it is there already; false if it is not an X.509 certificate. One of version 3 that is not marked
    /// CA:TRUE is trusted as a server's certificate, and signs no others: anchors are not asked for that by webpki.
    fn add(&mut self, certificate: CertificateDer<'_>) -> bool {
        let digest = Known::digest_of(&certificate);
        let may_issue = Certificate::read(&certificate).is_none_or(|read| read.may_issue());
        self.known.0.contains(&digest)
            || (!may_issue || self.store.add(certificate).is_ok()) && self.known.0.insert(digest)
    }
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
            Self::System { file, folders } => {
                let bundles =
                    file.clone().map_or_else(|| BUNDLES.map(PathBuf::from).to_vec(), |file| vec![file]);
                let folders = folders.clone().unwrap_or_else(|| FOLDERS.map(PathBuf::from).to_vec());
                system(&bundles, &folders)
            }
        }
    }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A bundle that is cut off would silently load as fewer roots (F13), so a certificate that cannot be used is an error here.
/// What stands between certificates is none: comments, other kinds of PEM, byte order marks of files that were joined.
fn own(path: &Path) -> Result<Trusted, Failure> {
    let content = input_file::read(path, LARGEST)
        .map_err(|why| Failure::new(Code::CaFileUnreadable, format!("{}: {why}", path.display())))?;
    let invalid = |why: &str| Failure::new(Code::CaFileInvalid, format!("{}: {why}", path.display()));
    if content.trim_ascii().is_empty() {
        return Err(invalid("it is empty"));
    }
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        return Err(invalid("it is UTF-16: save it as UTF-8 or ASCII"));
    }
    let text = one_boundary_a_line(&content);
    let begins: Vec<usize> =
        (1..).zip(lines(&text)).filter(|(_, line)| line.starts_with(BEGIN)).map(|(n, _)| n).collect();
    let mut trusted = Trusted::none();
    let mut whole = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let line = begins.get(whole).copied().unwrap_or_default();
        let unusable = |why: &str| invalid(&format!("certificate {} (line {line}) {why}", whole + 1));
        let certificate = certificate.map_err(|_| unusable("is cut off or not PEM"))?;
        if !trusted.add(certificate) {
            return Err(unusable("is not an X.509 certificate"));
        }
        whole += 1;
    }
    match begins.get(whole) {
        Some(line) => return Err(invalid(&format!("certificate {} (line {line}) is cut off", whole + 1))),
        None if whole == 0 => return Err(invalid("it has no BEGIN CERTIFICATE")),
        None => {}
    }
    // A last line without a line break may be the beginning of a certificate that is missing.
    let last = content.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if !last.is_empty() && BEGIN.starts_with(last) {
        return Err(invalid(&format!("its end is cut off, after certificate {whole}")));
    }
    Ok(trusted)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// The same text with every BEGIN and END at the beginning of a line: without indentation and byte order marks in front,
/// and with a line break where files were joined without one.
fn one_boundary_a_line(content: &[u8]) -> Vec<u8> {
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

/// Whatever can be used of what is there, as Go does: the first bundle that can be read, and every file of every folder.
fn system(bundles: &[PathBuf], folders: &[PathBuf]) -> Result<Trusted, Failure> {
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
    for file in folders.iter().flat_map(|folder| files(folder)) {
        // The usual bundle lies in one of the usual folders, and is most of what there is to read.
        let read_already = bundle.as_ref().is_some_and(|(path, _)| **path == file);
        if !read_already && let Ok(content) = input_file::read(&file, LARGEST) {
            add(&content);
        }
    }
    if trusted.known.count() > 0 {
        return Ok(trusted);
    }
    let looked: Vec<_> = bundles.iter().chain(folders).map(|path| path.display().to_string()).collect();
    Err(Failure::new(Code::NoRoots, format!("looked in {}", looked.join(", "))))
}

/// A folder's entries, without links to others of them: those are c_rehash's names for what is there already.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let to_neighbour = |path: &PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| !target.as_os_str().as_bytes().contains(&b'/'))
    };
    entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| !to_neighbour(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::tests::certificates::{self, Ca};
    use super::*;

    fn pem() -> String {
        Ca::new("ca.test").pem()
    }

    fn found(roots: &Roots) -> Result<usize, Code> {
        roots.read().map(|trusted| trusted.known.count()).map_err(|failure| failure.code)
    }

    #[test]
    fn f013_a_bundle_cut_off_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let roots = Roots::File(path.clone());
        assert_eq!(found(&roots), Err(Code::CaFileUnreadable));
        let (first, second) = (pem(), pem());
        let comment = "# a comment\n=====\n";
        std::fs::write(&path, format!("{comment}{first}{comment}{second}{comment}")).unwrap();
        assert_eq!(found(&roots), Ok(2));
        let whole = format!("{first}{}", second.trim_end());
        assert_eq!(&whole[first.len()..first.len() + 10], "-----BEGIN");
        for end in first.len() + 1..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(found(&roots), Err(Code::CaFileInvalid), "cut off at {end}");
        }
        for end in 0..first.trim_end().len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(found(&roots), Err(Code::CaFileInvalid), "cut off at {end}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(found(&roots), Ok(2));
    }

    #[test]
    fn f139_what_stands_around_certificates_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let roots = Roots::File(path.clone());
        let (one, two) = (pem(), pem());
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
            assert_eq!(found(&roots), Ok(count), "{content}");
        }
    }

    #[test]
    fn f139_a_refusal_names_the_certificate_and_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let one = pem();
        let lines = one.lines().count();
        let second = |body: &str| format!("{one}-----BEGIN CERTIFICATE-----\n{body}");
        for (content, why) in [
            (
                second("QUJD\n-----END CERTIFICATE-----\n"),
                format!("certificate 2 (line {}) is not an X.509 certificate", lines + 1),
            ),
            (
                second("!!!\n-----END CERTIFICATE-----\n"),
                format!("certificate 2 (line {}) is cut off or not PEM", lines + 1),
            ),
            (second("QUJD\n"), format!("certificate 2 (line {}) is cut off or not PEM", lines + 1)),
            (format!("{one}-----BEG"), "its end is cut off, after certificate 1".to_owned()),
            ("\u{feff}nothing".to_owned(), "it has no BEGIN CERTIFICATE".to_owned()),
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
    fn f013_what_is_no_certificate_is_refused_in_an_own_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let roots = Roots::File(path.clone());
        let key = certificates::a_private_key();
        for (content, expected) in [
            (String::new(), Err(Code::CaFileInvalid)),
            (" \n".to_owned(), Err(Code::CaFileInvalid)),
            ("no certificate".to_owned(), Err(Code::CaFileInvalid)),
            (key.clone(), Err(Code::CaFileInvalid)),
            (
                format!("{}-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n", pem()),
                Err(Code::CaFileInvalid),
            ),
            (
                format!("{}-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", pem()),
                Err(Code::CaFileInvalid),
            ),
            (format!("{key}{}", pem()), Ok(1)),
            (pem().replace('\n', "\r\n"), Ok(1)),
            (pem().trim_end().to_owned(), Ok(1)),
        ] {
            std::fs::write(&path, &content).unwrap();
            assert_eq!(found(&roots), expected, "{content}");
        }
        assert_eq!(found(&Roots::File(dir.path().to_owned())), Err(Code::CaFileUnreadable));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(found(&Roots::File(fifo)), Err(Code::CaFileUnreadable));
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
        std::fs::write(folder.join("half.pem"), &shared[..shared.len() / 2]).unwrap();
        symlink("mine.crt", folder.join("0a1b2c3d.0")).unwrap();
        let (file, list) = (bundle.to_str().unwrap(), format!("/does/not/exist:{}", folder.display()));
        assert_eq!(found(&Roots::system(Some(file), Some(&list))), Ok(3));
        assert_eq!(found(&Roots::system(Some("/does/not/exist"), Some(&list))), Ok(2));
        let none = Roots::system(Some("/does/not/exist"), Some("/nor/this")).read().unwrap_err();
        assert_eq!(
            (none.code, none.detail.as_str()),
            (Code::NoRoots, "looked in /does/not/exist, /nor/this")
        );
    }

    #[test]
    fn the_first_bundle_that_can_be_read_is_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let [missing, empty, full] = ["missing", "empty", "full"].map(|name| dir.path().join(name));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&full, pem()).unwrap();
        assert_eq!(system(&[missing.clone(), full.clone()], &[]).unwrap().known.count(), 1);
        // As Go: what can be read is read, though nothing is in it.
        assert_eq!(system(&[missing, empty, full], &[]).unwrap_err().code, Code::NoRoots);
    }

    #[test]
    fn a_kubernetes_volume_as_a_folder_is_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("..2026")).unwrap();
        std::fs::write(dir.path().join("..2026/ca.crt"), pem()).unwrap();
        symlink("..2026", dir.path().join("..data")).unwrap();
        symlink("..data/ca.crt", dir.path().join("ca.crt")).unwrap();
        assert_eq!(found(&Roots::system(Some("/does/not/exist"), dir.path().to_str())), Ok(1));
    }
}
