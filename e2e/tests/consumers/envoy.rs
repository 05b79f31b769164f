//! Envoy checks tokens with its filter `jwt_authn`.

use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_fetch::counterparts::{ENVOY, Source};

use crate::world::{Sidecar, World, http_status, start, transcript, until, until_expired};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] = &[test!(envoy_accepts_each_new_token_and_no_other, NEEDS)];

const NEEDS: &[Source] = &[Source::Wheel(ENVOY)];

const URL: &str = "http://127.0.0.1:10000/";

fn envoy_accepts_each_new_token_and_no_other(world: &World) {
    let page = Page::of("envoy");
    let mut sidecar = Sidecar::start(&page, "/etc/dexsidecar/envoy.yaml");
    let program = ENVOY.unpacked().expect("it is in the cache");
    let _envoy =
        start("envoy", &program, "-c /etc/envoy/envoy.yaml --concurrency 1 --use-dynamic-base-id", &[]);
    let first = sidecar.until_another_token("");
    until("Envoy has Dex's keys", || http_status(URL, Some(&world.issue("envoy"))) == "200");

    let mut transcript = transcript(&[]);
    let with_the_file = "curl -sS -H \"Authorization: Bearer $(cat /var/run/secrets/dex/envoy/token)\" http://127.0.0.1:10000/";
    transcript.run(with_the_file);
    transcript.run("curl -sS http://127.0.0.1:10000/");
    page.result("answers", &world.answers("envoy", "200", |token| http_status(URL, token)));

    let second = sidecar.until_another_token(&first);
    until_expired(&first);
    until("the first token is refused", || http_status(URL, Some(&first)) == "401");
    transcript.meanwhile("dexsidecar refreshed the token, and Envoy refuses the first one");
    assert_eq!(transcript.run(with_the_file), "hello\n", "with another token than {} bytes", second.len());
    page.result("transcript", &transcript.block());
}
