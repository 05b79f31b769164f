//! docs/metrics.md is generated from the table of metrics.

use dexsidecar_core::metrics::METRICS;

use crate::generated;

const HEAD: &str = "\
# Metrics

Generated from the table of metrics: `cargo xtask docs`. How to scrape them, alerts and a dashboard:
[monitoring.md](monitoring.md).

`dexsidecar run --listen :9090` serves them at `/metrics`, in the Prometheus text format 0.0.4. The page is rendered when it
is requested. Nothing of a token is in it.

- **Labels.** `token` is the name of the token in the configuration file, and `default` without such a file. `code` is a
  code of [failures.md](failures.md). `owner` says who can fix the failure: `pod`, `network`, `dex_config`, `dex_operator`
  or `cluster`. `action` is the kind of an action, with a number from the second of its kind on: `exec`, `exec-2`.
- **Instants** are Unix times in whole seconds.
- **Series exist from the start**, with the value 0 where there is nothing to show yet. The series of
  `dexsidecar_exchange_failures_total` are the exception: each exists after its first failure. So write
  `sum(…) or vector(0)` where a query needs a number. That works without `by` only: `vector(0)` has no labels.
- **Counters start at 0 when the process starts.** A reload of the configuration keeps them.

| metric | type | labels | meaning |
|---|---|---|---|
";

fn page() -> String {
    let mut text = HEAD.to_owned();
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(", ") };
        text += &format!("| `{}` | {} | {labels} | {} |\n", metric.name, metric.kind.name(), metric.help);
    }
    text
}

#[test]
fn the_metrics_page_is_up_to_date() {
    generated::page("docs/metrics.md", &page());
}
