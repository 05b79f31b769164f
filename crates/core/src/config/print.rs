//! The configuration as a file, without its secrets.

use std::fmt::Write as _;
use std::time::Duration;

use super::file::{is_field_key, is_list_field, short_type, signal_name};
use super::value::{ON_EXPIRY, TODO, WRITE_MODES};
use super::{Config, TokenConfig};
use crate::action::{Action, SignalTarget};
use crate::duration::{self, HumanDuration};
use crate::exchange::{Client, Source};
use crate::output::{Format, Output};
use crate::settings::{
    ACTOR_TOKEN, CLIENT_ID, CLIENT_SECRET, Dialect, GRANT_TYPE, SUBJECT_TOKEN, is_public_field,
};

impl Config {
    /// The configuration as YAML that [`Config::read_file`] reads. A secret that was given inline
    /// is replaced by a file `TODO`.
    #[must_use]
    pub fn print(&self) -> String {
        let mut out = Out { text: "version: v1\n".to_owned() };
        out.line(0, "log", "");
        out.value(2, "level", self.log.level.name());
        out.value(2, "format", if self.log.json { "json" } else { "text" });
        if let Some(listen) = self.listen {
            out.value(0, "listen", &listen.to_string());
        }
        if let Some(file) = &self.termination_log {
            out.value(0, "termination_log", &file.to_string_lossy());
        }
        out.line(0, "tokens", "");
        for token in &self.tokens {
            out.token(token);
        }
        out.text
    }
}

/// A duration that is read back with the same value.
fn exact(duration: Duration) -> String {
    let short = HumanDuration(duration).to_string();
    if duration::parse(&short) == Ok(duration) { short } else { format!("{}ns", duration.as_nanos()) }
}

/// A text whose URLs have `TODO` in place of a user and password, which may be a secret.
fn without_userinfo(text: &str) -> String {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("://") {
        let word = after.split([' ', '\t', '\n', '\'', '"']).next().unwrap_or_default();
        let authority = word.split(['/', '?', '#']).next().unwrap_or_default();
        // A `/ ? #` in a password that is not percent-encoded, as in `EndpointUrl::parse`. What
        // follows a port and a slash is a path, which may have an `@`.
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let goes_on = match word[authority.len()..].chars().next() {
            Some('/') => authority.contains(':') && !has_port,
            next => next.is_some(),
        };
        let at = authority.rfind('@').or_else(|| word.rfind('@').filter(|_| goes_on));
        shown.extend([before, "://", if at.is_some() { TODO } else { "" }]);
        rest = &after[at.unwrap_or_default()..];
    }
    shown + rest
}

/// The longest key that is written before its colon, in bytes. YAML allows 1024 characters (YAML
/// 1.2.2, §7.4.2).
const LONGEST_KEY: usize = 1000;

/// A value as YAML, without the user and password of URLs.
fn scalar(text: &str) -> String {
    yaml(&without_userinfo(text))
}

