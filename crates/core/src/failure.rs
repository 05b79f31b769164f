//! What can go wrong while a token is kept fresh: the one table of failures.
//!
//! Log lines, `check`, the metrics' labels and docs/failures.md read it. A failure never ends the
//! program: it changes the delay before the next attempt and what is reported. Dex answers 400 and
//! 401 for transient trouble too (its own request for the cluster's keys, for one), so no answer
//! proves that further attempts are useless.

mod table;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::settings::Dialect;

pub use table::Code;

/// The step of an exchange at which a failure happens; `check` runs the same steps in the same
/// order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Step {
    /// Form fields and credentials that are read from files.
    Settings,
    /// Reading the subject token.
    SubjectToken,
    /// Resolving the host name of the endpoint or of the proxy.
    Dns,
    /// The TCP connection, and the tunnel through a proxy.
    Tcp,
    /// The TLS handshake and the certificates that decide it.
    Tls,
    /// The issuer's discovery document.
    Discovery,
    /// The request and its response.
    Exchange,
    /// Writing the token file.
    Output,
    /// What is done after the token file holds a new token. It follows the steps of an exchange,
    /// for a token that has actions.
    Actions,
}

impl Step {
    /// The steps of an exchange, in order.
    pub const ALL: [Self; 8] = [
        Self::Settings,
        Self::SubjectToken,
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::Discovery,
        Self::Exchange,
        Self::Output,
    ];

    /// Its stable name in JSON, in logs and as a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::SubjectToken => "subject_token",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Discovery => "discovery",
            Self::Exchange => "exchange",
            Self::Output => "output",
            Self::Actions => "actions",
        }
    }

    /// Its name for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::SubjectToken => "subject token",
            Self::Dns => "DNS",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Settings | Self::Discovery | Self::Exchange | Self::Output | Self::Actions => self.label(),
        }
    }
}

/// Which delays apply before the next attempt; [`crate::schedule`] has the figures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryClass {
    /// The network, or a server in trouble: short delays.
    Network,
    /// Dex refused, perhaps only for now: short delays first, long ones later.
    Refused,
    /// A setting of the pod or of Dex is probably wrong: long delays, and an attempt at once when
    /// an input changes.
    Config,
    /// A file of this pod: polled at short intervals, since reading a file is cheap.
    Local,
}

impl RetryClass {
    /// Its name in docs/failures.md.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Refused => "refused",
            Self::Config => "config",
            Self::Local => "local",
        }
    }
}

/// Who can fix a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owner {
    /// The author of the pod's manifest.
    Pod,
    /// The operator of the network between the pod and Dex, with its proxies.
    Network,
    /// The author of Dex's configuration and of its certificates.
    DexConfig,
    /// The operator of Dex.
    DexOperator,
    /// The operator of the cluster, which provides the volume of the token file.
    Cluster,
}

impl Owner {
    /// Its stable name in JSON and in logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Network => "network",
            Self::DexConfig => "dex_config",
            Self::DexOperator => "dex_operator",
            Self::Cluster => "cluster",
        }
    }

    /// Its name for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::DexConfig => "Dex config",
            Self::DexOperator => "Dex operator",
            Self::Pod | Self::Network | Self::Cluster => self.label(),
        }
    }
}

/// The row of the table for one code.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Stable name in lower-case with underscores.
    pub name: &'static str,
    /// Where it happens, unless a failure knows better.
    pub step: Step,
    /// Which delays apply.
    pub retry: RetryClass,
    /// Who can fix it, unless a failure knows better.
    pub owner: Owner,
    /// What happened, to stand before the details.
    pub summary: &'static str,
    /// What to do, unless a failure knows better.
    pub fix: &'static str,
}

/// The code of invalid settings in `check`. It is no [`Code`], since no attempt is made with
/// invalid settings.
pub const WRONG_SETTINGS: &str = "wrong_settings";

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry().name)
    }
}

/// One failure as it happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Its code.
    pub code: Code,
    /// The particulars of this occurrence: a path, an address, a status. Empty when there are none.
    /// Quotes from outside have gone through [`plain`].
    pub detail: String,
    /// How long the server asks to wait (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// The owner, where more is known than the table says.
    pub owner: Option<Owner>,
    /// The step, where more is known than the table says.
    pub step: Option<Step>,
    /// The fix, where more is known than the table says.
    pub fix: Option<&'static str>,
}

impl Failure {
    /// A failure with its particulars.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: printable(detail.into()), retry_after: None, owner: None, step: None, fix: None }
    }

    /// The same with another owner than the table's: a time-out belongs to the owner of the step
    /// that took too long.
    #[must_use]
    pub fn owned_by(self, owner: Owner) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// The same at another step than the table's: a time-out belongs to the step that took too
    /// long.
    #[must_use]
    pub fn at(self, step: Step) -> Self {
        Self { step: Some(step), ..self }
    }

    /// The same with a fix for this very cause.
    #[must_use]
    pub fn with_fix(self, fix: &'static str) -> Self {
        Self { fix: Some(fix), ..self }
    }

    /// Who can fix it.
    #[must_use]
    pub const fn owner(&self) -> Owner {
        match self.owner {
            Some(owner) => owner,
            None => self.code.entry().owner,
        }
    }

    /// Where it happened.
    #[must_use]
    pub const fn step(&self) -> Step {
        match self.step {
            Some(step) => step,
            None => self.code.entry().step,
        }
    }

    /// What to do.
    #[must_use]
    pub const fn fix(&self) -> &'static str {
        match self.fix {
            Some(fix) => fix,
            None => self.code.entry().fix,
        }
    }

    /// Its row of the table.
    #[must_use]
    pub const fn entry(&self) -> Entry {
        self.code.entry()
    }
}

