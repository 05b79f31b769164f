//! What a server may answer, and what it must not.

use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::{Request, TokenEndpoint as _};
use dexsidecar_core::failure::Code;

use super::server::Server;
use super::{BASIC, Client, PATIENT, SUBJECT};

const ISSUED: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                      Content-Length: 22\r\n\r\n{\"access_token\":\"abc\"}";

#[tokio::test]
async fn a_form_is_posted_and_the_answer_comes_back_whole() {
    let server = Server::answers(ISSUED).await;
    let answer = Client::new().posts(&server.http()).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"{\"access_token\":\"abc\"}"[..]));
    assert_eq!(answer.content_type.as_deref(), Some("application/json"));
    assert_eq!(answer.date.as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!((answer.content_encoding, answer.retry_after), (None, None));
    assert_eq!((answer.location, answer.server), (None, None));
    let body = format!("grant_type=a%3Ab&subject_token={SUBJECT}");
    let expected = format!(
        "POST /dex/token?x=1 HTTP/1.1\r\nhost: {}\r\nuser-agent: dexsidecar/{}\r\naccept: application/json\r\n\
         accept-encoding: identity\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         authorization: {BASIC}\r\ncontent-length: {}\r\n\r\n{body}",
        server.address,
        env!("CARGO_PKG_VERSION"),
        body.len(),
    );
    assert_eq!(server.seen(), expected);
}

#[tokio::test]
async fn f148_a_document_is_got_without_body_or_authorization_and_not_from_a_cache() {
    let server = Server::answers("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let url = EndpointUrl::parse(&server.http()).unwrap().0.with_target("/dex/keys");
    let request = Request { url, authorization: None, form: None };
    let answer = Client::new().endpoint.send(&request, 0).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (404, 0));
    let seen = server.seen();
    assert!(seen.starts_with("GET /dex/keys HTTP/1.1\r\n") && seen.ends_with("\r\n\r\n"), "{seen}");
    assert_eq!(seen.matches("\r\ncache-control: no-cache\r\n").count(), 1, "{seen}");
    assert!(!seen.contains("content-") && !seen.contains("authorization"), "{seen}");
}

#[tokio::test]
async fn f044_old_and_odd_http_is_understood() {
    let head = "Content-Type: text/plain\r\n";
    for answer in [
        format!("HTTP/1.0 200 OK\r\n{head}\r\nhello"),
        format!("HTTP/1.1 200 OK\r\n{head}Connection: close\r\n\r\nhello"),
        format!(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n{head}Content-Length: 5\r\n\r\nhello"
        ),
        format!(
            "HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"
        ),
        format!("HTTP/1.1 200 OK\r\n{head}Content-Length: 5\r\n\r\nhello and more than that"),
    ] {
        let server = Server::answers(answer.clone()).await;
        let got = Client::new().posts(&server.http()).await.unwrap();
        assert_eq!((got.status, &got.body[..]), (200, &b"hello"[..]), "{answer}");
        assert_eq!(got.content_type.as_deref(), Some("text/plain"), "{answer}");
    }
}

#[tokio::test]
async fn f019_a_redirect_is_handed_over_and_never_followed() {
    let other = Server::answers(ISSUED).await;
    for status in [301, 302, 303, 307, 308] {
        let redirect =
            format!("HTTP/1.1 {status} Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", other.http());
        let server = Server::answers(redirect).await;
        let answer = Client::new().posts(&server.http()).await.unwrap();
        assert_eq!((answer.status, answer.location), (status, Some(other.http())));
    }
    assert_eq!(other.seen(), "");
}

#[tokio::test]
async fn a_header_that_is_no_text_is_made_one() {
    let server = Server::answers(
        b"HTTP/1.1 503 X\r\nServer: nginx\r\nRetry-After: 7\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n".as_slice(),
    )
    .await;
    let answer = Client::new().posts(&server.http()).await.unwrap();
    assert_eq!(
        (answer.retry_after.as_deref(), answer.location.as_deref()),
        (Some("7"), Some("\u{fffd}\u{fffd}"))
    );
    assert_eq!(answer.server.as_deref(), Some("nginx"));
}

#[tokio::test]
async fn f005_an_answer_that_ends_early_is_a_lost_connection_wherever_it_ends() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for answer in [ISSUED, chunked] {
        for end in 0..answer.len() {
            let server = Server::answers(&answer.as_bytes()[..end]).await;
            let failure = Client::new().fails(&server.http()).await;
            assert_eq!(failure.code, Code::ConnectionLost, "after {end} bytes: {failure}");
        }
    }
}

#[tokio::test]
async fn f005_a_reset_is_a_lost_connection() {
    for end in 0..ISSUED.len() {
        let server = Server::acts(move |mut wire| async move {
            wire.reads_request().await;
            wire.writes(&ISSUED.as_bytes()[..end]).await;
            wire.resets();
        })
        .await;
        let failure = Client::new().fails(&server.http()).await;
        assert_eq!(failure.code, Code::ConnectionLost, "after {end} bytes: {failure}");
        assert_eq!(failure.detail, format!("{}: connection reset by peer", server.address));
    }
}

