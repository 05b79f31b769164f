//! Decides whether a server is trusted: webpki's rules, and one more. A server certificate that is
//! itself in the CA file, byte for byte (a pinned certificate), is accepted if its name, dates and
//! purpose are valid, as in Go and curl. Its issuer, CA:TRUE, its extensions and the rest of the
//! chain do not matter.
//!
//! A server certificate marked CA:TRUE that is issued by a trusted CA is rejected, although Go and
//! curl accept it, because webpki rejects it. Building the path in this program instead would be a
//! security risk. Such a certificate is accepted if it is in the CA file.

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

use super::certificate::{self, Certificate, Kind, Rejection};
use super::roots::{PinnedCerts, Trusted};
use super::signatures::ALGORITHMS;

/// A verifier for one connection. It remembers the reason of a rejection.
#[derive(Debug)]
pub(super) struct Verifier {
    /// webpki's verifier. Missing if no trusted certificate may issue others.
    inner: Option<Arc<WebPkiServerVerifier>>,
    store: Arc<RootCertStore>,
    pinned: PinnedCerts,
    rejection: Mutex<Option<Rejection>>,
}

impl Verifier {
    /// Creates a verifier that trusts these certificates.
    ///
    /// # Errors
    /// The text of an error of rustls.
    pub(super) fn new(trusted: Trusted, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let store = Arc::new(trusted.store);
        let inner = if store.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::clone(&store), provider);
            Some(builder.build().map_err(|error| error.to_string())?)
        };
        Ok(Self { inner, store, pinned: trusted.pinned, rejection: Mutex::default() })
    }

    /// Removes and returns the rejection, if one was found that is more precise than the error of
    /// webpki.
    pub(super) fn take_rejection(&self) -> Option<Rejection> {
        self.rejection.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set_rejection(&self, rejection: Option<Rejection>) {
        *self.rejection.lock().unwrap_or_else(PoisonError::into_inner) = rejection;
    }

    /// Records why the signature of a handshake is invalid: an unsupported key, or a key other than
    /// the certificate's.
    fn signature_error(&self, der: &CertificateDer<'_>, error: Error) -> Error {
        let key = certificate::find_rejection(Kind::Key, std::slice::from_ref(der), &[]);
        self.set_rejection(key.or(Some(Rejection::WrongKey)));
        error
    }

    /// The public key of a pinned certificate that webpki cannot parse.
    fn unparsed_pinned_key(
        &self,
        der: &CertificateDer<'_>,
    ) -> Option<rustls::pki_types::SubjectPublicKeyInfoDer<'static>> {
        let is_unparsed = self.pinned.contains(der) && ParsedCertificate::try_from(der).is_err();
        let anchor = webpki::anchor_from_trusted_cert(der).ok().filter(|_| is_unparsed)?;
        Some(webpki::spki_for_anchor(&anchor))
    }
}

/// Verifies name, dates and purpose of a pinned certificate.
///
/// # Errors
/// `NotValidYetContext`, `ExpiredContext`, `InvalidPurpose`, or `NotValidForNameContext` of
/// [`CertificateError`].
fn verify_pinned(
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
    if certificate.non_server_purposes().is_some() {
        return Err(CertificateError::InvalidPurpose.into());
    }
    match ParsedCertificate::try_from(der) {
        Ok(parsed) => verify_server_name(&parsed, host),
        // The certificate has an extension that webpki does not support.
        Err(_) if certificate.is_valid_for(host) => Ok(()),
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
        if self.pinned.contains(end_entity)
            && let Some(certificate) = Certificate::parse(end_entity)
        {
            if certificate.non_server_purposes().is_some() {
                self.set_rejection(certificate::find_rejection(
                    Kind::Purpose,
                    std::slice::from_ref(end_entity),
                    &[],
                ));
            }
            verify_pinned(end_entity, &certificate, server_name, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        let Some(inner) = &self.inner else {
            self.set_rejection(certificate::untrusted_issuer(
                std::slice::from_ref(end_entity),
                self.pinned.count(),
            ));
            return Err(CertificateError::UnknownIssuer.into());
        };
        let verdict = inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if let Err(Error::InvalidCertificate(error)) = &verdict {
            let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
            let kinds = rejection_kinds(error).iter();
            let dates = is_date_error(error).then(|| certificate::invalid_dates(&chain, now)).flatten();
            let other = || {
                kinds.copied().find_map(|kind| certificate::find_rejection(kind, &chain, &self.store.roots))
            };
            let issuer = || {
                let is_unknown = matches!(error, CertificateError::UnknownIssuer);
                is_unknown.then(|| certificate::untrusted_issuer(&chain, self.pinned.count())).flatten()
            };
            self.set_rejection(dates.or_else(other).or_else(issuer));
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(key) = self.unparsed_pinned_key(cert) else {
            let verdict = verify_tls12_signature(message, cert, dss, &ALGORITHMS);
            return verdict.map_err(|error| self.signature_error(cert, error));
        };
        let bad_signature = || self.signature_error(cert, CertificateError::BadSignature.into());
        let key = webpki::RawPublicKeyEntity::try_from(&key).map_err(|_| bad_signature())?;
        let algorithms = ALGORITHMS.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme);
        let (_, algorithms) = algorithms.ok_or_else(bad_signature)?;
        let is_valid = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            key.verify_signature(*algorithm, message, dss.signature()).is_ok()
        };
        algorithms.iter().any(is_valid).then(HandshakeSignatureValid::assertion).ok_or_else(bad_signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = match self.unparsed_pinned_key(cert) {
            None => verify_tls13_signature(message, cert, dss, &ALGORITHMS),
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, dss, &ALGORITHMS),
        };
        verdict.map_err(|error| self.signature_error(cert, error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ALGORITHMS.supported_schemes()
    }
}

/// The kinds of rejection that can cause this error of webpki.
fn rejection_kinds(error: &CertificateError) -> &'static [Kind] {
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

fn is_date_error(error: &CertificateError) -> bool {
    use CertificateError as E;
    matches!(error, E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. })
}
