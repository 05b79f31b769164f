//! Parses the head of an HTTP/1.1 request to the listener (RFC 9112 §3 and §5).
//!
//! The listener serves one request for each connection, and no request that it serves has a body.
//! So nothing depends on where a request ends, and `Content-Length` and `Transfer-Encoding` are not
//! interpreted.

/// The largest head that is accepted, in bytes, including the empty line at its end.
pub const LARGEST_HEAD: usize = 4096;

/// What the bytes received so far are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Head<'a> {
    /// The beginning of a head.
    Incomplete,
    /// A request.
    Complete {
        /// The method is HEAD: the response has no body.
        is_head: bool,
        /// The target in origin form: a path with an optional query.
        target: &'a str,
    },
    /// No request that is served. The response has this status code: 400, 405, 431 or 505.
    Refused(u16),
}

impl<'a> Head<'a> {
    /// Parses what was received so far.
    #[must_use]
    pub fn of(received: &'a [u8]) -> Self {
        let bytes = without_empty_lines(received);
        let Some(head) = complete_head(bytes) else {
            // Of what is longer, the end is not awaited.
            let is_too_long = received.len() >= LARGEST_HEAD;
            return if is_too_long { Self::Refused(431) } else { Self::Incomplete };
        };
        if received.len() - bytes.len() + head.len() > LARGEST_HEAD {
            return Self::Refused(431);
        }
        Self::parse(head).unwrap_or_else(Self::Refused)
    }

    /// Parses a head that ends with an empty line.
    fn parse(head: &'a [u8]) -> Result<Self, u16> {
        // A head that is no text is no head: field values may hold other bytes than ASCII.
        let head = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut lines = head.take_while(|line| !line.is_empty());
        let line = std::str::from_utf8(lines.next().ok_or(400_u16)?).map_err(|_| 400_u16)?;
        let mut parts = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(400);
        };
        if !is_token(method.as_bytes()) || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(400);
        }
        let needs_host = match version {
            "HTTP/1.0" => false,
            "HTTP/1.1" => true,
            _ => return Err(if version.starts_with("HTTP/") { 505 } else { 400 }),
        };
        let mut hosts = 0;
        for line in lines {
            // A folded line, or white space before the colon, has no valid name either.
            let colon = line.iter().position(|byte| *byte == b':').ok_or(400_u16)?;
            let (name, value) = line.split_at(colon);
            let is_control = |byte: &u8| *byte < b' ' && *byte != b'\t' || *byte == 0x7f;
            if !is_token(name) || value.iter().any(is_control) {
                return Err(400);
            }
            hosts += usize::from(name.eq_ignore_ascii_case(b"host"));
        }
        if hosts > 1 || needs_host && hosts == 0 {
            return Err(400);
        }
        match method {
            "GET" | "HEAD" => Ok(Self::Complete { is_head: method == "HEAD", target: origin_form(target) }),
            _ => Err(405),
        }
    }
}

/// A server ignores empty lines before a request (RFC 9112 §2.2).
fn without_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n")) {
        bytes = rest;
    }
    bytes
}

/// The bytes up to the end of the first empty line. A line ends with LF, with or without CR (RFC
/// 9112 §2.2).
fn complete_head(bytes: &[u8]) -> Option<&[u8]> {
    let mut line = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' {
            if matches!(bytes[line..at], [] | [b'\r']) {
                return Some(&bytes[..=at]);
            }
            line = at + 1;
        }
    }
    None
}

