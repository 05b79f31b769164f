//! The key check, from outside: it asks and does nothing while the keys are there, exchanges when they are gone, and rests
//! where there are none. With a real Dex: tests/real_dex/dex_changes.rs.

use std::time::Duration;

use dexsidecar_e2e::endpoint::{Documents, Endpoint};
use dexsidecar_e2e::process::PATIENCE;
use dexsidecar_e2e::sidecar::{Setup, Sidecar};
use dexsidecar_e2e::volume::Volume;

const GONE: &str = "no longer publishes the signing key";
const UNPROVEN: &str = "does not publish the signing key of a new token either";
const RESTS: &str = "the key check rests";

fn looking_each_second(endpoint: &Endpoint, volume: &Volume) -> Sidecar {
    Setup::new().subject(volume).at_stand_in(endpoint).arguments("--key-check 1s").run()
}

fn until_looked(sidecar: &mut Sidecar, endpoint: &Endpoint, times: usize) {
    sidecar.process.until("the keys are looked at", |_| endpoint.keys_asked() >= times);
}

#[test]
fn while_the_key_is_published_nothing_is_exchanged() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let mut sidecar = looking_each_second(&endpoint, &volume);
    let token = sidecar.until_token();
    until_looked(&mut sidecar, &endpoint, 5);
    assert_eq!((endpoint.heard().len(), sidecar.token()), (1, Some(token)));
}

#[test]
fn a_key_that_is_gone_costs_one_exchange() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    let volume = Volume::with("eyJh.eyJi.canary");
    let mut sidecar = looking_each_second(&endpoint, &volume);
    let lost = sidecar.until_token();
    endpoint.lose_keys();
    sidecar.process.until_within(PATIENCE * 2, "the lost key is healed within a minute", |_| {
        endpoint.heard().len() == 2
    });
    assert_eq!(sidecar.process.said(GONE), 1, "{}", sidecar.process.timeline());
    let token = sidecar.until_another_token(&lost);
    let looked = endpoint.keys_asked();
    until_looked(&mut sidecar, &endpoint, looked + 3);
    assert_eq!((endpoint.heard().len(), sidecar.token()), (2, Some(token)), "and no more");
}

#[test]
fn f148_a_key_that_is_never_published_costs_one_exchange_and_one_line() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.publish(Documents::Stale);
    let volume = Volume::with("eyJh.eyJi.canary");
    let mut sidecar = looking_each_second(&endpoint, &volume);
    sidecar.until_token();
    sidecar.process.until_within(PATIENCE * 2, "the key of the second token is missing too", |process| {
        process.said(UNPROVEN) == 1
    });
    let token = sidecar.token();
    let looked = endpoint.keys_asked();
    until_looked(&mut sidecar, &endpoint, looked + 3);
    assert_eq!((endpoint.heard().len(), sidecar.token()), (2, token), "and no more");
    assert_eq!((sidecar.process.said(GONE), sidecar.process.said(UNPROVEN)), (1, 1));
}

#[test]
fn keys_that_cannot_be_had_just_now_change_nothing() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.publish(Documents::Unavailable);
    let volume = Volume::with("eyJh.eyJi.canary");
    let mut sidecar = looking_each_second(&endpoint, &volume);
    let token = sidecar.until_token();
    until_looked(&mut sidecar, &endpoint, 4);
    endpoint.publish(Documents::Published);
    let looked = endpoint.keys_asked();
    until_looked(&mut sidecar, &endpoint, looked + 3);
    assert_eq!((endpoint.heard().len(), sidecar.token()), (1, Some(token)));
    assert_eq!(sidecar.process.said(RESTS), 0, "{}", sidecar.process.timeline());
}

#[test]
fn where_there_are_no_keys_one_line_says_so_and_the_check_rests() {
    let endpoint = Endpoint::start("127.0.0.1:0", None);
    endpoint.publish(Documents::Nowhere);
    let volume = Volume::with("eyJh.eyJi.canary");
    let mut sidecar = looking_each_second(&endpoint, &volume);
    let token = sidecar.until_token();
    sidecar.process.until_said(RESTS, 1);
    let looked = endpoint.keys_asked();
    // Nothing is to happen, and only time can show that.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(endpoint.keys_asked(), looked, "{}", sidecar.process.timeline());
    assert_eq!((sidecar.process.said(RESTS), sidecar.token()), (1, Some(token)));
}

/// What is published beside the endpoint is looked for there, and nowhere that it may be said to be.
#[test]
fn f019_keys_are_not_looked_for_where_a_redirect_leads() {
    let (endpoint, canary) = (Endpoint::start("127.0.0.1:0", None), Endpoint::start("127.0.0.1:0", None));
    endpoint.publish(Documents::Elsewhere(canary.address().port()));
    let volume = Volume::with("eyJh.eyJi.canary");
    let setup = Setup::new().subject(&volume).at_stand_in(&endpoint).arguments("--key-check 1s");
    let mut sidecar = setup.run();
    sidecar.process.until_logged("key_check_suspended", 1);
    assert!(endpoint.keys_asked() >= 2 && canary.keys_asked() == 0 && canary.heard().is_empty());
}
