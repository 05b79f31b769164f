//! Outages of Dex and of the issuer: the token file stays, and is refreshed soon after they are
//! back.

use std::time::Duration;

use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::fake_api_server::{FakeApiServer, Mood};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::signing_key::{claims, now};
use rustix::process::Signal;

#[test]
fn f001_a_dex_that_is_down_at_startup_is_used_once_it_is_up() {
    let issuer = FakeApiServer::start();
    let mut dex = Dex::start(&issuer, &DexSetup::default());
    dex.stop();
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let setup = Setup::new().subject(&volume).at(&dex).set("DEXSIDECAR_LOG", "debug");
    let mut sidecar = setup.run();
    // By then the delay has reached its maximum.
    sidecar.process.until_logged("code=connect_refused", 6);
    assert_eq!(sidecar.setup().execute(&["ready"]).code, Some(1));
    dex.resume();
    let (within, output) = (Duration::from_secs(30), sidecar.output());
    sidecar.process.until_within(within, "a token is written soon after Dex is up", |_| output.exists());
    sidecar.process.until_logged("recovered", 1);
    assert_eq!(sidecar.setup().execute(&["ready"]).code, Some(0));
}

#[test]
fn f002_a_killed_dex_with_other_keys_is_used_once_it_is_up() {
    let issuer = FakeApiServer::start();
    let mut dex = Dex::start(&issuer, &DexSetup { lifetime: "20s".to_owned(), ..DexSetup::default() });
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    let first = sidecar.until_token();
    dex.stop();
    sidecar.process.until_logged("code=connect_refused", 1);
    assert_eq!(sidecar.token().as_ref(), Some(&first), "the valid token stays");
    assert_eq!(sidecar.process.logged("health=stale"), 1, "{}", sidecar.process.output());
    dex.resume();
    sidecar.until_another_token(&first);
    sidecar.process.until_logged("recovered", 1);
}

#[test]
fn f003_a_frozen_dex_is_used_once_it_responds() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    dex.signal(Signal::STOP);
    let mut sidecar = Setup::new().subject(&volume).at(&dex).arguments("--attempt-timeout 1s").run();
    sidecar.process.until_logged("code=timed_out", 1);
    dex.signal(Signal::CONT);
    sidecar.until_token();
}

#[test]
fn f003_a_frozen_dex_does_not_affect_a_valid_token() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup { lifetime: "20s".to_owned(), ..DexSetup::default() });
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let setup = Setup::new().subject(&volume).at(&dex).set("DEXSIDECAR_ATTEMPT_TIMEOUT", "1s");
    let mut sidecar = setup.run();
    let first = sidecar.until_token();
    sidecar.process.until_logged("token_written", 1);
    dex.signal(Signal::STOP);
    sidecar.process.until_logged("code=timed_out", 1);
    assert_eq!(sidecar.token().as_ref(), Some(&first), "the valid token stays");
    assert_eq!(sidecar.setup().execute(&["ready"]).code, Some(0), "stale is ready");
    dex.signal(Signal::CONT);
    sidecar.until_another_token(&first);
}

#[test]
fn f110_f113_an_expired_token_is_not_ready_and_is_replaced_after_the_outage() {
    let issuer = FakeApiServer::start();
    let mut dex = Dex::start(&issuer, &DexSetup { lifetime: "10s".to_owned(), ..DexSetup::default() });
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    let first = sidecar.until_token();
    sidecar.process.until_logged("token_written", 1);
    dex.stop();
    sidecar.process.until_logged("health=expired", 1);
    // Dex truncates `expires_in` to whole seconds, so the sidecar counts up to a second less than
    // `exp`.
    let expires = claims(&first)["exp"].as_u64().unwrap();
    sidecar.process.until("exp has passed", |_| now() >= expires);
    assert_eq!(sidecar.setup().execute(&["ready"]).code, Some(1));
    assert_eq!(sidecar.token().as_ref(), Some(&first), "the default of on-expiry is keep");
    dex.resume();
    let within = Duration::from_secs(30);
    sidecar.process.until_within(within, "a token is written soon after Dex is up", |process| {
        process.logged("token_written") == 2
    });
    assert_ne!(sidecar.token(), Some(first));
    assert_eq!(sidecar.setup().execute(&["ready"]).code, Some(0));
}

