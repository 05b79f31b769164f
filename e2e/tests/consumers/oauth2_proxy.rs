//! oauth2-proxy checks Bearer tokens in front of a server.

use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::raw_http::{self, RawServer};
use dexsidecar_fetch::counterparts::{OAUTH2_PROXY, Source};

use crate::world::{CA_FILE, Sidecar, World, http_status, start, transcript, until, until_expired};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] =
    &[test!(oauth2_proxy_accepts_each_new_token_and_no_other, NEEDS).in_the_long_form()];

const NEEDS: &[Source] = &[Source::Go(OAUTH2_PROXY)];

const URL: &str = "http://127.0.0.1:4180/";

fn oauth2_proxy_accepts_each_new_token_and_no_other(world: &World) {
    let page = Page::of("oauth2-proxy");
    let mut sidecar = Sidecar::start(&page, "/etc/dexsidecar/oauth2-proxy.yaml");
    let first = sidecar.until_another_token("");
    let _app = RawServer::start("127.0.0.1:4181", None, |_, connection| {
        connection.write_all(&raw_http::answer("200 OK", &[], "hello\n"))
    });
    let _proxy = start(
        "oauth2-proxy",
        &prebuilt::program(&OAUTH2_PROXY),
        "--config /etc/oauth2-proxy/oauth2-proxy.cfg",
        &[("SSL_CERT_FILE", CA_FILE)],
    );
    until("oauth2-proxy has Dex's keys", || http_status(URL, Some(&world.issue("oauth2-proxy"))) == "200");

    let mut transcript = transcript(&[]);
    let with_the_file = "curl -sS -H \"Authorization: Bearer $(cat /var/run/secrets/dex/oauth2-proxy/token)\" http://127.0.0.1:4180/";
    transcript.run(with_the_file);
    page.result("answers", &world.answers("oauth2-proxy", "200", |token| http_status(URL, token)));

    sidecar.until_another_token(&first);
    until_expired(&first);
    until("the first token is refused", || http_status(URL, Some(&first)) == "401");
    transcript.meanwhile("dexsidecar refreshed the token, and oauth2-proxy refuses the first one");
    assert_eq!(transcript.run(with_the_file), "hello\n");
    page.result("transcript", &transcript.block());
}
