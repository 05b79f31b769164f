//! The listener over real sockets on loopback.

use std::future::Future;
use std::net::Shutdown;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

/// Runs a client beside a listener that answers every page with its name.
async fn with_client<T, C: Future<Output = T>>(client: impl FnOnce(SocketAddr) -> C) -> T {
    let mut listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    listener.register().unwrap();
    let client = client(listener.address().unwrap());
    let serve = async {
        loop {
            let request = listener.next().await;
            let text = format!("{:?}", request.page);
            request.reply(Response::line(200, &text));
        }
    };
    tokio::select! {
        done = client => done,
        () = serve => unreachable!("it never ends"),
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Everything that the listener sends until it closes the connection.
async fn received(mut stream: TcpStream) -> String {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    text
}

async fn exchanged(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address).await;
    stream.write_all(request).await.unwrap();
    received(stream).await
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn a_request_gets_one_response_and_the_connection_is_closed() {
    with_client(|address| async move {
        let response = exchanged(address, LIVEZ).await;
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "Live\n");
        let lines: Vec<&str> = head.split("\r\n").collect();
        assert_eq!(lines[0], "HTTP/1.1 200 OK");
        for line in ["Content-Length: 5", "Connection: close", "Content-Type: text/plain; charset=utf-8"] {
            assert!(lines.contains(&line), "{head}");
        }
        assert!(lines[1].starts_with("Date: ") && lines[1].ends_with(" GMT"), "{head}");

        let response = exchanged(address, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(response.contains("Content-Length: 8\r\n") && response.ends_with("\r\n\r\n"), "{response}");

        let pipelined = exchanged(address, &[LIVEZ, LIVEZ, LIVEZ].concat()).await;
        assert_eq!(pipelined.matches("HTTP/1.1 ").count(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_served_gets_a_status_and_reaches_no_page() {
    with_client(|address| async move {
        for (request, status) in [
            ("GET /token HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"),
            ("POST /livez HTTP/1.1\r\nHost: x\r\n\r\n", "405 Method Not Allowed"),
            ("GET /livez HTTP/1.1\r\n\r\n", "400 Bad Request"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 HTTP Version Not Supported"),
            ("\x16\x03\x01\n\n", "400 Bad Request"),
        ] {
            let response = exchanged(address, request.as_bytes()).await;
            assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {response}");
            assert_eq!(response.contains("\r\nAllow: GET, HEAD\r\n"), status.starts_with("405"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_in_parts_and_a_client_that_has_finished_sending_are_served() {
    with_client(|address| async move {
        let mut stream = connect(address).await;
        for part in LIVEZ.chunks(7) {
            stream.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.shutdown().await.unwrap();
        assert_eq!(body(&received(stream).await), "Live\n");

        let mut silent = connect(address).await;
        silent.write_all(&LIVEZ[..10]).await.unwrap();
        silent.shutdown().await.unwrap();
        assert_eq!(received(silent).await, "", "an incomplete request has no response");
    })
    .await;
}

/// The client sends more than is read, and gets the whole response all the same.
#[tokio::test]
async fn a_head_without_end_is_refused() {
    with_client(|address| async move {
        let mut stream = connect(address).await;
        stream.write_all(&[b'a'; 40_000]).await.unwrap();
        let response = received(stream).await;
        assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
    })
    .await;
}

#[tokio::test]
async fn a_ninth_connection_closes_the_oldest_and_is_served() {
    with_client(|address| async move {
        let mut slow = vec![];
        for _ in 0..MOST_CONNECTIONS {
            let mut stream = connect(address).await;
            stream.write_all(&LIVEZ[..10]).await.unwrap();
            slow.push(stream);
        }
        assert_eq!(body(&exchanged(address, LIVEZ).await), "Live\n");
        let mut slow = slow.into_iter();
        assert_eq!(received(slow.next().unwrap()).await, "", "the oldest was closed");
        for mut stream in slow {
            stream.write_all(&LIVEZ[10..]).await.unwrap();
            assert_eq!(body(&received(stream).await), "Live\n", "the others are served");
        }
    })
    .await;
}

/// As clients that are slow to close do: the connection of another client is kept.
#[tokio::test]
async fn a_connection_with_its_response_is_closed_before_one_that_waits_for_its_request() {
    with_client(|address| async move {
        let mut slow = connect(address).await;
        slow.write_all(&LIVEZ[..10]).await.unwrap();
        let mut answered = vec![];
        for _ in 0..2 * MOST_CONNECTIONS {
            let mut stream = connect(address).await;
            stream.write_all(LIVEZ).await.unwrap();
            let mut start = [0; 12];
            stream.read_exact(&mut start).await.unwrap();
            answered.push(stream);
        }
        slow.write_all(&LIVEZ[10..]).await.unwrap();
        assert_eq!(body(&received(slow).await), "Live\n");
    })
    .await;
}

/// Time is paused: it passes when every task waits.
#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_longer_than_five_seconds_is_closed() {
    with_client(|address| async move {
        for request in [&b""[..], &LIVEZ[..10], b"GET / HTTP/1.0\r\n"] {
            let mut stream = connect(address).await;
            stream.write_all(request).await.unwrap();
            let start = tokio::time::Instant::now();
            assert_eq!(received(stream).await, "");
            assert!(start.elapsed() >= DEADLINE, "{:?}", start.elapsed());
        }
    })
    .await;
}

#[tokio::test]
async fn complete_requests_that_wait_to_be_accepted_are_all_answered() {
    const CLIENTS: usize = MOST_CONNECTIONS + 3;
    let mut listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    listener.register().unwrap();
    let mut clients = vec![];
    for _ in 0..CLIENTS {
        let mut stream = connect(listener.address().unwrap()).await;
        stream.write_all(LIVEZ).await.unwrap();
        clients.push(stream);
    }
    let serve = async {
        loop {
            listener.next().await.reply(Response::line(200, "ok"));
        }
    };
    let receive = async {
        for client in clients {
            assert_eq!(body(&received(client).await), "ok\n");
        }
    };
    tokio::select! {
        () = receive => {}
        () = serve => unreachable!("it never ends"),
    }
}

#[tokio::test]
async fn a_connection_with_a_complete_request_is_not_closed_for_a_newer_one() {
    let mut listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    listener.register().unwrap();
    let address = listener.address().unwrap();
    let mut first = connect(address).await;
    first.write_all(LIVEZ).await.unwrap();
    let request = listener.next().await;
    let mut slow = vec![];
    for _ in 1..MOST_CONNECTIONS {
        slow.push(connect(address).await);
    }
    let mut last = connect(address).await;
    last.write_all(LIVEZ).await.unwrap();
    let second = listener.next().await;
    request.reply(Response::line(200, "first"));
    second.reply(Response::line(200, "last"));
    let receive = async { (received(first).await, received(last).await, received(slow.remove(0)).await) };
    tokio::select! {
        (first, last, slow) = receive => {
            assert_eq!((body(&first), body(&last), slow.as_str()), ("first\n", "last\n", ""));
        }
        request = listener.next() => panic!("a third request: {request:?}"),
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_closes_its_connection() {
    let mut listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    listener.register().unwrap();
    let client = exchanged(listener.address().unwrap(), LIVEZ);
    let serve = async {
        drop(listener.next().await);
        listener.next().await
    };
    tokio::select! {
        response = client => assert_eq!(response, ""),
        request = serve => panic!("a second request: {request:?}"),
    }
}

#[test]
fn a_port_that_is_in_use_is_an_error_and_all_addresses_include_those_of_ipv4() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = Listener::bind(taken.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);

    let all = Listener::bind("[::]:0".parse().unwrap()).unwrap();
    if let Some(bound) = all.bound.as_ref().filter(|_| all.address().unwrap().is_ipv6()) {
        assert!(!sockopt::ipv6_v6only(bound).unwrap(), "whatever the default of the node is");
    }
    let port = all.address().unwrap().port();
    let connected = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    connected.shutdown(Shutdown::Both).unwrap();
}
