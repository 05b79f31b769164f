//! The pages of the listener: which target is which page, and the text of each.
//!
//! They are readable without authentication, so they hold codes and summaries of the tables, and
//! nothing of a response, a path or an address: the log has those.

use std::fmt::Write as _;
use std::time::Duration;

use crate::duration::HumanDuration;
use crate::failure::Code;
use crate::metrics;
use crate::token_file::TokenFileState;

/// A page of the listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Page {
    /// `/livez`: the loop turns.
    Live,
    /// `/readyz`: every output of every token holds a valid token.
    Ready {
        /// Whether each token is listed, even if all are ready.
        verbose: bool,
    },
    /// `/readyz/<token>`: every output of the token with this name holds a valid token.
    ReadyToken(String),
    /// `/metrics`: the metrics.
    Metrics,
}

impl Page {
    /// The page of a request target in origin form (RFC 9112 §3.2.1): a path with an optional
    /// query. `None` if there is no such page.
    #[must_use]
    pub fn of(target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match path {
            "/livez" => Some(Self::Live),
            "/readyz" => {
                // As in Kubernetes, the parameter counts whatever its value is.
                let verbose = query.split('&').any(|each| each.split('=').next() == Some("verbose"));
                Some(Self::Ready { verbose })
            }
            "/metrics" => Some(Self::Metrics),
            _ => match path.strip_prefix("/readyz/") {
                None | Some("") => None,
                // Names of tokens need no percent-encoding.
                Some(name) => Some(Self::ReadyToken(name.to_owned())),
            },
        }
    }
}

/// The response to a request: status, media type, body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The media type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

/// The media type of everything but the metrics.
const PLAIN: &str = "text/plain; charset=utf-8";

