//! The OpenTelemetry collector watches the token file, and sends the token with each export.

use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::prebuilt;
use dexsidecar_fetch::counterparts::{OTEL_COLLECTOR, Source};

use crate::world::{Sidecar, World, start, transcript, until, until_expired};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] =
    &[test!(the_otel_collector_exports_with_each_new_token, NEEDS).in_the_long_form()];

const NEEDS: &[Source] = &[Source::Go(OTEL_COLLECTOR)];

/// Sends the collector a metric. It answers before it has exported it.
const SEND: &str = r#"curl -sS -H 'Content-Type: application/json' -d '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"a","gauge":{"dataPoints":[{"asInt":"1","timeUnixNano":"1"}]}}]}]}]}' http://127.0.0.1:4318/v1/metrics"#;

fn the_otel_collector_exports_with_each_new_token(world: &World) {
    let page = Page::of("otel-collector");
    let far_side = world.verifier("127.0.0.1:4319", "otel", "{}");
    let mut sidecar = Sidecar::start(&page, "/etc/dexsidecar/otel.yaml");
    let first = sidecar.until_another_token("");
    let mut collector =
        start("otelcol", &prebuilt::program(&OTEL_COLLECTOR), "--config /etc/otelcol/config.yaml", &[]);
    let quiet = transcript(&[]);
    until("the collector listens", || quiet.quietly(SEND).contains("partialSuccess"));
    collector.until("an export with the first token", |_| far_side.accepted(&first) > 0);

    let second = sidecar.until_another_token(&first);
    collector.until("an export with the second token", |_| {
        let _ = quiet.quietly(SEND);
        far_side.accepted(&second) > 0
    });
    until_expired(&first);
    let accepted = far_side.checked().len();
    let mut transcript = transcript(&[]);
    transcript.meanwhile("dexsidecar refreshed the token, and the first one expired");
    transcript.run(SEND);
    collector.until("an export after the first token has expired", |_| far_side.checked().len() > accepted);
    assert_eq!(far_side.refusals(), [""; 0], "no export was refused");

    // The file is removed, and dexsidecar restores it. The collector does not read it again.
    std::fs::remove_file("/var/run/secrets/dex/otel/token").expect("a token file");
    sidecar.until_another_token("");
    collector.until("the collector sends an expired token", |_| {
        let _ = quiet.quietly(SEND);
        far_side.refusals().contains(&"expired")
    });
    page.result("transcript", &transcript.block());
}
