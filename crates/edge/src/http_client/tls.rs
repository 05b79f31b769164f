//! TLS 1.2 and 1.3 with rustls and ring. Names and dates are always verified. No session is
//! resumed.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dexsidecar_core::failure::{Code, Failure, plain};
use rustls::client::Resumption;
use rustls::crypto::KeyProvider;
use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::SigningKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, PeerIncompatible,
    ProtocolVersion,
};
use tokio_rustls::TlsConnector;

use super::certificate::{Certificate, Rejection};
use super::first_record::FirstRecord;
use super::roots::Trusted;
use super::verifier::Verifier;
use super::{Connection, Stream, connect, signatures};

/// The result of a handshake, for `check`.
#[derive(Clone, Debug)]
pub struct Session {
    /// The protocol version, as `TLS 1.3`.
    pub version: &'static str,
    /// The number of trusted certificates.
    pub trusted: usize,
    /// The certificates that the server sent, its own first. Unreadable ones are left out.
    pub chain: Vec<Certificate>,
}

/// Performs the handshake on a connection.
///
/// # Errors
/// A code that begins with `Certificate` or `Tls`, or [`Code::NoRoots`].
pub(super) async fn handshake(
    trusted: Trusted,
    host: &str,
    connection: Connection,
) -> Result<(Connection, Session), Failure> {
    let Connection { stream, peer, .. } = connection;
    let count = trusted.pinned.count();
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Failure::new(Code::CertificateWrongName, format!("{host} is not a name that a certificate can have"))
    })?;
    let (config, verifier) = config(trusted)?;
    let (stream, first_record) = FirstRecord::of(stream);
    let stream: Box<dyn Stream> = Box::new(stream);
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| failure(&peer, host, first_record.is_tls(), verifier.take_rejection(), &error))?;
    let session = stream.get_ref().1;
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS 1.2",
    };
    let chain = session.peer_certificates().unwrap_or_default();
    let chain = chain.iter().filter_map(|der| Certificate::parse(der)).collect();
    let stream: Box<dyn Stream> = Box::new(stream);
    Ok((Connection { stream, peer, forwarding: None }, Session { version, trusted: count, chain }))
}

/// No client certificate is ever presented. So the code that signs with a private key is left out
/// of the binary.
#[derive(Debug)]
struct NoPrivateKeys;

impl KeyProvider for NoPrivateKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("client certificates are not supported".to_owned()))
    }
}

/// The client configuration. Without ALPN every server falls back to HTTP/1.1.
fn config(trusted: Trusted) -> Result<(ClientConfig, Arc<Verifier>), Failure> {
    let invalid = |error: &dyn fmt::Display| Failure::new(Code::NoRoots, error.to_string());
    let mut provider = rustls::crypto::ring::default_provider();
    provider.signature_verification_algorithms = signatures::ALGORITHMS;
    provider.kx_groups.push(&signatures::Secp521r1);
    provider.key_provider = &NoPrivateKeys;
    let provider = Arc::new(provider);
    let verifier = Arc::new(Verifier::new(trusted, Arc::clone(&provider)).map_err(|error| invalid(&error))?);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Verifier>::clone(&verifier))
        .with_no_client_auth();
    // A resumed session would skip the verifier, so a removed root would still be trusted (F14).
    config.resumption = Resumption::disabled();
    Ok((config, verifier))
}

/// The error of rustls inside an I/O error.
fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether the server ended the session with an alert.
pub(super) fn is_alert(error: &io::Error) -> bool {
    matches!(rustls_error(error), Some(Error::AlertReceived(_)))
}

/// The failure for an alert after the handshake. With TLS 1.3 a server that requires a client
/// certificate sends it then.
pub(super) fn alert_failure(peer: &str, error: &io::Error) -> Failure {
    failure(peer, "", true, None, error)
}

