//! Headers that no standard allows and that curl and Go bear.

use super::Client;
use super::server::Server;

/// What remains of the answer that counts: status, type, body.
async fn answered(head: &str) -> (u16, Option<String>, Vec<u8>) {
    let server = Server::answers(format!("HTTP/1.1 200 OK\r\n{head}\r\n{{}}")).await;
    let answer =
        Client::new().posts(&server.http()).await.unwrap_or_else(|failure| panic!("{head}: {failure}"));
    (answer.status, answer.content_type, answer.body.to_vec())
}

#[tokio::test]
async fn f141_headers_that_curl_and_go_bear_are_borne() {
    for odd in [
        "X-Policy: default-src 'self';\r\n  script-src 'self';\r\n\timg-src *\r\n",
        "X-Folded:\r\n value\r\n",
        "X-Space : value\r\n",
        "no colon\r\n",
        "X-Latin: caf\u{e9}\r\n",
        "X Space In Name: value\r\n",
        "X-Empty:\r\n",
        "X-Control: a\u{1}b\r\n",
        ": no name\r\n",
        "@odd(name): value\r\n",
    ] {
        let head = format!("{odd}Content-Type: application/json\r\nContent-Length: 2\r\n");
        let expected = (200, Some("application/json".to_owned()), b"{}".to_vec());
        assert_eq!(answered(&head).await, expected, "{odd:?}");
        let head = format!("Content-Type: application/json\r\nContent-Length: 2\r\n{odd}");
        assert_eq!(answered(&head).await, expected, "{odd:?}");
    }
}

#[tokio::test]
async fn f141_more_than_a_hundred_headers_are_read_within_their_bound() {
    for count in [101, 500, 4_000] {
        let many: String = (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect();
        let head = format!("{many}Content-Type: application/json\r\nContent-Length: 2\r\n");
        assert_eq!(answered(&head).await.0, 200, "{count}");
    }
}

/// What frames the body is never guessed at.
#[tokio::test]
async fn f141_headers_that_frame_the_body_stay_strict() {
    for head in [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\n 3\r\n",
        "Content-Length: 2x\r\n",
    ] {
        let server = Server::answers(format!("HTTP/1.1 200 OK\r\n{head}\r\n{{}}")).await;
        assert!(Client::new().posts(&server.http()).await.is_err(), "{head}");
    }
}
