//! Dex and the issuer come and go: the token on disk stays, and is fresh again soon after they are back.

use std::time::Duration;

use dexsidecar_e2e::dex::{Dex, Setup as DexSetup};
use dexsidecar_e2e::issuer::{Issuer, Mood};
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::signing_key::{claims, now};
use dexsidecar_e2e::volume::Volume;
use rustix::process::Signal;

#[test]
fn f001_dex_is_away_at_the_start() {
    let issuer = Issuer::start();
    let mut dex = Dex::start(&issuer, &DexSetup::default());
    dex.stop();
    let volume = Volume::with(&issuer.token(3_600));
    let setup = Setup::new().subject(&volume).at(&dex).set("DEXSIDECAR_LOG", "debug");
    let mut sidecar = setup.run();
    // By then the pauses have grown as long as they get.
    sidecar.process.until_logged("code=connect_refused", 6);
    assert_eq!(sidecar.setup().done(&["ready"]).code, Some(1));
    dex.resume();
    let (within, output) = (Duration::from_secs(30), sidecar.output());
    sidecar.process.until_within(within, "a token is written soon after Dex is there", |_| output.exists());
    sidecar.process.until_logged("recovered", 1);
    assert_eq!(sidecar.setup().done(&["ready"]).code, Some(0));
}

#[test]
fn f002_dex_is_killed_and_comes_back_with_other_keys() {
    let issuer = Issuer::start();
    let mut dex = Dex::start(&issuer, &DexSetup { lifetime: "20s".to_owned(), ..DexSetup::default() });
    let volume = Volume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    let first = sidecar.until_token();
    dex.stop();
    sidecar.process.until_logged("code=connect_refused", 1);
    assert_eq!(sidecar.token().as_ref(), Some(&first), "the good token stays");
    assert_eq!(sidecar.process.logged("health=stale"), 1, "{}", sidecar.process.output());
    dex.resume();
    sidecar.until_another_token(&first);
    sidecar.process.until_logged("recovered", 1);
}

#[test]
fn f003_dex_is_stopped_dead() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = Volume::with(&issuer.token(3_600));
    dex.signal(Signal::STOP);
    let mut sidecar = Setup::new().subject(&volume).at(&dex).arguments("--attempt-timeout 1s").run();
    sidecar.process.until_logged("code=timed_out", 1);
    dex.signal(Signal::CONT);
    sidecar.until_token();
}

#[test]
fn f003_dex_stops_dead_over_a_good_token_and_goes_on() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup { lifetime: "20s".to_owned(), ..DexSetup::default() });
    let volume = Volume::with(&issuer.token(3_600));
    let setup = Setup::new().subject(&volume).at(&dex).set("DEXSIDECAR_ATTEMPT_TIMEOUT", "1s");
    let mut sidecar = setup.run();
    let first = sidecar.until_token();
    sidecar.process.until_logged("token_written", 1);
    dex.signal(Signal::STOP);
    sidecar.process.until_logged("code=timed_out", 1);
    assert_eq!(sidecar.token().as_ref(), Some(&first), "the good token stays");
    assert_eq!(sidecar.setup().done(&["ready"]).code, Some(0), "stale is ready");
    dex.signal(Signal::CONT);
    sidecar.until_another_token(&first);
}

#[test]
fn f110_f113_dex_is_away_until_the_token_has_expired() {
    let issuer = Issuer::start();
    let mut dex = Dex::start(&issuer, &DexSetup { lifetime: "10s".to_owned(), ..DexSetup::default() });
    let volume = Volume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    let first = sidecar.until_token();
    sidecar.process.until_logged("token_written", 1);
    dex.stop();
    sidecar.process.until_logged("health=expired", 1);
    // Dex truncates `expires_in` to whole seconds, so for the sidecar the token expires up to a second before `exp`.
    let expires = claims(&first)["exp"].as_u64().unwrap();
    sidecar.process.until("the time of exp has come", |_| now() >= expires);
    assert_eq!(sidecar.setup().done(&["ready"]).code, Some(1));
    assert_eq!(sidecar.token().as_ref(), Some(&first), "kept, unless asked otherwise");
    dex.resume();
    let within = Duration::from_secs(30);
    sidecar.process.until_within(within, "a token is written soon after Dex is back", |process| {
        process.logged("token_written") == 2
    });
    assert_ne!(sidecar.token(), Some(first));
    assert_eq!(sidecar.setup().done(&["ready"]).code, Some(0));
}

