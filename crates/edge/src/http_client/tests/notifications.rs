//! The requests of actions.

use std::time::Duration;

use dexsidecar_core::action::{HttpAction, Notify as _};
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::secret::Secret;

use super::Client;
use super::certificates::{Ca, CertSpec};
use super::server::Server;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn action(url: &str) -> HttpAction {
    HttpAction {
        url: EndpointUrl::parse(url).unwrap().0,
        method: "POST".to_owned(),
        headers: vec![],
        success: vec![200..=299],
        timeout: Duration::from_secs(60),
    }
}

async fn notify(action: &HttpAction) -> Result<(), Failure> {
    let outcome = Client::new().endpoint.notify(action).await;
    if let Err(failure) = &outcome {
        assert_eq!(failure.code, Code::ActionFailed);
        // The fixes of the failure table are about Dex.
        assert!(!failure.fix().contains("ex_endpoint") && failure.fix() != failure.entry().fix, "{failure}");
    }
    outcome
}

#[tokio::test]
async fn a_request_has_the_method_and_headers_of_the_action_and_no_body() {
    let server = Server::responding(OK).await;
    notify(&action(&server.http())).await.unwrap();
    let expected = format!(
        "POST /dex/token?x=1 HTTP/1.1\r\nconnection: close\r\nhost: {}\r\nuser-agent: dexsidecar/{}\r\naccept: */*\r\n\
         content-length: 0\r\n\r\n",
        server.address,
        env!("CARGO_PKG_VERSION"),
    );
    assert_eq!(server.received(), expected);
    let server = Server::responding(OK).await;
    let headers = [("X-Key", "canary"), ("user-agent", "mine")];
    let headers = headers.map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned()))).to_vec();
    let get = HttpAction { method: "GET".to_owned(), headers, ..action(&server.http()) };
    notify(&get).await.unwrap();
    let received = server.received();
    assert!(received.starts_with("GET ") && received.contains("\r\nx-key: canary\r\n"), "{received}");
    assert!(received.contains("\r\nuser-agent: mine\r\n") && !received.contains("dexsidecar"), "{received}");
}

#[tokio::test]
async fn the_status_decides_and_a_redirect_is_not_followed() {
    for (status, works) in [(200, true), (204, true), (299, true), (300, false), (404, false), (500, false)] {
        let server = Server::responding(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")).await;
        let outcome = notify(&action(&server.http())).await;
        assert_eq!(outcome.is_ok(), works, "{status}: {outcome:?}");
        let other = HttpAction { success: vec![404..=404, 500..=599], ..action(&server.http()) };
        assert_eq!(notify(&other).await.is_ok(), [404, 500].contains(&status), "{status}");
    }
    let target = Server::responding(OK).await;
    let response = format!("HTTP/1.1 307 X\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", target.http());
    let server = Server::responding(response).await;
    let failure = notify(&action(&server.http())).await.unwrap_err();
    assert!(failure.detail.ends_with("answered with status 307; redirects are not followed"), "{failure}");
    assert!(!failure.detail.contains("x=1"), "a query may hold a secret: {failure}");
    assert_eq!(target.received(), "");
}

#[tokio::test]
async fn a_response_is_bounded() {
    let long = "x".repeat(10 * 1024 * 1024);
    let server =
        Server::responding(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len())).await;
    notify(&action(&server.http())).await.unwrap();
    let server = Server::responding(format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n")).await;
    assert!(notify(&action(&server.http())).await.is_err());
    for begin in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"] {
        let server = Server::start(move |mut wire| async move {
            wire.read_request().await;
            wire.write(begin.as_bytes()).await;
            wire.wait_for_close().await;
        })
        .await;
        let slow = HttpAction { timeout: Duration::from_millis(200), ..action(&server.http()) };
        let failure = notify(&slow).await.unwrap_err();
        assert!(failure.detail.starts_with("the attempt timed out"), "{failure}");
    }
    for broken in ["", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"] {
        let server = Server::responding(broken).await;
        assert!(notify(&action(&server.http())).await.is_err(), "{broken}");
    }
}

#[tokio::test]
async fn plain_http_goes_to_loopback_only() {
    for host in ["192.0.2.1", "10.0.0.1", "[fd00::1]", "0.0.0.0", "[::ffff:10.0.0.1]"] {
        let failure = notify(&action(&format!("http://{host}/reload"))).await.unwrap_err();
        assert!(failure.detail.starts_with("plain http to another host"), "{host}: {failure}");
    }
    let server = Server::responding(OK).await;
    for host in ["localhost", "127.0.0.1", "a.localhost", "[::ffff:127.0.0.1]"] {
        notify(&action(&format!("http://{host}:{}/reload", server.address.port()))).await.unwrap();
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = notify(&action(&format!("http://{free}/"))).await.unwrap_err();
    assert_eq!(failure.detail, format!("connection refused: {free}"));
}

#[tokio::test]
async fn no_proxy_is_used_for_loopback() {
    let (server, proxy) = (Server::responding(OK).await, Server::responding(OK).await);
    let variables = [("HTTP_PROXY", format!("http://{}", proxy.address))];
    let client = Client::with("", Duration::from_secs(60), &variables);
    client.endpoint.notify(&action(&server.http())).await.unwrap();
    assert_eq!((server.received().is_empty(), proxy.received().as_str()), (false, ""));
}

#[tokio::test]
async fn https_is_verified() {
    let ca = Ca::new("test CA");
    let acceptor = ca.issue(CertSpec::with_names(&["127.0.0.1"])).acceptor();
    let server = Server::responding_over_tls(acceptor, OK).await;
    let trusting = Client::trusting(&ca.pem());
    trusting.endpoint.notify(&action(&server.https())).await.unwrap();
    assert!(notify(&action(&server.https())).await.is_err());
}

#[tokio::test]
async fn check_connects_and_sends_nothing() {
    let server = Server::responding(OK).await;
    let peer = Client::new().endpoint.connect_for(&action(&server.http())).await.unwrap();
    assert_eq!((peer, server.received()), (server.address.to_string(), String::new()));
    let failure = Client::new().endpoint.connect_for(&action("http://192.0.2.1/")).await.unwrap_err();
    assert_eq!(failure.code, Code::ActionFailed);
}
