//! Exchanges through a fake SOCKS proxy.

use std::net::SocketAddr;

use dexsidecar_core::failure::Code;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::certificates::{Ca, CertSpec};
use super::server::{Server, Wire};
use super::{Client, LONG_TIMEOUT, SUBJECT};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
const PASSWORD: &str = "canary-of-the-proxy";

/// A SOCKS server that chooses this authentication method, returns this authentication status and
/// this reply, and connects to `to`. It records the methods, user, password and destination that it
/// receives.
async fn serve_socks(mut wire: Wire<TcpStream>, method: u8, status: u8, reply: u8, to: SocketAddr) {
    let mut head = [0; 2];
    wire.stream.read_exact(&mut head).await.unwrap();
    let mut methods = vec![0; usize::from(head[1])];
    wire.stream.read_exact(&mut methods).await.unwrap();
    wire.received.lock().unwrap().extend(format!("methods {methods:?};").bytes());
    wire.write(&[5, method]).await;
    if method == 2 {
        let mut text = vec![wire.stream.read_u8().await.unwrap()];
        for _ in 0..2 {
            let mut part = vec![0; usize::from(wire.stream.read_u8().await.unwrap())];
            wire.stream.read_exact(&mut part).await.unwrap();
            text.push(b' ');
            text.extend(part);
        }
        wire.received.lock().unwrap().extend(&text[1..]);
        wire.write(&[1, status]).await;
    }
    let mut request = [0; 4];
    if wire.stream.read_exact(&mut request).await.is_err() {
        return;
    }
    let destination = match request[3] {
        1 => format!("{:?}", read(&mut wire, 6).await),
        4 => format!("{:?}", read(&mut wire, 18).await),
        _ => {
            let length = usize::from(wire.stream.read_u8().await.unwrap());
            let name = read(&mut wire, length).await;
            format!("{}:{}", String::from_utf8(name).unwrap(), wire.stream.read_u16().await.unwrap())
        }
    };
    wire.received.lock().unwrap().extend(format!(";{destination};").bytes());
    wire.write(&[5, reply, 0, 3, 1, b'x', 0, 0]).await;
    if reply == 0 {
        let mut upstream = TcpStream::connect(to).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut wire.stream, &mut upstream).await;
    }
}

