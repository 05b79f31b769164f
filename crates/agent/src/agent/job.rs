//! The work that takes time: an exchange, a write, a key check, a removal. A job owns what it
//! needs, so that the agent handles everything else while the job runs.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use dexsidecar_core::config::TokenConfig;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::{Answer, Request, TokenEndpoint};
use dexsidecar_core::failure::Failure;
use dexsidecar_core::output::Output;
use dexsidecar_core::refresher::Lifetime;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::signing_keys::{self, Discovery, Published};
use dexsidecar_core::time::UnixTime;
use dexsidecar_core::token::IssuedToken;
use dexsidecar_edge::blocking::{OnDrop, run_blocking};
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::log::Logger;
use dexsidecar_edge::output_file::{self, NameLock, Written};

use crate::exchange::{Inputs, LastKnown};

/// How long the first trial of the output may delay the report of a failed exchange.
const OUTPUT_TRIAL: Duration = Duration::from_secs(1);
/// How long a write may take before it is reported: as long as an attempt by default.
const SLOW_WRITE: Duration = Duration::from_secs(15);

/// The outcome of a job.
pub(super) enum Outcome {
    /// The files that an exchange needs were read.
    InputsRead { read: Result<Inputs, Failure>, last_known: LastKnown },
    /// The request was answered, or failed.
    Exchanged(Box<Exchanged>),
    /// The output was tried after the first failed exchange.
    OutputTried { exchange: FailedExchange, output: Option<Failure> },
    /// This token was written, or not. It is a restore if it was on disk before.
    Written { token: Secret, is_restore: bool, result: Result<Written, Failure> },
    /// The published keys were read, to be compared with this key. `keys_url` is their URL.
    KeysRead { key_id: String, keys_url: Option<EndpointUrl>, published: Result<Published, Failure> },
    /// The file of this expired token was removed: true, or false if it holds another token.
    Removed { expired: Secret, result: Result<bool, Failure> },
}

/// What was sent, and what came of it.
pub(super) struct Exchanged {
    pub(super) inputs: Inputs,
    pub(super) result: Result<(IssuedToken, Lifetime), Failure>,
}

/// A failed exchange, and what is known here of its cause.
pub(super) struct FailedExchange {
    pub(super) failure: Failure,
    pub(super) causes: Vec<String>,
}

impl From<Failure> for FailedExchange {
    fn from(failure: Failure) -> Self {
        Self { failure, causes: vec![] }
    }
}

type Job = Pin<Box<dyn Future<Output = Outcome>>>;

/// The jobs that run: at most one of each kind. Dropping an exchange closes its connection.
#[derive(Default)]
pub(super) struct Jobs {
    pub(super) exchange: Option<Job>,
    pub(super) write: Option<Job>,
    pub(super) key_check: Option<Job>,
    pub(super) removal: Option<Job>,
    /// The trial of the output after the first failed exchange.
    pub(super) trial: Option<Job>,
}

