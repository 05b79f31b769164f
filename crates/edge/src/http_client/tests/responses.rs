//! Valid, unusual and invalid responses of a server.

use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::{Request, TokenEndpoint as _};
use dexsidecar_core::failure::Code;

use super::server::Server;
use super::{BASIC, Client, LONG_TIMEOUT, SUBJECT};

const ISSUED: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                      Content-Length: 22\r\n\r\n{\"access_token\":\"abc\"}";

#[tokio::test]
async fn a_form_is_posted_and_the_response_is_returned() {
    let server = Server::responding(ISSUED).await;
    let response = Client::new().post(&server.http()).await.unwrap();
    assert_eq!((response.status, &response.body[..]), (200, &b"{\"access_token\":\"abc\"}"[..]));
    assert_eq!(response.content_type.as_deref(), Some("application/json"));
    assert_eq!(response.date.as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!((response.content_encoding, response.retry_after), (None, None));
    assert_eq!((response.location, response.server), (None, None));
    let body = format!("grant_type=a%3Ab&subject_token={SUBJECT}");
    let expected = format!(
        "POST /dex/token?x=1 HTTP/1.1\r\nhost: {}\r\nuser-agent: dexsidecar/{}\r\naccept: application/json\r\n\
         accept-encoding: identity\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         authorization: {BASIC}\r\ncontent-length: {}\r\n\r\n{body}",
        server.address,
        env!("CARGO_PKG_VERSION"),
        body.len(),
    );
    assert_eq!(server.received(), expected);
}

#[tokio::test]
async fn f148_a_get_request_has_no_body_and_no_authorization_and_bypasses_caches() {
    let server = Server::responding("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let url = EndpointUrl::parse(&server.http()).unwrap().0.with_target("/dex/keys");
    let request = Request { url, authorization: None, form: None };
    let response = Client::new().endpoint.send(&request, 0).await.unwrap();
    assert_eq!((response.status, response.body.len()), (404, 0));
    let received = server.received();
    assert!(
        received.starts_with("GET /dex/keys HTTP/1.1\r\n") && received.ends_with("\r\n\r\n"),
        "{received}"
    );
    assert_eq!(received.matches("\r\ncache-control: no-cache\r\n").count(), 1, "{received}");
    assert!(!received.contains("content-") && !received.contains("authorization"), "{received}");
}

#[tokio::test]
async fn f044_http_1_0_interim_responses_and_chunks_are_supported() {
    let head = "Content-Type: text/plain\r\n";
    for response in [
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
        let server = Server::responding(response.clone()).await;
        let got = Client::new().post(&server.http()).await.unwrap();
        assert_eq!((got.status, &got.body[..]), (200, &b"hello"[..]), "{response}");
        assert_eq!(got.content_type.as_deref(), Some("text/plain"), "{response}");
    }
}

#[tokio::test]
async fn f019_a_redirect_is_returned_and_never_followed() {
    let other = Server::responding(ISSUED).await;
    for status in [301, 302, 303, 307, 308] {
        let redirect =
            format!("HTTP/1.1 {status} Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", other.http());
        let server = Server::responding(redirect).await;
        let response = Client::new().post(&server.http()).await.unwrap();
        assert_eq!((response.status, response.location), (status, Some(other.http())));
    }
    assert_eq!(other.received(), "");
}

#[tokio::test]
async fn invalid_utf_8_in_a_header_is_replaced() {
    let server = Server::responding(
        b"HTTP/1.1 503 X\r\nServer: nginx\r\nRetry-After: 7\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n".as_slice(),
    )
    .await;
    let response = Client::new().post(&server.http()).await.unwrap();
    assert_eq!(
        (response.retry_after.as_deref(), response.location.as_deref()),
        (Some("7"), Some("\u{fffd}\u{fffd}"))
    );
    assert_eq!(response.server.as_deref(), Some("nginx"));
}

#[tokio::test]
async fn f005_a_response_truncated_at_any_byte_is_a_lost_connection() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for response in [ISSUED, chunked] {
        for end in 0..response.len() {
            let server = Server::responding(&response.as_bytes()[..end]).await;
            let failure = Client::new().post_failure(&server.http()).await;
            assert_eq!(failure.code, Code::ConnectionLost, "after {end} bytes: {failure}");
        }
    }
}

#[tokio::test]
async fn f005_a_reset_at_any_byte_is_a_lost_connection() {
    for end in 0..ISSUED.len() {
        let server = Server::start(move |mut wire| async move {
            wire.read_request().await;
            wire.write(&ISSUED.as_bytes()[..end]).await;
            wire.reset();
        })
        .await;
        let failure = Client::new().post_failure(&server.http()).await;
        assert_eq!(failure.code, Code::ConnectionLost, "after {end} bytes: {failure}");
        assert_eq!(failure.detail, format!("{}: connection reset by peer", server.address));
    }
}

/// The answer of Go's TLS server to plain HTTP. The rest of the request is not read, so the kernel
/// resets the connection.
#[tokio::test]
async fn f147_a_page_of_an_error_before_a_reset_is_returned() {
    let page = "Client sent an HTTP request to an HTTPS server.\n";
    for (status, is_returned) in [(400, true), (503, true), (200, false)] {
        for _ in 0..20 {
            let server = Server::start(move |mut wire| async move {
                wire.read_request().await;
                wire.write(format!("HTTP/1.0 {status} X\r\n\r\n{page}").as_bytes()).await;
                wire.reset();
            })
            .await;
            let response = Client::new().post(&server.http()).await;
            let body = response.as_ref().map(|response| response.body.to_vec());
            assert_eq!(body.is_ok_and(|body| body == page.as_bytes()), is_returned, "{response:?}");
        }
    }
}

#[tokio::test]
async fn f029_a_body_is_read_up_to_1_mib() {
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
    for response in [plain(MOST), chunked(MOST)] {
        let server = Server::responding(response).await;
        assert_eq!(Client::new().post(&server.http()).await.unwrap().body.len(), MOST);
    }
    for response in
        [plain(MOST + 1), chunked(MOST + 1024), format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(MOST + 1))]
    {
        let server = Server::responding(response).await;
        let failure = Client::new().post_failure(&server.http()).await;
        assert_eq!(failure.to_string(), "the response is too large: body larger than 1 MiB");
    }
    // Announced, but never sent.
    let server = Server::responding("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551614\r\n\r\n").await;
    assert_eq!(Client::new().post_failure(&server.http()).await.code, Code::AnswerTooLarge);
}

#[tokio::test]
async fn f029_endless_chunks_are_rejected() {
    let server = Server::start(|mut wire| async move {
        wire.read_request().await;
        wire.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        while wire.write(format!("1000\r\n{}\r\n", "x".repeat(4096)).as_bytes()).await {}
    })
    .await;
    assert_eq!(Client::new().post_failure(&server.http()).await.code, Code::AnswerTooLarge);
}

/// hyper skips interim responses without a limit. The long timeout shows that ours ends the
/// attempt.
#[tokio::test]
async fn f044_endless_interim_responses_are_rejected() {
    let server = Server::start(|mut wire| async move {
        wire.read_request().await;
        while wire.write("HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000).as_bytes()).await {}
    })
    .await;
    let failure = Client::new().post_failure(&server.http()).await;
    assert_eq!(
        (failure.code, failure.detail.as_str()),
        (Code::AnswerTooLarge, "more than 256 KiB of headers or 4 MiB of chunked body")
    );
}

#[tokio::test]
async fn f044_headers_beyond_64_kib_or_8192_are_rejected() {
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(60 * 1024));
    let server = Server::responding(large).await;
    assert_eq!(Client::new().post(&server.http()).await.unwrap().status, 200);
    let larger = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(64 * 1024));
    let much_larger =
        format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(500 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(9_000));
    for response in [larger, much_larger, many] {
        let server = Server::responding(response).await;
        let failure = Client::new().post_failure(&server.http()).await;
        assert_eq!(failure.code, Code::AnswerTooLarge);
        assert_eq!(failure.detail, "headers larger than 64 KiB, or more than 8192 headers");
    }
    let server = Server::start(|mut wire| async move {
        wire.read_request().await;
        wire.write(b"HTTP/1.1 200 OK\r\n").await;
        while wire.write(b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n").await {}
    })
    .await;
    assert_eq!(Client::new().post_failure(&server.http()).await.code, Code::AnswerTooLarge);
}

#[tokio::test]
async fn f044_a_response_that_is_not_http_is_malformed() {
    for response in [
        "220 smtp.example ESMTP\r\n",
        "\x15\x03\x01\x00\x02\x02\x16",
        "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 2000 OK\r\n\r\n",
        // HTTP/2: an empty SETTINGS frame, then GOAWAY.
        "\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    ] {
        let server = Server::responding(response).await;
        let failure = Client::new().post_failure(&server.http()).await;
        assert_eq!(failure.code, Code::AnswerMalformed, "{response:?}: {failure}");
        assert!(failure.detail.starts_with(&format!("{}: ", server.address)), "{failure}");
    }
    // A server that sends data before the request.
    let server = Server::start(|mut wire| async move {
        wire.write(b"SSH-2.0-OpenSSH_9.9\r\n").await;
        wire.wait_for_close().await;
    })
    .await;
    assert_eq!(Client::new().post_failure(&server.http()).await.code, Code::AnswerMalformed);
}

/// A connection pool would keep this connection, which may be dead at the next exchange.
#[tokio::test]
async fn f006_a_keep_alive_connection_is_closed_after_one_request() {
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |mut wire| {
        let ended = ended.clone();
        async move {
            let mut requests = 0;
            while !wire.read_request().await.is_empty() {
                requests += 1;
                wire.write(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 2\r\n\r\n{}").await;
            }
            let _ = ended.send(requests);
        }
    })
    .await;
    let client = Client::new();
    for _ in 0..2 {
        assert_eq!(client.post(&server.http()).await.unwrap().status, 200);
        let requests =
            tokio::time::timeout(LONG_TIMEOUT, ends.recv()).await.expect("the connection is closed");
        assert_eq!(requests, Some(1));
    }
}
