//! One token of the file: its endpoint, its client, its form fields and its schedule.

use std::time::Duration;

use super::Reader;
use super::level::{Given, Level, secret};
use crate::config::value::{self, ENDPOINT_EXAMPLE, Wrong, wrong};
use crate::config::yaml::Value;
use crate::config::{DEFAULT_NAME, TokenConfig, fields};
use crate::endpoint_url::EndpointUrl;
use crate::exchange::{ACCESS_TOKEN, Client, Endpoint, Exchange, ID_TOKEN, Source, TOKEN_EXCHANGE};
use crate::limits::{LONGEST_TOKEN_NAME, MAX_OUTPUTS};
use crate::schedule::Schedule;
use crate::settings::keys::{self, Section};
use crate::settings::{
    self, CLIENT_SECRET, Command, Dialect, GRANT_TYPE, KNOWN_FIELDS, REQUESTED_TOKEN_TYPE, SCOPE,
    SUBJECT_TOKEN, SUBJECT_TOKEN_TYPE, Setting, nearest,
};

/// The keys that are form fields of the same name, with one value.
const TEXT_FIELDS: [&str; 2] = ["connector_id", SCOPE];
/// The keys that are form fields of the same name, with a token type.
const TYPE_FIELDS: [&str; 3] = [SUBJECT_TOKEN_TYPE, REQUESTED_TOKEN_TYPE, "actor_token_type"];
/// The keys that are form fields of the same name, once for each element.
const LIST_FIELDS: [&str; 2] = ["audience", "resource"];
/// The form fields whose key names a file.
const FILE_FIELDS: [(&str, &str); 2] =
    [(SUBJECT_TOKEN, "subject_token_file"), ("actor_token", "actor_token_file")];

/// The prefix of the token types of RFC 8693 §3.
const TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:";
/// The token types that may be written without the prefix.
const SHORT_TYPES: [&str; 6] = ["access_token", "refresh_token", "id_token", "saml1", "saml2", "jwt"];

/// A token type; a short name stands for its URN.
fn token_type(text: &str) -> Result<String, Wrong> {
    if SHORT_TYPES.contains(&text) {
        return Ok(format!("{TOKEN_TYPE}{text}"));
    }
    if text.contains(':') {
        return Ok(text.to_owned());
    }
    match nearest(text, SHORT_TYPES) {
        Some(near) => wrong("is an unknown token type", format!("did you mean {near}?")),
        None => wrong("is an unknown token type", format!("use {}, or a URN", SHORT_TYPES.join(", "))),
    }
}

/// The short name of a token type, if it has one.
pub(in crate::config) fn short_type(urn: &str) -> Option<&str> {
    urn.strip_prefix(TOKEN_TYPE).filter(|short| SHORT_TYPES.contains(short))
}

/// A DNS label (RFC 1123): a name may be a part of host names and labels.
pub(super) fn dns_label(text: &str) -> Result<String, Wrong> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = !text.starts_with('-') && !text.ends_with('-');
    if text.len() <= LONGEST_TOKEN_NAME && ends && text.bytes().all(inner) {
        return Ok(text.to_owned());
    }
    wrong(
        "is not a DNS label",
        format!(
            "use at most {LONGEST_TOKEN_NAME} lower-case letters, digits and dashes, with no dash at the ends"
        ),
    )
}

impl Reader {
    /// The name of a token. `known` has the names so far, each with its key path.
    pub(super) fn token_name(
        &mut self,
        level: &Level<'_>,
        alone: bool,
        known: &mut Vec<(String, String)>,
    ) -> Option<String> {
        let Some(given) = level.own("name") else {
            if !alone {
                self.problem(level.at, &level.path_of("name"), "is not set", "name each token");
            }
            return Some(DEFAULT_NAME.to_owned());
        };
        let name = self.read_given(&given, dns_label)?;
        if let Some((_, first)) = known.iter().find(|(other, _)| *other == name) {
            let what = format!("is also the name of {first}");
            self.problem(given.at(), &given.path, what, "use another name");
        }
        known.push((name.clone(), level.path.clone()));
        Some(name)
    }

