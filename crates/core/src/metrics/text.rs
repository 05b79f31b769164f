//! The Prometheus text format 0.0.4.

use std::fmt::Write as _;
use std::time::Duration;

use super::{METRICS, Metric, Snapshot};
use crate::time::UnixTime;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders every metric.
#[must_use]
pub fn render(snapshot: &Snapshot<'_>) -> String {
    let mut text = String::with_capacity(4096);
    for metric in METRICS {
        for part in ["# HELP ", metric.name, " ", metric.help, "\n# TYPE ", metric.name, " "] {
            text.push_str(part);
        }
        text.push_str(metric.kind.name());
        text.push('\n');
        (metric.samples)(snapshot, &mut Samples { text: &mut text, metric });
    }
    text
}

/// Adds samples of one metric to the text.
pub(super) struct Samples<'a> {
    text: &'a mut String,
    metric: &'static Metric,
}

impl Samples<'_> {
    /// A number. `labels` are the values of the labels of the table, in its order.
    pub(super) fn count(&mut self, labels: &[&str], count: u64) {
        self.begin("", labels);
        self.end(count);
    }

    /// A number that may be negative.
    pub(super) fn signed(&mut self, labels: &[&str], count: i64) {
        if count < 0 {
            self.begin("", labels);
            self.text.push('-');
            self.end(count.unsigned_abs());
        } else {
            self.count(labels, count.unsigned_abs());
        }
    }

    /// An instant in whole seconds.
    pub(super) fn time(&mut self, labels: &[&str], time: Option<UnixTime>) {
        self.count(labels, time.unwrap_or_default().as_duration().as_secs());
    }

    /// A span of time.
    pub(super) fn seconds(&mut self, labels: &[&str], duration: Duration) {
        self.begin("", labels);
        self.end_with_seconds(duration);
    }

    /// A summary without quantiles.
    pub(super) fn summary(&mut self, count: u64, sum: Duration) {
        self.begin("_sum", &[]);
        self.end_with_seconds(sum);
        self.begin("_count", &[]);
        self.end(count);
    }

    fn begin(&mut self, suffix: &str, labels: &[&str]) {
        debug_assert_eq!(labels.len(), self.metric.labels.len(), "{}", self.metric.name);
        self.text.push_str(self.metric.name);
        self.text.push_str(suffix);
        let mut separator = '{';
        for (name, value) in self.metric.labels.iter().zip(labels) {
            self.text.push(separator);
            self.text.push_str(name);
            self.text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
            separator = ',';
        }
        self.text.push_str(if separator == '{' { " " } else { "} " });
    }

    fn end(&mut self, count: u64) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{count}");
    }

    /// Six decimals are the resolution of a microsecond. Floating-point numbers cost 10 kB of the
    /// binary.
    fn end_with_seconds(&mut self, duration: Duration) {
        let _ = writeln!(self.text, "{}.{:06}", duration.as_secs(), duration.subsec_micros());
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    fn counts() -> ExchangeCounts {
        let mut counts = ExchangeCounts { attempts: 3, ..ExchangeCounts::default() };
        counts.failed(Code::ConnectRefused, Owner::DexOperator);
        counts
    }

    #[test]
    fn every_metric_has_a_head_and_the_samples_that_the_table_promises() {
        let counts = counts();
        let token = TokenFigures {
            name: "incus",
            is_ready: true,
            expires: Some(UnixTime::from_secs(1_800_000_000)),
            exchanges: &counts,
            actions: vec![ActionFigures { label: "http".to_owned(), is_pending: true, failures: 2 }],
            ..figures(&counts)
        };
        let snapshot = Snapshot {
            version: "1.2.3",
            tokens: vec![token],
            exchanges_ended: (2, Duration::from_micros(1_500_007)),
            clock_skew: -7,
            reload: Some(Reload { is_successful: false, last_success: UnixTime::from_secs(5) }),
            ..Snapshot::default()
        };
        let text = render(&snapshot);
        for metric in METRICS {
            let name = metric.name;
            assert!(text.contains(&format!(
                "# HELP {name} {}\n# TYPE {name} {}\n{name}",
                metric.help,
                metric.kind.name()
            )));
        }
        for line in [
            "dexsidecar_build_info{version=\"1.2.3\"} 1\n",
            "dexsidecar_token_ready{token=\"incus\"} 1\n",
            "dexsidecar_token_expiration_timestamp_seconds{token=\"incus\"} 1800000000\n",
            "dexsidecar_token_issued_timestamp_seconds{token=\"incus\"} 0\n",
            "dexsidecar_exchange_failures_total{token=\"incus\",code=\"connect_refused\",owner=\"dex_operator\"} 1\n",
            "dexsidecar_exchange_duration_seconds_sum 1.500007\ndexsidecar_exchange_duration_seconds_count 2\n",
            "dexsidecar_clock_skew_seconds -7\n",
            "dexsidecar_update_action_pending{token=\"incus\",action=\"http\"} 1\n",
            "dexsidecar_config_last_reload_successful 0\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    fn figures(counts: &ExchangeCounts) -> TokenFigures<'_> {
        TokenFigures {
            name: "",
            is_ready: false,
            expires: None,
            issued: None,
            refresh_due: None,
            exchanges: counts,
            subject_expires: None,
            actions: vec![],
        }
    }

    #[test]
    fn a_label_value_cannot_end_its_line_or_its_quotes() {
        let counts = ExchangeCounts::default();
        let token = TokenFigures { name: "a\"b\\c\nd", ..figures(&counts) };
        let text = render(&Snapshot { tokens: vec![token], ..Snapshot::default() });
        assert!(text.contains("dexsidecar_token_ready{token=\"a\\\"b\\\\c\\nd\"} 0\n"), "{text}");
        for line in text.lines() {
            assert!(
                line.starts_with('#')
                    || line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()),
                "{line}"
            );
        }
    }

    fn series(snapshot: &Snapshot<'_>) -> usize {
        render(snapshot).lines().filter(|line| !line.starts_with('#')).count()
    }

    /// One token without actions, as docs/monitoring.md says.
    #[test]
    fn one_token_has_sixteen_series_before_its_first_failure_and_a_further_one_eight() {
        let counts = ExchangeCounts::default();
        let of = |tokens: usize| {
            series(&Snapshot { tokens: vec![figures(&counts); tokens], ..Snapshot::default() })
        };
        assert_eq!((of(1), of(2) - of(1)), (16, 8));
    }

    #[test]
    fn the_pod_monitor_accepts_sixty_four_tokens_with_actions_and_failures() {
        let mut counts = counts();
        counts.failed(Code::TimedOut, Owner::Network);
        counts.failed(Code::TimedOut, Owner::DexOperator);
        let action = |label: &str| ActionFigures { label: label.to_owned(), is_pending: false, failures: 0 };
        let token = TokenFigures { actions: vec![action("exec"), action("http")], ..figures(&counts) };
        let reload = Some(Reload { is_successful: true, last_success: UnixTime::default() });
        let series = series(&Snapshot { tokens: vec![token; 64], reload, ..Snapshot::default() });
        let manifest = include_str!("../../../../deploy/monitoring/podmonitor.yaml");
        let limit = manifest.lines().find_map(|line| line.trim().strip_prefix("sampleLimit: "));
        let limit: usize = limit.and_then(|limit| limit.parse().ok()).expect("a limit");
        assert!(series < limit, "{series} of {limit}");
    }
}
