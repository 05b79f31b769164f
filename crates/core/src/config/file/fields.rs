//! The form fields of one token of the file: its keys, and the maps `form` and `form_files`.

use super::Reader;
use super::level::{Given, Level, secret};
use crate::config::fields;
use crate::config::value::{Wrong, wrong};
use crate::exchange::{ACCESS_TOKEN, ID_TOKEN, Source, TOKEN_EXCHANGE};
use crate::limits::MAX_FIELD_VALUES;
use crate::settings::{
    self, ACTOR_TOKEN, CLIENT_ID, CLIENT_SECRET, GRANT_TYPE, KNOWN_FIELDS, REQUESTED_TOKEN_TYPE, SCOPE,
    SUBJECT_TOKEN, SUBJECT_TOKEN_TYPE, nearest,
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

/// The form fields whose value is a secret (RFC 6749, RFC 7521, RFC 7636).
const SECRET_FIELDS: [&str; 6] =
    ["password", "refresh_token", "assertion", "client_assertion", "code", "code_verifier"];

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

impl Reader {
    /// The form fields, in the order of their names.
    pub(super) fn fields(&mut self, level: &Level<'_>) -> Vec<(String, Source)> {
        let mut fields: Vec<(String, Source)> = vec![];
        let mut add = |name: &str, source: Source| {
            let at = fields.partition_point(|(known, _)| known.as_str() <= name);
            fields.insert(at, (name.to_owned(), source));
        };
        let grant_type = match self.holder(level, GRANT_TYPE) {
            Some(Holder::FormFiles(_)) => None,
            Some(Holder::Key(given)) => self.text(&given),
            _ => Some(TOKEN_EXCHANGE),
        };
        let is_exchange = grant_type == Some(TOKEN_EXCHANGE);
        if let Some(grant_type) = grant_type {
            add(GRANT_TYPE, Source::Text(secret(grant_type)));
        }
        for name in TEXT_FIELDS {
            let Some(Holder::Key(given)) = self.holder(level, name) else { continue };
            if let Some(text) = self.text(&given) {
                add(name, Source::Text(secret(text)));
            }
        }
        for name in TYPE_FIELDS {
            let kind = match self.holder(level, name) {
                Some(Holder::Key(given)) => self.read_given(&given, token_type),
                Some(_) => continue,
                None => match name {
                    SUBJECT_TOKEN_TYPE if is_exchange => Some(ID_TOKEN.to_owned()),
                    REQUESTED_TOKEN_TYPE if is_exchange => Some(ACCESS_TOKEN.to_owned()),
                    _ => None,
                },
            };
            if let Some(kind) = kind {
                add(name, Source::Text(secret(&kind)));
            }
        }
        for name in LIST_FIELDS {
            let Some(Holder::Key(given)) = self.holder(level, name) else { continue };
            for (_, text) in self.texts(&given, 1, MAX_FIELD_VALUES) {
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

    /// Where the value of a form field comes from. What the token itself has comes before the
    /// defaults, under whatever key. Two on one level are a problem.
    fn holder<'n>(&mut self, level: &Level<'n>, name: &str) -> Option<Holder<'n>> {
        let entry = |map: Option<Given<'n>>| map.and_then(|map| map.entry(name));
        let has_key = is_field_key(name);
        // A map of the token replaces that of the defaults.
        let default = |map: &str| level.default(map).filter(|_| level.own(map).is_none());
        let own = [
            level.own(name).filter(|_| has_key).map(Holder::Key),
            entry(level.own("form")).filter(|_| !has_key).map(Holder::Form),
            entry(level.own("form_files")).map(Holder::FormFiles),
        ];
        let defaults = [
            level.default(name).filter(|_| has_key).map(Holder::Key),
            entry(default("form")).filter(|_| !has_key).map(Holder::Form),
            entry(default("form_files")).map(Holder::FormFiles),
        ];
        let mut holders = own.into_iter().flatten();
        let mut first = holders.next();
        if first.is_none() {
            holders = defaults.into_iter().flatten();
            first = holders.next();
        }
        for other in holders {
            let other = other.given();
            self.problem(other.at(), &other.path, "is also set as text", "remove one of them");
        }
        first
    }

    /// The fields of `form` that count.
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
            if SECRET_FIELDS.contains(&name) {
                let fix = "write it to a file, and set form_files to its path";
                self.problem(entry.at, &value.path, "would hold a secret", fix);
                continue;
            }
            let Some(text) = self.any_text(&value) else { continue };
            if !matches!(self.holder(level, name), Some(Holder::Form(_))) {
                continue;
            }
            let known = KNOWN_FIELDS.iter().copied().chain(settings::ORIGINAL.iter().map(|known| known.name));
            if let Some(near) = nearest(name, known) {
                let what =
                    format!("is sent as a form field that Dex does not know: did you mean the key {near}?");
                self.warn(entry.at, &value.path, what);
            }
            fields.push((name.to_owned(), Source::Text(secret(text))));
        }
        fields
    }

    /// The fields of `form_files` that count.
    fn form_files(&mut self, level: &Level<'_>) -> Vec<(String, Source)> {
        let mut fields = vec![];
        let Some(given) = level.get("form_files") else { return fields };
        for (entry, value) in self.map(&given) {
            let name = entry.key.as_str();
            let file_key = format!("{name}_file");
            if [CLIENT_SECRET, SUBJECT_TOKEN, ACTOR_TOKEN].contains(&name) {
                let fix = format!("use the key {file_key}");
                self.problem(entry.at, &value.path, "has a key of its own", fix);
            } else if name.is_empty() {
                self.problem(entry.at, &value.path, "has no field name", "write the name of a form field");
            } else if matches!(self.holder(level, name), Some(Holder::FormFiles(_)))
                && let Some(path) = self.input_given(&value)
            {
                fields.push((name.to_owned(), Source::File(path)));
            }
        }
        fields
    }

    fn warn_about_fields(&mut self, level: &Level<'_>, fields: &[(String, Source)]) {
        for (field, what) in fields::warnings(fields) {
            match level.get(field) {
                Some(given) => self.warn(given.at(), &given.path, what),
                None => self.warn(level.at, &level.path_of(field), what),
            }
        }
        let is_exchange = fields
            .iter()
            .any(|(name, source)| name == GRANT_TYPE && *source == Source::Text(secret(TOKEN_EXCHANGE)));
        if is_exchange && !fields.iter().any(|(name, _)| name == "connector_id") {
            let what =
                "is not set, but Dex requires it: set it to the id of Dex's connector for this cluster";
            self.warn(level.at, &level.path_of("connector_id"), what);
        }
    }
}

