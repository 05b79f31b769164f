//! The actions of a token, which follow a new token on disk.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::Reader;
use super::level::{Given, Level, secret};
use crate::action::{Action, ExecAction, HttpAction, SignalAction, SignalTarget};
use crate::config::value::{self, Wrong, wrong};
use crate::endpoint_url::EndpointUrl;
use crate::limits::{MAX_ACTIONS, MAX_CONFIG_ELEMENTS, MAX_STATUS_RANGES};
use crate::secret::Secret;
use crate::settings::keys::{self, Section};
use crate::settings::{Kind, nearest};

const URL_EXAMPLE: &str = "set it to a URL such as http://127.0.0.1:8080/-/reload";
const DEFAULT_SUCCESS: RangeInclusive<u16> = 200..=299;
const HUP: i32 = 1;

/// The signals by name, with their numbers on x86-64 and aarch64 (signal(7)). A stopped process
/// does not act on a signal, so those that stop one are missing.
const SIGNALS: [(&str, i32); 10] = [
    ("HUP", HUP),
    ("INT", 2),
    ("QUIT", 3),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("WINCH", 28),
];
/// SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU.
const STOPPING: RangeInclusive<i32> = 19..=22;
/// The last standard signal (SIGSYS). Real-time signals cannot be sent without unsafe code.
const LAST_SIGNAL: i32 = 31;

/// A signal by name, with or without SIG, or by number.
fn signal(text: &str) -> Result<i32, Wrong> {
    if let Ok(number) = text.parse::<i32>() {
        if STOPPING.contains(&number) {
            return wrong(
                "stops the process, which then acts on no signal",
                "use a signal such as 1, which is HUP",
            );
        }
        return if (1..=LAST_SIGNAL).contains(&number) {
            Ok(number)
        } else {
            wrong("is not the number of a signal", format!("use a number from 1 to {LAST_SIGNAL}"))
        };
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let names = SIGNALS.iter().map(|(known, _)| *known);
    match nearest(&name.to_ascii_uppercase(), names) {
        Some(near) => wrong("is an unknown signal", format!("did you mean {near}?")),
        None => wrong("is an unknown signal", "use a name such as HUP or USR1, or a number"),
    }
}

/// The name of a signal, as `config print` writes it.
pub(in crate::config) fn signal_name(number: i32) -> String {
    let known = SIGNALS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// A token of RFC 9110 §5.6.2: a method or the name of a header.
fn http_token(text: &str) -> bool {
    let other = |b: u8| b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || other(b))
}

fn method(text: &str) -> Result<String, Wrong> {
    if !http_token(text) || text.eq_ignore_ascii_case("CONNECT") {
        return wrong("is not an HTTP method", "use a method such as POST, PUT or GET");
    }
    Ok(text.to_owned())
}

/// The headers that the HTTP client sets itself.
const OWN_HEADERS: [&str; 5] = ["host", "content-length", "connection", "transfer-encoding", "upgrade"];

fn header_name(text: &str) -> Result<(), Wrong> {
    if !http_token(text) {
        return wrong("is not the name of a header", "use letters, digits and dashes");
    }
    if OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(text)) {
        return wrong("is a header that the HTTP client sets", "remove it");
    }
    Ok(())
}

fn header_value(text: &str) -> Result<Secret, Wrong> {
    if text.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f) {
        return wrong("has a control character", "write the value on one line");
    }
    Ok(secret(text))
}

/// `200`, or `200..299`.
fn status_range(text: &str) -> Result<RangeInclusive<u16>, Wrong> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let status = |text: &str| text.parse::<u16>().ok().filter(|status| (100..=599).contains(status));
    match status(first).zip(status(last)).filter(|(first, last)| first <= last) {
        Some((first, last)) => Ok(first..=last),
        None => {
            wrong("is not a range of status codes", "use a status such as 204, or a range such as 200..299")
        }
    }
}

/// Judges where an action sends its request. Another host than loopback has to be allowed.
fn action_url(text: &str, allow_remote: bool) -> Result<EndpointUrl, Wrong> {
    let (url, userinfo) = value::endpoint(text, URL_EXAMPLE)?;
    if userinfo.is_some() {
        return wrong("has a user or a password", "remove it; a header may hold credentials");
    }
    match (url.is_loopback(), url.is_tls(), allow_remote) {
        (true, ..) | (false, true, true) => Ok(url),
        (false, true, false) => wrong("leaves this pod", "use 127.0.0.1, or set allow_remote to true"),
        (false, false, _) => {
            wrong("is plain http to another host than loopback", "use 127.0.0.1, or https with allow_remote")
        }
    }
}

