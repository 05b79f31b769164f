//! Exchanges through a SOCKS proxy.

use std::net::SocketAddr;

use dexsidecar_core::failure::Code;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::certificates::{Ca, Wanted};
use super::server::{Server, Wire};
use super::{Client, PATIENT, SUBJECT};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
const PASSWORD: &str = "canary-of-the-proxy";

/// A SOCKS server: the method it chooses, its reply, and where it goes on to. Notes the destination as it was sent.
async fn serves(mut wire: Wire<TcpStream>, method: u8, status: u8, reply: u8, to: SocketAddr) {
    let mut head = [0; 2];
    wire.stream.read_exact(&mut head).await.unwrap();
    let mut methods = vec![0; usize::from(head[1])];
    wire.stream.read_exact(&mut methods).await.unwrap();
    wire.seen.lock().unwrap().extend(format!("methods {methods:?};").bytes());
    wire.writes(&[5, method]).await;
    if method == 2 {
        let mut text = vec![wire.stream.read_u8().await.unwrap()];
        for _ in 0..2 {
            let mut part = vec![0; usize::from(wire.stream.read_u8().await.unwrap())];
            wire.stream.read_exact(&mut part).await.unwrap();
            text.push(b' ');
            text.extend(part);
        }
        wire.seen.lock().unwrap().extend(&text[1..]);
        wire.writes(&[1, status]).await;
    }
    let mut request = [0; 4];
    if wire.stream.read_exact(&mut request).await.is_err() {
        return;
    }
    let place = match request[3] {
        1 => format!("{:?}", read(&mut wire, 6).await),
        4 => format!("{:?}", read(&mut wire, 18).await),
        _ => {
            let length = usize::from(wire.stream.read_u8().await.unwrap());
            let name = read(&mut wire, length).await;
            format!("{}:{}", String::from_utf8(name).unwrap(), wire.stream.read_u16().await.unwrap())
        }
    };
    wire.seen.lock().unwrap().extend(format!(";{place};").bytes());
    wire.writes(&[5, reply, 0, 3, 1, b'x', 0, 0]).await;
    if reply == 0 {
        let mut onward = TcpStream::connect(to).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut wire.stream, &mut onward).await;
    }
}

async fn read(wire: &mut Wire<TcpStream>, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    wire.stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn proxy(method: u8, status: u8, reply: u8, to: SocketAddr) -> Server {
    Server::acts(move |wire| serves(wire, method, status, reply, to)).await
}

fn through(scheme: &str, user: &str, proxy: &Server, trusted: &str) -> Client {
    let url = format!("{scheme}://{user}{}", proxy.address);
    Client::with(trusted, PATIENT, &[("HTTPS_PROXY", url.clone()), ("HTTP_PROXY", url)])
}

#[tokio::test]
async fn f151_names_are_resolved_by_a_socks_proxy() {
    let ca = Ca::new("ca");
    let dex = Server::answers_within(ca.issues(Wanted::with_names(&["dex.example"])).accepts(), OK).await;
    let proxy = proxy(0, 0, 0, dex.address).await;
    for scheme in ["socks5", "socks5h", "SOCKS5"] {
        let client = through(scheme, "", &proxy, &ca.pem());
        assert_eq!(client.posts("https://dex.example:5556/token").await.unwrap().status, 200);
    }
    assert_eq!(proxy.seen(), "methods [0];;dex.example:5556;".repeat(3));
    assert!(dex.seen().contains(SUBJECT));
}

#[tokio::test]
async fn f151_plain_http_and_addresses_go_through_a_socks_proxy_too() {
    let dex = Server::answers(OK).await;
    let proxy = proxy(0, 0, 0, dex.address).await;
    let client = through("socks5", "", &proxy, "");
    for url in ["http://dex.auth.svc./token", "http://10.0.0.7:5556/token", "http://[fd00::7]/token"] {
        assert_eq!(client.posts(url).await.unwrap().status, 200);
    }
    let seen = proxy.seen();
    assert!(seen.contains(";dex.auth.svc.:80;") && seen.contains("[10, 0, 0, 7, 21, 180]"), "{seen}");
    assert!(seen.contains("[253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 80]"), "{seen}");
    assert!(dex.seen().contains("POST /token HTTP/1.1\r\nhost: dex.auth.svc\r\n"), "{}", dex.seen());
}

#[tokio::test]
async fn f151_a_user_and_a_password_are_sent_where_they_are_wanted() {
    let dex = Server::answers(OK).await;
    let user = format!("me:{}@", PASSWORD.replace('-', "%2d"));
    let wants = proxy(2, 0, 0, dex.address).await;
    assert_eq!(through("socks5", &user, &wants, "").posts("http://dex/token").await.unwrap().status, 200);
    assert_eq!(wants.seen(), format!("methods [0, 2]; me {PASSWORD};dex:80;"));
    let odd = proxy(2, 0, 0, dex.address).await;
    let client = through("socks5", "a%3Ab:c%3Ad@", &odd, "");
    assert_eq!(client.posts("http://dex/token").await.unwrap().status, 200);
    assert_eq!(odd.seen(), "methods [0, 2]; a:b c:d;dex:80;");
    let free = proxy(0, 0, 0, dex.address).await;
    assert_eq!(through("socks5", &user, &free, "").posts("http://dex/token").await.unwrap().status, 200);
    assert!(!free.seen().contains("canary"));
}

#[tokio::test]
async fn f151_a_refusal_of_a_socks_proxy_names_the_variable_and_the_reason() {
    let to = Server::answers(OK).await.address;
    let user = format!("me:{PASSWORD}@");
    for (method, status, reply, user, why) in [
        (0xff, 0, 0, "", "it wants a user and a password"),
        (0xff, 0, 0, user.as_str(), "it accepts neither a user and password nor a client without"),
        (1, 0, 0, "", "it wants the unsupported authentication method 1"),
        (2, 1, 0, user.as_str(), "it does not accept the user and password"),
        (0, 0, 2, "", "it cannot connect to dex: its rules do not allow it"),
        (0, 0, 4, "", "it cannot connect to dex: host unreachable"),
        (0, 0, 5, "", "it cannot connect to dex: connection refused"),
        (0, 0, 77, "", "it cannot connect to dex: unknown reply code"),
    ] {
        let proxy = proxy(method, status, reply, to).await;
        let failure = through("socks5", user, &proxy, "").fails("http://dex/token").await;
        assert_eq!(failure.code, Code::ProxyFailed);
        assert_eq!(failure.detail, format!("socks5://{} of HTTP_PROXY: {why}", proxy.address));
    }
    for (answer, why) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "it does not speak SOCKS version 5"),
        ("", "it hung up"),
        ("\x05", "it hung up"),
        ("\x05\0\x05\0\0\x07", "its reply has an unknown kind of address"),
    ] {
        let proxy = Server::acts(move |mut wire| async move {
            wire.writes(answer.as_bytes()).await;
            wire.ends().await;
        })
        .await;
        let failure = through("socks5", "", &proxy, "").fails("http://dex/token").await;
        assert_eq!(failure.detail, format!("socks5://{} of HTTP_PROXY: {why}", proxy.address), "{answer:?}");
    }
    let long = format!("{}:x@", "u".repeat(256));
    let proxy = proxy(2, 0, 0, to).await;
    let failure = through("socks5", &long, &proxy, "").fails("http://dex/token").await;
    assert!(failure.detail.ends_with("its user or password is longer than 255 bytes"), "{failure}");
}
