//! Certificates of every kind, good and bad.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// An authority.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as a server has it.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pub(crate) pem: String,
}

/// What is to be in a certificate.
pub(crate) struct Wanted(CertificateParams);

/// A private key as PEM.
pub(crate) fn a_private_key() -> String {
    KeyPair::generate().unwrap().serialize_pem()
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut wanted = Wanted::with_names(&[]).marked_as_ca().0;
        wanted.distinguished_name = DistinguishedName::new();
        wanted.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(wanted, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate by this authority.
    pub(crate) fn issues(&self, wanted: Wanted) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity::of(&wanted.0.signed_by(&key, &self.0).unwrap(), &key)
    }
}

impl Wanted {
    /// For these names and addresses.
    pub(crate) fn with_names(names: &[&str]) -> Self {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2120, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Self(params)
    }

    /// As `openssl req -x509` does.
    pub(crate) fn marked_as_ca(mut self) -> Self {
        self.0.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.0.extended_key_usages = vec![];
        self
    }

    /// Good for the years from one to the other.
    pub(crate) fn good_for(mut self, from: i32, to: i32) -> Self {
        self.0.not_before = date_time_ymd(from, 1, 1);
        self.0.not_after = date_time_ymd(to, 1, 1);
        self
    }

    /// For a client, not for a server.
    pub(crate) fn for_a_client(mut self) -> Self {
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

    /// A server with this certificate.
    pub(crate) fn accepts(self) -> TlsAcceptor {
        self.accepts_with(rustls::ALL_VERSIONS, None)
    }

    /// A server with this certificate that speaks this protocol within, by ALPN.
    pub(crate) fn accepts_protocol(self, name: &str) -> TlsAcceptor {
        let mut config = ServerConfig::clone(self.accepts().config());
        config.alpn_protocols = vec![name.as_bytes().to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// A server with this certificate, these versions, and an authority for the clients it wants to know.
    pub(crate) fn accepts_with(
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
