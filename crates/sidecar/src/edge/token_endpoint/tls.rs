//! TLS 1.2 or 1.3 by rustls and ring, with verified names and dates always, and nothing kept for the next session.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dexsidecar_core::failure::{Code, Failure, plain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, ProtocolVersion, SignatureScheme,
};
use tokio_rustls::TlsConnector;

use super::roots::{Known, Trusted};
use super::{Connection, Stream, connect};

/// What was agreed on, for `check`.
#[derive(Clone, Debug)]
pub struct Session {
    /// As `TLS 1.3`.
    pub version: &'static str,
    /// How many certificates are trusted.
    pub trusted: usize,
}

/// The handshake on a connection that stands.
///
/// # Errors
/// What is wrong with the server's certificate, or with the conversation.
pub(super) async fn handshake(
    trusted: Trusted,
    host: &str,
    connection: Connection,
) -> Result<(Connection, Session), Failure> {
    let Connection { stream, peer, .. } = connection;
    let count = trusted.known.count();
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Failure::new(Code::CertificateWrongName, format!("{host} can stand in no certificate"))
    })?;
    let stream = TlsConnector::from(Arc::new(config(trusted)?))
        .connect(name, stream)
        .await
        .map_err(|error| failure(&peer, host, &error))?;
    let version = match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS 1.2",
    };
    let stream: Box<dyn Stream> = Box::new(stream);
    Ok((Connection { stream, peer, forwarding: None }, Session { version, trusted: count }))
}

/// No ALPN: HTTP/1.1 is what every server falls back to without it.
fn config(trusted: Trusted) -> Result<ClientConfig, Failure> {
    let unfit = |error: &dyn fmt::Display| Failure::new(Code::NoRoots, error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted.store), Arc::clone(&provider))
        .build()
        .map_err(|error| unfit(&error))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unfit(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { inner, known: trusted.known }))
        .with_no_client_auth();
    // A resumed session would skip the verifier, and a removed root would go on being trusted (F14).
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// WebPKI's rules, and one more: a self-signed certificate marked CA:TRUE (what `openssl req -x509` makes) that is
/// itself among the trusted ones is accepted, as Go and curl accept it. Its dates have been checked by then; its name
/// is checked here.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    known: Known,
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
        match verdict {
            Err(Error::InvalidCertificate(error)) if is_ca(&error) && self.known.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// True when the one fault is that the server's own certificate is marked CA:TRUE.
fn is_ca(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(other)
        if other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity))
}

fn from_tls(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// True when the server ended the session with an alert.
pub(super) fn is_alert(error: &io::Error) -> bool {
    matches!(from_tls(error), Some(Error::AlertReceived(_)))
}

/// What went wrong in TLS, sorted by whose move it is.
pub(super) fn failure(peer: &str, host: &str, error: &io::Error) -> Failure {
    let told = |code, words: &dyn fmt::Display| Failure::new(code, format!("{peer}: {words}"));
    match from_tls(error) {
        None => told(Code::TlsFailed, &connect::words(error)),
        Some(Error::InvalidCertificate(certificate)) => unacceptable(host, certificate),
        Some(Error::InvalidMessage(_)) => told(Code::TlsNotSpoken, &"what it sends is no TLS"),
        Some(other) => told(Code::TlsRefused, other),
    }
}

fn unacceptable(host: &str, error: &CertificateError) -> Failure {
    use CertificateError as E;
    let (code, detail) = match error {
        E::UnknownIssuer | E::BadSignature => (Code::CertificateUntrusted, String::new()),
        ca if is_ca(ca) => (
            Code::CertificateUntrusted,
            "it is marked CA:TRUE, hence must itself be one of the trusted certificates".to_owned(),
        ),
        E::Expired => (Code::CertificateExpired, String::new()),
        E::ExpiredContext { time, not_after } => {
            (Code::CertificateExpired, format!("on {}; here it is {}", date(*not_after), date(*time)))
        }
        E::NotValidYet => (Code::CertificateNotYetValid, String::new()),
        E::NotValidYetContext { time, not_before } => {
            let dates = format!("before {}; here it is {}", date(*not_before), date(*time));
            (Code::CertificateNotYetValid, dates)
        }
        E::NotValidForName => (Code::CertificateWrongName, format!("not {host}")),
        E::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            let names = names.join(", ");
            // A subject with a common name is what openssl makes unless told better.
            let names = if names.is_empty() { "no name at all (a common name is none)" } else { &names };
            (Code::CertificateWrongName, format!("not {host}, but {names}"))
        }
        other => (Code::CertificateInvalid, other.to_string()),
    };
    Failure::new(code, plain(&detail, 512))
}

/// `dex.example` out of `DnsName("dex.example")`, and `10.0.0.1` out of `IpAddress(10.0.0.1)`.
fn bare(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"')
}

fn date(time: UnixTime) -> impl fmt::Display {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}
