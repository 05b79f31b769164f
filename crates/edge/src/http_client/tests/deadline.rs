//! The deadline of an attempt, and the stage that a timeout names. Only tests that must time out
//! have a short one.

use std::time::Duration;

use dexsidecar_core::failure::Code;

use super::certificates::Ca;
use super::server::Server;
use super::{Client, LONG_TIMEOUT};

#[tokio::test]
async fn f003_a_server_that_never_answers_times_out() {
    let server = Server::start(|mut wire| async move { wire.wait_for_close().await }).await;
    let failure = Client::with_short_timeout().post_failure(&server.http()).await;
    assert_eq!(failure.code, Code::TimedOut);
    assert_eq!(failure.detail, format!("while waiting for the response from {}", server.address));
    assert_eq!(failure.fix(), Code::TimedOut.entry().fix);
}

#[tokio::test]
async fn f003_a_server_that_never_completes_the_handshake_times_out() {
    let server = Server::start(|mut wire| async move { wire.wait_for_close().await }).await;
    let ca = Ca::new("ca").pem();
    let client = Client::with(&ca, Duration::from_millis(300), &[]);
    let failure = client.post_failure(&server.https()).await;
    assert_eq!(failure.code, Code::TimedOut);
    assert_eq!(failure.detail, format!("during the TLS handshake with {}", server.address));
    assert!(failure.fix().starts_with("check the load balancer"), "{}", failure.fix());
}

#[tokio::test]
async fn f004_a_server_that_sends_a_byte_at_a_time_times_out() {
    for start in ["HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"] {
        let server = Server::start(move |mut wire| async move {
            wire.read_request().await;
            wire.write(start.as_bytes()).await;
            while wire.write(b"x").await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let failure = Client::with_short_timeout().post_failure(&server.http()).await;
        assert_eq!(failure.code, Code::TimedOut);
        assert_eq!(failure.detail, format!("while waiting for the response from {}", server.address));
    }
}

#[tokio::test]
async fn f018_a_proxy_that_never_opens_a_tunnel_times_out() {
    let proxy = Server::start(|mut wire| async move { wire.wait_for_close().await }).await;
    let variables = [("HTTPS_PROXY", proxy.address.to_string())];
    let client = Client::with(&Ca::new("ca").pem(), Duration::from_millis(300), &variables);
    let failure = client.post_failure("https://dex.example/token").await;
    assert_eq!(failure.code, Code::TimedOut);
    assert_eq!(
        failure.detail,
        format!("while waiting for a tunnel through the proxy http://{} (HTTPS_PROXY)", proxy.address)
    );
    assert!(failure.fix().starts_with("check the scheme of the proxy"), "{}", failure.fix());
}

/// The backlog of this listener is full, so a connection to it is never completed.
#[tokio::test]
async fn f018_a_proxy_that_cannot_be_connected_to_is_named_by_a_timeout() {
    let listener = tokio::net::TcpSocket::new_v4().unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = vec![];
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(address)).await
    {
        filling.push(connected.unwrap());
    }
    let variables = [("HTTPS_PROXY", address.to_string())];
    let client = Client::with(&Ca::new("ca").pem(), Duration::from_millis(300), &variables);
    let failure = client.post_failure("https://dex.example/token").await;
    assert_eq!(failure.code, Code::TimedOut);
    assert_eq!(failure.detail, format!("while connecting to {address}, the proxy of HTTPS_PROXY"));
    assert!(failure.fix().starts_with("check that the proxy is running"), "{}", failure.fix());
}

#[tokio::test]
async fn dropping_an_attempt_closes_its_connection() {
    let (closed, wait) = tokio::sync::oneshot::channel();
    let closed = std::sync::Mutex::new(Some(closed));
    let server = Server::start(move |mut wire| {
        let closed = closed.lock().unwrap().take();
        async move {
            wire.wait_for_close().await;
            closed.map(|closed| closed.send(()));
        }
    })
    .await;
    let client = Client::with_short_timeout();
    assert_eq!(client.post_failure(&server.http()).await.code, Code::TimedOut);
    tokio::time::timeout(LONG_TIMEOUT, wait).await.unwrap().unwrap();
}
