//! Files that an exchange reads: missing, partial, or corrected while attempts fail.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

const WRONG: &str = r#"{"error":"invalid_client","error_description":"Invalid client credentials."}"#;

/// What happens to the file of a valid subject token.
type Loss = (&'static str, fn(&Path));

#[tokio::test(start_paused = true)]
async fn f057_f058_the_last_known_subject_token_is_used_until_it_expires() {
    let root = rustix::process::geteuid().is_root();
    let losses: [Loss; 4] = [
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("partial", |path| fs::write(path, "a.b").unwrap()),
        ("forbidden", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o0)).unwrap()),
    ];
    // Root may read every file.
    for (what, lose) in losses.into_iter().filter(|(what, _)| !root || *what != "forbidden") {
        let directory = tempfile::tempdir().unwrap();
        let subject = directory.path().join("subject");
        let exp = (EARLIEST_PLAUSIBLE_NOW + Duration::from_secs(9_000 + 20_000)).as_duration().as_secs();
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{},"exp":{exp}}}"#, exp - 20_000));
        fs::write(&subject, format!("e30.{claims}.sig")).unwrap();
        let named = [
            ("dex_file_subject_token", subject.to_str().unwrap()),
            ("dex_subject_token", ""),
            ("dex_subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ];
        let mut world = World::new(&named, |_| Played::Token(3_600, "first"), first_key);
        let lost = Cell::new(false);
        world
            .run(40_000.0, |when, verdict| {
                if !lost.replace(true) {
                    lose(&subject);
                }
                // The last known subject token works until 20,000 s; the last issued token is valid
                // for half an hour to an hour more.
                let good = verdict.is_some_and(TokenFileState::is_valid);
                assert!(good || when > 21_700.0, "{what}: expired at {when} s");
                assert!(!good || when < 23_620.0, "{what}: good at {when} s, which nobody can have bought");
            })
            .await;
    }
}

/// Rewrites a file three times, half an hour apart, while every response is this refusal; after the
/// last one a token is issued.
async fn assert_attempt_when_file_changes(
    setting: &str,
    first: &str,
    changed: &str,
    refusal: fn() -> Played,
) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, first).unwrap();
    let mended = Rc::new(Cell::new(false));
    let seen = Rc::clone(&mended);
    let script = move |_| if seen.get() { Played::Token(3_600, "first") } else { refusal() };
    let mut world = World::new(&[(setting, file.to_str().unwrap())], script, first_key);
    let mut rewritten = vec![];
    world
        .run(7_000.0, |when, _| {
            if when >= 2_000.0 * f64::from(u32::try_from(rewritten.len()).unwrap() + 1) && !mended.get() {
                fs::write(&file, format!("{changed}{}", "\n".repeat(rewritten.len()))).unwrap();
                rewritten.push(when);
                mended.set(rewritten.len() == 3);
            }
        })
        .await;
    let exchanges = world.exchanges();
    for when in &rewritten {
        let next = exchanges.iter().find(|exchange| *exchange >= when);
        assert!(next.is_some_and(|next| next - when <= 10.0), "{setting}: {rewritten:?} {exchanges:?}");
    }
    assert_eq!((rewritten.len(), world.refresher().failures()), (3, 0), "{setting}");
}

#[tokio::test(start_paused = true)]
async fn f047_refused_client_credentials_are_sent_again_when_their_file_changes() {
    let refusal = || Played::Answer(401, WRONG);
    assert_attempt_when_file_changes("dex_file_basic_auth", "app:old", "app:better", refusal).await;
    assert_attempt_when_file_changes("dex_file_client_secret", "old", "better", refusal).await;
}

#[tokio::test(start_paused = true)]
async fn f012_a_refused_certificate_is_verified_again_when_the_ca_file_changes() {
    let refusal = || Played::Failed(Code::CertificateUntrusted);
    assert_attempt_when_file_changes("DEXSIDECAR_CA_FILE", "old", "better", refusal).await;
}

#[tokio::test(start_paused = true)]
async fn f048_a_wrong_configuration_costs_one_attempt_each_five_minutes_for_a_month() {
    let wrong = r#"{"error":"invalid_client","error_description":"Invalid client credentials."}"#;
    let mut world = World::new(&[], move |_| Played::Answer(401, wrong), first_key);
    let (logger, lines) = Logger::counting(world.clock);
    world.restart(logger);
    world.run(30.0 * DAY, |_, verdict| assert_eq!(verdict, None)).await;
    let exchanges = world.exchanges();
    let most = 30.0 * DAY / 150.0;
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let many = exchanges.len() as f64;
    assert!(many <= most && many >= most / 2.0, "{many} tries in a month");
    // Logged at once, then every ten to fifteen minutes.
    assert!((30 * 96..=30 * 144).contains(&lines.get()), "{} lines in a month", lines.get());
}

#[tokio::test(start_paused = true)]
async fn f160_while_an_attempt_hangs_an_expired_token_is_removed() {
    let script =
        |when| if when < 1.0 { Played::Token(100, "first") } else { Played::Late(300, 3_600, "first") };
    let mut world = World::new(&[("DEXSIDECAR_ON_EXPIRY", "remove")], script, first_key);
    world
        .run(400.0, |when, state| match when {
            ..100.0 | 352.0.. => assert!(state.is_some_and(TokenFileState::is_valid), "at {when} s"),
            101.0..342.0 => assert_eq!(state, None, "at {when} s"),
            _ => {}
        })
        .await;
    assert_eq!(world.exchanges().len(), 2, "one exchange, and one that hangs");
}

#[tokio::test(start_paused = true)]
async fn f160_while_an_attempt_hangs_a_modified_output_is_restored() {
    let script =
        |when| if when < 1.0 { Played::Token(3_600, "first") } else { Played::Late(3_000, 600, "first") };
    let mut world = World::new(&[], script, first_key);
    world.run(1_900.0, |_, _| {}).await;
    assert_eq!(world.exchanges().len(), 2, "the second one is in flight");
    let path = world.directory.path().join("token");
    let token = fs::read_to_string(&path).unwrap();
    fs::write(&path, "<html>").unwrap();
    world.run(40.0, |_, _| {}).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), token);
    assert_eq!(world.exchanges().len(), 2);
}