impl Reader {
    /// The actions of `on_update`, in order.
    pub(super) fn actions(&mut self, given: &Given<'_>) -> Vec<Action> {
        let nodes = self.list(given, 0, MAX_ACTIONS).unwrap_or_default();
        let mut actions = vec![];
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("{}[{index}]", given.path);
            let level = self.level(node, Section::Action, path);
            actions.extend(level.and_then(|level| self.action(&level)));
        }
        actions
    }

    fn action(&mut self, level: &Level<'_>) -> Option<Action> {
        let kinds =
            [Section::Http, Section::Signal, Section::Exec].into_iter().zip(["http", "signal", "exec"]);
        let given: Vec<_> = kinds.filter(|(_, kind)| level.own(kind).is_some()).collect();
        if given.len() != 1 {
            let what = if given.is_empty() { "is no action" } else { "is more than one action" };
            let fix = "write one of http, signal and exec in each element";
            self.problem(level.at, &level.path, what, fix);
        }
        let mut action = None;
        for (section, kind) in given {
            let Some(inner) = self.sublevel(level, kind, section) else { continue };
            action = match section {
                Section::Http => self.http(&inner).map(Action::Http),
                Section::Signal => self.signal(&inner).map(Action::Signal),
                _ => self.exec(&inner).map(Action::Exec),
            };
        }
        action
    }

    fn timeout(&mut self, level: &Level<'_>) -> Option<Duration> {
        let kind = keys::key(level.section, "timeout")?.kind()?;
        let Kind::Duration { defaults: [(_, default), ..], .. } = kind else { return None };
        Some(self.read(level, "timeout", |text| value::duration(text, kind)).unwrap_or(*default))
    }

    fn http(&mut self, level: &Level<'_>) -> Option<HttpAction> {
        let allow_remote = self.read(level, "allow_remote", value::switch).unwrap_or_default();
        self.required(level, "url", URL_EXAMPLE);
        let url = self.read(level, "url", |text| action_url(text, allow_remote));
        let method = self.read(level, "method", method).unwrap_or_else(|| "POST".to_owned());
        let mut headers: Vec<(String, Secret)> = vec![];
        let entries = level.own("headers").map(|given| self.map(&given)).unwrap_or_default();
        for (entry, given) in entries {
            if let Err(Wrong { what, fix }) = header_name(&entry.key) {
                self.problem(entry.at, &given.path, what, fix);
            }
            let text = self.any_text(&given).map(header_value);
            match text {
                Some(Ok(value)) => headers.push((entry.key.clone(), value)),
                Some(Err(why)) => self.wrong(&given, why),
                None => {}
            }
        }
        let success = match level.own("success") {
            None => vec![DEFAULT_SUCCESS],
            Some(given) => {
                let texts = self.texts(&given, 1, MAX_STATUS_RANGES);
                let ranges = texts.into_iter().filter_map(|(given, text)| {
                    status_range(text).map_err(|why| self.wrong(&given, why)).ok()
                });
                ranges.collect()
            }
        };
        let timeout = self.timeout(level)?;
        Some(HttpAction { url: url?, method, headers, success, timeout })
    }

    fn signal(&mut self, level: &Level<'_>) -> Option<SignalAction> {
        let number = self.read(level, "signal", signal).unwrap_or(HUP);
        let target = match (level.own("process"), level.own("pid_file")) {
            (Some(process), None) => self.text(&process).map(|name| SignalTarget::Process(name.to_owned())),
            (None, Some(file)) => self.input_given(&file).map(SignalTarget::PidFile),
            (process, _) => {
                let what = if process.is_some() { "has both process and pid_file" } else { "has no process" };
                self.problem(level.at, &level.path, what, "set one of process and pid_file");
                None
            }
        };
        Some(SignalAction { target: target?, signal: number })
    }

    fn exec(&mut self, level: &Level<'_>) -> Option<ExecAction> {
        let timeout = self.timeout(level)?;
        self.required(level, "command", "set it to a list: the path of the program, and its arguments");
        let given = level.own("command")?;
        let nodes = self.list(&given, 1, MAX_CONFIG_ELEMENTS)?;
        let mut command = vec![];
        for (index, node) in nodes.iter().enumerate() {
            let argument = Given { node, path: format!("{}[{index}]", given.path) };
            // An argument may be empty, and may end with a line break.
            let text = if index == 0 { self.text(&argument)? } else { self.raw_text(&argument)? };
            command.push(text.to_owned());
        }
        if !PathBuf::from(&command[0]).is_absolute() {
            let first = Given { node: &nodes[0], path: format!("{}[0]", given.path) };
            let what = "is not an absolute path";
            self.problem(first.at(), &first.path, what, "use the path of the program, such as /bin/notify");
            return None;
        }
        Some(ExecAction { command, timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_stop_a_process_are_refused_by_number_and_by_name() {
        for text in ["19", "20", "21", "22", "STOP", "SIGTSTP", "TTIN", "TTOU"] {
            assert!(signal(text).is_err(), "{text}");
        }
        for (text, number) in [("18", 18), ("23", 23), ("HUP", 1), ("SIGUSR1", 10), ("9", 9)] {
            assert_eq!(signal(text).ok(), Some(number), "{text}");
        }
    }
}