/// What to write in place of a form field that has a key of its own.
fn own_key(name: &str) -> Option<String> {
    if name == CLIENT_SECRET {
        return Some("write the secret to a file, and set client_secret_file to its path".to_owned());
    }
    if let Some((_, key)) = FILE_FIELDS.iter().find(|(field, _)| *field == name) {
        return Some(format!("use the key {key}"));
    }
    is_field_key(name).then(|| format!("use the key {name}"))
}

/// Where the value of a form field comes from.
enum Holder<'n> {
    /// The key of the same name.
    Key(Given<'n>),
    /// The map `form`.
    Form(Given<'n>),
    /// The map `form_files`.
    FormFiles(Given<'n>),
}

impl<'n> Holder<'n> {
    fn given(self) -> Given<'n> {
        let (Self::Key(given) | Self::Form(given) | Self::FormFiles(given)) = self;
        given
    }
}

/// Whether a form field has a key of the same name with a list.
pub(in crate::config) fn is_list_field(name: &str) -> bool {
    LIST_FIELDS.contains(&name)
}

/// Whether a form field has a key of the same name. Other keys are not form fields: `issuer`.
pub(in crate::config) fn is_field_key(name: &str) -> bool {
    TEXT_FIELDS.contains(&name)
        || TYPE_FIELDS.contains(&name)
        || is_list_field(name)
        || [GRANT_TYPE, CLIENT_ID].contains(&name)
}
