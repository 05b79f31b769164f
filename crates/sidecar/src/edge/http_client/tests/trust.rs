//! Which servers are trusted, and what is said of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::TokenEndpoint as _;
use dexsidecar_core::failure::{Code, Failure};
use tokio_rustls::TlsAcceptor;

use super::certificates::{Ca, Identity, Wanted};
use super::server::Server;
use super::{Client, PATIENT, post};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// One exchange with a server on this address, by a client that trusts this PEM.
async fn exchange(acceptor: TlsAcceptor, trusted: &str) -> Result<(), Failure> {
    let server = Server::answers_within(acceptor, OK).await;
    let answer = Client::trusting(trusted).posts(&server.https()).await?;
    assert_eq!(&answer.body[..], b"{}");
    assert!(server.seen().contains("canary-of-the-subject-token"));
    Ok(())
}

fn here() -> Wanted {
    Wanted::with_names(&["dex.example", "127.0.0.1"])
}

async fn told(identity: Identity, trusted: &str) -> (Code, String) {
    let server = Server::answers_within(identity.accepts(), OK).await;
    let failure = Client::trusting(trusted).fails(&server.https()).await;
    // Nothing is sent before the server has proved who it is.
    assert_eq!(server.seen(), "");
    (failure.code, failure.detail)
}

/// What is wrong on this side of the socket is looked at again and again: it must cost the other side nothing.
#[tokio::test]
async fn f013_with_roots_that_cannot_be_used_nobody_is_connected_to() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let server = Server::acts(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {}
    })
    .await;
    let proxy = [("HTTPS_PROXY", format!("https://proxy.test:{}", server.address.port()))];
    for client in [Client::trusting("half a certificate"), Client::with("", PATIENT, &proxy)] {
        assert_eq!(client.fails(&server.https()).await.code, Code::CaFileInvalid);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    assert_ne!(Client::trusting(&Ca::new("ca").pem()).fails(&server.https()).await.code, Code::CaFileInvalid);
    assert_eq!(connections.load(Ordering::SeqCst), 1, "it would have been seen");
}