#[tokio::test]
async fn f029_a_body_is_read_up_to_its_bound_and_no_further() {
    const MOST: usize = 1024 * 1024;
    let plain =
        |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
    let chunked = |length: usize| {
        let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunk.repeat(length / 1024)
        )
    };
    for answer in [plain(MOST), chunked(MOST)] {
        let server = Server::answers(answer).await;
        assert_eq!(Client::new().posts(&server.http()).await.unwrap().body.len(), MOST);
    }
    for answer in
        [plain(MOST + 1), chunked(MOST + 1024), format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(MOST + 1))]
    {
        let server = Server::answers(answer).await;
        let failure = Client::new().fails(&server.http()).await;
        assert_eq!(
            failure.to_string(),
            "the response is larger than a token endpoint's can be: its body is larger than 1 MiB"
        );
    }
    // Announced, and never sent.
    let server = Server::answers("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551614\r\n\r\n").await;
    assert_eq!(Client::new().fails(&server.http()).await.code, Code::AnswerTooLarge);
}

#[tokio::test]
async fn f029_chunks_without_end_come_to_an_end() {
    let server = Server::acts(|mut wire| async move {
        wire.reads_request().await;
        wire.writes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        while wire.writes(format!("1000\r\n{}\r\n", "x".repeat(4096)).as_bytes()).await {}
    })
    .await;
    assert_eq!(Client::new().fails(&server.http()).await.code, Code::AnswerTooLarge);
}

/// hyper passes over them without counting: the deadline is far away here.
#[tokio::test]
async fn f044_interim_answers_without_end_come_to_an_end() {
    let server = Server::acts(|mut wire| async move {
        wire.reads_request().await;
        while wire.writes("HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000).as_bytes()).await {}
    })
    .await;
    let failure = Client::new().fails(&server.http()).await;
    assert_eq!((failure.code, failure.detail.as_str()), (Code::AnswerTooLarge, "it does not end"));
}

#[tokio::test]
async fn f044_headers_are_bounded() {
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(60 * 1024));
    let server = Server::answers(large).await;
    assert_eq!(Client::new().posts(&server.http()).await.unwrap().status, 200);
    let larger = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(64 * 1024));
    let much_larger =
        format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(500 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(9_000));
    for answer in [larger, much_larger, many] {
        let server = Server::answers(answer).await;
        let failure = Client::new().fails(&server.http()).await;
        assert_eq!(failure.code, Code::AnswerTooLarge);
        assert_eq!(failure.detail, "its headers are larger than 64 KiB, or more than 8192");
    }
    let server = Server::acts(|mut wire| async move {
        wire.reads_request().await;
        wire.writes(b"HTTP/1.1 200 OK\r\n").await;
        while wire.writes(b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n").await {}
    })
    .await;
    assert_eq!(Client::new().fails(&server.http()).await.code, Code::AnswerTooLarge);
}

#[tokio::test]
async fn f044_what_is_no_http_is_told_so() {
    for answer in [
        "220 smtp.example ESMTP\r\n",
        "\x15\x03\x01\x00\x02\x02\x16",
        "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 2000 OK\r\n\r\n",
        // HTTP/2: an empty SETTINGS, then GOAWAY.
        "\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    ] {
        let server = Server::answers(answer).await;
        let failure = Client::new().fails(&server.http()).await;
        assert_eq!(failure.code, Code::AnswerMalformed, "{answer:?}: {failure}");
        assert!(failure.detail.starts_with(&format!("{}: ", server.address)), "{failure}");
    }
    // One that speaks first.
    let server = Server::acts(|mut wire| async move {
        wire.writes(b"SSH-2.0-OpenSSH_9.9\r\n").await;
        wire.waits().await;
    })
    .await;
    assert_eq!(Client::new().fails(&server.http()).await.code, Code::AnswerMalformed);
}

/// A pool would keep this connection, and find out at the next exchange that it died meanwhile.
#[tokio::test]
async fn f006_a_connection_that_is_offered_again_is_closed_all_the_same() {
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::acts(move |mut wire| {
        let ended = ended.clone();
        async move {
            let mut requests = 0;
            while !wire.reads_request().await.is_empty() {
                requests += 1;
                wire.writes(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 2\r\n\r\n{}")
                    .await;
            }
            let _ = ended.send(requests);
        }
    })
    .await;
    let client = Client::new();
    for _ in 0..2 {
        assert_eq!(client.posts(&server.http()).await.unwrap().status, 200);
        let requests = tokio::time::timeout(PATIENT, ends.recv()).await.expect("the connection is closed");
        assert_eq!(requests, Some(1));
    }
}
