//! Whether a server is trusted: webpki's rules, and one more. A server's certificate that itself is in the CA file, byte for
//! byte, is accepted with its name, dates and purpose checked, as Go and curl accept it: self-signed or issued by a CA, marked
//! CA:TRUE or not, whatever its extensions, and whatever else the server sends.
//!
//! A certificate marked CA:TRUE that is only issued by a trusted CA is refused, though Go and curl take it, because webpki
//! refuses it: building the path in this program would be a security risk. In the CA file such a certificate works.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::{self, Certificate, Kind, Obstacle};
use super::roots::{Known, Trusted};
use super::signatures::ALGORITHMS;

/// See the module.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Missing where no trusted certificate may issue others.
    inner: Option<Arc<WebPkiServerVerifier>>,
    store: Arc<RootCertStore>,
    known: Known,
    obstacle: Mutex<Option<Obstacle>>,
}

impl Verifier {
    /// A verifier that trusts these.
    pub(super) fn new(trusted: Trusted, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let store = Arc::new(trusted.store);
        let inner = if store.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::clone(&store), provider);
            Some(builder.build().map_err(|error| error.to_string())?)
        };
        Ok(Self { inner, store, known: trusted.known, obstacle: Mutex::default() })
    }

    /// Why the chain was refused, if anything but its issuer, its name, its dates or its purpose was the reason.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        self.obstacle.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, obstacle: Option<Obstacle>) {
        *self.obstacle.lock().unwrap_or_else(PoisonError::into_inner) = obstacle;
    }

    /// A handshake whose signature does not hold: because of the kind of key, or because the key is another.
    fn refused(&self, der: &CertificateDer<'_>, error: Error) -> Error {
        let key = certificate::obstacle(Kind::Key, std::slice::from_ref(der), &[]);
        self.note(key.or(Some(Obstacle::Possession)));
        error
    }

    /// The public key of a certificate that is trusted by itself and that webpki does not parse.
    fn key_of_unparsed(
        &self,
        der: &CertificateDer<'_>,
    ) -> Option<rustls::pki_types::SubjectPublicKeyInfoDer<'static>> {
        let is_unparsed = self.known.contains(der) && ParsedCertificate::try_from(der).is_err();
        let anchor = webpki::anchor_from_trusted_cert(der).ok().filter(|_| is_unparsed)?;
        Some(webpki::spki_for_anchor(&anchor))
    }
}

/// Name, dates and purpose of a certificate that is trusted by itself.
fn accept_known(
    der: &CertificateDer<'_>,
    certificate: &Certificate,
    host: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Error> {
    let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    if now.as_secs() < certificate.not_before {
        let not_before = time(certificate.not_before);
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now.as_secs() > certificate.not_after {
        let not_after = time(certificate.not_after);
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    if certificate.other_purposes().is_some() {
        return Err(CertificateError::InvalidPurpose.into());
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

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.known.contains(end_entity)
            && let Some(certificate) = Certificate::read(end_entity)
        {
            if certificate.other_purposes().is_some() {
                self.note(certificate::obstacle(Kind::Purpose, std::slice::from_ref(end_entity), &[]));
            }
            accept_known(end_entity, &certificate, server_name, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        let Some(inner) = &self.inner else {
            self.note(certificate::issuer_of(std::slice::from_ref(end_entity), self.known.count()));
            return Err(CertificateError::UnknownIssuer.into());
        };
        let verdict = inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if let Err(Error::InvalidCertificate(error)) = &verdict {
            let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
            let kinds = kinds_behind(error).iter();
            let dates = is_date(error).then(|| certificate::dates(&chain, now)).flatten();
            let other =
                || kinds.copied().find_map(|kind| certificate::obstacle(kind, &chain, &self.store.roots));
            let issuer = || {
                let is_unknown = matches!(error, CertificateError::UnknownIssuer);
                is_unknown.then(|| certificate::issuer_of(&chain, self.known.count())).flatten()
            };
            self.note(dates.or_else(other).or_else(issuer));
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(key) = self.key_of_unparsed(cert) else {
            let verdict = verify_tls12_signature(message, cert, dss, &ALGORITHMS);
            return verdict.map_err(|error| self.refused(cert, error));
        };
        let bad = || self.refused(cert, CertificateError::BadSignature.into());
        let key = webpki::RawPublicKeyEntity::try_from(&key).map_err(|_| bad())?;
        let algorithms = ALGORITHMS.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme);
        let (_, algorithms) = algorithms.ok_or_else(bad)?;
        let is_valid = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            key.verify_signature(*algorithm, message, dss.signature()).is_ok()
        };
        algorithms.iter().any(is_valid).then(HandshakeSignatureValid::assertion).ok_or_else(bad)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = match self.key_of_unparsed(cert) {
            None => verify_tls13_signature(message, cert, dss, &ALGORITHMS),
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, dss, &ALGORITHMS),
        };
        verdict.map_err(|error| self.refused(cert, error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}

/// The kinds of obstacle that can be the reason for an error of webpki.
fn kinds_behind(error: &CertificateError) -> &'static [Kind] {
    use CertificateError as E;
    match error {
        E::UnhandledCriticalExtension => &[Kind::Extension],
        E::Other(other) if other.0.downcast_ref() == Some(&webpki::Error::UnsupportedCriticalExtension) => {
            &[Kind::Extension]
        }
        E::BadSignature => &[Kind::Key],
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => &[Kind::Purpose],
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => &[Kind::Signature, Kind::Key],
        _ => &[],
    }
}

fn is_date(error: &CertificateError) -> bool {
    use CertificateError as E;
    matches!(error, E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. })
}
