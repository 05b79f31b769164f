//! Clients of every kind authenticate to a real Dex, however their secret is written.

use std::fs;

use dexsidecar_e2e::dex::{Dex, DexSetup, SECRET};
use dexsidecar_e2e::fake_api_server::FakeApiServer;
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::signing_key::claims;
use serde_json::json;

#[test]
fn public_and_confidential_clients_are_accepted() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let valid = || Setup::new().subject(&volume).at(&dex);
    let encoded: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();

    let with_file = valid();
    let file = with_file.directory().join("client");
    fs::write(&file, format!("private+app:{SECRET}\n")).unwrap();
    let with_file = with_file.unset("dex_basic_auth").set("dex_file_basic_auth", file.to_str().unwrap());

    let in_form = valid();
    let file = in_form.directory().join("secret");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let in_form = in_form
        .set("dex_basic_auth", "")
        .set("dex_client_id", "private+app")
        .set("dex_file_client_secret", file.to_str().unwrap());

    for (how, setup, client) in [
        ("a public client as id:", valid(), "user"),
        ("the id alone", valid().set("dex_basic_auth", "incus"), "incus"),
        ("a raw secret", valid().set("dex_basic_auth", format!("private+app:{SECRET}")), "private+app"),
        (
            "an encoded secret",
            valid().set("dex_basic_auth", format!("private%2Bapp:{encoded}")),
            "private+app",
        ),
        (
            "an encoded secret with a raw id",
            valid().set("dex_basic_auth", format!("private+app:{encoded}")),
            "private+app",
        ),
        ("from a file", with_file, "private+app"),
        ("in the form", in_form, "private+app"),
        (
            "a public client in the form",
            valid().unset("dex_basic_auth").set("dex_client_id", "incus"),
            "incus",
        ),
    ] {
        let done = setup.execute(&["once", "--timeout", "20s"]);
        assert_eq!(done.code, Some(0), "{how}\n{}", done.stderr);
        assert_eq!(claims(&fs::read_to_string(setup.output()).unwrap())["aud"], client, "{how}");
    }
}

#[test]
fn f047_f120_a_rotated_secret_is_read_from_its_file_without_a_restart() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let setup = Setup::new().subject(&volume).at(&dex).unset("dex_basic_auth");
    let file = setup.directory().join("client");
    fs::write(&file, "private+app:canary-old").unwrap();
    let mut sidecar = setup.set("dex_file_basic_auth", file.to_str().unwrap()).run();
    sidecar.process.until_logged("code=invalid_client", 1);
    fs::write(&file, format!("private+app:{SECRET}")).unwrap();
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}

#[test]
fn f047_a_client_is_accepted_once_it_exists() {
    let issuer = FakeApiServer::start();
    let mut dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).set("dex_basic_auth", "late:").run();
    sidecar.process.until_logged("code=invalid_client", 1);
    let late = json!({"id": "late", "name": "created late", "public": true});
    dex.configure(&issuer, &DexSetup { clients: vec![late], ..DexSetup::default() });
    dex.stop();
    dex.resume();
    assert_eq!(claims(&sidecar.until_token())["aud"], "late");
    sidecar.process.until_logged("recovered", 1);
}
