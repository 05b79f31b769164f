//! vmauth checks tokens with OIDC discovery.

use dexsidecar_e2e::consumer_page::Page;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::process::Process;
use dexsidecar_e2e::raw_http::{self, RawServer};
use dexsidecar_fetch::counterparts::{Source, VMAUTH};

use crate::world::{CA_FILE, Sidecar, World, http_status, start, transcript, until, until_expired};
use crate::{ConsumerTest, test};

pub(crate) const TESTS: &[ConsumerTest] = &[test!(vmauth_accepts_each_new_token_and_no_other, NEEDS)];

const NEEDS: &[Source] = &[Source::Go(VMAUTH)];

const URL: &str = "http://127.0.0.1:8427/";

/// Starts vmauth with this configuration, on this port, and the server behind it.
pub(crate) fn start_with(config: &str, port: u16, app: u16) -> (Process, RawServer) {
    let app = RawServer::start(&format!("127.0.0.1:{app}"), None, |_, connection| {
        connection.write_all(&raw_http::answer("200 OK", &[], "hello\n"))
    });
    let arguments = format!("-auth.config={config} -httpListenAddr=127.0.0.1:{port}");
    (start("vmauth", &prebuilt::program(&VMAUTH), &arguments, &[("SSL_CERT_FILE", CA_FILE)]), app)
}

fn vmauth_accepts_each_new_token_and_no_other(world: &World) {
    let page = Page::of("vmauth");
    let mut sidecar = Sidecar::start(&page, "/etc/dexsidecar/vmauth.yaml");
    let first = sidecar.until_another_token("");
    let _vmauth = start_with("/etc/vmauth/auth.yml", 8427, 8428);
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
