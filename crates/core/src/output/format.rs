//! The formats of a token file. Each is rendered here, and read back.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::StoredToken;
use crate::claims::Claims;
use crate::exchange::ACCESS_TOKEN;
use crate::json::Member;
use crate::limits::{LARGEST_ISSUED_TOKEN, LONGEST_MEMBER, MAX_LIFETIME, MAX_NUMERIC_DATE};
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::token::is_bearer_token;

/// The version and the kind of an `ExecCredential`.
const EXEC_API: &str = "client.authentication.k8s.io/v1";
const EXEC_KIND: &str = "ExecCredential";

/// The format of a token file. The content of the file is compared and judged as the token that it
/// holds, so each format can be read back: `read(render(token))` holds the same token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Format {
    /// The prefix and the token, without a newline. `Authorization: Bearer ` as prefix makes a
    /// header for `curl -H @FILE`.
    Raw {
        /// The text before the token; empty by default.
        prefix: String,
    },
    /// The members of a token endpoint's response (RFC 8693 §2.2.1), and `expires_at`: the seconds
    /// from 1970-01-01T00:00:00Z to the expiry, as Authlib, requests-oauthlib and Ruby's `oauth2`
    /// have it.
    Json,
    /// What the Incus command line reads from `oidctokens/REMOTE.json`: the `Tokens` of
    /// github.com/zitadel/oidc. Its `expiry` is a time of RFC 3339.
    Incus,
    /// An `ExecCredential` of `client.authentication.k8s.io/v1`, which kubectl and client-go read
    /// from the output of a command.
    ExecCredential,
}

impl Default for Format {
    fn default() -> Self {
        Self::Raw { prefix: String::new() }
    }
}