/// Whether these bytes are a token (RFC 9110 §5.6.2).
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Path and query of a target. A server accepts the absolute form too (RFC 9112 §3.2.2).
fn origin_form(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            rest.find(['/', '?']).map_or("/", |path| &rest[path..])
        }
        _ => target,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complete(target: &str) -> Head<'_> {
        Head::Complete { is_head: false, target }
    }

    #[test]
    fn requests_of_probes_and_of_prometheus_are_parsed() {
        for (head, target) in [
            (
                "GET /livez HTTP/1.1\r\nHost: 10.0.0.1:9090\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\nConnection: close\r\n\r\n",
                "/livez",
            ),
            (
                "GET /metrics HTTP/1.1\r\nhost:x\r\nAccept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\nGET /more",
                "/metrics",
            ),
            ("GET /readyz?verbose HTTP/1.0\r\n\r\n", "/readyz?verbose"),
            ("\r\n\n\r\nGET / HTTP/1.0\n\n", "/"),
            (
                "GET http://127.0.0.1:9090/readyz/a?b HTTP/1.1\r\nHost: x\r\nA: \u{e9}\t\r\nB:\r\n\r\n",
                "/readyz/a?b",
            ),
            ("GET HTTP://x HTTP/1.1\r\nHost: x\r\n\r\n", "/"),
            ("GET * HTTP/1.1\r\nHost:\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n", "*"),
        ] {
            assert_eq!(Head::of(head.as_bytes()), complete(target), "{head}");
        }
        assert_eq!(
            Head::of(b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n"),
            Head::Complete { is_head: true, target: "/livez" }
        );
    }

    #[test]
    fn what_is_no_request_is_refused_with_a_status() {
        for (head, status) in [
            ("POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 405),
            ("get /livez HTTP/1.0\r\n\r\n", 405),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            ("GET / HTTP/1.2\r\n\r\n", 505),
            ("GET / http/1.1\r\n\r\n", 400),
            ("GET /livez\r\n\r\n", 400),
            ("GET  /livez HTTP/1.0\r\n\r\n", 400),
            ("GET /live z HTTP/1.0\r\n\r\n", 400),
            ("GET /livez HTTP/1.0 \r\n\r\n", 400),
            ("GET /\u{e9} HTTP/1.0\r\n\r\n", 400),
            ("G(T / HTTP/1.0\r\n\r\n", 400),
            (" / HTTP/1.0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nno colon\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\n: x\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nA : x\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nA: x\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nA: \0\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nA: a\rb\r\n\r\n", 400),
            ("\x16\x03\x01\n\n", 400),
        ] {
            assert_eq!(Head::of(head.as_bytes()), Head::Refused(status), "{head:?}");
        }
    }

    #[test]
    fn a_head_of_more_than_four_kilobytes_is_refused_before_its_end() {
        let head = |length: usize| {
            let text = "GET / HTTP/1.0\r\nA: \r\n\r\n";
            text.replace("A: ", &format!("A: {}", "x".repeat(length - text.len())))
        };
        assert_eq!(Head::of(head(LARGEST_HEAD).as_bytes()), complete("/"));
        assert_eq!(Head::of(head(LARGEST_HEAD + 1).as_bytes()), Head::Refused(431));
        let endless = [b'a'; LARGEST_HEAD];
        assert_eq!(Head::of(&endless), Head::Refused(431));
        assert_eq!(Head::of(&endless[1..]), Head::Incomplete);
        assert_eq!(Head::of("\r\n".repeat(LARGEST_HEAD / 2).as_bytes()), Head::Refused(431));
    }

    /// Bytes that look like parts of requests more often than random ones do.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"GET ".to_vec()),
            Just(b"HEAD ".to_vec()),
            Just(b"/livez".to_vec()),
            Just(b" HTTP/1.1".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"Host:".to_vec()),
            Just(b"http://".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40),
        ];
        proptest::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn f029_no_bytes_cause_a_panic_and_more_bytes_change_no_verdict(bytes in bytes()) {
            let mut verdict = Head::Incomplete;
            for length in 0..=bytes.len() {
                let head = Head::of(&bytes[..length]);
                if verdict == Head::Incomplete {
                    verdict = head;
                } else {
                    prop_assert_eq!(head, verdict, "after {} bytes", length);
                }
            }
            if let Head::Complete { target, .. } = verdict {
                prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic()));
            }
            prop_assert!(bytes.len() < LARGEST_HEAD || verdict != Head::Incomplete);
        }
    }
}
