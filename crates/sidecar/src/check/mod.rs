//! `check`: runs each step of an exchange, reports it when it is done, and explains the first that
//! fails. It writes no token
//! file, and the exchange it makes is a real one.

mod report;
mod steps;

use std::time::Duration;

use dexsidecar_agent::exchange::{Inputs, LastKnown};
use dexsidecar_core::claims::Claims;
use dexsidecar_core::config::TokenConfig;
use dexsidecar_core::diagnosis;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::{Exchange, Request, Source, TOKEN_EXCHANGE, TokenEndpoint as _};
use dexsidecar_core::failure::{Failure, Step, plain};
use dexsidecar_core::settings::SUBJECT_TOKEN;
use dexsidecar_core::signing_keys::{self, Discovery};
use dexsidecar_core::time::BootTime;
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::http_client::HttpEndpoint;
use dexsidecar_edge::output_file;

use crate::probe;

pub use report::{Report, StepResult};

/// What a step that succeeded found, and notes on what is unusual.
type Found = (String, Vec<String>);

/// The steps done so far, with the clock that times them.
struct Steps<'a, F> {
    clock: &'a Clock,
    started: BootTime,
    results: Vec<StepResult>,
    done: F,
}

impl<F: FnMut(&StepResult)> Steps<'_, F> {
    /// Reports a step that succeeded.
    fn ok(&mut self, step: Step, (message, notes): Found) {
        let took = self.lap();
        self.push(StepResult::ok(step, message, notes, took));
    }

    /// Reports the step that failed, and all others as skipped.
    fn fail(mut self, step: Step, failure: &Failure, causes: Vec<String>) -> Report {
        let took = self.lap();
        self.push(StepResult::fail(step, failure, causes, took));
        Report::of(self.results, &mut self.done)
    }

    fn push(&mut self, result: StepResult) {
        (self.done)(&result);
        self.results.push(result);
    }

    /// The time since the last step was done.
    fn lap(&mut self) -> Duration {
        let now = self.clock.now().boot;
        std::mem::replace(&mut self.started, now).until(now)
    }
}

/// Runs the steps of one token until one fails, and hands each result to `done` at once.
/// `warnings` are those about the settings.
pub async fn run(
    config: &TokenConfig,
    warnings: &[String],
    endpoint: &HttpEndpoint,
    clock: &Clock,
    done: impl FnMut(&StepResult),
) -> Report {
    let mut steps = Steps { clock, started: clock.now().boot, results: vec![], done };
    let exchange = &config.exchange;
    let url = &exchange.endpoint.url;
    // One read has the files of two steps: its time belongs to the subject token, which may be
    // waited for.
    let settings_took = steps.lap();
    let read = Inputs::read(exchange, &mut LastKnown::default(), clock.now().unix).await;
    let inputs = match read {
        Err(failure) if failure.step() == Step::Settings => {
            return steps.fail(Step::Settings, &failure, vec![]);
        }
        read => {
            let (message, notes) = (settings(exchange), warnings.to_vec());
            steps.push(StepResult::ok(Step::Settings, message, notes, settings_took));
            match read {
                Ok(inputs) => inputs,
                Err(failure) => return steps.fail(Step::SubjectToken, &failure, vec![]),
            }
        }
    };
    let subject = inputs.subject.as_ref();
    steps.ok(Step::SubjectToken, subject_token(exchange, subject, clock));

    let route = endpoint.route(url);
    match endpoint.resolve(url).await {
        Ok((addresses, origin)) => {
            let (host, _) = endpoint.first_hop(url);
            steps.ok(Step::Dns, (steps::name(&host, &addresses, &origin, &route), vec![]));
        }
        Err(failure) => return steps.fail(Step::Dns, &failure, vec![]),
    }
    let connection = match endpoint.connect(url).await {
        Ok(connection) => connection,
        Err(failure) => return steps.fail(Step::Tcp, &failure, vec![]),
    };
    steps.ok(Step::Tcp, (steps::connection(connection.peer(), &route), vec![]));

    if url.is_tls() {
        match endpoint.handshake(url, connection).await {
            Ok(session) => steps.ok(Step::Tls, steps::tls(&session, clock.now().unix)),
            Err(failure) => return steps.fail(Step::Tls, &failure, vec![]),
        }
    } else {
        // The server may serve one connection at a time.
        drop(connection);
        steps.ok(Step::Tls, ("none: plain http".to_owned(), vec![]));
    }

    steps.ok(Step::Discovery, discovery(url, endpoint).await);

    match inputs.exchange(exchange, endpoint, clock, 0, None).await {
        Ok((issued, _)) => {
            let claims = issued.claims.unwrap_or_default();
            let expires_in = HumanDuration(issued.lifetime);
            let message = format!("issued a token for {}, expires in {expires_in}", names(&claims.audience));
            let other = issued
                .differing_type
                .map(|other| format!("issued_token_type is {other}, not the requested type"));
            steps.ok(Step::Exchange, (message, other.into_iter().collect()));
        }
        Err(failure) => {
            let causes = diagnosis::causes(failure.code, exchange, subject, clock.now().unix);
            return steps.fail(Step::Exchange, &failure, causes);
        }
    }

    match output(config, clock) {
        Ok(found) => steps.ok(Step::Output, found),
        Err(failure) => return steps.fail(Step::Output, &failure, vec![]),
    }
    Report::of(steps.results, &mut steps.done)
}

