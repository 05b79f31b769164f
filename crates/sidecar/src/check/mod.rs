//! `check`: runs each step of an exchange, reports it when it is done, and explains the first that
//! fails. It writes no token file, and the exchange it makes is a real one. With several tokens it
//! does that for each; the steps from DNS to discovery are run once for each endpoint.

mod actions;
mod report;
mod steps;

use std::time::Duration;

use dexsidecar_agent::exchange::{Inputs, LastKnown};
use dexsidecar_agent::readiness;
use dexsidecar_core::claims::Claims;
use dexsidecar_core::config::{TokenConfig, Warning};
use dexsidecar_core::diagnosis;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::endpoint_url::EndpointUrl;
use dexsidecar_core::exchange::{
    Client, Endpoint, Exchange, Request, Source, TOKEN_EXCHANGE, TokenEndpoint as _,
};
use dexsidecar_core::failure::{Failure, Step, plain};
use dexsidecar_core::settings::{Dialect, SUBJECT_TOKEN};
use dexsidecar_core::signing_keys::{self, Discovery};
use dexsidecar_core::time::BootTime;
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::http_client::HttpEndpoint;
use dexsidecar_edge::input_file::is_mounted_version;
use dexsidecar_edge::output_file;

pub use report::{Report, StepResult};

/// What a step that succeeded found, and notes on what is unusual.
type Found = (String, Vec<String>);

/// The steps of one token that are done so far, with the clock that times them.
struct Steps<'a> {
    clock: &'a Clock,
    dialect: Dialect,
    started: BootTime,
    results: Vec<StepResult>,
    /// The token has actions, which have a step of their own.
    has_actions: bool,
    done: &'a mut dyn FnMut(&StepResult),
}

impl Steps<'_> {
    /// Reports a step that succeeded.
    fn ok(&mut self, step: Step, (message, notes): Found) {
        let took = self.lap();
        let notes = self.rendered(notes);
        self.push(StepResult::ok(step, message, notes, took));
    }

    /// The notes, with the names of settings as they were given.
    fn rendered(&self, notes: Vec<String>) -> Vec<String> {
        notes.iter().map(|note| self.dialect.render(note).into_owned()).collect()
    }

    /// Reports the step that failed. It is the last one.
    fn fail(&mut self, step: Step, failure: &Failure, causes: Vec<String>) {
        let took = self.lap();
        let causes = self.rendered(causes);
        self.push(StepResult::fail(step, failure, causes, took, self.dialect));
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

    /// Reports all other steps as skipped.
    fn end(mut self) -> Vec<StepResult> {
        let all = Step::ALL.into_iter().chain(self.has_actions.then_some(Step::Actions));
        for step in all.skip(self.results.len()) {
            self.push(StepResult::skipped(step));
        }
        self.results
    }
}

/// The steps from DNS to discovery at each endpoint: they are run once.
type Reached = Vec<(Endpoint, Vec<StepResult>)>;

/// Runs the steps of each token until one fails, and hands each result to `done` at once. If there
/// are several tokens, the first result of each names it. `warnings` are those about the settings.
pub async fn run(
    tokens: &[TokenConfig],
    warnings: &[Warning],
    connect: impl Fn(&Endpoint) -> HttpEndpoint,
    clock: &Clock,
    mut done: impl FnMut(&StepResult),
) -> Report {
    let mut report = Report::default();
    let mut reached = vec![];
    for (number, config) in tokens.iter().enumerate() {
        let name = (tokens.len() > 1).then(|| config.name.clone());
        let warnings = if number == 0 { warnings } else { &[] };
        let mut named = name.as_deref();
        let mut done = |result: &StepResult| match named.take() {
            Some(name) => done(&result.clone().of_token(name)),
            None => done(result),
        };
        let (dialect, started) = (config.exchange.dialect, clock.now().boot);
        let has_actions = !config.actions.is_empty();
        let steps = Steps { clock, dialect, started, results: vec![], has_actions, done: &mut done };
        let endpoint = connect(&config.exchange.endpoint);
        report.add(name.clone(), run_token(steps, config, warnings, &endpoint, &mut reached).await);
    }
    report
}

