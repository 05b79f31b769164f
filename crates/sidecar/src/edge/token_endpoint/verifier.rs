//! Whether a server is trusted: webpki's rules, and one more. A server's certificate that itself is one of the trusted ones, byte
//! for byte, is accepted with its name and dates checked, as Go and curl accept it: self-signed or issued by a CA, marked
//! CA:TRUE or not, whatever its extensions.
//!
//! A certificate marked CA:TRUE that is only issued by a trusted CA stays refused, though Go and curl take it: webpki does,
//! and to build the path ourselves is where a mistake would cost most. The way out is to put it into the CA file.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::{self, Certificate, Obstacle};
use super::roots::{Known, Trusted};
use super::signatures::ALGORITHMS;

/// See the module.
#[derive(Debug)]
pub(super) struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    store: Arc<RootCertStore>,
    known: Known,
    obstacle: Mutex<Option<Obstacle>>,
}

impl Verifier {
    /// A verifier that trusts these.
    pub(super) fn new(trusted: Trusted, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let store = Arc::new(trusted.store);
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::clone(&store), provider)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { inner, store, known: trusted.known, obstacle: Mutex::default() })
    }

    /// What stood in the way of the chain that was refused, if anything but its issuer, its name or its dates did.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        self.obstacle.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, obstacle: Option<Obstacle>) {
        *self.obstacle.lock().unwrap_or_else(PoisonError::into_inner) = obstacle;
    }

    /// A handshake whose signature does not hold: it may be for the certificate's key.
    fn refused(&self, cert: &CertificateDer<'_>, error: Error) -> Error {
        self.note(certificate::obstacle(std::slice::from_ref(cert), &[]));
        error
    }

    /// Name and dates of a certificate that is trusted by itself.
    fn accept_known(
        &self,
        der: &CertificateDer<'_>,
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let certificate = Certificate::read(der).ok_or(CertificateError::BadEncoding)?;
        let time = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        if now.as_secs() < certificate.not_before {
            let not_before = time(certificate.not_before);
            return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
        }
        if now.as_secs() > certificate.not_after {
            let not_after = time(certificate.not_after);
            return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
        }
        match ParsedCertificate::try_from(der) {
            Ok(parsed) => verify_server_name(&parsed, host),
            // It has an extension that webpki does not take.
            Err(_) if certificate.is_for(host) => Ok(()),
            Err(_) => Err(CertificateError::NotValidForNameContext {
                expected: host.to_owned(),
                presented: certificate.names(),
            }
            .into()),
        }
    }

    /// The signature of the handshake by a key out of a certificate that webpki does not take.
    fn signed_by_known(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Option<HandshakeSignatureValid> {
        let anchor = webpki::anchor_from_trusted_cert(der).ok().filter(|_| self.known.contains(der))?;
        let key = webpki::spki_for_anchor(&anchor);
        let key = webpki::RawPublicKeyEntity::try_from(&key).ok()?;
        let (_, algorithms) = ALGORITHMS.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme)?;
        let is_valid = |algorithm: &&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
            key.verify_signature(*algorithm, message, dss.signature()).is_ok()
        };
        algorithms.iter().any(is_valid).then(HandshakeSignatureValid::assertion)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(Error::InvalidCertificate(error)) = &verdict else { return verdict };
        if is_final(error) {
            return verdict;
        }
        if self.known.contains(end_entity) {
            self.accept_known(end_entity, server_name, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        self.note(certificate::obstacle(&chain, &self.store.roots));
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = self.inner.verify_tls12_signature(message, cert, dss);
        verdict.or_else(|error| {
            self.signed_by_known(message, cert, dss).ok_or_else(|| self.refused(cert, error))
        })
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = self.inner.verify_tls13_signature(message, cert, dss);
        verdict.or_else(|error| {
            self.signed_by_known(message, cert, dss).ok_or_else(|| self.refused(cert, error))
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Faults that being trusted byte for byte does not outweigh, and that need no further explanation.
fn is_final(error: &CertificateError) -> bool {
    use CertificateError as E;
    matches!(
        error,
        E::Expired
            | E::ExpiredContext { .. }
            | E::NotValidYet
            | E::NotValidYetContext { .. }
            | E::NotValidForName
            | E::NotValidForNameContext { .. }
            | E::InvalidPurpose
            | E::InvalidPurposeContext { .. }
    )
}