/// Maps an error of the handshake to a failure. `is_tls` says that the server's first bytes were a
/// TLS record: then the failure is never [`Code::TlsNotSpoken`].
fn failure(peer: &str, host: &str, is_tls: bool, rejection: Option<Rejection>, error: &io::Error) -> Failure {
    let with_peer = |code, text: &dyn fmt::Display| Failure::new(code, format!("{peer}: {text}"));
    match rustls_error(error) {
        None => with_peer(Code::TlsFailed, &connect::io_error_text(error)),
        Some(Error::InvalidCertificate(certificate)) => certificate_failure(host, certificate, rejection),
        Some(Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge)) => {
            Failure::new(Code::CertificateChainTooLarge, peer)
        }
        Some(Error::InvalidMessage(_)) if !is_tls => {
            with_peer(Code::TlsNotSpoken, &"received data that is not TLS")
        }
        Some(
            Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. },
        ) => with_peer(Code::TlsFailed, &"received malformed TLS"),
        Some(Error::AlertReceived(alert)) => with_peer(alert_code(*alert), &alert_text(*alert)),
        Some(Error::PeerIncompatible(why)) => match why {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
                with_peer(Code::TlsRefused, &"the server offers neither TLS 1.2 nor TLS 1.3")
            }
            _ => with_peer(
                Code::TlsRefused,
                &"no cipher suite or key exchange group in common (AES-GCM or ChaCha20; X25519, \
                  P-256, P-384 or P-521)",
            ),
        },
        // The remaining errors are local, not caused by the server.
        Some(error) => with_peer(Code::TlsFailed, error),
    }
}

/// Distinguishes alerts that report a failure from those that refuse the session.
fn alert_code(alert: AlertDescription) -> Code {
    use AlertDescription as A;
    match alert {
        A::CloseNotify
        | A::UnexpectedMessage
        | A::BadRecordMac
        | A::RecordOverflow
        | A::DecodeError
        | A::DecryptError
        | A::InternalError
        | A::UserCanceled => Code::TlsFailed,
        _ => Code::TlsRefused,
    }
}

/// An alert (RFC 8446 §6.2) by its name, and its likely cause.
fn alert_text(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let meaning = match alert {
        A::HandshakeFailure | A::InsufficientSecurity => {
            ": no cipher suite or key exchange group in common (AES-GCM or ChaCha20; X25519, P-256, \
             P-384 or P-521), or the server requires a client certificate, or its certificate has a \
             key of an unsupported type"
        }
        A::ProtocolVersion => ": the server supports neither TLS 1.2 nor TLS 1.3",
        A::CertificateRequired | A::BadCertificate => ": the server requires a client certificate",
        A::UnrecognisedName => ": the server has no certificate for the host in the URL",
        _ => "",
    };
    format!("received fatal alert: {alert:?}{meaning}")
}

