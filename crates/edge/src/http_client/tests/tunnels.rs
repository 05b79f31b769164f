//! Exchanges through a fake HTTP proxy that records the data it receives.

use std::time::Duration;

use dexsidecar_core::exchange::TokenEndpoint as _;
use dexsidecar_core::failure::Code;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::request;
use super::certificates::{Ca, CertSpec};
use super::server::{Server, Wire};
use super::{Client, LONG_TIMEOUT, SUBJECT, post_request};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
const PASSWORD: &str = "canary-of-the-proxy";

/// Opens a tunnel to `to`, whatever target CONNECT names, and records all data from the client.
async fn serve_tunnel<S: AsyncRead + AsyncWrite + Unpin>(mut wire: Wire<S>, to: std::net::SocketAddr) {
    wire.read_request().await;
    wire.write(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
    let mut upstream = TcpStream::connect(to).await.unwrap();
    let (mut sent, mut returned) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            Ok(count @ 1..) = wire.stream.read(&mut sent) => {
                wire.received.lock().unwrap().extend_from_slice(&sent[..count]);
                upstream.write_all(&sent[..count]).await.unwrap();
            }
            Ok(count @ 1..) = upstream.read(&mut returned) => {
                if !wire.write(&returned[..count]).await {
                    return;
                }
            }
            else => return,
        }
    }
}

fn client_via(proxy: &str, trusted: &str) -> Client {
    let variables = [("HTTPS_PROXY", proxy.to_owned()), ("HTTP_PROXY", proxy.to_owned())];
    Client::with(trusted, LONG_TIMEOUT, &variables)
}

#[tokio::test]
async fn f018_f149_a_tunnelling_proxy_sees_target_and_user_agent_but_no_content() {
    let ca = Ca::new("ca");
    let dex =
        Server::responding_over_tls(ca.issue(CertSpec::with_names(&["dex.example"])).acceptor(), OK).await;
    let to = dex.address;
    let proxy = Server::start(move |wire| serve_tunnel(wire, to)).await;
    let client = client_via(&format!("http://me:{PASSWORD}@{}", proxy.address), &ca.pem());
    let response = client.post("https://dex.example:5556/token").await.unwrap();
    assert_eq!(&response.body[..], b"{}");
    assert!(dex.received().contains(SUBJECT));
    assert!(!dex.received().contains("proxy-authorization"));
    let received = proxy.received();
    let agent = request::USER_AGENT;
    let head = format!(
        "CONNECT dex.example:5556 HTTP/1.1\r\nhost: dex.example:5556\r\nuser-agent: {agent}\r\n\
         proxy-authorization: Basic bWU6Y2FuYXJ5LW9mLXRoZS1wcm94eQ==\r\n\r\n"
    );
    assert!(received.starts_with(&head), "{received}");
    assert!(!received.contains("canary") && !received.contains("POST"), "{received}");
}

/// Many proxies (Squid by default) allow CONNECT to port 443 only. Go sends such a request in
/// absolute form too.
#[tokio::test]
async fn f150_plain_http_is_sent_to_a_proxy_in_absolute_form() {
    let proxy = Server::responding(OK).await;
    let client = client_via(&format!("http://me:{PASSWORD}@{}", proxy.address), "");
    for (url, target, host) in [
        ("http://dex.auth.svc/token", "http://dex.auth.svc/token", "dex.auth.svc"),
        ("http://dex.:5556/a/token?x=1", "http://dex:5556/a/token?x=1", "dex:5556"),
        ("http://[fd00::1]/token", "http://[fd00::1]/token", "[fd00::1]"),
    ] {
        assert_eq!(client.post(url).await.unwrap().status, 200);
        let received = proxy.received();
        assert!(received.contains(&format!("POST {target} HTTP/1.1\r\nhost: {host}\r\n")), "{received}");
    }
    let received = proxy.received();
    assert!(!received.contains("CONNECT") && received.contains(SUBJECT), "{received}");
    assert_eq!(
        received.matches("proxy-authorization: Basic bWU6Y2FuYXJ5LW9mLXRoZS1wcm94eQ==\r\n").count(),
        3
    );
}

