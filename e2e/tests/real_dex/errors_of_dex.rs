//! Errors of a real Dex, and mistakes on the way to it: `check` reports step, code, owner and fix,
//! and `run` goes on.

use dexsidecar_core::failure::Code;
use dexsidecar_e2e::certificates::{Authority, self_signed};
use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::dex_error_table::{REFUSALS, Refusal};
use dexsidecar_e2e::fake_api_server::{FakeApiServer, Flaw};
use dexsidecar_e2e::log_events::select;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, failed_step, report};
use dexsidecar_fetch::counterparts::FAKETIME;
use serde_json::{Value, json};

/// A sidecar whose exchange Dex refuses, and the volume with its subject token.
fn refused(row: &Refusal, issuer: &FakeApiServer, dex: &Dex) -> (Setup, ProjectedVolume) {
    let volume = ProjectedVolume::with(&row.subject(issuer));
    let mut setup = Setup::new().subject(&volume).at(dex);
    for (name, value) in row.fields {
        setup = setup.set(&format!("dex_{name}"), *value);
        if *name == "subject_token" {
            setup = setup.unset("dex_file_subject_token");
        }
    }
    if let Some(client) = row.client {
        setup = setup.set("dex_basic_auth", client);
    }
    (setup, volume)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The report's first failed step is this one, with this code and owner and with a fix. The steps
/// before it are `ok`, those after it `skipped`.
fn assert_fails(what: &str, report: &Value, step: &str, code: &str, owner: &str) {
    let steps = report["steps"].as_array().expect("a list of steps");
    let at = steps.iter().position(|each| each["step"] == step).expect("the report has this step");
    let failed = &steps[at];
    assert_eq!((&report["ok"], &failed["status"]), (&json!(false), &json!("fail")), "{what}: {report:#}");
    assert_eq!((&failed["code"], &failed["owner"]), (&json!(code), &json!(owner)), "{what}: {failed:#}");
    assert!(!text(&failed["message"]).is_empty() && !text(&failed["fix"]).is_empty(), "{what}: {failed:#}");
    assert!(steps[..at].iter().all(|each| each["status"] == "ok"), "{what}: {report:#}");
    assert!(steps[at + 1..].iter().all(|each| each["status"] == "skipped"), "{what}: {report:#}");
}

/// The owner of a failure in the table of core.
fn owner(code: &str) -> &'static str {
    let code = Code::ALL.iter().find(|each| each.entry().name == code).expect("the table has the code");
    code.entry().owner.label()
}

#[test]
fn check_reports_the_code_of_every_error_of_dex() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let sound = report(&Setup::new().subject(&volume).at(&dex));
    assert_eq!(sound["ok"], true, "{sound:#}");
    assert_eq!(sound["steps"].as_array().unwrap().len(), 8);
    for row in REFUSALS {
        let (setup, _volume) = refused(row, &issuer, &dex);
        let report = report(&setup);
        // Dex's answer leaves these to its operator, but the request shows what is wrong.
        let is_pod = ["no grant type", "no connector", "an expired subject token"].contains(&row.name);
        let owner = if is_pod { "pod" } else { owner(row.code) };
        assert_fails(row.name, &report, "exchange", row.code, owner);
        let failed = failed_step(&report);
        assert!(text(&failed["message"]).contains(row.response.error), "{}: {failed:#}", row.name);
    }
}

#[test]
fn run_goes_on_after_every_error_of_dex() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    // An expired subject token is not sent: outages.rs.
    let sent = REFUSALS.iter().filter(|row| row.flaw != Some(Flaw::Expired));
    let mut sidecars: Vec<_> = sent
        .map(|row| {
            let (setup, volume) = refused(row, &issuer, &dex);
            (row, setup.arguments("--log-level debug").run(), volume)
        })
        .collect();
    for (row, sidecar, _volume) in &mut sidecars {
        let failed = format!("attempt_failed step=exchange code={}", row.code);
        sidecar.process.until_logged(&failed, 3);
        let log = sidecar.process.output();
        assert_eq!(
            sidecar.process.logged("attempt_failed level=error"),
            1,
            "{}: logged once\n{log}",
            row.name
        );
        assert_eq!(sidecar.process.logged(&format!("{failed} level=error")), 1, "{}\n{log}", row.name);
        let first = &select(&log, "attempt_failed")[0];
        assert_eq!(first["level"], "error", "{}: {first:#}", row.name);
        assert!(!text(&first["owner"]).is_empty() && !text(&first["fix"]).is_empty(), "{first:#}");
        assert!(sidecar.process.is_running() && sidecar.token().is_none(), "{}", row.name);
    }
}

