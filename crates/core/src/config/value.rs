//! The values of settings: each kind is read here, whether it was given as an option, a variable
//! or a key of the configuration file.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Level;
use crate::duration::{self, NotADuration};
use crate::endpoint_url::{EndpointUrl, is_localhost, is_public};
use crate::listen_address;
use crate::output::{TEMPORARY_PREFIX, WriteMode};
use crate::secret::Secret;
use crate::settings::Kind;

/// What is wrong with a value, and what would be right. It never holds the value.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) fix: String,
}

pub(super) fn wrong<T>(what: impl Into<String>, fix: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { what: what.into(), fix: fix.into() })
}

pub(super) const DURATION: &str = "use a duration such as 1h30m, 1.5h or 250ms";
pub(super) const ENDPOINT_EXAMPLE: &str =
    "set it to the URL of Dex's token endpoint, such as https://dex.example.com/token";

pub(super) const LEVELS: &[(&str, Level)] =
    &[("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)];
pub(super) const LOG_FORMATS: &[(&str, bool)] = &[("text", false), ("json", true)];
pub(super) const WRITE_MODES: &[(&str, WriteMode)] =
    &[("auto", WriteMode::Auto), ("atomic", WriteMode::Atomic), ("in-place", WriteMode::InPlace)];
pub(super) const ON_EXPIRY: &[(&str, bool)] = &[("keep", false), ("remove", true)];

/// What `config print` writes in place of a secret: the path of a file that the user has to write,
/// the value of a header, the query of a URL, or its user and password.
pub(super) const TODO: &str = "TODO";

/// Refuses what `config print` left for the user to write.
pub(super) fn no_placeholder(text: &str) -> Result<(), Wrong> {
    let is_left =
        text == TODO || text.ends_with(&format!("?{TODO}")) || text.contains(&format!("://{TODO}@"));
    if is_left {
        let what = format!("still has the {TODO} that config print wrote in place of a secret");
        return wrong(what, "write the value, or the path of a file that holds it");
    }
    Ok(())
}

pub(super) fn switch(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => wrong("is neither true nor false", "use true or false"),
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    wrong("has an unknown value", format!("use one of {}", known.join(", ")))
}

/// A duration within the range of its setting.
pub(super) fn duration(text: &str, kind: Kind) -> Result<Duration, Wrong> {
    let duration = duration::parse(text).or_else(|why| wrong(why.to_string(), DURATION))?;
    if let Kind::Duration { range: Some((shortest, longest)), zero, .. } = kind
        && !(shortest..=longest).contains(&duration)
        && !(duration.is_zero() && zero.is_some())
    {
        return wrong("is out of range", format!("use {}", kind.range_text().unwrap_or_default()));
    }
    Ok(duration)
}

/// A duration that is not shorter than `least`. `None` for an empty text.
pub(super) fn duration_of(text: &str, least: Duration) -> Result<Option<Duration>, Wrong> {
    match duration::parse(text) {
        Ok(duration) if duration >= least => Ok(Some(duration)),
        Ok(_) => wrong("is zero", "use a duration such as 1m"),
        Err(NotADuration::Empty) => Ok(None),
        Err(why) => wrong(why.to_string(), DURATION),
    }
}

pub(super) fn mode(text: &str) -> Result<u32, Wrong> {
    let octal = (1..=4).contains(&text.len()).then(|| u32::from_str_radix(text, 8).ok()).flatten();
    let mode = octal.filter(|mode| *mode <= 0o777 && mode & 0o400 != 0 && !text.starts_with('+'));
    mode.map_or_else(
        || wrong("is not an octal file mode that lets its owner read", "use a mode such as 0640"),
        Ok,
    )
}

pub(super) fn group(text: &str) -> Result<u32, Wrong> {
    let group = text.parse::<u32>().ok().filter(|group| *group != u32::MAX && !text.starts_with('+'));
    group.map_or_else(|| wrong("is not a group number", "use a number such as 1000"), Ok)
}

/// A mode that forbids what the write mode does. `write_mode_name` is the name of that setting.
pub(super) fn mode_for(mode: Option<u32>, write_mode: WriteMode, write_mode_name: &str) -> Result<(), Wrong> {
    if write_mode == WriteMode::InPlace && mode.is_some_and(|mode| mode & 0o200 == 0) {
        return wrong(
            format!(
                "does not let the owner write, but {write_mode_name} in-place overwrites the same file at each refresh"
            ),
            format!("use a mode such as 0640, or set {write_mode_name} to auto"),
        );
    }
    Ok(())
}

/// The path of an output.
pub(super) fn output_path(path: &Path) -> Result<(), Wrong> {
    // `file_name` ignores a final slash, so the text is checked as well.
    let Some(name) = path.file_name().filter(|_| !path.as_os_str().as_encoded_bytes().ends_with(b"/")) else {
        return wrong("is a directory", "set it to a file in it, as DIRECTORY/token");
    };
    if name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) {
        let what = format!("has the name of a temporary file, which begins with {TEMPORARY_PREFIX}");
        return wrong(what, "use another name: temporary files are removed");
    }
    Ok(())
}

/// A URL of Dex, and the user and password in it.
pub(super) fn endpoint(text: &str, example: &str) -> Result<(EndpointUrl, Option<Secret>), Wrong> {
    EndpointUrl::parse(text).or_else(|why| wrong(why.to_string(), example))
}

/// Judges the scheme of a URL of Dex: a warning for plain http, an error if it goes to a public
/// address. `allow_name` is the name of the setting that allows that.
pub(super) fn scheme(url: &EndpointUrl, allow: bool, allow_name: &str) -> Result<Option<String>, Wrong> {
    if url.is_tls() || is_localhost(url.host()) {
        return Ok(None);
    }
    match url.address() {
        Some(ip) if ip.to_canonical().is_loopback() => Ok(None),
        Some(ip) if is_public(ip) && !allow => {
            wrong("is plain http to a public address", format!("use https, or set {allow_name} to true"))
        }
        _ if allow => Ok(Some(format!(
            "is plain http: anyone on the network path can read the tokens; use https ({allow_name} allows public \
             addresses)"
        ))),
        _ => Ok(Some(format!(
            "is plain http: anyone on the network path can read the tokens; use https (public addresses are refused \
             unless {allow_name} is true)"
        ))),
    }
}

/// The address of the listener.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    listen_address::parse(text).or_else(|what| wrong(what, listen_address::FIX))
}
