//! A minute with 20 s tokens of a real Dex: readers never see an expired or partial token.

use std::collections::HashMap;
use std::sync::RwLock;
use std::time::{Duration, Instant};

use dexsidecar_e2e::dex::{Dex, DexSetup};
use dexsidecar_e2e::fake_api_server::FakeApiServer;
use dexsidecar_e2e::file_readers::{Judgement, Readers, Seen};
use dexsidecar_e2e::projected_volume::ProjectedVolume;
use dexsidecar_e2e::sidecar::Setup;
use dexsidecar_e2e::signing_key::{claims, is_signed, now};
use serde_json::Value;

/// Judges texts by Dex's keys: only what Dex signed is a token. Each text is verified once.
fn judge(keys: Value) -> impl Fn(&str) -> Judgement + Send + Sync + 'static {
    let expiries = RwLock::new(HashMap::<String, u64>::new());
    move |text| {
        let known = expiries.read().expect("no reader panics").get(text).copied();
        let expires = known.unwrap_or_else(|| {
            // 0 if Dex did not sign it.
            let expires =
                if is_signed(text, &keys) { claims(text)["exp"].as_u64().unwrap_or_default() } else { 0 };
            expiries.write().expect("no reader panics").insert(text.to_owned(), expires);
            expires
        });
        match expires {
            0 => Judgement::Malformed,
            expires if expires < now() => Judgement::Expired,
            _ => Judgement::Valid,
        }
    }
}

#[test]
fn f089_eight_readers_see_valid_tokens_only() {
    let issuer = FakeApiServer::start();
    let dex = Dex::start(&issuer, &DexSetup { lifetime: "20s".to_owned(), ..DexSetup::default() });
    let volume = ProjectedVolume::with(&issuer.token(600));
    let mut sidecar = Setup::new().subject(&volume).at(&dex).run();
    let first = sidecar.until_token();
    let keys = dex.get("/dex/keys").expect("Dex answers").json();
    let forged = first.replacen("eyJ", "eyK", 1);
    let judge = judge(keys);
    assert_eq!(
        (judge(&first), judge(&forged)),
        (Judgement::Valid, Judgement::Malformed),
        "a forged token is noticed"
    );
    let readers = Readers::start(8, &sidecar.output(), judge);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        // The subject token is replaced meanwhile.
        volume.replace_token(&issuer.token(600));
        std::thread::sleep(Duration::from_secs(2));
        assert!(sidecar.process.is_running(), "{}", sidecar.process.output());
    }
    let seen = readers.seen();
    drop(readers);
    assert_eq!(Seen { reads: 0, ..seen }, Seen::default());
    assert!(seen.reads > 10_000);
    let written = sidecar.process.logged("token_written");
    // Each token is refreshed after 8.5 to 10 s.
    assert!((6..=9).contains(&written), "{written} exchanges\n{}", sidecar.process.output());
}
