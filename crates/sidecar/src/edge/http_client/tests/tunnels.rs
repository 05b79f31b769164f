//! Exchanges through a proxy that writes down what it sees.

use std::time::Duration;

use dexsidecar_core::exchange::TokenEndpoint as _;
use dexsidecar_core::failure::Code;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::request;
use super::certificates::{Ca, Wanted};
use super::server::{Server, Wire};
use super::{Client, PATIENT, SUBJECT, post};

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
async fn f018_f149_a_proxy_sees_where_to_and_who_asks_and_never_what() {
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
    let agent = request::USER_AGENT;
    let head = format!(
        "CONNECT dex.example:5556 HTTP/1.1\r\nhost: dex.example:5556\r\nuser-agent: {agent}\r\n\
         proxy-authorization: Basic bWU6Y2FuYXJ5LW9mLXRoZS1wcm94eQ==\r\n\r\n"
    );
    assert!(seen.starts_with(&head), "{seen}");
    assert!(!seen.contains("canary") && !seen.contains("POST"), "{seen}");
}

/// Many proxies, Squid by its defaults among them, allow CONNECT to port 443 only, so Go sends the request itself.
#[tokio::test]
async fn f150_plain_http_is_sent_to_a_proxy_in_absolute_form() {
    let proxy = Server::answers(OK).await;
    let client = through(&format!("http://me:{PASSWORD}@{}", proxy.address), "");
    for (url, target, host) in [
        ("http://dex.auth.svc/token", "http://dex.auth.svc/token", "dex.auth.svc"),
        ("http://dex.:5556/a/token?x=1", "http://dex:5556/a/token?x=1", "dex:5556"),
        ("http://[fd00::1]/token", "http://[fd00::1]/token", "[fd00::1]"),
    ] {
        assert_eq!(client.posts(url).await.unwrap().status, 200);
        let seen = proxy.seen();
        assert!(seen.contains(&format!("POST {target} HTTP/1.1\r\nhost: {host}\r\n")), "{seen}");
    }
    let seen = proxy.seen();
    assert!(!seen.contains("CONNECT") && seen.contains(SUBJECT), "{seen}");
    assert_eq!(seen.matches("proxy-authorization: Basic bWU6Y2FuYXJ5LW9mLXRoZS1wcm94eQ==\r\n").count(), 3);
}

#[tokio::test]
async fn f150_a_proxy_that_forwards_may_refuse() {
    let proxy = Server::answers("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n").await;
    let failure = through(&proxy.address.to_string(), "").fails("http://dex/token").await;
    let detail =
        format!("http://{} of HTTP_PROXY: it answers 407: it wants a user and a password", proxy.address);
    assert_eq!((failure.code, failure.detail), (Code::ProxyFailed, detail));
    // Whatever else it says might as well be Dex's.
    let proxy = Server::answers("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(through(&proxy.address.to_string(), "").posts("http://dex/token").await.unwrap().status, 403);
}

/// The secrets of a plain http request would be readable beyond the proxy.
#[tokio::test]
async fn f154_a_proxy_is_not_asked_to_carry_plain_http_to_a_public_address() {
    let proxy = Server::answers(OK).await;
    let client = through(&proxy.address.to_string(), "");
    for url in ["http://192.0.2.7/token", "http://[2001:db8::1]/token"] {
        let failure = client.fails(url).await;
        assert_eq!(failure.code, Code::PlainHttpRefused, "{failure}");
        assert!(failure.detail.ends_with("beyond the proxy of HTTP_PROXY"), "{failure}");
    }
    // Without an address nothing is known.
    let failure = client.fails("http://dex.invalid.onion/token").await;
    assert_eq!(failure.code, Code::NameNotFound);
    assert!(
        failure.detail.ends_with("plain http through the proxy of HTTP_PROXY needs its address"),
        "{failure}"
    );
    assert_eq!(proxy.seen(), "");
    let allowed = client.endpoint.allowing_insecure_http(true);
    let answer = allowed.send(&post("http://192.0.2.7/token"), 0).await.unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn f154_plain_http_is_not_sent_to_a_proxy_at_a_public_address() {
    for (proxy, url, refused) in [
        ("http://192.0.2.9:9", "http://dex.auth.svc/token", true),
        ("socks5://192.0.2.9:9", "http://dex.auth.svc/token", true),
        // These are readable to nobody on the way to it.
        ("https://192.0.2.9:9", "http://dex.auth.svc/token", false),
        ("http://192.0.2.9:9", "https://dex.auth.svc/token", false),
    ] {
        let variables = [("HTTPS_PROXY", proxy.to_owned()), ("HTTP_PROXY", proxy.to_owned())];
        let client = Client::with(&Ca::new("ca").pem(), Duration::from_millis(300), &variables);
        let failure = client.fails(url).await;
        assert_eq!(failure.code == Code::PlainHttpRefused, refused, "{proxy}: {failure}");
        assert!(!refused || failure.detail == "192.0.2.9, the proxy of HTTP_PROXY", "{failure}");
    }
}

#[tokio::test]
async fn f154_plain_http_is_never_spoken_to_a_public_address() {
    for url in
        ["http://192.0.2.7:9/token", "http://[::ffff:192.0.2.7]:9/token", "http://[2001:db8::1]:9/token"]
    {
        let failure = Client::new().fails(url).await;
        assert_eq!(failure.code, Code::PlainHttpRefused, "{failure}");
    }
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
        format!("https://{address} of HTTPS_PROXY: the server's certificate is not signed by a trusted CA")
    );
    assert_eq!(proxy.seen().matches("CONNECT").count(), 1);
    // A CA file of ours that is broken is not the proxy's fault.
    let client = through(&format!("https://{address}"), "");
    assert_eq!(client.fails("https://dex.example/token").await.code, Code::CaFileInvalid);
}

#[tokio::test]
async fn f018_a_refusal_names_the_status_and_the_variable() {
    for (answer, told) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!",
            "it answers 407: it wants a user and a password",
        ),
        ("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n", "it answers 403"),
        ("HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n", "it answers 302"),
        ("HTTP/1.0 503 Unavailable\r\n\r\n", "it answers 503"),
        ("SSH-2.0-OpenSSH\r\n", "invalid HTTP version parsed"),
        ("", "connection closed before message completed"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>log in</html>",
            "it sends data where the tunnel should be",
        ),
    ] {
        let proxy = Server::answers(answer).await;
        let client = through(&format!("http://me:{PASSWORD}@{}", proxy.address), &Ca::new("ca").pem());
        let failure = client.fails("https://dex.example/token").await;
        assert_eq!(failure.code, Code::ProxyFailed, "{answer}: {failure}");
        assert_eq!(failure.detail, format!("http://{} of HTTPS_PROXY: {told}", proxy.address));
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
        format!("http://{nowhere} of HTTPS_PROXY: connection refused: {nowhere}: connection refused")
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