impl Failure {
    /// What would mend it, with the names of settings in this dialect.
    #[must_use]
    pub fn fix_in(&self, dialect: Dialect) -> Cow<'_, str> {
        dialect.render(self.fix())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry().summary)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// Text from outside, made safe for a log line: about `longest` characters at most, all of them
/// printable ASCII. Others are escaped, so that no response can forge a line (F122).
#[must_use]
pub fn plain(text: &str, longest: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= longest {
            out.push_str("...");
            break;
        }
        if c == ' ' || c.is_ascii_graphic() {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

/// Whether a character can change a terminal, forge a line or change the direction of a text.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text of this machine, such as a path or an argument, with each such character escaped.
#[must_use]
pub fn printable(text: String) -> String {
    if !text.contains(is_unprintable) {
        return text;
    }
    let escaped =
        |c: char| -> String { if is_unprintable(c) { c.escape_default().collect() } else { c.to_string() } };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn f122_a_text_of_this_machine_changes_no_terminal_and_forges_no_line() {
        for (text, shown) in [
            ("/run/dex/t\u{f6}ken", "/run/dex/t\u{f6}ken"),
            ("/x\n\u{1b}[31my", "/x\\n\\u{1b}[31my"),
            ("\u{9b}31m\u{7f}\u{202e}\u{2028}", "\\u{9b}31m\\u{7f}\\u{202e}\\u{2028}"),
        ] {
            assert_eq!(printable(text.to_owned()), shown);
            assert_eq!(Failure::new(Code::OutputFailed, text).detail, shown);
        }
    }

    #[test]
    fn names_are_unique_and_in_one_style() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.entry().name).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for name in names {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
    }

    #[test]
    fn steps_and_owners_have_distinct_names() {
        let of_table = |name: fn(Entry) -> &'static str| -> BTreeSet<_> {
            Code::ALL.iter().map(|code| name(code.entry())).collect()
        };
        for (steps, owners) in [
            (of_table(|entry| entry.step.label()), of_table(|entry| entry.owner.label())),
            (of_table(|entry| entry.step.title()), of_table(|entry| entry.owner.title())),
        ] {
            assert_eq!((steps.len(), owners.len()), (8, 5), "{steps:?} {owners:?}");
            assert!(!steps.contains("") && !owners.contains(""));
        }
        let labels =
            Step::ALL.map(Step::label).into_iter().chain(Code::ALL.iter().map(|c| c.entry().owner.label()));
        for label in labels {
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{label} is no metric label");
        }
        assert!(Step::ALL.is_sorted());
    }

    #[test]
    fn a_failure_may_know_more_than_the_table() {
        let table = Failure::new(Code::TimedOut, "");
        let known = table.clone().owned_by(Owner::Network).at(Step::Dns).with_fix("do this");
        assert_eq!(
            (table.owner(), table.step(), table.fix()),
            (Owner::DexOperator, Step::Exchange, table.entry().fix)
        );
        assert_eq!((known.owner(), known.step(), known.fix()), (Owner::Network, Step::Dns, "do this"));
    }

    /// P3: an ingress, a gateway or a login wall that answers while Dex is away delays no token by
    /// more than 30 s.
    #[test]
    fn f145_only_an_oauth_error_of_dex_has_longer_delays_than_the_network() {
        let patient = |code: &&Code| {
            let entry = code.entry();
            entry.step == Step::Exchange && entry.retry != RetryClass::Network
        };
        let patient: Vec<_> = Code::ALL.iter().filter(patient).map(|code| code.entry().name).collect();
        let oauth_errors = [
            "invalid_client",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_scope",
            "request_not_supported",
            "connector_unknown",
            "access_denied",
            "invalid_request",
            "invalid_grant",
            "invalid_target",
            "rejected",
        ];
        assert_eq!(patient, oauth_errors);
    }

    #[test]
    fn a_failure_shows_its_summary_and_its_particulars() {
        let refused = Failure::new(Code::ConnectRefused, "127.0.0.1:1");
        assert_eq!(refused.to_string(), "connection refused: 127.0.0.1:1");
        assert_eq!(Failure::new(Code::ConnectRefused, "").to_string(), "connection refused");
        assert_eq!(refused.code.to_string(), "connect_refused");
    }

    #[test]
    fn summaries_and_fixes_are_not_empty_and_have_no_full_stop() {
        for code in Code::ALL {
            let entry = code.entry();
            for text in [entry.summary, entry.fix] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{code}: {text}");
            }
        }
    }

    /// A connector that cannot be opened is an exchange's `connector_unknown` only where Dex starts
    /// without it. Dex 2.44 and earlier exit at startup (server/server.go, newServer), and so does
    /// 2.45 when no connector can be opened.
    #[test]
    fn connect_refused_and_unavailable_name_a_dex_that_exits_at_startup() {
        for code in [Code::ConnectRefused, Code::Unavailable] {
            assert!(code.entry().fix.contains("exits at startup when it cannot open a connector"), "{code}");
        }
        assert!(Code::ConnectorUnknown.entry().summary.contains("could not open it"));
    }

    #[test]
    fn f122_text_from_outside_cannot_forge_a_line() {
        assert_eq!(plain("a\r\nlevel=error \u{202e}x", 64), "a\\r\\nlevel=error \\u{202e}x");
        assert_eq!((plain("abcdef", 3), plain("abc", 3)), ("abc...".to_owned(), "abc".to_owned()));
        assert_eq!(plain("\u{7f}\u{7f}\u{7f}", 7), "\\u{7f}\\u{7f}...");
        assert_eq!(plain("say \"a\\b\"", 9), "say \"a\\b\"");
    }
}
