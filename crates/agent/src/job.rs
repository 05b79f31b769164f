//! The work that takes time: an exchange, a write, a key check, a removal, an action. A job owns
//! what it needs, so the scheduler and the token handle everything else while it runs.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use dexsidecar_core::action::{Action, Notify};
use dexsidecar_core::config::TokenConfig;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::event::Event;
use dexsidecar_core::exchange::{Answer, Request, TokenEndpoint};
use dexsidecar_core::failure::Failure;
use dexsidecar_core::output::{Output, StoredToken};
use dexsidecar_core::refresher::Lifetime;
use dexsidecar_core::secret::Secret;
use dexsidecar_core::signing_keys::{self, Discovery, Published};
use dexsidecar_core::time::{BootTime, UnixTime};
use dexsidecar_core::token::IssuedToken;
use dexsidecar_edge::action::AttemptSlot;
use dexsidecar_edge::blocking::{OnDrop, run_blocking};
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::log::Logger;
use dexsidecar_edge::output_file::{self, NameLock, RenamePlace, Written};

use crate::action::{OutputLog, perform};
use crate::exchange::{Inputs, LastKnown};

/// How long the first trial of the outputs may delay the report of a failed exchange.
const OUTPUT_TRIAL: Duration = Duration::from_secs(1);
/// How long a write may take before it is reported: as long as an attempt by default.
const SLOW_WRITE: Duration = Duration::from_secs(15);

/// What a token has to do next. An output is named by its index.
#[derive(Debug)]
pub(crate) enum Job {
    /// Read the files that an exchange needs.
    ReadInputs { config: Rc<TokenConfig>, last_known: LastKnown, now: UnixTime },
    /// Send the request, and read the response.
    Exchange { config: Rc<TokenConfig>, inputs: Inputs, rotation: usize, current: Option<Secret> },
    /// Try the outputs, so that what is wrong with them is reported before there is a token to
    /// write (F71).
    TryOutputs { config: Rc<TokenConfig>, exchange: FailedExchange },
    /// Write a token. It is a restore if it was on disk before. An issued token has a place in the
    /// order of the outputs.
    Write {
        output: usize,
        file: Output,
        lock: NameLock,
        place: Option<RenamePlace>,
        token: StoredToken,
        is_restore: bool,
        log: Logger,
    },
    /// Remove the file of an expired token.
    Remove { output: usize, file: Output, lock: NameLock, expired: Secret },
    /// Read the published keys. Their URL is read from the discovery document, unless it is known.
    ReadKeys { endpoint: EndpointUrl, rotation: usize, keys_url: Option<EndpointUrl>, started: BootTime },
    /// Perform an action. Output that holds one of the secrets is not logged. That of `known`, a
    /// failure that was logged, is logged at `debug`.
    Act {
        config: Rc<TokenConfig>,
        action: usize,
        slot: AttemptSlot,
        secrets: Rc<RefCell<Vec<Secret>>>,
        log: Logger,
        known: Option<String>,
    },
}

/// The outcome of a job.
pub(crate) enum Outcome {
    /// The files that an exchange needs were read.
    InputsRead { read: Result<Inputs, Failure>, last_known: LastKnown },
    /// The request was answered, or failed.
    Exchanged(Box<Exchanged>),
    /// The outputs were tried after the first failed exchange.
    OutputsTried { exchange: FailedExchange, outputs: Vec<Failure> },
    /// This token was written, or not.
    Written { output: usize, token: Secret, is_restore: bool, result: Result<Written, Failure> },
    /// The file of this expired token was removed: true, or false if it holds another token.
    Removed { output: usize, expired: Secret, result: Result<bool, Failure> },
    /// The published keys were read.
    KeysRead(KeysRead),
    /// The action with this index was performed, or failed.
    Acted { action: usize, result: Result<(), Failure> },
}

/// What was sent, and what came of it.
pub(crate) struct Exchanged {
    pub(crate) inputs: Inputs,
    /// The index of the address that it began with.
    pub(crate) rotation: usize,
    /// The time from before the DNS lookup to the last byte of the response.
    pub(crate) took: Duration,
    pub(crate) result: Result<(IssuedToken, Lifetime), Failure>,
}

/// The published keys. They serve every token of this Dex that was issued before `started`.
pub(crate) struct KeysRead {
    /// When the keys were requested.
    pub(crate) started: BootTime,
    /// The index of the address that the request began with.
    pub(crate) rotation: usize,
    /// The URL of the keys, if it is known now.
    pub(crate) keys_url: Option<EndpointUrl>,
    pub(crate) published: Result<Published, Failure>,
}

