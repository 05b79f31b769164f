//! curl sends the header in an output with a prefix.

use dexsidecar_e2e::consumer_page::Page;

use crate::world::{Sidecar, World, http_status, transcript, until, until_expired};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] = &[test!(curl_sends_each_new_header, &[])];

fn curl_sends_each_new_header(world: &World) {
    let page = Page::of("curl");
    let _app = world.verifier("127.0.0.1:9102", "curl", "hello\n");
    let mut sidecar = Sidecar::start(&page, "/etc/dexsidecar/curl.yaml");
    let first = sidecar.until_another_token("");
    let mut transcript = transcript(&[]);
    let with_the_file = "curl -sS -H @/var/run/secrets/dex/curl/header http://app.example.com:9102/";
    let ready = "dexsidecar ready --config /etc/dexsidecar/curl.yaml > /dev/null && echo ready";
    assert_eq!(transcript.run(ready), "ready\n");
    assert_eq!(transcript.run(with_the_file), "hello\n");
    assert_eq!(transcript.run("curl -sS http://app.example.com:9102/"), "no token\n");

    sidecar.until_another_token(&first);
    let old = first.strip_prefix("Authorization: Bearer ").expect("the prefix");
    until_expired(old);
    until("the first token is refused", || http_status("http://app.example.com:9102/", Some(old)) == "401");
    transcript.meanwhile("dexsidecar refreshed the token, and the first one expired");
    assert_eq!(transcript.run(with_the_file), "hello\n");
    page.result("transcript", &transcript.block());
}
