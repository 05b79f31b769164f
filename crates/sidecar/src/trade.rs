//! One exchange: read what it needs, send it, judge what comes back. `run`, `once`, `token` and `check` share it.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use dexsidecar_core::claims::Claims;
use dexsidecar_core::config::{Config, Source};
use dexsidecar_core::duration::Human;
use dexsidecar_core::exchange::{
    Field, Request, TokenEndpoint, basic_authorization, client_secret_shapes, form,
};
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::refresher::{Fingerprint, Lifetime};
use dexsidecar_core::response::{self, Asked};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::settings::{BASIC_AUTH, SUBJECT_TOKEN};
use dexsidecar_core::text_file;
use dexsidecar_core::time::UnixTime;
use dexsidecar_core::token::{IssuedToken, LARGEST_SUBJECT};

use crate::edge::clock::Clock;
use crate::edge::{input_file, subject_token_file};

/// What an exchange sends, read just now.
#[derive(Debug)]
pub struct Inputs {
    fields: Vec<Field>,
    client: Option<Secret>,
    /// What the subject token says of itself, if it is a JSON Web Token.
    pub subject: Option<Claims>,
    /// Files that could not be read, so that what they held before is used.
    pub stand_ins: Vec<Failure>,
}

/// What files held when they could be read last (F57, F120).
#[derive(Debug, Default)]
pub struct LastGood(BTreeMap<String, Secret>);

impl Inputs {
    /// Reads every file that an exchange needs. What cannot be read now is taken from `last_good`: a subject token
    /// only while it has not expired.
    ///
    /// # Errors
    /// The first file that cannot be read and has no stand-in.
    pub async fn read(config: &Config, last_good: &mut LastGood, now: UnixTime) -> Result<Self, Failure> {
        let kind = config.field("subject_token_type");
        let mut inputs = Self {
            fields: Vec::with_capacity(config.fields.len()),
            client: None,
            subject: None,
            stand_ins: vec![],
        };
        for (name, source) in &config.fields {
            let value = match source {
                Source::Text(text) => text.clone(),
                Source::File(path) => {
                    let read = if name == SUBJECT_TOKEN {
                        subject_token_file::read(path, kind, now).await.map(|token| token.0)
                    } else {
                        read_value(path, name)
                    };
                    inputs.or_last_good(name, read, last_good, now)?
                }
            };
            if name == SUBJECT_TOKEN {
                inputs.subject = Claims::peek(&value);
            }
            inputs.fields.push(Field { name: name.clone(), value });
        }
        inputs.client = match &config.client {
            None => None,
            Some(Source::Text(text)) => Some(text.clone()),
            Some(Source::File(path)) => {
                let read = read_value(path, BASIC_AUTH);
                Some(inputs.or_last_good(BASIC_AUTH, read, last_good, now)?)
            }
        };
        Ok(inputs)
    }

    fn or_last_good(
        &mut self,
        name: &str,
        read: Result<Secret, Failure>,
        last_good: &mut LastGood,
        now: UnixTime,
    ) -> Result<Secret, Failure> {
        match read {
            Ok(value) => {
                last_good.0.insert(name.to_owned(), value.clone());
                Ok(value)
            }
            Err(failure) => {
                let known = last_good.0.get(name).filter(|value| {
                    name != SUBJECT_TOKEN
                        || Claims::peek(value).and_then(|claims| claims.expires).is_some_and(|end| end > now)
                });
                let value = known.cloned().ok_or_else(|| failure.clone())?;
                self.stand_ins.push(failure);
                Ok(value)
            }
        }
    }

    /// Hands on what tells this exchange from another's: each field and the client. A subject token counts as whom it names,
    /// since the kubelet replaces it every hour; one that names nobody counts as itself.
    pub fn identify(&self, add: &mut impl FnMut(&[u8])) {
        for field in &self.fields {
            add(field.name.as_bytes());
            let named = self.subject.as_ref().filter(|_| field.name == SUBJECT_TOKEN);
            match named.and_then(|claims| claims.issuer.as_ref().zip(claims.subject.as_ref())) {
                Some((issuer, subject)) => {
                    add(issuer.as_bytes());
                    add(subject.as_bytes());
                }
                None => add(field.value.expose().as_bytes()),
            }
        }
        add(self.client.as_ref().map_or("", Secret::expose).as_bytes());
    }

    /// Sends everything and judges the answer. `rotation` is handed on to [`TokenEndpoint::send`]; `held` is the token
    /// that is used now, which is not to be quoted either.
    ///
    /// # Errors
    /// Why there is no token, or none that outlived the way here.
    pub async fn trade(
        &self,
        config: &Config,
        endpoint: &impl TokenEndpoint,
        clock: &Clock,
        rotation: usize,
        held: Option<&Secret>,
    ) -> Result<(IssuedToken, Lifetime), Failure> {
        let request = Request {
            url: config.endpoint.clone(),
            authorization: self.client.as_ref().and_then(basic_authorization),
            form: Some(form(&self.fields)),
        };
        // From before anything is sent: early is safe.
        let asked_at = clock.now();
        let answer = endpoint.send(&request, rotation).await?;
        let mut secrets = self.secrets();
        secrets.extend(held.cloned());
        let asked = Asked {
            endpoint: &config.endpoint,
            now: asked_at.unix,
            requested_type: config.field("requested_token_type"),
            secrets: &secrets,
        };
        let issued = response::read(&answer, asked)?;
        let lifetime = Lifetime::starting(asked_at.boot, issued.length);
        if lifetime.left(clock.now().boot).is_none() {
            let lives = Human(issued.length);
            return Err(Failure::new(
                Code::TokenExpired,
                format!("it lives {lives}, and its way here took longer"),
            ));
        }
        Ok((issued, lifetime))
    }

    /// What must not be quoted, whoever quotes it: the client's secret, and every field that is not public by its
    /// nature.
    fn secrets(&self) -> Vec<Secret> {
        let public = |name: &str| {
            let rest = name.strip_suffix("_type").unwrap_or(name);
            rest != name || ["connector_id", "client_id", "scope", "audience", "resource"].contains(&name)
        };
        let fields = self.fields.iter().filter(|field| !public(&field.name)).map(|field| field.value.clone());
        fields.chain(self.client.iter().flat_map(client_secret_shapes)).collect()
    }
}

/// The value of a form field from its file.
fn read_value(path: &Path, name: &str) -> Result<Secret, Failure> {
    let unusable = |why: &dyn fmt::Display| {
        Failure::new(Code::FormFileUnreadable, format!("dex_file_{name} = {}: {why}", path.display()))
    };
    let content = input_file::read(path, LARGEST_SUBJECT).map_err(|why| unusable(&why))?;
    text_file::text(content).map_err(|why| unusable(&why))
}

/// The files that an exchange reads, as they are now.
#[must_use]
pub fn fingerprint(config: &Config) -> Fingerprint {
    let sources = config.fields.iter().map(|(_, source)| source).chain(&config.client);
    let files = sources.filter_map(|source| match source {
        Source::File(path) => Some(path),
        Source::Text(_) => None,
    });
    let mut hasher = DefaultHasher::new();
    for path in files.chain(&config.ca_file) {
        input_file::fingerprint(path).hash(&mut hasher);
    }
    Fingerprint(hasher.finish())
}