    /// One token. `None` after a problem without which it cannot be made.
    pub(super) fn token(&mut self, level: &Level<'_>, name: String) -> Option<TokenConfig> {
        let allow_insecure_http = self.switch(level, settings::ALLOW_INSECURE_HTTP);
        let (url, issuer) = self.urls(level, allow_insecure_http);
        let ca_file = self.input(level, "ca_file");
        let attempt_timeout = self.duration(level, settings::ATTEMPT_TIMEOUT);
        let client = self.client(level);
        let fields = self.fields(level);
        let before =
            self.read(level, settings::REFRESH_BEFORE, |text| value::duration_of(text, Duration::ZERO));
        let least = Duration::from_nanos(1);
        let interval = self.read(level, settings::REFRESH_INTERVAL, |text| value::duration_of(text, least));
        let key_check = self.duration(level, settings::KEY_CHECK);
        let outputs = self.outputs(level);
        let actions = level.own("on_update").map(|given| self.actions(&given)).unwrap_or_default();
        let endpoint = Endpoint { url: url?, ca_file, attempt_timeout, allow_insecure_http };
        Some(TokenConfig {
            name,
            exchange: Exchange { endpoint, client, fields, issuer, dialect: Dialect::File },
            schedule: Schedule { before: before.flatten(), interval: interval.flatten() },
            key_check: Some(key_check).filter(|period| !period.is_zero()),
            outputs,
            actions,
        })
    }

    fn switch(&mut self, level: &Level<'_>, setting: &'static Setting) -> bool {
        let key = keys::key_of(setting).map_or("", |key| key.name);
        self.read(level, key, value::switch).unwrap_or_default()
    }

    fn duration(&mut self, level: &Level<'_>, setting: &'static Setting) -> Duration {
        let key = keys::key_of(setting).map_or("", |key| key.name);
        let read = self.read(level, key, |text| value::duration(text, setting.kind));
        read.unwrap_or_else(|| setting.default_duration(Command::Run))
    }

    /// The token endpoint and the issuer. A token that has one of them takes neither from the
    /// defaults: they belong to one Dex.
    fn urls(&mut self, level: &Level<'_>, allow: bool) -> (Option<EndpointUrl>, Option<String>) {
        let own = ["token_endpoint", "issuer"].map(|key| level.own(key));
        let [endpoint, issuer] = match own {
            [None, None] => ["token_endpoint", "issuer"].map(|key| level.default(key)),
            own => own,
        };
        if endpoint.is_none() && issuer.is_none() {
            self.problem(level.at, &level.path_of("token_endpoint"), "is not set", ENDPOINT_EXAMPLE);
        }
        let issuer_url =
            issuer.as_ref().and_then(|given| self.url(given, ISSUER_EXAMPLE, allow, endpoint.is_none()));
        let issuer_text = issuer.as_ref().and(issuer_url.as_ref()).map(|(text, _)| text.clone());
        let url = match &endpoint {
            Some(given) => self.url(given, ENDPOINT_EXAMPLE, allow, true).map(|(_, url)| url),
            None => issuer_url.map(|(_, url)| {
                let target = format!("{}/token", url.target().trim_end_matches('/'));
                url.with_target(&target)
            }),
        };
        (url, issuer_text)
    }

    /// A URL of Dex with its text. The scheme of one that is `used` for requests is judged.
    fn url(
        &mut self,
        given: &Given<'_>,
        example: &str,
        allow: bool,
        used: bool,
    ) -> Option<(String, EndpointUrl)> {
        let text = self.text(given)?;
        let (url, userinfo) = match value::endpoint(text, example) {
            Ok(parsed) => parsed,
            Err(why) => {
                self.wrong(given, why);
                return None;
            }
        };
        if userinfo.is_some() {
            let fix = "remove it, and set client_id and client_secret_file";
            self.problem(given.at(), &given.path, "has a user or a password", fix);
            return None;
        }
        if used {
            match value::scheme(&url, allow, "allow_insecure_http") {
                Ok(warning) => self.warnings.extend(warning.map(|what| format!("{} {what}", given.path))),
                Err(why) => self.wrong(given, why),
            }
        }
        Some((text.to_owned(), url))
    }

