//! One exchange: reads its inputs, sends the request, judges the response. `run`, `once`, `token`
//! and `check` share it.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use dexsidecar_core::claims::Claims;
use dexsidecar_core::duration::HumanDuration;
use dexsidecar_core::exchange::{Client, Credentials, Exchange, Field, Request, Source, TokenEndpoint, form};
use dexsidecar_core::failure::{Code, Failure};
use dexsidecar_core::limits::LARGEST_SUBJECT_TOKEN;
use dexsidecar_core::refresher::{Fingerprint, Lifetime};
use dexsidecar_core::response::{self, RequestContext};
use dexsidecar_core::secret::Secret;
use dexsidecar_core::settings::{BASIC_AUTH, CLIENT_SECRET, Dialect, SUBJECT_TOKEN, is_public_field};
use dexsidecar_core::text_file;
use dexsidecar_core::time::UnixTime;
use dexsidecar_core::token::IssuedToken;
use dexsidecar_edge::clock::Clock;
use dexsidecar_edge::{input_file, subject_token_file};

/// The inputs of one exchange, as they were read for it.
#[derive(Debug)]
pub struct Inputs {
    fields: Vec<Field>,
    client: Option<Credentials>,
    /// The claims of the subject token, if it is a JSON Web Token.
    pub subject: Option<Claims>,
    /// The failures of files that could not be read, so that their last known values are used.
    pub unreadable: Vec<Failure>,
}

/// The last known values of files, by the name of the form field (F57, F120). There are few, and a
/// map costs 3 kB.
#[derive(Clone, Debug, Default)]
pub struct LastKnown(Vec<(String, Secret)>);

impl LastKnown {
    /// The last known subject token, if it is read from a file.
    #[must_use]
    pub fn subject_token(&self) -> Option<&Secret> {
        self.get(SUBJECT_TOKEN)
    }

    fn get(&self, name: &str) -> Option<&Secret> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: Secret) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

impl Inputs {
    /// Reads every file that an exchange needs. A file that cannot be read now is replaced by its
    /// last known value, a subject token only while it is valid.
    ///
    /// # Errors
    /// For the first file that cannot be read and has no last known value: `form_file_unreadable`
    /// or a code of the subject token.
    pub async fn read(
        exchange: &Exchange,
        last_known: &mut LastKnown,
        now: UnixTime,
        endpoint: &impl TokenEndpoint,
    ) -> Result<Self, Failure> {
        let kind = exchange.field("subject_token_type");
        let mut inputs = Self {
            fields: Vec::with_capacity(exchange.fields.len()),
            client: None,
            subject: None,
            unreadable: vec![],
        };
        for (name, source) in &exchange.fields {
            let value = match source {
                Source::Text(text) => text.clone(),
                Source::File(path) => {
                    let read = if name == SUBJECT_TOKEN {
                        subject_token_file::read(path, kind, now).await.map(|token| token.0)
                    } else {
                        read_value(path, name, exchange.dialect)
                    };
                    inputs.or_last_known(name, read, last_known, now)?
                }
                Source::GithubActions { audience } => {
                    // A request of 3 kB, which an exchange with a file does not need.
                    let read = Box::pin(endpoint.github_actions_token(audience.as_deref())).await;
                    inputs.or_last_known(name, read, last_known, now)?
                }
            };
            if name == SUBJECT_TOKEN {
                inputs.subject = Claims::peek(&value);
            }
            inputs.fields.push(Field { name: name.clone(), value });
        }
        inputs.client = match &exchange.client {
            // Only a subject token is requested from GitHub Actions.
            None | Some(Client::Pair(Source::GithubActions { .. })) => None,
            Some(Client::Pair(Source::Text(text))) => Credentials::parse(text),
            Some(Client::Pair(Source::File(path))) => {
                let read = read_value(path, BASIC_AUTH, exchange.dialect);
                Credentials::parse(&inputs.or_last_known(BASIC_AUTH, read, last_known, now)?)
            }
            Some(Client::Id { id, secret_file: None }) => {
                Some(Credentials::new(id, Secret::new(String::new())))
            }
            Some(Client::Id { id, secret_file: Some(path) }) => {
                let read = read_value(path, CLIENT_SECRET, exchange.dialect);
                Some(Credentials::new(id, inputs.or_last_known(CLIENT_SECRET, read, last_known, now)?))
            }
        };
        Ok(inputs)
    }