#[test]
fn check_reports_step_code_and_owner_of_each_broken_setup() {
    let mut issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let valid = || Setup::new().subject(&volume).at(&dex);
    let port = dex.endpoint().replace("https://127.0.0.1:", "");
    let expired = ProjectedVolume::with(&issuer.token(-60));
    let other_authority = Authority::new();
    let empty = ProjectedVolume::with("");
    let broken = [
        ("an invalid setting", valid().set("dex_refresh_before", "10"), "settings", "wrong_settings", "pod"),
        (
            "a missing subject token",
            valid().set("dex_file_subject_token", "/does/not/exist"),
            "subject_token",
            "subject_token_missing",
            "pod",
        ),
        (
            "a directory as the subject token",
            valid().set("dex_file_subject_token", "/proc"),
            "subject_token",
            "subject_token_not_a_file",
            "pod",
        ),
        ("an empty subject token", valid().subject(&empty), "subject_token", "subject_token_empty", "pod"),
        (
            "a port without a server",
            valid().set("dex_endpoint", "https://127.0.0.1:1/token"),
            "tcp",
            "connect_refused",
            "dex_operator",
        ),
        (
            "https to the port for http",
            valid().set("dex_endpoint", dex.http_endpoint().replace("http:", "https:")),
            "tls",
            "tls_not_spoken",
            "pod",
        ),
        (
            "a missing CA file",
            valid().set("DEXSIDECAR_CA_FILE", "/does/not/exist"),
            "tls",
            "ca_file_unreadable",
            "pod",
        ),
        (
            "another CA",
            valid().set("DEXSIDECAR_CA_FILE", other_authority.file().to_str().unwrap()),
            "tls",
            "certificate_untrusted",
            "pod",
        ),
        (
            "a wrong path",
            valid().set("dex_endpoint", dex.endpoint() + "/"),
            "exchange",
            "endpoint_not_found",
            "pod",
        ),
        (
            "a wrong client secret",
            valid().set("dex_basic_auth", "private+app:canary"),
            "exchange",
            "invalid_client",
            "dex_config",
        ),
        (
            "an unknown connector",
            valid().set("dex_connector_id", "kubernets"),
            "exchange",
            "connector_unknown",
            "dex_config",
        ),
        ("an expired subject token", valid().subject(&expired), "exchange", "access_denied", "pod"),
        (
            "a missing directory for the token file",
            valid().set("dex_access_token_file", "/does/not/exist/token"),
            "output",
            "output_folder_missing",
            "pod",
        ),
        (
            "a directory as the token file",
            valid().set("dex_access_token_file", "/usr"),
            "output",
            "output_is_a_folder",
            "pod",
        ),
    ];
    for (what, setup, step, code, owner) in broken {
        assert_fails(what, &report(&setup), step, code, owner);
    }
    // Whether the machine has a DNS server that denies the name decides between two codes.
    let unknown = report(&valid().set("dex_endpoint", "https://dex.invalid/token"));
    let code = text(&failed_step(&unknown)["code"]);
    assert!(["name_not_found", "name_lookup_failed"].contains(&code.as_str()), "{unknown:#}");
    assert_fails("an unknown host name", &unknown, "dns", &code, owner(&code));
    // Dex responds and resets the connection, in either order. Both codes are explained.
    let plain = failed_step(&report(&valid().set("dex_endpoint", format!("http://127.0.0.1:{port}"))));
    let explained = format!("{}{}", plain["fix"], plain["notes"]);
    assert!(explained.contains("https"), "{plain:#}");
    let other_cluster = FakeApiServer::start();
    let of_another_cluster = ProjectedVolume::with(&other_cluster.token(3_600));
    let checked = report(&valid().subject(&of_another_cluster));
    assert_fails("a token of another cluster", &checked, "exchange", "access_denied", "dex_config");
    // Dex has the keys of earlier tokens in memory and cannot fetch the new one.
    issuer.rotate_key();
    let new = ProjectedVolume::with(&issuer.token(3_600));
    issuer.stop();
    let checked = report(&valid().subject(&new));
    assert_fails("an unreachable issuer", &checked, "exchange", "access_denied", "dex_config");
}

#[test]
fn check_reports_each_mistake_in_the_configuration_of_dex() {
    let mut issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup { issuer_alias: false, ..DexSetup::default() });
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    // Without issuerAlias Dex cannot open the connector, since discovery names another issuer.
    let checked = report(&Setup::new().subject(&volume).at(&dex));
    assert_fails("no issuerAlias", &checked, "exchange", "connector_unknown", "dex_config");
    drop(dex);

    let dex = Dex::start(&issuer, &DexSetup { token_exchange: false, ..DexSetup::default() });
    let checked = report(&Setup::new().subject(&volume).at(&dex));
    assert_fails("no token exchange", &checked, "exchange", "unsupported_grant_type", "dex_config");
    let failed = failed_step(&checked);
    assert!(text(&failed["notes"][0]).contains("oauth2.grantTypes"), "{failed:#}");
    drop(dex);

    issuer.stop();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let checked = report(&Setup::new().subject(&volume).at(&dex));
    assert_fails("an unreachable issuer", &checked, "exchange", "connector_unknown", "dex_config");
}