    fn client(&mut self, level: &Level<'_>) -> Option<Client> {
        let (pair, id, file) = ("basic_auth_file", "client_id", "client_secret_file");
        // What the token itself has comes before the other notation in the defaults.
        let own_id = level.own(id).is_some() || level.own(file).is_some();
        let pair_given = if own_id { level.own(pair) } else { level.get(pair) };
        let (id_given, file_given) = match level.own(pair).is_some() {
            true => (level.own(id), level.own(file)),
            false => (level.get(id), level.get(file)),
        };
        if let Some(pair_given) = pair_given {
            let path = self.input_given(&pair_given);
            for other in [id_given, file_given].into_iter().flatten() {
                let what = format!("and {} are both set", pair_given.path);
                self.problem(other.at(), &other.path, what, "remove one of them");
            }
            return path.map(|path| Client::Pair(Source::File(path)));
        }
        let secret_file = file_given.as_ref().and_then(|given| self.input_given(given));
        let Some(id_given) = id_given else {
            if let Some(file_given) = file_given {
                let what = "is set without client_id";
                self.problem(
                    file_given.at(),
                    &file_given.path,
                    what,
                    "set client_id too, or use basic_auth_file",
                );
            }
            return None;
        };
        let id = self.text(&id_given)?.to_owned();
        Some(Client::Id { id, secret_file })
    }

    /// The form fields, in the order of their names.
    fn fields(&mut self, level: &Level<'_>) -> Vec<(String, Source)> {
        let mut fields: Vec<(String, Source)> = vec![];
        let mut add = |name: &str, source: Source| {
            let at = fields.partition_point(|(known, _)| known.as_str() <= name);
            fields.insert(at, (name.to_owned(), source));
        };
        // A field that the token itself has from a file or as text, under whatever key.
        let in_map = |map: &str, name: &str| {
            let Some(Value::Map(entries)) = level.own(map).map(|given| &given.node.value) else {
                return false;
            };
            entries.iter().any(|entry| entry.key == name)
        };
        let taken = |name: &str| in_map("form_files", name);
        let grant_type = if taken(GRANT_TYPE) {
            None
        } else {
            Some(self.text_of(level, GRANT_TYPE).unwrap_or(TOKEN_EXCHANGE).to_owned())
        };
        let is_exchange = grant_type.as_deref() == Some(TOKEN_EXCHANGE);
        if let Some(grant_type) = grant_type {
            add(GRANT_TYPE, Source::Text(secret(&grant_type)));
        }
        for name in TEXT_FIELDS.into_iter().filter(|name| !taken(name)) {
            if let Some(text) = self.text_of(level, name) {
                add(name, Source::Text(secret(text)));
            }
        }
        for name in TYPE_FIELDS.into_iter().filter(|name| !taken(name)) {
            let default = match name {
                SUBJECT_TOKEN_TYPE if is_exchange => Some(ID_TOKEN.to_owned()),
                REQUESTED_TOKEN_TYPE if is_exchange => Some(ACCESS_TOKEN.to_owned()),
                _ => None,
            };
            if let Some(kind) = self.read(level, name, token_type).or(default) {
                add(name, Source::Text(secret(&kind)));
            }
        }
        for name in LIST_FIELDS.into_iter().filter(|name| !taken(name)) {
            let Some(given) = level.get(name) else { continue };
            for (_, text) in self.texts(&given, 1, MAX_OUTPUTS) {
                add(name, Source::Text(secret(text)));
            }
        }
        for (name, key) in FILE_FIELDS {
            if let Some(path) = self.input(level, key) {
                add(name, Source::File(path));
            }
        }
        if is_exchange {
            let fix = "set it to the path of the projected ServiceAccount token";
            self.required(level, "subject_token_file", fix);
        }
        let mut further = self.form(level);
        further.append(&mut self.form_files(level));
        for (name, source) in further {
            add(&name, source);
        }
        self.warn_about_fields(level, &fields);
        fields
    }

