//! Dex reaches the API server by another name than the tokens bear: `issuerAlias` joins the two, and without it `check`
//! says what is missing.

use dexsidecar_e2e::dex::{Dex, Setup as DexSetup};
use dexsidecar_e2e::issuer::{ISSUER, Issuer};
use dexsidecar_e2e::sidecar::{Setup, failed_step, report};
use dexsidecar_e2e::signing_key::claims;
use dexsidecar_e2e::volume::Volume;

#[test]
fn with_the_alias_the_cluster_s_name_is_good() {
    let issuer = Issuer::start();
    let subject = issuer.token(3_600);
    assert_eq!(claims(&subject)["iss"], ISSUER);
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = Volume::with(&subject);
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    assert_eq!(claims(&sidecar.until_token())["name"], "system:serviceaccount:default:app");
}

#[test]
fn f046_without_it_run_goes_on_until_dex_has_it() {
    let issuer = Issuer::start();
    let mut dex = Dex::start(&issuer, &DexSetup { alias: false, ..DexSetup::default() });
    let volume = Volume::with(&issuer.token(3_600));
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
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup { alias: false, ..DexSetup::default() });
    let volume = Volume::with(&issuer.token(3_600));
    let told = failed_step(&report(&Setup::new().subject(&volume).at(&dex)));
    assert_eq!(told["code"], "connector_unknown", "{told:#}");
    assert!(format!("{}{}", told["fix"], told["notes"]).contains("issuerAlias"), "{told:#}");
}

#[test]
fn an_issuer_that_bears_its_address_needs_none() {
    let issuer = Issuer::under_its_address();
    let subject = issuer.token(3_600);
    assert_eq!(claims(&subject)["iss"], issuer.url());
    let dex = Dex::start(&issuer, &DexSetup { alias: false, ..DexSetup::default() });
    let volume = Volume::with(&subject);
    let setup = Setup::new().subject(&volume).at(&dex);
    let done = setup.done(&["once", "--timeout", "20s"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn an_alias_that_the_tokens_do_not_bear_is_named_beside_what_they_bear() {
    let issuer = Issuer::under_its_address();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = Volume::with(&issuer.token(3_600));
    let told = failed_step(&report(&Setup::new().subject(&volume).at(&dex)));
    assert_eq!(told["code"], "access_denied", "{told:#}");
    let notes = told["notes"].to_string();
    assert!(notes.contains(&issuer.url()) && notes.contains("issuerAlias"), "{told:#}");
}
