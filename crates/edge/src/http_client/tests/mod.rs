//! Exchanges over real sockets on loopback, with the code and the detail of every failure.

pub(crate) mod certificates;
mod deadline;
mod headers;
mod notifications;
mod responses;
mod server;
mod socks;
mod trust;
mod tunnels;

use std::path::PathBuf;
use std::time::Duration;

use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::{Answer, Request, TokenEndpoint as _};
use dexsidecar_core::failure::Failure;
use dexsidecar_core::secret::Secret;
use tempfile::TempDir;

use super::{HttpEndpoint, Proxies, Roots};

const SUBJECT: &str = "canary-of-the-subject-token";
const BASIC: &str = "Basic Y2FuYXJ5LW9mLXRoZS1jbGllbnQ=";
const LONG_TIMEOUT: Duration = Duration::from_secs(30);

/// The client of an exchange, with its CA file.
struct Client {
    endpoint: HttpEndpoint,
    _dir: TempDir,
}

impl Client {
    fn new() -> Self {
        Self::trusting("")
    }

    /// Trusts only the certificates in this PEM.
    fn trusting(pem: &str) -> Self {
        Self::with(pem, LONG_TIMEOUT, &[])
    }

    fn with_short_timeout() -> Self {
        Self::with("", Duration::from_millis(300), &[])
    }

    fn with(pem: &str, timeout: Duration, variables: &[(&str, String)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path: PathBuf = dir.path().join("ca.pem");
        std::fs::write(&path, pem).unwrap();
        let proxies = Proxies::read(|name| {
            Some(Secret::new(variables.iter().find(|(known, _)| *known == name)?.1.clone()))
        });
        Self { endpoint: HttpEndpoint::new(timeout, Roots::File(path), proxies), _dir: dir }
    }

    /// Posts a form. No failure may show a secret.
    async fn post(&self, url: &str) -> Result<Answer, Failure> {
        let outcome = self.endpoint.send(&post_request(url), 0).await;
        let shown = match &outcome {
            Ok(_) => String::new(),
            Err(failure) => format!("{failure} {failure:?}"),
        };
        assert!(!Secret::new(SUBJECT.to_owned()).appears_in(&shown), "{shown}");
        assert!(!Secret::new(BASIC[6..].to_owned()).appears_in(&shown), "{shown}");
        outcome
    }

    /// Posts a form, expects a failure, and returns it.
    async fn post_failure(&self, url: &str) -> Failure {
        self.post(url).await.unwrap_err()
    }
}

fn post_request(url: &str) -> Request {
    Request {
        url: EndpointUrl::parse(url).unwrap().0,
        authorization: Some(Secret::new(BASIC.to_owned())),
        form: Some(Secret::new(format!("grant_type=a%3Ab&subject_token={SUBJECT}"))),
    }
}
