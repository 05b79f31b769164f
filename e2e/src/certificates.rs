//! A certificate authority of the test's own, and certificates of every kind that a server may show.

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

/// A CA with a folder of its own for its files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
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
    /// A new one.
    ///
    /// # Panics
    /// When the temporary folder cannot be written to; so do all others here.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let authority = Self { issuer: issuer(), folder };
        authority.publish();
        authority
    }

    /// Becomes another one, with the files of the first.
    pub fn renew(&mut self) {
        self.issuer = issuer();
        self.publish();
    }

    fn publish(&self) {
        fs::write(self.file(), self.issuer.pem()).expect("it can be written to");
    }

    /// The file that makes others trust it.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A server's certificate for loopback and these names besides.
    #[must_use]
    pub fn server(&self, names: &[&str]) -> Certificate {
        self.signed("server", parameters(&[&["localhost", "127.0.0.1", "::1"], names].concat()))
    }

    /// A client's certificate, for mutual TLS.
    #[must_use]
    pub fn client(&self, name: &str) -> Certificate {
        let mut parameters = parameters(&[]);
        parameters.distinguished_name.push(DnType::CommonName, name);
        self.signed_for(ExtendedKeyUsagePurpose::ClientAuth, name, parameters)
    }

    /// One for another name.
    #[must_use]
    pub fn wrong_name(&self) -> Certificate {
        self.signed("wrong-name", parameters(&["other.test"]))
    }

    /// One that expired in 2001.
    #[must_use]
    pub fn expired(&self) -> Certificate {
        let mut parameters = parameters(&["localhost", "127.0.0.1"]);
        parameters.not_before = date_time_ymd(2000, 1, 1);
        parameters.not_after = date_time_ymd(2001, 1, 1);
        self.signed("expired", parameters)
    }

    /// One that begins in 2020, as everybody's begins some day; those of [`Self::server`] have always been good.
    #[must_use]
    pub fn dated(&self) -> Certificate {
        let mut parameters = parameters(&["localhost", "127.0.0.1"]);
        parameters.not_before = date_time_ymd(2020, 1, 1);
        self.signed("dated", parameters)
    }

    /// One that begins in 2090.
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
        let key = KeyPair::generate().expect("ring makes keys");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("the parameters are sound");
        write(self.folder.path(), name, &certificate.pem(), &key)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// A self-signed certificate marked CA:TRUE, as `openssl req -x509` makes it, for these names; written to `folder`.
///
/// # Panics
/// When `folder` cannot be written to.
#[must_use]
pub fn self_signed(folder: &Path, names: &[&str], expired: bool) -> Certificate {
    let mut parameters = parameters(names);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    if expired {
        parameters.not_before = date_time_ymd(2000, 1, 1);
        parameters.not_after = date_time_ymd(2001, 1, 1);
    }
    let key = KeyPair::generate().expect("ring makes keys");
    let certificate = parameters.self_signed(&key).expect("the parameters are sound");
    write(folder, "self-signed", &certificate.pem(), &key)
}

fn issuer() -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = parameters(&[]);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    parameters.distinguished_name.push(DnType::CommonName, "dexsidecar test CA");
    let key = KeyPair::generate().expect("ring makes keys");
    CertifiedIssuer::self_signed(parameters, key).expect("the parameters are sound")
}

fn parameters(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        .expect("the names are sound")
}

fn write(folder: &Path, name: &str, certificate: &str, key: &KeyPair) -> Certificate {
    let paths = Certificate {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    fs::write(&paths.certificate, certificate).expect("the folder can be written to");
    fs::write(&paths.key, key.serialize_pem()).expect("the folder can be written to");
    paths
}

impl Certificate {
    /// For a server of this process.
    ///
    /// # Panics
    /// When the files are gone.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_file(&self.certificate).expect("it was written just now");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("it was written just now");
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