impl Jobs {
    /// Waits for the outcome of one of them. Without any, it waits forever.
    pub(super) async fn next(&mut self) -> Outcome {
        poll_fn(|context| {
            let Self { exchange, write, key_check, removal, trial } = self;
            for slot in [write, exchange, removal, key_check, trial] {
                if let Some(job) = slot
                    && let Poll::Ready(outcome) = job.as_mut().poll(context)
                {
                    *slot = None;
                    return Poll::Ready(outcome);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

/// Reads the files that an exchange needs.
pub(super) fn read_inputs(config: Rc<TokenConfig>, mut last_known: LastKnown, now: UnixTime) -> Job {
    Box::pin(async move {
        let read = Inputs::read(&config.exchange, &mut last_known, now).await;
        Outcome::InputsRead { read, last_known }
    })
}

/// Sends the request, and reads the response.
pub(super) fn exchange<E: TokenEndpoint + 'static>(
    config: Rc<TokenConfig>,
    endpoint: Rc<E>,
    clock: Clock,
    inputs: Inputs,
    rotation: usize,
    current: Option<Secret>,
) -> Job {
    Box::pin(async move {
        let result = inputs.exchange(&config.exchange, &*endpoint, &clock, rotation, current.as_ref()).await;
        Outcome::Exchanged(Box::new(Exchanged { inputs, result }))
    })
}

/// Tries the output, so that what is wrong with it is reported before there is a token to write
/// (F71).
pub(super) fn try_output(output: Output, exchange: FailedExchange) -> Job {
    Box::pin(async move {
        let trying = run_blocking(OnDrop::Detach, move || output_file::check_writable(&output));
        let output = match tokio::time::timeout(OUTPUT_TRIAL, trying).await {
            Ok(Ok(Err(failure))) => Some(failure),
            _ => None,
        };
        Outcome::OutputTried { exchange, output }
    })
}

/// Writes a token on a thread of its own, since a disk may stall (F86). Where no thread can be
/// made, it is written here.
pub(super) fn write(output: Output, lock: NameLock, token: Secret, is_restore: bool, log: Logger) -> Job {
    Box::pin(async move {
        let file = output.path.clone();
        let write = {
            let token = token.clone();
            move || output_file::write_with(&output, &token, &lock)
        };
        let mut writing = std::pin::pin!(run_blocking(OnDrop::Join, write.clone()));
        let written = match tokio::time::timeout(SLOW_WRITE, &mut writing).await {
            Ok(written) => written,
            Err(_) => {
                log.emit(&Event::WriteSlow { file: &file.display() });
                writing.await
            }
        };
        let result = written.unwrap_or_else(|_| write());
        Outcome::Written { token, is_restore, result }
    })
}

/// Removes the file of an expired token, on a thread of its own: it may wait for a write that
/// hangs. At shutdown nobody waits for it, since an expired token is removed at the next start.
/// Where no thread can be made, it is removed here.
pub(super) fn remove(output: Output, lock: NameLock, expired: Secret) -> Job {
    Box::pin(async move {
        let remove = {
            let (expired, lock) = (expired.clone(), lock.clone());
            move || output_file::remove_if(&output, &expired, &lock)
        };
        let removed = run_blocking(OnDrop::Detach, remove.clone()).await;
        let result = removed.unwrap_or_else(|_| if lock.is_held() { Ok(false) } else { remove() });
        Outcome::Removed { expired, result }
    })
}

/// Reads the published keys. Their URL is read from the discovery document, unless it is known.
pub(super) fn read_keys<E: TokenEndpoint + 'static>(
    config: Rc<TokenConfig>,
    endpoint: Rc<E>,
    rotation: usize,
    key_id: String,
    mut keys_url: Option<EndpointUrl>,
) -> Job {
    Box::pin(async move {
        let published =
            published_keys(&config.exchange.endpoint.url, &*endpoint, rotation, &mut keys_url).await;
        Outcome::KeysRead { key_id, keys_url, published }
    })
}

async fn published_keys(
    token_endpoint: &EndpointUrl,
    endpoint: &impl TokenEndpoint,
    rotation: usize,
    keys_url: &mut Option<EndpointUrl>,
) -> Result<Published, Failure> {
    if keys_url.is_none() {
        let discovery = match signing_keys::discovery_url(token_endpoint) {
            Some(url) => Discovery::read(&get(endpoint, url, rotation).await?),
            None => None,
        };
        *keys_url = signing_keys::keys_url(token_endpoint, discovery.as_ref());
    }
    match keys_url.clone() {
        Some(url) => Ok(signing_keys::published(&get(endpoint, url, rotation).await?)),
        None => Ok(Published::NotServed),
    }
}

async fn get(endpoint: &impl TokenEndpoint, url: EndpointUrl, rotation: usize) -> Result<Answer, Failure> {
    endpoint.send(&Request { url, authorization: None, form: None }, rotation).await
}
