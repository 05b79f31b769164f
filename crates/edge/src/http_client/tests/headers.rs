//! Invalid headers that curl and Go accept.

use super::Client;
use super::server::Server;

/// Status, content type and body of a response with this head.
async fn parsed(head: &str) -> (u16, Option<String>, Vec<u8>) {
    let server = Server::responding(format!("HTTP/1.1 200 OK\r\n{head}\r\n{{}}")).await;
    let response =
        Client::new().post(&server.http()).await.unwrap_or_else(|failure| panic!("{head}: {failure}"));
    (response.status, response.content_type, response.body.to_vec())
}

#[tokio::test]
async fn f141_invalid_headers_are_accepted_as_by_curl_and_go() {
    for header in [
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
        let head = format!("{header}Content-Type: application/json\r\nContent-Length: 2\r\n");
        let expected = (200, Some("application/json".to_owned()), b"{}".to_vec());
        assert_eq!(parsed(&head).await, expected, "{header:?}");
        let head = format!("Content-Type: application/json\r\nContent-Length: 2\r\n{header}");
        assert_eq!(parsed(&head).await, expected, "{header:?}");
    }
}

#[tokio::test]
async fn f141_4000_headers_are_accepted() {
    for count in [101, 500, 4_000] {
        let many: String = (0..count).map(|n| format!("X-{n}: {n}\r\n")).collect();
        let head = format!("{many}Content-Type: application/json\r\nContent-Length: 2\r\n");
        assert_eq!(parsed(&head).await.0, 200, "{count}");
    }
}

/// An ambiguous length of the body is an error.
#[tokio::test]
async fn f141_invalid_content_length_headers_are_rejected() {
    for head in [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\n 3\r\n",
        "Content-Length: 2x\r\n",
    ] {
        let server = Server::responding(format!("HTTP/1.1 200 OK\r\n{head}\r\n{{}}")).await;
        assert!(Client::new().post(&server.http()).await.is_err(), "{head}");
    }
}