#[test]
fn an_expired_token_is_removed_with_on_expiry_remove() {
    let issuer = FakeApiServer::start();
    let mut dex = Dex::start(&issuer, &DexSetup { lifetime: "5s".to_owned(), ..DexSetup::default() });
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).arguments("--on-expiry remove").run();
    sidecar.until_token();
    dex.stop();
    let output = sidecar.output();
    sidecar.process.until("the expired token is removed", |_| !output.exists());
    dex.resume();
    sidecar.until_token();
}

#[test]
fn f045_an_issuer_that_does_not_serve_its_keys_is_reported_and_used_later() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    issuer.serve_keys(Mood::Hanging);
    let mut hung = Setup::new().subject(&volume).at(&dex).arguments("--attempt-timeout 1s").run();
    hung.process.until_logged("code=timed_out", 1);
    // In Dex every exchange waits for the fetch that hangs.
    issuer.serve_keys(Mood::Failing);
    let mut denied = Setup::new().subject(&volume).at(&dex).run();
    denied.process.until_logged("code=access_denied", 1);
    issuer.serve_keys(Mood::Well);
    denied.until_token();
    hung.until_token();
}

#[test]
fn f046_an_issuer_that_denies_discovery_is_reported_and_used_later() {
    let issuer = FakeApiServer::start();
    issuer.serve_discovery(Mood::Refusing);
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    sidecar.process.until_logged("code=connector_unknown", 1);
    // What `kubectl create clusterrolebinding … system:service-account-issuer-discovery` does.
    issuer.serve_discovery(Mood::Well);
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}

#[test]
fn f045_an_unreachable_issuer_with_a_new_key_is_used_later() {
    let mut issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup { lifetime: "20s".to_owned(), ..DexSetup::default() });
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    let first = sidecar.until_token();
    issuer.stop();
    issuer.rotate_key();
    volume.replace_token(&issuer.token(3_600));
    sidecar.process.until_logged("code=access_denied", 1);
    assert_eq!(sidecar.token().as_ref(), Some(&first));
    issuer.resume();
    sidecar.until_another_token(&first);
    sidecar.process.until_logged("recovered", 1);
}

#[test]
fn f065_an_expired_subject_token_is_reported_and_its_successor_used() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(-60));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    sidecar.process.until_logged("code=subject_token_expired", 1);
    volume.replace_token(&issuer.token(3_600));
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}

#[test]
fn f056_a_missing_subject_token_is_reported_and_used_once_it_exists() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let setup = Setup::new().at(&dex);
    let path = setup.directory().join("subject");
    let mut sidecar = setup.set("dex_file_subject_token", path.to_str().unwrap()).run();
    sidecar.process.until_logged("code=subject_token_missing", 1);
    std::fs::write(&path, issuer.token(3_600)).unwrap();
    sidecar.until_token();
}

#[test]
fn f109_a_valid_token_is_adopted_at_startup() {
    let issuer = FakeApiServer::start();
    let mut dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let setup = Setup::new().subject(&volume).at(&dex);
    assert_eq!(setup.execute(&["once"]).code, Some(0));
    let token = std::fs::read_to_string(setup.output()).unwrap();
    dex.stop();
    let mut sidecar = setup.run();
    sidecar.process.until_logged("token_adopted", 1);
    assert_eq!(sidecar.token().as_ref(), Some(&token));
    // A failed exchange leaves it.
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("code=connect_refused", 1);
    assert_eq!(sidecar.token(), Some(token));
    assert!(sidecar.process.is_running());
}
