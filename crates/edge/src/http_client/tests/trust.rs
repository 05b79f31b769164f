//! Which servers are trusted, and how the others are rejected.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::TokenEndpoint as _;
use dexsidecar_core::failure::{Code, Failure};
use tokio_rustls::TlsAcceptor;

use super::certificates::{Ca, CertSpec, Identity};
use super::server::Server;
use super::{Client, LONG_TIMEOUT, post_request};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// Exchanges with a server behind this acceptor, trusting this PEM.
async fn exchange(acceptor: TlsAcceptor, trusted: &str) -> Result<(), Failure> {
    let server = Server::responding_over_tls(acceptor, OK).await;
    let response = Client::trusting(trusted).post(&server.https()).await?;
    assert_eq!(&response.body[..], b"{}");
    assert!(server.received().contains("canary-of-the-subject-token"));
    Ok(())
}

fn loopback_cert() -> CertSpec {
    CertSpec::with_names(&["dex.example", "127.0.0.1"])
}

/// Posts to a server with this certificate, trusting this PEM. Returns code and detail of the
/// failure.
async fn rejection(identity: Identity, trusted: &str) -> (Code, String) {
    let server = Server::responding_over_tls(identity.acceptor(), OK).await;
    let failure = Client::trusting(trusted).post_failure(&server.https()).await;
    // Nothing is sent to a server that is not authenticated.
    assert_eq!(server.received(), "");
    (failure.code, failure.detail)
}