/// A failed exchange, and what is known here of its cause.
#[derive(Debug)]
pub(crate) struct FailedExchange {
    pub(crate) failure: Failure,
    pub(crate) causes: Vec<String>,
}

impl From<Failure> for FailedExchange {
    fn from(failure: Failure) -> Self {
        Self { failure, causes: vec![] }
    }
}

/// The kinds of jobs that differ for the scheduler.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A part of an exchange. Another one of the same token replaces it.
    Exchange,
    /// Published keys are read, for all tokens of a Dex.
    Keys,
    /// An action.
    Action,
    /// Everything else.
    Other,
}

/// A job that runs.
pub(crate) type Running = Pin<Box<dyn Future<Output = Outcome>>>;

impl Job {
    /// Its kind.
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::ReadInputs { .. } | Self::Exchange { .. } => Kind::Exchange,
            Self::ReadKeys { .. } => Kind::Keys,
            Self::Act { .. } => Kind::Action,
            _ => Kind::Other,
        }
    }

    /// Starts it. Dropping it gives it up: an exchange closes its connection then.
    pub(crate) fn start<E: TokenEndpoint + Notify + 'static>(self, client: Rc<E>, clock: Clock) -> Running {
        match self {
            Self::ReadInputs { config, mut last_known, now } => Box::pin(async move {
                let read = Inputs::read(&config.exchange, &mut last_known, now, &*client).await;
                Outcome::InputsRead { read, last_known }
            }),
            Self::Exchange { config, inputs, rotation, current } => Box::pin(async move {
                let (exchange, started) = (&config.exchange, clock.now().boot);
                let result = inputs.exchange(exchange, &*client, &clock, rotation, current.as_ref()).await;
                let took = started.until(clock.now().boot);
                Outcome::Exchanged(Box::new(Exchanged { inputs, rotation, took, result }))
            }),
            Self::TryOutputs { config, exchange } => Box::pin(async move {
                let files = config.outputs.clone();
                let tried =
                    move || files.iter().filter_map(|file| output_file::check_writable(file).err()).collect();
                let trying = run_blocking(OnDrop::Detach, tried);
                let outputs = match tokio::time::timeout(OUTPUT_TRIAL, trying).await {
                    Ok(Ok(failures)) => failures,
                    _ => vec![],
                };
                Outcome::OutputsTried { exchange, outputs }
            }),
            Self::Write { output, file, lock, place, token: stored, is_restore, log } => {
                Box::pin(async move {
                    let content = file.format.render(&stored);
                    let result = write(file, lock, place, content, log).await;
                    Outcome::Written { output, token: stored.token, is_restore, result }
                })
            }
            Self::Remove { output, file, lock, expired } => Box::pin(async move {
                let result = remove(file, lock, expired.clone()).await;
                Outcome::Removed { output, expired, result }
            }),
            Self::ReadKeys { endpoint, rotation, mut keys_url, started } => Box::pin(async move {
                let published = published_keys(&endpoint, &*client, rotation, &mut keys_url).await;
                Outcome::KeysRead(KeysRead { started, rotation, keys_url, published })
            }),
            Self::Act { config, action, slot, secrets, log, known } => Box::pin(async move {
                let label = Action::label(&config.actions, action);
                let kind = &config.actions[action];
                let output = OutputLog::new(&label, &secrets, &log, known.as_deref());
                let result = perform(kind, &*client, &slot, output).await;
                Outcome::Acted { action, result }
            }),
        }
    }
}

/// Writes a token file on a thread of its own, since a disk may stall (F86). Where no thread can be
/// made, it is written here.
async fn write(
    file: Output,
    lock: NameLock,
    place: Option<RenamePlace>,
    content: Secret,
    log: Logger,
) -> Result<Written, Failure> {
    let path = file.path.clone();
    let write = move |place| output_file::write_with(&file, &content, &lock, place);
    let on_thread = {
        let write = write.clone();
        move || write(place)
    };
    let mut writing = std::pin::pin!(run_blocking(OnDrop::Join, on_thread));
    let written = match tokio::time::timeout(SLOW_WRITE, &mut writing).await {
        Ok(written) => written,
        Err(_) => {
            log.emit(&Event::WriteSlow { file: &path.display() });
            writing.await
        }
    };
    // This thread waits for no other output.
    written.unwrap_or_else(|_| write(None))
}