impl Format {
    /// Its name in the configuration file and in messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Raw { .. } => "raw",
            Self::Json => "json",
            Self::Incus => "incus",
            Self::ExecCredential => "exec_credential",
        }
    }

    /// The largest content that is read as this format, in bytes. Other programs may add members,
    /// such as the Incus command line with a second token.
    #[must_use]
    pub const fn largest(&self) -> usize {
        match self {
            Self::Raw { prefix } => prefix.len() + LARGEST_ISSUED_TOKEN,
            Self::Json | Self::Incus | Self::ExecCredential => 2 * LARGEST_ISSUED_TOKEN,
        }
    }

    /// The content of a file that holds this token. Unknown members are left out.
    #[must_use]
    pub fn render(&self, stored: &StoredToken) -> Secret {
        let mut text = Text::for_token(self, stored);
        match self {
            Self::Raw { prefix } => {
                text.push(prefix);
                text.push(stored.token.expose());
            }
            Self::Json => {
                text.member("{", "access_token", stored.token.expose());
                let kind = stored.issued_token_type.as_deref().unwrap_or(ACCESS_TOKEN);
                text.member(",", "issued_token_type", kind);
                text.member(",", "token_type", "Bearer");
                text.number("expires_in", stored.lifetime.map(|lifetime| lifetime.as_secs()));
                if let Some(scope) = &stored.scope {
                    text.member(",", "scope", scope);
                }
                text.number("expires_at", stored.expires.map(|expires| expires.as_duration().as_secs()));
                text.push("}");
            }
            Self::Incus => {
                text.member("{", "access_token", stored.token.expose());
                text.member(",", "token_type", "Bearer");
                text.time("expiry", stored.expires);
                text.push("}");
            }
            Self::ExecCredential => {
                text.member("{", "apiVersion", EXEC_API);
                text.member(",", "kind", EXEC_KIND);
                text.push(",\"status\":");
                text.member("{", "token", stored.token.expose());
                text.time("expirationTimestamp", stored.expires);
                text.push("}}");
            }
        }
        Secret::new(std::mem::take(&mut *text.0))
    }

    /// The token that this content holds. `None` if the content does not have this format: its
    /// reader could not use it. Whether the token is valid is not judged here.
    ///
    /// Other members, another order and white space do not matter. A repeated member does, since
    /// readers differ in which one they use.
    #[must_use]
    pub fn read(&self, content: &Secret) -> Option<StoredToken> {
        let text = content.expose();
        if text.len() > self.largest() {
            return None;
        }
        match self {
            Self::Raw { prefix } => {
                let token = text.strip_prefix(prefix.as_str())?;
                Some(StoredToken::of(Secret::new(token.to_owned())))
            }
            Self::Json => response(text).filter(|found| found.issued_token_type.is_some()),
            // Without the type it cannot be a file of the format `json`, which has another expiry.
            Self::Incus => response(text).filter(|found| found.issued_token_type.is_none()),
            Self::ExecCredential => exec_credential(text),
        }
    }

    /// The token that this content holds, and whether it has this format. If not, the file may have
    /// been written before the format was changed: any format counts.
    #[must_use]
    pub fn read_at_startup(&self, content: &Secret) -> Option<(StoredToken, bool)> {
        // Without a prefix, any content has the format `raw`.
        let own = self.read(content).filter(|stored| is_bearer_token(stored.token.expose()));
        own.map(|stored| (stored, true)).or_else(|| Self::read_any(content).map(|stored| (stored, false)))
    }

    /// The format of a file that no configuration names: the one in which this content can be read,
    /// else `raw`. A prefix counts only before a JSON Web Token: other text may be anything.
    #[must_use]
    pub fn found_in(content: &Secret) -> Self {
        let text = content.expose();
        if text.trim_ascii_start().starts_with('{') {
            let known = [Self::ExecCredential, Self::Incus];
            return known.into_iter().find(|format| format.read(content).is_some()).unwrap_or_default();
        }
        let prefix = text.rfind([' ', '\t']).map_or("", |end| &text[..=end]);
        let with_prefix = Self::Raw { prefix: prefix.to_owned() };
        let token = with_prefix.read(content);
        let is_jwt = token.is_some_and(|stored| Claims::peek(&stored.token).is_some());
        if is_jwt { with_prefix } else { Self::default() }
    }

    /// The token that this content holds in any format.
    #[must_use]
    pub fn read_any(content: &Secret) -> Option<StoredToken> {
        let text = content.expose();
        if text.len() > 2 * LARGEST_ISSUED_TOKEN {
            return None;
        }
        if text.trim_ascii_start().starts_with('{') {
            return response(text).or_else(|| exec_credential(text));
        }
        // The last word, behind any prefix.
        let token = text.trim_ascii().rsplit([' ', '\t', '\n', ':', '"', '\'']).next()?;
        if token.is_empty() {
            return None;
        }
        Some(StoredToken::of(Secret::new(token.to_owned())))
    }
}

/// The content of a file while it is built. It is wiped on every path.
struct Text(Zeroizing<String>);

impl Text {
    /// With room for the content: a growing string would leave copies of the token in freed memory.
    fn for_token(format: &Format, stored: &StoredToken) -> Self {
        const MEMBERS: usize = 512;
        // A control character takes six bytes, as in `\u001f`.
        let escaped = |text: &Option<String>| text.as_ref().map_or(0, |text| 6 * text.len());
        let other = match format {
            Format::Raw { prefix } => prefix.len(),
            _ => MEMBERS + escaped(&stored.issued_token_type) + escaped(&stored.scope),
        };
        Self(Zeroizing::new(String::with_capacity(stored.token.expose().len() + other)))
    }

    fn push(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// A member whose value is a text.
    fn member(&mut self, before: &str, name: &str, value: &str) {
        for text in [before, "\"", name, "\":\""] {
            self.push(text);
        }
        for character in value.chars() {
            match character {
                '"' | '\\' => self.0.extend(['\\', character]),
                '\0'..'\x20' => self.push(&format!("\\u{:04x}", u32::from(character))),
                _ => self.0.push(character),
            }
        }
        self.push("\"");
    }

    /// A member whose value is a number, if that is known.
    fn number(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.push(&format!(",\"{name}\":{value}"));
        }
    }