    fn or_last_known(
        &mut self,
        name: &str,
        read: Result<Secret, Failure>,
        last_known: &mut LastKnown,
        now: UnixTime,
    ) -> Result<Secret, Failure> {
        match read {
            Ok(value) => {
                last_known.set(name, value.clone());
                Ok(value)
            }
            Err(failure) => {
                let known = last_known.get(name).filter(|value| {
                    name != SUBJECT_TOKEN
                        || Claims::peek(value).and_then(|claims| claims.expires).is_some_and(|end| end > now)
                });
                let value = known.cloned().ok_or_else(|| failure.clone())?;
                self.unreadable.push(failure);
                Ok(value)
            }
        }
    }

    /// Hands everything to `add` that distinguishes this exchange from another: each field and the
    /// client. A subject token is identified by its issuer and subject, since the kubelet rotates
    /// it every hour; one without them by its content.
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
        match &self.client {
            Some(client) => client.identify(add),
            None => add(b""),
        }
    }

    /// Sends the request and judges the response. `rotation` is for [`TokenEndpoint::send`];
    /// `current` is the token in use, which must not be quoted either.
    ///
    /// # Errors
    /// Any code of the steps DNS to exchange; `token_expired` if the issued token expired on its
    /// way.
    pub async fn exchange(
        &self,
        exchange: &Exchange,
        endpoint: &impl TokenEndpoint,
        clock: &Clock,
        rotation: usize,
        current: Option<&Secret>,
    ) -> Result<(IssuedToken, Lifetime), Failure> {
        let request = Request {
            url: exchange.endpoint.url.clone(),
            authorization: self.client.as_ref().map(Credentials::authorization),
            form: Some(form(&self.fields)),
        };
        // The lifetime counts from before anything is sent, so that it is never too long.
        let requested_at = clock.now();
        let answer = endpoint.send(&request, rotation).await?;
        let mut secrets = self.secrets();
        secrets.extend(current.cloned());
        let context = RequestContext {
            endpoint: &exchange.endpoint.url,
            now: requested_at.unix,
            requested_type: exchange.field("requested_token_type"),
            secrets: &secrets,
        };
        let issued = response::read(&answer, context)?.from_issuer(exchange.issuer.as_deref())?;
        let lifetime = Lifetime::starting(requested_at.boot, issued.lifetime);
        if lifetime.remaining(clock.now().boot).is_none() {
            let lifetime = HumanDuration(issued.lifetime);
            return Err(Failure::new(
                Code::TokenExpired,
                format!("its lifetime is {lifetime}, and the exchange took longer"),
            ));
        }
        Ok((issued, lifetime))
    }

    /// The secrets that an error must not quote: the client's secret, and every form field that is
    /// not public.
    fn secrets(&self) -> Vec<Secret> {
        let fields =
            self.fields.iter().filter(|field| !is_public_field(&field.name)).map(|field| field.value.clone());
        fields.chain(self.client.iter().flat_map(Credentials::secret_encodings)).collect()
    }
}

/// The value of a form field from its file.
fn read_value(path: &Path, name: &str, dialect: Dialect) -> Result<Secret, Failure> {
    let unusable = |why: &dyn fmt::Display| {
        let setting = dialect.file_field(name);
        Failure::new(Code::FormFileUnreadable, format!("{setting} = {}: {why}", path.display()))
    };
    let content = input_file::read(path, LARGEST_SUBJECT_TOKEN).map_err(|why| unusable(&why))?;
    text_file::text(content).map_err(|why| unusable(&why))
}

/// A fingerprint of the files that an exchange reads, as they are now.
#[must_use]
pub fn fingerprint(exchange: &Exchange) -> Fingerprint {
    let fields = exchange.fields.iter().filter_map(|(_, source)| match source {
        Source::File(path) => Some(path.as_path()),
        Source::Text(_) | Source::GithubActions { .. } => None,
    });
    let client = exchange.client.as_ref().and_then(Client::file);
    let mut hasher = DefaultHasher::new();
    for path in fields.chain(client).chain(exchange.endpoint.ca_file.as_deref()) {
        input_file::fingerprint(path).hash(&mut hasher);
    }
    Fingerprint(hasher.finish())
}
