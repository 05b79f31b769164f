//! `issuerAlias`: Dex reaches the API server under another name than the issuer in its tokens.
//! Without the alias, `check` names it.

use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::fake_api_server::{FakeApiServer, ISSUER};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, failed_step, report};
use dexsidecar_e2e::signing_key::claims;

#[test]
fn with_the_alias_tokens_of_the_cluster_are_accepted() {
    let issuer = FakeApiServer::start();
    let subject = issuer.token(3_600);
    assert_eq!(claims(&subject)["iss"], ISSUER);
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&subject);
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    assert_eq!(claims(&sidecar.until_token())["name"], "system:serviceaccount:default:app");
}

#[test]
fn f046_run_goes_on_until_dex_has_the_alias() {
    let issuer = FakeApiServer::start();
    let mut dex = Dex::start(&issuer, &DexSetup { issuer_alias: false, ..DexSetup::default() });
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    sidecar.process.until_logged("code=connector_unknown", 1);
    dex.configure(&issuer, &DexSetup::default());
    dex.stop();
    dex.resume();
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}

#[test]
fn check_names_the_missing_alias() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup { issuer_alias: false, ..DexSetup::default() });
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let failed = failed_step(&report(&Setup::new().subject(&volume).at(&dex)));
    assert_eq!(failed["code"], "connector_unknown", "{failed:#}");
    assert!(format!("{}{}", failed["fix"], failed["notes"]).contains("issuerAlias"), "{failed:#}");
}

#[test]
fn an_issuer_named_by_its_address_needs_no_alias() {
    let issuer = FakeApiServer::named_by_address();
    let subject = issuer.token(3_600);
    assert_eq!(claims(&subject)["iss"], issuer.url());
    let dex = Dex::start(&issuer, &DexSetup { issuer_alias: false, ..DexSetup::default() });
    let volume = ProjectedVolume::with(&subject);
    let setup = Setup::new().subject(&volume).at(&dex);
    let done = setup.execute(&["once", "--timeout", "20s"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn check_names_the_issuer_of_the_token_beside_a_wrong_alias() {
    let issuer = FakeApiServer::named_by_address();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let failed = failed_step(&report(&Setup::new().subject(&volume).at(&dex)));
    assert_eq!(failed["code"], "access_denied", "{failed:#}");
    let notes = failed["notes"].to_string();
    assert!(notes.contains(&issuer.url()) && notes.contains("issuerAlias"), "{failed:#}");
}
