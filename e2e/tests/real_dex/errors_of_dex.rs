//! Every refusal of Dex, through the program: `check` names it, its cause and its cure; `run` never ends for it.

use dexsidecar_e2e::certificates::{Authority, self_signed};
use dexsidecar_e2e::dex::{Dex, Setup as DexSetup};
use dexsidecar_e2e::dex_error_table::{REFUSALS, Refusal};
use dexsidecar_e2e::issuer::{Flaw, Issuer};
use dexsidecar_e2e::log_events::events;
use dexsidecar_e2e::prebuilt;
use dexsidecar_e2e::sidecar::{Setup, failed_step, report};
use dexsidecar_e2e::volume::Volume;
use dexsidecar_fetch::counterparts::FAKETIME;
use serde_json::Value;

/// A sidecar that provokes a row, and the volume it reads.
fn provoked(row: &Refusal, issuer: &Issuer, dex: &Dex) -> (Setup, Volume) {
    let volume = Volume::with(&row.subject(issuer));
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

#[test]
fn check_names_every_row_of_the_table() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = Volume::with(&issuer.token(3_600));
    let sound = report(&Setup::new().subject(&volume).at(&dex));
    assert_eq!(sound["ok"], true, "{sound:#}");
    assert_eq!(sound["steps"].as_array().unwrap().len(), 8);
    for row in REFUSALS {
        let (setup, _volume) = provoked(row, &issuer, &dex);
        let broken = failed_step(&report(&setup));
        assert_eq!(broken["step"], "exchange", "{}: {broken:#}", row.name);
        assert_eq!(broken["code"], row.code, "{}: {broken:#}", row.name);
        assert!(text(&broken["message"]).contains(row.told.error), "{}: {broken:#}", row.name);
        assert!(!text(&broken["owner"]).is_empty() && !text(&broken["fix"]).is_empty());
    }
}

#[test]
fn run_goes_on_whatever_dex_answers() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    // A subject token that has expired is not sent at all: outages.rs.
    let sent = REFUSALS.iter().filter(|row| row.flaw != Some(Flaw::Expired));
    let mut sidecars: Vec<_> = sent
        .map(|row| {
            let (setup, volume) = provoked(row, &issuer, &dex);
            (row, setup.arguments("--log-level debug").run(), volume)
        })
        .collect();
    for (row, sidecar, _volume) in &mut sidecars {
        let failed = format!("attempt_failed step=exchange code={}", row.code);
        sidecar.process.until_logged(&failed, 3);
        let log = sidecar.process.output();
        assert_eq!(sidecar.process.logged("attempt_failed level=error"), 1, "{}: once\n{log}", row.name);
        assert_eq!(sidecar.process.logged(&format!("{failed} level=error")), 1, "{}\n{log}", row.name);
        let first = &events(&log, "attempt_failed")[0];
        assert_eq!(first["level"], "error", "{}: {first:#}", row.name);
        assert!(!text(&first["owner"]).is_empty() && !text(&first["fix"]).is_empty(), "{first:#}");
        assert!(sidecar.process.runs() && sidecar.token().is_none(), "{}", row.name);
    }
}

#[test]
fn check_names_what_is_wrong_before_the_exchange() {
    let mut issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = Volume::with(&issuer.token(3_600));
    let good = || Setup::new().subject(&volume).at(&dex);
    let port = dex.endpoint().replace("https://127.0.0.1:", "");
    let expired = Volume::with(&issuer.token(-60));
    let stranger = Authority::new();
    let empty = Volume::with("");
    for (what, setup, rung, code) in [
        ("a wrong path", good().set("dex_endpoint", dex.endpoint() + "/"), "exchange", "endpoint_not_found"),
        (
            "https to the http port",
            good().set("dex_endpoint", dex.plain_endpoint().replace("http:", "https:")),
            "tls",
            "tls_not_spoken",
        ),
        ("no CA file", good().set("DEXSIDECAR_CA_FILE", "/does/not/exist"), "tls", "ca_file_unreadable"),
        (
            "another CA",
            good().set("DEXSIDECAR_CA_FILE", stranger.file().to_str().unwrap()),
            "tls",
            "certificate_untrusted",
        ),
        (
            "no such file",
            good().set("dex_file_subject_token", "/does/not/exist"),
            "subject_token",
            "subject_token_missing",
        ),
        (
            "a folder",
            good().set("dex_file_subject_token", "/proc"),
            "subject_token",
            "subject_token_not_a_file",
        ),
        ("an empty file", good().subject(&empty), "subject_token", "subject_token_empty"),
        ("an expired subject", good().subject(&expired), "exchange", "access_denied"),
        ("nothing there", good().set("dex_endpoint", "https://127.0.0.1:1/token"), "tcp", "connect_refused"),
        ("no such name", good().set("dex_endpoint", "https://dex.invalid/token"), "dns", "name_"),
        (
            "no folder",
            good().set("dex_access_token_file", "/does/not/exist/token"),
            "output",
            "output_folder_missing",
        ),
        (
            "an output that is a folder",
            good().set("dex_access_token_file", "/usr"),
            "output",
            "output_is_a_folder",
        ),
        ("wrong settings", good().set("dex_refresh_before", "10"), "settings", "wrong_settings"),
    ] {
        let broken = failed_step(&report(&setup));
        assert_eq!(broken["step"], rung, "{what}: {broken:#}");
        assert!(text(&broken["code"]).starts_with(code), "{what}: {broken:#}");
    }
    // Dex answers and resets the connection; which of them is seen is chance. Both are explained.
    let plain = failed_step(&report(&good().set("dex_endpoint", format!("http://127.0.0.1:{port}"))));
    let explained = format!("{}{}", plain["fix"], plain["notes"]);
    assert!(explained.contains("https"), "{plain:#}");
    let broken_by = |setup: Setup| text(&failed_step(&report(&setup))["code"]);
    // Another cluster's token.
    let stranger = Issuer::start();
    assert_eq!(broken_by(good().subject(&Volume::with(&stranger.token(3_600)))), "access_denied");
    // The issuer is away: Dex has its keys in memory for the tokens of before, and cannot fetch those of a new one.
    issuer.rotate_key();
    let new = issuer.token(3_600);
    issuer.stop();
    assert_eq!(broken_by(good().subject(&Volume::with(&new))), "access_denied");
}

