//! Unusual lifetimes: unknown, nearly zero, of a repeated token, shortened, or of a month.

use super::*;

#[tokio::test(start_paused = true)]
async fn f035_a_token_without_expiry_is_assumed_to_live_15_minutes() {
    let opaque = r#"{"access_token":"abc","token_type":"bearer"}"#;
    let mut world = World::new(&[], move |_| Played::Answer(200, opaque), first_key);
    world.run(460.0, |_, verdict| assert!(verdict.is_some_and(TokenFileState::is_valid))).await;
    // Half of fifteen minutes, with jitter of up to 15 % earlier; then the same token again, which
    // is no better.
    let exchanges = world.exchanges();
    assert!((380.0..=450.0).contains(&exchanges[1]) && exchanges.len() <= 10, "{exchanges:?}");
}

#[tokio::test(start_paused = true)]
async fn f039_tokens_about_to_expire_stay_within_the_rate_limit() {
    for length in [1, 2] {
        let mut world = World::new(&[], move |_| Played::Token(length, "first"), first_key);
        world.run(3_600.0, |_, _| {}).await;
        let exchanges = world.exchanges();
        assert!(exchanges.windows(21).all(|w| w[20] - w[0] >= 60.0), "{length} s");
        assert!((100..=905).contains(&exchanges.len()), "{length} s: {}", exchanges.len());
    }
}

#[tokio::test(start_paused = true)]
async fn f039_a_token_about_to_expire_never_replaces_a_better_one() {
    let script = |when| Played::Token(if when < 10.0 { 3_600 } else { 5 }, "first");
    let mut world = World::new(&[], script, first_key);
    world
        .run(3_500.0, |when, verdict| assert!(verdict.is_some_and(TokenFileState::is_valid), "at {when} s"))
        .await;
    let asked = world.exchanges().len();
    assert!(asked > 2, "it goes on asking for a better one");
    assert_eq!(world.refresher().failures() as usize, asked - 1, "each is a failure");
}

#[tokio::test(start_paused = true)]
async fn f040_the_same_token_again_is_a_failure_within_the_rate_limit() {
    let same = r#"{"access_token":"abc","token_type":"bearer","expires_in":600}"#;
    let mut world = World::new(&[], move |_| Played::Answer(200, same), first_key);
    world.run(1_000.0, |_, _| {}).await;
    let exchanges = world.exchanges();
    // The attempt at the expiry is the only one that does not wait for the delay of the one before.
    let waited = |pair: &[f64]| pair[1] - pair[0] >= 0.5 || (pair[1] - 600.0).abs() < 0.01;
    assert!(exchanges.windows(2).all(waited), "{exchanges:?}");
    assert!(exchanges.windows(21).all(|w| w[20] - w[0] >= 60.0), "{exchanges:?}");
    let early = exchanges.iter().filter(|when| **when < 600.0).count();
    assert!((3..=40).contains(&early), "{exchanges:?}");
    // A repeated token keeps its lifetime, whatever expires_in says.
    assert_eq!(world.refresher().health(world.clock.now()), Health::Expired);
    assert!(world.refresher().failures() > 0);
    assert_eq!(std::fs::read_to_string(world.directory.path().join("token")).unwrap(), "abc");
}

#[tokio::test(start_paused = true)]
async fn f052_a_shortened_lifetime_is_applied_from_the_next_token_on() {
    let script = |when| Played::Token(if when < 80_000.0 { 86_400 } else { 600 }, "first");
    let mut world = World::new(&[], script, first_key);
    world
        .run(3.0 * DAY, |when, verdict| assert!(verdict.is_some_and(TokenFileState::is_valid), "at {when} s"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn f053_a_token_of_a_month_is_refreshed_each_day() {
    let mut world = World::new(&[], |_| Played::Token(30 * 86_400, "first"), first_key);
    world.run(10.0 * DAY, |_, _| {}).await;
    let exchanges = world.exchanges();
    assert!(exchanges.windows(2).all(|pair| pair[1] - pair[0] <= DAY), "{exchanges:?}");
    assert!((10..=13).contains(&exchanges.len()), "{exchanges:?}");
}