#[tokio::test]
async fn both_versions_are_spoken() {
    let ca = Ca::new("ca");
    for (versions, name) in [([&rustls::version::TLS12], "TLS 1.2"), ([&rustls::version::TLS13], "TLS 1.3")] {
        exchange(ca.issues(here()).accepts_with(&versions, None), &ca.pem()).await.unwrap();
        // The same by the single steps of `check`.
        let server = Server::answers_within(ca.issues(here()).accepts_with(&versions, None), OK).await;
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
async fn a_self_signed_certificate_that_is_trusted_itself_is_accepted_with_and_without_ca_true() {
    for wanted in [here(), here().marked_as_ca()] {
        let identity = wanted.self_signed();
        let pem = identity.pem.clone();
        exchange(identity.accepts(), &pem).await.unwrap();
        // Among others too, and with the older version.
        let identity = here().marked_as_ca().self_signed();
        let bundle = format!("{}{}", Ca::new("other").pem(), identity.pem);
        exchange(identity.accepts_with(&[&rustls::version::TLS12], None), &bundle).await.unwrap();
    }
}

#[tokio::test]
async fn f015_a_self_signed_certificate_that_is_trusted_is_still_held_to_its_name_and_dates() {
    for ca in [false, true] {
        let mark = |wanted: Wanted| if ca { wanted.marked_as_ca() } else { wanted };
        let identity =
            mark(Wanted::with_names(&["dex.example", "*.dex.example", "10.0.0.1", "fd00::1"])).self_signed();
        let pem = identity.pem.clone();
        let wrong_name = "not 127.0.0.1, but dex.example, *.dex.example, 10.0.0.1, fd00::1".to_owned();
        assert_eq!(told(identity, &pem).await, (Code::CertificateWrongName, wrong_name));

        let identity = mark(here().good_for(2020, 2021)).self_signed();
        let pem = identity.pem.clone();
        let (code, detail) = told(identity, &pem).await;
        assert_eq!(code, Code::CertificateExpired);
        assert!(detail.starts_with("on 2021-01-01T00:00:00Z; here it is 20"), "{detail}");

        let identity = mark(here().good_for(2110, 2120)).self_signed();
        let pem = identity.pem.clone();
        let (code, detail) = told(identity, &pem).await;
        assert_eq!(code, Code::CertificateNotYetValid);
        assert!(detail.starts_with("before 2110-01-01T00:00:00Z; here it is 20"), "{detail}");
    }
}

#[tokio::test]
async fn f015_another_certificate_of_the_same_kind_is_not_accepted() {
    let trusted = here().marked_as_ca().self_signed().pem;
    let (code, detail) = told(here().marked_as_ca().self_signed(), &trusted).await;
    assert_eq!(code, Code::CertificateIsCa);
    assert_eq!(detail, "it is accepted only if it is itself in the CA file");
    let trusted = here().self_signed().pem;
    let (code, detail) = told(here().self_signed(), &trusted).await;
    assert_eq!(code, Code::CertificateUntrusted);
    assert_eq!(
        detail,
        "CN=rcgen self signed cert is issued by CN=rcgen self signed cert; certificates trusted: 1"
    );
    // Issued by a trusted CA, but marked as a CA itself: Go and curl accept it.
    let ca = Ca::new("ca");
    assert_eq!(told(ca.issues(here().marked_as_ca()), &ca.pem()).await.0, Code::CertificateIsCa);
}

#[tokio::test]
async fn f015_an_issued_certificate_is_held_to_issuer_name_dates_and_purpose() {
    let ca = Ca::new("ca");
    // An impostor with the same name.
    let impostor = Ca::new("ca");
    assert_eq!(told(impostor.issues(here()), &ca.pem()).await, (Code::CertificateUntrusted, String::new()));
    let nobody = "not 127.0.0.1, but no name at all (a common name is none)".to_owned();
    let unnamed = ca.issues(Wanted::with_names(&[]));
    assert_eq!(told(unnamed, &ca.pem()).await, (Code::CertificateWrongName, nobody));
    let old = ca.issues(here().good_for(2020, 2021));
    assert_eq!(told(old, &ca.pem()).await.0, Code::CertificateExpired);
    let early = ca.issues(here().good_for(2110, 2120));
    assert_eq!(told(early, &ca.pem()).await.0, Code::CertificateNotYetValid);
    let (code, detail) = told(ca.issues(here().for_a_client()), &ca.pem()).await;
    assert_eq!(code, Code::CertificateInvalid, "{detail}");
}

#[tokio::test]
async fn f012_f014_roots_are_read_again_for_each_attempt_and_no_session_outlives_them() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let roots = super::Roots::File(path.clone());
    let client = super::HttpEndpoint::new(PATIENT, roots, super::Proxies::default());
    // The server offers tickets, as rustls and Go do by default.
    let server = Server::answers_within(old.issues(here()).accepts(), OK).await;
    let outcome = async |pem: String| {
        std::fs::write(&path, pem).unwrap();
        client
            .send(&post(&server.https()), 0)
            .await
            .map(|answer| answer.status)
            .map_err(|failure| failure.code)
    };
    assert_eq!(outcome(old.pem()).await, Ok(200));
    assert_eq!(outcome(new.pem()).await, Err(Code::CertificateUntrusted));
    assert_eq!(outcome(String::new()).await, Err(Code::CaFileInvalid));
    assert_eq!(outcome(old.pem()).await, Ok(200));
}

#[tokio::test]
async fn f017_a_port_that_does_not_speak_tls() {
    let ca = Ca::new("ca").pem();
    // As Go's plain server answers a handshake.
    let server = Server::acts(|mut wire| async move {
        wire.writes(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n400 Bad Request").await;
        wire.ends().await;
    })
    .await;
    let failure = Client::trusting(&ca).fails(&server.https()).await;
    assert_eq!(failure.code, Code::TlsNotSpoken);
    assert_eq!(failure.detail, format!("{}: what it sends is not TLS", server.address));
}

#[tokio::test]
async fn f017_a_server_that_offers_only_what_is_too_old() {
    // What openssl's answer is then: alert 70, protocol_version.
    let server = Server::acts(|mut wire| async move {
        wire.writes(b"\x15\x03\x01\x00\x02\x02\x46").await;
        wire.ends().await;
    })
    .await;
    let failure = Client::trusting(&Ca::new("ca").pem()).fails(&server.https()).await;
    assert_eq!(failure.code, Code::TlsRefused);
    let alert = format!("{}: received fatal alert: ProtocolVersion: TLS 1.2", server.address);
    assert!(failure.detail.starts_with(&alert), "{failure}");
}

#[tokio::test]
async fn f017_a_server_that_goes_on_with_what_is_too_old() {
    // A ServerHello of TLS 1.1, as from a server that takes no notice of what was offered.
    let server = Server::acts(|mut wire| async move {
        let random = [7; 32];
        let hello = [b"\x16\x03\x02\0\x2a\x02\0\0\x26\x03\x02".as_slice(), &random, b"\0\0\x2f\0"].concat();
        wire.writes(&hello).await;
        wire.ends().await;
    })
    .await;
    let failure = Client::trusting(&Ca::new("ca").pem()).fails(&server.https()).await;
    assert_eq!(failure.code, Code::TlsRefused, "{failure}");
    assert!(!server.seen().contains("canary"));
}

#[tokio::test]
async fn f017_a_server_that_would_rather_speak_http_2() {
    let ca = Ca::new("ca");
    exchange(ca.issues(here()).accepts_protocol("h2"), &ca.pem()).await.unwrap();
}

#[tokio::test]
async fn f017_a_server_that_wants_a_client_certificate() {
    let ca = Ca::new("ca");
    for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        let acceptor = ca.issues(here()).accepts_with(&versions, Some(&ca));
        let failure = exchange(acceptor, &ca.pem()).await.unwrap_err();
        assert_eq!(failure.code, Code::TlsRefused, "{failure}");
        // TLS 1.2 has no alert of its own for it.
        assert!(failure.detail.contains("fatal alert: "), "{failure}");
    }
}

#[tokio::test]
async fn f017_a_connection_that_breaks_in_the_handshake() {
    let ca = Ca::new("ca").pem();
    let server = Server::acts(|mut wire| async move { wire.ends().await }).await;
    let failure = Client::trusting(&ca).fails(&server.https()).await;
    assert_eq!(failure.code, Code::TlsFailed);
    assert_eq!(failure.detail, format!("{}: tls handshake eof", server.address));
    let server = Server::acts(|wire| async move { wire.resets() }).await;
    let failure = Client::trusting(&ca).fails(&server.https()).await;
    assert_eq!(failure.detail, format!("{}: connection reset by peer", server.address));
}

#[tokio::test]
async fn f005_a_truncated_session_is_a_lost_connection() {
    let ca = Ca::new("ca");
    let acceptor = ca.issues(here()).accepts();
    let server = Server::acts(move |wire| {
        let acceptor = acceptor.clone();
        async move {
            let mut wire = wire.within(&acceptor).await.unwrap();
            wire.reads_request().await;
            // Its end would be the body's end, if it were told as TLS tells it.
            wire.writes(b"HTTP/1.0 200 OK\r\n\r\n{\"access_token\":\"half").await;
        }
    })
    .await;
    let failure = Client::trusting(&ca.pem()).fails(&server.https()).await;
    assert_eq!(failure.code, Code::ConnectionLost, "{failure}");
}