/// A text as YAML: plain if it cannot be taken for anything else, else quoted as in JSON.
fn yaml(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./@+-".contains(&b) || b == b':';
    let words = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    // A duration, which no parser takes for a number.
    let is_duration = text.ends_with(['s', 'm', 'h']) && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_word = words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if (starts || is_duration) && text.bytes().all(plain) && !text.ends_with(':') && !is_word {
        return text.to_owned();
    }
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || !c.is_ascii() && !c.is_alphanumeric() => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\U{:08x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

struct Out {
    text: String,
}

impl Out {
    /// A key with what follows it, after this many spaces.
    fn line(&mut self, indent: usize, key: &str, value: &str) {
        let space = if value.is_empty() { "" } else { " " };
        let mut key = yaml(key);
        if key.len() > LONGEST_KEY {
            key = format!("? {key}\n{:indent$}", "");
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{:indent$}{key}:{space}{value}", "");
    }

    fn value(&mut self, indent: usize, key: &str, value: &str) {
        self.line(indent, key, &scalar(value));
    }

    /// A URL without its query, which may hold a secret.
    fn url(&mut self, indent: usize, key: &str, url: &str) {
        match url.split_once('?') {
            Some((before, query)) if !query.is_empty() => {
                let value = scalar(&format!("{before}?{TODO}"));
                self.line(indent, key, &format!("{value}  # the query is not shown"));
            }
            _ => self.value(indent, key, url),
        }
    }

    fn list<'a>(&mut self, indent: usize, key: &str, values: impl Iterator<Item = &'a str>) {
        let values: Vec<_> = values.map(scalar).collect();
        self.line(indent, key, &format!("[{}]", values.join(", ")));
    }

    fn map(&mut self, indent: usize, key: &str, entries: &[(String, String)]) {
        if entries.is_empty() {
            return;
        }
        self.line(indent, key, "");
        for (name, value) in entries {
            self.line(indent + 2, name, value);
        }
    }

    fn token(&mut self, token: &TokenConfig) {
        let TokenConfig { name, exchange, schedule, key_check, outputs, actions } = token;
        let endpoint = &exchange.endpoint;
        let _ = writeln!(self.text, "  - name: {}", scalar(name));
        self.url(4, "token_endpoint", &endpoint.url.to_url());
        if let Some(issuer) = &exchange.issuer {
            self.url(4, "issuer", issuer);
        }
        if let Some(file) = &endpoint.ca_file {
            self.value(4, "ca_file", &file.to_string_lossy());
        }
        if endpoint.allow_insecure_http {
            self.line(4, "allow_insecure_http", "true");
        }
        self.value(4, "attempt_timeout", &exact(endpoint.attempt_timeout));
        self.client(exchange.client.as_ref());
        self.fields(&exchange.fields, exchange.client.is_some(), exchange.dialect);
        if let Some(before) = schedule.before {
            self.value(4, "refresh_before", &exact(before));
        }
        if let Some(interval) = schedule.interval {
            self.value(4, "refresh_interval", &exact(interval));
        }
        self.value(4, "key_check", &exact(key_check.unwrap_or_default()));
        if !outputs.is_empty() {
            self.line(4, "outputs", "");
        }
        for output in outputs {
            self.output(output);
        }
        if !actions.is_empty() {
            self.line(4, "on_update", "");
        }
        for action in actions {
            self.action(action);
        }
    }

    fn client(&mut self, client: Option<&Client>) {
        match client {
            None | Some(Client::Pair(Source::GithubActions { .. })) => {}
            Some(Client::Pair(Source::File(path))) => {
                self.value(4, "basic_auth_file", &path.to_string_lossy())
            }
            Some(Client::Pair(Source::Text(pair))) => {
                let pair = pair.expose();
                let (id, secret) = pair.split_once(':').unwrap_or((pair, ""));
                self.value(4, CLIENT_ID, id);
                if !secret.is_empty() {
                    self.todo(4, "client_secret_file", "a file with the secret of the client");
                }
            }
            Some(Client::Id { id, secret_file }) => {
                self.value(4, CLIENT_ID, id);
                if let Some(path) = secret_file {
                    self.value(4, "client_secret_file", &path.to_string_lossy());
                }
            }
        }
    }

    fn todo(&mut self, indent: usize, key: &str, what: &str) {
        self.line(indent, key, &format!("{TODO}  # {what}"));
    }

    fn fields(&mut self, fields: &[(String, Source)], has_client: bool, dialect: Dialect) {
        let (mut form, mut files) = (vec![], vec![]);
        for (index, (name, source)) in fields.iter().enumerate() {
            let name = name.as_str();
            match (name, source) {
                // Dex reads these only where there are no Basic credentials.
                (CLIENT_ID | CLIENT_SECRET, _) if has_client => {
                    let _ = writeln!(self.text, "    # {name} is sent in the form too: Dex ignores it");
                }
                (SUBJECT_TOKEN | ACTOR_TOKEN | CLIENT_SECRET, Source::File(path)) => {
                    self.value(4, &format!("{name}_file"), &path.to_string_lossy());
                }
                (SUBJECT_TOKEN | ACTOR_TOKEN | CLIENT_SECRET, Source::Text(_)) => {
                    self.todo(4, &format!("{name}_file"), "a file with the value");
                }
                (_, Source::GithubActions { .. }) => {
                    let from = "GitHub Actions gives it in the environment form only";
                    self.todo(4, &format!("{name}_file"), from);
                }
                (_, Source::File(path)) => files.push((name.to_owned(), scalar(&path.to_string_lossy()))),
                (_, Source::Text(_)) if is_list_field(name) => {
                    if index == 0 || fields[index - 1].0 != name {
                        let values =
                            fields.iter().filter(|(other, _)| other == name).filter_map(|(_, source)| {
                                match source {
                                    Source::Text(text) if !text.is_empty() => Some(text.expose()),
                                    _ => None,
                                }
                            });
                        let values: Vec<_> = values.collect();
                        if !values.is_empty() {
                            self.list(4, name, values.into_iter());
                        }
                    }
                }
                (_, Source::Text(text)) if is_field_key(name) => {
                    let text = text.expose();
                    if !text.is_empty() {
                        let short = if name == GRANT_TYPE { None } else { short_type(text) };
                        self.value(4, name, short.unwrap_or(text));
                    }
                }
                (_, Source::Text(text)) if dialect == Dialect::File || is_public_field(name) => {
                    form.push((name.to_owned(), scalar(text.expose())));
                }
                (_, Source::Text(_)) => {
                    files.push((name.to_owned(), format!("{TODO}  # a file with the value")));
                }
            }
        }
        self.map(4, "form", &form);
        self.map(4, "form_files", &files);
    }

    fn output(&mut self, output: &Output) {
        let Output { path, create_directories, format, mode, group, write_mode, remove_expired } = output;
        let _ = writeln!(self.text, "      - path: {}", scalar(&path.to_string_lossy()));
        self.value(8, "format", format.name());
        if let Format::Raw { prefix } = format
            && !prefix.is_empty()
        {
            self.value(8, "prefix", prefix);
        }
        if let Some(mode) = mode {
            self.value(8, "mode", &format!("{mode:04o}"));
        }
        if let Some(group) = group {
            self.value(8, "group", &group.to_string());
        }
        let word = WRITE_MODES.iter().find(|(_, known)| known == write_mode).map_or("auto", |(word, _)| word);
        self.value(8, "write_mode", word);
        let word =
            ON_EXPIRY.iter().find(|(_, known)| known == remove_expired).map_or("keep", |(word, _)| word);
        self.value(8, "on_expiry", word);
        if *create_directories {
            self.line(8, "create_directories", "true");
        }
    }

    fn action(&mut self, action: &Action) {
        let _ = writeln!(self.text, "      - {}:", action.kind());
        match action {
            Action::Http(http) => {
                let url = &http.url;
                self.url(10, "url", &url.to_url());
                self.value(10, "method", &http.method);
                if !http.headers.is_empty() {
                    let _ = writeln!(self.text, "          # the values of headers are not shown");
                }
                let headers: Vec<_> =
                    http.headers.iter().map(|(name, _)| (name.clone(), TODO.to_owned())).collect();
                self.map(10, "headers", &headers);
                let ranges = http.success.iter().map(|range| match (range.start(), range.end()) {
                    (first, last) if first == last => first.to_string(),
                    (first, last) => format!("{first}..{last}"),
                });
                let ranges: Vec<_> = ranges.collect();
                self.list(10, "success", ranges.iter().map(String::as_str));
                self.value(10, "timeout", &exact(http.timeout));
                if !url.is_loopback() {
                    self.line(10, "allow_remote", "true");
                }
            }
            Action::Signal(signal) => {
                match &signal.target {
                    SignalTarget::Process(name) => self.value(10, "process", name),
                    SignalTarget::PidFile(path) => self.value(10, "pid_file", &path.to_string_lossy()),
                }
                self.value(10, "signal", &signal_name(signal.signal));
            }
            Action::Exec(exec) => {
                self.list(10, "command", exec.command.iter().map(String::as_str));
                self.value(10, "timeout", &exact(exec.timeout));
            }
        }
    }
}
