//! The one table of metrics, and their text: what the listener's `/metrics` page serves, and what
//! docs/metrics.md is generated from.
//!
//! The text has the Prometheus text format 0.0.4. OpenMetrics adds nothing that is used here, and
//! `promtool check metrics` reads this format.

mod text;

use std::time::Duration;

use crate::failure::{Code, Owner};
use crate::time::UnixTime;
use text::Samples;
pub use text::{CONTENT_TYPE, render};

/// The type of a metric.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A number that goes up and down, or an instant.
    Gauge,
    /// A number that only goes up, until the process restarts.
    Counter,
    /// A count and a sum, without quantiles.
    Summary,
}

impl Kind {
    /// Its name in the text format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Summary => "summary",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Its name. Stable.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The names of its labels, in the order of their values in each sample. Stable.
    pub labels: &'static [&'static str],
    /// What it means: a sentence without a full stop.
    pub help: &'static str,
    /// Adds its samples.
    samples: fn(&Snapshot<'_>, &mut Samples<'_>),
}

impl std::fmt::Debug for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What the metrics show at one moment. Instants that are unknown are `None` and shown as 0.
#[derive(Clone, Debug, Default)]
pub struct Snapshot<'a> {
    /// The version of the program.
    pub version: &'a str,
    /// The tokens, in the order of the configuration.
    pub tokens: Vec<TokenFigures<'a>>,
    /// The number of requests to token endpoints that have ended, and the time that they took
    /// together.
    pub exchanges_ended: (u64, Duration),
    /// Dex's clock minus this node's, in seconds; of several Dexes the largest by amount.
    pub clock_skew: i64,
    /// When the certificate of a Dex expires; of several the first.
    pub certificate_expires: Option<UnixTime>,
    /// The last reload of the configuration file; `None` without such a file.
    pub reload: Option<Reload>,
    /// The process.
    pub process: Process,
}

/// What the metrics show of one token.
#[derive(Clone, Debug)]
pub struct TokenFigures<'a> {
    /// Its name in the configuration.
    pub name: &'a str,
    /// Whether every output holds a valid token.
    pub is_ready: bool,
    /// When the token on disk expires; of several outputs the first.
    pub expires: Option<UnixTime>,
    /// When that token was issued.
    pub issued: Option<UnixTime>,
    /// When its refresh is due, or was due if it fails.
    pub refresh_due: Option<UnixTime>,
    /// The exchanges.
    pub exchanges: &'a ExchangeCounts,
    /// When the subject token that was read last expires.
    pub subject_expires: Option<UnixTime>,
    /// The actions, in the order of the configuration.
    pub actions: Vec<ActionFigures>,
}

/// What the metrics show of one action of a token.
#[derive(Clone, Debug)]
pub struct ActionFigures {
    /// [`Action::label`](crate::action::Action::label).
    pub label: String,
    /// Whether it has not worked yet for the newest token.
    pub is_pending: bool,
    /// How often it failed.
    pub failures: u64,
}

/// What is counted of the exchanges of one token.
#[derive(Clone, Debug, Default)]
pub struct ExchangeCounts {
    /// The attempts that were started.
    pub attempts: u64,
    /// The attempts that failed, by code and owner. There are few, and a map costs 3 kB.
    failures: Vec<(Code, Owner, u64)>,
    /// When Dex issued a token last.
    pub last_success: Option<UnixTime>,
    /// The failed writes of outputs.
    pub write_failures: u64,
}

impl ExchangeCounts {
    /// Counts a failed attempt.
    pub fn failed(&mut self, code: Code, owner: Owner) {
        match self.failures.iter_mut().find(|known| (known.0, known.1) == (code, owner)) {
            Some((_, _, count)) => *count += 1,
            None => self.failures.push((code, owner, 1)),
        }
    }

    /// The failed attempts by code and owner.
    #[must_use]
    pub fn failures(&self) -> &[(Code, Owner, u64)] {
        &self.failures
    }
}

/// The last reload of the configuration file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reload {
    /// Whether the file was valid, and was applied.
    pub is_successful: bool,
    /// When a valid file was read last.
    pub last_success: UnixTime,
}

/// What the metrics show of the process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Process {
    /// When it started.
    pub started: UnixTime,
    /// The CPU time that it has used, in user and system mode.
    pub cpu: Duration,
    /// Its resident memory, in bytes.
    pub resident: u64,
}

/// Makes the table from its rows.
macro_rules! metrics {
    ($($name:literal, $kind:ident, [$($label:literal),*], $help:literal, $samples:expr;)*) => {
        /// Every metric, in the order of the text.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help, samples: $samples,
        },)*];
    };
}

