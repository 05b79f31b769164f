//! One deadline over everything, and words for where it struck. Only what must run into it has a short one.

use std::time::Duration;

use dexsidecar_core::failure::Code;

use super::certificates::Ca;
use super::server::Server;
use super::{Client, PATIENT};

#[tokio::test]
async fn f003_a_server_that_never_answers() {
    let server = Server::acts(|mut wire| async move { wire.waits().await }).await;
    let failure = Client::hasty().fails(&server.http()).await;
    assert_eq!(failure.code, Code::TimedOut);
    assert_eq!(failure.detail, format!("while waiting for the answer of {}", server.address));
}

#[tokio::test]
async fn f003_a_server_that_never_shakes_hands() {
    let server = Server::acts(|mut wire| async move { wire.waits().await }).await;
    let ca = Ca::new("ca").pem();
    let client = Client::with(&ca, Duration::from_millis(300), &[]);
    let failure = client.fails(&server.https()).await;
    assert_eq!(failure.code, Code::TimedOut);
    assert_eq!(failure.detail, format!("in the TLS handshake with {}", server.address));
}

#[tokio::test]
async fn f004_a_server_that_drips() {
    for start in ["HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"] {
        let server = Server::acts(move |mut wire| async move {
            wire.reads_request().await;
            wire.writes(start.as_bytes()).await;
            while wire.writes(b"x").await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let failure = Client::hasty().fails(&server.http()).await;
        assert_eq!(failure.code, Code::TimedOut);
        assert_eq!(failure.detail, format!("while waiting for the answer of {}", server.address));
    }
}

#[tokio::test]
async fn f018_a_proxy_that_never_makes_a_tunnel() {
    let proxy = Server::acts(|mut wire| async move { wire.waits().await }).await;
    let variables = [("HTTPS_PROXY", proxy.address.to_string())];
    let client = Client::with(&Ca::new("ca").pem(), Duration::from_millis(300), &variables);
    let failure = client.fails("https://dex.example/token").await;
    assert_eq!(failure.code, Code::TimedOut);
    assert_eq!(
        failure.detail,
        format!("while the proxy http://{} (HTTPS_PROXY) was making a tunnel", proxy.address)
    );
}

#[tokio::test]
async fn an_attempt_that_is_dropped_takes_its_connection_along() {
    let (gone, wait) = tokio::sync::oneshot::channel();
    let gone = std::sync::Mutex::new(Some(gone));
    let server = Server::acts(move |mut wire| {
        let gone = gone.lock().unwrap().take();
        async move {
            wire.waits().await;
            gone.map(|gone| gone.send(()));
        }
    })
    .await;
    let client = Client::hasty();
    assert_eq!(client.fails(&server.http()).await.code, Code::TimedOut);
    tokio::time::timeout(PATIENT, wait).await.unwrap().unwrap();
}