    fn form(&mut self, level: &Level<'_>) -> Vec<(String, Source)> {
        let mut fields = vec![];
        let Some(given) = level.get("form") else { return fields };
        for (entry, value) in self.map(&given) {
            let name = entry.key.as_str();
            if let Some(fix) = own_key(name) {
                self.problem(entry.at, &value.path, "has a key of its own", fix);
                continue;
            }
            if name.is_empty() {
                self.problem(entry.at, &value.path, "has no field name", "write the name of a form field");
                continue;
            }
            let Some(text) = self.any_text(&value) else { continue };
            let known = KNOWN_FIELDS.iter().copied().chain(settings::ORIGINAL.iter().map(|known| known.name));
            if let Some(near) = nearest(name, known) {
                self.warnings.push(format!(
                    "{} is sent as a form field that Dex does not know: did you mean the key {near}?",
                    value.path
                ));
            }
            fields.push((name.to_owned(), Source::Text(secret(text))));
        }
        fields
    }

    fn form_files(&mut self, level: &Level<'_>) -> Vec<(String, Source)> {
        let mut fields = vec![];
        let Some(given) = level.get("form_files") else { return fields };
        for (entry, value) in self.map(&given) {
            let name = entry.key.as_str();
            let file_key = format!("{name}_file");
            let form = level.own("form").is_some_and(|given| match &given.node.value {
                Value::Map(entries) => entries.iter().any(|other| other.key == name),
                _ => false,
            });
            if keys::key(Section::Token, &file_key).is_some() {
                self.problem(
                    entry.at,
                    &value.path,
                    "has a key of its own",
                    format!("use the key {file_key}"),
                );
            } else if form || keys::key(Section::Token, name).is_some() && level.own(name).is_some() {
                let what = "is also set as text";
                self.problem(entry.at, &value.path, what, "remove one of them");
            } else if name.is_empty() {
                self.problem(entry.at, &value.path, "has no field name", "write the name of a form field");
            } else if let Some(path) = self.input_given(&value) {
                fields.push((name.to_owned(), Source::File(path)));
            }
        }
        fields
    }

    fn warn_about_fields(&mut self, level: &Level<'_>, fields: &[(String, Source)]) {
        let name = |field: &str| level.get(field).map_or_else(|| level.path_of(field), |given| given.path);
        self.warnings.extend(fields::warnings(fields, &name));
        let is_exchange = fields
            .iter()
            .any(|(name, source)| name == GRANT_TYPE && *source == Source::Text(secret(TOKEN_EXCHANGE)));
        if is_exchange && !fields.iter().any(|(name, _)| name == "connector_id") {
            self.warnings.push(format!(
                "{} is not set, but Dex requires it: set it to the id of Dex's connector for this cluster",
                level.path_of("connector_id")
            ));
        }
    }
}

const ISSUER_EXAMPLE: &str = "set it to Dex's issuer, such as https://dex.example.com";

/// What to write in place of a form field that has a key of its own.
fn own_key(name: &str) -> Option<String> {
    if name == CLIENT_SECRET {
        return Some("write the secret to a file, and set client_secret_file to its path".to_owned());
    }
    if let Some((_, key)) = FILE_FIELDS.iter().find(|(field, _)| *field == name) {
        return Some(format!("use the key {key}"));
    }
    let is_field = TEXT_FIELDS.contains(&name)
        || TYPE_FIELDS.contains(&name)
        || LIST_FIELDS.contains(&name)
        || [GRANT_TYPE, "client_id"].contains(&name);
    is_field.then(|| format!("use the key {name}"))
}
