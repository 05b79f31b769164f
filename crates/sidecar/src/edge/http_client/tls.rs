//! TLS 1.2 or 1.3 by rustls and ring, with verified names and dates always, and nothing kept for the next session.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dexsidecar_core::failure::{Code, Failure, plain};
use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, PeerIncompatible,
    ProtocolVersion,
};
use tokio_rustls::TlsConnector;

use super::certificate::{Certificate, Obstacle};
use super::first_record::FirstRecord;
use super::roots::Trusted;
use super::verifier::Verifier;
use super::{Connection, Stream, connect, signatures};

/// What was agreed on, for `check`.
#[derive(Clone, Debug)]
pub struct Session {
    /// As `TLS 1.3`.
    pub version: &'static str,
    /// How many certificates are trusted.
    pub trusted: usize,
    /// The server's certificate and what it sent with it, as far as they can be read.
    pub chain: Vec<Certificate>,
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
    let (config, verifier) = config(trusted)?;
    let (stream, first_record) = FirstRecord::of(stream);
    let stream: Box<dyn Stream> = Box::new(stream);
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| failure(&peer, host, first_record.is_tls(), verifier.obstacle(), &error))?;
    let session = stream.get_ref().1;
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS 1.2",
    };
    let chain = session.peer_certificates().unwrap_or_default();
    let chain = chain.iter().filter_map(|der| Certificate::read(der)).collect();
    let stream: Box<dyn Stream> = Box::new(stream);
    Ok((Connection { stream, peer, forwarding: None }, Session { version, trusted: count, chain }))
}

/// No ALPN: HTTP/1.1 is what every server falls back to without it.
fn config(trusted: Trusted) -> Result<(ClientConfig, Arc<Verifier>), Failure> {
    let unfit = |error: &dyn fmt::Display| Failure::new(Code::NoRoots, error.to_string());
    let mut provider = rustls::crypto::ring::default_provider();
    provider.signature_verification_algorithms = signatures::ALGORITHMS;
    provider.kx_groups.push(&signatures::Secp521r1);
    let provider = Arc::new(provider);
    let verifier = Arc::new(Verifier::new(trusted, Arc::clone(&provider)).map_err(|error| unfit(&error))?);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unfit(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Verifier>::clone(&verifier))
        .with_no_client_auth();
    // A resumed session would skip the verifier, and a removed root would go on being trusted (F14).
    config.resumption = Resumption::disabled();
    Ok((config, verifier))
}

fn from_tls(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// True when the server ended the session with an alert.
pub(super) fn is_alert(error: &io::Error) -> bool {
    matches!(from_tls(error), Some(Error::AlertReceived(_)))
}

/// A server that ended the session after the handshake, as one does with TLS 1.3 that wants a client certificate.
pub(super) fn refusal(peer: &str, error: &io::Error) -> Failure {
    failure(peer, "", true, None, error)
}

/// What went wrong in TLS, in words. `spoken` says that the server's first bytes were TLS: then nothing may suggest that
/// it speaks plain http.
fn failure(peer: &str, host: &str, spoken: bool, obstacle: Option<Obstacle>, error: &io::Error) -> Failure {
    let at = |code, words: &dyn fmt::Display| Failure::new(code, format!("{peer}: {words}"));
    match from_tls(error) {
        None => at(Code::TlsFailed, &connect::words(error)),
        Some(Error::InvalidCertificate(certificate)) => unacceptable(host, certificate, obstacle),
        Some(Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge)) => {
            Failure::new(Code::CertificateChainTooLarge, peer)
        }
        Some(Error::InvalidMessage(_)) if !spoken => at(Code::TlsNotSpoken, &"what it sends is not TLS"),
        Some(
            Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. },
        ) => at(Code::TlsFailed, &"what it sends is malformed TLS"),
        Some(Error::AlertReceived(alert)) => at(alert_code(*alert), &alert_words(*alert)),
        Some(Error::PeerIncompatible(why)) => match why {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
                at(Code::TlsRefused, &"it offers neither TLS 1.2 nor TLS 1.3")
            }
            _ => at(
                Code::TlsRefused,
                &"it offers no cipher suite or key exchange group in common (AES-GCM or ChaCha20; X25519, P-256, \
                  P-384 or P-521)",
            ),
        },
        // Nothing that the server did.
        Some(error) => at(Code::TlsFailed, error),
    }
}

/// An alert of a server that is in trouble or broke off is no refusal.
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