/// An invalid CA file is checked again at every attempt, which must not cost the server a
/// connection.
#[tokio::test]
async fn f013_with_an_invalid_ca_file_no_connection_is_opened() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let server = Server::start(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {}
    })
    .await;
    let proxy = [("HTTPS_PROXY", format!("https://proxy.test:{}", server.address.port()))];
    for client in [Client::trusting("not a certificate"), Client::with("", LONG_TIMEOUT, &proxy)] {
        assert_eq!(client.post_failure(&server.https()).await.code, Code::CaFileInvalid);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    assert_ne!(
        Client::trusting(&Ca::new("ca").pem()).post_failure(&server.https()).await.code,
        Code::CaFileInvalid
    );
    assert_eq!(connections.load(Ordering::SeqCst), 1, "the server counts connections");
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_supported() {
    let ca = Ca::new("ca");
    for (versions, name) in [([&rustls::version::TLS12], "TLS 1.2"), ([&rustls::version::TLS13], "TLS 1.3")] {
        exchange(ca.issue(loopback_cert()).acceptor_with(&versions, None), &ca.pem()).await.unwrap();
        // The single steps of `check`.
        let server =
            Server::responding_over_tls(ca.issue(loopback_cert()).acceptor_with(&versions, None), OK).await;
        let url = EndpointUrl::parse(&server.https()).unwrap().0;
        let endpoint = Client::trusting(&ca.pem());
        let endpoint = &endpoint.endpoint;
        assert_eq!(endpoint.first_hop(&url), ("127.0.0.1".to_owned(), server.address.port()));
        assert_eq!(endpoint.resolve(&url).await.unwrap().0, [server.address]);
        let connection = endpoint.connect(&url).await.unwrap();
        assert_eq!(connection.peer(), server.address.to_string());
        let session = endpoint.handshake(&url, connection).await.unwrap();
        assert_eq!((session.version, session.trusted), (name, 1));
    }
}

#[tokio::test]
async fn a_pinned_self_signed_certificate_is_accepted_with_and_without_ca_true() {
    for wanted in [loopback_cert(), loopback_cert().marked_as_ca()] {
        let identity = wanted.self_signed();
        let pem = identity.pem.clone();
        exchange(identity.acceptor(), &pem).await.unwrap();
        // With another certificate in the CA file, and with TLS 1.2.
        let identity = loopback_cert().marked_as_ca().self_signed();
        let bundle = format!("{}{}", Ca::new("other").pem(), identity.pem);
        exchange(identity.acceptor_with(&[&rustls::version::TLS12], None), &bundle).await.unwrap();
    }
}

#[tokio::test]
async fn f015_name_and_dates_of_a_pinned_certificate_are_verified() {
    for ca in [false, true] {
        let mark = |wanted: CertSpec| if ca { wanted.marked_as_ca() } else { wanted };
        let identity = mark(CertSpec::with_names(&["dex.example", "*.dex.example", "10.0.0.1", "fd00::1"]))
            .self_signed();
        let pem = identity.pem.clone();
        let wrong_name = "not valid for 127.0.0.1; subject alternative names: dex.example, *.dex.example, 10.0.0.1, fd00::1"
                .to_owned();
        assert_eq!(rejection(identity, &pem).await, (Code::CertificateWrongName, wrong_name));

        let identity = mark(loopback_cert().valid_between(2020, 2021)).self_signed();
        let pem = identity.pem.clone();
        let (code, detail) = rejection(identity, &pem).await;
        assert_eq!(code, Code::CertificateExpired);
        assert!(detail.starts_with("not after 2021-01-01T00:00:00Z; this node's clock: 20"), "{detail}");

        let identity = mark(loopback_cert().valid_between(2110, 2120)).self_signed();
        let pem = identity.pem.clone();
        let (code, detail) = rejection(identity, &pem).await;
        assert_eq!(code, Code::CertificateNotYetValid);
        assert!(detail.starts_with("not before 2110-01-01T00:00:00Z; this node's clock: 20"), "{detail}");
    }
}

#[tokio::test]
async fn f015_a_certificate_like_the_pinned_one_is_rejected() {
    let trusted = loopback_cert().marked_as_ca().self_signed().pem;
    let (code, detail) = rejection(loopback_cert().marked_as_ca().self_signed(), &trusted).await;
    assert_eq!(code, Code::CertificateIsCa);
    assert_eq!(detail, "accepted only if the certificate itself is in the CA file");
    let trusted = loopback_cert().self_signed().pem;
    let (code, detail) = rejection(loopback_cert().self_signed(), &trusted).await;
    assert_eq!(code, Code::CertificateUntrusted);
    assert_eq!(
        detail,
        "CN=rcgen self signed cert is issued by CN=rcgen self signed cert; trusted certificates: 1"
    );
    // Issued by a trusted CA and marked CA:TRUE itself. Go and curl accept this one.
    let ca = Ca::new("ca");
    assert_eq!(rejection(ca.issue(loopback_cert().marked_as_ca()), &ca.pem()).await.0, Code::CertificateIsCa);
}

#[tokio::test]
async fn f015_issuer_name_dates_and_purpose_of_an_issued_certificate_are_verified() {
    let ca = Ca::new("ca");
    // Another CA with the same name.
    let impostor = Ca::new("ca");
    assert_eq!(
        rejection(impostor.issue(loopback_cert()), &ca.pem()).await,
        (Code::CertificateUntrusted, String::new())
    );
    let detail =
        "not valid for 127.0.0.1; no subject alternative names (the common name is ignored)".to_owned();
    let unnamed = ca.issue(CertSpec::with_names(&[]));
    assert_eq!(rejection(unnamed, &ca.pem()).await, (Code::CertificateWrongName, detail));
    let old = ca.issue(loopback_cert().valid_between(2020, 2021));
    assert_eq!(rejection(old, &ca.pem()).await.0, Code::CertificateExpired);
    let early = ca.issue(loopback_cert().valid_between(2110, 2120));
    assert_eq!(rejection(early, &ca.pem()).await.0, Code::CertificateNotYetValid);
    let (code, detail) = rejection(ca.issue(loopback_cert().for_clients()), &ca.pem()).await;
    assert_eq!(code, Code::CertificateInvalid, "{detail}");
}

#[tokio::test]
async fn f012_f014_roots_are_loaded_for_each_attempt_and_no_session_is_resumed() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let roots = super::Roots::File(path.clone());
    let client = super::HttpEndpoint::new(LONG_TIMEOUT, roots, super::Proxies::default());
    // The server offers session tickets, as rustls and Go do by default.
    let server = Server::responding_over_tls(old.issue(loopback_cert()).acceptor(), OK).await;
    let outcome = async |pem: String| {
        std::fs::write(&path, pem).unwrap();
        client
            .send(&post_request(&server.https()), 0)
            .await
            .map(|response| response.status)
            .map_err(|failure| failure.code)
    };
    assert_eq!(outcome(old.pem()).await, Ok(200));
    assert_eq!(outcome(new.pem()).await, Err(Code::CertificateUntrusted));
    assert_eq!(outcome(String::new()).await, Err(Code::CaFileInvalid));
    assert_eq!(outcome(old.pem()).await, Ok(200));
}