#[test]
fn check_names_what_is_wrong_in_dex_s_configuration() {
    let mut issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup { alias: false, ..DexSetup::default() });
    let volume = Volume::with(&issuer.token(3_600));
    let setup = Setup::new().subject(&volume).at(&dex);
    // Without issuerAlias Dex cannot open the connector: discovery names another issuer.
    assert_eq!(failed_step(&report(&setup))["code"], "connector_unknown");
    drop(dex);

    let dex = Dex::start(&issuer, &DexSetup { exchange: false, ..DexSetup::default() });
    let setup = Setup::new().subject(&volume).at(&dex);
    let told = failed_step(&report(&setup));
    assert_eq!(told["code"], "unsupported_grant_type");
    assert!(text(&told["notes"][0]).contains("oauth2.grantTypes"), "{told:#}");
    drop(dex);

    issuer.stop();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let setup = Setup::new().subject(&volume).at(&dex);
    assert_eq!(failed_step(&report(&setup))["code"], "connector_unknown");
}

/// Dex starts without a connector that it cannot open, unless it has no other one.
#[test]
fn a_dex_that_can_open_no_connector_exits_and_the_hint_says_so() {
    let mut issuer = Issuer::start();
    let volume = Volume::with(&issuer.token(3_600));
    issuer.stop();
    let mut dex = Dex::start_expecting_exit(&issuer, &DexSetup { mocks: false, ..DexSetup::default() });
    assert!(dex.log().contains("failed to open all connectors"), "{}", dex.log());
    let told = failed_step(&report(&Setup::new().subject(&volume).at(&dex)));
    assert_eq!(told["code"], "connect_refused", "{told:#}");
    assert!(text(&told["fix"]).contains("cannot open a connector"), "{told:#}");
    issuer.resume();
    dex.resume();
    assert_eq!(report(&Setup::new().subject(&volume).at(&dex))["ok"], true);
}

#[test]
fn certificates_are_judged_as_go_and_curl_judge_them() {
    let issuer = Issuer::start();
    let volume = Volume::with(&issuer.token(3_600));
    let authority = Authority::new();
    let ca = authority.file();
    let folder = tempfile::tempdir().unwrap();
    let (own, old, other) =
        (folder.path().join("own"), folder.path().join("old"), folder.path().join("other"));
    for place in [&own, &old, &other] {
        std::fs::create_dir(place).unwrap();
    }
    let own = self_signed(&own, &["localhost", "127.0.0.1"], false);
    let old = self_signed(&old, &["localhost", "127.0.0.1"], true);
    let other = self_signed(&other, &["other.test"], false);
    for (what, certificate, trusted, code) in [
        ("a good one", authority.server(&[]), &ca, None),
        ("an expired one", authority.expired(), &ca, Some("certificate_expired")),
        ("one from the future", authority.not_yet_valid(), &ca, Some("certificate_not_yet_valid")),
        ("another name", authority.wrong_name(), &ca, Some("certificate_wrong_name")),
        ("a self-signed one that is trusted itself", own.clone(), &own.certificate, None),
        ("a self-signed one that is not", own.clone(), &ca, Some("certificate_")),
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
                let broken = failed_step(&report);
                assert_eq!(broken["step"], "tls", "{what}: {report:#}");
                assert!(text(&broken["code"]).starts_with(code), "{what}: {report:#}");
            }
        }
        // The same by the system's own list.
        let system = setup
            .unset("DEXSIDECAR_CA_FILE")
            .set("SSL_CERT_FILE", trusted.to_str().unwrap())
            .set("SSL_CERT_DIR", "/does/not/exist");
        assert_eq!(dexsidecar_e2e::sidecar::report(&system)["ok"], code.is_none(), "{what}");
    }
}

/// A node that boots in 1970: every certificate is of the future, and the hint says where to look.
#[test]
fn f016_a_wrong_clock_of_this_node_is_suspected() {
    let issuer = Issuer::start();
    let authority = Authority::new();
    let dex = Dex::start(&issuer, &DexSetup { certificate: Some(authority.dated()), ..DexSetup::default() });
    let volume = Volume::with(&issuer.token(600));
    let library = prebuilt::packages(&FAKETIME).join("usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1");
    let setup = Setup::new()
        .subject(&volume)
        .at(&dex)
        .set("DEXSIDECAR_CA_FILE", authority.file().to_str().expect("UTF-8"))
        .set("LD_PRELOAD", library.to_str().expect("UTF-8"))
        .set("FAKETIME", "@1970-01-02 00:00:00");
    let told = failed_step(&report(&setup));
    assert_eq!(told["code"], "certificate_not_yet_valid", "{told:#}");
    assert!(text(&told["fix"]).contains("this node's clock"), "{told:#}");
    assert!(text(&told["message"]).contains("this node's clock: 1970-01-02"), "{told:#}");
}