impl Response {
    /// A line of text.
    #[must_use]
    pub fn line(status: u16, line: &str) -> Self {
        Self { status, content_type: PLAIN, body: format!("{line}\n") }
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(snapshot: &metrics::Snapshot<'_>) -> Self {
        Self { status: 200, content_type: metrics::CONTENT_TYPE, body: metrics::render(snapshot) }
    }

    /// `/readyz`: as in Kubernetes, `ok`, or a line for each token.
    #[must_use]
    pub fn ready(tokens: &[TokenReadiness<'_>], verbose: bool) -> Self {
        let is_ready = tokens.iter().all(TokenReadiness::is_ready);
        if is_ready && !verbose {
            return Self::line(200, "ok");
        }
        let mut body = String::new();
        for token in tokens {
            body.push_str(if token.is_ready() { "[+]" } else { "[-]" });
            body.push_str(token.name);
            body.push(' ');
            token.push_sentence(&mut body);
            body.push('\n');
        }
        body.push_str(if is_ready { "readyz check passed\n" } else { "readyz check failed\n" });
        Self { status: status(is_ready), content_type: PLAIN, body }
    }

    /// `/readyz/<token>`.
    #[must_use]
    pub fn ready_token(token: Option<&TokenReadiness<'_>>) -> Self {
        let Some(token) = token else { return Self::line(404, "no token has this name") };
        let mut body = String::new();
        token.push_sentence(&mut body);
        body.push('\n');
        Self { status: status(token.is_ready()), content_type: PLAIN, body }
    }
}

const fn status(is_ready: bool) -> u16 {
    if is_ready { 200 } else { 503 }
}

/// Whether a token is ready, and why not.
#[derive(Clone, Debug)]
pub struct TokenReadiness<'a> {
    /// Its name in the configuration.
    pub name: &'a str,
    /// The state of each output, in the order of the configuration. `None` for a file that is
    /// missing or cannot be read.
    pub outputs: Vec<Option<TokenFileState>>,
    /// The last failure since the last success.
    pub failure: Option<Code>,
}

impl TokenReadiness<'_> {
    /// True if every output holds a valid token.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.outputs.iter().all(|output| output.is_some_and(TokenFileState::is_valid))
    }

    /// The remaining validity; of several outputs the shortest. `None` if none is known.
    fn remaining(&self) -> Option<Duration> {
        let of = |output: &Option<TokenFileState>| match output {
            Some(TokenFileState::Valid(remaining)) => *remaining,
            _ => None,
        };
        self.outputs.iter().filter_map(of).min()
    }

    fn push_sentence(&self, text: &mut String) {
        let failure = self.failure.map(|code| code.entry());
        if self.is_ready() {
            text.push_str("ok");
            if let Some(remaining) = self.remaining() {
                let _ = write!(text, ": expires in {}", HumanDuration(remaining));
            }
            if let Some(entry) = failure {
                let _ = write!(text, "; refresh failing: {}: {}", entry.name, entry.summary);
            }
            return;
        }
        text.push_str("failing: ");
        if let Some(entry) = failure {
            let _ = write!(text, "{}: {}; ", entry.name, entry.summary);
        }
        let mut separator = "";
        for (index, output) in self.outputs.iter().enumerate() {
            if output.is_some_and(TokenFileState::is_valid) {
                continue;
            }
            text.push_str(separator);
            separator = "; ";
            text.push_str("token file");
            if self.outputs.len() > 1 {
                let _ = write!(text, " {}", index + 1);
            }
            match output {
                Some(state) => {
                    let _ = write!(text, " {state}");
                }
                None => text.push_str(" missing or unreadable"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_one_of_the_pages_or_none() {
        for (target, page) in [
            ("/livez", Some(Page::Live)),
            ("/livez?x=1", Some(Page::Live)),
            ("/readyz", Some(Page::Ready { verbose: false })),
            ("/readyz?", Some(Page::Ready { verbose: false })),
            ("/readyz?verbose", Some(Page::Ready { verbose: true })),
            ("/readyz?verbose=1", Some(Page::Ready { verbose: true })),
            ("/readyz?a=b&verbose=", Some(Page::Ready { verbose: true })),
            ("/readyz?verbosely", Some(Page::Ready { verbose: false })),
            ("/readyz/incus", Some(Page::ReadyToken("incus".to_owned()))),
            ("/readyz/incus?verbose", Some(Page::ReadyToken("incus".to_owned()))),
            ("/readyz/", None),
            ("/metrics", Some(Page::Metrics)),
            ("/metrics?name[]=x", Some(Page::Metrics)),
            ("/metrics/", None),
            ("/", None),
            ("*", None),
            ("", None),
            ("/livezz", None),
            ("/readyzincus", None),
        ] {
            assert_eq!(Page::of(target), page, "{target}");
        }
    }

    const HOURS: TokenFileState = TokenFileState::Valid(Some(Duration::from_secs(5 * 3600 + 720)));
    const LESS: TokenFileState = TokenFileState::Valid(Some(Duration::from_secs(60)));

    fn token(name: &str, outputs: Vec<Option<TokenFileState>>, failure: Option<Code>) -> TokenReadiness<'_> {
        TokenReadiness { name, outputs, failure }
    }

    #[test]
    fn readyz_names_each_token_with_code_and_reason() {
        let incus = token("incus", vec![Some(HOURS), Some(LESS)], None);
        let stale = token("vault", vec![Some(HOURS)], Some(Code::TimedOut));
        let opaque = token("opaque", vec![Some(TokenFileState::Valid(None))], None);
        let expired = Some(TokenFileState::Expired(Duration::from_secs(300)));
        let refused = token("prometheus", vec![Some(HOURS), expired, None], Some(Code::ConnectRefused));
        let new = token("new", vec![None], None);

        let ok = Response::ready(&[incus.clone(), stale.clone()], false);
        assert_eq!((ok.status, ok.body.as_str()), (200, "ok\n"));
        let verbose = Response::ready(&[incus.clone(), stale, opaque], true);
        assert_eq!(
            (verbose.status, verbose.body.as_str()),
            (
                200,
                "[+]incus ok: expires in 1m\n\
                 [+]vault ok: expires in 5h12m; refresh failing: timed_out: the attempt timed out\n\
                 [+]opaque ok\n\
                 readyz check passed\n"
            )
        );
        let refused_line = "failing: connect_refused: connection refused; \
                            token file 2 expired 5m ago; token file 3 missing or unreadable\n";
        for verbose in [false, true] {
            let failed = Response::ready(&[incus.clone(), refused.clone(), new.clone()], verbose);
            assert_eq!(failed.status, 503);
            assert_eq!(
                failed.body,
                format!(
                    "[+]incus ok: expires in 1m\n[-]prometheus {refused_line}\
                     [-]new failing: token file missing or unreadable\nreadyz check failed\n"
                )
            );
        }
        let one = Response::ready_token(Some(&refused));
        assert_eq!((one.status, one.body.as_str()), (503, refused_line));
        assert_eq!(Response::ready_token(Some(&incus)).status, 200);
        assert_eq!(Response::ready_token(None).status, 404);
    }
}