/// Removes a file on a thread of its own: it may wait for a write that hangs. At shutdown nobody
/// waits for it, since an expired token is removed at the next start. Where no thread can be made,
/// it is removed here.
async fn remove(file: Output, lock: NameLock, expired: Secret) -> Result<bool, Failure> {
    let remove = {
        let lock = lock.clone();
        move || output_file::remove_if(&file, &expired, &lock)
    };
    let removed = run_blocking(OnDrop::Detach, remove.clone()).await;
    removed.unwrap_or_else(|_| if lock.is_held() { Ok(false) } else { remove() })
}

async fn published_keys(
    token_endpoint: &EndpointUrl,
    client: &impl TokenEndpoint,
    rotation: usize,
    keys_url: &mut Option<EndpointUrl>,
) -> Result<Published, Failure> {
    if keys_url.is_none() {
        let discovery = match signing_keys::discovery_url(token_endpoint) {
            Some(url) => Discovery::read(&get(client, url, rotation).await?),
            None => None,
        };
        *keys_url = signing_keys::keys_url(token_endpoint, discovery.as_ref());
    }
    match keys_url.clone() {
        Some(url) => Ok(signing_keys::published(&get(client, url, rotation).await?)),
        None => Ok(Published::NotServed),
    }
}

async fn get(client: &impl TokenEndpoint, url: EndpointUrl, rotation: usize) -> Result<Answer, Failure> {
    client.send(&Request { url, authorization: None, form: None }, rotation).await
}

/// A token that has ended, or has a new configuration.
pub(crate) struct Ended {
    pub(crate) token: usize,
    /// A token that uses its former Dex now.
    pub(crate) successor: Option<usize>,
    /// Whether its action goes on.
    pub(crate) keeps_action: bool,
}

/// The jobs that run, each for a token, or for none any more.
#[derive(Default)]
pub(crate) struct Jobs(Vec<(Option<usize>, Kind, Running)>);

impl Jobs {
    /// Adds a job of this token. An exchange of the same token is given up for another one.
    pub(crate) fn add(&mut self, token: usize, kind: Kind, job: Running) {
        if kind == Kind::Exchange {
            self.0.retain(|(other, kind, _)| (*other, *kind) != (Some(token), Kind::Exchange));
        }
        self.0.push((Some(token), kind, job));
    }

    /// These tokens have ended, or have a new configuration. Their exchanges are given up, and
    /// their actions unless those go on. Keys that are being read are those of the successor. A
    /// write or a removal ends without a report: given up, it would go on all the same.
    pub(crate) fn forget(&mut self, ended: &[Ended]) {
        // Each job is looked at once: its new token may be among those that have ended, too.
        self.0.retain_mut(|(of, kind, _)| {
            let Some(ended) = ended.iter().find(|ended| Some(ended.token) == *of) else { return true };
            match *kind {
                Kind::Exchange => false,
                Kind::Action => ended.keeps_action,
                Kind::Keys => {
                    *of = ended.successor;
                    of.is_some()
                }
                Kind::Other => {
                    *of = None;
                    true
                }
            }
        });
    }

    /// Waits for the outcome of one of them, and returns its token. Without any, it waits forever.
    pub(crate) async fn next(&mut self) -> (usize, Outcome) {
        poll_fn(|context| {
            let mut index = 0;
            while let Some((token, _, job)) = self.0.get_mut(index) {
                if let Poll::Ready(outcome) = job.as_mut().poll(context) {
                    let token = *token;
                    drop(self.0.swap_remove(index));
                    if let Some(token) = token {
                        return Poll::Ready((token, outcome));
                    }
                } else {
                    index += 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_read_while_two_tokens_swap_their_dexes_stay_those_of_their_dex() {
        let mut jobs = Jobs::default();
        let kinds = [Kind::Keys, Kind::Exchange, Kind::Action, Kind::Other];
        for kind in kinds {
            jobs.add(1, kind, Box::pin(std::future::pending()));
        }
        let ended = |token, successor| Ended { token, successor: Some(successor), keeps_action: true };
        jobs.forget(&[ended(1, 2), ended(2, 1)]);
        let left: Vec<_> = jobs.0.iter().map(|(token, kind, _)| (*token, *kind)).collect();
        assert_eq!(left, [(Some(2), Kind::Keys), (Some(1), Kind::Action), (None, Kind::Other)]);
        let last = Ended { token: 2, successor: None, keeps_action: false };
        jobs.forget(&[last]);
        assert_eq!(jobs.0.iter().filter(|(_, kind, _)| *kind == Kind::Keys).count(), 0);
    }
}
