//! The manifest in the original's README works with another image, and here with other paths and
//! endpoint.

use std::fs;

use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::doc_manifests;
use dexsidecar_e2e::fake_api_server::FakeApiServer;
use dexsidecar_e2e::fake_dex::FakeDex;
use dexsidecar_e2e::log_events::select;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::signing_key::claims;
use serde_json::Value;

/// The environment variables of the sidecar in the original's manifest, in order.
fn variables() -> Vec<(String, String)> {
    let manifest = doc_manifests::original_deployment();
    let sidecar = &manifest["spec"]["template"]["spec"]["initContainers"][0];
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let env = sidecar["env"].as_array().expect("a list");
    env.iter().map(|entry| (text(&entry["name"]), text(&entry["value"]))).collect()
}

fn setup(volume: &ProjectedVolume) -> Setup {
    let ours = ["dex_access_token_file", "dex_endpoint", "dex_file_subject_token"];
    let mut setup = Setup::new();
    for (name, value) in variables() {
        if !ours.contains(&name.as_str()) {
            setup = setup.set(&name, value);
        }
    }
    setup.subject(volume)
}

#[test]
fn the_original_s_manifest_gets_a_token_from_a_real_dex() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = setup(&volume).at(&dex).run();
    let token = sidecar.until_token();
    assert!(!token.ends_with('\n'), "the file holds the token without a newline");
    assert_eq!(claims(&token)["aud"], "user");
    sidecar.process.until_logged("token_written", 1);
    let warnings = select(&sidecar.process.output(), "setting_warning");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0]["warning"].to_string().contains("did you mean federated:id?"), "{warnings:?}");
    // The original exits with 2 here.
    assert_eq!(sidecar.terminate(), Some(0));
    assert_eq!(fs::read_to_string(sidecar.output()).unwrap(), token, "the file is kept after the exit");
}

#[test]
fn the_form_is_the_original_s_without_settings_of_dexsidecar() {
    let endpoint = FakeDex::start();
    // The original would send this newline. The kubelet writes none.
    let volume = ProjectedVolume::with("eyJh.eyJi.canary\n");
    let setup = setup(&volume).at_fake(&endpoint).set("dex_basic_auth", "user:");
    let setup = setup.set("dex_refresh_before", "1h").set("dex_refresh_interval", "1m").set("dex_Extra", "");
    let mut sidecar = setup.run();
    sidecar.until_token();
    let request = &endpoint.requests()[0];
    assert_eq!(request.header("authorization"), Some("Basic dXNlcjo="));
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    let mut sent: Vec<_> = form_urlencoded::parse(request.body.as_bytes()).into_owned().collect();
    sent.sort();
    let own = ["dex_access_token_file", "dex_endpoint", "dex_basic_auth", "dex_file_subject_token"];
    let mut expected: Vec<_> = variables()
        .into_iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.trim_start_matches("dex_").to_owned(), value))
        .chain([
            ("subject_token".to_owned(), "eyJh.eyJi.canary".to_owned()),
            ("Extra".to_owned(), String::new()),
        ])
        .collect();
    expected.sort();
    assert_eq!(sent, expected);
}
