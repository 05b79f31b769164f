//! One token of the file: its endpoint, its client and its schedule.

use std::time::Duration;

use super::Reader;
use super::level::{Given, Level};
use crate::config::value::{self, ENDPOINT_EXAMPLE, Wrong, wrong};
use crate::config::{DEFAULT_NAME, TokenConfig};
use crate::endpoint_url::EndpointUrl;
use crate::exchange::{Client, Endpoint, Exchange, Source};
use crate::limits::LONGEST_TOKEN_NAME;
use crate::schedule::Schedule;
use crate::settings::keys;
use crate::settings::{self, CLIENT_ID, Command, Dialect, Setting};

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
        if let Some((given, (_, url))) = issuer.as_ref().zip(issuer_url.as_ref())
            && url.target().contains('?')
        {
            // OpenID Connect Discovery 1.0 §3, RFC 8414 §2.
            self.problem(given.at(), &given.path, "has a query, which no issuer has", "remove it");
        }
        if let Some((given, (text, _))) = issuer.as_ref().zip(issuer_url.as_ref())
            && endpoint.is_none()
            && text.ends_with("/token")
        {
            self.warn(given.at(), &given.path, "ends with /token, which is added to it: remove /token");
        }
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
                Ok(Some(what)) => self.warn(given.at(), &given.path, what),
                Ok(None) => {}
                Err(why) => self.wrong(given, why),
            }
        }
        Some((text.to_owned(), url))
    }

    fn client(&mut self, level: &Level<'_>) -> Option<Client> {
        let (pair, id, file) = ("basic_auth_file", CLIENT_ID, "client_secret_file");
        // What the token itself has comes before the other notation in the defaults. The secret of
        // the defaults belongs to the client of the defaults.
        let (own_id, own_file) = (level.own(id).is_some(), level.own(file).is_some());
        let pair_given = if own_id || own_file { level.own(pair) } else { level.get(pair) };
        let (id_given, file_given) = if own_id || level.own(pair).is_some() {
            (level.own(id), level.own(file))
        } else {
            (level.get(id), level.get(file))
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
}

const ISSUER_EXAMPLE: &str = "set it to Dex's issuer, such as https://dex.example.com";
