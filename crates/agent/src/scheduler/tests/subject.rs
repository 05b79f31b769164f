//! A subject token that has expired or is refused, and its rotation.

use super::*;

/// The time of each attempt while Dex refuses a subject token with these claims, until it is
/// rotated after five minutes.
async fn attempts_when_refused_for_five_minutes(claims: &str) -> Vec<f64> {
    let directory = tempfile::tempdir().unwrap();
    let subject = directory.path().join("subject");
    std::fs::write(&subject, format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))).unwrap();
    let named = [("dex_file_subject_token", subject.to_str().unwrap()), ("dex_subject_token", "")];
    let replaced = Rc::new(RefCell::new(false));
    let seen = Rc::clone(&replaced);
    let script = move |_| match *seen.borrow() {
        false => Played::Answer(401, r#"{"error":"access_denied"}"#),
        true => Played::Token(3_600, "first"),
    };
    let mut world = World::new(&named, script, first_key);
    world
        .run(330.0, |when, verdict| {
            assert_eq!(
                verdict.is_some_and(TokenFileState::is_valid),
                when > 306.0,
                "{verdict:?} at {when} s"
            );
            if when >= 300.0 && !replaced.replace(true) {
                std::fs::write(&subject, "e30.e30.another").unwrap();
            }
        })
        .await;
    world.exchanges()
}

#[tokio::test(start_paused = true)]
async fn f065_an_expired_subject_token_is_sent_after_30_s_and_a_rotated_one_within_5_s() {
    let now = (EARLIEST_PLAUSIBLE_NOW + Duration::from_secs(9_000)).as_duration().as_secs();
    let claims = format!(r#"{{"iat":{},"exp":{}}}"#, now - 660, now - 60);
    let exchanges = attempts_when_refused_for_five_minutes(&claims).await;
    // This node's clock may be the wrong one.
    assert!((30.0..=40.0).contains(&exchanges[0]), "{exchanges:?}");
    assert_eq!(exchanges.iter().filter(|when| (300.0..=306.0).contains(*when)).count(), 1, "{exchanges:?}");
    assert!(exchanges.last().is_some_and(|last| *last <= 306.0), "{exchanges:?}");
}

#[tokio::test(start_paused = true)]
async fn f067_f070_a_refused_subject_token_is_retried_with_backoff_and_a_rotated_one_within_5_s() {
    let now = (EARLIEST_PLAUSIBLE_NOW + Duration::from_secs(9_000)).as_duration().as_secs();
    // Not valid yet after a step of the clock, and of a deleted ServiceAccount.
    for (begins, ends) in [(now + 3_600, now + 7_200), (now - 60, now + 3_600)] {
        let claims = format!(r#"{{"iat":{begins},"nbf":{begins},"exp":{ends}}}"#);
        let exchanges = attempts_when_refused_for_five_minutes(&claims).await;
        let refused = exchanges.iter().filter(|when| **when < 300.0).count();
        assert!((6..=20).contains(&refused), "{exchanges:?}");
        assert!(exchanges.last().is_some_and(|last| (300.0..=306.0).contains(last)), "{exchanges:?}");
        assert_eq!(exchanges.len(), refused + 1, "{exchanges:?}");
    }
}