metrics! {
    "dexsidecar_build_info", Gauge, ["version"],
        "The version of the program; the value is 1",
        |all, out| out.count(&[all.version], 1);
    "dexsidecar_token_ready", Gauge, ["token"],
        "1 if every output of the token holds a valid token, judged from the files as the command ready does without a minimum remaining validity, otherwise 0",
        |all, out| all.each(|token| out.count(&[token.name], token.is_ready.into()));
    "dexsidecar_token_expiration_timestamp_seconds", Gauge, ["token"],
        "When the token on disk expires; of several outputs the first, 0 without a token",
        |all, out| all.each(|token| out.time(&[token.name], token.expires));
    "dexsidecar_token_issued_timestamp_seconds", Gauge, ["token"],
        "When the token on disk was issued, 0 without a token",
        |all, out| all.each(|token| out.time(&[token.name], token.issued));
    "dexsidecar_token_refresh_timestamp_seconds", Gauge, ["token"],
        "When the refresh of the token is due; failed attempts do not move it",
        |all, out| all.each(|token| out.time(&[token.name], token.refresh_due));
    "dexsidecar_exchanges_total", Counter, ["token"],
        "Exchanges attempted",
        |all, out| all.each(|token| out.count(&[token.name], token.exchanges.attempts));
    "dexsidecar_exchange_failures_total", Counter, ["token", "code", "owner"],
        "Exchanges that failed, by failure code and by the owner of the failure; a series exists after its first failure",
        |all, out| all.each(|token| {
            for (code, owner, count) in token.exchanges.failures() {
                out.count(&[token.name, code.entry().name, owner.label()], *count);
            }
        });
    "dexsidecar_exchange_last_success_timestamp_seconds", Gauge, ["token"],
        "When Dex last issued a token to this process, 0 for never",
        |all, out| all.each(|token| out.time(&[token.name], token.exchanges.last_success));
    "dexsidecar_exchange_duration_seconds", Summary, [],
        "How long the requests to Dex took, from DNS lookup to last byte, failed ones included",
        |all, out| out.summary(all.exchanges_ended.0, all.exchanges_ended.1);
    "dexsidecar_subject_token_expiration_timestamp_seconds", Gauge, ["token"],
        "When the subject token that was read last expires, 0 if that is unknown",
        |all, out| all.each(|token| out.time(&[token.name], token.subject_expires));
    "dexsidecar_clock_skew_seconds", Gauge, [],
        "Dex's clock minus the clock of this node, by the Date header of the last response; of several Dex servers the largest by amount",
        |all, out| out.signed(&[], all.clock_skew);
    "dexsidecar_endpoint_certificate_expiration_timestamp_seconds", Gauge, [],
        "When the server certificate of Dex expires, as last seen; of several Dex servers the first, 0 without TLS",
        |all, out| out.time(&[], all.certificate_expires);
    "dexsidecar_output_write_failures_total", Counter, ["token"],
        "Writes of output files that failed",
        |all, out| all.each(|token| out.count(&[token.name], token.exchanges.write_failures));
    "dexsidecar_update_action_pending", Gauge, ["token", "action"],
        "1 after all outputs hold the newest token, until the action has worked for it, otherwise 0; exists only for configured actions",
        |all, out| all.each_action(|token, action| out.count(&[token, &action.label], action.is_pending.into()));
    "dexsidecar_update_action_failures_total", Counter, ["token", "action"],
        "Actions that failed; exists only for configured actions",
        |all, out| all.each_action(|token, action| out.count(&[token, &action.label], action.failures));
    "dexsidecar_config_last_reload_successful", Gauge, [],
        "1 if the configuration file was valid when it was read last, and could be applied, otherwise 0; exists only with a configuration file",
        |all, out| if let Some(reload) = all.reload { out.count(&[], reload.is_successful.into()) };
    "dexsidecar_config_last_reload_success_timestamp_seconds", Gauge, [],
        "When a configuration file was read last that could be applied; exists only with a configuration file",
        |all, out| if let Some(reload) = all.reload { out.time(&[], Some(reload.last_success)) };
    "process_start_time_seconds", Gauge, [],
        "When the process started",
        |all, out| out.time(&[], Some(all.process.started));
    "process_cpu_seconds_total", Counter, [],
        "CPU time that the process has used, in user and system mode",
        |all, out| out.seconds(&[], all.process.cpu);
    "process_resident_memory_bytes", Gauge, [],
        "Resident memory of the process",
        |all, out| out.count(&[], all.process.resident);
}

impl Snapshot<'_> {
    fn each(&self, mut add: impl FnMut(&TokenFigures<'_>)) {
        for token in &self.tokens {
            add(token);
        }
    }

    fn each_action(&self, mut add: impl FnMut(&str, &ActionFigures)) {
        for token in &self.tokens {
            for action in &token.actions {
                add(token.name, action);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            let Metric { name, kind, labels, help, .. } = metric;
            assert!(name.starts_with("dexsidecar_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            for name in labels.iter().chain([name]) {
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            }
            assert!(!help.is_empty() && !help.ends_with('.') && !help.contains(['\\', '\n']), "{name}");
        }
    }

    #[test]
    fn failures_are_counted_by_code_and_owner() {
        let mut counts = ExchangeCounts::default();
        counts.failed(Code::TimedOut, Owner::DexOperator);
        counts.failed(Code::TimedOut, Owner::Network);
        counts.failed(Code::TimedOut, Owner::DexOperator);
        assert_eq!(
            counts.failures(),
            [(Code::TimedOut, Owner::DexOperator, 2), (Code::TimedOut, Owner::Network, 1)]
        );
    }
}