/// An alert (RFC 8446 §6.2) by the name that people search for, and what it stands for.
fn alert_words(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let meaning = match alert {
        A::HandshakeFailure | A::InsufficientSecurity => {
            ": no cipher suite or key exchange group in common (AES-GCM or ChaCha20; X25519, P-256, P-384 or P-521), or a client \
             certificate is demanded, or the server's certificate has a key of an unsupported kind"
        }
        A::ProtocolVersion => ": TLS 1.2 and 1.3 are not offered",
        A::CertificateRequired | A::BadCertificate => ": a client certificate is demanded",
        A::UnrecognisedName => ": it has no certificate for the host in dex_endpoint",
        _ => "",
    };
    format!("received fatal alert: {alert:?}{meaning}")
}

fn unacceptable(host: &str, error: &CertificateError, obstacle: Option<Obstacle>) -> Failure {
    use CertificateError as E;
    if let Some(obstacle) = obstacle {
        let (code, detail) = match obstacle {
            Obstacle::Extension(detail) => (Code::CertificateExtensionUnsupported, detail),
            Obstacle::Key(detail) => (Code::CertificateKeyUnsupported, detail),
            Obstacle::Signature(detail) => (Code::CertificateSignatureUnsupported, detail),
            Obstacle::Issuer(detail) => (Code::CertificateUntrusted, detail),
            Obstacle::Purpose(detail) => (Code::CertificateInvalid, detail),
            Obstacle::Dates { not_yet, detail } => {
                (if not_yet { Code::CertificateNotYetValid } else { Code::CertificateExpired }, detail)
            }
            Obstacle::Possession => {
                let detail = "the server does not hold the private key of the certificate that it sends";
                (Code::CertificateInvalid, detail.to_owned())
            }
        };
        return Failure::new(code, plain(&detail, 512));
    }
    let (code, detail) = match error {
        E::UnknownIssuer | E::BadSignature => (Code::CertificateUntrusted, String::new()),
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
            let names: Vec<String> = presented.iter().map(|name| bare(name)).collect();
            let names = names.join(", ");
            // A subject with a common name is what openssl makes unless it is asked for better.
            let names = if names.is_empty() { "no name at all (a common name is none)" } else { &names };
            // An IP address as a DNS name, which openssl writes where it is asked for "DNS:10.0.0.1".
            let as_name = host.parse::<IpAddr>().is_ok()
                && presented.iter().any(|name| *name == format!("DnsName(\"{host}\")"));
            let why = if as_name { "; as a DNS name an address does not count" } else { "" };
            (Code::CertificateWrongName, format!("not {host}, but {names}{why}"))
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            (Code::CertificateInvalid, "it is not for servers (extended key usage)".to_owned())
        }
        E::UnhandledCriticalExtension => {
            let detail = "a critical extension is not supported".to_owned();
            (Code::CertificateExtensionUnsupported, detail)
        }
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            let detail =
                "its signature algorithm is not supported, or does not fit the signer's key".to_owned();
            (Code::CertificateSignatureUnsupported, detail)
        }
        E::Other(other) => other_fault(other.0.downcast_ref()),
        E::BadEncoding => (Code::CertificateInvalid, "it is malformed, or not X.509 v3".to_owned()),
        _ => (Code::CertificateInvalid, String::new()),
    };
    Failure::new(code, plain(&detail, 512))
}

/// Faults that rustls hands on from webpki without a name of its own.
fn other_fault(error: Option<&webpki::Error>) -> (Code, String) {
    use webpki::Error as W;
    let invalid = |detail: &str| (Code::CertificateInvalid, detail.to_owned());
    match error {
        Some(W::CaUsedAsEndEntity) => {
            (Code::CertificateIsCa, "it is accepted only if it is itself in the CA file".to_owned())
        }
        Some(W::UnsupportedCriticalExtension) => {
            (Code::CertificateExtensionUnsupported, "a critical extension is not supported".to_owned())
        }
        Some(W::EndEntityUsedAsCa) => invalid("the certificate that signed it is not marked CA:TRUE"),
        Some(W::PathLenConstraintViolated) => invalid("more intermediates than a CA in the chain allows"),
        Some(W::NameConstraintViolation) => invalid(
            "the name constraints of a CA in the chain do not permit it, or are not on DNS names and IP addresses, which \
             is not supported",
        ),
        Some(W::UnsupportedCertVersion) => invalid("it is not X.509 v3"),
        Some(
            W::MaximumSignatureChecksExceeded
            | W::MaximumPathBuildCallsExceeded
            | W::MaximumPathDepthExceeded,
        ) => invalid("its chain is too long or too tangled"),
        _ => invalid("it is malformed"),
    }
}

/// `dex.example` out of `DnsName("dex.example")`, and `10.0.0.1` out of `IpAddress(10.0.0.1)`.
fn bare(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    let bare = inner.unwrap_or(presented).trim_matches('"');
    bare.parse::<IpAddr>().map_or_else(|_| bare.to_owned(), |ip| ip.to_string())
}

fn date(time: UnixTime) -> impl fmt::Display {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}
