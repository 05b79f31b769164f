//! vmauth checks tokens with OIDC discovery.

use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::raw_http::{self, RawServer};
use dexsidecar_fetch::counterparts::{Source, VMAUTH};

use crate::world::{CA_FILE, Sidecar, World, http_status, start, transcript, until, until_expired};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] = &[test!(vmauth_accepts_each_new_token_and_no_other, NEEDS)];

const NEEDS: &[Source] = &[Source::Go(VMAUTH)];

const URL: &str = "http://127.0.0.1:8427/";

fn vmauth_accepts_each_new_token_and_no_other(world: &World) {
    let page = Page::of("vmauth");
    let mut sidecar = Sidecar::start(&page, "/etc/dexsidecar/vmauth.yaml");
    let first = sidecar.until_another_token("");
    let _app = RawServer::start("127.0.0.1:8428", None, |_, connection| {
        connection.write_all(&raw_http::answer("200 OK", &[], "hello\n"))
    });
    let _vmauth = start(
        "vmauth",
        &prebuilt::program(&VMAUTH),
        "-auth.config=/etc/vmauth/auth.yml -httpListenAddr=127.0.0.1:8427",
        &[("SSL_CERT_FILE", CA_FILE)],
    );
    until("vmauth has Dex's keys", || http_status(URL, Some(&world.issue("vmauth"))) == "200");

    let mut transcript = transcript(&[]);
    let with_the_file = "curl -sS -H \"Authorization: Bearer $(cat /var/run/secrets/dex/vmauth/token)\" http://127.0.0.1:8427/";
    transcript.run(with_the_file);
    page.result("answers", &world.answers("vmauth", "200", |token| http_status(URL, token)));

    sidecar.until_another_token(&first);
    until_expired(&first);
    until("the first token is refused", || http_status(URL, Some(&first)) == "401");
    transcript.meanwhile("dexsidecar refreshed the token, and vmauth refuses the first one");
    assert_eq!(transcript.run(with_the_file), "hello\n");
    page.result("transcript", &transcript.block());
}
