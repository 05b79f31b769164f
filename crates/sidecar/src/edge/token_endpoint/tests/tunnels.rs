//! Exchanges through a proxy that writes down what it sees.

use dexsidecar_core::failure::Code;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::certificates::{Ca, Wanted};
use super::server::{Server, Wire};
use super::{Client, PATIENT, SUBJECT};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
const PASSWORD: &str = "canary-of-the-proxy";

/// Makes a tunnel to `to`, whatever it is asked for, and notes everything that comes in.
async fn tunnels<S: AsyncRead + AsyncWrite + Unpin>(mut wire: Wire<S>, to: std::net::SocketAddr) {
    wire.reads_request().await;
    wire.writes(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
    let mut onward = TcpStream::connect(to).await.unwrap();
    let (mut there, mut back) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            Ok(count @ 1..) = wire.stream.read(&mut there) => {
                wire.seen.lock().unwrap().extend_from_slice(&there[..count]);
                onward.write_all(&there[..count]).await.unwrap();
            }
            Ok(count @ 1..) = onward.read(&mut back) => {
                if !wire.writes(&back[..count]).await {
                    return;
                }
            }
            else => return,
        }
    }
}

fn through(proxy: &str, trusted: &str) -> Client {
    let variables = [("HTTPS_PROXY", proxy.to_owned()), ("HTTP_PROXY", proxy.to_owned())];
    Client::with(trusted, PATIENT, &variables)
}

#[tokio::test]
async fn f018_a_proxy_sees_where_to_and_never_what() {
    let ca = Ca::new("ca");
    let dex = Server::answers_within(ca.issues(Wanted::with_names(&["dex.example"])).accepts(), OK).await;
    let to = dex.address;
    let proxy = Server::acts(move |wire| tunnels(wire, to)).await;
    let client = through(&format!("http://me:{PASSWORD}@{}", proxy.address), &ca.pem());
    let answer = client.posts("https://dex.example:5556/token").await.unwrap();
    assert_eq!(&answer.body[..], b"{}");
    assert!(dex.seen().contains(SUBJECT));
    assert!(!dex.seen().contains("proxy-authorization"));
    let seen = proxy.seen();
    let head = "CONNECT dex.example:5556 HTTP/1.1\r\nhost: dex.example:5556\r\n\
                proxy-authorization: Basic bWU6Y2FuYXJ5LW9mLXRoZS1wcm94eQ==\r\n\r\n";
    assert!(seen.starts_with(head), "{seen}");
    assert!(!seen.contains("canary") && !seen.contains("POST"), "{seen}");
}

#[tokio::test]
async fn f018_plain_http_goes_through_a_tunnel_too() {
    let dex = Server::answers(OK).await;
    let to = dex.address;
    let proxy = Server::acts(move |wire| tunnels(wire, to)).await;
    let client = through(&proxy.address.to_string(), "");
    assert_eq!(client.posts("http://dex.example/token").await.unwrap().status, 200);
    let seen = proxy.seen();
    assert!(
        seen.starts_with("CONNECT dex.example:80 HTTP/1.1\r\nhost: dex.example:80\r\n\r\nPOST /token"),
        "{seen}"
    );
    assert!(dex.seen().contains("host: dex.example\r\n"));
    let answer = client.posts("http://[fd00::1]/token").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(proxy.seen().contains("CONNECT [fd00::1]:80 HTTP/1.1\r\nhost: [fd00::1]:80\r\n\r\n"));
}

#[tokio::test]
async fn f018_a_proxy_may_speak_tls_itself() {
    let ca = Ca::new("ca");
    let dex = Server::answers_within(ca.issues(Wanted::with_names(&["dex.example"])).accepts(), OK).await;
    let (to, acceptor) = (dex.address, ca.issues(Wanted::with_names(&["127.0.0.1"])).accepts());
    let proxy = Server::acts(move |wire| {
        let acceptor = acceptor.clone();
        async move {
            let Some(wire) = wire.within(&acceptor).await else { return };
            tunnels(wire, to).await;
        }
    })
    .await;
    let address = proxy.address;
    let client = through(&format!("https://me:{PASSWORD}@{address}"), &ca.pem());
    assert_eq!(client.posts("https://dex.example/token").await.unwrap().status, 200);
    assert!(proxy.seen().starts_with("CONNECT dex.example:443 ") && !proxy.seen().contains(SUBJECT));

    // It is told apart from Dex when it is not trusted, and is sent nothing then.
    let client = through(&format!("https://me:{PASSWORD}@{address}"), &Ca::new("ca").pem());
    let failure = client.fails("https://dex.example/token").await;
    assert_eq!(failure.code, Code::ProxyFailed);
    assert_eq!(
        failure.detail,
        format!("https://{address}: the server's certificate is not signed by a trusted CA")
    );
    assert_eq!(proxy.seen().matches("CONNECT").count(), 1);
    // A CA file of ours that is broken is not the proxy's fault.
    let client = through(&format!("https://{address}"), "");
    assert_eq!(client.fails("https://dex.example/token").await.code, Code::CaFileInvalid);
}

#[tokio::test]
async fn f018_a_refusal_is_told_with_its_status() {
    for (answer, told) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!",
            "it answers 407, it wants a user and a password",
        ),
        ("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n", "it answers 403"),
        ("HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n", "it answers 302"),
        ("HTTP/1.0 503 Unavailable\r\n\r\n", "it answers 503"),
        ("SSH-2.0-OpenSSH\r\n", "invalid HTTP version parsed"),
        ("", "connection closed before message completed"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>log in</html>",
            "it talks where the tunnel should be",
        ),
    ] {
        let proxy = Server::answers(answer).await;
        let client = through(&format!("http://me:{PASSWORD}@{}", proxy.address), &Ca::new("ca").pem());
        for url in ["https://dex.example/token", "http://dex.example/token"] {
            let failure = client.fails(url).await;
            assert_eq!(failure.code, Code::ProxyFailed, "{answer}: {failure}");
            assert_eq!(failure.detail, format!("http://{}: {told}", proxy.address));
        }
        assert!(!proxy.seen().contains("canary-of-the-subject-token"));
    }
}

#[tokio::test]
async fn f018_a_proxy_that_is_not_there() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = through(&format!("http://me:{PASSWORD}@{nowhere}"), &Ca::new("ca").pem());
    let failure = client.fails("https://dex.example/token").await;
    assert_eq!(failure.code, Code::ProxyFailed);
    assert_eq!(
        failure.detail,
        format!("http://{nowhere}: nothing listens there: {nowhere}: connection refused")
    );
    assert!(!format!("{client:?}", client = client.endpoint).contains("canary"));
}

#[tokio::test]
async fn f015_dex_s_certificate_is_judged_through_a_tunnel_as_without() {
    let ca = Ca::new("ca");
    let dex = Server::answers_within(ca.issues(Wanted::with_names(&["other.example"])).accepts(), OK).await;
    let to = dex.address;
    let proxy = Server::acts(move |wire| tunnels(wire, to)).await;
    let failure = through(&proxy.address.to_string(), &ca.pem()).fails("https://dex.example/token").await;
    assert_eq!(failure.code, Code::CertificateWrongName);
    assert_eq!(failure.detail, "not dex.example, but other.example");
    assert_eq!(dex.seen(), "");
}
