//! Key checks.

use super::*;

#[tokio::test(start_paused = true)]
async fn p13_a_lost_signing_key_is_replaced_within_the_period_and_a_minute() {
    let key = |when| if when < 5_000.0 { "first" } else { "second" };
    let mut world =
        World::new(&[("DEXSIDECAR_KEY_CHECK", "10m")], move |when| Played::Token(86_400, key(when)), key);
    world.run(12_000.0, |_, _| {}).await;
    let exchanges = world.exchanges();
    assert_eq!(exchanges.len(), 2, "{exchanges:?}");
    assert!((5_000.0..5_000.0 + 660.0).contains(&exchanges[1]), "{exchanges:?}");
    assert!((18..=26).contains(&world.seen.borrow().keys), "{}", world.seen.borrow().keys);
}

/// An ingress answers 404 while Dex is being replaced, which is when its keys are lost.
#[tokio::test(start_paused = true)]
async fn p13_keys_that_are_not_served_for_a_while_are_read_again() {
    let published = |when| match when {
        ..5_000.0 => "first",
        5_000.0..5_700.0 => NOT_SERVED,
        _ => "second",
    };
    let script = |when| Played::Token(86_400, if when < 5_000.0 { "first" } else { "second" });
    let mut world = World::new(&[("DEXSIDECAR_KEY_CHECK", "10m")], script, published);
    world.run(12_000.0, |_, _| {}).await;
    let exchanges = world.exchanges();
    assert_eq!(exchanges.len(), 2, "{exchanges:?}");
    assert!((5_700.0..5_700.0 + 660.0).contains(&exchanges[1]), "{exchanges:?}");
}

/// The published keys come from a cache, or from another replica than the tokens.
#[tokio::test(start_paused = true)]
async fn f148_a_signing_key_that_is_never_published_costs_one_exchange() {
    let mut world = World::new(
        &[("DEXSIDECAR_KEY_CHECK", "10m")],
        |_| Played::Token(7 * 86_400, "first"),
        |_| "of another replica",
    );
    world.run(0.8 * DAY, |_, verdict| assert!(verdict.is_some_and(TokenFileState::is_valid))).await;
    assert_eq!(world.exchanges().len(), 2, "{:?}", world.exchanges());
    let keys = world.seen.borrow().keys;
    assert!((20..=40).contains(&keys), "{keys} key checks back off to one an hour");
}

/// Two replicas with separate keys answer alternately.
#[tokio::test(start_paused = true)]
async fn f148_replicas_with_separate_keys_cause_no_loop() {
    let replica = |when: f64| if when % 1_400.0 < 700.0 { "first" } else { "second" };
    let mut world = World::new(
        &[("DEXSIDECAR_KEY_CHECK", "10m")],
        move |when| Played::Token(7 * 86_400, replica(when + 300.0)),
        replica,
    );
    world.run(0.8 * DAY, |_, verdict| assert!(verdict.is_some_and(TokenFileState::is_valid))).await;
    assert!(world.exchanges().len() <= 4, "{:?}", world.exchanges());
}

#[tokio::test(start_paused = true)]
async fn a_dex_that_publishes_no_keys_is_asked_once_for_each_token() {
    // The endpoint publishes no keys below this path.
    let mut world = World::new(
        &[("DEXSIDECAR_KEY_CHECK", "1m"), ("dex_endpoint", "https://dex.test/exchange")],
        |_| Played::Token(86_400, "first"),
        first_key,
    );
    world.run(12_000.0, |_, _| {}).await;
    assert_eq!(world.seen.borrow().keys, 0);
    assert_eq!(world.exchanges().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn f049_a_rotation_of_dex_keys_causes_no_exchange() {
    let key = |when: f64| if when < 3_000.0 { "first" } else { "second" };
    // Dex publishes the keys of all valid tokens: here, the key that signed the token on disk.
    let mut world = World::new(
        &[("DEXSIDECAR_KEY_CHECK", "10m")],
        move |when| Played::Token(3_600, key(when)),
        |when| if when < 3_400.0 { "first" } else { "second" },
    );
    world.run(20_000.0, |_, verdict| assert!(verdict.is_some_and(TokenFileState::is_valid))).await;
    assert!(world.exchanges().len() <= 14, "{:?}", world.exchanges());
}