#[test]
fn an_expired_token_is_removed_where_that_is_asked_for() {
    let issuer = Issuer::start();
    let mut dex = Dex::start(&issuer, &DexSetup { lifetime: "5s".to_owned(), ..DexSetup::default() });
    let volume = Volume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).arguments("--on-expiry remove").run();
    sidecar.until_token();
    dex.stop();
    let output = sidecar.output();
    sidecar.process.until("the expired token is removed", |_| !output.exists());
    dex.resume();
    sidecar.until_token();
}

#[test]
fn f045_the_issuer_s_keys_hang_or_are_refused() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = Volume::with(&issuer.token(3_600));
    issuer.serve_keys(Mood::Hanging);
    let mut hung = Setup::new().subject(&volume).at(&dex).arguments("--attempt-timeout 1s").run();
    hung.process.until_logged("code=timed_out", 1);
    // Dex lets everybody wait for the one fetch that hangs.
    issuer.serve_keys(Mood::Failing);
    let mut denied = Setup::new().subject(&volume).at(&dex).run();
    denied.process.until_logged("code=access_denied", 1);
    issuer.serve_keys(Mood::Well);
    denied.until_token();
    hung.until_token();
}

#[test]
fn f046_discovery_is_shown_to_nobody_until_it_is() {
    let issuer = Issuer::start();
    issuer.serve_discovery(Mood::Refusing);
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = Volume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    sidecar.process.until_logged("code=connector_unknown", 1);
    // What `kubectl create clusterrolebinding … system:service-account-issuer-discovery` does.
    issuer.serve_discovery(Mood::Well);
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}

#[test]
fn f045_the_issuer_is_away_and_its_key_changed() {
    let mut issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup { lifetime: "20s".to_owned(), ..DexSetup::default() });
    let volume = Volume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    let first = sidecar.until_token();
    issuer.stop();
    issuer.rotate_key();
    volume.put(&issuer.token(3_600));
    sidecar.process.until_logged("code=access_denied", 1);
    assert_eq!(sidecar.token().as_ref(), Some(&first));
    issuer.resume();
    sidecar.until_another_token(&first);
    sidecar.process.until_logged("recovered", 1);
}

#[test]
fn f065_an_expired_subject_token_is_waited_for_and_its_successor_taken_at_once() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let volume = Volume::with(&issuer.token(-60));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    sidecar.process.until_logged("code=subject_token_expired", 1);
    volume.put(&issuer.token(3_600));
    sidecar.until_token();
    sidecar.process.until_logged("recovered", 1);
}

#[test]
fn f056_the_subject_token_comes_late() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup::default());
    let setup = Setup::new().at(&dex);
    let path = setup.folder().join("subject");
    let mut sidecar = setup.set("dex_file_subject_token", path.to_str().unwrap()).run();
    sidecar.process.until_logged("code=subject_token_missing", 1);
    std::fs::write(&path, issuer.token(3_600)).unwrap();
    sidecar.until_token();
}

#[test]
fn f109_a_token_from_before_a_restart_is_adopted() {
    let issuer = Issuer::start();
    let mut dex = Dex::start(&issuer, &DexSetup::default());
    let volume = Volume::with(&issuer.token(3_600));
    let setup = Setup::new().subject(&volume).at(&dex);
    assert_eq!(setup.done(&["once"]).code, Some(0));
    let token = std::fs::read_to_string(setup.output()).unwrap();
    dex.stop();
    let mut sidecar = setup.run();
    sidecar.process.until_logged("token_adopted", 1);
    assert_eq!(sidecar.token().as_ref(), Some(&token));
    // An exchange that fails takes nothing away from it.
    sidecar.process.signal(Signal::HUP);
    sidecar.process.until_logged("code=connect_refused", 1);
    assert_eq!(sidecar.token(), Some(token));
    assert!(sidecar.process.runs());
}