#[tokio::test]
async fn f150_a_407_of_a_forwarding_proxy_is_a_proxy_failure() {
    let proxy = Server::responding("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n").await;
    let failure = client_via(&proxy.address.to_string(), "").post_failure("http://dex/token").await;
    let detail = format!("http://{} (HTTP_PROXY): answered 407: user and password required", proxy.address);
    assert_eq!((failure.code, failure.detail), (Code::ProxyFailed, detail));
    // Any other status may come from Dex.
    let proxy = Server::responding("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(
        client_via(&proxy.address.to_string(), "").post("http://dex/token").await.unwrap().status,
        403
    );
}

/// Secrets in plain HTTP would be readable between the proxy and the public address.
#[tokio::test]
async fn f154_plain_http_to_a_public_address_is_not_sent_through_a_proxy() {
    let proxy = Server::responding(OK).await;
    let client = client_via(&proxy.address.to_string(), "");
    for url in ["http://192.0.2.7/token", "http://[2001:db8::1]/token"] {
        let failure = client.post_failure(url).await;
        assert_eq!(failure.code, Code::PlainHttpRefused, "{failure}");
        assert!(failure.detail.ends_with(", through the proxy of HTTP_PROXY"), "{failure}");
    }
    // A name that cannot be resolved might have a public address.
    let failure = client.post_failure("http://dex.invalid.onion/token").await;
    assert_eq!(failure.code, Code::NameNotFound);
    assert!(
        failure.detail.ends_with("plain http through the proxy of HTTP_PROXY requires a resolvable name"),
        "{failure}"
    );
    assert_eq!(proxy.received(), "");
    let allowed = client.endpoint.allowing_insecure_http(true);
    let response = allowed.send(&post_request("http://192.0.2.7/token"), 0).await.unwrap();
    assert_eq!(response.status, 200);
}

#[tokio::test]
async fn f154_plain_http_is_not_sent_to_a_proxy_at_a_public_address() {
    for (proxy, url, refused) in [
        ("http://192.0.2.9:9", "http://dex.auth.svc/token", true),
        ("socks5://192.0.2.9:9", "http://dex.auth.svc/token", true),
        // Encrypted on the way to the proxy.
        ("https://192.0.2.9:9", "http://dex.auth.svc/token", false),
        ("http://192.0.2.9:9", "https://dex.auth.svc/token", false),
    ] {
        let variables = [("HTTPS_PROXY", proxy.to_owned()), ("HTTP_PROXY", proxy.to_owned())];
        let client = Client::with(&Ca::new("ca").pem(), Duration::from_millis(300), &variables);
        let failure = client.post_failure(url).await;
        assert_eq!(failure.code == Code::PlainHttpRefused, refused, "{proxy}: {failure}");
        assert!(!refused || failure.detail == "192.0.2.9, the proxy of HTTP_PROXY", "{failure}");
    }
}

#[tokio::test]
async fn f154_plain_http_is_not_sent_to_a_public_address() {
    for url in
        ["http://192.0.2.7:9/token", "http://[::ffff:192.0.2.7]:9/token", "http://[2001:db8::1]:9/token"]
    {
        let failure = Client::new().post_failure(url).await;
        assert_eq!(failure.code, Code::PlainHttpRefused, "{failure}");
    }
}