#[tokio::test]
async fn f017_plain_http_on_the_tls_port_is_reported() {
    let ca = Ca::new("ca").pem();
    // The response of Go's HTTP server to a TLS handshake.
    let server = Server::start(|mut wire| async move {
        wire.write(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n400 Bad Request").await;
        wire.finish().await;
    })
    .await;
    let failure = Client::trusting(&ca).post_failure(&server.https()).await;
    assert_eq!(failure.code, Code::TlsNotSpoken);
    assert_eq!(failure.detail, format!("{}: received data that is not TLS", server.address));
}

#[tokio::test]
async fn f017_a_server_that_rejects_tls_1_2_and_1_3_is_reported() {
    // The response of openssl: alert 70, protocol_version.
    let server = Server::start(|mut wire| async move {
        wire.write(b"\x15\x03\x01\x00\x02\x02\x46").await;
        wire.finish().await;
    })
    .await;
    let failure = Client::trusting(&Ca::new("ca").pem()).post_failure(&server.https()).await;
    assert_eq!(failure.code, Code::TlsRefused);
    let alert = format!(
        "{}: received fatal alert: ProtocolVersion: the server supports neither TLS 1.2",
        server.address
    );
    assert!(failure.detail.starts_with(&alert), "{failure}");
}

#[tokio::test]
async fn f017_a_server_that_continues_with_tls_1_1_is_rejected() {
    // A ServerHello with TLS 1.1, from a server that ignores the offered versions.
    let server = Server::start(|mut wire| async move {
        let random = [7; 32];
        let hello = [b"\x16\x03\x02\0\x2a\x02\0\0\x26\x03\x02".as_slice(), &random, b"\0\0\x2f\0"].concat();
        wire.write(&hello).await;
        wire.finish().await;
    })
    .await;
    let failure = Client::trusting(&Ca::new("ca").pem()).post_failure(&server.https()).await;
    assert_eq!(failure.code, Code::TlsRefused, "{failure}");
    assert!(!server.received().contains("canary"));
}

#[tokio::test]
async fn f017_a_server_that_prefers_http_2_is_accepted() {
    let ca = Ca::new("ca");
    exchange(ca.issue(loopback_cert()).acceptor_with_alpn("h2"), &ca.pem()).await.unwrap();
}

#[tokio::test]
async fn f017_a_server_that_requires_a_client_certificate_is_reported() {
    let ca = Ca::new("ca");
    for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        let acceptor = ca.issue(loopback_cert()).acceptor_with(&versions, Some(&ca));
        let failure = exchange(acceptor, &ca.pem()).await.unwrap_err();
        assert_eq!(failure.code, Code::TlsRefused, "{failure}");
        // TLS 1.2 has no specific alert for a missing client certificate.
        assert!(failure.detail.contains("fatal alert: "), "{failure}");
    }
}

#[tokio::test]
async fn f017_a_connection_that_breaks_during_the_handshake_is_reported() {
    let ca = Ca::new("ca").pem();
    let server = Server::start(|mut wire| async move { wire.finish().await }).await;
    let failure = Client::trusting(&ca).post_failure(&server.https()).await;
    assert_eq!(failure.code, Code::TlsFailed);
    assert_eq!(failure.detail, format!("{}: tls handshake eof", server.address));
    let server = Server::start(|wire| async move { wire.reset() }).await;
    let failure = Client::trusting(&ca).post_failure(&server.https()).await;
    assert_eq!(failure.detail, format!("{}: connection reset by peer", server.address));
}

#[tokio::test]
async fn f005_a_tls_stream_without_close_notify_is_a_lost_connection() {
    let ca = Ca::new("ca");
    let acceptor = ca.issue(loopback_cert()).acceptor();
    let server = Server::start(move |wire| {
        let acceptor = acceptor.clone();
        async move {
            let mut wire = wire.accept_tls(&acceptor).await.unwrap();
            wire.read_request().await;
            // With close_notify, the end of the stream would be the end of the body.
            wire.write(b"HTTP/1.0 200 OK\r\n\r\n{\"access_token\":\"half").await;
        }
    })
    .await;
    let failure = Client::trusting(&ca.pem()).post_failure(&server.https()).await;
    assert_eq!(failure.code, Code::ConnectionLost, "{failure}");
}
