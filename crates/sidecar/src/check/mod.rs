//! `check`: the way of a token as a ladder. Each rung is tried only when the one below it holds; the first broken one is
//! explained. Nothing is written, and the exchange it makes is a real one.

mod report;
mod steps;

use std::time::Duration;

use dexsidecar_core::claims::Claims;
use dexsidecar_core::config::{Config, Source};
use dexsidecar_core::duration::Human;
use dexsidecar_core::evidence;
use dexsidecar_core::exchange::{Request, TOKEN_EXCHANGE, TokenEndpoint as _};
use dexsidecar_core::failure::{Failure, Stage, plain};
use dexsidecar_core::keys::{self, Discovery};
use dexsidecar_core::settings::SUBJECT_TOKEN;

use crate::edge::clock::Clock;
use crate::edge::output_file;
use crate::edge::token_endpoint::HttpEndpoint;
use crate::probe;
use crate::trade::{Inputs, LastGood};

pub use report::{Report, Rung};

/// A rung that holds: what was found, and what is odd about it.
type Sound = (String, Vec<String>);

/// Climbs as far as it goes.
pub async fn climb(config: &Config, endpoint: &HttpEndpoint, clock: &Clock) -> Report {
    let mut report = Report::default();
    let url = &config.endpoint;
    report.sound(Stage::Settings, settings(config));

    let inputs = match Inputs::read(config, &mut LastGood::default(), clock.now().unix).await {
        Ok(inputs) => inputs,
        Err(failure) => return report.broken(&failure, vec![]),
    };
    report.sound(Stage::SubjectToken, subject_token(config, inputs.subject.as_ref(), clock));

    let asked = clock.now().boot;
    match endpoint.resolve(url).await {
        Ok((addresses, origin)) => {
            let took = asked.until(clock.now().boot);
            let (host, _) = endpoint.first_hop(url);
            report.sound(
                Stage::Name,
                (steps::name(&host, &addresses, &origin, took, &endpoint.route(url)), vec![]),
            );
        }
        Err(failure) => return report.broken(&failure, vec![]),
    }
    let connection = match endpoint.connect(url).await {
        Ok(connection) => connection,
        Err(failure) => return report.broken(&failure, vec![]),
    };
    report.sound(Stage::Connect, (steps::connection(connection.peer(), &endpoint.route(url)), vec![]));

    if url.is_tls() {
        match endpoint.handshake(url, connection).await {
            Ok(session) => report.sound(Stage::Tls, steps::tls(&session, clock.now().unix)),
            Err(failure) => return report.broken(&failure, vec![]),
        }
    } else {
        // A server may serve one at a time.
        drop(connection);
        report.sound(Stage::Tls, ("none: plain http".to_owned(), vec![]));
    }

    report.sound(Stage::Discovery, discovery(config, endpoint).await);

    match inputs.trade(config, endpoint, clock, 0, None).await {
        Ok((issued, _)) => {
            let claims = issued.claims.unwrap_or_default();
            let told =
                format!("a token for {} that is good for {}", names(&claims.audience), Human(issued.length));
            let other =
                issued.other_type.map(|other| format!("another type was issued than asked for: {other}"));
            report.sound(Stage::Exchange, (told, other.into_iter().collect()));
        }
        Err(failure) => {
            let notes = evidence::of(failure.code, config, inputs.subject.as_ref(), clock.now().unix);
            return report.broken(&failure, notes);
        }
    }

    match output(config, clock) {
        Ok(sound) => report.sound(Stage::Output, sound),
        Err(failure) => return report.broken(&failure, vec![]),
    }
    report
}

fn settings(config: &Config) -> Sound {
    let names: Vec<_> = config.fields.iter().map(|(name, _)| name.as_str()).collect();
    let client = match &config.client {
        None => "without a client in Basic",
        Some(Source::Text(_)) => "with a client in Basic",
        Some(Source::File(_)) => "with a client from a file in Basic",
    };
    (
        format!(
            "{} {client}; fields: {}",
            config.endpoint,
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        ),
        config.warnings.clone(),
    )
}

fn subject_token(config: &Config, subject: Option<&Claims>, clock: &Clock) -> Sound {
    let Some(claims) = subject else {
        let sent = config.fields.iter().any(|(name, _)| name == SUBJECT_TOKEN);
        let told = if sent { "no JSON Web Token; sent as it is" } else { "none is sent" };
        return (told.to_owned(), vec![]);
    };
    let now = clock.now().unix;
    let who = claims.subject.as_deref().unwrap_or("nobody");
    let issuer = claims.issuer.as_deref().unwrap_or("nobody");
    let life = claims
        .expires
        .filter(|expires| *expires > now)
        .map_or_else(String::new, |expires| format!(", good for {}", Human(now.until(expires))));
    let told =
        format!("{} from {} for {}{life}", plain(who, 120), plain(issuer, 120), names(&claims.audience));
    (told, evidence::oddities(claims, now))
}

/// What Dex publishes of itself. Without it an exchange works as well, so this rung never breaks.
async fn discovery(config: &Config, endpoint: &HttpEndpoint) -> Sound {
    let Some(url) = keys::discovery_url(&config.endpoint) else {
        let note =
            "dex_endpoint does not end with /token, as Dex's does: lost keys will not be noticed".to_owned();
        return ("not looked for".to_owned(), vec![note]);
    };
    let request = Request { url, authorization: None, form: None };
    let found = match endpoint.send(&request, 0).await {
        Ok(answer) => {
            Discovery::read(&answer).ok_or_else(|| format!("{} answers {}", request.url, answer.status))
        }
        Err(failure) => Err(failure.to_string()),
    };
    let found = match found {
        Ok(found) => found,
        Err(why) => {
            return (
                format!("none: {why}"),
                vec!["check that dex_endpoint is Dex's issuer followed by /token".to_owned()],
            );
        }
    };
    let mut notes = vec![];
    if !found.grant_types_supported.iter().any(|grant| grant == TOKEN_EXCHANGE) {
        notes.push(format!(
            "Dex does not offer token exchange: list {TOKEN_EXCHANGE} in its oauth2.grantTypes"
        ));
    }
    (format!("issuer {}", plain(&found.issuer, 120)), notes)
}

fn output(config: &Config, clock: &Clock) -> Result<Sound, Failure> {
    let Some(output) = &config.output else { return Ok(("none".to_owned(), vec![])) };
    let in_place = output_file::try_output(output)?;
    let now = match output_file::read(output) {
        Some(token) => probe::judge(&output.path, &token, Duration::ZERO, clock).to_string(),
        None => "can be written".to_owned(),
    };
    let note = in_place.then(|| {
        "it is overwritten in place, so that a reader may see half of a token: mount its folder instead, without subPath"
            .to_owned()
    });
    Ok((format!("{} {now}", output.path.display()), note.into_iter().collect()))
}

fn names(audience: &[String]) -> String {
    if audience.is_empty() { "nobody in particular".to_owned() } else { plain(&audience.join(", "), 120) }
}
