//! The real Dex changes under a running sidecar: its keys, its lifetimes, its certificate. Nothing is restarted but Dex.

use std::time::Instant;

use dexsidecar_e2e::dex::{Dex, Setup as DexSetup};
use dexsidecar_e2e::issuer::Issuer;
use dexsidecar_e2e::log_events::events;
use dexsidecar_e2e::process::{PATIENCE, Process};
use dexsidecar_e2e::sidecar::{Setup, report};
use dexsidecar_e2e::signing_key::{claims, header};
use dexsidecar_e2e::volume::Volume;
use rustix::process::Signal;

#[test]
fn f049_a_key_that_dex_rotates_is_no_event() {
    let issuer = Issuer::start();
    let dex = Dex::start(&issuer, &DexSetup { rotation: Some("5s".to_owned()), ..DexSetup::default() });
    let volume = Volume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).arguments("--key-check 1s").run();
    let first = sidecar.until_token();
    let keys = || dex.get("/dex/keys").unwrap().json()["keys"].as_array().unwrap().clone();
    let key_id = |token: &str| header(token)["kid"].clone();
    sidecar.process.until_within(PATIENCE * 2, "Dex has another key", |_| keys().len() == 2);
    // The sidecar has judged three answers with both keys once it has asked a fourth time.
    let before = dex.answered("/keys");
    sidecar.process.until("the key check has run", |_| dex.answered("/keys") >= before + 4);
    assert_eq!(sidecar.process.logged("signing_key_not_published"), 0, "{}", sidecar.process.timeline());
    assert_eq!((sidecar.process.logged("token_written"), sidecar.token()), (1, Some(first.clone())));
    sidecar.process.signal(Signal::HUP);
    let second = sidecar.until_another_token(&first);
    assert_ne!(key_id(&first), key_id(&second));
    for token in [first, second] {
        assert!(keys().iter().any(|key| key["kid"] == key_id(&token)), "{:?}", keys());
    }
}

#[test]
fn f050_a_day_s_token_is_healed_by_the_key_check_alone() {
    let issuer = Issuer::start();
    let mut dex = Dex::start(&issuer, &DexSetup::default());
    let volume = Volume::with(&issuer.token(3_600));
    let setup = Setup::new().subject(&volume).at(&dex).arguments("--key-check 2s");
    let mut sidecar = setup.run();
    let first = sidecar.until_token();
    dex.stop();
    dex.resume();
    sidecar.process.until_logged("signing_key_not_published", 1);
    // P13: within the period and a minute, over which a fleet is spread. A busy machine gets as much again.
    sidecar.process.until_within(PATIENCE * 2, "the key check heals the token by itself", |process| {
        process.logged("token_written") == 2
    });
    let second = sidecar.until_another_token(&first);
    let keys = dex.get("/dex/keys").unwrap().body;
    let published = |token: &str| keys.contains(header(token)["kid"].as_str().unwrap());
    assert_eq!((published(&first), published(&second)), (false, true));
}

/// For how long the last token that was written is good, and when the next is due: in seconds.
fn written(process: &Process) -> Option<(f64, f64)> {
    let written = events(&process.output(), "token_written").pop()?;
    written["expires_in"].as_f64().zip(written["refresh_in"].as_f64())
}

#[test]
fn f052_a_lifetime_that_is_cut_and_raised_is_followed() {
    let issuer = Issuer::start();
    let lasting = |lifetime: &str| DexSetup { lifetime: lifetime.to_owned(), ..DexSetup::default() };
    let mut dex = Dex::start(&issuer, &lasting("60s"));
    let volume = Volume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    sidecar.until_token();
    // When the next exchange is due by docs/how-it-works.md, less what a busy machine takes.
    for (lifetime, seconds, due) in
        [("60s", 60_u32, 20.0..=30.0), ("30s", 30, 8.0..=15.0), ("24h", 86_400, 48_900.0..=57_600.0)]
    {
        if lifetime != "60s" {
            dex.configure(&issuer, &lasting(lifetime));
            dex.stop();
            dex.resume();
            sidecar.process.signal(Signal::HUP);
        }
        sidecar.process.until("a token of the new length is told", |process| {
            let seconds = f64::from(seconds);
            written(process)
                .is_some_and(|(expires_in, _)| (seconds * 5.0 / 6.0..=seconds).contains(&expires_in))
        });
        let claims = claims(&sidecar.token().unwrap());
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), u64::from(seconds));
        let (_, next) = written(&sidecar.process).unwrap();
        assert!(due.contains(&next), "{lifetime}: {next} s\n{}", sidecar.process.timeline());
    }
}

/// Nobody tells the sidecar: it reads the CA anew for each exchange.
#[test]
fn f012_another_authority_and_its_certificate_need_no_restart() {
    let issuer = Issuer::start();
    let mut dex = Dex::start(&issuer, &DexSetup::default());
    let volume = Volume::with(&issuer.token(3_600));
    // By name, since Go's server goes on with its first certificate for those who name none.
    let by_name = dex.endpoint().replace("127.0.0.1", "localhost");
    let mut sidecar = Setup::new().subject(&volume).at(&dex).set("dex_endpoint", by_name).run();
    let first = sidecar.until_token();
    dex.renew_authority();
    let start = Instant::now();
    while report(sidecar.setup())["ok"] != true {
        assert!(start.elapsed() < PATIENCE, "Dex does not take up its certificate\n{}", dex.log());
    }
    sidecar.process.signal(Signal::HUP);
    sidecar.until_another_token(&first);
    assert_eq!(sidecar.process.logged("attempt_failed"), 0, "{}", sidecar.process.timeline());
}