#[tokio::test]
async fn f018_the_connection_to_a_proxy_may_use_tls() {
    let ca = Ca::new("ca");
    let dex =
        Server::responding_over_tls(ca.issue(CertSpec::with_names(&["dex.example"])).acceptor(), OK).await;
    let (to, acceptor) = (dex.address, ca.issue(CertSpec::with_names(&["127.0.0.1"])).acceptor());
    let proxy = Server::start(move |wire| {
        let acceptor = acceptor.clone();
        async move {
            let Some(wire) = wire.accept_tls(&acceptor).await else { return };
            serve_tunnel(wire, to).await;
        }
    })
    .await;
    let address = proxy.address;
    let client = client_via(&format!("https://me:{PASSWORD}@{address}"), &ca.pem());
    assert_eq!(client.post("https://dex.example/token").await.unwrap().status, 200);
    assert!(proxy.received().starts_with("CONNECT dex.example:443 ") && !proxy.received().contains(SUBJECT));

    // An untrusted proxy is distinguished from an untrusted Dex, and receives nothing.
    let client = client_via(&format!("https://me:{PASSWORD}@{address}"), &Ca::new("ca").pem());
    let failure = client.post_failure("https://dex.example/token").await;
    assert_eq!(failure.code, Code::ProxyFailed);
    assert_eq!(
        failure.detail,
        format!("https://{address} (HTTPS_PROXY): the server's certificate is not signed by a trusted CA")
    );
    assert_eq!(failure.fix(), Code::CertificateUntrusted.entry().fix);
    assert_eq!(proxy.received().matches("CONNECT").count(), 1);
    // An invalid CA file is not a failure of the proxy.
    let client = client_via(&format!("https://{address}"), "");
    assert_eq!(client.post_failure("https://dex.example/token").await.code, Code::CaFileInvalid);
}

#[tokio::test]
async fn f018_a_refused_tunnel_is_reported_with_status_and_variable() {
    for (response, why, fix) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!",
            "answered 407: user and password required",
            "correct the user and the password",
        ),
        ("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n", "answered 403", "allow Dex's host"),
        ("HTTP/1.1 405 Not Allowed\r\n\r\n", "answered 405", "correct the scheme"),
        ("HTTP/1.1 500 Oops\r\n\r\n", "answered 500", "correct the proxy URL"),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n",
            "answered 302",
            "correct the proxy URL",
        ),
        ("HTTP/1.0 503 Unavailable\r\n\r\n", "answered 503", "check host and port"),
        ("SSH-2.0-OpenSSH\r\n", "invalid HTTP version parsed", "correct the scheme"),
        ("", "connection closed before message completed", "check that the proxy is running"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>log in</html>",
            "sent data instead of opening a tunnel",
            "correct the scheme",
        ),
    ] {
        let proxy = Server::responding(response).await;
        let client = client_via(&format!("http://me:{PASSWORD}@{}", proxy.address), &Ca::new("ca").pem());
        let failure = client.post_failure("https://dex.example/token").await;
        assert_eq!(failure.code, Code::ProxyFailed, "{response}: {failure}");
        assert_eq!(failure.detail, format!("http://{} (HTTPS_PROXY): {why}", proxy.address));
        assert!(failure.fix().starts_with(fix), "{why}: {}", failure.fix());
        assert!(!proxy.received().contains("canary-of-the-subject-token"));
    }
}

#[tokio::test]
async fn f018_an_unreachable_proxy_is_a_proxy_failure() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = client_via(&format!("http://me:{PASSWORD}@{nowhere}"), &Ca::new("ca").pem());
    let failure = client.post_failure("https://dex.example/token").await;
    assert_eq!(failure.code, Code::ProxyFailed);
    assert_eq!(failure.detail, format!("http://{nowhere} (HTTPS_PROXY): connection refused: {nowhere}"));
    assert!(!format!("{client:?}", client = client.endpoint).contains("canary"));
}

#[tokio::test]
async fn f015_the_certificate_of_dex_is_verified_through_a_tunnel() {
    let ca = Ca::new("ca");
    let dex =
        Server::responding_over_tls(ca.issue(CertSpec::with_names(&["other.example"])).acceptor(), OK).await;
    let to = dex.address;
    let proxy = Server::start(move |wire| serve_tunnel(wire, to)).await;
    let failure =
        client_via(&proxy.address.to_string(), &ca.pem()).post_failure("https://dex.example/token").await;
    assert_eq!(failure.code, Code::CertificateWrongName);
    assert_eq!(failure.detail, "not valid for dex.example; subject alternative names: other.example");
    assert_eq!(dex.received(), "");
}
