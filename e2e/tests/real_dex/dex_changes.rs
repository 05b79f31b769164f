//! Changes of a real Dex while the sidecar runs: signing keys, lifetimes, certificate. Only Dex is
//! restarted.

use std::time::Instant;

use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::fake_api_server::FakeApiServer;
use dexsidecar_e2e::log_events::select;
use dexsidecar_e2e::process::{PATIENCE, Process};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::{Setup, report};
use dexsidecar_e2e::signing_key::{claims, header};
use rustix::process::Signal;

#[test]
fn f049_a_key_rotation_of_dex_causes_no_exchange() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup { key_rotation: Some("5s".to_owned()), ..DexSetup::default() });
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).arguments("--key-check 1s").run();
    let first = sidecar.until_token();
    let keys = || dex.get("/dex/keys").unwrap().json()["keys"].as_array().unwrap().clone();
    let key_id = |token: &str| header(token)["kid"].clone();
    sidecar.process.until_within(PATIENCE * 2, "Dex has rotated its key", |_| keys().len() == 2);
    // At the fourth request of the key check, at least three responses with both keys have been
    // checked.
    let before = dex.requests_served("/keys");
    sidecar.process.until("the key check runs four times", |_| dex.requests_served("/keys") >= before + 4);
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
fn f050_the_key_check_replaces_a_24h_token_whose_key_dex_lost() {
    let issuer = FakeApiServer::start();
    let mut dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let setup = Setup::new().subject(&volume).at(&dex).arguments("--key-check 2s");
    let mut sidecar = setup.run();
    let first = sidecar.until_token();
    dex.stop();
    dex.resume();
    sidecar.process.until_logged("signing_key_not_published", 1);
    // P13: within the period and one minute, over which a fleet is spread. Twice that on a busy
    // machine.
    sidecar
        .process
        .until_within(PATIENCE * 2, "the token is replaced", |process| process.logged("token_written") == 2);
    let second = sidecar.until_another_token(&first);
    let keys = dex.get("/dex/keys").unwrap().body;
    let published = |token: &str| keys.contains(header(token)["kid"].as_str().unwrap());
    assert_eq!((published(&first), published(&second)), (false, true));
}

/// `expires_in` and `refresh_in` of the last token that was written, in seconds.
fn last_written(process: &Process) -> Option<(f64, f64)> {
    let written = select(&process.output(), "token_written").pop()?;
    written["expires_in"].as_f64().zip(written["refresh_in"].as_f64())
}

#[test]
fn f052_the_refresh_schedule_follows_a_changed_lifetime() {
    let issuer = FakeApiServer::start();
    let with_lifetime = |lifetime: &str| DexSetup { lifetime: lifetime.to_owned(), ..DexSetup::default() };
    let mut dex = Dex::start(&issuer, &with_lifetime("60s"));
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    sidecar.until_token();
    // The refresh by docs/how-it-works.md. The lower bounds allow for a busy machine.
    for (lifetime, seconds, due) in
        [("60s", 60_u32, 20.0..=30.0), ("30s", 30, 8.0..=15.0), ("24h", 86_400, 48_900.0..=57_600.0)]
    {
        if lifetime != "60s" {
            dex.configure(&issuer, &with_lifetime(lifetime));
            dex.stop();
            dex.resume();
            sidecar.process.signal(Signal::HUP);
        }
        sidecar.process.until("a token with this lifetime is written", |process| {
            let seconds = f64::from(seconds);
            last_written(process)
                .is_some_and(|(expires_in, _)| (seconds * 5.0 / 6.0..=seconds).contains(&expires_in))
        });
        let claims = claims(&sidecar.token().unwrap());
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), u64::from(seconds));
        let (_, next) = last_written(&sidecar.process).unwrap();
        assert!(due.contains(&next), "{lifetime}: {next} s\n{}", sidecar.process.timeline());
    }
}

/// The sidecar reads the CA file for each exchange.
#[test]
fn f012_another_ca_and_certificate_need_no_restart() {
    let issuer = FakeApiServer::start();
    let mut dex = Dex::start(&issuer, &DexSetup::default());
    let volume = ProjectedVolume::with(&issuer.token(3_600));
    // By name, since Go's TLS server keeps its first certificate for clients without SNI.
    let by_name = dex.endpoint().replace("127.0.0.1", "localhost");
    let mut sidecar = Setup::new().subject(&volume).at(&dex).set("dex_endpoint", by_name).run();
    let first = sidecar.until_token();
    dex.renew_authority();
    let start = Instant::now();
    while report(sidecar.setup())["ok"] != true {
        assert!(start.elapsed() < PATIENCE, "Dex does not use its new certificate\n{}", dex.log());
    }
    sidecar.process.signal(Signal::HUP);
    sidecar.until_another_token(&first);
    assert_eq!(sidecar.process.logged("attempt_failed"), 0, "{}", sidecar.process.timeline());
}