async fn read(wire: &mut Wire<TcpStream>, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    wire.stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn proxy(method: u8, status: u8, reply: u8, to: SocketAddr) -> Server {
    Server::start(move |wire| serve_socks(wire, method, status, reply, to)).await
}

fn client_via(scheme: &str, user: &str, proxy: &Server, trusted: &str) -> Client {
    let url = format!("{scheme}://{user}{}", proxy.address);
    Client::with(trusted, LONG_TIMEOUT, &[("HTTPS_PROXY", url.clone()), ("HTTP_PROXY", url)])
}

#[tokio::test]
async fn f151_the_socks_proxy_resolves_names() {
    let ca = Ca::new("ca");
    let dex =
        Server::responding_over_tls(ca.issue(CertSpec::with_names(&["dex.example"])).acceptor(), OK).await;
    let proxy = proxy(0, 0, 0, dex.address).await;
    for scheme in ["socks5", "socks5h", "SOCKS5"] {
        let client = client_via(scheme, "", &proxy, &ca.pem());
        assert_eq!(client.post("https://dex.example:5556/token").await.unwrap().status, 200);
    }
    assert_eq!(proxy.received(), "methods [0];;dex.example:5556;".repeat(3));
    assert!(dex.received().contains(SUBJECT));
}

#[tokio::test]
async fn f151_a_socks_proxy_carries_plain_http_and_addresses() {
    let dex = Server::responding(OK).await;
    let proxy = proxy(0, 0, 0, dex.address).await;
    let client = client_via("socks5", "", &proxy, "");
    for url in ["http://dex.auth.svc./token", "http://10.0.0.7:5556/token", "http://[fd00::7]/token"] {
        assert_eq!(client.post(url).await.unwrap().status, 200);
    }
    let received = proxy.received();
    assert!(
        received.contains(";dex.auth.svc.:80;") && received.contains("[10, 0, 0, 7, 21, 180]"),
        "{received}"
    );
    assert!(received.contains("[253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 80]"), "{received}");
    assert!(dex.received().contains("POST /token HTTP/1.1\r\nhost: dex.auth.svc\r\n"), "{}", dex.received());
}

#[tokio::test]
async fn f151_user_and_password_are_sent_only_if_required() {
    let dex = Server::responding(OK).await;
    let user = format!("me:{}@", PASSWORD.replace('-', "%2d"));
    let requires = proxy(2, 0, 0, dex.address).await;
    assert_eq!(
        client_via("socks5", &user, &requires, "").post("http://dex/token").await.unwrap().status,
        200
    );
    assert_eq!(requires.received(), format!("methods [0, 2]; me {PASSWORD};dex:80;"));
    let encoded = proxy(2, 0, 0, dex.address).await;
    let client = client_via("socks5", "a%3Ab:c%3Ad@", &encoded, "");
    assert_eq!(client.post("http://dex/token").await.unwrap().status, 200);
    assert_eq!(encoded.received(), "methods [0, 2]; a:b c:d;dex:80;");
    let open = proxy(0, 0, 0, dex.address).await;
    assert_eq!(client_via("socks5", &user, &open, "").post("http://dex/token").await.unwrap().status, 200);
    assert!(!open.received().contains("canary"));
}

#[tokio::test]
async fn f151_a_failure_of_a_socks_proxy_names_the_variable_and_the_reason() {
    let to = Server::responding(OK).await.address;
    let user = format!("me:{PASSWORD}@");
    for (method, status, reply, user, why, fix) in [
        (0xff, 0, 0, "", "user and password required", "put the user and the password"),
        (
            0xff,
            0,
            0,
            user.as_str(),
            "accepts neither user and password nor a client without them",
            "let the proxy accept",
        ),
        (1, 0, 0, "", "requires the unsupported authentication method 1", "let the proxy accept"),
        (2, 1, 0, user.as_str(), "rejected the user and password", "correct the user and the password"),
        (0, 0, 2, "", "cannot connect to dex: not allowed by its rules", "allow Dex's host"),
        (0, 0, 4, "", "cannot connect to dex: host unreachable", "check host and port"),
        (0, 0, 5, "", "cannot connect to dex: connection refused", "check host and port"),
        (0, 0, 77, "", "cannot connect to dex: unknown reply code", "correct the proxy URL"),
    ] {
        let proxy = proxy(method, status, reply, to).await;
        let failure = client_via("socks5", user, &proxy, "").post_failure("http://dex/token").await;
        assert_eq!(failure.code, Code::ProxyFailed);
        assert_eq!(failure.detail, format!("socks5://{} (HTTP_PROXY): {why}", proxy.address));
        assert!(failure.fix().starts_with(fix), "{why}: {}", failure.fix());
    }
    for (response, why, fix) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak SOCKS 5", "correct the scheme"),
        ("", "closed the connection", "check that the proxy is running"),
        ("\x05", "closed the connection", "check that the proxy is running"),
        ("\x05\0\x05\0\0\x07", "unknown address type in its reply", "correct the scheme"),
    ] {
        let proxy = Server::start(move |mut wire| async move {
            wire.write(response.as_bytes()).await;
            wire.finish().await;
        })
        .await;
        let failure = client_via("socks5", "", &proxy, "").post_failure("http://dex/token").await;
        assert_eq!(failure.detail, format!("socks5://{} (HTTP_PROXY): {why}", proxy.address), "{response:?}");
        assert!(failure.fix().starts_with(fix), "{why}: {}", failure.fix());
    }
    let long = format!("{}:x@", "u".repeat(256));
    let proxy = proxy(2, 0, 0, to).await;
    let failure = client_via("socks5", &long, &proxy, "").post_failure("http://dex/token").await;
    assert!(failure.detail.ends_with(": user or password longer than 255 bytes"), "{failure}");
}
