//! TLS 1.2 or 1.3 by rustls and ring, with verified names and dates always, and nothing kept for the next session.

use std::fmt;
use std::io;
use std::sync::Arc;

use dexsidecar_core::failure::{Code, Failure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, ProtocolVersion, SignatureScheme,
};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Connection, Roots};

/// What was agreed on, for `check`.
#[derive(Clone, Debug)]
pub struct Session {
    /// As `TLS 1.3`.
    pub version: &'static str,
    /// How many certificates are trusted.
    pub trusted: usize,
}

/// The handshake on a connection that stands, with roots read just now.
pub(super) async fn handshake(
    roots: &Roots,
    host: &str,
    connection: Connection,
) -> Result<(TlsStream<Connection>, Session), Failure> {
    let (config, trusted) = config(roots)?;
    let name = ServerName::try_from(host.trim_end_matches('.').to_owned()).map_err(|_| {
        Failure::new(Code::CertificateWrongName, format!("{host} can stand in no certificate"))
    })?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, connection)
        .await
        .map_err(|error| failure(host, &error))?;
    let version = match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS 1.2",
    };
    Ok((stream, Session { version, trusted }))
}

fn config(roots: &Roots) -> Result<(ClientConfig, usize), Failure> {
    let trusted = roots.read()?;
    let count = trusted.certificates.len();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unfit = |_| Failure::new(Code::NoRoots, "");
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted.store), Arc::clone(&provider))
        .build()
        .map_err(unfit)?;
    let verifier = Verifier { inner, trusted: trusted.certificates };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(Code::TlsRefused, error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // A resumed session would skip the verifier, and a removed root would go on being trusted (F14).
    config.resumption = Resumption::disabled();
    Ok((config, count))
}

/// WebPKI's rules, and one more: a self-signed certificate marked CA:TRUE (what `openssl req -x509` makes) that is
/// itself among the trusted ones is accepted, as Go and curl accept it. Its dates have been checked by then; its name
/// is checked here.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
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
            Err(Error::InvalidCertificate(CertificateError::Other(other)))
                if other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
                    && self.trusted.iter().any(|trusted| trusted.as_ref() == end_entity.as_ref()) =>
            {
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

/// rustls' errors, sorted by whose move it is.
fn failure(host: &str, error: &io::Error) -> Failure {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        let text = error.to_string();
        return Failure::new(
            Code::TlsFailed,
            text.split(" (os error").next().unwrap_or_default().to_lowercase(),
        );
    };
    match tls {
        Error::InvalidCertificate(certificate) => certificate_failure(host, certificate),
        Error::InvalidMessage(_) => Failure::new(Code::TlsNotSpoken, ""),
        other => Failure::new(Code::TlsRefused, other.to_string()),
    }
}

fn certificate_failure(host: &str, error: &CertificateError) -> Failure {
    let (code, detail) = match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            (Code::CertificateUntrusted, String::new())
        }
        CertificateError::Expired => (Code::CertificateExpired, String::new()),
        CertificateError::ExpiredContext { time, not_after } => {
            (Code::CertificateExpired, format!("on {}; here it is {}", date(*not_after), date(*time)))
        }
        CertificateError::NotValidYet => (Code::CertificateNotYetValid, String::new()),
        CertificateError::NotValidYetContext { time, not_before } => (
            Code::CertificateNotYetValid,
            format!("before {}; here it is {}", date(*not_before), date(*time)),
        ),
        CertificateError::NotValidForName => (Code::CertificateWrongName, format!("not {host}")),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = presented.join(", ");
            (Code::CertificateWrongName, format!("not {host}, but {}", Names(&names)))
        }
        other => (Code::CertificateInvalid, other.to_string()),
    };
    Failure::new(code, dexsidecar_core::failure::plain(&detail, 512))
}

struct Names<'a>(&'a str);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none at all" } else { self.0 })
    }
}

fn date(time: UnixTime) -> impl fmt::Display {
    humantime::format_rfc3339_seconds(
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(time.as_secs()),
    )
}