async fn run_token(
    mut steps: Steps<'_>,
    config: &TokenConfig,
    warnings: &[Warning],
    endpoint: &HttpEndpoint,
    reached: &mut Reached,
) -> Vec<StepResult> {
    let (exchange, clock) = (&config.exchange, steps.clock);
    // One read has the files of two steps: its time belongs to the subject token, which may be
    // waited for.
    let settings_took = steps.lap();
    let read = Inputs::read(exchange, &mut LastKnown::default(), clock.now().unix, endpoint).await;
    let inputs = match read {
        Err(failure) if failure.step() == Step::Settings => {
            steps.fail(Step::Settings, &failure, vec![]);
            return steps.end();
        }
        read => {
            let (message, notes) = (settings(exchange), warnings.iter().map(Warning::to_string).collect());
            steps.push(StepResult::ok(Step::Settings, message, notes, settings_took));
            match read {
                Ok(inputs) => inputs,
                Err(failure) => {
                    steps.fail(Step::SubjectToken, &failure, vec![]);
                    return steps.end();
                }
            }
        }
    };
    let subject = inputs.subject.as_ref();
    steps.ok(Step::SubjectToken, subject_token(exchange, subject, clock));

    match reached.iter().find(|(known, _)| *known == exchange.endpoint) {
        Some((_, results)) => results.iter().for_each(|result| steps.push(result.again())),
        None => {
            let first = steps.results.len();
            if let Err((step, failure)) = reach(&mut steps, &exchange.endpoint.url, endpoint).await {
                steps.fail(step, &failure, vec![]);
            }
            reached.push((exchange.endpoint.clone(), steps.results[first..].to_vec()));
        }
    }
    if steps.results.last().is_some_and(StepResult::has_failed) {
        return steps.end();
    }

    match inputs.exchange(exchange, endpoint, clock, 0, None).await {
        Ok((issued, _)) => {
            let claims = issued.claims.unwrap_or_default();
            let expires_in = HumanDuration(issued.lifetime);
            let message = format!("issued a token for {}, expires in {expires_in}", names(&claims.audience));
            let other = issued
                .differing_type
                .map(|other| format!("issued_token_type is {other}, not the requested type"));
            let expired = diagnosis::expired_since(&claims, clock.now().unix).map(|expired| {
                let (expired, fix) = (HumanDuration(expired), diagnosis::FIX_CLOCKS);
                format!("by this node's clock it expired {expired} ago, so ready refuses it: {fix}")
            });
            steps.ok(Step::Exchange, (message, other.into_iter().chain(expired).collect()));
        }
        Err(failure) => {
            let now = clock.now().unix;
            let causes = diagnosis::causes(failure.code, exchange, subject, now);
            let failure = diagnosis::with_cause(failure, exchange, subject, now);
            steps.fail(Step::Exchange, &failure, causes);
            return steps.end();
        }
    }

    if config.outputs.is_empty() {
        steps.ok(Step::Output, ("none is configured; run and once need one".to_owned(), vec![]));
        return steps.end();
    }
    match outputs(config, clock) {
        Ok(found) => steps.ok(Step::Output, found),
        Err(failure) => {
            steps.fail(Step::Output, &failure, vec![]);
            return steps.end();
        }
    }
    if steps.has_actions {
        match actions::test(&config.actions, endpoint).await {
            Ok(found) => steps.ok(Step::Actions, found),
            Err(failure) => steps.fail(Step::Actions, &failure, vec![]),
        }
    }
    steps.end()
}