    /// A member whose value is a time of RFC 3339, if that is known.
    fn time(&mut self, name: &str, value: Option<UnixTime>) {
        // The latest instant that a token may state is before the year 10000.
        let Some(value) = value.filter(|value| value.as_duration().as_secs_f64() < MAX_NUMERIC_DATE) else {
            return;
        };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(value.as_duration().as_secs());
        self.member(",", name, &humantime::format_rfc3339_seconds(time).to_string());
    }
}

/// The members of `json` and `incus` that are used. A repeated one is an error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Response {
    access_token: Member,
    issued_token_type: Member,
    expires_in: Member,
    scope: Member,
    expires_at: Member,
    expiry: Member,
}

/// The members of `exec_credential` that are used.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Exec {
    api_version: Member,
    kind: Member,
    status: Option<Object<Status>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    token: Member,
    expiration_timestamp: Member,
}

/// A structure that is read from an object only: serde also reads one from an array.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Reader(std::marker::PhantomData))
    }
}

fn response(text: &str) -> Option<StoredToken> {
    let Object(found) = serde_json::from_str::<Object<Response>>(text).ok()?;
    let mut stored = of_member(&found.access_token)?;
    let time = seconds(&found.expires_at).map(UnixTime::since_epoch);
    stored.expires =
        stored.expires.or(time).or_else(|| time_of(&found.expires_at)).or_else(|| time_of(&found.expiry));
    stored.lifetime =
        stored.lifetime.or_else(|| seconds(&found.expires_in).map(|lifetime| lifetime.min(MAX_LIFETIME)));
    stored.issued_token_type = text_of(&found.issued_token_type);
    stored.scope = text_of(&found.scope);
    Some(stored)
}

fn exec_credential(text: &str) -> Option<StoredToken> {
    let Object(found) = serde_json::from_str::<Object<Exec>>(text).ok()?;
    if found.api_version.as_text() != Some(EXEC_API) || found.kind.as_text() != Some(EXEC_KIND) {
        return None;
    }
    let Object(status) = found.status?;
    let mut stored = of_member(&status.token)?;
    stored.expires = stored.expires.or_else(|| time_of(&status.expiration_timestamp));
    Some(stored)
}

/// The token of a member. An empty text is no token.
fn of_member(member: &Member) -> Option<StoredToken> {
    let token = member.as_text().filter(|token| !token.is_empty())?;
    Some(StoredToken::of(Secret::new(token.to_owned())))
}

/// A text that is no token: a long one is not kept.
fn text_of(member: &Member) -> Option<String> {
    member.as_text().filter(|text| text.len() <= LONGEST_MEMBER).map(str::to_owned)
}

/// A number of seconds that is not negative.
fn seconds(member: &Member) -> Option<Duration> {
    let Member::Number(seconds) = member else { return None };
    (0.0..MAX_NUMERIC_DATE).contains(seconds).then(|| Duration::from_secs_f64(*seconds))
}

/// A time of RFC 3339 in UTC. Go writes the year 1 for an unknown time; it counts as unknown here
/// too, and so does a time of another zone.
fn time_of(member: &Member) -> Option<UnixTime> {
    let time = humantime::parse_rfc3339(member.as_text()?).ok()?;
    let time = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (time.as_secs_f64() < MAX_NUMERIC_DATE).then(|| UnixTime::since_epoch(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A growing string would leave copies of the token in freed memory.
    #[test]
    fn there_is_room_for_every_format_before_anything_is_written() {
        let long = || Some("\u{1f}".repeat(4_096));
        let stored = StoredToken {
            issued_token_type: long(),
            scope: long(),
            expires: Some(UnixTime::from_secs(4_000_000_000)),
            lifetime: Some(Duration::from_secs(86_400)),
            ..StoredToken::of(Secret::new("t".repeat(1_000)))
        };
        let raw = Format::Raw { prefix: "Authorization: Bearer ".repeat(100) };
        for format in [raw, Format::Json, Format::Incus, Format::ExecCredential] {
            let room = Text::for_token(&format, &stored).0.capacity();
            let written = format.render(&stored).expose().len();
            assert!(written <= room, "{format:?}: {written} bytes in {room}");
        }
    }
}