/// Maps a certificate error to a failure. A rejection is more precise than the error of webpki and
/// takes precedence.
fn certificate_failure(host: &str, error: &CertificateError, rejection: Option<Rejection>) -> Failure {
    use CertificateError as E;
    if let Some(rejection) = rejection {
        let (code, detail) = match rejection {
            Rejection::Extension(detail) => (Code::CertificateExtensionUnsupported, detail),
            Rejection::Key(detail) => (Code::CertificateKeyUnsupported, detail),
            Rejection::Signature(detail) => (Code::CertificateSignatureUnsupported, detail),
            Rejection::Issuer(detail) => (Code::CertificateUntrusted, detail),
            Rejection::Purpose(detail) => (Code::CertificateInvalid, detail),
            Rejection::Dates { not_yet, detail } => {
                (if not_yet { Code::CertificateNotYetValid } else { Code::CertificateExpired }, detail)
            }
            Rejection::WrongKey => {
                let detail = "the server does not have the private key of its certificate";
                (Code::CertificateInvalid, detail.to_owned())
            }
        };
        return Failure::new(code, plain(&detail, 512));
    }
    let (code, detail) = match error {
        E::UnknownIssuer | E::BadSignature => (Code::CertificateUntrusted, String::new()),
        E::Expired => (Code::CertificateExpired, String::new()),
        E::ExpiredContext { time, not_after } => (
            Code::CertificateExpired,
            format!("not after {}; this node's clock: {}", date(*not_after), date(*time)),
        ),
        E::NotValidYet => (Code::CertificateNotYetValid, String::new()),
        E::NotValidYetContext { time, not_before } => {
            let dates = format!("not before {}; this node's clock: {}", date(*not_before), date(*time));
            (Code::CertificateNotYetValid, dates)
        }
        E::NotValidForName => (Code::CertificateWrongName, format!("not valid for {host}")),
        E::NotValidForNameContext { presented, .. } => {
            let names: Vec<String> = presented.iter().map(|name| presented_name(name)).collect();
            // By default openssl writes a common name only.
            let names = if names.is_empty() {
                "no subject alternative names (the common name is ignored)".to_owned()
            } else {
                format!("subject alternative names: {}", names.join(", "))
            };
            // An IP address as a DNS name, which openssl writes for "DNS:10.0.0.1".
            let is_dns_entry = host.parse::<IpAddr>().is_ok()
                && presented.iter().any(|name| *name == format!("DnsName(\"{host}\")"));
            let why = if is_dns_entry { "; an address must be an IP entry, not a DNS entry" } else { "" };
            (Code::CertificateWrongName, format!("not valid for {host}; {names}{why}"))
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            (Code::CertificateInvalid, "not a server certificate (extended key usage)".to_owned())
        }
        E::UnhandledCriticalExtension => {
            let detail = "unsupported critical extension".to_owned();
            (Code::CertificateExtensionUnsupported, detail)
        }
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            let detail =
                "its signature algorithm is unsupported, or does not match the issuer's key".to_owned();
            (Code::CertificateSignatureUnsupported, detail)
        }
        E::Other(other) => webpki_failure(other.0.downcast_ref()),
        E::BadEncoding => (Code::CertificateInvalid, "malformed, or not X.509 v3".to_owned()),
        _ => (Code::CertificateInvalid, String::new()),
    };
    Failure::new(code, plain(&detail, 512))
}

/// Maps an error of webpki for which rustls has no variant.
fn webpki_failure(error: Option<&webpki::Error>) -> (Code, String) {
    use webpki::Error as W;
    let invalid = |detail: &str| (Code::CertificateInvalid, detail.to_owned());
    match error {
        Some(W::CaUsedAsEndEntity) => {
            (Code::CertificateIsCa, "accepted only if the certificate itself is in the CA file".to_owned())
        }
        Some(W::UnsupportedCriticalExtension) => {
            (Code::CertificateExtensionUnsupported, "unsupported critical extension".to_owned())
        }
        Some(W::EndEntityUsedAsCa) => invalid("its issuer is not marked CA:TRUE"),
        Some(W::PathLenConstraintViolated) => {
            invalid("more intermediates than the path length constraint of a CA in the chain allows")
        }
        Some(W::NameConstraintViolation) => invalid(
            "not permitted by the name constraints of a CA in the chain, or these constrain something \
             other than DNS names and IP addresses, which is unsupported",
        ),
        Some(W::UnsupportedCertVersion) => invalid("not X.509 v3"),
        Some(
            W::MaximumSignatureChecksExceeded
            | W::MaximumPathBuildCallsExceeded
            | W::MaximumPathDepthExceeded,
        ) => invalid("its chain is too long, or allows too many paths"),
        _ => invalid("malformed"),
    }
}

/// Extracts `dex.example` from `DnsName("dex.example")`, and `10.0.0.1` from `IpAddress(10.0.0.1)`.
fn presented_name(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    let name = inner.unwrap_or(presented).trim_matches('"');
    name.parse::<IpAddr>().map_or_else(|_| name.to_owned(), |ip| ip.to_string())
}

fn date(time: UnixTime) -> impl fmt::Display {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}