/// The steps from DNS to discovery. They do not depend on the token.
async fn reach(
    steps: &mut Steps<'_>,
    url: &EndpointUrl,
    endpoint: &HttpEndpoint,
) -> Result<(), (Step, Failure)> {
    let route = endpoint.route(url);
    let (addresses, origin) = endpoint.resolve(url).await.map_err(|failure| (Step::Dns, failure))?;
    let (host, _) = endpoint.first_hop(url);
    steps.ok(Step::Dns, (steps::name(&host, &addresses, &origin, &route), vec![]));

    let connection = endpoint.connect(url).await.map_err(|failure| (Step::Tcp, failure))?;
    steps.ok(Step::Tcp, (steps::connection(connection.peer(), &route), vec![]));

    if url.is_tls() {
        let session = endpoint.handshake(url, connection).await.map_err(|failure| (Step::Tls, failure))?;
        steps.ok(Step::Tls, steps::tls(&session, steps.clock.now().unix));
    } else {
        // The server may serve one connection at a time.
        drop(connection);
        steps.ok(Step::Tls, ("none: plain http".to_owned(), vec![]));
    }

    steps.ok(Step::Discovery, discovery(url, endpoint).await);
    Ok(())
}

fn settings(exchange: &Exchange) -> String {
    let names: Vec<_> = exchange.fields.iter().map(|(name, _)| name.as_str()).collect();
    let client = match &exchange.client {
        None | Some(Client::Pair(Source::GithubActions { .. })) => "no client credentials",
        Some(Client::Pair(Source::Text(_))) => "client credentials from dex_basic_auth",
        Some(Client::Pair(Source::File(_))) => "client credentials from a file",
        Some(Client::Id { secret_file: None, .. }) => "a public client",
        Some(Client::Id { secret_file: Some(_), .. }) => "client credentials from client_secret_file",
    };
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!("{}, {client}; fields: {names}", exchange.endpoint.url)
}

fn subject_token(exchange: &Exchange, subject: Option<&Claims>, clock: &Clock) -> Found {
    let mut notes = vec![];
    if exchange.subject_token_file().is_some_and(|path| is_mounted_version(path)) {
        notes.push(
            "it is mounted with subPath, so the kubelet's new tokens will not arrive: mount the directory of its \
             volume, without subPath"
                .to_owned(),
        );
    }
    let Some(claims) = subject else {
        let sent = exchange.fields.iter().any(|(name, _)| name == SUBJECT_TOKEN);
        let message = if sent { "not a JSON Web Token; sent as it is" } else { "none is sent" };
        return (message.to_owned(), notes);
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
    notes.extend(diagnosis::warnings(claims, now));
    (message, notes)
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

/// Every output of a token, until one cannot be written.
fn outputs(config: &TokenConfig, clock: &Clock) -> Result<Found, Failure> {
    let (mut messages, mut notes) = (vec![], vec![]);
    for output in &config.outputs {
        let in_place = output_file::check_writable(output)?;
        let now = match output_file::read_content(output) {
            Some(content) => {
                readiness::of_content(&output.path, &content, &output.format, Duration::ZERO, clock)
                    .to_string()
            }
            None => "is writable".to_owned(),
        };
        let path = output.path.display();
        messages.push(format!("{path} {now}"));
        // With several outputs a note has to name its file.
        let file = if config.outputs.len() > 1 { path.to_string() } else { "it".to_owned() };
        if in_place {
            notes.push(format!(
                "{file} is overwritten in place, so readers may see a partial token: mount its directory instead, \
                 without subPath"
            ));
        }
        let directory = output.path.parent().filter(|directory| !directory.as_os_str().is_empty());
        if let Some(directory) =
            directory.filter(|directory| output.create_directories && !directory.exists())
        {
            notes.push(format!("the directory {} is created with the token file", directory.display()));
        }
    }
    let message = if messages.is_empty() { "none".to_owned() } else { messages.join("; ") };
    Ok((message, notes))
}

fn names(audience: &[String]) -> String {
    if audience.is_empty() { "no audience".to_owned() } else { plain(&audience.join(", "), 120) }
}
