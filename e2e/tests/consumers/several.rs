//! One dexsidecar keeps tokens for several programs fresh, each for an audience of its own.

use std::fs;

use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::signing_key::claims;
use dexsidecar_fetch::counterparts::{PROMETHEUS, Source, VMAUTH};

use crate::world::{Sidecar, World, http_status, transcript, until, until_expired, write};
use crate::{ConsumerTest, prometheus, test, vmauth};

pub(crate) const TESTS: &[ConsumerTest] =
    &[test!(one_dexsidecar_serves_several_programs_with_a_token_each, NEEDS)];

const NEEDS: &[Source] = &[Source::Debian(PROMETHEUS), Source::Go(VMAUTH)];

const APP: &str = "http://app.example.com:9104/";
const VMAUTH_URL: &str = "http://127.0.0.1:8437/";

/// The tokens in the files: of curl, Prometheus and vmauth.
fn tokens() -> [String; 3] {
    ["curl.header", "prometheus", "vmauth"].map(|file| {
        let text = fs::read_to_string(format!("/var/run/secrets/dex/several/{file}")).unwrap_or_default();
        text.strip_prefix("Authorization: Bearer ").map_or_else(|| text.clone(), str::to_owned)
    })
}

fn one_dexsidecar_serves_several_programs_with_a_token_each(world: &World) {
    let page = Page::at("docs/consumers.md");
    let mut sidecar = Sidecar::start(&page, "/etc/dexsidecar/config.yaml");
    sidecar.process.until("all tokens are on disk", |_| tokens().iter().all(|token| !token.is_empty()));
    let first = tokens();
    assert_eq!(
        first.each_ref().map(|token| claims(token)["aud"].clone()),
        ["curl", "prometheus", "vmauth"].map(serde_json::Value::from),
        "each token has an audience of its own"
    );

    let scraped = world.verifier("127.0.0.1:9103", "prometheus", "up 1\n");
    let config = Page::of("prometheus").file("/etc/prometheus/prometheus.yml").replace(":9101", ":9103");
    write(
        "/etc/prometheus/several.yml",
        config.replace("dex/prometheus/token", "dex/several/prometheus").as_bytes(),
    );
    let mut prometheus = prometheus::start_with("/etc/prometheus/several.yml", 9091);
    let config = Page::of("vmauth").file("/etc/vmauth/auth.yml").replace(":8428", ":8438");
    write("/etc/vmauth/several.yml", config.as_bytes());
    let _vmauth = vmauth::start_with("/etc/vmauth/several.yml", 8437, 8438);
    let _app = world.verifier("127.0.0.1:9104", "curl", "hello\n");

    let curl = format!("curl -sS -H @/var/run/secrets/dex/several/curl.header {APP}");
    let all_use = |prometheus: &mut prometheus::Running, tokens: &[String; 3]| {
        until("vmauth accepts its token", || http_status(VMAUTH_URL, Some(&tokens[2])) == "200");
        prometheus.process.until("a scrape", |_| scraped.accepted(&tokens[1]) > 0);
        assert_eq!(transcript(&[]).quietly(&curl), "hello\n");
    };
    all_use(&mut prometheus, &first);
    // Each server refuses the tokens of the others.
    assert_eq!(http_status(APP, Some(&first[1])), "401");
    assert_eq!(http_status(VMAUTH_URL, Some(&first[0])), "401");

    let is_another = |(new, old): (&String, &String)| !new.is_empty() && new != old;
    sidecar.process.until("each token was replaced", |_| tokens().iter().zip(&first).all(is_another));
    let second = tokens();
    all_use(&mut prometheus, &second);
    first.iter().for_each(|token| until_expired(token));
    assert_eq!(transcript(&[]).quietly(&curl), "hello\n");
    assert_eq!(scraped.refusals(), [""; 0], "no scrape was refused");
}
