//! A certificate authority for tests, and the valid and invalid certificates that it issues.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// A certificate authority, with a directory for its files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// A certificate and its key as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority.
    ///
    /// # Panics
    /// When the temporary directory is not writable. The other functions panic likewise.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = Self { issuer: issuer(), directory };
        authority.publish();
        authority
    }

    /// Replaces its key and certificate, under the same file names.
    pub fn renew(&mut self) {
        self.issuer = issuer();
        self.publish();
    }

    fn publish(&self) {
        fs::write(self.file(), self.issuer.pem()).expect("a writable directory");
    }

    /// The file with its certificate, for those that are to trust it.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The certificate of a server, for loopback and these names.
    #[must_use]
    pub fn server(&self, names: &[&str]) -> Certificate {
        self.signed("server", parameters(&[&["localhost", "127.0.0.1", "::1"], names].concat()))
    }

    /// The certificate of a client, for mutual TLS.
    #[must_use]
    pub fn client(&self, name: &str) -> Certificate {
        let mut parameters = parameters(&[]);
        parameters.distinguished_name.push(DnType::CommonName, name);
        self.signed_for(ExtendedKeyUsagePurpose::ClientAuth, name, parameters)
    }

    /// The certificate of a server with another name.
    #[must_use]
    pub fn wrong_name(&self) -> Certificate {
        self.signed("wrong-name", parameters(&["other.test"]))
    }

    /// The certificate of a server that expired in 2001.
    #[must_use]
    pub fn expired(&self) -> Certificate {
        let mut parameters = parameters(&["localhost", "127.0.0.1"]);
        parameters.not_before = date_time_ymd(2000, 1, 1);
        parameters.not_after = date_time_ymd(2001, 1, 1);
        self.signed("expired", parameters)
    }

    /// The certificate of a server that is valid from 2020 on. Those of [`Self::server`] are valid
    /// since 1975.
    #[must_use]
    pub fn valid_since_2020(&self) -> Certificate {
        let mut parameters = parameters(&["localhost", "127.0.0.1"]);
        parameters.not_before = date_time_ymd(2020, 1, 1);
        self.signed("dated", parameters)
    }

    /// The certificate of a server that is valid from 2090 on.
    #[must_use]
    pub fn not_yet_valid(&self) -> Certificate {
        let mut parameters = parameters(&["localhost", "127.0.0.1"]);
        parameters.not_before = date_time_ymd(2090, 1, 1);
        parameters.not_after = date_time_ymd(2091, 1, 1);
        self.signed("not-yet-valid", parameters)
    }

    fn signed(&self, name: &str, parameters: CertificateParams) -> Certificate {
        self.signed_for(ExtendedKeyUsagePurpose::ServerAuth, name, parameters)
    }

    fn signed_for(
        &self,
        usage: ExtendedKeyUsagePurpose,
        name: &str,
        mut parameters: CertificateParams,
    ) -> Certificate {
        parameters.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("randomness");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("valid parameters");
        write(self.directory.path(), name, &certificate.pem(), &key)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// A self-signed certificate with CA:TRUE for these names, as `openssl req -x509` makes it, in
/// `directory`.
///
/// # Panics
/// When `directory` is not writable.
#[must_use]
pub fn self_signed(directory: &Path, names: &[&str], expired: bool) -> Certificate {
    let mut parameters = parameters(names);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    if expired {
        parameters.not_before = date_time_ymd(2000, 1, 1);
        parameters.not_after = date_time_ymd(2001, 1, 1);
    }
    let key = KeyPair::generate().expect("randomness");
    let certificate = parameters.self_signed(&key).expect("valid parameters");
    write(directory, "self-signed", &certificate.pem(), &key)
}

fn issuer() -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = parameters(&[]);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    parameters.distinguished_name.push(DnType::CommonName, "dexsidecar test CA");
    let key = KeyPair::generate().expect("randomness");
    CertifiedIssuer::self_signed(parameters, key).expect("valid parameters")
}

fn parameters(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        .expect("valid names")
}

fn write(directory: &Path, name: &str, certificate: &str, key: &KeyPair) -> Certificate {
    let paths = Certificate {
        certificate: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}.key")),
    };
    fs::write(&paths.certificate, certificate).expect("a writable directory");
    fs::write(&paths.key, key.serialize_pem()).expect("a writable directory");
    paths
}

impl Certificate {
    /// The configuration of a server in this process that shows this certificate.
    ///
    /// # Panics
    /// When the files do not exist.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_file(&self.certificate).expect("a readable file");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("a readable file");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring does TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("certificate and key belong together");
        Arc::new(config)
    }
}
