//! Prometheus reads the token file at each scrape.

use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::process::Process;
use dexsidecar_fetch::counterparts::{PROMETHEUS, Source};
use tempfile::TempDir;

use crate::world::{Sidecar, World, install, start, transcript, until, until_expired};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] = &[test!(prometheus_scrapes_with_each_new_token, NEEDS)];

const NEEDS: &[Source] = &[Source::Debian(PROMETHEUS)];

/// A Prometheus with its data.
pub(crate) struct Running {
    pub(crate) process: Process,
    _data: TempDir,
}

/// Starts Prometheus with this configuration, on this port.
pub(crate) fn start_with(config: &str, port: u16) -> Running {
    let program = prebuilt::packages(&PROMETHEUS).join("usr/bin/prometheus");
    let data = tempfile::tempdir().expect("a temporary directory");
    let path = data.path().display();
    let arguments =
        format!("--config.file={config} --web.listen-address=127.0.0.1:{port} --storage.tsdb.path={path}");
    Running { process: start("prometheus", &program, &arguments, &[]), _data: data }
}

fn prometheus_scrapes_with_each_new_token(world: &World) {
    let page = Page::of("prometheus");
    let app = world.verifier("127.0.0.1:9101", "prometheus", "authenticated_scrapes 1\n");
    let mut sidecar = Sidecar::start(&page, "/etc/dexsidecar/prometheus.yaml");
    let first = sidecar.until_another_token("");
    install("promtool", &prebuilt::packages(&PROMETHEUS).join("usr/bin/promtool"));
    let mut transcript = transcript(&[]);
    transcript.run("promtool check config /etc/prometheus/prometheus.yml");

    let mut prometheus = start_with("/etc/prometheus/prometheus.yml", 9090);
    prometheus.process.until("a scrape with the first token", |_| app.accepted(&first) > 0);
    let health = "curl -sS http://127.0.0.1:9090/api/v1/targets | grep -o '\"health\":\"[a-z]*\"'";
    until("the scrape is shown", || transcript.quietly(health).contains("up"));
    transcript.run(health);
    let value = "curl -sS 'http://127.0.0.1:9090/api/v1/query?query=authenticated_scrapes' | grep -o '\"1\"'";
    until("the sample is shown", || transcript.quietly(value).contains('1'));

    let second = sidecar.until_another_token(&first);
    prometheus.process.until("a scrape with the second token", |_| app.accepted(&second) > 0);
    until_expired(&first);
    let scrapes = app.checked().len();
    prometheus.process.until("a scrape after the first token has expired", |_| app.checked().len() > scrapes);
    transcript.meanwhile("dexsidecar refreshed the token, and the first one expired");
    transcript.run(health);
    assert_eq!(app.refusals(), [""; 0], "no scrape was refused");
    page.result("transcript", &transcript.block());
}