/// Dex starts if it can open at least one of its connectors.
#[test]
fn the_fix_says_that_dex_exits_if_it_can_open_no_connector() {
    let mut issuer = FakeApiServer::start();
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    issuer.stop();
    let mut dex =
        Dex::start_expecting_exit(&issuer, &DexSetup { mock_connectors: false, ..DexSetup::default() });
    assert!(dex.log().contains("failed to open all connectors"), "{}", dex.log());
    let checked = report(&Setup::new().subject(&volume).at(&dex));
    assert_fails("Dex has exited", &checked, "tcp", "connect_refused", "dex_operator");
    assert!(text(&failed_step(&checked)["fix"]).contains("cannot open a connector"), "{checked:#}");
    issuer.resume();
    dex.resume();
    assert_eq!(report(&Setup::new().subject(&volume).at(&dex))["ok"], true);
}

#[test]
fn certificates_are_accepted_and_refused_as_by_go_and_curl() {
    let issuer = FakeApiServer::start();
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let authority = Authority::new();
    let ca = authority.file();
    let directory = tempfile::tempdir().unwrap();
    let [own, old, other] = ["own", "old", "other"].map(|name| directory.path().join(name));
    for path in [&own, &old, &other] {
        std::fs::create_dir(path).unwrap();
    }
    let own = self_signed(&own, &["localhost", "127.0.0.1"], false);
    let old = self_signed(&old, &["localhost", "127.0.0.1"], true);
    let other = self_signed(&other, &["other.test"], false);
    for (what, certificate, trusted, code) in [
        ("a valid one", authority.server(&[]), &ca, None),
        ("an expired one", authority.expired(), &ca, Some("certificate_expired")),
        ("one that is not valid yet", authority.not_yet_valid(), &ca, Some("certificate_not_yet_valid")),
        ("one for another name", authority.wrong_name(), &ca, Some("certificate_wrong_name")),
        ("a trusted self-signed one", own.clone(), &own.certificate, None),
        ("an untrusted self-signed one", own.clone(), &ca, Some("certificate_")),
        ("an expired self-signed one", old.clone(), &old.certificate, Some("certificate_expired")),
        (
            "a self-signed one for another name",
            other.clone(),
            &other.certificate,
            Some("certificate_wrong_name"),
        ),
    ] {
        let dex = Dex::start(&issuer, &DexSetup { certificate: Some(certificate), ..DexSetup::default() });
        let setup =
            Setup::new().subject(&volume).at(&dex).set("DEXSIDECAR_CA_FILE", trusted.to_str().unwrap());
        let report = report(&setup);
        match code {
            None => assert_eq!(report["ok"], true, "{what}: {report:#}"),
            Some(code) => {
                let failed = failed_step(&report);
                assert_eq!(failed["step"], "tls", "{what}: {report:#}");
                assert!(text(&failed["code"]).starts_with(code), "{what}: {report:#}");
            }
        }
        // The system's CAs are judged in the same way.
        let system = setup
            .unset("DEXSIDECAR_CA_FILE")
            .set("SSL_CERT_FILE", trusted.to_str().unwrap())
            .set("SSL_CERT_DIR", "/does/not/exist");
        assert_eq!(dexsidecar_e2e::sidecar::report(&system)["ok"], code.is_none(), "{what}");
    }
}

/// With a clock in 1970 every certificate is not valid yet.
#[test]
fn f016_the_fix_for_a_certificate_not_yet_valid_names_the_clock_of_the_node() {
    let issuer = FakeApiServer::start();
    let authority = Authority::new();
    let dex = Dex::start(
        &issuer,
        &DexSetup { certificate: Some(authority.valid_since_2020()), ..DexSetup::default() },
    );
    let volume = ProjectedVolume::with(&issuer.token(600));
    let library = prebuilt::packages(&FAKETIME).join("usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1");
    let setup = Setup::new()
        .subject(&volume)
        .at(&dex)
        .set("DEXSIDECAR_CA_FILE", authority.file().to_str().expect("UTF-8"))
        .set("LD_PRELOAD", library.to_str().expect("UTF-8"))
        .set("FAKETIME", "@1970-01-02 00:00:00");
    let failed = failed_step(&report(&setup));
    assert_eq!(failed["code"], "certificate_not_yet_valid", "{failed:#}");
    assert!(text(&failed["fix"]).contains("this node's clock"), "{failed:#}");
    assert!(text(&failed["message"]).contains("this node's clock: 1970-01-02"), "{failed:#}");
}
