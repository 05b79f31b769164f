//! What docs/failures.md shows of Dex's log is what a real Dex logs.

use dexsidecar_core::failure::Code;
use dexsidecar_e2e::certificates::Authority;
use dexsidecar_e2e::control_plane::ControlPlane;
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::dex_error_table::{MALFORMED, REFUSALS, TokenRequest};
use dexsidecar_e2e::fake_api_server::{FakeApiServer, Mood};
use dexsidecar_e2e::how_to_see::how_to_see;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, report};
use serde_json::json;

/// Lines that are known from Dex's source only: its storage does not fail in memory.
const NOT_PROVOKED: [&str; 1] = ["level=ERROR msg=\"failed to get client\" err=…"];

/// What the log of every Dex of this test has.
#[derive(Default)]
struct Logs(String);

impl Logs {
    /// Takes the log of a Dex, which writes a line before it answers but is read by another thread.
    fn take(&mut self, dex: Dex, last: &str) {
        dex.until_logged(last);
        self.0 += &dex.log();
    }

    /// Starts a Dex, asks for an exchange, and takes its log.
    fn of_exchange(&mut self, issuer: &FakeApiServer, setup: &DexSetup, last: &str) {
        let dex = Dex::start(issuer, setup);
        let _ = dex.request_token(&TokenRequest::exchange_of(&issuer.token(600)));
        self.take(dex, last);
    }
}

/// What Dex logs while it answers this question: nothing, for some. `mark` is a word that no other
/// question has.
fn logged(dex: &Dex, question: &TokenRequest<'_>, mark: &str) -> String {
    let before = dex.log().len();
    let _ = dex.request_token(question);
    // Another question, which is logged for certain, ends it.
    let _ = dex.request_token(&TokenRequest::exchange_of("").with(&[("grant_type", mark)]));
    dex.until_logged(mark);
    let news = dex.log().split_off(before);
    let of_question: Vec<&str> = news.lines().take_while(|line| !line.contains(mark)).collect();
    of_question.join("\n")
}

#[test]
fn every_line_of_the_page_is_logged_by_a_real_dex() {
    let mut logs = Logs::default();
    let mut issuer = FakeApiServer::start();
    let subject = issuer.token(600);

    let dex = Dex::start(&issuer, &DexSetup::default());
    for row in MALFORMED {
        let _ = dex.request_token(&row.request(&subject));
    }
    for row in REFUSALS {
        let subject = row.subject(&issuer);
        let _ = dex.request_token(
            &TokenRequest::exchange_of(&subject).by(row.client.unwrap_or("user:")).with(row.fields),
        );
    }
    for secret in ["target:", "target:canary-wrong"] {
        let _ = dex.request_token(&TokenRequest::exchange_of(&subject).by(secret));
    }
    // Two mistakes that the sidecar makes: it trusts another CA, and speaks plain http to the port
    // for https.
    let volume = ProjectedVolume::with(&subject);
    let other_authority = Authority::new();
    let setup = || Setup::new().subject(&volume).at(&dex);
    let _ = report(&setup().set("DEXSIDECAR_CA_FILE", other_authority.file().display().to_string()));
    let _ = report(&setup().set("dex_endpoint", dex.endpoint().replace("https:", "http:")));
    dex.until_logged("EOF");
    logs.take(dex, "client sent an HTTP request to an HTTPS server");

    for connector in [
        json!({"userNameKey": null}),
        json!({"scopes": null}),
        json!({"getUserInfo": true}),
        json!({"insecureEnableGroups": true, "claimMapping": {"groups": "sub"}, "allowedGroups": ["x"]}),
    ] {
        let setup = DexSetup { connector, ..DexSetup::default() };
        logs.of_exchange(&issuer, &setup, "failed to verify subject token");
    }
    let connector = json!({"rootCAs": [other_authority.file()]});
    for setup in [
        DexSetup { connector, ..DexSetup::default() },
        DexSetup { issuer_alias: false, ..DexSetup::default() },
    ] {
        logs.of_exchange(&issuer, &setup, "failed to get connector");
    }
    issuer.serve_discovery(Mood::Refusing);
    logs.of_exchange(&issuer, &DexSetup::default(), "failed to get connector");
    issuer.serve_discovery(Mood::Well);
    let dex = Dex::start(&issuer, &DexSetup::default());
    issuer.serve_keys(Mood::Refusing);
    let _ = dex.request_token(&TokenRequest::exchange_of(&issuer.token(600)));
    logs.take(dex, "get keys failed");
    issuer.serve_keys(Mood::Well);
    issuer.stop();
    logs.0 +=
        &Dex::start_expecting_exit(&issuer, &DexSetup { mock_connectors: false, ..DexSetup::default() })
            .log();
    logs.of_exchange(&issuer, &DexSetup::default(), "failed to get connector");

    let cluster = ControlPlane::start();
    cluster.kubectl(&["delete", "clusterrolebinding", "dex-discovery"]);
    let dex = Dex::start(&cluster, &DexSetup::default());
    let _ = dex.request_token(&TokenRequest::exchange_of(&cluster.token(600)));
    logs.take(dex, "failed to get connector");

    for code in Code::ALL {
        for line in how_to_see(*code).dex_log {
            let known = line.is_in(&logs.0) || NOT_PROVOKED.contains(&line.text);
            assert!(known, "{code}: no Dex logged {}\n{}", line.text, logs.0);
        }
    }
}

/// The page leaves out nothing that Dex logs when it refuses.
#[test]
fn the_page_has_a_line_for_every_refusal_that_dex_logs() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    for (number, row) in REFUSALS.iter().enumerate() {
        let subject = row.subject(&issuer);
        let question = TokenRequest::exchange_of(&subject).by(row.client.unwrap_or("user:")).with(row.fields);
        let log = logged(&dex, &question, &format!("urn:x:{number}"));
        let code =
            Code::ALL.iter().find(|code| code.entry().name == row.code).expect("the table has the code");
        let known = how_to_see(*code).dex_log.iter().any(|line| line.is_in(&log));
        assert!(log.is_empty() || known, "{}: the page does not have\n{log}", row.name);
    }
}
