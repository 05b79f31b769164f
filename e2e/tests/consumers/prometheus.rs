//! Prometheus reads the token file at each scrape.

use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::prebuilt;
use dexsidecar_fetch::counterparts::{PROMETHEUS, Source};

use crate::world::{Sidecar, World, install, start, transcript, until, until_expired};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] = &[test!(prometheus_scrapes_with_each_new_token, NEEDS)];

const NEEDS: &[Source] = &[Source::Debian(PROMETHEUS)];

fn prometheus_scrapes_with_each_new_token(world: &World) {
    let page = Page::of("prometheus");
    let bin = prebuilt::packages(&PROMETHEUS).join("usr/bin");
    let app = world.verifier("127.0.0.1:9101", "prometheus", "authenticated_scrapes 1\n");
    let mut sidecar = Sidecar::start(&page, "/etc/dexsidecar/prometheus.yaml");
    let first = sidecar.until_another_token("");
    install("promtool", &bin.join("promtool"));
    let mut transcript = transcript(&[]);
    transcript.run("promtool check config /etc/prometheus/prometheus.yml");

    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut prometheus = start(
        "prometheus",
        &bin.join("prometheus"),
        &format!(
            "--config.file=/etc/prometheus/prometheus.yml --web.listen-address=127.0.0.1:9090 --storage.tsdb.path={}",
            directory.path().display()
        ),
        &[],
    );
    prometheus.until("a scrape with the first token", |_| app.accepted(&first) > 0);
    let health = "curl -sS http://127.0.0.1:9090/api/v1/targets | grep -o '\"health\":\"[a-z]*\"'";
    until("the scrape is shown", || transcript.quietly(health).contains("up"));
    transcript.run(health);
    let value = "curl -sS 'http://127.0.0.1:9090/api/v1/query?query=authenticated_scrapes' | grep -o '\"1\"'";
    until("the sample is shown", || transcript.quietly(value).contains('1'));

    let second = sidecar.until_another_token(&first);
    prometheus.until("a scrape with the second token", |_| app.accepted(&second) > 0);
    until_expired(&first);
    let scrapes = app.checked().len();
    prometheus.until("a scrape after the first token has expired", |_| app.checked().len() > scrapes);
    transcript.meanwhile("dexsidecar refreshed the token, and the first one expired");
    transcript.run(health);
    assert_eq!(app.refusals(), [""; 0], "no scrape was refused");
    page.result("transcript", &transcript.block());
}