fn settings(exchange: &Exchange) -> String {
    let names: Vec<_> = exchange.fields.iter().map(|(name, _)| name.as_str()).collect();
    let client = match &exchange.client {
        None => "no client credentials",
        Some(Source::Text(_)) => "client credentials from dex_basic_auth",
        Some(Source::File(_)) => "client credentials from dex_file_basic_auth",
    };
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!("{}, {client}; fields: {names}", exchange.endpoint.url)
}

fn subject_token(exchange: &Exchange, subject: Option<&Claims>, clock: &Clock) -> Found {
    let Some(claims) = subject else {
        let sent = exchange.fields.iter().any(|(name, _)| name == SUBJECT_TOKEN);
        let message = if sent { "not a JSON Web Token; sent as it is" } else { "none is sent" };
        return (message.to_owned(), vec![]);
    };
    let now = clock.now().unix;
    let who = claims.subject.as_deref().unwrap_or("no subject");
    let issuer = claims.issuer.as_deref().unwrap_or("no issuer");
    let expiry = claims
        .expires
        .filter(|expires| *expires > now)
        .map_or_else(String::new, |expires| format!(", expires in {}", HumanDuration(now.until(expires))));
    let message =
        format!("{} from {} for {}{expiry}", plain(who, 120), plain(issuer, 120), names(&claims.audience));
    (message, diagnosis::warnings(claims, now))
}

/// The discovery document. An exchange works without it, so this step never fails.
async fn discovery(token_endpoint: &EndpointUrl, endpoint: &HttpEndpoint) -> Found {
    let Some(url) = signing_keys::discovery_url(token_endpoint) else {
        let note =
            "dex_endpoint does not end with /token, as Dex's does: the key check is disabled".to_owned();
        return ("not requested".to_owned(), vec![note]);
    };
    let request = Request { url, authorization: None, form: None };
    let found = match endpoint.send(&request, 0).await {
        Ok(answer) => Discovery::read(&answer).ok_or_else(|| match answer.status {
            200 => format!("{} does not return a discovery document", request.url),
            status => format!("{} returns status {status}", request.url),
        }),
        Err(failure) => Err(failure.to_string()),
    };
    let found = match found {
        Ok(found) => found,
        Err(why) => {
            return (
                format!("no discovery document: {why}"),
                vec![
                    "the exchange works without it, the key check does not: check that dex_endpoint is Dex's issuer \
                     followed by /token"
                        .to_owned(),
                ],
            );
        }
    };
    let mut notes = vec![];
    if !found.grant_types_supported.iter().any(|grant| grant == TOKEN_EXCHANGE) {
        notes.push(format!(
            "Dex does not offer token exchange: add {TOKEN_EXCHANGE} to oauth2.grantTypes in its configuration"
        ));
    }
    (format!("issuer {}", plain(&found.issuer, 120)), notes)
}

fn output(config: &TokenConfig, clock: &Clock) -> Result<Found, Failure> {
    let Some(output) = config.outputs.first() else { return Ok(("none".to_owned(), vec![])) };
    let in_place = output_file::check_writable(output)?;
    let now = match output_file::read_content(output) {
        Some(content) => {
            probe::judge_content(&output.path, &content, &output.format, Duration::ZERO, clock).to_string()
        }
        None => "is writable".to_owned(),
    };
    let note = in_place.then(|| {
        "it is overwritten in place, so readers may see a partial token: mount its directory instead, without subPath"
            .to_owned()
    });
    Ok((format!("{} {now}", output.path.display()), note.into_iter().collect()))
}

fn names(audience: &[String]) -> String {
    if audience.is_empty() { "no audience".to_owned() } else { plain(&audience.join(", "), 120) }
}
