//! Certificates for tests, valid and invalid.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A certificate authority.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A server certificate with its key.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pub(crate) pem: String,
}

/// The fields of a certificate to issue.
pub(crate) struct CertSpec(CertificateParams);

/// A new private key in PEM.
pub(crate) fn private_key_pem() -> String {
    KeyPair::generate().unwrap().serialize_pem()
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertSpec::with_names(&[]).marked_as_ca().0;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate.
    pub(crate) fn issue(&self, spec: CertSpec) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity::of(&spec.0.signed_by(&key, &self.0).unwrap(), &key)
    }
}

impl CertSpec {
    /// A server certificate for these names and addresses.
    pub(crate) fn with_names(names: &[&str]) -> Self {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2120, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Self(params)
    }

    /// Marked CA:TRUE and without extended key usage, as by `openssl req -x509`.
    pub(crate) fn marked_as_ca(mut self) -> Self {
        self.0.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.0.extended_key_usages = vec![];
        self
    }

    /// Valid from January 1 of one year to January 1 of another.
    pub(crate) fn valid_between(mut self, from: i32, to: i32) -> Self {
        self.0.not_before = date_time_ymd(from, 1, 1);
        self.0.not_after = date_time_ymd(to, 1, 1);
        self
    }

    /// A client certificate.
    pub(crate) fn for_clients(mut self) -> Self {
        self.0.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self
    }

    pub(crate) fn self_signed(self) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity::of(&self.0.self_signed(&key).unwrap(), &key)
    }
}

impl Identity {
    fn of(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            pem: certificate.pem(),
        }
    }

    /// The TLS side of a server with this certificate.
    pub(crate) fn acceptor(self) -> TlsAcceptor {
        self.acceptor_with(rustls::ALL_VERSIONS, None)
    }

    /// The TLS side of a server with this certificate that offers this protocol by ALPN.
    pub(crate) fn acceptor_with_alpn(self, name: &str) -> TlsAcceptor {
        let mut config = ServerConfig::clone(self.acceptor().config());
        config.alpn_protocols = vec![name.as_bytes().to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// The TLS side of a server with this certificate and these versions. With `clients` it
    /// requires client certificates of that CA.
    pub(crate) fn acceptor_with(
        self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        clients: Option<&Ca>,
    ) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(ca.0.der().clone()).unwrap();
                let verifier =
                    rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let config = builder.with_single_cert(vec![self.certificate], self.key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
